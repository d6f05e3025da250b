//! Hosts that were a tenant's and are nobody's now. On TLS they answer 421 also where the
//! certificate shown covers the name: a client that kept its connection is told to make another
//! one, not that the host has nothing to say.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use config::value::HostPattern;

use super::reuse::InOrder;
use super::table::{HostTable, Route, Snapshot};

/// The last `MOST` of them.
#[derive(Clone, Default)]
pub struct RemovedHosts {
    hosts: HashSet<HostPattern>,
    /// The oldest first.
    order: VecDeque<HostPattern>,
}

impl RemovedHosts {
    /// Whether this lower-case host was a tenant's.
    pub fn contains(&self, host: &str) -> bool {
        if self.hosts.is_empty() {
            return false;
        }
        let wildcard = host.split_once('.').map(|(_, suffix)| HostPattern::Wildcard(suffix.into()));
        self.hosts.contains(&HostPattern::Exact(host.into()))
            || wildcard.is_some_and(|pattern| self.hosts.contains(&pattern))
    }

    fn add(&mut self, host: &HostPattern) {
        if self.hosts.insert(host.clone()) {
            self.order.push_back(host.clone());
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.hosts.remove(&oldest);
        }
    }
}

/// What is removed once `routes` and `hosts` serve after `previous`.
pub fn removed(previous: &Snapshot, routes: &[Arc<Route>], hosts: &HostTable) -> Arc<RemovedHosts> {
    let mut now = InOrder::new(routes, |route: &Route| &route.name);
    let changed: Vec<&HostPattern> = previous
        .routes
        .iter()
        .filter(|route| now.find(&route.name).is_none_or(|now| !Arc::ptr_eq(now, route)))
        .filter_map(|route| route.spec.as_ref().filter(|spec| spec.tenant.is_some()))
        .flat_map(|spec| &spec.hosts)
        .filter(|host| !hosts.has(host))
        .collect();
    let back = previous.removed.order.iter().any(|host| hosts.has(host));
    if changed.is_empty() && !back {
        return previous.removed.clone();
    }
    let mut removed = RemovedHosts::clone(&previous.removed);
    removed.order.retain(|host| !hosts.has(host));
    removed.hosts.retain(|host| !hosts.has(host));
    changed.into_iter().for_each(|host| removed.add(host));
    Arc::new(removed)
}

/// A registry has as many tenants, with two hosts each, before one of them is forgotten.
const MOST: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: usize) -> HostPattern {
        HostPattern::Exact(format!("t{number}.gw.openclaw.example").into())
    }

    #[test]
    fn names_are_remembered_once_and_only_so_many() {
        let mut removed = RemovedHosts::default();
        assert!(!removed.contains("t0.gw.openclaw.example"));
        (0..MOST).chain(0..MOST).for_each(|number| removed.add(&host(number)));
        assert!(removed.contains("t0.gw.openclaw.example"));
        removed.add(&HostPattern::Wildcard("t.gw.openclaw.example".into()));
        assert!(removed.contains("x.t.gw.openclaw.example"));
        assert!(!removed.contains("t0.gw.openclaw.example"));
        assert!(removed.contains("t1.gw.openclaw.example"));
        assert_eq!((removed.hosts.len(), removed.order.len()), (MOST, MOST));
    }
}
