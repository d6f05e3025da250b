//! `config` to [`Snapshot`]. What has not changed keeps its identity: endpoints (and with them the
//! workers' pools), an upstream's state, a route's life.

use std::cell::LazyCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use acme::challenge::Challenges;
use config::merge::Accepted;
use config::model::{self, EndpointAddress, HeaderEdits};
use config::value::Name;
use http::{HeaderName, HeaderValue};
use rustls::server::ProducesTickets;

use super::edits::{Absents, Edits, Names};
use super::hosts::hosts;
use super::removed::removed;
use super::reuse::{self, InOrder};
use super::table::{
    Action, BoundAddress, HostTable, Hsts, Limits, ListenerPolicy, Redirect, Respond, Route,
    RouteLife, RouteTarget, Series, Snapshot, Split, Targets, Whose, next_id,
};
use crate::access::Access;
use crate::downstream::cert_table::CertTable;
use crate::downstream::tls;
use crate::filter::cors::{self, CorsPolicy};
use crate::filter::pages::Pages;
use crate::filter::rewrite::Rewrite;
use crate::filter::security;
use crate::limit::{LimitRegistry, Owner, RouteLimits};
use crate::metrics::{ListenerCounts, Metrics, TenantLabels, UpstreamCounts};
use crate::upstream::endpoint::{EndpointRegistry, EndpointSet, Resolved, Upstream};
use crate::upstream::transport::Transport;

/// What compiling needs besides the configuration.
pub struct Deps<'a> {
    pub certs: Arc<CertTable>,
    pub challenges: Arc<Challenges>,
    /// One per process, so that tickets outlive reloads.
    pub ticketer: Arc<dyn ProducesTickets>,
    pub bound: &'a [BoundAddress],
    /// RLIMIT_NOFILE.
    pub nofile: u64,
    /// Addresses last known for a name or SRV record.
    pub resolved: &'a dyn Fn(&EndpointAddress) -> Option<Vec<Resolved>>,
    /// Weights that hold instead of those of a route's split; an upstream without one gets 0.
    pub shifted: &'a dyn Fn(&Name) -> Option<&'a BTreeMap<Name, u32>>,
    pub endpoints: &'a mut EndpointRegistry,
    pub limits: &'a mut LimitRegistry,
    pub tenants: &'a TenantLabels,
    /// Where what is compiled counts.
    pub metrics: &'a Metrics,
}

/// Descriptors kept back from the limits: listeners, admin, log, certificates.
const RESERVED_FILES: u64 = 128;
const MOST_CLIENT_CONNECTIONS: usize = 15_000;

/// Compiles what was accepted; `previous` is what serves now.
pub fn compile(accepted: &Accepted, previous: &Snapshot, deps: &mut Deps<'_>) -> Snapshot {
    let global = &accepted.global;
    let mut former = InOrder::new(&previous.upstreams, |upstream| &upstream.name);
    let mut counts = HashMap::new();
    let upstreams: Vec<Arc<Upstream>> = accepted
        .upstreams
        .iter()
        .map(|(name, entry)| upstream(&entry.value, former.find(name), &mut counts, deps))
        .collect();
    let https_port = https_port(&accepted.global, deps.bound);
    let routes = routes(accepted, previous, &upstreams, https_port, deps);
    let hosts = hosts(&routes, &accepted.blocked, previous);
    Snapshot {
        generation: previous.generation + 1,
        listeners: listeners(accepted, deps, https_port),
        removed: removed(previous, &routes, &hosts),
        hosts,
        routes,
        upstreams,
        trusted_proxies: global.trusted_proxies.clone(),
        limits: Limits {
            buffered_bytes: usize::try_from(global.limits.buffered_bytes).unwrap_or(usize::MAX),
            upstream_connections: global
                .limits
                .upstream_connections
                .unwrap_or(upstream_connections(deps.nofile)),
            removed_route_grace: global.drain.removed_route_grace,
            removed_tenant_drain: global
                .tenants
                .as_ref()
                // They are all removed then: as the section said.
                .map_or(previous.limits.removed_tenant_drain, |tenants| tenants.removed_drain),
            limiter_keys: global.limits.limiter_keys,
        },
        access_log: global.log.access,
        retired: retired(accepted, previous),
    }
}

