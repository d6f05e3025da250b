//! Which routes serve: claims, clashes, former versions, blocked claims.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Accepted, Blocked, Kind, shown};
use crate::decode::known_names;
use crate::error::Diagnostic;
use crate::last_good;
use crate::model::{Action, BadEntry, Entry, Good, PathRule, Route};
use crate::value::{HostPattern, Name, NormPath};

type Claim<'r> = (&'r HostPattern, &'r PathRule);

pub(super) fn select(
    out: &mut Accepted,
    entries: BTreeMap<Name, Entry<Route>>,
    previous: Option<&Accepted>,
) {
    let former = previous.map(|previous| &previous.routes);
    let mut bad: BTreeMap<Name, BadEntry> = BTreeMap::new();
    let mut good: Vec<(Name, Good<Route>)> = Vec::new();
    for (name, entry) in entries {
        match entry {
            Entry::Bad(entry) => {
                bad.insert(name, entry);
            }
            Entry::Good(route) => match out.check_upstream(&route) {
                Ok(()) => good.push((name, route)),
                Err(reason) => {
                    bad.insert(name, spoiled(&route, *reason));
                }
            },
        }
    }
    // The order of the file decides between two new claims.
    good.sort_by(|(a, left), (b, right)| (left.line, a).cmp(&(right.line, b)));
    let losers = clashes(&good, former);
    for (index, (name, route)) in good.into_iter().enumerate() {
        match losers.get(&index) {
            Some(reason) => {
                bad.insert(name, spoiled(&route, reason.clone()));
            }
            None => {
                out.routes.insert(name, route);
            }
        }
    }
    keep_former(out, bad, previous);
}

impl Accepted {
    fn check_upstream(&self, route: &Good<Route>) -> Result<(), Box<Diagnostic>> {
        let upstreams = route.value.upstreams();
        let missing = upstreams.into_iter().find(|name| !self.upstreams.contains_key(*name));
        let Some(upstream) = missing else { return Ok(()) };
        let bad =
            |entry: &&super::Quarantined| entry.kind == Kind::Upstream && entry.name == *upstream;
        let written = shown(&route.text, upstream.as_str());
        let (message, help) = match self.quarantined.iter().find(bad) {
            Some(entry) => {
                let help = format!("see line {}", entry.line);
                (format!("its upstream {written} is quarantined"), Some(help))
            }
            None => {
                let names = self.upstreams.keys().map(Name::as_str);
                let help = known_names("upstreams", upstream.as_str(), names);
                (format!("unknown upstream {written}"), help)
            }
        };
        let at = match &route.value.action {
            Action::Split(_) => format!("routes.{}.split.{upstream}", route.value.name),
            _ => format!("routes.{}.upstream", route.value.name),
        };
        Err(Box::new(Diagnostic { at, line: route.line, column: 0, message, help, file: None }))
    }
}

/// The routes of `good` (in the order of the file) that lose a claim, and why. The route that had
/// the claim before keeps it; among new ones the first of the file gets it.
fn clashes(
    good: &[(Name, Good<Route>)],
    former: Option<&BTreeMap<Name, Good<Route>>>,
) -> BTreeMap<usize, Diagnostic> {
    let mut holders: HashMap<Claim<'_>, Vec<usize>> = HashMap::new();
    for (index, (name, route)) in good.iter().enumerate() {
        let Some(former) = former.and_then(|former| former.get(name)) else { continue };
        let held: HashSet<Claim<'_>> = claims_of(&former.value).collect();
        for claim in claims_of(&route.value).filter(|claim| held.contains(claim)) {
            holders.entry(claim).or_default().push(index);
        }
    }
    let mut serving: HashMap<Claim<'_>, Vec<usize>> = HashMap::new();
    let mut losers: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, (_, route)) in good.iter().enumerate() {
        let earlier =
            claims_of(&route.value).filter_map(|claim| rival(good, index, claim, &serving));
        let holding = claims_of(&route.value)
            .filter(|claim| !holders.get(claim).is_some_and(|holders| holders.contains(&index)))
            .filter_map(|claim| rival(good, index, claim, &holders));
        match earlier.chain(holding).min() {
            Some(rival) => {
                losers.insert(index, rival);
            }
            None => {
                for claim in claims_of(&route.value) {
                    serving.entry(claim).or_default().push(index);
                }
            }
        }
    }
    let reasons = losers.into_iter().filter_map(|(index, loser_to)| {
        let (_, route) = good.get(index)?;
        // Named is a route that serves in the end, so that reading the file again says the same.
        let in_the_end =
            claims_of(&route.value).filter_map(|claim| rival(good, index, claim, &serving)).min();
        let (other, rival) = good.get(in_the_end.unwrap_or(loser_to))?;
        Some((index, clash(route, other, rival)))
    });
    reasons.collect()
}

/// The first route of `claims` that has this claim and a method in common with the route.
fn rival(
    good: &[(Name, Good<Route>)],
    index: usize,
    claim: Claim<'_>,
    claims: &HashMap<Claim<'_>, Vec<usize>>,
) -> Option<usize> {
    let (_, route) = good.get(index)?;
    let rivals = claims.get(&claim)?.iter().copied().filter(|rival| *rival != index);
    let overlapping = |rival: &usize| {
        good.get(*rival).is_some_and(|(_, other)| overlap(&route.value, &other.value))
    };
    rivals.filter(overlapping).min()
}

