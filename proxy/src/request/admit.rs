//! Host and target: grammar first, then one normal form that routing reads (facts/security.md
//! §0.7). What is not admitted never reaches a backend.

use std::borrow::Cow;

use super::cause::{Cause, Rejection};
use super::view::{FieldSource, HeadView};
use crate::http1::fields::Fields;
use crate::http1::framing::BodyLength;
use crate::http1::head::RequestHead;

/// Longest host name (RFC 1035 §2.3.4), brackets of an IPv6 literal included.
const MAX_HOST: usize = 255;

/// Admits an HTTP/1.1 head.
pub fn admit_h1<'a, 's>(
    head: &RequestHead<'a, 's>,
) -> Result<HeadView<'a, Fields<'a, 's>>, Rejection> {
    let method = std::str::from_utf8(head.method).map_err(|_| Rejection::bad("method"))?;
    refuse_method(method)?;
    let (authority, target) = split_request_target(method, head.target, head.host)?;
    Ok(HeadView {
        method,
        host: host_of(authority)?,
        authority,
        target,
        http10: head.http10,
        body: head.body,
        expect: head.expect,
        // An upgrade with a body is framed normally, without the upgrade (P32).
        websocket: head.websocket && method == "GET" && head.body == BodyLength::Sized(0),
        fields: head.fields,
    })
}

/// Completes a view for HTTP/2, whose pseudo-header fields the caller has taken apart.
pub fn admit_h2<'a, F: FieldSource>(
    method: &'a str,
    authority: &'a [u8],
    target: &'a [u8],
    body: BodyLength,
    websocket: bool,
    fields: F,
) -> Result<HeadView<'a, F>, Rejection> {
    if !websocket {
        refuse_method(method)?;
    }
    if target.iter().any(|b| *b <= b' ' || *b == b'#' || *b == 0x7f) {
        return Err(Rejection::bad("target"));
    }
    let asterisk = method == "OPTIONS" && target == b"*";
    if !target.starts_with(b"/") && !asterisk {
        return Err(Rejection::bad("target"));
    }
    let expect = match fields.get(crate::http1::field::FieldId::Expect) {
        None => crate::http1::head::Expect::None,
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => {
            crate::http1::head::Expect::Continue
        }
        Some(_) => crate::http1::head::Expect::Other,
    };
    Ok(HeadView {
        method,
        host: host_of(authority)?,
        authority,
        target: Cow::Borrowed(target),
        http10: false,
        body,
        expect,
        websocket,
        fields,
    })
}

/// CONNECT and TRACE are refused on every protocol; what they would tunnel is nobody's business.
fn refuse_method(method: &str) -> Result<(), Rejection> {
    match method {
        "CONNECT" | "TRACE" => Err(Cause::MethodRefused.into()),
        _ => Ok(()),
    }
}

/// Authority and origin-form target of an HTTP/1.1 request (RFC 9112 §3.2): an absolute-form
/// target's authority wins over Host.
fn split_request_target<'a>(
    method: &str,
    target: &'a [u8],
    host: Option<&'a [u8]>,
) -> Result<(&'a [u8], Cow<'a, [u8]>), Rejection> {
    if target.starts_with(b"/") || (target == b"*" && method == "OPTIONS") {
        let host = host.ok_or(Rejection::bad("missing_host"))?;
        return Ok((host, Cow::Borrowed(target)));
    }
    let rest = strip_scheme(target).ok_or(Rejection::bad("target"))?;
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let target = if path.starts_with(b"/") {
        Cow::Borrowed(path)
    } else {
        Cow::Owned([b"/", path].concat())
    };
    Ok((authority, target))
}

/// Path and query of a request target for the log: without scheme and authority, which may hold
/// credentials.
pub fn path_and_query(target: &[u8]) -> &[u8] {
    let Some(rest) = strip_scheme(target) else {
        return if target.starts_with(b"/") { target } else { b"" };
    };
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    rest.get(end..).unwrap_or(b"")
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let head = target.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then(|| target.get(scheme.len()..))?
    })
}

/// The normalised host of an authority: `reg-name / IPv4 / "[" IPv6 "]"`, then `:1*5DIGIT`.
pub fn host_of(authority: &[u8]) -> Result<Cow<'_, str>, Rejection> {
    const BAD: Rejection = Rejection::bad("host");
    let text = std::str::from_utf8(authority).map_err(|_| BAD)?;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest.split_once(']').ok_or(BAD)?;
            inner.parse::<std::net::Ipv6Addr>().map_err(|_| BAD)?;
            (text.get(..inner.len() + 2).ok_or(BAD)?, after)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    check_port(port).ok_or(BAD)?;
    let host = host.strip_suffix('.').unwrap_or(host);
    let name_bytes = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    // Without empty labels, of which "" is one: `.gw.example` is no host of `*.gw.example`.
    if host.split('.').any(str::is_empty)
        || host.len() > MAX_HOST
        || (!host.starts_with('[') && !host.bytes().all(name_bytes))
    {
        return Err(BAD);
    }
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        return Ok(Cow::Owned(host.to_ascii_lowercase()));
    }
    Ok(Cow::Borrowed(host))
}

fn check_port(port: &str) -> Option<()> {
    if port.is_empty() {
        return Some(());
    }
    let digits = port.strip_prefix(':')?;
    let plain = !digits.is_empty() && digits.len() <= 5;
    (plain && digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok())
        .then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_form() {
        for (given, host) in [
            ("app.example", "app.example"),
            ("App.Example.:443", "app.example"),
            ("app.example:80", "app.example"),
            ("192.0.2.1:8080", "192.0.2.1"),
            ("[2001:db8::1]:443", "[2001:db8::1]"),
        ] {
            assert_eq!(host_of(given.as_bytes()).unwrap(), host);
        }
        for bad in [
            "",
            ".",
            "a..",
            ".a",
            "a..b",
            "a:",
            "a:x",
            "a:65536",
            "a:123456",
            "a/x",
            "a@b",
            "a b",
            "a\\b",
            "[::1",
            "[x]",
            "[::1]x",
            "a,b",
            "a:1:2",
            "\u{e9}.example",
        ] {
            assert!(host_of(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn absolute_form_wins() {
        let split = |target: &'static str| {
            split_request_target("GET", target.as_bytes(), Some(b"app.example"))
                .map(|(a, t)| (String::from_utf8_lossy(a).into_owned(), t.into_owned()))
        };
        let both = |a: &str, t: &str| Ok((a.to_owned(), t.as_bytes().to_vec()));
        assert_eq!(split("/x"), both("app.example", "/x"));
        assert_eq!(split("http://other.example/y"), both("other.example", "/y"));
        assert_eq!(split("HTTPS://other.example?q"), both("other.example", "/?q"));
        assert!(split("*").is_err());
        assert!(split("ftp://x/").is_err());
        assert!(split("app.example:443").is_err());
    }
}
