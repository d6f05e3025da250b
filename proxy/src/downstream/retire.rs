//! Closes a listening socket without a reset.
//!
//! Its queue is emptied, yet the kernel may be completing a handshake on another CPU just
//! then. Where that connection reaches the queue of a socket that has been closed meanwhile it is
//! reset, `tcp_migrate_req` or not: 32 of 863,500 in 7,032 closings (Linux 6.18).
//!
//! Beside another process, with `tcp_migrate_req`, the last packet of a handshake is kept out for
//! a moment before. The connection is not there yet then, and the client's next packet makes it: at
//! the next process. With nobody beside, the first packet is kept out, for as long as those that
//! have begun need to end: they are served here, and who comes later asks again after a second,
//! as TCP does, when a process that restarts may be back.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockFilter, SockRef};

/// Longer than the kernel is busy with one packet, also where a hypervisor takes its CPU away: 30 us
/// were not enough (a reset in one of six runs of deploy/tests/replace.sh). Clients whose handshake
/// falls into it wait for their own retransmission, mostly 200 ms, so it is no longer than that.
const IN_THE_KERNEL: Duration = Duration::from_millis(1);

/// More than a round trip to most clients: what has begun before is mostly complete after it.
pub const HANDSHAKE: Duration = Duration::from_millis(200);

/// What a listening socket is to take no longer.
#[derive(Clone, Copy)]
enum Bar {
    /// Handshakes begin, and none is completed.
    Ends,
    /// Handshakes are completed, and none begins.
    Beginnings,
}

/// From now on no handshake begins: a client's SYN is dropped, and comes again after a second.
///
/// # Errors
/// Those of setsockopt(2), `SO_ATTACH_FILTER`.
pub fn begin_no_more(socket: &impl AsFd) -> io::Result<()> {
    bar(socket, Bar::Beginnings)
}

/// Gives `admit` what waits in the queue, and closes the socket. `next`: another process takes
/// what is not in the queue yet.
pub fn retire(socket: TcpListener, next: bool, mut admit: impl FnMut(TcpStream, SocketAddr)) {
    if next && bar(&socket, Bar::Ends).is_ok() {
        // The worker's thread stands still for it, once in its life.
        std::thread::sleep(IN_THE_KERNEL);
    }
    empty(&socket, &mut admit);
}

/// Asks the kernel rather than the event loop.
fn empty(socket: &TcpListener, admit: &mut impl FnMut(TcpStream, SocketAddr)) {
    loop {
        match socket.accept() {
            Ok((stream, peer)) => {
                unbar(&stream);
                admit(stream, peer);
            }
            // One of them has gone; others may wait behind it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::warn!(%error, "connections that waited for an accept are lost");
                }
                return;
            }
        }
    }
}

/// A connection that was made behind a bar has inherited it; others have none.
pub fn unbar(stream: &impl AsFd) {
    let _ = SockRef::from(stream).detach_filter();
}

fn bar(socket: &impl AsFd, what: Bar) -> io::Result<()> {
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    const ALL: u32 = u32::MAX;
    const NOTHING: u32 = 0;
    let (of_a_syn, of_others) = match what {
        Bar::Ends => (ALL, NOTHING),
        Bar::Beginnings => (NOTHING, ALL),
    };
    // Classic BPF over the TCP header (linux/filter.h): A = byte; A &= k; A == k; return.
    let program = [
        SockFilter::new(0x30, 0, 0, FLAGS_AT),
        SockFilter::new(0x54, 0, 0, SYN | ACK),
        SockFilter::new(0x15, 0, 1, SYN),
        SockFilter::new(0x06, 0, 0, of_a_syn),
        SockFilter::new(0x06, 0, 0, of_others),
    ];
    SockRef::from(socket).attach_filter(&program)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::time::Instant;

    use super::*;

    fn listening() -> TcpListener {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn accepted(socket: &TcpListener) -> Vec<TcpStream> {
        let mut all = Vec::new();
        empty(socket, &mut |stream, _| all.push(stream));
        all
    }

    /// What the next connection says until its client ends, who may have to send again first.
    fn soon_said(socket: &TcpListener) -> Vec<u8> {
        let limit = Instant::now() + Duration::from_secs(10);
        let mut come = Vec::new();
        while come.is_empty() && Instant::now() < limit {
            come = accepted(socket);
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut said = Vec::new();
        come.pop().expect("the connection").read_to_end(&mut said).unwrap();
        said
    }

    #[test]
    fn a_handshake_that_ends_behind_the_bar_is_completed_by_the_next_packet() {
        let socket = listening();
        bar(&socket, Bar::Ends).unwrap();
        // The kernel answers a SYN: for the client the connection is there.
        let mut client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        client.write_all(b"barred").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(accepted(&socket).is_empty());
        SockRef::from(&socket).detach_filter().unwrap();
        // It comes with the retransmission.
        assert_eq!(soon_said(&socket), b"barred");
    }

    /// Until the socket closes, a connection is completed or barred, and never both.
    #[test]
    fn nobody_comes_while_the_next_process_takes_over() {
        let socket = listening();
        let address = socket.local_addr().unwrap();
        let beside = socket.try_clone().unwrap();
        let mut come = 0;
        retire(socket, true, |_, _| come += 1);
        let _client = TcpStream::connect(address).unwrap();
        assert!(accepted(&beside).is_empty());
        assert_eq!(come, 0);
    }

    #[test]
    fn what_was_complete_before_the_bar_is_served() {
        let socket = listening();
        let mut client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        bar(&socket, Bar::Ends).unwrap();
        let mut come = accepted(&socket);
        client.write_all(b"late").unwrap();
        let mut read = [0; 4];
        come.pop().expect("the connection").read_exact(&mut read).unwrap();
        assert_eq!(&read, b"late");
    }

    /// It is who comes next that hears it, after the client's own second.
    #[test]
    fn who_asks_behind_the_bar_asks_again() {
        let socket = listening();
        let address = socket.local_addr().unwrap();
        begin_no_more(&socket).unwrap();
        let client = std::thread::spawn(move || TcpStream::connect(address));
        let limit = Instant::now() + Duration::from_millis(100);
        while Instant::now() < limit {
            assert!(accepted(&socket).is_empty());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!client.is_finished());
        unbar(&socket);
        client.join().unwrap().unwrap();
        assert_eq!(accepted(&socket).len(), 1);
    }

    #[test]
    fn what_has_begun_is_completed_where_nothing_begins() {
        let socket = listening();
        bar(&socket, Bar::Ends).unwrap();
        let mut client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        client.write_all(b"begun").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        begin_no_more(&socket).unwrap();
        assert_eq!(soon_said(&socket), b"begun");
    }

    #[test]
    fn retiring_gives_up_the_whole_queue_and_the_address() {
        for next in [false, true] {
            gives_up_all(next);
        }
    }

    fn gives_up_all(next: bool) {
        let socket = listening();
        let address = socket.local_addr().unwrap();
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut peers = Vec::new();
        retire(socket, next, |_, peer| peers.push(peer));
        let expected: Vec<_> = clients.iter().map(|one| one.local_addr().unwrap()).collect();
        assert_eq!(peers, expected);
        assert_eq!(
            TcpStream::connect(address).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
}
