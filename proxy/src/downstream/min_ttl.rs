//! The least TTL (IPv6: hop limit) that a packet must have to reach a socket: `IP_MINTTL` of ip(7)
//! and `IPV6_MINHOPCOUNT`, made for RFC 5082. Any process may set it.
//!
//! `unsafe` (design.md #18): rustix, nix and socket2 have neither option.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libc::c_int;

/// Sets it: 0 lets everything in, 255 what comes from a neighbour that sends with 255.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set(socket: &impl AsFd, hops: u8) -> io::Result<()> {
    // An IPv6 socket may serve IPv4 too, and an IPv4 socket has no IPv6 option.
    let ipv4 = option(socket, libc::IPPROTO_IP, libc::IP_MINTTL, hops);
    let ipv6 = option(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, hops);
    ipv4.or(ipv6)
}

fn option(socket: &impl AsFd, level: c_int, name: c_int, hops: u8) -> io::Result<()> {
    let value = c_int::from(hops);
    // SAFETY: the descriptor is open for the duration of the call, since it is borrowed. `value` is
    // a valid `c_int`, of which the kernel reads as many bytes as it is told here, and it keeps no
    // pointer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn is_set_on_sockets_of_both_families_and_on_no_others() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = TcpListener::bind(address).unwrap();
            for hops in [255, 0] {
                set(&socket, hops).unwrap();
            }
        }
        let (near, _far) = UnixStream::pair().unwrap();
        set(&near, 255).unwrap_err();
    }
}
