//! Measurements of openclaw-edge: see README.md.
//!
//! The binaries are `load` (CPU per request against peers), `reload` (time of a 10,000-host reload)
//! and `soak` (what must hold over time); here is what they share.

pub mod edge;
pub mod generators;
pub mod http;
pub mod net;
pub mod random;
pub mod report;
pub mod server;
pub mod stats;

/// Everything here is a tool: an error is text for the person who runs it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

/// The host of every request, and the name in the certificate of every peer.
pub const HOST: &str = "app.openclaw.example";
