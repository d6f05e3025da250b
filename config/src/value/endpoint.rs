//! Where endpoints are: `host:port`, `srv+NAME`, `unix:/path`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::host::{check_dns_name, check_ipv4};
use super::{ValueError, quote};
use crate::model::EndpointAddress;

/// Reads an endpoint: `host:port`, `srv+NAME` or `unix:/path`.
///
/// # Errors
/// A URL, a path behind a host, a missing port, a relative or too long path of a socket.
pub fn endpoint(text: &str) -> Result<EndpointAddress, ValueError> {
    if let Some(name) = text.strip_prefix("srv+") {
        return srv(text, name);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(text, path);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(url(text, scheme, rest));
    }
    if text.starts_with('/') {
        let help = format!("write {}", quote(&format!("unix:{text}")));
        return Err(error(text, "has no host").help(help));
    }
    if text.starts_with('_') && text.contains("._tcp.") {
        let help = format!("write {}", quote(&format!("srv+{text}")));
        return Err(error(text, "is the name of SRV records").help(help));
    }
    host_port(text)
}

/// Reads `host:port`: an IPv4 address, an IPv6 address in brackets, or a DNS name.
///
/// # Errors
/// A path, a missing port.
pub(crate) fn host_port(text: &str) -> Result<EndpointAddress, ValueError> {
    let error = |what: &str| error(text, what);
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

/// The records name hosts and ports (RFC 2782).
fn srv(text: &str, name: &str) -> Result<EndpointAddress, ValueError> {
    let lower = name.to_ascii_lowercase();
    if let Some((name, _)) = lower.split_once(':') {
        let help = format!("the records give the ports: write {}", quote(&format!("srv+{name}")));
        return Err(error(text, "has a port in it").help(help));
    }
    let help = "write `srv+_http._tcp.api.internal`";
    // A trailing dot stays, as in a host name.
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    check_dns_name(name).map_err(|what| error(text, what).help(help))?;
    match check_ipv4(name) {
        Ok(false) => Ok(EndpointAddress::Srv(lower)),
        _ => Err(error(text, "is no name of SRV records").help(help)),
    }
}

fn unix(text: &str, path: &str) -> Result<EndpointAddress, ValueError> {
    if let Some(path) = path.strip_prefix("//") {
        let path = path.trim_start_matches('/');
        let help = format!("write {}", quote(&format!("unix:/{path}")));
        return Err(error(text, "is a URL").help(help));
    }
    if !path.starts_with('/') || path.ends_with('/') {
        let help = "write the absolute path of the socket: `unix:/run/app.sock`";
        return Err(error(text, "is no unix socket").help(help));
    }
    if path.len() > MAX_SOCKET_PATH {
        return Err(error(text, "is too long: a socket path has at most 107 bytes"));
    }
    if path.chars().any(char::is_control) {
        return Err(error(text, "is no unix socket"));
    }
    Ok(EndpointAddress::Unix(PathBuf::from(path)))
}

/// What to write instead of a URL.
fn url(text: &str, scheme: &str, rest: &str) -> ValueError {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        // It may be a password.
        let message = "a URL with a user name in it is no endpoint";
        return ValueError::new(EXPECTED, message).help("write `host:port`");
    }
    let (port, also) = match scheme.to_ascii_lowercase().as_str() {
        "https" | "wss" => (":443", " and `tls: {}`"),
        "h2c" | "grpc" => (":80", " and `protocol: http2`"),
        "grpcs" | "h2" => (":443", ", `protocol: http2` and `tls: {}`"),
        _ => (":80", ""),
    };
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let port = if has_port { "" } else { port };
    let help = format!("write {}{also}", quote(&format!("{authority}{port}")));
    error(text, "is a URL, not `host:port`").help(help)
}

fn error(text: &str, what: &str) -> ValueError {
    ValueError::new(EXPECTED, format!("{} {what}", quote(text)))
}

/// sun_path of unix(7), without its NUL.
const MAX_SOCKET_PATH: usize = 107;
const EXPECTED: &str = "an endpoint such as `api.internal:8080`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, shown) in [
            ("web.platform.svc.cluster.local:3000", "web.platform.svc.cluster.local:3000"),
            ("web.platform.svc.cluster.local.:3000", "web.platform.svc.cluster.local.:3000"),
            ("my_service:80", "my_service:80"),
            ("10.42.0.11:8080", "10.42.0.11:8080"),
            ("[::1]:80", "[::1]:80"),
            ("srv+_HTTP._tcp.api.internal", "srv+_http._tcp.api.internal"),
            ("srv+api.service.consul.", "srv+api.service.consul."),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("unix:/run/My App:1", "unix:/run/My App:1"),
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
            "srv+",
            "srv+api..internal",
            "srv+192.0.2.1",
            "srv+_http._tcp.api:80",
            "srv+srv+api",
            "unix:",
            "unix:run/app.sock",
            "unix:/",
            "unix:/run/",
            "unix:///run/app.sock",
            "unix:/run/a\0",
            "/run/app.sock",
            "_http._tcp.api.internal",
        ] {
            assert!(endpoint(text).is_err(), "{text:?}");
        }
        let help = |text| endpoint(text).unwrap_err().help.unwrap();
        assert_eq!(help("http://web:80/x"), "write `web:80`");
        assert_eq!(help("http://web"), "write `web:80`");
        assert_eq!(help("web"), "write `web:PORT`");
        assert_eq!(help("https://web"), "write `web:443` and `tls: {}`");
        assert_eq!(help("HTTPS://[::1]/x"), "write `[::1]:443` and `tls: {}`");
        assert_eq!(help("https://web:8443/x"), "write `web:8443` and `tls: {}`");
        assert_eq!(help("h2c://web"), "write `web:80` and `protocol: http2`");
        assert_eq!(help("unix:///run/app.sock"), "write `unix:/run/app.sock`");
        assert_eq!(help("/run/app.sock"), "write `unix:/run/app.sock`");
        assert_eq!(help("srv+api:80"), "the records give the ports: write `srv+api`");
        assert_eq!(help("_http._tcp.api"), "write `srv+_http._tcp.api`");
    }

    #[test]
    fn the_path_of_a_socket_fits_into_its_address() {
        let socket = |bytes: usize| format!("unix:/{}", "x".repeat(bytes - 1));
        assert!(endpoint(&socket(107)).is_ok());
        assert!(endpoint(&socket(108)).is_err());
    }

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        let error = endpoint("https://user:hunter2@web/").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
