//! Host patterns of routes and certificates.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{HostPattern, ValueError, quote};

impl HostPattern {
    /// Reads `app.example`, `*.example` or an IP address (IPv6 in brackets, as in a Host field).
    /// Upper case and a trailing dot are accepted and normalised away.
    ///
    /// # Errors
    /// A port, a scheme, non-ASCII text, `*` anywhere but as the whole first label.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let error = |what: &str| ValueError::new(EXPECTED_HOST, format!("{} {what}", quote(text)));
        if let Some((_, rest)) = text.split_once("://") {
            let host = rest.split(['/', ':']).next().unwrap_or_default();
            return Err(error("is a URL, not a host name").help(format!("write {}", quote(host))));
        }
        if let Some((host, path)) = text.split_once('/') {
            let help = format!(
                "write {} here and {} under `path`",
                quote(host),
                quote(&format!("/{path}"))
            );
            return Err(error("has a path in it").help(help));
        }
        let lower = text.to_ascii_lowercase();
        if let Some(ip) = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let ip: Ipv6Addr = ip.parse().map_err(|_| error("is no IPv6 address"))?;
            return Ok(HostPattern::Exact(format!("[{ip}]").into()));
        }
        if lower.parse::<Ipv6Addr>().is_ok() {
            return Err(error("is an IPv6 address").help(format!("write `[{lower}]`")));
        }
        if let Some((host, _)) = lower.rsplit_once(':') {
            let help = format!("write {}; a route is reached on every port", quote(host));
            return Err(error("has a port in it").help(help));
        }
        if lower == "*" {
            let help =
                "name the hosts; `*.example.com` matches one label; an unknown host answers 404";
            return Err(error("is no host name").help(help));
        }
        if !lower.is_ascii() {
            return Err(error("is not ASCII").help("write its `xn--` form (IDNA)"));
        }
        let lower = lower.strip_suffix('.').unwrap_or(&lower);
        let (name, wildcard) = match lower.strip_prefix("*.") {
            Some(suffix) => (suffix, true),
            None => (lower, false),
        };
        if name.contains('*') {
            let help = "`*` stands only for the whole first label: `*.example.com`";
            return Err(error("is no host name").help(help));
        }
        check_dns_name(name).map_err(error)?;
        let is_ip = check_ipv4(name).map_err(error)?;
        if is_ip && wildcard {
            return Err(error("is no host name"));
        }
        let name: Arc<str> = name.into();
        Ok(if wildcard { HostPattern::Wildcard(name) } else { HostPattern::Exact(name) })
    }
}

impl HostPattern {
    /// Whether every name that `other` stands for is one of this pattern's.
    pub fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (HostPattern::Wildcard(suffix), HostPattern::Exact(host)) => {
                host.split_once('.').is_some_and(|(_, rest)| rest == &**suffix)
            }
            (same, other) => same == other,
        }
    }
}

pub(super) fn check_dns_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("is no host name");
    }
    if name.len() > 253 {
        return Err("is longer than the 253 characters of a host name");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err("is no host name: it has an empty label");
        }
        if label.len() > 63 {
            return Err("is no host name: a label is longer than 63 characters");
        }
        if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err("is no host name: a character is not allowed");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("is no host name: a label starts or ends with `-`");
        }
    }
    Ok(())
}

/// A name whose last label is a number is an IPv4 address or nothing (WHATWG URL §3.5).
pub(super) fn check_ipv4(name: &str) -> Result<bool, &'static str> {
    let last = name.rsplit('.').next().unwrap_or_default();
    if !last.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(false);
    }
    match name.parse::<Ipv4Addr>() {
        Ok(_) => Ok(true),
        Err(_) => Err("is no IPv4 address"),
    }
}

const EXPECTED_HOST: &str = "a host name such as `app.example.com` or `*.example.com`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, shown) in [
            ("app.openclaw.example", "app.openclaw.example"),
            ("App.OpenClaw.EXAMPLE.", "app.openclaw.example"),
            ("*.gw.openclaw.example", "*.gw.openclaw.example"),
            ("localhost", "localhost"),
            ("*.localhost", "*.localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("my_app.example", "my_app.example"),
            ("192.0.2.1", "192.0.2.1"),
            ("[::1]", "[::1]"),
            ("[0:0::1]", "[::1]"),
        ] {
            assert_eq!(HostPattern::parse(text).map(|host| host.to_string()), Ok(shown.into()));
        }
        for text in [
            "",
            ".",
            "*",
            "*.",
            "**",
            "*a.example",
            "a.*.example",
            "*.*.example",
            "a..b",
            "-a.example",
            "a b",
            "bücher.example",
            "a.example:443",
            "https://a.example/",
            "a.example/x",
            "::1",
            "192.0.2.256",
            "1.2.3",
            "*.0.2.1",
            "a\n",
            "${env:X}",
            &"a.".repeat(130),
            &"a".repeat(64),
        ] {
            assert!(HostPattern::parse(text).is_err(), "{text:?}");
        }
        let help = |text| HostPattern::parse(text).unwrap_err().help.unwrap();
        assert_eq!(help("a.example:443"), "write `a.example`; a route is reached on every port");
        assert_eq!(help("https://a.example:1/x"), "write `a.example`");
        assert!(help("bücher.example").contains("xn--"));
    }
}
