//! The compiled, immutable tables that workers read. Built by [`super::compile`], published by
//! `control`, read by every worker through a cached `ArcSwap` guard.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use config::model::{
    AccessLog, Http2Policy, ListenerLimits, ListenerTimeouts, Maintenance, Pacing, PathRule,
    RouteRetry, UpstreamTimeouts,
};
use config::value::{HostPattern, Name};
use ipnet::IpNet;

use super::edits::Edits;
use super::removed::RemovedHosts;
use crate::access::Access;
use crate::downstream::tls::ListenerTls;
use crate::filter::cors::CorsPolicy;
use crate::filter::pages::Pages;
use crate::filter::rewrite::Rewrite;
use crate::limit::{AddressRate, RouteLimits};
use crate::metrics::ListenerCounts;
use crate::request::client::Client;
use crate::request::view::split_target;
use crate::upstream::endpoint::Upstream;

/// One generation of everything that a request is decided by.
pub struct Snapshot {
    /// Counts from 1; 0 is the empty table before the first configuration.
    pub generation: u64,
    /// Indexed by listener id, which is stable for the life of the process.
    pub listeners: Vec<Arc<ListenerPolicy>>,
    pub hosts: HostTable,
    /// Every compiled route, in name order.
    pub routes: Vec<Arc<Route>>,
    /// In name order.
    pub upstreams: Vec<Arc<Upstream>>,
    pub trusted_proxies: Vec<IpNet>,
    pub limits: Limits,
    pub access_log: AccessLog,
    /// Lives of removed routes that still have streams to end: a route that comes back in time
    /// takes its life up again.
    pub retired: Vec<(Whose, Arc<RouteLife>)>,
    pub removed: Arc<RemovedHosts>,
}

/// Process-wide ceilings with their defaults resolved.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    pub buffered_bytes: usize,
    pub upstream_connections: usize,
    /// Streams of a removed route end after this time.
    pub removed_route_grace: Duration,
    /// The same of a removed tenant.
    pub removed_tenant_drain: Duration,
    /// Keys that each rate limit remembers.
    pub limiter_keys: usize,
}

/// The live half of a listener: everything but its bound addresses.
pub struct ListenerPolicy {
    pub name: Name,
    pub counts: ListenerCounts,
    /// `None`: plaintext.
    pub tls: Option<ListenerTls>,
    /// `Some`: known hosts are redirected to https on this public port.
    pub redirect_https_port: Option<u16>,
    /// The port that clients see: `public_port`, else the bound one.
    pub public_port: u16,
    /// Open connections, with the default resolved.
    pub max_connections: usize,
    /// New connections by client address; `None`: no limit.
    pub connection_rate: Option<AddressRate>,
    pub limits: ListenerLimits,
    pub timeouts: ListenerTimeouts,
    pub http2: Http2Policy,
    pub allow_underscores: bool,
    /// Peers that begin with a PROXY protocol header, and the only ones then; empty: nobody does.
    pub proxy_protocol: Box<[IpNet]>,
    /// The `certificates:` entry for clients without SNI.
    pub default_certificate: Option<Box<str>>,
}

/// Hosts to their routes.
#[derive(Default)]
pub struct HostTable {
    pub exact: HashMap<Arc<str>, Arc<HostEntry>>,
    /// Key: the part after `*.`.
    pub wildcard: HashMap<Arc<str>, Arc<HostEntry>>,
    /// Some of them answer for quarantined routes.
    pub blocked: bool,
}

impl HostTable {
    /// Whether something serves under just this pattern.
    pub fn has(&self, host: &HostPattern) -> bool {
        match host {
            HostPattern::Exact(name) => self.exact.contains_key(name),
            HostPattern::Wildcard(suffix) => self.wildcard.contains_key(suffix),
        }
    }
}

/// The routes of one host, most specific first.
pub struct HostEntry {
    pub rules: Vec<Rule>,
    /// Whether any rule reads the path or changes it: then targets are normalised (design.md #15).
    pub path_rules: bool,
}

pub struct Rule {
    pub path: PathRule,
    /// Empty: every method.
    pub methods: Box<[Box<str>]>,
    pub route: Arc<Route>,
}

/// A route's name, and whether a tenant has it: of the config file and of a tenant they are two.
pub type Whose = (Name, bool);

/// What is counted of a route or an upstream is counted under this.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    /// Its own name; for what a template made of a tenant, the template's.
    pub name: Name,
    /// `other` for a tenant beyond `metrics.tenants`.
    pub tenant: Option<Name>,
}

impl Series {
    pub fn own(name: &Name) -> Series {
        Series { name: name.clone(), tenant: None }
    }
}

/// One compiled route.
pub struct Route {
    pub name: Name,
    pub series: Series,
    /// What it was compiled from; `None`: a route that the configuration does not hold.
    pub spec: Option<Arc<config::model::Route>>,
    /// Unique for the life of the process; a changed route gets a new one.
    pub id: u64,
    pub action: Action,
    /// `u64::MAX`: no limit.
    pub body_limit: u64,
    pub request_edits: Edits,
    pub response_edits: Edits,
    pub cors: Option<CorsPolicy>,
    pub rewrite: Option<Rewrite>,
    pub maintenance: Option<Maintenance>,
    /// Of the edge's own errors on this route.
    pub pages: Pages,
    /// Sent on TLS only.
    pub hsts: Option<Hsts>,
    pub access: Option<Access>,
    pub limits: RouteLimits,
    pub access_log: bool,
    /// Of each client connection.
    pub pacing: Option<Pacing>,
    pub life: Arc<RouteLife>,
}

impl Route {
    pub fn whose(&self) -> Whose {
        (self.name.clone(), self.series.tenant.is_some())
    }

