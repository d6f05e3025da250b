//! openclaw-edge: edge reverse proxy and TLS terminator. Modules in reading order.

pub mod admin;
pub mod clock;
pub mod control;
pub mod downstream;
pub mod log;
pub mod metrics;
pub mod route;
pub mod server;
pub mod state;
pub mod upstream;
