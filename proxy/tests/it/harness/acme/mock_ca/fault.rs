//! What an endpoint may do instead of its work.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::answer::{Answer, Problem};

#[derive(Clone, Debug)]
pub enum Fault {
    /// This instead; nothing is done.
    Answer(Answer),
    /// Never answers; nothing is done.
    Hang,
    /// Ends the connection; nothing is done.
    Close,
    /// Does the work and never answers.
    DoneThenHang,
}

impl Fault {
    pub fn problem(problem: Problem) -> Fault {
        Fault::Answer(problem.into())
    }

    /// 429 `rateLimited`; Retry-After in seconds or as a date ([`http_date`]).
    pub fn rate_limited(retry_after: impl Into<String>) -> Fault {
        let problem = Problem::new(429, "rateLimited", "too many requests of this kind");
        Fault::problem(problem.retry_after(retry_after))
    }

    /// 429 that tells the time only in its words, as Let's Encrypt's older answers.
    pub fn rate_limited_in_words(retry_after: &str) -> Fault {
        let detail = format!("too many certificates already issued: retry after {retry_after}");
        Fault::problem(Problem::new(429, "rateLimited", detail))
    }

    /// 503 as Let's Encrypt's load balancers give it: no problem document.
    pub fn overloaded(retry_after: impl Into<String>) -> Fault {
        Fault::Answer(Answer::empty(503).field("retry-after", retry_after))
    }

    /// 503 with nothing at all.
    pub fn empty_503() -> Fault {
        Fault::Answer(Answer::empty(503))
    }

    pub fn html_502() -> Fault {
        let page = "<html><body><h1>502 Bad Gateway</h1></body></html>";
        Fault::Answer(Answer::new(502, "text/html", page))
    }

    /// 500 `serverInternal`.
    pub fn internal() -> Fault {
        Fault::problem(Problem::new(500, "serverInternal", "something is broken here"))
    }

    pub fn bad_nonce() -> Fault {
        Fault::problem(Problem::new(400, "badNonce", "this nonce is not known"))
    }

    pub fn redirect(to: &str) -> Fault {
        Fault::Answer(Answer::empty(302).field("location", to))
    }
}

/// Unix seconds as IMF-fixdate, for Retry-After and Date.
pub fn http_date(at: i64) -> String {
    let date = OffsetDateTime::from_unix_timestamp(at).unwrap();
    date.format(&Rfc2822).unwrap().replace("+0000", "GMT")
}