    /// A route that asks for nothing and changes nothing.
    pub fn bare(name: Name, action: Action) -> Route {
        Route {
            series: Series::own(&name),
            name,
            spec: None,
            id: next_id(),
            action,
            body_limit: u64::MAX,
            request_edits: Edits::default(),
            response_edits: Edits::default(),
            cors: None,
            rewrite: None,
            maintenance: None,
            pages: Pages::default(),
            access: None,
            limits: RouteLimits::default(),
            hsts: None,
            access_log: true,
            pacing: None,
            life: Arc::default(),
        }
    }
}

/// Tells routes and targets apart for the life of the process.
pub fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub enum Action {
    Forward(Targets),
    Redirect(Redirect),
    Respond(Respond),
    /// The route is quarantined and no former version serves.
    Quarantined,
}

/// Where a route forwards to.
pub enum Targets {
    One(Arc<RouteTarget>),
    Split(Split),
}

/// An upstream with the timeouts that hold for requests of one route.
pub struct RouteTarget {
    /// Unique among routes and targets for the life of the process.
    pub id: u64,
    pub upstream: Arc<Upstream>,
    pub timeouts: UpstreamTimeouts,
    pub retry: RouteRetry,
}

/// Several upstreams by weight.
pub struct Split {
    /// Not empty; weights are not all 0.
    pub parts: Box<[(Arc<RouteTarget>, u32)]>,
    total: u32,
    drawn: AtomicU32,
}

impl Split {
    pub fn new(parts: Vec<(Arc<RouteTarget>, u32)>) -> Split {
        let total = parts.iter().map(|(_, weight)| weight).sum();
        Split { parts: parts.into(), total, drawn: AtomicU32::new(0) }
    }

    /// The parts and their shares of the requests, 0 to 1.
    pub fn shares(&self) -> impl Iterator<Item = (&Arc<RouteTarget>, f64)> {
        let total = f64::from(self.total.max(1));
        self.parts.iter().map(move |(part, weight)| (part, f64::from(*weight) / total))
    }

    /// The part whose turn it is: each gets its share, evenly spread.
    fn next(&self) -> Option<&Arc<RouteTarget>> {
        // The golden ratio's multiples fill the circle evenly, however many are drawn.
        let turn = self.drawn.fetch_add(0x9E37_79B9, Ordering::Relaxed);
        let mut at = u32::try_from((u64::from(turn) * u64::from(self.total)) >> 32).unwrap_or(0);
        for (part, weight) in &self.parts {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return Some(part),
            }
        }
        self.parts.first().map(|(part, _)| part)
    }
}

impl Targets {
    /// Where this request goes.
    pub fn pick(&self) -> Option<&Arc<RouteTarget>> {
        match self {
            Targets::One(target) => Some(target),
            Targets::Split(split) => split.next(),
        }
    }

    /// Every upstream that requests may go to.
    pub fn all(&self) -> Vec<&Arc<RouteTarget>> {
        match self {
            Targets::One(target) => vec![target],
            Targets::Split(split) => split.parts.iter().map(|(part, _)| part).collect(),
        }
    }
}

pub struct Redirect {
    /// To https; otherwise the scheme stays.
    pub https: bool,
    /// Of the URL; `None`: the scheme's own.
    pub port: Option<u16>,
    pub host: Option<Box<str>>,
    /// `None`: the request's own.
    pub path: Option<Box<str>>,
    pub keep_query: bool,
    pub status: u16,
}

impl Redirect {
    /// The same place by https, on this public port.
    pub fn to_https(port: u16) -> Redirect {
        Redirect {
            https: true,
            port: Some(port),
            host: None,
            path: None,
            keep_query: true,
            status: 308,
        }
    }

    /// Whether a client on this public port that asks for this host and target is sent to where it
    /// is. By https only the listener's own port is thought of.
    pub fn leads_back(&self, host: &str, target: &[u8], client: &Client, port: u16) -> bool {
        let path = split_target(target).0;
        let to = self.path.as_deref().map_or(path, str::as_bytes);
        let same_host = self.host.as_deref().is_none_or(|to| to == host);
        let same_target = to == if self.keep_query { path } else { target };
        let same_port =
            if self.https { client.tls.is_some() } else { self.port.is_none_or(|to| to == port) };
        same_host && same_target && same_port
    }
}

pub struct Respond {
    pub status: u16,
    pub content_type: Option<Box<str>>,
    pub body: bytes::Bytes,
}

/// `Strict-Transport-Security`, ready for both protocols.
pub struct Hsts {
    /// The finished line with its CRLF.
    pub line: Box<[u8]>,
    pub value: http::HeaderValue,
}

/// Shared by all generations of a route of one name; tells streams when the route was removed.
#[derive(Default)]
pub struct RouteLife {
    /// Process milliseconds (`clock::process_ms`) after which streams end; 0: serving.
    end_at: AtomicU64,
}

impl RouteLife {
    /// The route was removed: its streams end at `at_ms`.
    pub fn retire(&self, at_ms: u64) {
        self.end_at.store(at_ms.max(1), Ordering::Release);
    }

    /// The route is back (a later file names it again).
    pub fn revive(&self) {
        self.end_at.store(0, Ordering::Release);
    }

    pub fn ended(&self, now_ms: u64) -> bool {
        let at = self.end_at.load(Ordering::Acquire);
        at != 0 && at <= now_ms
    }
}

/// A listening address as bound, for `/readyz` and the log.
#[derive(Clone, Debug)]
pub struct BoundAddress {
    pub listener: Name,
    pub address: SocketAddr,
    pub tls: bool,
}
