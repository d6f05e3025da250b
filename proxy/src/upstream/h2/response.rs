//! An HTTP/2 answer as an HTTP/1.1 one. Pure.

use http::response::Parts;
use http::{HeaderMap, StatusCode, header};

use crate::http1::field::classify;
use crate::http1::write::{field, number_field};
use crate::request::headers::response_field_passes;

/// How the body of an answer is framed for the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// HEAD, 204, 304, or an empty body.
    None,
    /// As long as Content-Length says; h2 checks it.
    Sized,
    Chunked,
}

/// Writes the head of a final answer. `ended`: there is no body. The connection is said to close:
/// a stream carries one exchange.
pub fn write_head(out: &mut Vec<u8>, parts: &Parts, head_request: bool, ended: bool) -> Framing {
    let bodiless =
        head_request || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    status_line(out, parts.status);
    write_fields(out, &parts.headers);
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let framing = match length {
        _ if parts.status == StatusCode::NO_CONTENT => Framing::None,
        Some(length) => {
            field(out, b"content-length", length.as_bytes());
            if bodiless || ended { Framing::None } else { Framing::Sized }
        }
        None if bodiless => Framing::None,
        None if ended => {
            number_field(out, b"content-length", 0);
            Framing::None
        }
        None => {
            field(out, b"transfer-encoding", b"chunked");
            Framing::Chunked
        }
    };
    out.extend_from_slice(b"connection: close\r\n\r\n");
    framing
}

/// Writes an interim answer (103 and the like).
pub fn write_interim(out: &mut Vec<u8>, status: StatusCode, fields: &HeaderMap) {
    status_line(out, status);
    write_fields(out, fields);
    out.extend_from_slice(b"\r\n");
}

/// Writes the 101 that a WebSocket client of HTTP/1.1 gets for the 200 of RFC 8441 §5.
pub fn write_switch(out: &mut Vec<u8>, fields: &HeaderMap, accept: &str) {
    status_line(out, StatusCode::SWITCHING_PROTOCOLS);
    write_fields(out, fields);
    out.extend_from_slice(b"connection: Upgrade\r\nupgrade: websocket\r\n");
    field(out, b"sec-websocket-accept", accept.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        write_fields(out, trailers);
    }
    out.extend_from_slice(b"\r\n");
}

/// Fields that HTTP/2 must not have (RFC 9113 §8.2.2) end here; framing is written anew.
fn write_fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        let name = name.as_str().as_bytes();
        if response_field_passes(classify(name)) && name != b"sec-websocket-accept" {
            field(out, name, value.as_bytes());
        }
    }
}

fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn head(status: u16, fields: &[(&str, &str)], head: bool, ended: bool) -> (String, Framing) {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let (parts, ()) = response.body(()).unwrap().into_parts();
        let mut out = Vec::new();
        let framing = write_head(&mut out, &parts, head, ended);
        (String::from_utf8(out).unwrap(), framing)
    }

    #[test]
    fn framing_follows_the_answer() {
        let sized = [("content-length", "5")];
        for (status, fields, for_head, ended, framing, line) in [
            (200, &sized[..], false, false, Framing::Sized, Some("content-length: 5")),
            (200, &sized[..], true, true, Framing::None, Some("content-length: 5")),
            (200, &[][..], false, false, Framing::Chunked, Some("transfer-encoding: chunked")),
            (200, &[][..], false, true, Framing::None, Some("content-length: 0")),
            (200, &[][..], true, true, Framing::None, None),
            (304, &sized[..], false, true, Framing::None, Some("content-length: 5")),
            (204, &sized[..], false, true, Framing::None, None),
            (204, &[][..], false, true, Framing::None, None),
        ] {
            let (text, got) = head(status, fields, for_head, ended);
            assert_eq!(got, framing, "{status} {fields:?}");
            let framed: Vec<&str> = text
                .lines()
                .filter(|l| l.starts_with("content-length") || l.starts_with("transfer-encoding"))
                .collect();
            assert_eq!(framed, line.into_iter().collect::<Vec<_>>(), "{status} {fields:?}");
        }
    }

    #[test]
    fn forbidden_fields_end_here() {
        let (text, _) =
            head(200, &[("upgrade", "x"), ("keep-alive", "5"), ("x-a", "b")], false, true);
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
    }
}
