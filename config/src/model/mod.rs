//! What the rest of the program reads: only valid values, every default already applied.
//!
//! Two halves, because they fail differently (design.md #8): [`Global`] is accepted or refused as
//! a whole; certificates, upstreams and routes are entries, and a bad entry is quarantined alone.

pub(crate) mod issuance;
mod policy;
mod tenants;
mod upstream;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use self::issuance::{
    AcmeIssuer, Certificate, CertificateSource, Challenge, Eab, Issuer, KeyType, OrderLimits,
};
pub use self::policy::{
    Access, AddressPrefix, BasicAuth, Cors, ErrorPage, KeyPart, LimitKey, Maintenance, Missing,
    OriginPattern, Origins, Pacing, PasswordEntry, PasswordHash, Rate, RateLimit, Rewrite, Satisfy,
    SecurityHeaders,
};
pub(crate) use self::tenants::DraftPart;
pub use self::tenants::{
    CertificatePer, Draft, Part, Tenant, TenantCertificates, TenantOf, Tenants,
};
pub use self::upstream::{
    Balance, ClientCertificate, Ejection, EndpointAddress, EndpointSpec, HashKey, HealthCheck,
    Probe, ProxyProtocolVersion, Queue, Retries, RouteRetry, RouteTimeouts, SplitTarget,
    StickyCookie, Upstream, UpstreamLimits, UpstreamProtocol, UpstreamTimeouts, UpstreamTls,
};
pub use crate::tenants::{Stray, Template, TenantEntries};
use crate::value::{HostPattern, MethodName, Name, NormPath, Secret};

/// Everything that is not an entry. One error in here refuses the whole file.
#[derive(Clone, Debug, PartialEq)]
pub struct Global {
    /// Worker threads; `None`: one per available core. Restart needed to change.
    pub workers: Option<NonZeroUsize>,
    /// Certificates, last accepted entries. Restart needed to change.
    pub state_dir: PathBuf,
    pub admin: Admin,
    pub listeners: BTreeMap<Name, Listener>,
    pub issuers: BTreeMap<Name, Issuer>,
    /// Issuer of hosts that no `certificates:` entry names; `None`: such hosts have no TLS.
    pub default_issuer: Option<Name>,
    /// Peers whose `X-Forwarded-*`, `X-Real-IP` and `X-Request-Id` are believed.
    pub trusted_proxies: Vec<IpNet>,
    pub limits: ProcessLimits,
    pub metrics: Metrics,
    pub log: Log,
    pub drain: Drain,
    /// `None`: there are none.
    pub tenants: Option<Tenants>,
    /// The global part's source before interpolation, one key per line: what the state directory
    /// keeps (see [`crate::last_good`]). Not for comparison: it changes with every quote.
    pub text: Arc<str>,
}

/// The admin server. Restart needed to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Read-only API over TCP; `None` (written `listen: off`): no TCP at all.
    pub listen: Option<SocketAddr>,
    /// Full API over a unix socket with mode 0600.
    pub socket: Option<PathBuf>,
    /// Names besides IP literals and `localhost` that a Host field may carry (DNS rebinding).
    pub allowed_hosts: Vec<String>,
}

