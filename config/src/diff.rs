//! What changed between two configurations: for the reload's log and its refusals.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::merge::{Accepted, Kind};
use crate::model::{Certificate, Global, Good, Route, Upstream};
use crate::value::Name;

/// A field that a running process cannot change: a restart is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticChange {
    /// `listeners.https.bind`.
    pub field: String,
    pub old: String,
    pub new: String,
}

/// Every field of the global part that differs and needs a restart.
pub fn static_changes(old: &Global, new: &Global) -> Vec<StaticChange> {
    let mut out = Vec::new();
    let mut compare = |field: &str, old: String, new: String| {
        if old != new {
            out.push(StaticChange { field: field.to_owned(), old, new });
        }
    };
    let workers =
        |global: &Global| global.workers.map_or("one per core".to_owned(), |n| n.to_string());
    compare("workers", workers(old), workers(new));
    let state_dir = |global: &Global| global.state_dir.display().to_string();
    compare("state_dir", state_dir(old), state_dir(new));
    let listen = |global: &Global| {
        global.admin.listen.map_or("off".to_owned(), |address| address.to_string())
    };
    compare("admin.listen", listen(old), listen(new));
    let socket = |global: &Global| {
        global.admin.socket.as_ref().map_or("none".to_owned(), |path| path.display().to_string())
    };
    compare("admin.socket", socket(old), socket(new));
    let hosts = |global: &Global| global.admin.allowed_hosts.join(", ");
    compare("admin.allowed_hosts", hosts(old), hosts(new));
    let names = old
        .listeners
        .keys()
        .chain(new.listeners.keys().filter(|name| !old.listeners.contains_key(*name)));
    for name in names {
        let bind = |global: &Global| {
            global
                .listeners
                .get(name)
                .map_or("none".to_owned(), |listener| addresses(&listener.bind))
        };
        compare(&format!("listeners.{name}.bind"), bind(old), bind(new));
    }
    out
}

fn addresses(bind: &[SocketAddr]) -> String {
    let mut bind: Vec<String> = bind.iter().map(SocketAddr::to_string).collect();
    // The order of addresses means nothing.
    bind.sort_unstable();
    bind.join(", ")
}

/// Entries by what happened to them, in the order of kind and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<(Kind, Name)>,
    pub removed: Vec<(Kind, Name)>,
    pub changed: Vec<(Kind, Name)>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Which entries serve that did not, and the other way round. Compares values, not text: a
/// comment is no change, a reference that now gives something else is one.
pub fn diff(old: &Accepted, new: &Accepted) -> Changes {
    let mut changes = Changes::default();
    // What is made of a tenant changes with it.
    let own = |certificate: &Certificate| certificate.tenant.is_none();
    compare(&mut changes, Kind::Certificate, &old.certificates, &new.certificates, own);
    let own = |upstream: &Upstream| upstream.tenant.is_none();
    compare(&mut changes, Kind::Upstream, &old.upstreams, &new.upstreams, own);
    let own = |route: &Route| route.tenant.is_none();
    compare(&mut changes, Kind::Route, &old.routes, &new.routes, own);
    compare(&mut changes, Kind::Tenant, &old.tenants, &new.tenants, |_| true);
    changes
}

/// `counts` says which values are looked at.
fn compare<T: PartialEq>(
    changes: &mut Changes,
    kind: Kind,
    old: &BTreeMap<Name, Good<T>>,
    new: &BTreeMap<Name, Good<T>>,
    counts: impl Fn(&T) -> bool,
) {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let (before, after) = match (old.peek(), new.peek()) {
            (None, None) => return,
            // Of thousands of tenants most are the very same: not even their names are looked at.
            (Some((_, a)), Some((_, b))) if Arc::ptr_eq(&a.value, &b.value) => {
                old.next();
                new.next();
                continue;
            }
            (Some((a, _)), Some((b, _))) => match a.cmp(b) {
                Ordering::Less => (old.next(), None),
                Ordering::Equal => (old.next(), new.next()),
                Ordering::Greater => (None, new.next()),
            },
            (_, None) => (old.next(), None),
            (None, _) => (None, new.next()),
        };
        let before = before.filter(|(_, entry)| counts(&entry.value));
        let after = after.filter(|(_, entry)| counts(&entry.value));
        match (before, after) {
            (Some((_, before)), Some((name, after))) if before.value != after.value => {
                changes.changed.push((kind, name.clone()));
            }
            (None, Some((name, _))) => changes.added.push((kind, name.clone())),
            (Some((name, _)), None) => changes.removed.push((kind, name.clone())),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::NoEnvironment;
    use crate::merge::merge;
    use crate::parse;

    fn accepted(text: &str) -> Accepted {
        merge(None, parse("edge.yaml", text, &NoEnvironment).unwrap())
    }

    #[test]
    fn static_fields_by_name() {
        let old = accepted(
            "version: 1\nlisteners: { a: { bind: ['127.0.0.1:1', '127.0.0.1:2'] }, b: { bind: ['127.0.0.1:3'] } }\n",
        );
        let same = accepted(
            "version: 1\nlisteners: { a: { bind: ['127.0.0.1:2', '127.0.0.1:1'], tls: {}, limits: { connections: 5 } }, b: { bind: ['127.0.0.1:3'] } }\nlog: { access: off }\n",
        );
        assert_eq!(static_changes(&old.global, &same.global), []);
        let new = accepted(
            "version: 1\nworkers: 2\nstate_dir: /srv\nadmin: { listen: off, socket: /run/a, allowed_hosts: [x] }\nlisteners: { a: { bind: ['127.0.0.1:1'] }, c: { bind: ['127.0.0.1:9'] } }\n",
        );
        let fields: Vec<String> = static_changes(&old.global, &new.global)
            .into_iter()
            .map(|change| change.field)
            .collect();
        assert_eq!(
            fields,
            [
                "workers",
                "state_dir",
                "admin.listen",
                "admin.socket",
                "admin.allowed_hosts",
                "listeners.a.bind",
                "listeners.b.bind",
                "listeners.c.bind",
            ]
        );
        let change = &static_changes(&old.global, &new.global)[7];
        assert_eq!((&*change.old, &*change.new), ("none", "127.0.0.1:9"));
    }

    #[test]
    fn entries_by_what_happened() {
        let old = accepted(
            "version: 1\nupstreams: { u: { endpoints: ['127.0.0.1:1'] } }\nroutes:\n  a: { hosts: [a], upstream: u }\n  b: { hosts: [b], upstream: u }\n  c: { hosts: [c], upstream: u }\n",
        );
        let new = accepted(
            "version: 1\n# moved\nupstreams: { u: { endpoints: ['127.0.0.1:1'] } }\nroutes:\n  d: { hosts: [d], upstream: u }\n  c: { hosts: [c2], upstream: u }\n  a: { upstream: u, hosts: [a] }\n",
        );
        let changes = diff(&old, &new);
        let route = |name: &str| vec![(Kind::Route, Name::new(name).unwrap())];
        assert_eq!(
            changes,
            Changes { added: route("d"), removed: route("b"), changed: route("c") }
        );
        assert!(diff(&old, &old).is_empty());
    }
}
