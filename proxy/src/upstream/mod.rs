//! The backend side: which endpoint, which connection.

pub mod connect;
pub mod endpoint;
pub mod pool;
