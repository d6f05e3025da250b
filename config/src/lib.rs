//! openclaw-edge's configuration: one YAML (or JSON) file -> [`model::Candidate`] -> `merge` ->
//! what serves. No tokio, no rustls, no hyper; the only I/O is reading the named file and the
//! files that `${file:}` names.

pub mod error;
pub mod merge;
pub mod model;
pub mod value;
