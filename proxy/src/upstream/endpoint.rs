//! Upstreams and their endpoints as workers see them. Written by the control thread
//! (`control::resolve`), read by workers.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use config::model::{EndpointHost, EndpointSpec, UpstreamTimeouts};
use config::value::Name;

/// A named group of endpoints with one policy.
pub struct Upstream {
    pub name: Name,
    pub spec: Vec<EndpointSpec>,
    pub timeouts: UpstreamTimeouts,
    /// Outlives reloads that leave `spec` as it is.
    pub state: Arc<UpstreamState>,
}

/// The part of an upstream that outlives a reload.
pub struct UpstreamState {
    /// Only `control::resolve` stores into it.
    pub endpoints: ArcSwap<EndpointSet>,
    /// Round-robin position, shared by all workers.
    pub cursor: AtomicUsize,
}

/// The addresses of one upstream at one moment.
#[derive(Default)]
pub struct EndpointSet {
    pub endpoints: Box<[Arc<Endpoint>]>,
    /// Names of the spec that have never been resolved: with no endpoint at all this is
    /// `dns_failed`, not `no_endpoint`.
    pub unresolved: Box<[String]>,
}

/// One `ip:port`.
pub struct Endpoint {
    pub address: SocketAddr,
    /// Equal for equal addresses over the life of the process; keys the workers' pools.
    pub id: u32,
}

/// Hands out one [`Endpoint`] per address, so that ids are stable over reloads. Owned by the
/// control thread.
#[derive(Default)]
pub struct EndpointRegistry {
    known: HashMap<SocketAddr, Weak<Endpoint>>,
    next: u32,
}

impl EndpointRegistry {
    pub fn intern(&mut self, address: SocketAddr) -> Arc<Endpoint> {
        if let Some(endpoint) = self.known.get(&address).and_then(Weak::upgrade) {
            return endpoint;
        }
        // Bounded by what is configured: forgotten endpoints are dropped before the map grows.
        if self.known.len() >= 1024 && self.known.len().is_power_of_two() {
            self.known.retain(|_, endpoint| endpoint.strong_count() > 0);
        }
        self.next = self.next.wrapping_add(1);
        let endpoint = Arc::new(Endpoint { address, id: self.next });
        self.known.insert(address, Arc::downgrade(&endpoint));
        endpoint
    }
}

impl EndpointSet {
    /// The set for a spec, with what is known of its names. The order is that of the spec, and of
    /// addresses within a name, so that every process walks the endpoints alike.
    pub fn resolve(
        spec: &[EndpointSpec],
        resolved: &dyn Fn(&str) -> Option<Vec<IpAddr>>,
        registry: &mut EndpointRegistry,
    ) -> EndpointSet {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        let mut unresolved = Vec::new();
        for endpoint in spec {
            match &endpoint.host {
                EndpointHost::Ip(ip) => addresses.push(SocketAddr::new(*ip, endpoint.port)),
                EndpointHost::Name(name) => match resolved(name) {
                    Some(mut ips) => {
                        ips.sort();
                        addresses.extend(ips.iter().map(|ip| SocketAddr::new(*ip, endpoint.port)));
                    }
                    None => unresolved.push(name.clone()),
                },
            }
        }
        let mut seen = HashSet::new();
        addresses.retain(|address| seen.insert(*address));
        EndpointSet {
            endpoints: addresses.into_iter().map(|address| registry.intern(address)).collect(),
            unresolved: unresolved.into(),
        }
    }
}
