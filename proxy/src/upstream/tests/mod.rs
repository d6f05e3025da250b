//! Connections to endpoints against real peers on loopback.

mod ca;
pub mod lab;
mod sockets;
mod tls;
