//! The CA client against a real CA (Pebble) and against servers that misbehave.

mod faults;
mod issue;
mod pebble;
mod renewal;
mod responder;
mod stub;
