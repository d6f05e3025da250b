//! What can go wrong with a certificate or its storage.

use std::fmt;
use std::io;
use std::path::PathBuf;

#[derive(Debug)]
pub enum Error {
    /// The file system said no. The entry may be fine: never a reason to replace it.
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Another process has held the storage lock for too long.
    Locked { path: PathBuf },
    /// Bytes that are not what they should be: damaged, half written, or of another kind.
    Corrupt { what: String, why: String },
    /// Chain and key are both readable and do not belong to each other.
    KeyMismatch,
    /// A name that no certificate can carry.
    Name { name: String, why: &'static str },
    /// The key generator or signer failed.
    Crypto(rcgen::Error),
}

impl Error {
    pub(crate) fn corrupt(what: impl Into<String>, why: impl fmt::Display) -> Error {
        Error::Corrupt { what: what.into(), why: why.to_string() }
    }

    /// The stored bytes are unusable, and reading them again will not help.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Error::Corrupt { .. } | Error::KeyMismatch)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { action, path, source } => {
                write!(f, "cannot {action} {}: {source}", path.display())
            }
            Error::Locked { path } => {
                write!(f, "{} is held by another process", path.display())
            }
            Error::Corrupt { what, why } => write!(f, "{what}: {why}"),
            Error::KeyMismatch => f.write_str("the private key is not that of the certificate"),
            Error::Name { name, why } => write!(f, "name {name:?}: {why}"),
            Error::Crypto(source) => write!(f, "cannot make a key or certificate: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Crypto(source) => Some(source),
            _ => None,
        }
    }
}

impl From<rcgen::Error> for Error {
    fn from(source: rcgen::Error) -> Error {
        Error::Crypto(source)
    }
}