/// A set of bound addresses with one protocol policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub name: Name,
    /// Restart needed to change. Port 0 binds a free port.
    pub bind: Vec<SocketAddr>,
    /// `None`: plaintext.
    pub tls: Option<TlsPolicy>,
    /// Every known host is redirected to https (308) instead of routed.
    pub redirect_to_https: bool,
    /// The port that clients see where it differs from the bound one (NAT, port forward).
    pub public_port: Option<u16>,
    pub limits: ListenerLimits,
    pub timeouts: ListenerTimeouts,
    pub http2: Http2Policy,
    /// Header names with `_` are dropped unless this is set.
    pub allow_underscores: bool,
    /// Peers that begin every connection with a PROXY protocol header (v1 or v2), which is
    /// believed; empty (default): nobody. Other peers of such a listener are refused.
    pub proxy_protocol: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TlsPolicy {
    pub min_version: TlsVersion,
    /// Shown to clients that send no SNI; `None`: they are refused.
    pub default_certificate: Option<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ListenerLimits {
    /// Open connections of the listener, per process; `None`: min(15,000, (RLIMIT_NOFILE - 128) / 2).
    pub connections: Option<usize>,
    /// Per client address (IPv4 /32, IPv6 /64). Not for loopback and trusted proxies. Default 200.
    pub connections_per_ip: usize,
    /// Request head in bytes. Default 32 KiB, at most 64 KiB.
    pub head_bytes: usize,
    /// Header fields of a request, at most 100. Default 100.
    pub head_fields: usize,
    /// Request target in bytes. Default 16 KiB.
    pub target_bytes: usize,
    /// TLS handshakes under way at once, per worker. Default 1,024.
    pub handshakes: usize,
    /// New connections per client address (IPv4 /32, IPv6 /64), before TLS; `None` (written
    /// `off`): no limit. Not for loopback and trusted proxies. Default 200/s.
    pub connection_rate: Option<Rate>,
    /// New connections that may come at once. Default: twice the number of `connection_rate`.
    pub connection_burst: NonZeroU32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTimeouts {
    /// TLS handshake, accept to finished. Default 10 s.
    pub handshake: Duration,
    /// First byte of a request head to its last; also the first head after connect. Default 10 s.
    pub head: Duration,
    /// Idle between requests (HTTP/1.1). Default 75 s.
    pub keep_alive: Duration,
    /// No progress of a request body that we wait for. Default 60 s.
    pub body_progress: Duration,
    /// Least average rate of a request body over 30 s while we wait for it, bytes per second;
    /// 0 switches it off. Default 240.
    pub body_min_rate: u64,
    /// No progress of a client that does not read its response. Default 60 s.
    pub write_progress: Duration,
    /// Idle HTTP/2 connection without streams. Default 120 s.
    pub http2_idle: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Http2Policy {
    pub enabled: bool,
    /// Concurrent streams per connection. Default 100.
    pub max_streams: u32,
}

/// Process-wide ceilings, shared by all workers.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessLimits {
    /// Buffered bytes of all connections together. Default 128 MiB.
    pub buffered_bytes: u64,
    /// Open connections to endpoints; `None`: (RLIMIT_NOFILE - 128) / 2.
    pub upstream_connections: Option<usize>,
    /// Keys that each rate limit remembers; those beyond share buckets. Default 100,000.
    pub limiter_keys: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Time series of routes, upstreams and tenants, as they come to be in ordinary use; names
    /// beyond share the label `other`. Default 50,000.
    pub max_series: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub access: AccessLog,
    /// Waiting access-log bytes, beyond which lines are dropped and counted. Default 8 MiB.
    pub queue_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    Json,
    Text,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// SIGTERM to exit, at most. Default 15 s.
    pub deadline: Duration,
    /// Streams of a removed route may go on for this long. Default 30 s.
    pub removed_route_grace: Duration,
}

// === entries ===

/// Which requests, and what happens to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    pub name: Name,
    pub hosts: Vec<HostPattern>,
    pub path: PathRule,
    /// Empty: every method.
    pub methods: Vec<MethodName>,
    pub action: Action,
    /// Request body in bytes; `None` (written `unlimited`): no limit. Default 10 MiB.
    pub body_limit: Option<u64>,
    pub rate_limits: Vec<RateLimit>,
    /// `None`: everybody.
    pub access: Option<Access>,
    pub maintenance: Option<Maintenance>,
    pub cors: Option<Cors>,
    pub rewrite: Option<Rewrite>,
    pub pacing: Option<Pacing>,
    pub error_pages: Vec<ErrorPage>,
    pub headers: HeaderRules,
    pub security_headers: Option<SecurityHeaders>,
    pub hsts: Option<Hsts>,
    pub timeouts: RouteTimeouts,
    pub retry: RouteRetry,
    /// Default true.
    pub access_log: bool,
    /// `None`: a route of the config file.
    pub tenant: Option<TenantOf>,
}

/// Paths are normalised (design.md #15) and start with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathRule {
    /// The whole path.
    Exact(NormPath),
    /// Whole segments: `/api` matches `/api` and `/api/x`, not `/apix`. `/` matches everything.
    Prefix(NormPath),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Forward to this upstream.
    Upstream(Name),
    /// Forward to one of several upstreams by weight (canary, blue/green).
    Split(Vec<SplitTarget>),
    Redirect(Redirect),
    Respond(FixedResponse),
}

