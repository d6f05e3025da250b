//! Origins and the patterns that allow them (Fetch standard §3.1, RFC 6454 §6.2).

use std::collections::HashSet;

use config::model::{OriginPattern, Origins};

/// Which origins may read answers.
pub enum Allowed {
    /// `*`, which browsers do not take for requests with credentials.
    Star,
    /// `*` with credentials: any web origin, by name.
    Web,
    List {
        exact: HashSet<Box<[u8]>>,
        wildcards: Box<[Wildcard]>,
    },
}

/// One label between `start` and `end`.
pub struct Wildcard {
    /// `https://`
    start: Box<[u8]>,
    /// `.app.example:8443`
    end: Box<[u8]>,
}

impl Allowed {
    pub fn compile(origins: &Origins, credentials: bool) -> Allowed {
        let Origins::List(patterns) = origins else {
            return if credentials { Allowed::Web } else { Allowed::Star };
        };
        let (wild, exact): (Vec<_>, Vec<_>) = patterns.iter().partition(|p| p.wildcard);
        let whole = |pattern: &&OriginPattern| {
            let (start, end) = ends(pattern);
            (start + &end).into_bytes().into()
        };
        let wildcard = |pattern: &&OriginPattern| {
            let (start, end) = ends(pattern);
            Wildcard {
                start: start.into_bytes().into(),
                end: format!(".{end}").into_bytes().into(),
            }
        };
        Allowed::List {
            exact: exact.iter().map(whole).collect(),
            wildcards: wild.iter().map(wildcard).collect(),
        }
    }

    /// Compared with what is listed, never believed.
    /// `null` (a sandboxed or local document, which anybody can be) is never on a list.
    pub fn matches(&self, origin: &[u8]) -> bool {
        match self {
            Allowed::Star => true,
            Allowed::Web => is_web_origin(origin),
            Allowed::List { exact, wildcards } => {
                exact.contains(origin) || wildcards.iter().any(|wildcard| wildcard.matches(origin))
            }
        }
    }
}

impl Wildcard {
    fn matches(&self, origin: &[u8]) -> bool {
        let inner = origin.strip_prefix(&*self.start).and_then(|o| o.strip_suffix(&*self.end));
        inner.is_some_and(is_label)
    }
}

/// Scheme and host with port as browsers write them (Fetch §3.1): lower-case, the scheme's own
/// port left out.
fn ends(pattern: &OriginPattern) -> (String, String) {
    let scheme = pattern.scheme.to_ascii_lowercase();
    let default = if scheme == "https" { 443 } else { 80 };
    let port = pattern.port.filter(|port| *port != default);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    (format!("{scheme}://"), format!("{}{port}", pattern.host.to_ascii_lowercase()))
}

fn is_label(text: &[u8]) -> bool {
    let allowed = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    (1..=63).contains(&text.len()) && text.iter().all(allowed)
}

/// `http://` or `https://` with a host and nothing that has no place in an origin.
fn is_web_origin(origin: &[u8]) -> bool {
    let rest = origin.strip_prefix(b"https://").or_else(|| origin.strip_prefix(b"http://"));
    let allowed = |b: &u8| {
        let other = matches!(b, b'-' | b'_' | b'.' | b':' | b'[' | b']');
        other || b.is_ascii_lowercase() || b.is_ascii_digit()
    };
    rest.is_some_and(|rest| !rest.is_empty() && rest.iter().all(allowed))
}

#[cfg(test)]
pub mod testing {
    use super::*;

    pub fn pattern(text: &str) -> OriginPattern {
        let (scheme, rest) = text.split_once("://").unwrap();
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().unwrap())),
            None => (rest, None),
        };
        OriginPattern {
            scheme: scheme.to_owned(),
            host: host.trim_start_matches("*.").to_owned(),
            wildcard: host.starts_with("*."),
            port,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::pattern;
    use super::*;

    const APP: &str = "https://app.openclaw.example";

    fn list(patterns: &[&str]) -> Origins {
        Origins::List(patterns.iter().map(|text| pattern(text)).collect())
    }

    fn listed(patterns: &[&str], origin: &str) -> bool {
        Allowed::compile(&list(patterns), false).matches(origin.as_bytes())
    }

    #[test]
    fn origins_are_compared_whole() {
        for (pattern, origin, expected) in [
            (APP, APP, true),
            (APP, "http://app.openclaw.example", false),
            (APP, "https://app.openclaw.example:8443", false),
            (APP, "https://app.openclaw.example.evil.example", false),
            (APP, "https://evil-app.openclaw.example", false),
            (APP, "https://APP.openclaw.example", false),
            ("https://app.openclaw.example:443", APP, true),
            ("http://app.openclaw.example:443", "http://app.openclaw.example:443", true),
            ("https://*.openclaw.example", APP, true),
            ("https://*.openclaw.example", "https://openclaw.example", false),
            ("https://*.openclaw.example", "https://.openclaw.example", false),
            ("https://*.openclaw.example", "https://a.b.openclaw.example", false),
            ("https://*.openclaw.example", "https://a@b.openclaw.example", false),
            ("https://*.openclaw.example", "https://evil.example/.openclaw.example", false),
            ("https://*.openclaw.example", "https://evilopenclaw.example", false),
            ("https://*.openclaw.example", "https://a.openclaw.example:8443", false),
            ("https://*.openclaw.example:8443", "https://a.openclaw.example:8443", true),
            ("https://*.null", "null", false),
        ] {
            assert_eq!(listed(&[pattern], origin), expected, "{pattern} {origin}");
        }
    }

    /// Label by label, the slow way.
    fn oracle(pattern: &str, origin: &str) -> bool {
        let split = |text: &str| {
            let (scheme, host) = text.split_once("://")?;
            Some((scheme.to_owned(), host.split('.').map(str::to_owned).collect::<Vec<_>>()))
        };
        let (Some((scheme, labels)), Some((got_scheme, got))) = (split(pattern), split(origin))
        else {
            return false;
        };
        let same = |(label, got): (&String, &String)| match label.as_str() {
            "*" => !got.is_empty() && got.bytes().all(|b| b"ab-".contains(&b)),
            label => label == got,
        };
        scheme == got_scheme && labels.len() == got.len() && labels.iter().zip(&got).all(same)
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_way(
            pattern in "https?://(\\*\\.)?[ab]{1,2}(\\.[ab]){0,2}",
            origin in "https?://([ab]{0,2}[@/-]?\\.)?[ab]{1,2}(\\.[ab]){0,2}",
        ) {
            prop_assert_eq!(listed(&[&pattern], &origin), oracle(&pattern, &origin));
        }

        #[test]
        fn exactly_one_label_in_front(label in "[a-z0-9.@:/ -]{0,8}") {
            let origin = format!("https://{label}.openclaw.example");
            let one = !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            prop_assert_eq!(listed(&["https://*.openclaw.example"], &origin), one);
        }
    }
}
