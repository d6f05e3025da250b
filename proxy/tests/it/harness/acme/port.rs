//! Ports that are known before anybody listens on them, so that an edge can come back on the same
//! one and a CA can be told of it first.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A free loopback port. It is held by a socket that is bound and never listens: whoever sets
/// `SO_REUSEADDR` (the edge, Go's and tokio's listeners) may listen on it, and the kernel gives it
/// to nobody who asks for port 0 or connects out.
pub struct Port {
    _holder: Socket,
    pub addr: SocketAddr,
}

impl Port {
    pub fn reserve() -> Port {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let holder = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        holder.set_reuse_address(true).unwrap();
        holder.bind(&any.into()).unwrap();
        let addr = holder.local_addr().unwrap().as_socket().unwrap();
        Port { _holder: holder, addr }
    }

    /// As [`Port::reserve`], free for UDP too at this moment.
    pub fn reserve_with_udp() -> Port {
        loop {
            let port = Port::reserve();
            if std::net::UdpSocket::bind(port.addr).is_ok() {
                return port;
            }
        }
    }

    pub fn number(&self) -> u16 {
        self.addr.port()
    }

    /// For `Conf::bind`.
    pub fn bind(&self) -> String {
        self.addr.to_string()
    }
}
