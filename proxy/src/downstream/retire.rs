//! Closes a listening socket without a reset.
//!
//! Its queue is emptied, yet the kernel may be completing a handshake on another CPU just then.
//! Where that connection reaches the queue of a socket that has been closed meanwhile it is reset,
//! `tcp_migrate_req` or not: 32 of 863,500 in 7,032 closings (Linux 6.18). So before that no
//! handshake begins, for as long as those that have begun need to end: they are served here, and
//! who comes in between asks again after a second, as TCP does.
//!
//! A SYN is dropped for its TTL, which is never 255 but where a neighbour is a router that sends so:
//! those few are as they would be without it. A socket filter would do the same, but there are
//! kernels on which it takes a capability (`CAP_NET_ADMIN`) that an edge does not have.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use super::min_ttl;

/// Where another process takes what is on its way: longer than the kernel is busy with one packet,
/// also where a hypervisor takes its CPU away. Handshakes of longer round trips are moved.
pub const IN_THE_KERNEL: Duration = Duration::from_millis(1);

/// Where nobody does: more than a round trip to most clients.
pub const HANDSHAKE: Duration = Duration::from_millis(200);

/// From now on no handshake begins: a client's SYN is dropped, and comes again after a second.
///
/// # Errors
/// Those of setsockopt(2), `IP_MINTTL`.
pub fn begin_no_more(socket: &impl AsFd) -> io::Result<()> {
    min_ttl::set(socket, u8::MAX)
}

/// A connection that was made behind that bar has inherited it, and would hear nothing more: what
/// has been dropped meanwhile its client sends again. Others have none.
pub fn unbar(stream: &impl AsFd) {
    let _ = min_ttl::set(stream, 0);
}

/// Gives `admit` what waits in the queue, and closes the socket. Asks the kernel rather than the
/// event loop.
pub fn retire(socket: TcpListener, mut admit: impl FnMut(TcpStream, SocketAddr)) {
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Instant;

    use super::*;

    fn listening(address: &str) -> TcpListener {
        let socket = TcpListener::bind(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// Of those that have come by now.
    fn accepted(socket: &TcpListener) -> Vec<TcpStream> {
        let mut all = Vec::new();
        retire(socket.try_clone().unwrap(), |stream, _| all.push(stream));
        all
    }

    /// It is who comes next that hears it, after the client's own second.
    #[test]
    fn who_asks_behind_the_bar_asks_again() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = listening(address);
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
    }

    /// Also one that was barred itself: a client hears of it only that an answer takes longer.
    #[test]
    fn what_was_complete_before_the_bar_is_served() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = listening(address);
            let mut client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
            begin_no_more(&socket).unwrap();
            let mut stream = accepted(&socket).pop().expect("the connection");
            begin_no_more(&stream).unwrap();
            client.write_all(b"late").unwrap();
            unbar(&stream);
            stream.set_nonblocking(false).unwrap();
            let mut read = [0; 4];
            stream.read_exact(&mut read).unwrap();
            assert_eq!(&read, b"late");
        }
    }

    #[test]
    fn retiring_gives_up_the_whole_queue_and_the_address() {
        let socket = listening("127.0.0.1:0");
        let address = socket.local_addr().unwrap();
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut peers = Vec::new();
        retire(socket, |_, peer| peers.push(peer));
        let expected: Vec<_> = clients.iter().map(|one| one.local_addr().unwrap()).collect();
        assert_eq!(peers, expected);
        assert_eq!(
            TcpStream::connect(address).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
}
