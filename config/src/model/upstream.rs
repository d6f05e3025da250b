//! Upstreams: which endpoints, how one is chosen, what is watched, how they are spoken to.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::TenantOf;
use crate::value::Name;

/// A named group of endpoints with one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    pub name: Name,
    pub endpoints: Vec<EndpointSpec>,
    pub timeouts: UpstreamTimeouts,
    pub balance: Balance,
    /// Clients stay with their endpoint by a cookie; comes before `balance`.
    pub sticky: Option<StickyCookie>,
    /// An endpoint that appears or recovers gets its full share after this time, linearly from a
    /// tenth. Zero (default): at once.
    pub slow_start: Duration,
    pub health: Option<HealthCheck>,
    /// `None` (written `off`): endpoints are never ejected for what requests met.
    pub ejection: Option<Ejection>,
    pub retries: Retries,
    pub queue: Queue,
    pub limits: UpstreamLimits,
    pub protocol: UpstreamProtocol,
    /// `None`: plaintext.
    pub tls: Option<UpstreamTls>,
    /// Sent first on every connection to an endpoint.
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    /// `None`: an upstream of the config file.
    pub tenant: Option<TenantOf>,
}

/// One entry of `endpoints`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointSpec {
    pub address: EndpointAddress,
    /// Share among the endpoints, 1 to 1,000. Default 1. For SRV records the record's own weight
    /// (0 counts as 1) is multiplied by it.
    pub weight: u16,
}

/// Where an endpoint is, as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    Ip(SocketAddr),
    /// Resolved by the control plane: A and AAAA, each address an endpoint.
    Name {
        host: String,
        port: u16,
    },
    /// `srv+NAME`: SRV records give hosts, ports and weights (RFC 2782; the lowest priority only).
    Srv(String),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointAddress::Ip(address) => write!(f, "{address}"),
            EndpointAddress::Name { host, port } => write!(f, "{host}:{port}"),
            EndpointAddress::Srv(name) => write!(f, "srv+{name}"),
            EndpointAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTimeouts {
    /// TCP and TLS until requests can be sent. Default 5 s.
    pub connect: Duration,
    /// Request sent to first byte of the response head. Default 60 s.
    pub first_byte: Duration,
    /// No progress of a response body while we wait for it. Default 60 s.
    pub idle: Duration,
    /// Event streams and tunnels (WebSocket): silence in both directions. Default 1 h.
    pub stream_idle: Duration,
    /// An idle pooled connection is closed after this time, earlier where the endpoint is known to
    /// close it earlier. Default 4 s.
    pub keep_alive: Duration,
    /// Request head received to response complete; `None` (default): no limit. Event streams and
    /// tunnels end with it, too.
    pub total: Option<Duration>,
}

/// A route's own timeouts; `None`: the upstream's.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RouteTimeouts {
    pub connect: Option<Duration>,
    pub first_byte: Option<Duration>,
    pub idle: Option<Duration>,
    pub stream_idle: Option<Duration>,
    pub total: Option<Duration>,
}

impl RouteTimeouts {
    /// The upstream's timeouts with the route's own in their places.
    #[must_use]
    pub fn over(&self, upstream: &UpstreamTimeouts) -> UpstreamTimeouts {
        UpstreamTimeouts {
            connect: self.connect.unwrap_or(upstream.connect),
            first_byte: self.first_byte.unwrap_or(upstream.first_byte),
            idle: self.idle.unwrap_or(upstream.idle),
            stream_idle: self.stream_idle.unwrap_or(upstream.stream_idle),
            keep_alive: upstream.keep_alive,
            total: self.total.or(upstream.total),
        }
    }
}

/// How an endpoint is chosen among those that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight (default).
    RoundRobin,
    /// Of two drawn by weight the one with fewer requests under way.
    LeastRequest,
    /// Of two drawn by weight the one with the smaller product of recent time to first byte (peak
    /// sensitive moving average) and requests under way.
    PeakEwma,
    /// The same key goes to the same endpoint while that can be used (Maglev).
    Hash(HashKey),
}

