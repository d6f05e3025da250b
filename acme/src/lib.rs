//! Certificates of openclaw-edge: issuing, checking, keeping on disk.
//!
//! Knows neither the configuration nor the proxy. What is stored is always a whole: chain and key
//! of one certificate are one file, replaced atomically, so that a crash at any point leaves the
//! former pair or the new one, never a mixture.

pub mod certificate;
pub mod error;
pub mod internal;
pub mod name;
pub mod storage;

pub use certificate::Certificate;
pub use error::Error;
pub use internal::{InternalCa, Issued};
