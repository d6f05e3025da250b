//! Upstreams and their endpoints as workers see them. Written by the control thread, read by
//! workers; what both write is atomics.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use config::model::{self, EndpointAddress};
use config::value::Name;

use super::balance::{Latency, Table};
use super::budget::RetryBudget;
use super::condition::{Condition, Health};
use super::drains::Drains;
use super::keep_alive::KeepAlive;
use super::passive::EjectionGate;
use super::queue::Queue;
use super::transport::Transport;
use crate::metrics::UpstreamCounts;
use crate::route::table::Series;

/// A named group of endpoints with one policy.
pub struct Upstream {
    pub name: Name,
    pub series: Series,
    pub counts: Arc<UpstreamCounts>,
    pub spec: Arc<model::Upstream>,
    /// How endpoints are spoken to.
    pub transport: Arc<Transport>,
    /// Outlives reloads while there is an upstream of this name.
    pub state: Arc<UpstreamState>,
}

/// The part of an upstream that outlives a reload.
#[derive(Default)]
pub struct UpstreamState {
    /// Only the control thread stores into it.
    pub endpoints: ArcSwap<EndpointSet>,
    /// Round-robin position, shared by all workers.
    pub cursor: AtomicUsize,
    /// Requests under way, counted where the upstream has a limit of them.
    pub requests: AtomicUsize,
    /// Open connections to all endpoints, idle ones too.
    pub connections: AtomicUsize,
    pub queue: Queue,
    pub budget: RetryBudget,
    pub gate: EjectionGate,
}

/// The endpoints of one upstream at one moment.
#[derive(Default)]
pub struct EndpointSet {
    pub members: Box<[Member]>,
    /// What balancing needs to know of these members.
    pub table: Table,
    /// Names of the spec that have never been resolved: with no endpoint at all this is
    /// `dns_failed`, not `no_endpoint`.
    pub unresolved: Box<[String]>,
}

/// An endpoint with its share.
#[derive(Clone)]
pub struct Member {
    pub endpoint: Arc<Endpoint>,
    /// At least 1.
    pub weight: u32,
}

/// One address of one upstream.
pub struct Endpoint {
    pub target: Target,
    /// `target` as text: access log, admin, metrics of the operator's tools.
    pub text: Arc<str>,
    /// The host as the configuration writes it: SNI and the Host of health checks.
    pub host: Arc<str>,
    /// Unique for the life of the process; keys the workers' pools.
    pub id: u32,
    pub condition: Condition,
    pub load: Load,
    pub keep_alive: KeepAlive,
}

/// Where connections go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(Arc<Path>),
}

