//! The client side: sockets and TLS to requests.

pub mod address_table;
pub mod begin;
pub mod cert_table;
pub mod connection;
pub mod h1;
pub mod h1_begin;
pub mod h2;
pub mod h2_begin;
pub mod h2_frames;
pub mod h2_gate;
pub mod h2_io;
pub mod h2_streams;
pub mod listener;
mod min_ttl;
pub mod proxy_protocol;
pub mod retire;
pub mod tls;