fn clash(route: &Good<Route>, other: &Name, rival: &Good<Route>) -> Diagnostic {
    let both: Vec<String> = route
        .value
        .hosts
        .iter()
        .filter(|host| rival.value.hosts.contains(host))
        .map(|host| shown(&route.text, &host.to_string()))
        .collect();
    let (first, more) = both.split_at(both.len().min(3));
    let more = if more.is_empty() { "" } else { ", .." };
    let hosts = format!("{}{more}", first.join(", "));
    let path = match &route.value.path {
        PathRule::Exact(path) => format!("exactly {}", shown(&route.text, path.as_str())),
        PathRule::Prefix(path) if *path == NormPath::root() => "`/`".to_owned(),
        PathRule::Prefix(path) => shown(&route.text, path.as_str()),
    };
    Diagnostic {
        at: format!("routes.{}", route.value.name),
        line: route.line,
        column: 0,
        message: format!(
            "routes `{}` (line {}) and `{other}` (line {}) both claim {path} of {hosts}",
            route.value.name, route.line, rival.line
        ),
        help: Some(format!("`{other}` has it; give them different hosts, paths or methods")),
        file: None,
    }
}

/// Former versions of bad routes serve on, without the claims that good routes took over. What is
/// then still claimed by a bad route alone is blocked.
fn keep_former(out: &mut Accepted, bad: BTreeMap<Name, BadEntry>, previous: Option<&Accepted>) {
    let mut good = std::mem::take(&mut out.routes);
    let taken = Taken::by(&good);
    let mut kept = Vec::new();
    let mut blocked: Vec<(Name, HostPattern, PathRule)> = Vec::new();
    for (name, entry) in bad {
        let former = previous.and_then(|previous| previous.routes.get(&name));
        let former = former.and_then(|former| taken.rest_of(former));
        let former = former.filter(|former| out.has_upstreams_of(former, previous, &name));
        let claims = entry.claims.iter();
        blocked.extend(claims.map(|(host, path)| (name.clone(), host.clone(), path.clone())));
        out.quarantine(Kind::Route, &name, entry, former.is_some());
        kept.extend(former.map(|former| (name, former)));
    }
    good.extend(kept);
    out.routes = good;
    let mut free: BTreeSet<(HostPattern, PathRule)> = BTreeSet::new();
    let served = Taken::by(&out.routes);
    for (route, host, path) in blocked {
        let claim = (host, path);
        if !served.claims.contains_key(&(&claim.0, &claim.1)) && !free.contains(&claim) {
            free.insert(claim.clone());
            out.blocked.push(Blocked { route, host: claim.0, path: claim.1 });
        }
    }
}

impl Accepted {
    /// A kept route keeps its upstreams, also those that the new file has removed.
    fn has_upstreams_of(
        &mut self,
        route: &Good<Route>,
        previous: Option<&Accepted>,
        name: &Name,
    ) -> bool {
        let mut removed = Vec::new();
        for upstream in route.value.upstreams() {
            if self.upstreams.contains_key(upstream) {
                continue;
            }
            let former = previous.and_then(|previous| previous.upstreams.get(upstream));
            let Some(former) = former else { return false };
            removed.push((upstream.clone(), former.clone()));
        }
        for (upstream, former) in removed {
            self.warnings.push(Diagnostic {
                at: format!("routes.{name}"),
                line: 0,
                column: 0,
                message: format!(
                    "upstream `{upstream}` was removed, but the former version of `{name}` needs it"
                ),
                help: Some(format!("repair the route `{name}`")),
                file: None,
            });
            self.upstreams.insert(upstream, former);
        }
        true
    }
}

/// Claims of routes that serve.
struct Taken<'r> {
    claims: HashMap<Claim<'r>, Vec<&'r Route>>,
}

impl<'r> Taken<'r> {
    fn by(routes: &'r BTreeMap<Name, Good<Route>>) -> Self {
        let mut claims: HashMap<Claim<'r>, Vec<&'r Route>> = HashMap::new();
        for route in routes.values() {
            for claim in claims_of(&route.value) {
                claims.entry(claim).or_default().push(&route.value);
            }
        }
        Taken { claims }
    }

    /// The route without the hosts that others serve; `None` when nothing is left of it.
    fn rest_of(&self, former: &Good<Route>) -> Option<Good<Route>> {
        let route = &former.value;
        let free = |host: &HostPattern| {
            let others = self.claims.get(&(host, &route.path)).map(Vec::as_slice);
            !others.unwrap_or_default().iter().any(|other| overlap(route, other))
        };
        let keep: Vec<bool> = route.hosts.iter().map(free).collect();
        if keep.iter().all(|keep| *keep) {
            return Some(former.clone());
        }
        let hosts = route.hosts.iter().zip(&keep).filter(|(_, keep)| **keep);
        let hosts: Vec<HostPattern> = hosts.map(|(host, _)| host.clone()).collect();
        if hosts.is_empty() {
            return None;
        }
        Some(Good {
            value: Route { hosts, ..Route::clone(route) }.into(),
            text: last_good::without_hosts(&former.text, &keep),
            line: former.line,
        })
    }
}

fn claims_of(route: &Route) -> impl Iterator<Item = Claim<'_>> {
    route.hosts.iter().map(|host| (host, &route.path))
}

/// Whether a method belongs to both and neither is more specific: a route with methods goes before
/// one without on the same path, so those two do not clash.
pub(crate) fn overlap(a: &Route, b: &Route) -> bool {
    (a.methods.is_empty() && b.methods.is_empty())
        || a.methods.iter().any(|method| b.methods.contains(method))
}

fn spoiled(route: &Good<Route>, reason: Diagnostic) -> BadEntry {
    let claims = claims_of(&route.value).map(|(host, path)| (host.clone(), path.clone())).collect();
    BadEntry { reasons: vec![reason], claims, line: route.line }
}
