//! Field names that the edge must recognise, found by length first.

/// What a field means to the edge. `Other` is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldId {
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    /// Keep-Alive, Proxy-Connection, Proxy-Authorization, HTTP2-Settings: never passed on.
    HopByHop,
    Te,
    Trailer,
    Upgrade,
    Expect,
    /// Forwarded, X-Forwarded-*, X-Real-IP, X-Original-URL, X-Rewrite-URL, Proxy.
    Identity,
    XForwardedFor,
    XRequestId,
    UserAgent,
    ContentType,
    Accept,
    Cookie,
    Authorization,
    Origin,
    /// A name with `_`: backends fold it onto `-` (facts: P20).
    Underscore,
}

impl FieldId {
    /// Every field of this kind has the same name.
    pub fn has_one_name(self) -> bool {
        use FieldId::{HopByHop, Identity, Other, Underscore};
        !matches!(self, Other | HopByHop | Identity | Underscore)
    }
}

/// Classifies a field name, ASCII case-insensitive.
pub fn classify(name: &[u8]) -> FieldId {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    let id = match name.len() {
        2 if is("te") => FieldId::Te,
        4 if is("host") => FieldId::Host,
        5 if is("proxy") => FieldId::Identity,
        6 if is("expect") => FieldId::Expect,
        6 if is("accept") => FieldId::Accept,
        6 if is("cookie") => FieldId::Cookie,
        6 if is("origin") => FieldId::Origin,
        7 if is("trailer") => FieldId::Trailer,
        7 if is("upgrade") => FieldId::Upgrade,
        9 if is("x-real-ip") || is("forwarded") => FieldId::Identity,
        10 if is("connection") => FieldId::Connection,
        10 if is("keep-alive") => FieldId::HopByHop,
        10 if is("user-agent") => FieldId::UserAgent,
        12 if is("x-request-id") => FieldId::XRequestId,
        12 if is("content-type") => FieldId::ContentType,
        13 if is("authorization") => FieldId::Authorization,
        13 if is("x-rewrite-url") => FieldId::Identity,
        14 if is("content-length") => FieldId::ContentLength,
        14 if is("x-original-url") => FieldId::Identity,
        14 if is("http2-settings") => FieldId::HopByHop,
        15 if is("x-forwarded-for") => FieldId::XForwardedFor,
        16 if is("proxy-connection") => FieldId::HopByHop,
        17 if is("transfer-encoding") => FieldId::TransferEncoding,
        19 if is("proxy-authorization") => FieldId::HopByHop,
        _ => FieldId::Other,
    };
    if id != FieldId::Other {
        return id;
    }
    if name.len() > 12 && name[..12].eq_ignore_ascii_case(b"x-forwarded-") {
        return FieldId::Identity;
    }
    if memchr::memchr(b'_', name).is_some() { FieldId::Underscore } else { FieldId::Other }
}

/// Splits a list field (RFC 9110 §5.6.1) into its trimmed, non-empty members.
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|m| !m.is_empty())
}

/// Fields that may not appear in a trailer section (RFC 9110 §6.5.1): framing, routing,
/// identity, hop-by-hop.
pub fn allowed_in_trailer(name: &[u8]) -> bool {
    matches!(classify(name), FieldId::Other | FieldId::Accept | FieldId::Origin)
        && !["set-cookie", "cache-control", "content-encoding", "content-range"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_names_in_any_case() {
        assert_eq!(classify(b"HOST"), FieldId::Host);
        assert_eq!(classify(b"Transfer-encoding"), FieldId::TransferEncoding);
        assert_eq!(classify(b"X-Forwarded-Prefix"), FieldId::Identity);
        assert_eq!(classify(b"x-forwarded-for"), FieldId::XForwardedFor);
        assert_eq!(classify(b"content_length"), FieldId::Underscore);
        assert_eq!(classify(b"Accept"), FieldId::Accept);
        assert_eq!(classify(b"accepts"), FieldId::Other);
    }

    #[test]
    fn list_members() {
        let got: Vec<&[u8]> = members(b" close , ,X-Foo").collect();
        assert_eq!(got, [b"close".as_slice(), b"X-Foo"]);
    }
}
