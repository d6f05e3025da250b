//! Ports and descriptors: free ones, released ones, enough of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `N` different ports of 127.0.0.1 that nobody listens on. All are held until the last is found.
pub fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Waits up to `limit` until nobody listens on `port`. A worker left alive would share the port of
/// the next peer by SO_REUSEPORT and falsify its measurement.
pub fn wait_free(port: u16, limit: Duration) -> crate::Result<()> {
    let start = Instant::now();
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(()),
            Err(e) if start.elapsed() > limit => {
                return Err(format!("port {port} is still held after the stop: {e}").into());
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Raises the soft limit of open files to the hard one, for this process and the peers it starts.
pub fn raise_open_files() -> crate::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_port_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(wait_free(port, Duration::ZERO).is_err());
        drop(listener);
        wait_free(port, Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn free_ports_differ() {
        let [a, b, c] = free_ports().unwrap();
        assert!(a != b && b != c && a != c && a != 0);
    }
}
