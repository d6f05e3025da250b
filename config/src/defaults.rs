//! Every default in one place (design.md §4); the reference in README.md repeats them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::model::{
    AccessLog, Admin, Balance, Cors, Drain, Ejection, EndpointSpec, HealthCheck, Http2Policy,
    Listener, ListenerLimits, ListenerTimeouts, Log, Maintenance, Metrics, OrderLimits, Origins,
    Probe, ProcessLimits, Queue, Rate, Retries, TlsPolicy, TlsVersion, Upstream, UpstreamLimits,
    UpstreamProtocol, UpstreamTimeouts,
};
use crate::value::Name;

/// Certificates, last accepted entries.
pub const STATE_DIR: &str = "/var/lib/openclaw-edge";
/// Request body in bytes.
pub const BODY_LIMIT: u64 = 10 * 1024 * 1024;

/// Keys that each rate limit remembers.
pub const LIMITER_KEYS: usize = 100_000;
/// Time series of routes, upstreams and tenants: some 900 routes with an upstream each. Prometheus needs
/// 4 to 8 KiB for each, so nobody has so many unawares.
pub const MAX_SERIES: usize = 200_000;
/// What a browser shows when it asks for a password.
pub const REALM: &str = "restricted";
/// New connections of one client address.
const CONNECTION_RATE: Rate = Rate { count: NonZeroU32::new(200).unwrap(), per: SECOND };
const TWO: NonZeroU32 = NonZeroU32::new(2).unwrap();
const SECOND: Duration = Duration::from_secs(1);

/// Largest registry of tenants in bytes.
pub const REGISTRY_BYTES: usize = 16 * 1024 * 1024;
/// Most entries of a registry of tenants.
pub const REGISTRY_TENANTS: usize = 50_000;
/// The field of an entry that names its tenant.
pub const TENANT_ID: &str = "tenant";
/// Tenants with a metric label of their own.
pub const METRIC_TENANTS: usize = 100;

/// Let's Encrypt, production.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Let's Encrypt's directory for dry runs.
pub const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

impl Default for Admin {
    fn default() -> Self {
        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);
        Admin { listen: Some(listen), socket: None, allowed_hosts: Vec::new() }
    }
}

impl Listener {
    /// A listener with every default: plaintext, no redirect.
    pub fn new(name: Name, bind: Vec<SocketAddr>) -> Self {
        Listener {
            name,
            bind,
            tls: None,
            redirect_to_https: false,
            public_port: None,
            limits: ListenerLimits::default(),
            timeouts: ListenerTimeouts::default(),
            http2: Http2Policy::default(),
            allow_underscores: false,
            proxy_protocol: Vec::new(),
        }
    }
}

/// The listeners of a file without `listeners`: `http` on port 80, redirecting to `https` on 443.
pub(crate) fn listeners() -> Vec<Listener> {
    let any = |port| vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)];
    let named = |name, port| Name::new(name).map(|name| Listener::new(name, any(port)));
    let http = named("http", 80).map(|http| Listener { redirect_to_https: true, ..http });
    let https = named("https", 443);
    let https = https.map(|https| Listener { tls: Some(TlsPolicy::default()), ..https });
    [http, https].into_iter().flatten().collect()
}

impl Default for TlsPolicy {
    fn default() -> Self {
        TlsPolicy { min_version: TlsVersion::Tls12, default_certificate: None }
    }
}

impl Default for ListenerLimits {
    fn default() -> Self {
        ListenerLimits {
            connections: None,
            connections_per_ip: 200,
            head_bytes: 32 * 1024,
            head_fields: 100,
            target_bytes: 16 * 1024,
            handshakes: 1024,
            connection_rate: Some(CONNECTION_RATE),
            connection_burst: ListenerLimits::burst_of(Some(CONNECTION_RATE)),
        }
    }
}

impl ListenerLimits {
    /// New connections that may come at once, where nothing else is said: twice the number of the
    /// rate.
    #[must_use]
    pub fn burst_of(rate: Option<Rate>) -> NonZeroU32 {
        rate.unwrap_or(CONNECTION_RATE).count.saturating_mul(TWO)
    }
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        ListenerTimeouts {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            body_progress: Duration::from_secs(60),
            body_min_rate: 240,
            write_progress: Duration::from_secs(60),
            http2_idle: Duration::from_secs(120),
        }
    }
}

impl Default for Http2Policy {
    fn default() -> Self {
        Http2Policy { enabled: true, max_streams: 100 }
    }
}

impl Default for OrderLimits {
    fn default() -> Self {
        OrderLimits {
            certificates_per_week: 4,
            certificates_per_hour: 1,
            domain_per_week: 50,
            orders_per_3h: 300,
            failures_per_hour: 4,
        }
    }
}

impl Default for ProcessLimits {
    fn default() -> Self {
        ProcessLimits {
            buffered_bytes: 128 * 1024 * 1024,
            upstream_connections: None,
            limiter_keys: LIMITER_KEYS,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics { max_series: MAX_SERIES }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { access: AccessLog::Json, queue_bytes: 8 * 1024 * 1024 }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Drain { deadline: Duration::from_secs(15), removed_route_grace: Duration::from_secs(30) }
    }
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        UpstreamTimeouts {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            stream_idle: Duration::from_secs(3600),
            keep_alive: Duration::from_secs(4),
            total: None,
        }
    }
}

impl Upstream {
    /// An upstream with every default.
    #[must_use]
    pub fn new(name: Name, endpoints: Vec<EndpointSpec>) -> Self {
        Upstream {
            name,
            endpoints,
            timeouts: UpstreamTimeouts::default(),
            balance: Balance::RoundRobin,
            sticky: None,
            slow_start: Duration::ZERO,
            health: None,
            ejection: Some(Ejection::default()),
            retries: Retries::default(),
            queue: Queue::default(),
            limits: UpstreamLimits::default(),
            protocol: UpstreamProtocol::Http1,
            tls: None,
            proxy_protocol: None,
            tenant: None,
        }
    }
}

impl Upstream {
    /// Whether connections made for one can carry requests of the other.
    #[must_use]
    pub fn same_transport(&self, other: &Upstream) -> bool {
        (self.protocol, &self.tls, self.proxy_protocol)
            == (other.protocol, &other.tls, other.proxy_protocol)
    }
}

impl HealthCheck {
    /// A check with every default.
    #[must_use]
    pub fn new(probe: Probe) -> Self {
        HealthCheck {
            probe,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 1,
            fall: 3,
            start_period: Duration::ZERO,
            port: None,
        }
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Ejection {
            failures: 5,
            time: Duration::from_secs(10),
            max_time: Duration::from_secs(300),
            max_share: 50,
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Retries { attempts: 2, budget: 20 }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Queue { size: 128, timeout: Duration::from_secs(2) }
    }
}

impl Cors {
    /// With every default.
    #[must_use]
    pub fn new(origins: Origins) -> Self {
        Cors {
            origins,
            methods: CORS_METHODS.iter().map(|method| (*method).to_owned()).collect(),
            headers: None,
            expose: Vec::new(),
            credentials: false,
            max_age: Duration::from_secs(3600),
        }
    }
}

/// What pages may do with a route unless `cors.methods` says otherwise.
pub const CORS_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

impl Default for Maintenance {
    fn default() -> Self {
        Maintenance { retry_after: Duration::from_secs(300), allow: Vec::new() }
    }
}
