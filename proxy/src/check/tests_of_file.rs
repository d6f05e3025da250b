//! The `tests:` of a config file: each request goes through the steps that decide about a real one,
//! without a connection.

use std::fmt;

use config::error::Diagnostic;
use config::merge::Accepted;
use config::model::{Expectation, TestCase};

use super::listener_of;
use crate::http1::field::FieldId;
use crate::http1::framing::BodyLength;
use crate::request::admit::admit_h2;
use crate::request::cause::Rejection;
use crate::request::client::Client;
use crate::request::decide::decide;
use crate::request::plan::{Answer, AnswerKind, Decision};
use crate::request::view::FieldSource;
use crate::route::table::{Action, Snapshot};

/// One finding for each test that does not hold.
pub fn run(accepted: &Accepted, snapshot: &Snapshot) -> Vec<Diagnostic> {
    let failed = |(index, case): (usize, &TestCase)| {
        let message = match outcome(case, accepted, snapshot) {
            Ok(outcome) if outcome.meets(&case.expect) => return None,
            Ok(outcome) => format!("{} {}: {outcome}", case.method.as_str(), url(case)),
            Err(why) => why,
        };
        let help = Some(format!("expected: {}", expected(&case.expect)));
        Some(Diagnostic {
            at: format!("tests[{index}]"),
            line: case.line,
            column: 0,
            message,
            help,
        })
    };
    accepted.tests.iter().enumerate().filter_map(failed).collect()
}

/// What happens to a request.
struct Outcome {
    /// The route that takes it.
    route: Option<String>,
    what: What,
}

enum What {
    Forwarded,
    Answered { status: u16, cause: Option<&'static str> },
    Redirected { location: String },
}

fn outcome(case: &TestCase, accepted: &Accepted, snapshot: &Snapshot) -> Result<Outcome, String> {
    let Some((listener, _)) = listener_of(accepted, case.https) else {
        let scheme = if case.https { "https" } else { "http" };
        return Err(format!("no listener speaks {scheme}"));
    };
    // A certificate that covers the host is taken for granted: as on plaintext.
    let client = Client::new(listener, ([127, 0, 0, 1], 0).into(), None);
    let (method, host, target) = (case.method.as_str(), case.host.as_bytes(), &case.target);
    let body = BodyLength::Sized(0);
    let admitted = admit_h2(method, host, target.as_bytes(), body, false, NoFields);
    let decision = match admitted {
        Ok(mut view) => decide(&mut view, &client, snapshot),
        Err(rejection) => Decision::Answer(Answer::reject(None, rejection)),
    };
    Ok(match decision {
        Decision::Forward(plan) => {
            Outcome { route: Some(plan.route.name.to_string()), what: What::Forwarded }
        }
        Decision::Answer(answer) => answered(&answer, case.https),
    })
}

fn answered(answer: &Answer, https: bool) -> Outcome {
    let route = answer.route.as_ref();
    let what = match &answer.kind {
        AnswerKind::Reject(Rejection { cause, .. }) => {
            What::Answered { status: cause.status(), cause: Some(cause.code()) }
        }
        AnswerKind::Redirect { location, .. } => {
            let location = String::from_utf8_lossy(location).into_owned();
            // Without a scheme it keeps the request's.
            let scheme = if https { "https:" } else { "http:" };
            let whole = if location.starts_with("//") { scheme } else { "" };
            What::Redirected { location: format!("{whole}{location}") }
        }
        AnswerKind::Respond => {
            let status = match route.map(|route| &route.action) {
                Some(Action::Respond(fixed)) => fixed.status,
                _ => 0,
            };
            What::Answered { status, cause: None }
        }
    };
    Outcome { route: route.map(|route| route.name.to_string()), what }
}

impl Outcome {
    fn meets(&self, expected: &Expectation) -> bool {
        match (expected, &self.what) {
            (_, What::Answered { status: 503, cause: Some("quarantined") }) => false,
            (Expectation::Route(name), _) => self.route.as_deref() == Some(name.as_str()),
            (Expectation::Redirect(to), What::Redirected { location }) => to == location,
            (Expectation::Status(wanted), What::Answered { status, .. }) => wanted == status,
            _ => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |f: &mut fmt::Formatter<'_>| match &self.route {
            Some(route) => write!(f, " by route {route}"),
            None => Ok(()),
        };
        match &self.what {
            What::Forwarded => f.write_str("forwarded").and_then(|()| by(f)),
            What::Redirected { location } => {
                write!(f, "redirected to {location}").and_then(|()| by(f))
            }
            What::Answered { status, cause } => {
                f.write_str(if cause.is_some() { "refused" } else { "answered" })?;
                by(f)?;
                write!(f, " with {status} {}", cause.unwrap_or_default())
            }
        }
    }
}

fn url(case: &TestCase) -> String {
    let scheme = if case.https { "https" } else { "http" };
    format!("{scheme}://{}{}", case.host, case.target)
}

fn expected(expectation: &Expectation) -> String {
    match expectation {
        Expectation::Route(name) => format!("route {name}"),
        Expectation::Redirect(to) => format!("redirect to {to}"),
        Expectation::Status(status) => format!("status {status}"),
    }
}

/// A head without fields.
struct NoFields;

impl FieldSource for NoFields {
    fn each(&self, _each: impl FnMut(FieldId, &[u8], &[u8])) {}

    fn get(&self, _id: FieldId) -> Option<&[u8]> {
        None
    }

    fn find(&self, _name: &str) -> Option<&[u8]> {
        None
    }

    fn nominated(&self, _name: &[u8]) -> bool {
        false
    }
}