/// Where a redirect leads: parts that are `None` are kept from the request (as it is after
/// `rewrite`).
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// `true`: https, on the public port of the https listener.
    pub https: bool,
    pub host: Option<String>,
    /// Of the URL that clients are sent to; `None`: the scheme's, or the https listener's own.
    pub port: Option<u16>,
    /// Absolute path, as it goes into `Location`.
    pub path: Option<String>,
    /// The query goes along. Default true.
    pub keep_query: bool,
    /// 301, 302, 307 or 308. Default 308.
    pub status: u16,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FixedResponse {
    /// 200 to 599.
    pub status: u16,
    pub content_type: Option<String>,
    /// At most 64 KiB.
    pub body: String,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct HeaderRules {
    pub request: HeaderEdits,
    pub response: HeaderEdits,
}

/// Applied in this order: remove, set (replaces), add. Names are lower-case tokens, values are
/// visible ASCII plus blank; framing, hop-by-hop and identity fields are refused at load.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HeaderEdits {
    pub remove: Vec<String>,
    pub set: Vec<(String, Secret)>,
    pub add: Vec<(String, Secret)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Hsts {
    pub max_age: Duration,
    pub include_subdomains: bool,
    pub preload: bool,
}

/// A `tests:` entry: one request and what must happen to it.
#[derive(Clone, Debug, PartialEq)]
pub struct TestCase {
    pub method: MethodName,
    /// `true`: https.
    pub https: bool,
    /// As written in the URL, without port.
    pub host: String,
    /// Path and query as written, `/` when absent.
    pub target: String,
    /// Where it comes from. Default 127.0.0.1.
    pub client: IpAddr,
    pub expect: Expectation,
    /// 1-based line in the config file, for the report.
    pub line: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// The route of this name handles it.
    Route(Name),
    /// It is redirected to this URL.
    Redirect(String),
    /// The edge itself answers with this status.
    Status(u16),
}

// === entry containers ===

/// An entry as one file gives it.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<T> {
    Good(Good<T>),
    Bad(BadEntry),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Good<T> {
    pub value: Arc<T>,
    /// The entry's source text before interpolation, one YAML mapping `name: {...}`: what the
    /// state directory keeps, so that no secret reaches the disk.
    pub text: Arc<str>,
    pub line: u64,
}

/// An entry that cannot be used, with what can still be known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct BadEntry {
    pub reasons: Vec<crate::error::Diagnostic>,
    /// Host and path claims of a bad route, as far as they could be read: they answer 503
    /// `quarantined` when no former version serves and no good route claims them.
    pub claims: Vec<(HostPattern, PathRule)>,
    pub line: u64,
}

/// One parsed file: global part valid, entries each good or bad.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub global: Arc<Global>,
    pub certificates: BTreeMap<Name, Entry<Certificate>>,
    pub upstreams: BTreeMap<Name, Entry<Upstream>>,
    pub routes: BTreeMap<Name, Entry<Route>>,
    pub tenants: TenantEntries,
    pub tests: Vec<TestCase>,
    /// Things that work but are probably not meant.
    pub warnings: Vec<crate::error::Diagnostic>,
}
