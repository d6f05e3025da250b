//! The CA client against a real CA (Pebble) and against servers that misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
mod issue;
mod orders;
mod pebble;
mod renewal;
mod responder;
mod stub;
