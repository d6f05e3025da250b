//! Accepted configuration to the snapshot that workers read, and what goes with it: lives of
//! removed routes, gauges, series of things that are gone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use acme::keeper::View;
use config::merge::{Accepted, Kind};
use config::value::Name;
use rustls::server::ProducesTickets;

use super::certificate_metrics::CertificateMetrics;
use super::certs::Problem;
use super::changes::ChangeLog;
use super::endpoint_states::EndpointStates;
use super::gone::Gone;
use super::health::Checker;
use super::resolve::{Question, Resolver, questions, questions_of};
use super::shifts::Shifts;
use crate::clock;
use crate::limit::LimitRegistry;
use crate::metrics::{Dropped, OTHER, TenantLabels};
use crate::route::compile::{Deps, compile};
use crate::route::table::{Action, BoundAddress, Snapshot, Targets};
use crate::state::Shared;
use crate::upstream::endpoint::{EndpointRegistry, EndpointSet, Member, Upstream};
use crate::upstream::transport::Transport;

/// The only writer of [`Shared::snapshot`].
pub struct Publisher {
    pub(super) shared: Arc<Shared>,
    ticketer: Arc<dyn ProducesTickets>,
    bound: Vec<BoundAddress>,
    nofile: u64,
    pub(super) endpoints: EndpointRegistry,
    pub(super) limits: LimitRegistry,
    /// The upstreams of the snapshot that an answer concerns.
    concerned: HashMap<Question, Vec<Arc<Upstream>>>,
    changes: ChangeLog,
    states: EndpointStates,
    /// Splits with other weights than the configured ones.
    pub(super) shifts: Shifts,
    gone: Gone,
    /// Metric labels of tenants.
    tenants: TenantLabels,
    /// Tables that did serve and that a worker or a request may still hold.
    former: Vec<Arc<Snapshot>>,
    certificates: CertificateMetrics,
}

impl Publisher {
    pub fn new(
        shared: Arc<Shared>,
        ticketer: Arc<dyn ProducesTickets>,
        bound: Vec<BoundAddress>,
        nofile: u64,
    ) -> Publisher {
        Publisher {
            shared,
            ticketer,
            bound,
            nofile,
            endpoints: EndpointRegistry::default(),
            limits: LimitRegistry::default(),
            concerned: HashMap::new(),
            changes: ChangeLog::default(),
            states: EndpointStates::default(),
            shifts: Shifts::default(),
            gone: Gone::default(),
            tenants: TenantLabels::default(),
            former: Vec::new(),
            certificates: CertificateMetrics::default(),
        }
    }

    /// Makes this serve; workers see it with their next request. Returns its generation.
    pub fn publish(
        &mut self,
        accepted: &Arc<Accepted>,
        resolver: &mut Resolver,
        checker: &mut Checker,
    ) -> u64 {
        let previous = self.shared.snapshot.load_full();
        for (route, why) in self.shifts.follow(accepted) {
            tracing::warn!("route {route}: its shift ends ({why}); the configured weights hold");
        }
        self.tenants.follow(accepted);
        self.count_dropped(accepted.global.metrics.max_series);
        let snapshot = compile(
            accepted,
            &previous,
            &mut Deps {
                certs: self.shared.certs.clone(),
                challenges: self.shared.challenges.clone(),
                ticketer: self.ticketer.clone(),
                bound: &self.bound,
                nofile: self.nofile,
                resolved: &|address| resolver.resolved(address),
                shifted: &|route| self.shifts.weights(route),
                endpoints: &mut self.endpoints,
                limits: &mut self.limits,
                tenants: &self.tenants,
                metrics: &self.shared.metrics,
            },
        );
        let generation = snapshot.generation;
        let snapshot = Arc::new(snapshot);
        self.shared.access_log.set_queue_bytes(accepted.global.log.queue_bytes);
        self.shared.snapshot.store(snapshot.clone());
        self.gone.retire(&self.shared.metrics, &previous, &snapshot);
        resolver.set_questions(questions(&snapshot));
        checker.set_upstreams(&previous, &snapshot);
        self.former.push(previous);
        self.concerned = concerned(&snapshot);
        self.count_endpoints();
        self.count_splits(&snapshot);
        self.count_listeners(&snapshot);
        self.shared.metrics.config_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        generation
    }

    /// Gives the upstreams that these answers concern the addresses that are known now; returns
    /// those whose endpoints are other ones.
    pub fn update_endpoints(
        &mut self,
        resolver: &Resolver,
        answered: &HashSet<Question>,
    ) -> Vec<Arc<Upstream>> {
        let concerned = answered.iter().filter_map(|question| self.concerned.get(question));
        let by_name: BTreeMap<&Name, &Arc<Upstream>> =
            concerned.flatten().map(|upstream| (&upstream.name, upstream)).collect();
        let mut changed = Vec::new();
        for upstream in by_name.into_values() {
            let resolved = |address: &_| resolver.resolved(address);
            let set = EndpointSet::resolve(&upstream.spec, &resolved, &mut self.endpoints);
            let former = upstream.state.endpoints.load();
            if !same(&former, &set) {
                self.changes.changed(&upstream.name, &former, &set, clock::process_ms());
                set.expect_checks(&upstream.spec);
                upstream.state.replace(set);
                changed.push(upstream.clone());
            }
        }
        changed
    }

