//! Host patterns of routes and certificates, and `host:port` of endpoints.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{HostPattern, ValueError, quote};
use crate::model::EndpointAddress;

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

/// Reads `host:port` of an endpoint: an IPv4 address, an IPv6 address in brackets, or a DNS name.
///
/// # Errors
/// A scheme, a path, a missing port.
pub fn endpoint(text: &str) -> Result<EndpointAddress, ValueError> {
    let error = |what: &str| ValueError::new(EXPECTED_ENDPOINT, format!("{} {what}", quote(text)));
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or_default();
        if scheme.eq_ignore_ascii_case("https") {
            let help = "endpoints are spoken to in plaintext HTTP/1.1 by this version";
            return Err(error("is a URL, not `host:port`").help(help));
        }
        let port = if rest.contains(':') { "" } else { ":80" };
        let help = format!("write {}", quote(&format!("{rest}{port}")));
        return Err(error("is a URL, not `host:port`").help(help));
    }
    if text.contains('/') {
        return Err(
            error("has a path in it").help("an endpoint is `host:port`; paths go on unchanged")
        );
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(error("has no port").help(format!("write `[{text}]:PORT`")));
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|(_, port)| !port.contains(']')) else {
        return Err(error("has no port").help(format!("write {}", quote(&format!("{text}:PORT")))));
    };
    let port = match port.parse::<u16>() {
        Ok(number) if number != 0 && super::size::is_decimal(port) => number,
        _ => return Err(error("has no valid port").help("a port is a number from 1 to 65535")),
    };
    endpoint_at(host, port).map_err(error)
}

fn endpoint_at(host: &str, port: u16) -> Result<EndpointAddress, &'static str> {
    if let Some(ip) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let ip: Ipv6Addr = ip.parse().map_err(|_| "is no IPv6 address")?;
        return Ok(EndpointAddress::Ip((ip, port).into()));
    }
    if host.contains(':') {
        return Err("is no `host:port`: an IPv6 address stands in brackets");
    }
    let lower = host.to_ascii_lowercase();
    // A trailing dot keeps the resolver from trying its search domains: it stays.
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    check_dns_name(name)?;
    if check_ipv4(name)? {
        let ip: Ipv4Addr = name.parse().map_err(|_| "is no IPv4 address")?;
        return Ok(EndpointAddress::Ip((ip, port).into()));
    }
    Ok(EndpointAddress::Name { host: lower, port })
}

fn check_dns_name(name: &str) -> Result<(), &'static str> {
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
fn check_ipv4(name: &str) -> Result<bool, &'static str> {
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
const EXPECTED_ENDPOINT: &str = "an endpoint such as `api.internal:8080`";

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

    #[test]
    fn endpoints() {
        for (text, shown) in [
            ("web.platform.svc.cluster.local:3000", "web.platform.svc.cluster.local:3000"),
            ("web.platform.svc.cluster.local.:3000", "web.platform.svc.cluster.local.:3000"),
            ("my_service:80", "my_service:80"),
            ("10.42.0.11:8080", "10.42.0.11:8080"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(endpoint(text).map(|endpoint| endpoint.to_string()), Ok(shown.into()));
        }
        for text in [
            "",
            "web",
            "web:",
            "web:0",
            "web:65536",
            "web:+80",
            ":80",
            "::1",
            "[::1]",
            "::1:80",
            "[x]:80",
            "http://web:80",
            "https://web",
            "web:80/x",
            "10.0.0.300:80",
            "we b:80",
            "web:http",
        ] {
            assert!(endpoint(text).is_err(), "{text:?}");
        }
        let help = |text| endpoint(text).unwrap_err().help.unwrap();
        assert_eq!(help("http://web:80/x"), "write `web:80`");
        assert_eq!(help("http://web"), "write `web:80`");
        assert_eq!(help("web"), "write `web:PORT`");
    }
}
