//! Answers that the edge gives by itself, the only place that mints a status. One content for
//! every protocol, for gRPC in its own words; [`write_h1`] and [`to_http`] put it into the respective form.

use bytes::Bytes;
use config::value::Name;

use super::cause::{Cause, Rejection};
use super::grpc;
use super::plan::{Answer, AnswerKind, Refusal};
use crate::access::credentials::challenge;
use crate::filter::pages::{self, ErrorAnswer, ErrorForm, Pages};
use crate::http1::write::{field, number_field};
use crate::route::table::{Action, Respond, Route};

/// A finished answer, independent of the protocol.
pub struct Reply {
    pub status: u16,
    pub content_type: Option<String>,
    pub location: Option<Vec<u8>>,
    pub proxy_status: Option<String>,
    /// An answer to a CA: exactly the bytes, for nobody to keep or to interpret.
    pub challenge: bool,
    /// Seconds.
    pub retry_after: Option<u64>,
    /// `WWW-Authenticate`.
    pub challenged: Option<String>,
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
    /// In this form as far as the edge itself speaks: what a route says is for everybody alike.
    pub fn of(answer: &Answer, request_id: &[u8], form: ErrorForm) -> Reply {
        let route = answer.route.as_deref();
        match (&answer.kind, route.map(|route| &route.action)) {
            (AnswerKind::Reject(rejection), _) => {
                Reply::refuse(&Refusal::new(*rejection), route, request_id, form)
            }
            (AnswerKind::Refuse(refusal), _) => Reply::refuse(refusal, route, request_id, form),
            (AnswerKind::Redirect { status, location }, _) => Reply {
                location: Some(location.clone()),
                ..Reply::plain(*status, request_id, Bytes::new())
            },
            (AnswerKind::Preflight, _) => Reply::plain(204, request_id, Bytes::new()),
            (AnswerKind::Challenge(key), _) => Reply::challenge(key, request_id),
            (AnswerKind::Respond, Some(Action::Respond(fixed))) => Reply::fixed(fixed, request_id),
            (AnswerKind::Respond, _) => {
                Reply::refuse(&Refusal::new(Cause::Internal), route, request_id, form)
            }
        }
    }

    fn refuse(
        refusal: &Refusal,
        route: Option<&Route>,
        request_id: &[u8],
        form: ErrorForm,
    ) -> Reply {
        if form == ErrorForm::Grpc {
            return Reply::refuse_call(refusal, request_id);
        }
        let said = ErrorAnswer {
            status: refusal.status,
            rejection: refusal.rejection,
            request_id,
            limit: refusal.limit.as_ref().map(Name::as_str),
            retry_after: refusal.retry_after,
        };
        let (content_type, body) =
            pages::render(form, route.map_or(Pages::NONE, |route| &route.pages), &said);
        Reply {
            content_type: Some(content_type.to_owned()),
            ..Reply::fields_of(refusal, refusal.status, request_id, body)
        }
    }

    /// The same for a gRPC call, whose clients look at nothing but its own status. It is all there
    /// is of the answer (`Trailers-Only`).
    fn refuse_call(refusal: &Refusal, request_id: &[u8]) -> Reply {
        let status = GrpcStatus {
            code: grpc::status(refusal.rejection.cause),
            message: grpc::message(refusal.rejection, request_id),
        };
        Reply {
            content_type: Some("application/grpc".to_owned()),
            grpc: Some(status),
            ..Reply::fields_of(refusal, 200, request_id, Bytes::new())
        }
    }

    /// What refusals of every form have.
    fn fields_of(refusal: &Refusal, status: u16, request_id: &[u8], body: Bytes) -> Reply {
        let Rejection { cause, detail } = refusal.rejection;
        let said = match (&refusal.limit, detail) {
            (Some(limit), _) => format!(" ({limit})"),
            (None, "") => String::new(),
            (None, detail) => format!(" ({detail})"),
        };
        Reply {
            proxy_status: Some(format!(
                "openclaw-edge; error={}; details=\"{}{said}\"",
                cause.proxy_error(),
                cause.code(),
            )),
            retry_after: refusal.retry_after.or((status == 503).then_some(1)),
            challenged: refusal.realm.as_deref().map(challenge),
            cause: Some(refusal.rejection),
            ..Reply::plain(status, request_id, body)
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
            retry_after: None,
            challenged: None,
            request_id: request_id.to_vec(),
            body,
            cause: None,
            grpc: None,
        }
    }

    fn has_body(&self) -> bool {
        self.status != 204 && self.status != 304
    }

    /// An error page of our own; what a route answers by itself says its own fields.
    fn is_page(&self) -> bool {
        let html = |kind: &String| kind.starts_with("text/html");
        self.cause.is_some() && self.content_type.as_ref().is_some_and(html)
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
        if self.challenge || self.is_page() {
            each("x-content-type-options", b"nosniff");
        }
        if self.challenge {
            each("cache-control", b"no-store");
        }
        if let Some(seconds) = self.retry_after {
            each("retry-after", itoa::Buffer::new().format(seconds).as_bytes());
        }
        if let Some(challenge) = &self.challenged {
            each("www-authenticate", challenge.as_bytes());
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
        let answer = Answer::reject(None, Rejection::bad("host"));
        let reply = Reply::of(&answer, b"id1", ErrorForm::Text);
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
    fn only_a_page_forbids_to_guess_what_it_is() {
        let answer = Answer::reject(None, Rejection::bad("host"));
        for (form, expected) in
            [(ErrorForm::Html, true), (ErrorForm::Text, false), (ErrorForm::Problem, false)]
        {
            let response = to_http(&Reply::of(&answer, b"id1", form), "now");
            let told = response.headers().get("x-content-type-options");
            assert_eq!(told.is_some_and(|value| value == "nosniff"), expected, "{form:?}");
        }
    }

    #[test]
    fn a_call_is_told_in_its_own_words() {
        let rejection = Rejection { cause: Cause::NoEndpoint, detail: "unhealthy" };
        let answer = Answer::reject(None, rejection);
        let reply = Reply::of(&answer, b"id1", ErrorForm::Grpc);
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

        let fixed = Answer::new(None, AnswerKind::Challenge("key".to_owned()));
        assert!(Reply::of(&fixed, b"id1", ErrorForm::Grpc).grpc.is_none());
        for cause in Cause::ALL {
            let reply = Reply::of(&Answer::reject(None, *cause), b"id1", ErrorForm::Grpc);
            assert_eq!(reply.status, 200);
            assert!(reply.grpc.is_some_and(|status| status.code != 0), "{}", cause.code());
        }
    }

    #[test]
    fn a_ca_gets_exactly_the_key_authorization() {
        let answer = Answer::new(None, AnswerKind::Challenge("token.thumb".to_owned()));
        let reply = Reply::of(&answer, b"id1", ErrorForm::Text);
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