/// In the order of names.
fn routes(
    accepted: &Accepted,
    previous: &Snapshot,
    upstreams: &[Arc<Upstream>],
    https_port: u16,
    deps: &mut Deps<'_>,
) -> Vec<Arc<Route>> {
    let replaced = reuse::replaced(&previous.upstreams, upstreams);
    // Only for those that are compiled.
    let by_name: LazyCell<ByName<'_>, _> = LazyCell::new(|| {
        upstreams.iter().map(|upstream| (&upstream.name, upstream)).collect::<ByName<'_>>()
    });
    let retired: HashMap<&Whose, &Arc<RouteLife>> =
        previous.retired.iter().map(|(whose, life)| (whose, life)).collect();
    let keys = accepted.global.limits.limiter_keys;
    let mut former = InOrder::new(&previous.routes, |route| &route.name);
    let compiled = |spec: &Arc<model::Route>| {
        let former = former.find(&spec.name);
        let series = deps.tenants.series(&spec.name, spec.tenant.as_ref());
        // Limits know how many keys they may have.
        let whole = |former: &Route| {
            former.series == series
                && (former.limits.is_empty() || previous.limits.limiter_keys == keys)
        };
        let taken = former.filter(|former| whole(former));
        if let Some(same) = taken.and_then(|former| reuse::route(former, spec, &replaced)) {
            return Some(same);
        }
        let whose = (spec.name.clone(), spec.tenant.is_some());
        let former = former.filter(|former| former.whose() == whose);
        let life = former.map(|former| &former.life).or(retired.get(&whose).copied());
        let shifted = (deps.shifted)(&spec.name);
        let life = life.cloned().unwrap_or_default();
        let lasting = Lasting { life, limits: limits(spec, keys, deps), series };
        route(spec, &by_name, https_port, lasting, shifted).map(Arc::new)
    };
    let specs = accepted.routes.values().map(|entry| &entry.value);
    specs.filter_map(compiled).collect()
}

/// Removed now, or before and not ended yet.
fn retired(accepted: &Accepted, previous: &Snapshot) -> Vec<(Whose, Arc<RouteLife>)> {
    let now_ms = crate::clock::process_ms();
    let serves = |(name, of_tenant): (&Name, bool)| {
        let now = accepted.routes.get(name);
        now.is_some_and(|now| now.value.tenant.is_some() == of_tenant)
    };
    let serving = previous.routes.iter().map(|route| {
        let of_tenant = route.series.tenant.is_some();
        ((&route.name, of_tenant), &route.life)
    });
    let before =
        previous.retired.iter().map(|((name, of_tenant), life)| ((name, *of_tenant), life));
    before
        .chain(serving)
        .filter(|(whose, life)| !serves(*whose) && !life.ended(now_ms))
        .map(|((name, of_tenant), life)| ((name.clone(), of_tenant), life.clone()))
        .collect()
}

/// The table before the first configuration: nothing is routed.
pub fn empty() -> Snapshot {
    Snapshot {
        generation: 0,
        listeners: Vec::new(),
        hosts: HostTable::default(),
        routes: Vec::new(),
        upstreams: Vec::new(),
        trusted_proxies: Vec::new(),
        limits: Limits::default(),
        access_log: model::AccessLog::Off,
        retired: Vec::new(),
        removed: Arc::default(),
    }
}

/// By default, of all upstreams together: each has a client, so it is half of what may be open.
fn upstream_connections(nofile: u64) -> usize {
    usize::try_from(nofile.saturating_sub(RESERVED_FILES) / 2).unwrap_or(usize::MAX)
}

/// By default, of one listener.
fn client_connections(nofile: u64) -> usize {
    upstream_connections(nofile).min(MOST_CLIENT_CONNECTIONS)
}

