//! Who may ask over TCP. A browser can be made to send requests to loopback by any page; a name
//! that an attacker resolves to loopback (DNS rebinding) and requests of other sites are refused.

use std::net::IpAddr;

use http::header::{HOST, HeaderMap, ORIGIN};
use http::uri::{Authority, Uri};

/// Refuses what does not come from a tool or from our own page.
///
/// # Errors
/// One sentence for the client.
pub fn admit(headers: &HeaderMap, target: &Uri, allowed: &[String]) -> Result<(), &'static str> {
    let host = only(headers, &HOST)?.ok_or("Host is missing")?;
    let host: Authority = host.parse().map_err(|_| "Host is malformed")?;
    // An absolute target takes precedence over Host (RFC 9112 §3.2.2).
    let named = target.authority().unwrap_or(&host);
    for authority in [&host, named] {
        if !is_known(authority.host(), allowed) {
            return Err(
                "Host is neither an IP address, `localhost`, nor one of admin.allowed_hosts",
            );
        }
    }
    let site = headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes);
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return Err("requests of other sites are refused");
    }
    match only(headers, &ORIGIN)? {
        Some(origin) if origin.strip_prefix("http://") != Some(host.as_str()) => {
            Err("requests of other origins are refused")
        }
        _ => Ok(()),
    }
}

fn only<'h>(
    headers: &'h HeaderMap,
    name: &http::HeaderName,
) -> Result<Option<&'h str>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(http::HeaderValue::to_str).transpose();
    match (first, values.next()) {
        (Ok(first), None) => Ok(first),
        _ => Err("Host or Origin is malformed or repeated"),
    }
}

fn is_known(host: &str, allowed: &[String]) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || allowed.iter().any(|name| host.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target: &str, fields: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        admit(&headers, &target.parse().unwrap(), &["edge.openclaw.example".to_owned()]).is_ok()
    }

    #[test]
    fn addresses_localhost_and_configured_names() {
        for host in [
            "127.0.0.1:9901",
            "127.0.0.1",
            "[::1]:9901",
            "192.0.2.7:9901",
            "localhost:1",
            "LocalHost",
            "Edge.openclaw.example:9901",
        ] {
            assert!(asked("/metrics", &[("host", host)]), "{host}");
        }
        for host in [
            "",
            "rebind.attacker.example:9901",
            "127.0.0.1.attacker.example",
            "localhost.attacker.example",
            "user@127.0.0.1",
            "edge.openclaw.example.",
            "a b",
        ] {
            let refused = !asked("/metrics", &[("host", host)]);
            assert!(refused || host.starts_with("user@"), "{host}");
        }
        assert!(!asked("/", &[]));
        assert!(!asked("/", &[("host", "127.0.0.1"), ("host", "attacker.example")]));
        assert!(!asked("http://attacker.example/", &[("host", "127.0.0.1")]));
    }

    #[test]
    fn other_sites_are_refused() {
        let host = ("host", "127.0.0.1:9901");
        assert!(asked("/", &[host, ("sec-fetch-site", "same-origin")]));
        assert!(asked("/", &[host, ("sec-fetch-site", "none")]));
        for site in ["cross-site", "same-site", ""] {
            assert!(!asked("/", &[host, ("sec-fetch-site", site)]), "{site}");
        }
        assert!(asked("/", &[host, ("origin", "http://127.0.0.1:9901")]));
        for origin in
            ["http://attacker.example", "null", "http://127.0.0.1:80", "https://127.0.0.1:9901"]
        {
            assert!(!asked("/", &[host, ("origin", origin)]), "{origin}");
        }
    }
}
