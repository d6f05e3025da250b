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
    let detail = if rejection.detail.is_empty() {
        String::new()
    } else {
        format!(" ({})", rejection.detail)
    };
    let limit = limit.map(|name| format!("limit: {name}\n")).unwrap_or_default();
    let wait = retry_after.map(|wait| format!("retry after: {wait} s\n")).unwrap_or_default();
    format!(
        "{status} {}\n\n{}\ncause: {}{detail}\n{limit}{wait}request id: {id}\n",
        reason_phrase(*status),
        cause.text(),
        cause.code(),
    )
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
/// `code` (openai-python `_exceptions.py:APIError`).
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
        error: ClientError { message: cause.text(), r#type: client_type, code, param: None },
    };
    // Strings, numbers and nulls cannot fail to be written.
    serde_json::to_vec(&problem).unwrap_or_default()
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

/// RFC 9562 §4, with or without hyphens' places checked: 8-4-4-4-12 hexadecimal digits.
fn is_uuid(id: &str) -> bool {
    let digit = |at: usize, b: u8| match at {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    };
    id.len() == 36 && id.bytes().enumerate().all(|(at, b)| digit(at, b))
}
