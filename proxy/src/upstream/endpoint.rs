//! Upstreams and their endpoints as workers see them. Written by the control thread
//! (`control::resolve`), read by workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use config::model::{EndpointSpec, UpstreamTimeouts};
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