fn upstream(
    spec: &Arc<model::Upstream>,
    former: Option<&Arc<Upstream>>,
    counts: &mut HashMap<Name, Arc<UpstreamCounts>>,
    deps: &mut Deps<'_>,
) -> Arc<Upstream> {
    let series = deps.tenants.series(&spec.name, spec.tenant.as_ref());
    let counted = former.filter(|former| former.series == series);
    if let Some(same) = counted.and_then(|former| reuse::upstream(former, spec)) {
        return same;
    }
    if former.is_some_and(|former| !former.spec.same_transport(spec)) {
        deps.endpoints.forget(&spec.name);
    }
    let set = EndpointSet::resolve(spec, deps.resolved, deps.endpoints);
    set.expect_checks(spec);
    let state = former.map(|former| former.state.clone()).unwrap_or_default();
    state.replace(set);
    // Those of a template share them.
    let counts = counts
        .entry(series.name.clone())
        .or_insert_with(|| UpstreamCounts::new(deps.metrics, series.name.as_str()).into());
    Arc::new(Upstream {
        name: spec.name.clone(),
        counts: counts.clone(),
        series,
        transport: Transport::compile(spec, former.map(|former| &former.transport)),
        spec: spec.clone(),
        state,
    })
}

/// The port that clients reach https on: of the first TLS listener in name order.
fn https_port(global: &model::Global, bound: &[BoundAddress]) -> u16 {
    let listener = global.listeners.values().find(|l| l.tls.is_some());
    listener.map_or(443, |listener| public_port(listener, bound))
}

fn public_port(listener: &model::Listener, bound: &[BoundAddress]) -> u16 {
    let bound_port = bound.iter().find(|b| b.listener == listener.name).map(|b| b.address.port());
    let written = listener.bind.first().map_or(0, std::net::SocketAddr::port);
    listener.public_port.or(bound_port).unwrap_or(written)
}

fn listeners(
    accepted: &Accepted,
    deps: &mut Deps<'_>,
    https_port: u16,
) -> Vec<Arc<ListenerPolicy>> {
    let keys = accepted.global.limits.limiter_keys;
    let mut policy = |listener: &model::Listener| ListenerPolicy {
        name: listener.name.clone(),
        counts: ListenerCounts::new(deps.metrics, listener.name.as_str(), listener.tls.is_some()),
        tls: listener.tls.as_ref().map(|policy| {
            let http2 = listener.http2.enabled;
            tls::listener_tls(policy, http2, &deps.certs, &deps.challenges, &deps.ticketer)
        }),
        redirect_https_port: listener.redirect_to_https.then_some(https_port),
        public_port: public_port(listener, deps.bound),
        max_connections: listener.limits.connections.unwrap_or(client_connections(deps.nofile)),
        connection_rate: deps.limits.address_rate(&listener.name, &listener.limits, keys),
        limits: listener.limits.clone(),
        timeouts: listener.timeouts.clone(),
        http2: listener.http2.clone(),
        allow_underscores: listener.allow_underscores,
        proxy_protocol: listener.proxy_protocol.as_slice().into(),
        default_certificate: listener
            .tls
            .as_ref()
            .and_then(|tls| tls.default_certificate.as_ref())
            .map(|name| name.as_str().into()),
    };
    accepted.global.listeners.values().map(|listener| Arc::new(policy(listener))).collect()
}

type ByName<'a> = HashMap<&'a Name, &'a Arc<Upstream>>;

/// The parts of a route that outlive its generation.
struct Lasting {
    life: Arc<RouteLife>,
    limits: RouteLimits,
    series: Series,
}

fn limits(spec: &model::Route, keys: usize, deps: &mut Deps<'_>) -> RouteLimits {
    let (owner, tenant) = match &spec.tenant {
        None => (Owner::Route(spec.name.clone()), None),
        Some(of) => (Owner::Template(of.template.clone()), Some(&of.tenant)),
    };
    let limits = spec.rate_limits.iter();
    RouteLimits::of(limits.map(|limit| deps.limits.limit(owner.clone(), tenant, limit, keys)))
}

