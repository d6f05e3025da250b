//! The backend side: which endpoint, which connection.

pub mod balance;
pub mod budget;
pub mod condition;
pub mod connect;
pub mod dial;
pub mod drains;
pub mod endpoint;
pub mod h2;
pub mod io;
pub mod passive;
pub mod pool;
pub mod proxy_protocol;
pub mod transport;
