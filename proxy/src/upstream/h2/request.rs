//! A request head of ours in HTTP/1.1 as an HTTP/2 one (RFC 9113 §8.3.1, RFC 8441 §4). Pure.

use std::mem::MaybeUninit;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use h2::ext::Protocol;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};

use crate::http1::field::{FieldId, classify, members};
use crate::http1::framing::{BodyLength, FramingFields, request_length};

/// Fields of a head: the client's, what the edge adds, what the route sets.
const MAX_FIELDS: usize = 256;
/// Appended to the key of a WebSocket request (RFC 6455 §1.3).
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A head that has been read.
pub struct Converted {
    pub request: Request<()>,
    pub body: BodyLength,
    /// Bytes of the head.
    pub len: usize,
    /// The answer has no body.
    pub head_request: bool,
    /// A WebSocket request: what its 101 must say in Sec-WebSocket-Accept.
    pub accept: Option<String>,
}

/// The head cannot be sent by HTTP/2; what we write ourselves always can.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid;

/// Reads a head at the start of `bytes`. `Ok(None)`: incomplete.
pub fn convert(bytes: &[u8], scheme: &Scheme) -> Result<Option<Converted>, Invalid> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut []);
    let len = match head.parse_with_uninit_headers(bytes, &mut slots) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Invalid),
    };
    let method = head.method.unwrap_or("").as_bytes();
    let found = fields(head.headers)?;
    let body = request_length(&found.framing, false).map_err(|_| Invalid)?;
    let uri = uri(scheme, found.host, head.path.unwrap_or(""))?;
    let websocket = found.websocket;
    let mut request = Request::new(());
    *request.method_mut() = match websocket {
        true => Method::CONNECT,
        false => Method::from_bytes(method).map_err(|_| Invalid)?,
    };
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = uri;
    *request.headers_mut() = found.map;
    let mut accept = None;
    if websocket {
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        accept = Some(websocket_accept(found.key.unwrap_or(b"")));
    }
    let head_request = *request.method() == Method::HEAD;
    Ok(Some(Converted { request, body, len, head_request, accept }))
}

struct Found<'b> {
    map: HeaderMap,
    host: &'b [u8],
    framing: FramingFields<'b>,
    websocket: bool,
    key: Option<&'b [u8]>,
}

fn fields<'b>(headers: &[httparse::Header<'b>]) -> Result<Found<'b>, Invalid> {
    let mut found = Found {
        map: HeaderMap::with_capacity(headers.len()),
        host: b"",
        framing: FramingFields::default(),
        websocket: headers.iter().any(|field| {
            classify(field.name.as_bytes()) == FieldId::Upgrade
                && field.value.eq_ignore_ascii_case(b"websocket")
        }),
        key: None,
    };
    let mut cookies: Vec<u8> = Vec::new();
    for field in headers {
        match classify(field.name.as_bytes()) {
            FieldId::Host => found.host = field.value,
            FieldId::Connection | FieldId::HopByHop | FieldId::Upgrade => {}
            FieldId::TransferEncoding => {
                found.framing.transfer_encoding = Some(field.value);
                found.framing.transfer_encodings += 1;
            }
            // The only coding that HTTP/2 knows (RFC 9113 §8.2.2); gRPC insists on it.
            FieldId::Te => {
                if members(field.value).any(|one| one.eq_ignore_ascii_case(b"trailers")) {
                    found.map.insert(header::TE, HeaderValue::from_static("trailers"));
                }
            }
            FieldId::Cookie => {
                if !cookies.is_empty() {
                    cookies.extend_from_slice(b"; ");
                }
                cookies.extend_from_slice(field.value);
            }
            FieldId::ContentLength => {
                found.framing.content_length = Some(field.value);
                found.framing.content_lengths += 1;
                if !found.websocket {
                    append(&mut found.map, field)?;
                }
            }
            _ if found.websocket && field.name.eq_ignore_ascii_case("sec-websocket-key") => {
                found.key = Some(field.value);
            }
            _ => append(&mut found.map, field)?,
        }
    }
    if !cookies.is_empty() {
        found.map.insert(header::COOKIE, secret(&cookies)?);
    }
    Ok(found)
}

fn append(map: &mut HeaderMap, field: &httparse::Header<'_>) -> Result<(), Invalid> {
    let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Invalid)?;
    let value = match name == header::AUTHORIZATION {
        true => secret(field.value)?,
        false => HeaderValue::from_bytes(field.value).map_err(|_| Invalid)?,
    };
    map.append(name, value);
    Ok(())
}

