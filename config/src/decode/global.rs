//! The part of a file that is accepted or refused as a whole.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::read::shown;
use super::{At, Cx, Fields, keys};
use crate::defaults;
use crate::model::{
    AccessLog, Admin, Candidate, Drain, Entry, Global, Log, Metrics, ProcessLimits, Upstream,
};
use crate::node::{self, Node};
use crate::value::{HostPattern, Name, ValueError, quote};

/// What entries start from: the built-in defaults with `defaults:` applied.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    /// Its name and endpoints mean nothing.
    pub upstream: Upstream,
    /// `None`: unlimited.
    pub body_limit: Option<u64>,
    pub access_log: bool,
}

impl Cx<'_> {
    pub(crate) fn version(&mut self, top: &Fields<'_, '_>) {
        if !top.has("version") {
            let help = Some("write `version: 1` as the first line".into());
            return self.error(top.pos, top.at, "`version` is missing", help);
        }
        self.field(top, "version", |cx, node, at| {
            cx.value(node, at, |text| match text {
                "1" => Ok(()),
                _ => Err(ValueError::new("`1`", format!("version {} is not known", quote(text)))
                    .help("write `version: 1`")),
            })
        });
    }

    pub(crate) fn global(&mut self, top: &Fields<'_, '_>) -> (Global, Defaults) {
        let workers = self.field(top, "workers", |cx, node, at| cx.count(node, at, 1..=1024));
        let issuers = self.issuers(top);
        let default_issuer = self.default_issuer(top, &issuers);
        let drain = self.field(top, "drain", Self::drain).unwrap_or_default();
        let grace = drain.removed_route_grace;
        let tenants = self.tenant_settings(top, &issuers, default_issuer.as_ref(), grace);
        let global = Global {
            workers: workers.and_then(NonZeroUsize::new),
            state_dir: self
                .field(top, "state_dir", Self::absolute_path)
                .unwrap_or_else(|| PathBuf::from(defaults::STATE_DIR)),
            admin: self.field(top, "admin", Self::admin).unwrap_or_default(),
            listeners: self.listeners(top),
            issuers,
            default_issuer,
            trusted_proxies: self
                .field(top, "trusted_proxies", |cx, node, at| {
                    cx.list(node, at, 0..=1000, Self::network)
                })
                .unwrap_or_default(),
            limits: self.field(top, "limits", Self::process_limits).unwrap_or_default(),
            metrics: self.field(top, "metrics", Self::metrics).unwrap_or_default(),
            log: self.field(top, "log", Self::log).unwrap_or_default(),
            drain,
            tenants,
            text: text_of(top).into(),
        };
        (global, self.defaults(top))
    }

    fn admin(&mut self, node: &Node, at: &At<'_>) -> Option<Admin> {
        let fields = self.fields(node, at, &keys::ADMIN)?;
        let mut admin = Admin::default();
        if let Some(listen) = self.field(&fields, "listen", |cx, node, at| {
            cx.value(node, at, |text| match text {
                "off" => Ok(None),
                _ => socket_address(text).map(Some),
            })
        }) {
            admin.listen = listen;
        }
        admin.socket = self.field(&fields, "socket", |cx, node, at| {
            let path = cx.absolute_path(node, at)?;
            // sun_path of unix(7), with its NUL.
            if path.as_os_str().len() > 107 {
                cx.error(node.pos, at, "a socket path has at most 107 bytes", None);
            }
            Some(path)
        });
        if let Some(hosts) = self.field(&fields, "allowed_hosts", |cx, node, at| {
            cx.list(node, at, 0..=100, Self::exact_host)
        }) {
            admin.allowed_hosts = hosts;
        }
        Some(admin)
    }

    /// A host name without a wildcard.
    pub(crate) fn exact_host(&mut self, node: &Node, at: &At<'_>) -> Option<String> {
        self.value(node, at, |text| match HostPattern::parse(text)? {
            HostPattern::Exact(host) => Ok(host.to_string()),
            HostPattern::Wildcard(_) => Err(ValueError::new(
                "a host name",
                format!("{} is a pattern; one host belongs here", quote(text)),
            )),
        })
    }

    /// Of peers that are believed.
    pub(crate) fn network(&mut self, node: &Node, at: &At<'_>) -> Option<IpNet> {
        let net = self.subnet(node, at)?;
        if net.prefix_len() == 0 {
            let message = "every peer is trusted to name the client address";
            self.warn(node.pos, at, message, Some("name the addresses of your proxies".into()));
        }
        Some(net)
    }

    /// An address or a network.
    pub(crate) fn subnet(&mut self, node: &Node, at: &At<'_>) -> Option<IpNet> {
        let net = self.value(node, at, |text| {
            let net = text.parse::<IpNet>().ok();
            let net = net.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            net.ok_or_else(|| {
                let message = format!("{} is neither an address nor a network", quote(text));
                ValueError::new("an address or a network", message)
                    .help("write `10.0.0.0/8`, `192.0.2.1` or `2001:db8::/32`")
            })
        })?;
        if net.trunc() != net {
            let message = "the address has bits outside its network";
            self.warn(
                node.pos,
                at,
                message,
                Some(format!("write {}", shown(node, &net.trunc().to_string()))),
            );
        }
        Some(net.trunc())
    }

    fn process_limits(&mut self, node: &Node, at: &At<'_>) -> Option<ProcessLimits> {
        let fields = self.fields(node, at, &keys::LIMITS)?;
        let mut limits = ProcessLimits::default();
        if let Some(bytes) =
            self.field(&fields, "buffered_bytes", |cx, node, at| cx.size(node, at, BUFFERED_BYTES))
        {
            limits.buffered_bytes = bytes;
        }
        limits.upstream_connections =
            self.field(&fields, "upstream_connections", |cx, node, at| {
                cx.count(node, at, 1..=1_000_000)
            });
        let keys =
            self.field(&fields, "limiter_keys", |cx, node, at| cx.count(node, at, LIMITER_KEYS));
        limits.limiter_keys = keys.unwrap_or(limits.limiter_keys);
        Some(limits)
    }

    fn metrics(&mut self, node: &Node, at: &At<'_>) -> Option<Metrics> {
        let fields = self.fields(node, at, &keys::METRICS)?;
        let max = self.field(&fields, "max_series", |cx, node, at| cx.count(node, at, MAX_SERIES));
        Some(Metrics { max_series: max.unwrap_or(defaults::MAX_SERIES) })
    }

    fn log(&mut self, node: &Node, at: &At<'_>) -> Option<Log> {
        let fields = self.fields(node, at, &keys::LOG)?;
        let mut log = Log::default();
        if let Some(access) = self.field(&fields, "access", |cx, node, at| {
            let words =
                [("json", AccessLog::Json), ("text", AccessLog::Text), ("off", AccessLog::Off)];
            cx.word(node, at, &words)
        }) {
            log.access = access;
        }
        if let Some(bytes) =
            self.field(&fields, "queue_bytes", |cx, node, at| cx.size(node, at, QUEUE_BYTES))
        {
            log.queue_bytes = usize::try_from(bytes).unwrap_or(log.queue_bytes);
        }
        Some(log)
    }

    fn drain(&mut self, node: &Node, at: &At<'_>) -> Option<Drain> {
        let fields = self.fields(node, at, &keys::DRAIN)?;
        let mut drain = Drain::default();
        let range = Duration::ZERO..=Duration::from_secs(24 * 3600);
        for (name, slot) in [
            ("deadline", &mut drain.deadline),
            ("removed_route_grace", &mut drain.removed_route_grace),
        ] {
            let read =
                self.field(&fields, name, |cx, node, at| cx.duration(node, at, range.clone()));
            *slot = read.unwrap_or(*slot);
        }
        Some(drain)
    }

    fn defaults(&mut self, top: &Fields<'_, '_>) -> Defaults {
        let mut defaults = Defaults {
            upstream: Upstream::new(Name::resembling("defaults"), Vec::new()),
            body_limit: Some(defaults::BODY_LIMIT),
            access_log: true,
        };
        self.field(top, "defaults", |cx, node, at| {
            let fields = cx.fields(node, at, &keys::DEFAULTS)?;
            cx.field(&fields, "upstream", |cx, node, at| {
                let fields = cx.fields(node, at, &keys::DEFAULTS_UPSTREAM)?;
                cx.upstream_policy(&fields, &mut defaults.upstream);
                Some(())
            });
            cx.field(&fields, "route", |cx, node, at| {
                let fields = cx.fields(node, at, &keys::DEFAULTS_ROUTE)?;
                if let Some(limit) = cx.field(&fields, "body_limit", Self::body_limit) {
                    defaults.body_limit = limit;
                }
                if let Some(on) = cx.field(&fields, "access_log", Self::boolean) {
                    defaults.access_log = on;
                }
                Some(())
            })
        });
        defaults
    }

    /// What a whole file shows that is probably not meant.
    pub(crate) fn warn_about(&mut self, candidate: &Candidate) {
        let global = &candidate.global;
        let tls = global.listeners.values().find(|listener| listener.tls.is_some());
        let redirecting = global.listeners.values().find(|listener| listener.redirect_to_https);
        if let (Some(redirecting), None) = (redirecting, tls) {
            let message =
                format!("listener `{}` redirects to https, but none has `tls`", redirecting.name);
            self.warn(node::Pos::default(), &At::TOP.key("listeners"), message, None);
        }
        if let Some(tls) = tls
            && global.issuers.is_empty()
            && candidate.certificates.is_empty()
        {
            let message = format!("listener `{}` has no certificate to show", tls.name);
            let help = "add an issuer (`issuers: { local: { internal: {} } }`) or `certificates`";
            self.warn(node::Pos::default(), &At::TOP.key("listeners"), message, Some(help.into()));
        }
        if candidate.routes.is_empty() && candidate.global.tenants.is_none() {
            let message = "there are no routes: every request answers 404";
            self.warn(node::Pos::default(), &At::TOP.key("routes"), message, None);
        }
        self.warn_about_unused_upstreams(candidate);
    }

    fn warn_about_unused_upstreams(&mut self, candidate: &Candidate) {
        let mut used = std::collections::BTreeSet::new();
        for route in candidate.routes.values() {
            match route {
                Entry::Good(route) => used.extend(route.value.upstreams()),
                // Which one it means is not known.
                Entry::Bad(_) => return,
            }
        }
        for (name, upstream) in &candidate.upstreams {
            if let Entry::Good(upstream) = upstream
                && !used.contains(name)
            {
                let at = At::TOP.key("upstreams");
                let pos = node::Pos { line: upstream.line, column: 0 };
                self.warn(pos, &at.key(name.as_str()), "no route uses this upstream", None);
            }
        }
    }
}

