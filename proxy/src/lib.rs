//! openclaw-edge: edge reverse proxy and TLS terminator. Modules in reading order.

pub mod clock;
pub mod demo;
pub mod downstream;
pub mod log;
pub mod metrics;
pub mod route;
pub mod state;
pub mod upstream;
