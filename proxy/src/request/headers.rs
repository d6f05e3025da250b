//! Which fields go on, in both directions, and what is added (issue: head rules). Writes canonical
//! HTTP/1.1; the rules themselves are shared with HTTP/2 through [`FieldSource`] and
//! [`response_field_passes`].
//!
//! Order matters (facts/security.md §0.5): what the client nominates or sends is dropped first,
//! what the edge sets comes afterwards, so no nomination can remove it.

use std::net::IpAddr;

use super::client::Client;
use super::view::{FieldSource, HeadView};
use crate::http1::field::{FieldId, members};
use crate::http1::fields::Fields;
use crate::http1::framing::BodyLength;
use crate::http1::head::ResponseHead;
use crate::http1::write::{field, number_field};
use crate::route::edits::{Edits, Present};

/// What the request head to the endpoint depends on besides the head itself.
pub struct RequestContext<'a> {
    pub client: &'a Client,
    /// The peer's own forwarding fields are believed and kept.
    pub trusted: bool,
    /// Where the request really comes from ([`Client::origin`]).
    pub origin: IpAddr,
    pub request_id: &'a [u8],
    pub public_port: u16,
    pub allow_underscores: bool,
    pub edits: &'a Edits,
    /// The client's Authorization was for the edge.
    pub drop_authorization: bool,
    /// What was taken off the path.
    pub prefix: Option<&'a [u8]>,
}

/// Writes the head that the endpoint gets.
pub fn write_request<F: FieldSource>(
    out: &mut Vec<u8>,
    view: &HeadView<'_, F>,
    cx: &RequestContext<'_>,
) {
    out.extend_from_slice(view.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(&view.target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field(out, b"Host", view.authority);
    let nominates = view.fields.get(FieldId::Connection).is_some();
    let mut wants_trailers = false;
    view.fields.each(|id, name, value| {
        wants_trailers |= id == FieldId::Te && lists_trailers(value);
        let keep = match id {
            FieldId::Other
            | FieldId::UserAgent
            | FieldId::ContentType
            | FieldId::Accept
            | FieldId::Cookie
            | FieldId::Origin => true,
            FieldId::Authorization => !cx.drop_authorization,
            FieldId::Underscore => cx.allow_underscores,
            FieldId::Identity => cx.trusted && is_forwarding(name),
            _ => false,
        };
        // What a trusted proxy says cannot be nominated away either (§0.5).
        let nominated = nominates && id != FieldId::Identity && view.fields.nominated(name);
        if keep && !nominated && !dropped(cx.edits, name) {
            field(out, name, value);
        }
    });
    // Our own word: TE holds for one connection. gRPC demands it to the end, and gets trailers.
    if wants_trailers && view.is_grpc() && !dropped(cx.edits, b"te") {
        field(out, b"TE", b"trailers");
    }
    write_framing(out, view);
    write_identity(out, view, cx);
    out.extend_from_slice(&cx.edits.lines);
    out.extend_from_slice(b"\r\n");
}

fn lists_trailers(te: &[u8]) -> bool {
    members(te).any(|member| member.eq_ignore_ascii_case(b"trailers"))
}

fn write_framing<F: FieldSource>(out: &mut Vec<u8>, view: &HeadView<'_, F>) {
    match view.body {
        // A method that usually has a body says so when it has none (RFC 9110 §8.6).
        BodyLength::Sized(0) => {
            let announced = view.fields.get(FieldId::ContentLength).is_some();
            if announced || matches!(view.method, "POST" | "PUT" | "PATCH") {
                field(out, b"Content-Length", b"0");
            }
        }
        BodyLength::Sized(n) => number_field(out, b"Content-Length", n),
        BodyLength::Chunked | BodyLength::UntilClose => {
            field(out, b"Transfer-Encoding", b"chunked");
        }
    }
    if view.websocket {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    }
}

fn write_identity<F: FieldSource>(
    out: &mut Vec<u8>,
    view: &HeadView<'_, F>,
    cx: &RequestContext<'_>,
) {
    let peer = cx.client.peer_text.as_bytes();
    out.extend_from_slice(b"X-Forwarded-For: ");
    if cx.trusted {
        // Several fields are one list (RFC 9110 §5.2).
        view.fields.each(|id, _, hops| {
            if id == FieldId::XForwardedFor {
                out.extend_from_slice(hops);
                out.extend_from_slice(b", ");
            }
        });
    }
    out.extend_from_slice(peer);
    out.extend_from_slice(b"\r\n");
    let mut own = |name: &'static str, value: &[u8]| {
        // A trusted proxy's word was passed on above.
        if !(cx.trusted && view.fields.find(name).is_some()) {
            field(out, name.as_bytes(), value);
        }
    };
    own("X-Forwarded-Proto", cx.client.scheme().as_bytes());
    own("X-Forwarded-Host", view.authority);
    if cx.origin == cx.client.peer {
        own("X-Real-IP", peer);
    } else {
        own("X-Real-IP", cx.origin.to_string().as_bytes());
    }
    if let Some(prefix) = cx.prefix {
        own("X-Forwarded-Prefix", prefix);
    }
    if !(cx.trusted && view.fields.find("X-Forwarded-Port").is_some()) {
        number_field(out, b"X-Forwarded-Port", u64::from(cx.public_port));
    }
    field(out, b"X-Request-Id", cx.request_id);
}

/// Forwarding fields that a trusted proxy may set; the rest of the identity family (X-Original-URL
/// and the like) is never believed.
fn is_forwarding(name: &[u8]) -> bool {
    let starts = name.get(..12).is_some_and(|head| head.eq_ignore_ascii_case(b"x-forwarded-"));
    starts || name.eq_ignore_ascii_case(b"x-real-ip") || name.eq_ignore_ascii_case(b"forwarded")
}

pub fn dropped(edits: &Edits, name: &[u8]) -> bool {
    edits.drop.contains(name)
}

/// How the body of a response reaches an HTTP/1.1 client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// 204, 1xx: neither length nor body.
    None,
    /// HEAD and 304: the endpoint's Content-Length describes what is not sent.
    Announced,
    Length(u64),
    Chunked,
    /// HTTP/1.0: the end of the connection ends the body.
    Close,
}

