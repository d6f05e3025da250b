//! The edge's own errors in the form that the client takes: problem+json for programs (RFC 9457,
//! with the `error` object that OpenAI clients read), a page for browsers, text for the rest.

use bytes::Bytes;
use config::model;
use serde::Serialize;

use super::page::Page;
use crate::request::cause::Rejection;
use crate::request::respond::reason_phrase;

pub use super::accept::ErrorForm;

/// The `error_pages` of a route, compiled: what holds for each status.
#[derive(Default)]
pub struct Pages(Vec<(u16, Content)>);

#[derive(Default)]
struct Content {
    html: Option<Page>,
    problem_type: Option<Box<str>>,
}

impl Pages {
    /// Of an answer without a route, or with one that has no pages.
    pub const NONE: &'static Pages = &Pages(Vec::new());

    /// The first entry that names a status and has the form counts.
    pub fn compile(entries: &[model::ErrorPage]) -> Pages {
        let mut statuses: Vec<u16> = entries.iter().flat_map(|e| e.statuses.clone()).collect();
        statuses.sort_unstable();
        statuses.dedup();
        let content = |status: u16| {
            let own = || entries.iter().filter(move |entry| entry.statuses.contains(&status));
            Content {
                html: own().find_map(|entry| entry.html.as_deref()).map(Page::parse),
                problem_type: own().find_map(|entry| entry.problem_type.as_deref().map(Into::into)),
            }
        };
        Pages(statuses.into_iter().map(|status| (status, content(status))).collect())
    }

    fn of(&self, status: u16) -> Option<&Content> {
        let at = self.0.binary_search_by_key(&status, |(status, _)| *status).ok()?;
        self.0.get(at).map(|(_, content)| content)
    }
}

/// What an error answer says.
pub struct ErrorAnswer<'a> {
    /// Of the answer: the cause's own, or what the route puts in its place.
    pub status: u16,
    pub rejection: Rejection,
    /// May come from a client behind a trusted proxy: escaped everywhere.
    pub request_id: &'a [u8],
    /// The limit that refuses, by its name.
    pub limit: Option<&'a str>,
    /// Seconds, as in `Retry-After`.
    pub retry_after: Option<u64>,
}

/// Content type and body. The body of a gRPC call's answer is empty: its client looks at
/// `grpc-status` alone ([`crate::request::grpc`]).
pub fn render(form: ErrorForm, pages: &Pages, error: &ErrorAnswer<'_>) -> (&'static str, Bytes) {
    let own = pages.of(error.status);
    match form {
        ErrorForm::Text => ("text/plain; charset=utf-8", text(error).into()),
        ErrorForm::Html => {
            let page = own.and_then(|content| content.html.as_ref()).unwrap_or(Page::built_in());
            ("text/html; charset=utf-8", page.fill(error).into())
        }
        ErrorForm::Problem => {
            let kind = own.and_then(|content| content.problem_type.as_deref());
            ("application/problem+json", problem(error, kind.unwrap_or("about:blank")).into())
        }
        ErrorForm::Grpc => ("application/grpc", Bytes::new()),
    }
}

fn text(error: &ErrorAnswer<'_>) -> String {
    let ErrorAnswer { status, rejection, request_id, limit, retry_after } = error;
    let (cause, id) = (rejection.cause, String::from_utf8_lossy(request_id));
    let detail = in_parentheses(rejection.detail);
    let limit = limit.map(|name| format!("limit: {name}\n")).unwrap_or_default();
    let wait = retry_after.map(|wait| format!("retry after: {wait} s\n")).unwrap_or_default();
    format!(
        "{status} {}\n\n{}\ncause: {}{detail}\n{limit}{wait}request id: {id}\n",
        reason_phrase(*status),
        cause.text(),
        cause.code(),
    )
}

fn in_parentheses(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}

/// RFC 9457 §3.1, and members of our own (§3.2).
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    cause: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cause_detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    request_id: &'a str,
    error: ClientError<'a>,
}

