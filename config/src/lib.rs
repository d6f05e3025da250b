//! openclaw-edge's configuration: one YAML (or JSON) file -> [`model::Candidate`] ->
//! [`merge()`] -> what serves. No tokio, no rustls, no hyper; the only I/O is reading the files
//! that `${file:}` names.

mod decode;
pub mod defaults;
pub mod diff;
mod environment;
pub mod error;
mod interpolate;
pub mod last_good;
pub mod merge;
pub mod model;
mod node;
mod report;
mod suggest;
mod tenants;
pub mod value;

pub use environment::{
    Environment, MAX_FILE_BYTES, NoEnvironment, SystemEnvironment, open_regular,
};
pub use error::{Diagnostic, Errors, Level};
pub use merge::{Accepted, merge};
pub use model::Candidate;
pub use node::{MAX_BYTES, MAX_DEPTH};

/// Reads a config file. Errors in entries (certificates, upstreams, routes) make those entries
/// [`model::Entry::Bad`] and nothing else.
///
/// `file_name` is not opened; it only says in a report's place what was read.
///
/// # Errors
/// When the text is no YAML, or anything outside the entries is wrong: then with every error of
/// the file, those of entries included.
pub fn parse(file_name: &str, text: &str, env: &dyn Environment) -> Result<Candidate, Errors> {
    let _ = file_name;
    decode::file(text, env)
}
