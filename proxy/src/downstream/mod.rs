//! The client side: sockets and TLS to requests.
pub mod address_table;
pub mod cert_table;
