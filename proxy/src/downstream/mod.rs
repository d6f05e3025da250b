//! The client side: sockets and TLS to requests.

pub mod address_table;
pub mod cert_table;
pub mod connection;
pub mod h1;
pub mod h1_begin;
pub mod listener;
pub mod tls;
