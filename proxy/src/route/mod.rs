//! Host and path to route. Pure: no async, no I/O, no clock.

pub mod compile;
pub mod edits;
pub mod explain;
pub mod find;
mod hosts;
pub mod removed;
pub mod reuse;
pub mod table;
