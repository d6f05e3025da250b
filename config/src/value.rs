//! Newtypes that cannot hold an invalid value.

use std::fmt;
use std::sync::Arc;

/// Name of an entry: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`. It is a metric label and a log field.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// `app.example` or `*.example`: lower-case, no trailing dot, no port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    Exact(Arc<str>),
    /// The part after `*.`; matches exactly one further label.
    Wildcard(Arc<str>),
}

/// A normalised absolute path (design.md #15).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NormPath(Arc<str>);

/// An HTTP method token, upper-case as written (methods are case-sensitive, RFC 9110 §9.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodName(Arc<str>);

/// Text that may come from `${env:}` or `${file:}`: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: Arc<str>,
}

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NormPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MethodName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Secret {
    /// For the one place that uses it. Never for a log, an error or an API.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(host) => f.write_str(host),
            HostPattern::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}