impl Target {
    /// `192.0.2.1:80`, `[2001:db8::1]:80` or `unix:/path`.
    pub fn parse(text: &str) -> Option<Target> {
        match text.strip_prefix("unix:") {
            Some(path) => path.starts_with('/').then(|| Target::Unix(Path::new(path).into())),
            None => text.parse().ok().map(Target::Tcp),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => write!(f, "{address}"),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What an endpoint has to do, over all workers.
#[derive(Default)]
pub struct Load {
    /// Requests under way.
    pub requests: AtomicUsize,
    /// Open connections, idle ones too.
    pub connections: AtomicUsize,
    /// Recent time to first byte.
    pub latency: Latency,
}

/// One address that a name or an SRV record leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resolved {
    pub address: SocketAddr,
    /// The record's weight; 1 for A and AAAA.
    pub weight: u16,
}

/// Hands out one [`Endpoint`] per upstream, host and address, so that ids and conditions are
/// stable over reloads. Owned by the control thread.
#[derive(Default)]
pub struct EndpointRegistry {
    known: HashMap<(Name, Arc<str>, Target), Weak<Endpoint>>,
    /// What the operator has taken out.
    pub drains: Drains,
    next: u32,
}

impl EndpointRegistry {
    fn intern(&mut self, upstream: &Name, host: &Arc<str>, target: Target) -> Arc<Endpoint> {
        let drained = self.drains.contains(upstream, &target);
        let endpoint = self.known_or_new(upstream, host, target);
        endpoint.condition.set_drained(drained, crate::clock::process_ms());
        endpoint
    }

    fn known_or_new(&mut self, upstream: &Name, host: &Arc<str>, target: Target) -> Arc<Endpoint> {
        let key = (upstream.clone(), host.clone(), target);
        if let Some(endpoint) = self.known.get(&key).and_then(Weak::upgrade) {
            return endpoint;
        }
        // Bounded by what is configured: forgotten endpoints are dropped before the map grows.
        if self.known.len() >= 1024 && self.known.len().is_power_of_two() {
            self.known.retain(|_, endpoint| endpoint.strong_count() > 0);
        }
        self.next = self.next.wrapping_add(1);
        let endpoint = Arc::new(Endpoint {
            text: key.2.to_string().into(),
            target: key.2.clone(),
            host: host.clone(),
            id: self.next,
            condition: Condition::new(crate::clock::process_ms()),
            load: Load::default(),
            keep_alive: KeepAlive::default(),
        });
        self.known.insert(key, Arc::downgrade(&endpoint));
        endpoint
    }

    /// The upstream speaks another protocol now: its connections must not be used again.
    pub fn forget(&mut self, upstream: &Name) {
        self.known.retain(|(name, ..), _| name != upstream);
    }
}

impl EndpointSet {
    /// The set for a spec, with what is known of its names. The order is that of the spec, and of
    /// addresses within a name, so that every process walks the endpoints alike.
    pub fn resolve(
        upstream: &model::Upstream,
        resolved: &dyn Fn(&EndpointAddress) -> Option<Vec<Resolved>>,
        registry: &mut EndpointRegistry,
    ) -> EndpointSet {
        let (mut members, mut unresolved) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for written in &upstream.endpoints {
            let Some(found) = targets(&written.address, resolved) else {
                unresolved.push(written.address.to_string());
                continue;
            };
            let host: Arc<str> = host(&written.address).into();
            for (target, weight) in found {
                if seen.insert(target.clone()) {
                    let endpoint = registry.intern(&upstream.name, &host, target);
                    let weight = u32::from(written.weight.max(1)) * u32::from(weight.max(1));
                    members.push(Member { endpoint, weight });
                }
            }
        }
        let sticky = upstream.sticky.as_ref().map(|_| upstream.name.as_str());
        let table = Table::new(&upstream.balance, sticky, &members);
        EndpointSet { members: members.into(), table, unresolved: unresolved.into() }
    }

    /// With a health check, members that were never checked wait for their first verdict. To be
    /// called before workers see the set: they would take them for unchecked ones.
    pub fn expect_checks(&self, spec: &model::Upstream) {
        let now_ms = crate::clock::process_ms();
        for condition in self.members.iter().map(|member| &member.endpoint.condition) {
            if spec.health.is_some() && condition.health() == Health::Unchecked {
                condition.set_health(Health::Starting, now_ms);
            }
        }
    }
}

fn targets(
    address: &EndpointAddress,
    resolved: &dyn Fn(&EndpointAddress) -> Option<Vec<Resolved>>,
) -> Option<Vec<(Target, u16)>> {
    match address {
        EndpointAddress::Ip(address) => Some(vec![(Target::Tcp(*address), 1)]),
        EndpointAddress::Unix(path) => Some(vec![(Target::Unix(path.as_path().into()), 1)]),
        EndpointAddress::Name { .. } | EndpointAddress::Srv(_) => {
            let mut found = resolved(address)?;
            found.sort();
            Some(found.into_iter().map(|one| (Target::Tcp(one.address), one.weight)).collect())
        }
    }
}

/// What the endpoint is called, apart from its port.
fn host(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Ip(address) => address.ip().to_string(),
        EndpointAddress::Name { host, .. } => host.clone(),
        // The service's domain: `_http._tcp.` is no part of a host name.
        EndpointAddress::Srv(name) => {
            let labels: Vec<&str> = name.split('.').skip_while(|l| l.starts_with('_')).collect();
            labels.join(".")
        }
        EndpointAddress::Unix(_) => "localhost".to_owned(),
    }
}

impl UpstreamState {
    /// Other endpoints from now on; those that left are not used again. Only for the control
    /// thread.
    pub fn replace(&self, set: EndpointSet) {
        let now_ms = crate::clock::process_ms();
        for member in &set.members {
            member.endpoint.condition.set_gone(false, now_ms);
        }
        let kept: HashSet<u32> = set.members.iter().map(|member| member.endpoint.id).collect();
        let former = self.endpoints.swap(Arc::new(set));
        for member in former.members.iter().filter(|one| !kept.contains(&one.endpoint.id)) {
            member.endpoint.condition.set_gone(true, now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_called_as_written_and_services_by_their_domain() {
        let named = |address: EndpointAddress| {
            let spec = vec![model::EndpointSpec { address, weight: 1 }];
            let spec = model::Upstream::new(Name::new("api").unwrap(), spec);
            let found = |_: &_| {
                let address = "192.0.2.1:80".parse().ok()?;
                Some(vec![Resolved { address, weight: 1 }])
            };
            let mut registry = EndpointRegistry::default();
            let set = EndpointSet::resolve(&spec, &found, &mut registry);
            set.members[0].endpoint.host.to_string()
        };
        let service = "_http._tcp.api.openclaw.example".to_owned();
        assert_eq!(named(EndpointAddress::Srv(service)), "api.openclaw.example");
        let host = "db_1.openclaw.example".to_owned();
        assert_eq!(named(EndpointAddress::Name { host: host.clone(), port: 80 }), host);
        assert_eq!(named(EndpointAddress::Ip("[::1]:80".parse().unwrap())), "::1");
        assert_eq!(named(EndpointAddress::Unix("/run/a.sock".into())), "localhost");
    }

    #[test]
    fn targets_are_read_as_they_are_shown() {
        for text in ["192.0.2.1:80", "[2001:db8::1]:80", "unix:/run/app.sock"] {
            assert_eq!(Target::parse(text).unwrap().to_string(), text);
        }
        for text in ["192.0.2.1", "api.openclaw.example:80", "unix:run", "unix:", ""] {
            assert_eq!(Target::parse(text), None, "{text}");
        }
    }
}
