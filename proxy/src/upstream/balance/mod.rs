//! Which endpoint is next: pure, given the conditions of all. No clock, no socket: time and
//! randomness are parameters.
//!
//! A [`Table`] is built with every set of endpoints; a [`Pick`] asks it for one request.

pub mod latency;
mod maglev;
pub mod pick;
pub mod rng;
mod schedule;
mod siphash;
pub mod sticky;
pub mod table;
mod two;

#[cfg(test)]
pub mod tests;

pub use latency::Latency;
pub use pick::{Pick, Picked};
pub use rng::Rng;
pub use siphash::key;
pub use sticky::sticky_id;
pub use table::{Policy, Table};