fn route(
    spec: &Arc<model::Route>,
    upstreams: &ByName<'_>,
    https_port: u16,
    lasting: Lasting,
    shifted: Option<&BTreeMap<Name, u32>>,
) -> Option<Route> {
    let Lasting { life, limits, series } = lasting;
    let legacy = spec.rate_limits.iter().any(|limit| limit.legacy_fields);
    life.revive();
    let action = match &spec.action {
        // `merge` has quarantined routes of unknown upstreams.
        model::Action::Upstream(name) => {
            Action::Forward(Targets::One(target(upstreams.get(name)?, spec)))
        }
        model::Action::Split(parts) => {
            let weight = |part: &model::SplitTarget| match shifted {
                Some(shifted) => shifted.get(&part.upstream).copied().unwrap_or_default(),
                None => part.weight.into(),
            };
            let parts = parts
                .iter()
                .map(|part| Some((target(upstreams.get(&part.upstream)?, spec), weight(part))));
            Action::Forward(Targets::Split(Split::new(parts.collect::<Option<_>>()?)))
        }
        model::Action::Redirect(to) => Action::Redirect(Redirect {
            https: to.https,
            port: to.port.or(to.https.then_some(https_port)),
            host: to.host.as_deref().map(Into::into),
            path: to.path.as_deref().map(Into::into),
            keep_query: to.keep_query,
            status: to.status,
        }),
        model::Action::Respond(fixed) => Action::Respond(Respond {
            status: fixed.status,
            content_type: fixed.content_type.as_deref().map(Into::into),
            body: fixed.body.clone().into(),
        }),
    };
    Some(Route {
        name: spec.name.clone(),
        series,
        spec: Some(spec.clone()),
        id: next_id(),
        action,
        body_limit: spec.body_limit.unwrap_or(u64::MAX),
        request_edits: edits(&spec.headers.request),
        response_edits: response_edits(spec),
        cors: spec.cors.as_ref().and_then(|cors| CorsPolicy::compile(cors, legacy)),
        rewrite: spec.rewrite.as_ref().map(Rewrite::compile),
        maintenance: spec.maintenance.clone(),
        pages: Pages::compile(&spec.error_pages),
        hsts: spec.hsts.as_ref().and_then(hsts),
        access: spec.access.as_ref().map(Access::new),
        limits,
        access_log: spec.access_log,
        pacing: spec.pacing.clone(),
        life,
    })
}

fn target(upstream: &Arc<Upstream>, route: &model::Route) -> Arc<RouteTarget> {
    let timeouts = route.timeouts.over(&upstream.spec.timeouts);
    let id = next_id();
    Arc::new(RouteTarget { id, upstream: upstream.clone(), timeouts, retry: route.retry.clone() })
}

fn edits(spec: &HeaderEdits) -> Edits {
    let replaced = spec.set.iter().map(|(name, _)| name);
    let drop = Names::of(spec.remove.iter().chain(replaced).map(|name| name.as_str()));
    let (mut lines, mut pairs) = (Vec::new(), Vec::new());
    for (name, value) in spec.set.iter().chain(&spec.add) {
        crate::http1::write::field(&mut lines, name.as_bytes(), value.expose().as_bytes());
        let pair = HeaderName::from_bytes(name.as_bytes())
            .ok()
            .zip(HeaderValue::from_str(value.expose()).ok());
        pairs.extend(pair);
    }
    Edits { drop, lines: lines.into(), pairs, absent: Absents::default() }
}

/// The header rules, and what the filters of the route do to each response alike.
fn response_edits(spec: &model::Route) -> Edits {
    let rules = &spec.headers.response;
    let mut edits = edits(rules);
    if spec.cors.is_some() {
        edits.drop = Names::of(edits.drop.iter().chain(cors::OWN_FIELDS));
    }
    if let Some(preset) = spec.security_headers {
        edits.absent = security::absent(preset, rules);
    }
    edits
}

/// RFC 6797 §6.1.
fn hsts(spec: &model::Hsts) -> Option<Hsts> {
    let mut text = format!("max-age={}", spec.max_age.as_secs());
    if spec.include_subdomains {
        text.push_str("; includeSubDomains");
    }
    if spec.preload {
        text.push_str("; preload");
    }
    let line = format!("Strict-Transport-Security: {text}\r\n").into_bytes().into();
    Some(Hsts { line, value: HeaderValue::from_str(&text).ok()? })
}

/// Tables for tests, of a configuration alone.
#[cfg(test)]
pub mod lab {
    use super::*;

