//! What went wrong with the CA, in a form that the schedule can act on and a person can read.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::http::Fault;
use super::problem::{self, Problem};
use super::text::{MAX_DETAIL, clean};

/// One failed step of the conversation with a CA. Everything in it that the CA wrote is cleaned
/// and bounded; it never holds a key or a credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub class: Class,
    pub step: Step,
    /// The name of the certificate that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The CA's own word for it, `urn:ietf:params:acme:error:dns` (RFC 8555 §6.7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The CA's explanation, or ours where it gave none. One line, at most 500 characters.
    pub detail: String,
    /// Of the HTTP answer, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subproblems: Vec<SubProblem>,
    /// Not before this time, says the CA; Unix seconds of our clock, within 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<i64>,
}

/// A part of a problem that is about one name (RFC 8555 §6.7.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubProblem {
    pub name: Option<String>,
    pub problem: Option<String>,
    pub detail: String,
}

/// What a failure means for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The CA looked at the name and did not find what it should. Counted by the CA.
    Validation,
    RateLimited,
    /// The network, the CA or something before it: not about us, try again.
    Unavailable,
    /// The CA will say no again until somebody changes something.
    Refused,
    /// The CA does not know the account: register again.
    AccountGone,
    /// The order is of no use any more: begin a new one.
    OrderGone,
    /// Our own files, keys or settings; the CA was not asked.
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Directory,
    Register,
    NewOrder,
    /// Reading an order that was made earlier.
    Resume,
    Authorize,
    Validate,
    Finalize,
    Download,
    RenewalInfo,
    Revoke,
}

impl Failure {
    /// Of our own making.
    pub(crate) fn new(class: Class, step: Step, detail: impl fmt::Display) -> Failure {
        Failure {
            class,
            step,
            name: None,
            problem: None,
            detail: clean(&detail.to_string(), MAX_DETAIL),
            status: None,
            subproblems: Vec::new(),
            retry_at: None,
        }
    }

    pub(super) fn from_acme(step: Step, error: instant_acme::Error) -> Failure {
        use instant_acme::Error;
        match error {
            Error::Api(problem) => Failure::from_problem(step, Problem::from(problem), None, None),
            Error::Other(other) => match other.downcast::<Fault>() {
                Ok(fault) => Failure::from_fault(step, *fault),
                Err(other) => Failure::new(Class::Unavailable, step, other),
            },
            Error::Json(error) => {
                // JSON, but no order: one in a state that RFC 8555 does not know. Anything else
                // (a login page, half an answer) is about the way there.
                let of_an_order =
                    matches!(step, Step::Resume | Step::Validate | Step::Finalize | Step::Download);
                let class = match of_an_order && error.is_data() {
                    true => Class::OrderGone,
                    false => Class::Unavailable,
                };
                let why = format_args!("the answer is not what RFC 8555 asks for: {error}");
                Failure::new(class, step, why)
            }
            Error::Crypto | Error::KeyRejected => {
                Failure::new(Class::Local, step, "the account's key cannot be used")
            }
            Error::Unsupported(what) => {
                Failure::new(Class::Refused, step, format_args!("the CA does not support {what}"))
            }
            Error::Str(what) => {
                Failure::new(Class::Unavailable, step, format_args!("incomplete answer: {what}"))
            }
            other => Failure::new(Class::Unavailable, step, other),
        }
    }

    pub(super) fn from_fault(step: Step, fault: Fault) -> Failure {
        match fault {
            Fault::Network(why) => Failure::new(Class::Unavailable, step, why),
            Fault::Answer { status, retry_at, problem: Some(problem), .. } => {
                Failure::from_problem(step, problem, Some(status), retry_at)
            }
            Fault::Answer { status, retry_at, problem: None, words } => {
                let class = problem::class_of_status(step, status);
                let mut failure = Failure::new(class, step, words);
                failure.status = Some(status);
                failure.retry_at = retry_at;
                failure
            }
        }
    }

