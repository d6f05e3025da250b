//! What a new table takes over from the one that serves: upstreams and routes that are as they
//! were. A reload of ten thousand of them that changes one then compiles one, and what workers and
//! connections hold of the others stays what it is.

use std::collections::HashSet;
use std::iter::Peekable;
use std::slice::Iter;
use std::sync::Arc;

use config::model;
use config::value::Name;

use super::table::{Action, Route, Targets};
use crate::upstream::endpoint::Upstream;
use crate::upstream::transport::Transport;

/// Entries of a table, asked for in the order of names.
pub struct InOrder<'a, T> {
    entries: Peekable<Iter<'a, Arc<T>>>,
    name: fn(&T) -> &Name,
}

impl<'a, T> InOrder<'a, T> {
    /// `entries` in name order.
    pub fn new(entries: &'a [Arc<T>], name: fn(&T) -> &Name) -> InOrder<'a, T> {
        InOrder { entries: entries.iter().peekable(), name }
    }

    /// The one of this name. Names must come in ascending order.
    pub fn find(&mut self, wanted: &Name) -> Option<&'a Arc<T>> {
        while self.entries.next_if(|entry| (self.name)(entry) < wanted).is_some() {}
        self.entries.next_if(|entry| (self.name)(entry) == wanted)
    }
}

/// The former upstream where nothing of it has changed; its endpoints are followed by themselves.
/// Reads the files of its TLS.
pub fn upstream(former: &Arc<Upstream>, spec: &Arc<model::Upstream>) -> Option<Arc<Upstream>> {
    if !same(&former.spec, spec) {
        return None;
    }
    let transport = Transport::compile(spec, Some(&former.transport));
    Arc::ptr_eq(&transport, &former.transport).then(|| former.clone())
}

/// Former upstreams that do not serve any more as they were, by where they are in memory.
pub fn replaced(former: &[Arc<Upstream>], now: &[Arc<Upstream>]) -> HashSet<*const Upstream> {
    let mut now = InOrder::new(now, |upstream: &Upstream| &upstream.name);
    let gone = |upstream: &&Arc<Upstream>| {
        now.find(&upstream.name).is_none_or(|now| !Arc::ptr_eq(now, upstream))
    };
    former.iter().filter(gone).map(Arc::as_ptr).collect()
}

/// The former route where nothing of it has changed, nor of where it leads.
pub fn route(
    former: &Arc<Route>,
    spec: &Arc<model::Route>,
    replaced: &HashSet<*const Upstream>,
) -> Option<Arc<Route>> {
    if !former.spec.as_ref().is_some_and(|former| same(former, spec)) {
        return None;
    }
    let leads_there = match &former.action {
        Action::Forward(Targets::One(target)) => !replaced.contains(&Arc::as_ptr(&target.upstream)),
        Action::Respond(_) => true,
        // Weights are shifted, ports are those of listeners: compiling them is little.
        Action::Forward(Targets::Split(_)) | Action::Redirect(_) | Action::Quarantined => false,
    };
    leads_there.then(|| former.clone())
}

fn same<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

#[cfg(test)]
mod tests {
    use config::merge::Accepted;

    use super::super::compile::empty;
    use super::super::compile::lab::Registries;
    use super::super::table::Snapshot;

    use super::*;

    const FILE: &str = "version: 1\nlisteners: { web: { bind: ['127.0.0.1:1'] } }\n\
        upstreams:\n  u: { endpoints: ['127.0.0.1:2'] }\n  v: { endpoints: ['127.0.0.1:3'] }\n\
        routes:\n  a: { hosts: [a.openclaw.example], upstream: u, \
        rate_limits: [{ key: client_ip, rate: 1/s }] }\n  \
        b: { hosts: [b.openclaw.example], upstream: v }\n  \
        c: { hosts: [c.openclaw.example], split: { u: 1, v: 1 } }\n  \
        d: { hosts: [d.openclaw.example], respond: { status: 204 } }\n";

    fn accepted(text: &str) -> Accepted {
        config::merge(None, config::parse("edge.yaml", text, &config::NoEnvironment).unwrap())
    }

    fn compiled(text: &str, previous: &Snapshot, registries: &mut Registries) -> Snapshot {
        registries.compile(&accepted(text), previous)
    }

    /// What of `new` is what it was in `old`.
    fn kept(old: &Snapshot, new: &Snapshot) -> String {
        let mut kept = String::new();
        for route in &new.routes {
            let same = |one: &&Arc<Route>| Arc::ptr_eq(one, route);
            kept += old.routes.iter().find(same).map_or("", |route| route.name.as_str());
        }
        for upstream in &new.upstreams {
            let same = |one: &&Arc<Upstream>| Arc::ptr_eq(one, upstream);
            kept += old.upstreams.iter().find(same).map_or("", |one| one.name.as_str());
        }
        kept
    }

    #[test]
    fn only_what_changed_is_compiled() {
        let mut registries = Registries::default();
        let first = compiled(FILE, &empty(), &mut registries);
        for (change, to, expected) in [
            ("version: 1", "version: 1", "abduv"),
            // The upstream and what leads there; its endpoints are what they were.
            ("['127.0.0.1:2']", "['127.0.0.1:2'], slow_start: 5s", "bdv"),
            ("[b.openclaw", "[x.openclaw", "aduv"),
            ("status: 204", "status: 205", "abuv"),
            ("  b: {", "  e: {", "aduv"),
            // Limits know how many keys they have room for.
            ("version: 1", "version: 1\nlimits: { limiter_keys: 5000 }", "bduv"),
        ] {
            let text = FILE.replace(change, to);
            let next = compiled(&text, &first, &mut registries);
            assert_eq!(kept(&first, &next), expected, "{change} to {to}");
            let ids = |snapshot: &Snapshot| -> Vec<u32> {
                let sets = snapshot.upstreams.iter().map(|one| one.state.endpoints.load_full());
                sets.flat_map(|set| [set.members[0].endpoint.id]).collect()
            };
            assert_eq!(ids(&first), ids(&next), "{change} to {to}");
        }
    }

    #[test]
    fn names_are_asked_for_in_order() {
        let mut registries = Registries::default();
        let snapshot = compiled(FILE, &empty(), &mut registries);
        let mut routes = InOrder::new(&snapshot.routes, |route: &Route| &route.name);
        let found = ["a", "aa", "c", "cc", "d", "z"]
            .map(|name| routes.find(&Name::new(name).unwrap()).map(|route| route.name.to_string()));
        let expected = [Some("a"), None, Some("c"), None, Some("d"), None];
        assert_eq!(found, expected.map(|name| name.map(str::to_owned)));
    }
}
