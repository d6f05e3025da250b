//! Answers that the edge gives by itself, the only place that mints a status. One content for
//! every protocol, for gRPC in its own words; [`write_h1`] and [`to_http`] put it into the respective form.

use bytes::Bytes;

use super::cause::{Cause, Rejection};
use super::grpc;
use super::plan::{Answer, AnswerKind};
use crate::http1::write::{field, number_field};
use crate::route::table::{Action, Respond};

/// A finished answer, independent of the protocol.
pub struct Reply {
    pub status: u16,
    pub content_type: Option<String>,
    pub location: Option<Vec<u8>>,
    pub proxy_status: Option<String>,
    /// An answer to a CA: exactly the bytes, for nobody to keep or to interpret.
    pub challenge: bool,
    pub retry_after: bool,
    pub request_id: Vec<u8>,
    pub body: Bytes,
    pub cause: Option<Rejection>,
    /// Fields of an answer to a gRPC call.
    pub grpc: Option<GrpcStatus>,
}

/// `grpc-status` and `grpc-message`.
pub struct GrpcStatus {
    pub code: u8,
    pub message: String,
}

impl Reply {
    /// `grpc`: to a gRPC call. What a route says by itself is HTTP for everybody.
    pub fn of(answer: &Answer, request_id: &[u8], grpc: bool) -> Reply {
        match (&answer.kind, answer.route.as_ref().map(|r| &r.action)) {
            (AnswerKind::Reject(rejection), _) if grpc => {
                Reply::reject_call(*rejection, request_id)
            }
            (AnswerKind::Reject(rejection), _) => Reply::reject(*rejection, request_id),
            (AnswerKind::Redirect { status, location }, _) => Reply {
                location: Some(location.clone()),
                ..Reply::plain(*status, request_id, Bytes::new())
            },
            (AnswerKind::Challenge(key), _) => Reply::challenge(key, request_id),
            (AnswerKind::Respond, Some(Action::Respond(fixed))) => Reply::fixed(fixed, request_id),
            (AnswerKind::Respond, _) => Reply::reject(Cause::Internal.into(), request_id),
        }
    }

    pub fn reject(rejection: Rejection, request_id: &[u8]) -> Reply {
        let cause = rejection.cause;
        let detail = if rejection.detail.is_empty() {
            String::new()
        } else {
            format!(" ({})", rejection.detail)
        };
        let id = String::from_utf8_lossy(request_id);
        let body = format!(
            "{} {}\n\n{}\ncause: {}{detail}\nrequest id: {id}\n",
            cause.status(),
            reason_phrase(cause.status()),
            cause.text(),
            cause.code(),
        );
        Reply {
            content_type: Some("text/plain; charset=utf-8".to_owned()),
            proxy_status: Some(format!(
                "openclaw-edge; error={}; details=\"{}{detail}\"",
                cause.proxy_error(),
                cause.code(),
            )),
            retry_after: cause.status() == 503,
            cause: Some(rejection),
            ..Reply::plain(cause.status(), request_id, body.into())
        }
    }

    /// The same for a gRPC call, whose clients look at nothing but its own status. It is all there
    /// is of the answer (`Trailers-Only`).
    fn reject_call(rejection: Rejection, request_id: &[u8]) -> Reply {
        let status = GrpcStatus {
            code: grpc::status(rejection.cause),
            message: grpc::message(rejection, request_id),
        };
        Reply {
            status: 200,
            content_type: Some("application/grpc".to_owned()),
            retry_after: false,
            grpc: Some(status),
            body: Bytes::new(),
            ..Reply::reject(rejection, request_id)
        }
    }

    fn fixed(fixed: &Respond, request_id: &[u8]) -> Reply {
        Reply {
            content_type: fixed.content_type.as_deref().map(str::to_owned),
            ..Reply::plain(fixed.status, request_id, fixed.body.clone())
        }
    }

    fn challenge(key_authorization: &str, request_id: &[u8]) -> Reply {
        let body = Bytes::copy_from_slice(key_authorization.as_bytes());
        Reply {
            content_type: Some("application/octet-stream".to_owned()),
            challenge: true,
            ..Reply::plain(200, request_id, body)
        }
    }

    fn plain(status: u16, request_id: &[u8], body: Bytes) -> Reply {
        Reply {
            status,
            content_type: None,
            location: None,
            proxy_status: None,
            challenge: false,
            retry_after: false,
            request_id: request_id.to_vec(),
            body,
            cause: None,
            grpc: None,
        }
    }

    fn has_body(&self) -> bool {
        self.status != 204 && self.status != 304
    }