    /// Whether files that TLS to endpoints is made of have other contents now.
    pub fn transports_changed(&self, accepted: &Accepted) -> bool {
        let snapshot = self.shared.snapshot.load();
        snapshot.upstreams.iter().any(|upstream| {
            let now = Transport::compile(&upstream.spec, Some(&upstream.transport));
            accepted.upstreams.contains_key(&upstream.name)
                && !Arc::ptr_eq(&now, &upstream.transport)
        })
    }

    /// Series of certificates and orders, after something of them changed.
    pub fn count_certificates(&mut self, accepted: &Arc<Accepted>, view: &View) {
        self.tenants.follow(accepted);
        self.certificates.follow(accepted, &self.tenants);
        self.certificates.update(&self.shared.metrics, &self.shared.certs.load(), view);
    }

    /// The same when the time has come for it.
    pub fn recount_certificates(
        &mut self,
        accepted: &Arc<Accepted>,
        view: impl FnOnce() -> Arc<View>,
    ) {
        if self.certificates.are_stale() {
            self.count_certificates(accepted, &view());
        }
    }

    /// `edge_config_objects`.
    pub fn count_objects(&self, accepted: &Accepted, problems: &[Problem]) {
        let totals = [
            (Kind::Certificate, accepted.certificates.len()),
            (Kind::Upstream, accepted.upstreams.len()),
            (Kind::Route, accepted.routes.len()),
        ];
        for (kind, total) in totals {
            let bad = |former: bool| {
                let bad = accepted.quarantined.iter().filter(|bad| bad.kind == kind);
                bad.filter(|bad| bad.former_serves == former).count()
            };
            let set = |state: &str, count: usize| {
                let labels = [super::reload::word(kind), state];
                let gauge = self.shared.metrics.config_objects.with_label_values(&labels);
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            };
            set("serving", total.saturating_sub(bad(true)));
            set("former", bad(true));
            set("quarantined", bad(false));
            if kind == Kind::Certificate {
                set("failed", problems.len());
            }
        }
        if accepted.global.tenants.is_none() {
            return self.shared.metrics.tenants.reset();
        }
        for (state, count) in crate::admin::tenants::states(accepted) {
            let gauge = self.shared.metrics.tenants.with_label_values(&[state]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Removes series of routes and upstreams whose last streams must have ended; says what was
    /// held back of changed endpoints; evicts idle keys of limits.
    pub fn sweep(&mut self) {
        let now = clock::process_ms();
        self.limits.sweep();
        self.changes.flush(now);
        self.gone.sweep(&self.shared.metrics, &self.shared.snapshot.load(), now);
        // Whoever lets go of a large table last takes it apart: not a worker.
        self.former.retain(|former| Arc::strong_count(former) > 1);
    }

    /// Endpoints by state.
    pub fn count_endpoints(&mut self) {
        self.states.refresh(&self.shared.metrics, &self.shared.snapshot.load());
    }

    fn count_listeners(&self, snapshot: &Snapshot) {
        let family = &self.shared.metrics.listener_connection_limit;
        family.reset();
        for listener in &snapshot.listeners {
            let limit = i64::try_from(listener.max_connections).unwrap_or(i64::MAX);
            family.with_label_values(&[listener.name.as_str()]).set(limit);
        }
    }

    fn count_dropped(&mut self, max: usize) {
        let Some(Dropped { series, names, tenants }) = self.tenants.dropped() else { return };
        self.shared.metrics.series_dropped.inc_by(series as u64);
        tracing::warn!(
            "metrics.max_series ({max}) is reached: {names} routes and upstreams and {tenants} \
             tenants have no series of their own, about {series} fewer; they are counted as `{OTHER}`"
        );
    }

    /// Series of upstreams that have left a split go. A share among those that share a name would
    /// be nobody's.
    fn count_splits(&self, snapshot: &Snapshot) {
        let family = &self.shared.metrics.upstream_split_weight;
        family.reset();
        for route in &snapshot.routes {
            let Action::Forward(Targets::Split(split)) = &route.action else { continue };
            for (part, share) in split.shares() {
                let labels = [&route.series.name, &part.upstream.series.name];
                if labels == [&route.name, &part.upstream.name] {
                    family.with_label_values(&labels.map(Name::as_str)).set(share);
                }
            }
        }
    }
}

fn concerned(snapshot: &Snapshot) -> HashMap<Question, Vec<Arc<Upstream>>> {
    let mut concerned: HashMap<Question, Vec<Arc<Upstream>>> = HashMap::new();
    for upstream in &snapshot.upstreams {
        for question in questions_of(&upstream.spec.endpoints) {
            concerned.entry(question).or_default().push(upstream.clone());
        }
    }
    concerned
}

fn same(old: &EndpointSet, new: &EndpointSet) -> bool {
    let shown = |member: &Member| (member.endpoint.id, member.weight);
    old.members.iter().map(shown).eq(new.members.iter().map(shown))
        && old.unresolved == new.unresolved
}