/// Clients share the connection and its compression state: never indexed (RFC 7541 §7.1).
fn secret(value: &[u8]) -> Result<HeaderValue, Invalid> {
    let mut value = HeaderValue::from_bytes(value).map_err(|_| Invalid)?;
    value.set_sensitive(true);
    Ok(value)
}

fn uri(scheme: &Scheme, host: &[u8], target: &str) -> Result<Uri, Invalid> {
    if !target.starts_with('/') && target != "*" {
        return Err(Invalid);
    }
    let path = PathAndQuery::try_from(target)
        .or_else(|_| PathAndQuery::try_from(encoded(target)))
        .map_err(|_| Invalid)?;
    let authority = Authority::try_from(host).map_err(|_| Invalid)?;
    let uri = Uri::builder().scheme(scheme.clone()).authority(authority).path_and_query(path);
    uri.build().map_err(|_| Invalid)
}

/// Bytes that may not stand in a URI as they are (RFC 3986 §2) and that HTTP/1.1 is lenient about.
fn encoded(target: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(target.len() + 16);
    for byte in target.bytes() {
        match byte {
            b'!' | b'$'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out
}

/// RFC 6455 §4.2.2.
fn websocket_accept(key: &[u8]) -> String {
    use aws_lc_rs::digest;
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.trim_ascii());
    hash.update(WEBSOCKET_GUID);
    STANDARD.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(head: &str) -> Converted {
        let head = head.replace('\n', "\r\n");
        let found = convert(head.as_bytes(), &Scheme::HTTP).unwrap().unwrap();
        assert_eq!(found.len, head.len());
        found
    }

    #[test]
    fn a_head_becomes_pseudo_fields_and_fields() {
        let found = converted(
            "POST /a?b=1 HTTP/1.1\nHost: app.openclaw.example:8080\nX-One: 1\nX-One: 2\n\
             Cookie: a=1\nCookie: b=2\nContent-Length: 3\nConnection: close\nKeep-Alive: 5\n\
             TE: gzip, trailers\nAuthorization: Bearer x\n\n",
        );
        let request = &found.request;
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri().to_string(), "http://app.openclaw.example:8080/a?b=1");
        assert_eq!(found.body, BodyLength::Sized(3));
        let all: Vec<_> = request.headers().get_all("x-one").iter().collect();
        assert_eq!(all, ["1", "2"]);
        assert_eq!(request.headers()["cookie"], "a=1; b=2");
        assert!(request.headers()["cookie"].is_sensitive());
        assert!(request.headers()["authorization"].is_sensitive());
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.headers()["content-length"], "3");
        for gone in ["host", "connection", "keep-alive", "transfer-encoding"] {
            assert!(!request.headers().contains_key(gone), "{gone}");
        }
        assert!(!found.head_request && found.accept.is_none());
    }

    #[test]
    fn other_codings_of_te_do_not_pass() {
        let found = converted("GET / HTTP/1.1\nHost: a\nTE: gzip\n\n");
        assert!(!found.request.headers().contains_key("te"));
    }

    /// The key and its answer are those of RFC 6455 §1.3.
    #[test]
    fn an_upgrade_becomes_an_extended_connect() {
        let found = converted(
            "GET /chat HTTP/1.1\nHost: a.example\nConnection: Upgrade\nUpgrade: websocket\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n\n",
        );
        assert_eq!(found.request.method(), Method::CONNECT);
        assert_eq!(found.request.uri().path(), "/chat");
        assert_eq!(found.request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
        assert_eq!(found.accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!found.request.headers().contains_key("sec-websocket-key"));
        assert_eq!(found.request.headers()["sec-websocket-version"], "13");
    }

    #[test]
    fn targets() {
        let path = |target: &str| {
            let head = format!("OPTIONS {target} HTTP/1.1\nHost: a\n\n");
            converted(&head).request.uri().path_and_query().unwrap().to_string()
        };
        assert_eq!(path("*"), "*");
        assert_eq!(path("/a%2fb?c=%20"), "/a%2fb?c=%20");
        assert_eq!(path("/a<b>?c=<"), "/a%3Cb%3E?c=%3C");
        let bad = convert(b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", &Scheme::HTTP);
        assert!(bad.is_err());
    }

    #[test]
    fn an_incomplete_head_waits() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..head.len() {
            assert!(convert(&head[..cut], &Scheme::HTTP).unwrap().is_none());
        }
    }
}
