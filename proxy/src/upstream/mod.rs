//! The backend side: which endpoint, which connection.

pub mod accept_any;
pub mod balance;
pub mod budget;
pub mod condition;
pub mod connect;
pub mod dial;
pub mod endpoint;
pub mod h2;
pub mod io;
pub mod passive;
pub mod pool;
pub mod proxy_protocol;
pub mod socket;
pub mod tls;
pub mod transport;
