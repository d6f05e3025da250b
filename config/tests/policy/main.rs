//! Limits, access and pacing of routes: every key reaches the model, every combination that means
//! nothing is refused, what is probably not meant is warned about.

#![allow(clippy::unwrap_used, clippy::panic)]

mod access;
mod limits;

use std::io;
use std::path::Path;

use config::model::*;
use config::value::{Name, NormPath};
use config::{Diagnostic, Environment, NoEnvironment, last_good, merge, parse};

const BCRYPT: &str = "$2y$04$taRy0yQYshLU3RkJ.USK1.bVWCgxPfnxjh4FSzIGx/GpALKNPGyf2";
const SHA1: &str = "{SHA}GpHWL3ymc5liWkNopqtdSjuqYHM=";

/// One htpasswd file, behind a reference.
struct Htpasswd(String);

impl Environment for Htpasswd {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Ok(self.0.clone())
    }
}

fn file(keys: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ web: {{ bind: ['127.0.0.1:0'] }} }}\n\
         upstreams: {{ u: {{ endpoints: ['192.0.2.1:1'] }} }}\n\
         routes: {{ r: {{ hosts: [a.x], upstream: u, {keys} }} }}\n"
    )
}

fn with(keys: &str, env: &dyn Environment) -> (Result<Route, Vec<String>>, Vec<String>) {
    let candidate = parse("edge.yaml", &file(keys), env).unwrap();
    let route = match &candidate.routes["r"] {
        Entry::Good(good) => Ok(Route::clone(&good.value)),
        Entry::Bad(bad) => Err(bad.reasons.iter().map(shown).collect()),
    };
    (route, candidate.warnings.iter().map(shown).collect())
}

fn shown(finding: &Diagnostic) -> String {
    assert!(finding.line > 0 && finding.column > 0, "{finding:?}");
    let at = finding.at.strip_prefix("routes.r.").unwrap_or(&finding.at);
    format!("{at}: {}", finding.message)
}

/// A route without errors and warnings.
fn route(keys: &str) -> Route {
    let (route, warnings) = with(keys, &NoEnvironment);
    assert_eq!(warnings, [""; 0], "{keys}");
    route.unwrap_or_else(|reasons| panic!("{keys}: {reasons:?}"))
}

fn reasons(keys: &str) -> Vec<String> {
    with(keys, &NoEnvironment).0.err().unwrap_or_default()
}

fn warnings(keys: &str) -> Vec<String> {
    let (route, warnings) = with(keys, &NoEnvironment);
    assert!(route.is_ok(), "{keys}: {route:?}");
    warnings
}

fn limit(keys: &str) -> RateLimit {
    route(&format!("rate_limits: [{{ {keys} }}]")).rate_limits.remove(0)
}

fn access(keys: &str) -> Access {
    route(&format!("access: {{ {keys} }}")).access.unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn path(text: &str) -> NormPath {
    NormPath::parse(text).unwrap()
}

#[test]
fn a_route_without_them_demands_nothing() {
    let route = route("body_limit: 1KiB");
    assert_eq!((route.rate_limits.len(), route.access, route.pacing), (0, None, None));
}
