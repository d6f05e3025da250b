//! Newtypes that cannot hold an invalid value, and the readers of plain values: sizes, durations.

mod endpoint;
mod host;
mod htpasswd;
mod network;
mod path;
mod rate;
mod regex;
mod size;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use endpoint::endpoint;
pub(crate) use endpoint::host_port;
pub(crate) use htpasswd::htpasswd;
pub(crate) use network::{looks_like_a_network, network};
pub use path::{PathError, normalise};
pub(crate) use rate::speed;
pub use regex::Regex;
pub(crate) use size::is_decimal;
pub use size::show_duration;
pub use size::{ByteSize, duration, percent};

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

/// Why a text is no valid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// What belongs here, in words that do not repeat the text: `a duration such as 300s`.
    pub expected: &'static str,
    /// What is wrong. May quote the text, so it is not for text that came from a secret.
    pub message: String,
    /// What to write instead. May quote the text as well.
    pub help: Option<String>,
}

impl ValueError {
    pub(crate) fn new(expected: &'static str, message: impl Into<String>) -> Self {
        ValueError { expected, message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ValueError {}

impl Name {
    /// # Errors
    /// When the text is not `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
    pub fn new(text: &str) -> Result<Self, ValueError> {
        let expected = "a name: letters, digits, `.`, `_`, `-`";
        let error = |what: &str| ValueError::new(expected, format!("{} {what}", quote(text)));
        if text.is_empty() {
            return Err(error("is no name"));
        }
        if text.len() > Self::MAX_BYTES {
            return Err(error("is too long for a name").help("use at most 63 characters"));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(error("is no name").help("start it with a letter or a digit"));
        }
        if !text.bytes().all(is_name_byte) {
            let help = "use letters, digits, `.`, `_` and `-` only";
            return Err(error("is no name").help(help));
        }
        Ok(Name(text.into()))
    }

    /// A valid name that resembles the text: what an entry with an invalid name is reported as.
    pub(crate) fn resembling(text: &str) -> Self {
        let tail = text.bytes().take(48).map(|b| if is_name_byte(b) { char::from(b) } else { '_' });
        let mut name: String = tail.collect();
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            name.insert_str(0, "entry");
        }
        Name(name.into())
    }

    const MAX_BYTES: usize = 63;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NormPath {
    /// `/`.
    pub fn root() -> Self {
        NormPath("/".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MethodName {
    /// # Errors
    /// When the text is no upper-case token of at most 32 characters, or a method that is never
    /// forwarded (CONNECT, TRACE).
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let expected = "an HTTP method such as GET";
        let error = |what: &str| ValueError::new(expected, format!("{} {what}", quote(text)));
        if text.is_empty() || text.len() > 32 || !text.bytes().all(is_token_byte) {
            return Err(error("is no HTTP method"));
        }
        if text.bytes().any(|b| b.is_ascii_lowercase()) {
            let help = format!("methods are case-sensitive: write `{}`", text.to_ascii_uppercase());
            return Err(error("is no HTTP method").help(help));
        }
        if text == "CONNECT" || text == "TRACE" {
            return Err(error("is never forwarded").help("remove it; the edge answers 405"));
        }
        Ok(MethodName(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Secret {
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Secret { text: text.into() }
    }

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

/// So that maps keyed by names can be asked with plain text.
impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Name::new(text)
    }
}

impl FromStr for HostPattern {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        HostPattern::parse(text)
    }
}

impl FromStr for NormPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        NormPath::parse(text)
    }
}

impl FromStr for MethodName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        MethodName::parse(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NormPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for MethodName {
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

/// A text for a message: in backticks, control characters escaped, at most 64 characters.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("`");
    for (n, c) in text.chars().enumerate() {
        if n == 64 {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.push('`');
    out
}

/// A token of RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// tchar of RFC 9110 §5.6.2.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "token-proxy", "v1.2_x", "0", &"a".repeat(63)] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "a b", "é", "a/b", "a\n", &"a".repeat(64)] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        for odd in ["", "my route!", "-", "é", &"x".repeat(200)] {
            let name = Name::resembling(odd);
            assert_eq!(Name::new(name.as_str()), Ok(name));
        }
    }

    #[test]
    fn methods() {
        assert_eq!(MethodName::parse("PROPFIND").unwrap().as_str(), "PROPFIND");
        assert!(MethodName::parse("get").unwrap_err().help.unwrap().contains("`GET`"));
        for bad in ["", "GE T", "CONNECT", "TRACE", "GÉT", &"A".repeat(33)] {
            assert!(MethodName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[secret]");
    }

    #[test]
    fn quotes_are_short_and_printable() {
        assert_eq!(quote("a\nb"), "`a\\nb`");
        assert_eq!(quote(&"x".repeat(70)).chars().count(), 64 + 3);
    }
}