/// `error` as OpenAI's API has it: its clients show `message`, and programs compare `type` and
/// `code` (openai 3.54 `_base_client.py:_make_status_error_from_response`).
#[derive(Serialize)]
struct ClientError<'a> {
    message: &'a str,
    r#type: &'a str,
    code: &'a str,
    /// Always null: no parameter of the request is at fault.
    param: Option<&'a str>,
}

fn problem(error: &ErrorAnswer<'_>, kind: &str) -> Vec<u8> {
    let (cause, id) = (error.rejection.cause, String::from_utf8_lossy(error.request_id));
    let (client_type, code) = client_error(error.status, cause.code());
    let message = message(error.rejection, &id);
    let problem = Problem {
        r#type: kind,
        title: reason_phrase(error.status),
        status: error.status,
        detail: cause.text(),
        instance: is_uuid(&id).then(|| format!("urn:uuid:{id}")),
        cause: cause.code(),
        cause_detail: error.rejection.detail,
        limit: error.limit,
        retry_after: error.retry_after,
        request_id: &id,
        error: ClientError { message: &message, r#type: client_type, code, param: None },
    };
    // Strings, numbers and nulls cannot fail to be written.
    serde_json::to_vec(&problem).unwrap_or_default()
}

/// The one line that OpenAI clients show: everything to ask an operator with.
fn message(Rejection { cause, detail }: Rejection, id: &str) -> String {
    let detail = in_parentheses(detail);
    format!("{} cause: {}{detail}, request id: {id}", cause.text(), cause.code())
}

/// `type` and `code` of [`ClientError`]: OpenAI's own words where it has some.
fn client_error(status: u16, cause: &'static str) -> (&'static str, &'static str) {
    match status {
        429 => ("rate_limit_exceeded", "rate_limit_exceeded"),
        401 => ("authentication_error", cause),
        403 => ("permission_error", cause),
        400..=499 => ("invalid_request_error", cause),
        _ => ("server_error", cause),
    }
}

/// RFC 9562 §4: 8-4-4-4-12 hexadecimal digits.
fn is_uuid(id: &str) -> bool {
    let digit = |at: usize, b: u8| match at {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    };
    id.len() == 36 && id.bytes().enumerate().all(|(at, b)| digit(at, b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::request::cause::Cause;

    fn error(status: u16, cause: Cause, request_id: &[u8]) -> ErrorAnswer<'_> {
        let rejection = Rejection { cause, detail: "" };
        ErrorAnswer { status, rejection, request_id, limit: None, retry_after: None }
    }

    fn problem_of(pages: &Pages, error: &ErrorAnswer<'_>) -> Value {
        let (kind, body) = render(ErrorForm::Problem, pages, error);
        assert_eq!(kind, "application/problem+json");
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn a_problem_says_it_to_every_program() {
        let id = "0192f1c4-7b1e-7cc3-98c4-dc0c0c07398f";
        let said = ErrorAnswer {
            limit: Some("credential"),
            retry_after: Some(7),
            rejection: Rejection { cause: Cause::OverCapacity, detail: "streams" },
            ..error(429, Cause::OverCapacity, id.as_bytes())
        };
        let expected = json!({
            "type": "about:blank",
            "title": "Too Many Requests",
            "status": 429,
            "detail": "Too much is under way; try again.",
            "instance": format!("urn:uuid:{id}"),
            "cause": "over_capacity",
            "cause_detail": "streams",
            "limit": "credential",
            "retry_after": 7,
            "request_id": id,
            "error": {
                "message": format!(
                    "Too much is under way; try again. cause: over_capacity (streams), \
                     request id: {id}"
                ),
                "type": "rate_limit_exceeded",
                "code": "rate_limit_exceeded",
                "param": null,
            },
        });
        assert_eq!(problem_of(Pages::NONE, &said), expected);

        let plain = problem_of(Pages::NONE, &error(404, Cause::NoRoute, b"id1"));
        let members: Vec<&String> = plain.as_object().unwrap().keys().collect();
        assert!(
            !members.iter().any(|m| ["instance", "limit", "retry_after"].contains(&m.as_str()))
        );
        assert_eq!(plain["error"]["code"], "no_route");
    }

    #[test]
    fn clients_are_told_in_words_that_they_know() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (403, "permission_error"),
            (404, "invalid_request_error"),
            (429, "rate_limit_exceeded"),
            (502, "server_error"),
        ] {
            let problem = problem_of(Pages::NONE, &error(status, Cause::Internal, b"id1"));
            assert_eq!(problem["error"]["type"], kind, "{status}");
        }
    }

    #[test]
    fn text_is_for_people_with_a_terminal() {
        let said = ErrorAnswer {
            limit: Some("client_ip"),
            retry_after: Some(3),
            rejection: Rejection { cause: Cause::OverCapacity, detail: "streams" },
            ..error(503, Cause::OverCapacity, b"id1")
        };
        let (kind, body) = render(ErrorForm::Text, Pages::NONE, &said);
        assert_eq!(kind, "text/plain; charset=utf-8");
        let text = "503 Service Unavailable\n\nToo much is under way; try again.\n\
            cause: over_capacity (streams)\nlimit: client_ip\nretry after: 3 s\n\
            request id: id1\n";
        assert_eq!(body, text);
        let (kind, body) = render(ErrorForm::Grpc, Pages::NONE, &said);
        assert_eq!((kind, body.len()), ("application/grpc", 0));
    }

    #[test]
    fn a_route_has_its_own_pages_by_status() {
        let entry = |statuses: &[u16], html: Option<&str>, kind: Option<&str>| model::ErrorPage {
            statuses: statuses.to_vec(),
            html: html.map(str::to_owned),
            problem_type: kind.map(str::to_owned),
        };
        let pages = Pages::compile(&[
            entry(&[504, 502], Some("<p>{status}</p>"), None),
            entry(&[404, 502], Some("late"), Some("https://docs.openclaw.example/x")),
        ]);
        let html = |status| {
            let (_, body) = render(ErrorForm::Html, &pages, &error(status, Cause::Internal, b"i"));
            String::from_utf8(body.to_vec()).unwrap()
        };
        assert_eq!([502, 504, 404].map(html), ["<p>502</p>", "<p>504</p>", "late"]);
        assert!(html(503).contains("<h1>503 Service Unavailable</h1>"));
        let kind = |status| {
            let problem = problem_of(&pages, &error(status, Cause::Internal, b"i"));
            problem["type"].as_str().unwrap().to_owned()
        };
        let (docs, blank) = ("https://docs.openclaw.example/x", "about:blank");
        assert_eq!([502, 504, 404, 503].map(kind), [docs, blank, docs, blank]);
    }

    #[test]
    fn only_a_uuid_is_an_instance() {
        assert!(is_uuid("0192F1c4-7b1e-7cc3-98c4-dc0c0c07398f"));
        for other in [
            "",
            "0192f1c47b1e7cc398c4dc0c0c07398f",
            "0192f1c4-7b1e-7cc3-98c4-dc0c0c07398g",
            "0192f1c4-7b1e-7cc3-98c4-dc0c0c07398f0",
            "0192f1c4_7b1e-7cc3-98c4-dc0c0c07398f",
            "0192f1c47b1e--7cc3-98c4-dc0c0c07398f",
        ] {
            assert!(!is_uuid(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_request_id_gets_out_of_its_string(
            id in prop::collection::vec(any::<u8>(), 0..40),
            quoted in "[\"\\\\{}<>,: a-z]{0,40}",
        ) {
            for id in [&id, quoted.as_bytes()] {
                let shown = String::from_utf8_lossy(id).into_owned();
                let problem = problem_of(Pages::NONE, &error(502, Cause::ConnectFailed, id));
                prop_assert_eq!(&problem["request_id"], &Value::String(shown));
                prop_assert_eq!(problem.as_object().unwrap().len(), 7);
                prop_assert_eq!(&problem["cause"], "connect_failed");
            }
        }
    }
}