    /// What outlives a table.
    #[derive(Default)]
    pub struct Registries {
        endpoints: EndpointRegistry,
        limits: LimitRegistry,
    }

    impl Registries {
        /// What follows `previous`.
        pub fn compile(&mut self, accepted: &Accepted, previous: &Snapshot) -> Snapshot {
            let mut deps = Deps {
                certs: Arc::default(),
                challenges: Arc::default(),
                ticketer: crate::downstream::tls::ticketer().unwrap(),
                bound: &[],
                nofile: 1024,
                resolved: &|_| None,
                shifted: &|_| None,
                endpoints: &mut self.endpoints,
                limits: &mut self.limits,
                tenants: &TenantLabels::default(),
                metrics: &Metrics::new(),
            };
            super::compile(accepted, previous, &mut deps)
        }
    }

    /// The first table.
    pub fn compile(accepted: &Accepted) -> Snapshot {
        Registries::default().compile(accepted, &empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::plan::{Answer, AnswerKind};

    #[test]
    fn connections_follow_the_limit_of_open_files() {
        for (nofile, clients, upstream) in [
            (0, 0, 0),
            (129, 0, 0),
            (130, 1, 1),
            (1024, 448, 448),
            (30_126, 14_999, 14_999),
            (30_128, 15_000, 15_000),
            (30_130, 15_000, 15_001),
        ] {
            assert_eq!(client_connections(nofile), clients, "RLIMIT_NOFILE {nofile}");
            assert_eq!(upstream_connections(nofile), upstream, "RLIMIT_NOFILE {nofile}");
        }
    }

    /// One route on its own host, changed by `change`.
    fn compiled(action: &str, change: impl FnOnce(&mut model::Route)) -> Snapshot {
        let text = format!(
            "version: 1\nlisteners: {{ web: {{ bind: ['127.0.0.1:1'] }} }}\nupstreams:\n  \
             u: {{ endpoints: ['127.0.0.1:2'] }}\nroutes:\n  \
             r: {{ hosts: [a.openclaw.example], {action} }}\n"
        );
        let read = config::parse("edge.yaml", &text, &config::NoEnvironment).unwrap();
        let mut accepted = config::merge(None, read);
        change(Arc::make_mut(&mut accepted.routes.get_mut("r").unwrap().value));
        lab::compile(&accepted)
    }

    #[test]
    fn a_rewrite_makes_its_host_read_paths() {
        let reads = |change: fn(&mut model::Route)| {
            let snapshot = compiled("upstream: u", change);
            snapshot.hosts.find("a.openclaw.example").unwrap().path_rules
        };
        assert!(!reads(|_| ()));
        assert!(reads(|route| {
            let api = config::value::NormPath::parse("/api").unwrap();
            route.rewrite = Some(model::Rewrite::StripPrefix(api));
        }));
    }

    #[test]
    fn filters_of_all_responses_are_compiled_into_the_route() {
        let snapshot = compiled("respond: { status: 200, body: x }", |route| {
            route.security_headers = Some(model::SecurityHeaders::Basic);
            route.headers.response.remove = vec!["referrer-policy".to_owned(), "x-a".to_owned()];
            route.cors = Some(model::Cors {
                origins: model::Origins::Any,
                methods: vec!["GET".to_owned()],
                headers: None,
                expose: Vec::new(),
                credentials: false,
                max_age: std::time::Duration::from_secs(60),
            });
        });
        let route = &snapshot.routes[0];
        assert!(route.cors.is_some());
        let dropped = |name: &str| route.response_edits.drop.contains(name.as_bytes());
        for name in cors::OWN_FIELDS.iter().chain(&["x-a", "referrer-policy"]) {
            assert!(dropped(name), "{name}");
        }
        let answer = Answer::new(Some(route.clone()), AnswerKind::Respond);
        let lines = "X-Content-Type-Options: nosniff\r\nX-Frame-Options: SAMEORIGIN\r\n";
        assert_eq!(String::from_utf8(answer.own_lines(true)).unwrap(), lines);
        let names: Vec<_> =
            answer.own_pairs(true).into_iter().map(|(n, _)| n.to_string()).collect();
        assert_eq!(names, ["x-content-type-options", "x-frame-options"]);
    }
}
