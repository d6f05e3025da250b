//! How much of what was sent the other end has acknowledged: `tcpi_bytes_acked` of `TCP_INFO`.
//!
//! `unsafe` (design.md #18): rustix, nix and socket2 have no `TCP_INFO`, and
//! crate libc's `tcp_info` ends before the field.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `offsetof(struct tcp_info, tcpi_bytes_acked)` in linux/tcp.h: 8 bytes, 24 `u32`, 2 `u64`. The
/// structure is user-space ABI: it only ever grows at its end.
const AT: usize = 8 + 24 * 4 + 2 * 8;
const LEN: usize = AT + size_of::<u64>();

/// `TCP_CLOSE` of include/net/tcp_states.h: the first byte of the structure.
const CLOSED: u8 = 7;

/// What the kernel knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// It is over for both sides: the peer has reset it, or has acknowledged the end of both.
    pub over: bool,
    /// Bytes that the peer has acknowledged since the connection began.
    pub bytes_acked: u64,
}

/// Asks the kernel. Acknowledged bytes are those of RFC 4898 (tcpEStatsAppHCThruOctetsAcked), in some connections with one more for the SYN: only a
/// difference says something. Still readable after a reset.
///
/// A number that has risen proves that the peer's kernel has bytes. One that has not proves nothing
/// by itself: the peer may delay its acknowledgement, and a reset is processed without it.
///
/// Fails where the socket is not TCP, and on Linux before 4.1.
pub fn look(fd: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut info = [0u8; LEN];
    let mut filled = LEN as libc::socklen_t;
    // SAFETY: `fd` is open for the duration of the call, which is what its lifetime says. `info`
    // is valid for writes of `LEN` bytes and needs no alignment: the kernel copies bytes, at most
    // `filled` (= `LEN`) of them. `filled` is a valid, aligned `socklen_t`. The kernel keeps
    // neither pointer.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut filled,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if usize::try_from(filled).is_ok_and(|filled| filled < LEN) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut acked = [0; size_of::<u64>()];
    acked.copy_from_slice(&info[AT..]);
    Ok(TcpInfo { over: info[0] == CLOSED, bytes_acked: u64::from_ne_bytes(acked) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use rustix::net::sockopt::set_tcp_quickack;

    use super::*;

    /// A connected pair: the measured end, and its peer.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        for end in [&near, &far] {
            end.set_nodelay(true).unwrap();
            end.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        (near, far)
    }

    fn acked(io: &TcpStream) -> u64 {
        look(io.as_fd()).unwrap().bytes_acked
    }

    /// Waits until the peer's acknowledgements have come to `count`.
    fn wait(io: &TcpStream, count: u64) {
        let begun = Instant::now();
        while acked(io) < count {
            assert!(begun.elapsed() < Duration::from_secs(10), "{} of {count}", acked(io));
            std::thread::yield_now();
        }
        assert_eq!(acked(io), count);
    }

    /// `from` sends, `to` reads it all.
    fn pass(mut from: &TcpStream, mut to: &TcpStream, bytes: &[u8]) {
        from.write_all(bytes).unwrap();
        let mut read = vec![0; bytes.len()];
        to.read_exact(&mut read).unwrap();
        assert_eq!(read, bytes);
    }

    #[test]
    fn counts_what_the_peer_has_taken() {
        let (near, far) = pair();
        let base = acked(&near);
        assert!(base <= 1, "nothing but the SYN: {base}");
        let mut count = base;
        for n in [1, 10, 1000, 10_000] {
            pass(&near, &far, &vec![b'x'; n]);
            pass(&far, &near, &vec![b'y'; n]);
            count += n as u64;
            // What the peer sends does not count.
            wait(&near, count);
        }
    }

    #[test]
    fn what_no_peer_has_taken_is_not_counted() {
        let (near, far) = pair();
        let base = acked(&near);
        near.set_nonblocking(true).unwrap();
        // More than its buffers hold, and it reads nothing.
        let (mut sent, chunk) = (0u64, [0; 64 * 1024]);
        while let Ok(n) = (&near).write(&chunk) {
            sent += n as u64;
        }
        assert!(acked(&near) - base < sent, "{sent}");
        let drain = std::thread::spawn(move || {
            let mut far = far;
            std::io::copy(&mut far, &mut std::io::sink()).unwrap()
        });
        wait(&near, base + sent);
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(drain.join().unwrap(), sent);
    }

    #[test]
    fn a_closed_peer_leaves_the_number_readable() {
        let (near, far) = pair();
        let base = acked(&near);
        pass(&near, &far, b"request");
        wait(&near, base + 7);
        drop(far);
        assert_eq!((&near).read(&mut [0]).unwrap(), 0);
        // Its FIN was here before our bytes: they were in vain, and nothing acknowledges them.
        let _ = (&near).write(b"late");
        let begun = Instant::now();
        while near.take_error().unwrap().is_none() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        assert_eq!(acked(&near), base + 7);
    }

    /// Why the number alone allows no replay: the peer reads a request whole, may act on it, and
    /// aborts before its kernel has acknowledged. The RST acknowledges nothing.
    #[test]
    fn a_delayed_ack_is_lost_with_a_rst() {
        let mut measured = Vec::new();
        // Its delay (40 ms at least) may pass first on a machine that is busy.
        for _ in 0..50 {
            let (near, far) = pair();
            // A warm connection: the peer has answered, so it waits with its acknowledgement.
            pass(&near, &far, b"first");
            pass(&far, &near, b"answer");
            let base = acked(&near);
            set_tcp_quickack(&far, false).unwrap();
            pass(&near, &far, b"POST: executed");
            socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
            drop(far);
            let error = (&near).read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            measured.push(acked(&near) - base);
            if measured.ends_with(&[0]) {
                return;
            }
        }
        panic!("always acknowledged: {measured:?}");
    }

    #[test]
    fn other_sockets_have_no_such_number() {
        let (near, _far) = UnixStream::pair().unwrap();
        assert!(look(near.as_fd()).is_err());
    }
}
