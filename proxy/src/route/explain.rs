//! `tests:` of a configuration: a request and what must happen to it, answered by the same
//! `decide` that serves traffic.

use std::borrow::Cow;
use std::net::SocketAddr;

use acme::challenge::Challenges;
use config::model::{Expectation, TestCase};

use super::table::Snapshot;
use crate::access::passwords::Passwords;
use crate::downstream::cert_table::CertTable;
use crate::http1::field::FieldId;
use crate::http1::framing::BodyLength;
use crate::http1::head::Expect;
use crate::limit::{KeyHasher, Moment};
use crate::request::admit::host_of;
use crate::request::client::{Client, TlsInfo};
use crate::request::decide::{Tables, decide};
use crate::request::plan::{AnswerKind, Decision};
use crate::request::view::{FieldSource, HeadView};
use crate::route::table::Action;

/// A test that did not hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// Line of the entry in the config file.
    pub line: u64,
    /// `GET https://app.openclaw.example/: expected route app, got 404 no_route`
    pub text: String,
}

/// Runs the tests of a configuration against its compiled table.
pub fn run_tests(snapshot: &Snapshot, tests: &[TestCase]) -> Vec<Failure> {
    tests.iter().filter_map(|test| run(snapshot, test)).collect()
}

fn run(snapshot: &Snapshot, test: &TestCase) -> Option<Failure> {
    let scheme = if test.https { "https" } else { "http" };
    let request = format!("{} {scheme}://{}{}", test.method.as_str(), test.host, test.target);
    let expected = match &test.expect {
        Expectation::Route(name) => format!("route {name}"),
        Expectation::Redirect(to) => format!("a redirect to {to}"),
        Expectation::Status(status) => format!("status {status}"),
    };
    let got = match outcome(snapshot, test) {
        Ok(outcome) if outcome.meets(&test.expect) => return None,
        Ok(outcome) => outcome.to_string(),
        Err(problem) => problem,
    };
    Some(Failure { line: test.line, text: format!("{request}: expected {expected}, got {got}") })
}

/// What happened to a test request.
struct Outcome {
    route: Option<String>,
    redirect: Option<String>,
    status: Option<u16>,
    cause: Option<&'static str>,
}

impl Outcome {
    fn meets(&self, expected: &Expectation) -> bool {
        match expected {
            Expectation::Route(name) => self.route.as_deref() == Some(name.as_str()),
            Expectation::Redirect(to) => self.redirect.as_deref() == Some(to.as_str()),
            Expectation::Status(status) => self.status == Some(*status),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.redirect, self.status, &self.route) {
            (Some(to), ..) => write!(f, "a redirect to {to}"),
            (None, Some(status), _) => write!(f, "{status} {}", self.cause.unwrap_or("")),
            (None, None, Some(route)) => write!(f, "route {route}"),
            (None, None, None) => f.write_str("nothing"),
        }
    }
}

fn outcome(snapshot: &Snapshot, test: &TestCase) -> Result<Outcome, String> {
    let listener = snapshot
        .listeners
        .iter()
        .position(|listener| listener.tls.is_some() == test.https)
        .ok_or_else(|| "no listener for this scheme".to_owned())?;
    let host = host_of(test.host.as_bytes()).map_err(|_| "a malformed host".to_owned())?;
    let mut view = HeadView {
        method: test.method.as_str(),
        host: host.clone(),
        authority: test.host.as_bytes(),
        target: Cow::Borrowed(test.target.as_bytes()),
        http10: false,
        body: BodyLength::Sized(0),
        expect: Expect::None,
        websocket: false,
        fields: NoFields,
    };
    let peer = SocketAddr::new(test.client, 0);
    // The host's own certificate is taken for granted: tests are about routes.
    let tls = test.https.then(|| TlsInfo {
        version: "TLSv1.3",
        server_name: Some(host.as_ref().into()),
        certificate: None,
    });
    let client = Client::new(listener, peer, tls);
    // Nothing is being validated, no certificate is a placeholder: tests are about the steady state.
    let (challenges, certs) = (Challenges::default(), CertTable::new());
    let (hasher, passwords) = (KeyHasher::random(), Passwords::new());
    let tables = Tables {
        snapshot,
        challenges: &challenges,
        certs: &certs,
        hasher: &hasher,
        passwords: &passwords,
        now: Moment::now(),
        metrics: None,
    };
    Ok(describe(decide(&mut view, &client, peer.ip(), &tables), test.https))
}

fn describe(decision: Decision, https: bool) -> Outcome {
    let nothing = Outcome { route: None, redirect: None, status: None, cause: None };
    let answer = match decision {
        Decision::Forward(plan) => {
            return Outcome { route: Some(plan.route.name.to_string()), ..nothing };
        }
        Decision::Answer(answer) => answer,
    };
    let route = answer.route.as_ref().map(|route| route.name.to_string());
    match answer.kind {
        AnswerKind::Reject(rejection) => Outcome {
            // A route that refuses is not a route that handles.
            status: Some(rejection.status()),
            cause: Some(rejection.cause.code()),
            ..nothing
        },
        AnswerKind::Refuse(refusal) => Outcome {
            status: Some(refusal.status),
            cause: Some(refusal.rejection.cause.code()),
            ..nothing
        },
        AnswerKind::Preflight => Outcome { route, status: Some(204), ..nothing },
        AnswerKind::Challenge(_) => Outcome { status: Some(200), ..nothing },
        AnswerKind::Redirect { status, location } => {
            let location = String::from_utf8_lossy(&location).into_owned();
            let scheme = if https { "https:" } else { "http:" };
            let absolute =
                if location.starts_with("//") { format!("{scheme}{location}") } else { location };
            Outcome { route, redirect: Some(absolute), status: Some(status), ..nothing }
        }
        AnswerKind::Respond => {
            let status = answer.route.as_ref().and_then(|route| match &route.action {
                Action::Respond(fixed) => Some(fixed.status),
                _ => None,
            });
            Outcome { route, status, ..nothing }
        }
    }
}

/// A head without fields.
struct NoFields;

impl FieldSource for NoFields {
    fn each(&self, _: impl FnMut(FieldId, &[u8], &[u8])) {}

    fn get(&self, _: FieldId) -> Option<&[u8]> {
        None
    }

    fn find(&self, _: &str) -> Option<&[u8]> {
        None
    }

    fn nominated(&self, _: &[u8]) -> bool {
        false
    }
}
