//! Certificates of openclaw-edge: issuing, checking, keeping on disk.
//!
//! Knows neither the configuration nor the proxy. What is stored is always a whole: chain and key
//! of one certificate are one file, replaced atomically, so that a crash at any point leaves the
//! former pair or the new one, never a mixture.

pub mod ca;
pub mod certificate;
pub mod challenge;
pub mod doctor;
pub mod error;
pub mod import;
pub mod internal;
pub mod keeper;
pub mod ledger;
pub mod name;
pub mod placeholder;
pub mod schedule;
pub mod storage;
pub mod store;

pub use certificate::Certificate;
pub use error::Error;
pub use internal::{InternalCa, Issued};