    pub(super) fn from_problem(
        step: Step,
        problem: Problem,
        status: Option<u16>,
        retry_at: Option<i64>,
    ) -> Failure {
        let status = status.or(problem.status);
        Failure {
            class: problem::classify(step, &problem, status),
            step,
            name: None,
            detail: problem.explanation(),
            problem: problem.kind,
            status,
            subproblems: problem.subproblems,
            retry_at,
        }
    }

    pub(super) fn about(mut self, name: &str) -> Failure {
        self.name = Some(clean(name, 253));
        self
    }

    /// The last word of the CA's type: `dns` of `urn:ietf:params:acme:error:dns`.
    pub fn kind(&self) -> Option<&str> {
        self.problem.as_deref().map(problem::short)
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.problem.as_deref().and_then(problem::of_acme) == Some(kind)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.step.words())?;
        if let Some(name) = &self.name {
            write!(f, " for {name}")?;
        }
        write!(f, " failed: {}", self.detail)?;
        if let Some(kind) = self.kind() {
            write!(f, " ({kind})")?;
        }
        for part in &self.subproblems {
            write!(f, "; {part}")?;
        }
        if let Some(at) = self.retry_at.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok())
        {
            let (date, (hour, minute, second)) = (at.date(), at.to_hms());
            write!(f, "; the CA asks to wait until {date} {hour:02}:{minute:02}:{second:02} UTC")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for SubProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}: ")?;
        }
        f.write_str(&self.detail)?;
        match &self.problem {
            Some(kind) => write!(f, " ({})", problem::short(kind)),
            None => Ok(()),
        }
    }
}

impl Class {
    /// For a metric label: one of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Validation => "validation",
            Class::RateLimited => "rate_limited",
            Class::Unavailable => "unavailable",
            Class::Refused => "refused",
            Class::AccountGone => "account_gone",
            Class::OrderGone => "order_gone",
            Class::Local => "local",
        }
    }
}

impl Step {
    fn words(self) -> &'static str {
        match self {
            Step::Directory => "reading the CA's directory",
            Step::Register => "registering an account",
            Step::NewOrder => "ordering the certificate",
            Step::Resume => "taking up the order",
            Step::Authorize => "reading the authorizations",
            Step::Validate => "validation",
            Step::Finalize => "finalizing the order",
            Step::Download => "fetching the certificate",
            Step::RenewalInfo => "asking for the renewal window",
            Step::Revoke => "revoking the certificate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        let problem = Problem::from_json(
            br#"{"type":"urn:ietf:params:acme:error:compound","detail":"Two\nthings","subproblems":[
            {"type":"urn:ietf:params:acme:error:dns","detail":"NXDOMAIN",
             "identifier":{"type":"dns","value":"app.openclaw.example"}}]}"#,
        )
        .unwrap();
        Failure::from_problem(Step::NewOrder, problem, Some(403), Some(1_795_341_600))
    }

    #[test]
    fn a_person_can_read_it() {
        assert_eq!(
            failure().about("app.openclaw.example").to_string(),
            "ordering the certificate for app.openclaw.example failed: Two things (compound); \
             app.openclaw.example: NXDOMAIN (dns); the CA asks to wait until 2026-11-22 10:00:00 UTC"
        );
    }

    #[test]
    fn it_survives_the_disk() {
        let text = serde_json::to_string(&failure()).unwrap();
        assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure());
        let least = r#"{"class":"local","step":"directory","detail":"x"}"#;
        let expected = Failure::new(Class::Local, Step::Directory, "x");
        assert_eq!(serde_json::from_str::<Failure>(least).unwrap(), expected);
    }

    #[test]
    fn labels_are_those_of_the_disk() {
        for class in [Class::Validation, Class::RateLimited, Class::Unavailable, Class::Refused]
            .into_iter()
            .chain([Class::AccountGone, Class::OrderGone, Class::Local])
        {
            let stored = serde_json::to_string(&class).unwrap();
            assert_eq!(stored, format!("\"{}\"", class.as_str()));
        }
    }
}
