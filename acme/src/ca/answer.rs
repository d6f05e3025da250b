//! What an answer of a CA says, read without a connection: the parsers as fuzz targets see them.

use ::http::response::Parts;
use bytes::Bytes;

use super::ari::{self, RenewalInfo};
use super::directory::{self, Directory};
use super::failure::{Failure, Step};
use super::http;

/// A directory document.
///
/// # Errors
/// A sentence.
pub fn directory(body: &[u8]) -> Result<Directory, String> {
    directory::read(body).map(|read| read.directory)
}

/// The failure that an answer stands for; `None`: it is none, or a nonce that was not taken.
/// Times are Unix seconds: ours, and the CA's.
pub fn failure(step: Step, parts: &Parts, body: &[u8], now: i64, ca_now: i64) -> Option<Failure> {
    let body = Bytes::copy_from_slice(body);
    let fault = http::fault(parts, &body, "ca.openclaw.example", now, ca_now)?;
    Some(Failure::from_fault(step, fault))
}

/// A renewal window (RFC 9773 §4.2).
///
/// # Errors
/// A sentence.
pub fn renewal_info(parts: &Parts, body: &[u8], now: i64) -> Result<RenewalInfo, String> {
    ari::window(parts, body, now)
}