/// What requests are told apart by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address (as for `X-Forwarded-For`: behind trusted proxies the right-most
    /// address that is none of theirs).
    ClientIp,
    /// A request field, name in lower case. Requests without it are balanced in turn.
    Header(String),
    /// A cookie. Requests without it are balanced in turn.
    Cookie(String),
    /// The normalised path without query.
    Path,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyCookie {
    pub name: String,
    /// `None` (default): the cookie lives as long as the browser's session.
    pub max_age: Option<Duration>,
}

/// Questions to every endpoint, whatever the traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    pub probe: Probe,
    /// Between two questions, ± 10 %. Default 5 s.
    pub interval: Duration,
    /// For one question, connect included. Default 2 s.
    pub timeout: Duration,
    /// Good answers in a row that make an unhealthy endpoint healthy. Default 1.
    pub rise: u32,
    /// Bad ones in a row that make a healthy endpoint unhealthy. Default 3.
    pub fall: u32,
    /// A new endpoint that has not answered well yet is not called unhealthy for this long; it
    /// gets no traffic meanwhile while others can be used. Default 0 s.
    pub start_period: Duration,
    /// Ask this port instead of the endpoint's own.
    pub port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    Http {
        path: String,
        /// Host field; `None`: the endpoint as written.
        host: Option<String>,
        /// Statuses that are good, inclusive. Default 200 to 399.
        status: (u16, u16),
        /// Text that must stand in the first 64 KiB of the body.
        body: Option<String>,
    },
    /// A connection can be made.
    Tcp,
    /// `grpc.health.v1.Health/Check` answers SERVING for this service ("": the whole server).
    Grpc { service: String },
}

/// Endpoints that fail requests are left alone for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row: connect failures, 5xx answers, timeouts, broken answers. Default 5.
    pub failures: u32,
    /// First ejection; each further one in a row takes twice as long. Default 10 s.
    pub time: Duration,
    /// Default 300 s.
    pub max_time: Duration,
    /// Percent of the upstream's endpoints that may be out at once (rounded down). Default 50.
    pub max_share: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Further endpoints tried for one request. Default 2.
    pub attempts: u32,
    /// Retries in percent of requests, over 10 s; ten per 10 s are always allowed. Default 20.
    /// Connects that failed do not count: nothing was sent.
    pub budget: u8,
}

/// What a route may have tried again although the endpoint may have seen it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RouteRetry {
    /// Answers with these statuses (500 to 599), for idempotent methods.
    pub statuses: Vec<u16>,
    /// No first byte within `first_byte`, for idempotent methods.
    pub timeout: bool,
    /// Also POST and PATCH: the backend must know how to meet the same request twice.
    pub non_idempotent: bool,
}

/// Requests that wait for an endpoint: none of them can be reached, or all are at their limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Waiting requests of the upstream at most, per process; 0 switches waiting off. Default 128.
    pub size: usize,
    /// One request waits this long. Default 2 s.
    pub timeout: Duration,
}

/// Per process; `None`: no limit of its own.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UpstreamLimits {
    /// Open connections to all endpoints.
    pub connections: Option<usize>,
    /// Requests under way at all endpoints.
    pub requests: Option<usize>,
    /// Open connections to one endpoint.
    pub endpoint_connections: Option<usize>,
    /// Requests under way at one endpoint.
    pub endpoint_requests: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1 (default).
    Http1,
    /// HTTP/2: by ALPN on TLS, else with prior knowledge (h2c).
    Http2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM file of the CAs that are trusted; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// PEM files shown to endpoints that ask for a certificate.
    pub certificate: Option<ClientCertificate>,
    /// SNI and name in the endpoint's certificate; `None`: the endpoint's host as written.
    pub server_name: Option<String>,
    /// The endpoint's certificate is not verified at all.
    pub insecure: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// haproxy's PROXY protocol (proxy-protocol.txt, 2020).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocolVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// One part of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitTarget {
    pub upstream: Name,
    /// Share among the parts, 0 to 1,000; not all are 0.
    pub weight: u16,
}