/// What the response head depends on besides the endpoint's head.
pub struct ResponseContext<'a> {
    pub framing: ResponseFraming,
    /// The client connection ends after this response.
    pub close: bool,
    /// An HTTP/1.0 client that asked for keep-alive gets it confirmed.
    pub confirm_keep_alive: bool,
    /// 101: the connection becomes a tunnel.
    pub websocket: bool,
    pub edits: &'a Edits,
    /// Fields of this one response.
    pub own: Option<&'a Edits>,
    /// A finished `Strict-Transport-Security` line, where the route sets it.
    pub hsts: Option<&'a [u8]>,
    /// `Set-Cookie` of the edge itself (sticky clients), value only.
    pub cookie: Option<&'a str>,
}

/// Writes the head that the client gets.
pub fn write_response(out: &mut Vec<u8>, head: &ResponseHead<'_, '_>, cx: &ResponseContext<'_>) {
    status_line(out, head.status, head.reason);
    let present = write_response_fields(out, &head.fields, head.connection.nominates, cx);
    match cx.framing {
        ResponseFraming::None | ResponseFraming::Close => {}
        ResponseFraming::Announced => {
            if let Some(length) = head.framing.content_length {
                field(out, b"Content-Length", length);
            }
        }
        ResponseFraming::Length(n) => number_field(out, b"Content-Length", n),
        ResponseFraming::Chunked => field(out, b"Transfer-Encoding", b"chunked"),
    }
    if cx.websocket {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    } else if cx.close {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if cx.confirm_keep_alive {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    cx.edits.absent.write_lacking(present, out);
    out.extend_from_slice(&cx.edits.lines);
    if let Some(own) = cx.own {
        out.extend_from_slice(&own.lines);
    }
    if let Some(line) = cx.hsts {
        out.extend_from_slice(line);
    }
    if let Some(cookie) = cx.cookie {
        field(out, b"Set-Cookie", cookie.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim response (103 and the like) as it is, less what is hop-by-hop.
pub fn write_interim(out: &mut Vec<u8>, head: &ResponseHead<'_, '_>) {
    status_line(out, head.status, head.reason);
    let cx = ResponseContext {
        framing: ResponseFraming::None,
        close: false,
        confirm_keep_alive: false,
        websocket: false,
        edits: &Edits::default(),
        own: None,
        hsts: None,
        cookie: None,
    };
    write_response_fields(out, &head.fields, head.connection.nominates, &cx);
    out.extend_from_slice(b"\r\n");
}

/// Returns which of the fields that are set where they lack are there.
fn write_response_fields(
    out: &mut Vec<u8>,
    fields: &Fields<'_, '_>,
    nominates: bool,
    cx: &ResponseContext<'_>,
) -> Present {
    let mut present = Present::default();
    for (id, name, value) in fields.iter() {
        let replaced = cx.hsts.is_some() && name.eq_ignore_ascii_case("strict-transport-security");
        let nominated = nominates && fields.nominated(name);
        if response_field_passes(id)
            && !replaced
            && !nominated
            && !dropped(cx.edits, name.as_bytes())
        {
            field(out, name.as_bytes(), value);
            cx.edits.absent.see(name.as_bytes(), &mut present);
        }
    }
    present
}

/// Whether a response field of this kind goes to the client (framing is written anew).
pub fn response_field_passes(id: FieldId) -> bool {
    !matches!(
        id,
        FieldId::Connection
            | FieldId::HopByHop
            | FieldId::TransferEncoding
            | FieldId::ContentLength
            | FieldId::Upgrade
            | FieldId::Te
    )
}

fn status_line(out: &mut Vec<u8>, status: u16, reason: &str) {
    if status == 200 && reason == "OK" {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::model::{HeaderEdits, SecurityHeaders};

    use crate::filter::security;
    use crate::http1::head::{FieldSlots, HeadLimits, parse_request, parse_response};
    use crate::request::admit::admit_h1;
    use crate::route::edits::Names;

    /// The values of TE that the endpoint gets.
    fn te(fields: &str, edits: &Edits) -> Vec<String> {
        let head = format!("POST /s/m HTTP/1.1\r\nHost: app.openclaw.example\r\n{fields}\r\n");
        let limits = HeadLimits { head_bytes: 9999, fields: 99, target_bytes: 9999 };
        let mut slots = FieldSlots::new();
        let head = parse_request(head.as_bytes(), limits, &mut slots).unwrap().unwrap();
        let view = admit_h1(&head).unwrap();
        let client = Client::new(0, ([192, 0, 2, 1], 4000).into(), None);
        let cx = RequestContext {
            client: &client,
            trusted: false,
            origin: client.peer,
            request_id: b"id1",
            public_port: 80,
            allow_underscores: false,
            edits,
            drop_authorization: false,
            prefix: None,
        };
        let mut out = Vec::new();
        write_request(&mut out, &view, &cx);
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains("\r\nConnection"), "{text}");
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(name, _)| *name == "TE").map(|(_, value)| value.to_owned()).collect()
    }

    #[test]
    fn calls_get_their_trailers() {
        let none = Edits::default();
        let grpc = "Content-Type: application/grpc\r\n";
        for wish in [
            "te: trailers\r\n",
            "TE: Trailers\r\nConnection: TE\r\n",
            "TE: gzip;q=0.5 , trailers\r\n",
            "TE: deflate\r\nTE: trailers\r\n",
        ] {
            assert_eq!(te(&format!("{wish}{grpc}"), &none), ["trailers"], "{wish}");
            // To others it is hop-by-hop.
            assert!(te(wish, &none).is_empty(), "{wish}");
            assert!(te(&format!("{wish}Content-Type: text/plain\r\n"), &none).is_empty());
            let removed = Edits { drop: Names::of(["te"]), ..Edits::default() };
            assert!(te(&format!("{wish}{grpc}"), &removed).is_empty(), "{wish}");
        }
        for other in ["", "TE: gzip\r\n", "TE: trailers;q=1\r\n", "TE: xtrailers\r\n", "TE:\r\n"] {
            assert!(te(&format!("{other}{grpc}"), &none).is_empty(), "{other}");
        }
    }

    /// The names that the client gets of a response with these fields.
    fn names(fields: &str, edits: &Edits) -> Vec<String> {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let mut slots = FieldSlots::new();
        let head = parse_response(head.as_bytes(), 9999, &mut slots).unwrap().unwrap();
        let cx = ResponseContext {
            framing: ResponseFraming::Length(0),
            close: false,
            confirm_keep_alive: false,
            websocket: false,
            edits,
            own: None,
            hsts: None,
            cookie: None,
        };
        let mut out = Vec::new();
        write_response(&mut out, &head, &cx);
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn fields_are_added_where_they_are_missing() {
        let absent = security::absent(SecurityHeaders::Basic, &HeaderEdits::default());
        let mut edits = Edits { absent, ..Edits::default() };
        let (length, nosniff) = ("Content-Length", "X-Content-Type-Options");
        let (frame, referrer) = ("X-Frame-Options", "Referrer-Policy");
        let own = "x-frame-options: DENY\r\n";
        assert_eq!(names("", &edits), [length, nosniff, frame, referrer]);
        assert_eq!(names(own, &edits), ["x-frame-options", length, nosniff, referrer]);
        // One that does not go on is missing.
        let nominated = format!("{own}Connection: X-Frame-Options\r\n");
        assert_eq!(names(&nominated, &edits), [length, nosniff, frame, referrer]);
        edits.drop = Names::of(["x-frame-options"]);
        assert_eq!(names(own, &edits), [length, nosniff, frame, referrer]);
        assert_eq!(names(own, &Edits::default()), ["x-frame-options", length]);
    }
}
