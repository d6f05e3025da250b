//! `merge(previous, new)`: what serves after a new file was read (design.md #8). Pure.
//!
//! 1. A good entry of the new file serves. An entry that the new file does not hold is gone.
//! 2. A bad entry is quarantined: its former version, found by name, keeps serving.
//! 3. Rules between entries come after that, and make an entry bad as well: a route to an upstream
//!    that is not there, two routes with one claim, a certificate of an unknown issuer, or of
//!    one that cannot make it.
//! 4. A good new route wins a claim (host and path) over a former version of a quarantined one.
//! 5. What a quarantined route claims and nobody serves is blocked: 503, never another route.

mod certify;
mod claims;
mod issuance;
mod routes;
mod shadow;
mod tenants;
#[cfg(test)]
mod tests;

pub(crate) use routes::overlap;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Diagnostic;
use crate::interpolate::is_interpolated;
use crate::model::{
    BadEntry, Candidate, Certificate, Entry, Global, Good, PathRule, Route, Template, Tenant,
    TestCase, Upstream,
};
use crate::node;
use crate::value::{HostPattern, Name, quote};

/// The configuration that serves: only usable entries, and an account of what was kept back.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    pub global: Arc<Global>,
    pub certificates: BTreeMap<Name, Good<Certificate>>,
    pub upstreams: BTreeMap<Name, Good<Upstream>>,
    /// Of the config file and of tenants.
    pub routes: BTreeMap<Name, Good<Route>>,
    /// Templates of the config file that are good.
    pub templates: BTreeMap<Name, Good<Template>>,
    /// Tenants that serve. Lines are those of the registry.
    pub tenants: BTreeMap<Name, Good<Tenant>>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Certificate,
    Upstream,
    Route,
    /// A template of tenants.
    Template,
    /// The registry of tenants as a whole.
    Tenants,
    /// One entry of it.
    Tenant,
}

impl Kind {
    /// The section of the file: `routes`.
    pub fn section(self) -> &'static str {
        match self {
            Kind::Certificate => "certificates",
            Kind::Upstream => "upstreams",
            Kind::Route => "routes",
            Kind::Template => "tenants.routes",
            Kind::Tenants | Kind::Tenant => "tenants",
        }
    }
}

/// What serves when `new` follows `previous` (`None`: nothing served before).
pub fn merge(previous: Option<&Accepted>, new: Candidate) -> Accepted {
    let Candidate { global, certificates, upstreams, routes, tenants, tests, warnings } = new;
    let mut out = Accepted {
        global,
        certificates: BTreeMap::new(),
        upstreams: BTreeMap::new(),
        routes: BTreeMap::new(),
        templates: BTreeMap::new(),
        tenants: BTreeMap::new(),
        blocked: Vec::new(),
        quarantined: Vec::new(),
        warnings,
        tests,
    };
    out.select_certificates(certificates, previous.map(|previous| &previous.certificates));
    out.select_upstreams(upstreams, previous.map(|previous| &previous.upstreams));
    routes::select(&mut out, routes, previous);
    let shadowed = out.shadowed_routes();
    tenants::select(&mut out, tenants, previous);
    out.warn_about_certificates();
    out.warnings.extend(shadowed);
    out
}

impl Accepted {
    fn select_certificates(
        &mut self,
        entries: BTreeMap<Name, Entry<Certificate>>,
        former: Option<&BTreeMap<Name, Good<Certificate>>>,
    ) {
        for (name, entry) in entries {
            let bad = match entry {
                Entry::Good(good) => match self.check_issuer(&good) {
                    Ok(()) => {
                        self.certificates.insert(name, good);
                        continue;
                    }
                    Err(reason) => bad(good.line, *reason),
                },
                Entry::Bad(bad) => bad,
            };
            let former = former.and_then(|former| former.get(&name));
            // An issuer of the global part cannot be kept for one entry.
            let former = former.filter(|former| self.check_issuer(former).is_ok()).cloned();
            self.quarantine(Kind::Certificate, &name, bad, former.is_some());
            self.certificates.extend(former.map(|former| (name, former)));
        }
    }

    fn select_upstreams(
        &mut self,
        entries: BTreeMap<Name, Entry<Upstream>>,
        former: Option<&BTreeMap<Name, Good<Upstream>>>,
    ) {
        for (name, entry) in entries {
            match entry {
                Entry::Good(good) => {
                    self.upstreams.insert(name, good);
                }
                Entry::Bad(bad) => {
                    let former = former.and_then(|former| former.get(&name)).cloned();
                    self.quarantine(Kind::Upstream, &name, bad, former.is_some());
                    self.upstreams.extend(former.map(|former| (name, former)));
                }
            }
        }
    }

    fn quarantine(&mut self, kind: Kind, name: &Name, bad: BadEntry, former_serves: bool) {
        let BadEntry { reasons, line, .. } = bad;
        let name = name.clone();
        self.quarantined.push(Quarantined { kind, name, line, reasons, former_serves });
    }
}

/// A value for a message, if it stands literally in the entry; never what a reference gave.
fn shown(text: &str, value: &str) -> String {
    if !is_interpolated(text) {
        return quote(value);
    }
    let literal = |value: &str| {
        let mut quoted = String::new();
        node::write_text(value, &mut quoted);
        text.to_ascii_lowercase().contains(&quoted)
    };
    if literal(&value.to_ascii_lowercase()) { quote(value) } else { "[a reference]".to_owned() }
}

fn bad(line: u64, reason: Diagnostic) -> BadEntry {
    BadEntry { reasons: vec![reason], claims: Vec::new(), line }
}
