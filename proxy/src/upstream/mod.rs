//! The backend side: which endpoint, which connection.

pub mod accept_any;
pub mod balance;
pub mod budget;
pub mod condition;
pub mod connect;
pub mod dial;
pub mod drains;
pub mod endpoint;
pub mod h2;
pub mod io;
pub mod keep_alive;
pub mod passive;
pub mod place;
pub mod pool;
pub mod proxy_protocol;
pub mod queue;
pub mod socket;
pub mod tcp_info;
pub mod tls;
pub mod transport;

#[cfg(test)]
mod tests;
