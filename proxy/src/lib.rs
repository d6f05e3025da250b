//! openclaw-edge: edge reverse proxy and TLS terminator. Modules in reading order.

pub mod admin;
pub mod buffers;
pub mod check;
pub mod cli;
pub mod clock;
pub mod control;
pub mod demo;
pub mod downstream;
pub mod exchange;
pub mod http1;
pub mod io;
pub mod limit;
pub mod local;
pub mod log;
pub mod meters;
pub mod metrics;
pub mod request;
pub mod route;
pub mod server;
pub mod siphash;
pub mod state;
pub mod timer;
pub mod upstream;
pub mod wall;
pub mod worker;
