//! One request: what it says ([`view`], [`admit`]), what is done with it ([`challenge`], [`decide`],
//! [`policy`], [`limit`], [`plan`]), what we answer ourselves ([`cause`], [`respond`]), what is written down ([`record`]).
//!
//! Everything here is pure and synchronous; the drivers of `downstream` and `exchange` do the I/O.

pub mod admit;
pub mod affinity;
pub mod cause;
pub mod challenge;
pub mod client;
pub mod decide;
pub mod grpc;
pub mod headers;
pub mod limit;
pub mod log_text;
pub mod plan;
pub mod policy;
pub mod record;
pub mod respond;
pub mod view;