/// The global part as the state directory keeps it: one key per line, references unresolved.
fn text_of(top: &Fields<'_, '_>) -> String {
    let mut out = String::new();
    for (key, value) in top.pairs {
        if !matches!(
            key.text.as_str(),
            "certificates" | "upstreams" | "routes" | "tenants" | "tests"
        ) {
            node::write_text(&key.text, &mut out);
            out.push_str(": ");
            node::write(value, &mut out);
            out.push('\n');
        }
    }
    out
}

/// `127.0.0.1:80`, `[::]:443`.
pub(crate) fn socket_address(text: &str) -> Result<SocketAddr, ValueError> {
    let error = |what: &str| {
        let message = format!("{} {what}", quote(text));
        ValueError::new("an address with a port such as `[::]:443`", message)
    };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.strip_prefix(':').or_else(|| text.strip_prefix("*:")).unwrap_or(text);
    if port.parse::<u16>().is_ok() {
        let help = format!("write `[::]:{port}` for all addresses of both families");
        return Err(error("names no address").help(help));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let shown = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        return Err(error("has no port").help(format!("write `{shown}:PORT`")));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && host.parse::<Ipv6Addr>().is_ok()
    {
        return Err(error("is no address with a port").help(format!("write `[{host}]:{port}`")));
    }
    if text.starts_with("localhost:") {
        let help = text.replacen("localhost", "127.0.0.1", 1);
        return Err(error("is a name").help(format!("write {}", quote(&help))));
    }
    Err(error("is no address with a port").help("write `[::]:443` or `127.0.0.1:8080`"))
}

/// The only issuer is the default one.
pub(crate) fn only<T>(issuers: &std::collections::BTreeMap<Name, T>) -> Option<Name> {
    match issuers.len() {
        1 => issuers.keys().next().cloned(),
        _ => None,
    }
}

const BUFFERED_BYTES: RangeInclusive<u64> = 1024 * 1024..=1024 * 1024 * 1024 * 1024;
const LIMITER_KEYS: RangeInclusive<u64> = 1000..=10_000_000;
const MAX_SERIES: RangeInclusive<u64> = 1000..=10_000_000;
const QUEUE_BYTES: RangeInclusive<u64> = 64 * 1024..=1024 * 1024 * 1024;