    /// Fields in order, without framing and Date.
    fn each_field(&self, mut each: impl FnMut(&'static str, &[u8])) {
        if let Some(location) = &self.location {
            each("location", location);
        }
        if let Some(content_type) = &self.content_type {
            each("content-type", content_type.as_bytes());
        }
        if let Some(proxy_status) = &self.proxy_status {
            each("proxy-status", proxy_status.as_bytes());
            each("cache-control", b"no-store");
        }
        if self.challenge {
            each("x-content-type-options", b"nosniff");
            each("cache-control", b"no-store");
        }
        if self.retry_after {
            each("retry-after", b"1");
        }
        if let Some(status) = &self.grpc {
            each("grpc-status", itoa::Buffer::new().format(status.code).as_bytes());
            each("grpc-message", status.message.as_bytes());
        }
        if self.status == 405 && self.cause.is_some() {
            each("allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        }
        each("x-request-id", &self.request_id);
    }
}

/// Appends the answer in HTTP/1.1 form. Returns the body bytes among what was appended.
pub fn write_h1(
    out: &mut Vec<u8>,
    reply: &Reply,
    date: impl FnOnce(&mut Vec<u8>),
    head_request: bool,
    close: bool,
    extra_lines: &[u8],
) -> usize {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(reply.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(reply.status).as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    date(out);
    out.extend_from_slice(b"\r\n");
    reply.each_field(|name, value| field(out, name.as_bytes(), value));
    if reply.has_body() {
        number_field(out, b"content-length", reply.body.len() as u64);
    }
    if close {
        field(out, b"connection", b"close");
    }
    out.extend_from_slice(extra_lines);
    out.extend_from_slice(b"\r\n");
    if head_request || !reply.has_body() {
        return 0;
    }
    out.extend_from_slice(&reply.body);
    reply.body.len()
}

/// The answer as an HTTP/2 response head; the body is `reply.body`.
pub fn to_http(reply: &Reply, date: &str) -> http::Response<()> {
    let mut response = http::Response::new(());
    *response.status_mut() =
        http::StatusCode::from_u16(reply.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let fields = response.headers_mut();
    if let Ok(date) = http::HeaderValue::from_str(date) {
        fields.insert(http::header::DATE, date);
    }
    reply.each_field(|name, value| {
        if let Ok(value) = http::HeaderValue::from_bytes(value) {
            fields.append(name, value);
        }
    });
    if reply.has_body() && reply.grpc.is_none() {
        fields.insert(http::header::CONTENT_LENGTH, reply.body.len().into());
    }
    response
}

pub fn reason_phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_names_its_cause_everywhere() {
        let reply = Reply::reject(Rejection::bad("host"), b"id1");
        let mut out = Vec::new();
        let n = write_h1(&mut out, &reply, |o| o.extend_from_slice(b"now"), false, true, b"");
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\nDate: now\r\n"), "{text}");
        let line = "proxy-status: openclaw-edge; error=http_request_error; details=\"bad_request";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("connection: close\r\n"));
        assert!(text.ends_with("request id: id1\n") && n > 0);
        for cause in Cause::ALL {
            assert!(!cause.text().is_empty() && cause.status() >= 400);
        }
    }

    #[test]
    fn a_call_is_told_in_its_own_words() {
        let rejection = Rejection { cause: Cause::NoEndpoint, detail: "unhealthy" };
        let answer = Answer::reject(None, rejection);
        let reply = Reply::of(&answer, b"id1", true);
        assert_eq!(reply.cause, Some(rejection));
        let mut out = Vec::new();
        let n = write_h1(&mut out, &reply, |o| o.extend_from_slice(b"now"), false, false, b"");
        let text = "HTTP/1.1 200 OK\r\nDate: now\r\ncontent-type: application/grpc\r\n\
            proxy-status: openclaw-edge; error=destination_unavailable; \
            details=\"no_endpoint (unhealthy)\"\r\ncache-control: no-store\r\ngrpc-status: 14\r\n\
            grpc-message: No endpoint is available. cause: no_endpoint (unhealthy), \
            request id: id1\r\nx-request-id: id1\r\ncontent-length: 0\r\n\r\n";
        assert_eq!((String::from_utf8(out).unwrap(), n), (text.to_owned(), 0));
        let response = to_http(&reply, "now");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert!(!response.headers().contains_key("content-length"));
        assert!(reply.body.is_empty());

        let fixed = Answer { route: None, kind: AnswerKind::Challenge("key".to_owned()) };
        assert!(Reply::of(&fixed, b"id1", true).grpc.is_none());
        for cause in Cause::ALL {
            let reply = Reply::of(&Answer::reject(None, *cause), b"id1", true);
            assert_eq!(reply.status, 200);
            assert!(reply.grpc.is_some_and(|status| status.code != 0), "{}", cause.code());
        }
    }

    #[test]
    fn a_ca_gets_exactly_the_key_authorization() {
        let answer = Answer { route: None, kind: AnswerKind::Challenge("token.thumb".to_owned()) };
        let reply = Reply::of(&answer, b"id1", false);
        let mut out = Vec::new();
        let n = write_h1(&mut out, &reply, |o| o.extend_from_slice(b"now"), false, false, b"");
        let text = "HTTP/1.1 200 OK\r\nDate: now\r\ncontent-type: application/octet-stream\r\n\
            x-content-type-options: nosniff\r\ncache-control: no-store\r\nx-request-id: id1\r\n\
            content-length: 11\r\n\r\ntoken.thumb";
        assert_eq!(String::from_utf8(out).unwrap(), text);
        assert_eq!(n, 11);
        let mut head = Vec::new();
        assert_eq!(
            write_h1(&mut head, &reply, |o| o.extend_from_slice(b"now"), true, false, b""),
            0
        );
        assert_eq!(String::from_utf8(head).unwrap(), text.replace("token.thumb", ""));
        let response = to_http(&reply, "now");
        assert_eq!(response.headers()["content-length"], "11");
        assert_eq!(response.headers()["cache-control"], "no-store");
    }
}
