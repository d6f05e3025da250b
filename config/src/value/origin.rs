//! Origins of pages (RFC 6454), as `cors` names them.

use std::fmt;

use super::{HostPattern, ValueError, is_decimal, quote};
use crate::model::OriginPattern;

impl OriginPattern {
    /// Reads `https://app.example`, `http://app.example:3000` or `https://*.app.example`: as
    /// browsers write it, upper case normalised away.
    ///
    /// # Errors
    /// Another scheme than http and https, a path, `null`, the scheme's own port (browsers leave
    /// it out), and what [`HostPattern::parse`] refuses.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let error = |what: &str| ValueError::new(EXPECTED, format!("{} {what}", quote(text)));
        match text {
            "*" => return Err(error("is no origin").help("write `origins: \"*\"` for every one")),
            "null" => {
                let help = "any page can make itself `null`: name the origins";
                return Err(error("is no origin").help(help));
            }
            _ => {}
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let error = error("is no origin: it has no scheme");
            return Err(if HostPattern::parse(text).is_ok() {
                error.help(format!("write {}", quote(&format!("https://{text}"))))
            } else {
                error.help(EXAMPLES)
            });
        };
        let scheme = scheme.to_ascii_lowercase();
        let own_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(error("has another scheme than `http` and `https`").help(EXAMPLES)),
        };
        let bare = |host: &str| format!("write {}", quote(&format!("{scheme}://{host}")));
        if let Some((host, _)) = rest.split_once(['/', '?', '#']) {
            return Err(error("has more in it than an origin").help(bare(host)));
        }
        let (host, port) = split_port(rest);
        let port = port.map(|port| port_of(port).ok_or_else(|| error("has no valid port")));
        let port = port.transpose()?;
        if port == Some(own_port) {
            let error = error("has the port that its scheme has anyway");
            return Err(error.help(format!("{}, as browsers do", bare(host))));
        }
        let (host, wildcard) = match HostPattern::parse(host) {
            Ok(HostPattern::Exact(host)) => (host.to_string(), false),
            Ok(HostPattern::Wildcard(suffix)) => (suffix.to_string(), true),
            Err(why) => {
                let error = error(&format!("is no origin: {}", why.message));
                let help = why.help.filter(|_| host != "*");
                return Err(error.help(help.unwrap_or_else(|| EXAMPLES.to_owned())));
            }
        };
        Ok(OriginPattern { scheme, host, wildcard, port })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.wildcard { "*." } else { "" };
        write!(f, "{}://{star}{}", self.scheme, self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// The colons of an IPv6 address stand in brackets.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    }
}

fn port_of(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0 && is_decimal(text))
}

const EXPECTED: &str = "an origin such as `https://app.example.com`";
const EXAMPLES: &str = "write `https://app.example.com` or `https://*.example.com`";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn origins_as_browsers_write_them() {
        let origin = |scheme: &str, host: &str, wildcard, port| {
            Ok(OriginPattern { scheme: scheme.into(), host: host.into(), wildcard, port })
        };
        for (text, expected) in [
            ("https://app.openclaw.example", origin("https", "app.openclaw.example", false, None)),
            ("HTTPS://App.Openclaw.Example", origin("https", "app.openclaw.example", false, None)),
            ("https://*.openclaw.example", origin("https", "openclaw.example", true, None)),
            ("http://localhost:3000", origin("http", "localhost", false, Some(3000))),
            ("http://a.example:443", origin("http", "a.example", false, Some(443))),
            ("https://a.example:80", origin("https", "a.example", false, Some(80))),
            ("http://[::1]:65535", origin("http", "[::1]", false, Some(65535))),
            ("http://[0:0::1]", origin("http", "[::1]", false, None)),
            ("http://127.0.0.1:1", origin("http", "127.0.0.1", false, Some(1))),
        ] {
            assert_eq!(OriginPattern::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_origin_and_what_to_write() {
        for (text, help) in [
            ("*", "write `origins: \"*\"` for every one"),
            ("null", "any page can make itself `null`: name the origins"),
            ("app.example", "write `https://app.example`"),
            ("https://app.example/", "write `https://app.example`"),
            ("https://app.example:8443/x?y", "write `https://app.example:8443`"),
            ("https://app.example#x", "write `https://app.example`"),
            ("https://app.example:443", "write `https://app.example`, as browsers do"),
            ("http://*.app.example:80", "write `http://*.app.example`, as browsers do"),
            ("ftp://app.example", EXAMPLES),
            ("https://*", EXAMPLES),
            ("", EXAMPLES),
            ("https://bücher.example", "write its `xn--` form (IDNA)"),
            ("https://a*.example", "`*` stands only for the whole first label: `*.example.com`"),
        ] {
            let why = OriginPattern::parse(text).unwrap_err();
            assert_eq!(why.help.as_deref(), Some(help), "{text}");
        }
        for text in [
            "https://",
            "https://a.example:0",
            "https://a.example:",
            "https://a.example:65536",
            "https://a.example:+1",
            "https://a.example:080",
            "https://user@a.example",
            "https://a b",
            "https://::1",
            "https://a.example,https://b.example",
        ] {
            assert!(OriginPattern::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_reads_back(text in "(http|https|HTTP)://(\\*\\.)?[a-zA-Z0-9.\\[\\]:-]{1,12}") {
            if let Ok(origin) = OriginPattern::parse(&text) {
                prop_assert_eq!(OriginPattern::parse(&origin.to_string()), Ok(origin.clone()));
                prop_assert_eq!(origin.to_string(), origin.to_string().to_ascii_lowercase());
            }
        }
    }
}
