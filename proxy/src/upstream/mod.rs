//! The backend side: which endpoint, which connection.
pub mod endpoint;
