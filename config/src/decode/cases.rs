//! `tests:`, a request and what must happen to it. `check` runs them.

use std::net::{IpAddr, Ipv4Addr};

use super::{At, Cx, Fields, keys};
use crate::model::{Expectation, TestCase};
use crate::node::Node;
use crate::value::{HostPattern, MethodName, Name, ValueError, quote};

impl Cx<'_> {
    pub(crate) fn cases(&mut self, top: &Fields<'_, '_>) -> Vec<TestCase> {
        let cases =
            self.field(top, "tests", |cx, node, at| cx.list(node, at, 0..=MAX_CASES, Self::case));
        cases.unwrap_or_default()
    }

    fn case(&mut self, node: &Node, at: &At<'_>) -> Option<TestCase> {
        let fields = self.fields(node, at, &keys::TEST)?;
        let request =
            self.required(&fields, "request", |cx, node, at| cx.value(node, at, parse_request));
        let client = self.field(&fields, "client", |cx, node, at| cx.value(node, at, client));
        let route = self.field(&fields, "route", |cx, node, at| cx.value(node, at, Name::new));
        let redirect = self.field(&fields, "redirect", |cx, node, at| {
            cx.value(node, at, |text| match text.contains("://") {
                true => Ok(text.to_owned()),
                false => Err(ValueError::new("a URL", format!("{} is no URL", quote(text)))
                    .help("write the whole URL that the client is sent to")),
            })
        });
        let status = self.field(&fields, "status", |cx, node, at| cx.number(node, at, 200..=599));
        let wanted = ["route", "redirect", "status"].iter().filter(|key| fields.has(key)).count();
        if wanted != 1 {
            let help = "write one of `route`, `redirect` and `status`";
            let message = "a test expects exactly one thing";
            self.error(node.pos, at, message, Some(help.into()));
            return None;
        }
        let redirect = redirect.map(Expectation::Redirect);
        let status = status.and_then(|status| u16::try_from(status).ok()).map(Expectation::Status);
        let expect = route.map(Expectation::Route).or(redirect).or(status)?;
        let Request { method, https, host, target } = request?;
        Some(TestCase {
            method,
            https,
            host,
            target,
            client: client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            expect,
            line: node.pos.line,
        })
    }
}

/// Where a request comes from; an IPv4 address in IPv6 form is the IPv4 one.
fn client(text: &str) -> Result<IpAddr, ValueError> {
    let parsed = text.parse::<IpAddr>().map(|address| address.to_canonical());
    parsed.map_err(|_| {
        let error = ValueError::new("an address", format!("{} is no address", quote(text)));
        let (address, more) = text.split_once('/').unwrap_or((text, ""));
        match address.parse::<IpAddr>() {
            Ok(address) if !more.is_empty() => error.help(format!("write one of it: `{address}`")),
            _ if text.parse::<std::net::SocketAddr>().is_ok() => {
                error.help("leave out the port: `192.0.2.1`")
            }
            _ => error.help("write `192.0.2.1` or `2001:db8::1`"),
        }
    })
}

struct Request {
    method: MethodName,
    https: bool,
    host: String,
    target: String,
}

/// `GET https://app.example/path?query`.
fn parse_request(text: &str) -> Result<Request, ValueError> {
    let error = |what: &str| {
        let message = format!("{} {what}", quote(text));
        ValueError::new("a request such as `GET https://app.example/`", message)
            .help("write `GET https://app.example.com/path`")
    };
    let (method, url) = text.split_once(' ').ok_or_else(|| error("is no method and URL"))?;
    let method = MethodName::parse(method)?;
    let (scheme, rest) = url.split_once("://").ok_or_else(|| error("has no URL"))?;
    let https = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err(error("is neither http nor https")),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if !target.bytes().all(|b| b.is_ascii_graphic()) || target.contains('#') {
        return Err(error("has a target that no client would send"));
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            port.parse::<u16>().map_err(|_| error("has no valid port"))?;
            host
        }
        _ => authority,
    };
    if let Err(why) = HostPattern::parse(host) {
        return Err(error("has no valid host").help(why.message));
    }
    if host.contains('*') {
        return Err(error("names a pattern, not a host"));
    }
    let target = match target {
        "" => "/".to_owned(),
        query if query.starts_with('?') => format!("/{query}"),
        target => target.to_owned(),
    };
    Ok(Request { method, https, host: host.to_owned(), target })
}

const MAX_CASES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        for (text, https, host, target) in [
            ("GET https://app.example/", true, "app.example", "/"),
            ("GET http://App.example", false, "App.example", "/"),
            ("POST https://app.example:8443/v1?x=1", true, "app.example", "/v1?x=1"),
            ("GET http://app.example?x", false, "app.example", "/?x"),
            ("GET http://[::1]:80/", false, "[::1]", "/"),
            ("GET http://[::1]/", false, "[::1]", "/"),
            ("GET http://app.example/a//%2F..", false, "app.example", "/a//%2F.."),
        ] {
            let request = parse_request(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((request.https, &*request.host, &*request.target), (https, host, target));
        }
        for text in [
            "",
            "GET",
            "GET /",
            "get https://a/",
            "GET ftp://a/",
            "GET https:///x",
            "GET https://*.a/",
            "GET https://a:x/",
            "GET https://a/ b",
            "GET https://a/#x",
            "GET  https://a/",
        ] {
            assert!(parse_request(text).is_err(), "{text}");
        }
    }
}
