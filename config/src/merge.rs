//! `merge(previous, new)`: what serves after a new file was read (design.md #8). Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Diagnostic;
use crate::model::{Candidate, Certificate, Global, Good, PathRule, Route, TestCase, Upstream};
use crate::value::{HostPattern, Name};

/// The configuration that serves: only usable entries, and an account of what was kept back.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    pub global: Arc<Global>,
    pub certificates: BTreeMap<Name, Good<Certificate>>,
    pub upstreams: BTreeMap<Name, Good<Upstream>>,
    pub routes: BTreeMap<Name, Good<Route>>,
    /// Claims answered 503 `quarantined`: no former version, no good route claims them.
    pub blocked: Vec<Blocked>,
    pub quarantined: Vec<Quarantined>,
    pub warnings: Vec<Diagnostic>,
    pub tests: Vec<TestCase>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Blocked {
    /// The quarantined route.
    pub route: Name,
    pub host: HostPattern,
    pub path: PathRule,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Quarantined {
    pub kind: Kind,
    pub name: Name,
    pub line: u64,
    pub reasons: Vec<Diagnostic>,
    /// Whether the former version of the entry still serves.
    pub former_serves: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Certificate,
    Upstream,
    Route,
}

/// What serves when `new` follows `previous` (`None`: nothing served before).
pub fn merge(previous: Option<&Accepted>, new: Candidate) -> Accepted {
    let _ = (previous, new);
    std::process::abort()
}
