//! Endpoints by state, as metrics and, where an upstream has none left that can be used, as one
//! line at its begin and one at its end.

use std::collections::{BTreeSet, HashMap};

use config::value::Name;

use crate::clock;
use crate::metrics::Metrics;
use crate::route::table::Snapshot;
use crate::upstream::condition::{Usable, Why};
use crate::upstream::endpoint::Upstream;

#[derive(Default)]
pub struct EndpointStates {
    /// Upstreams without an endpoint that can be used.
    panicking: BTreeSet<Name>,
}

impl EndpointStates {
    /// Looks at every upstream; once a second.
    pub fn refresh(&mut self, metrics: &Metrics, snapshot: &Snapshot) {
        let former = std::mem::take(&mut self.panicking);
        // Tenants of a template share series, and who is beyond `metrics.max_series`.
        let mut shown: HashMap<(&Name, Option<&Name>), Sums> = HashMap::new();
        let mut told = 0;
        for upstream in &snapshot.upstreams {
            let counts = Counts::of(upstream);
            let panics = counts.usable == 0 && counts.members() > 0;
            let series = (&upstream.series.name, upstream.series.tenant.as_ref());
            shown.entry(series).or_default().add(&counts, panics);
            let name = &upstream.name;
            let before = former.contains(name);
            told += usize::from(before != panics);
            if told <= LINES {
                tell(name, before, panics, &counts);
            }
            if panics {
                self.panicking.insert(name.clone());
            }
        }
        if let more @ 1.. = told.saturating_sub(LINES) {
            tracing::warn!("the same or the contrary of {more} more upstreams");
        }
        for ((series, tenant), sums) in shown {
            sums.show(metrics, series, tenant);
        }
    }
}

fn tell(name: &Name, before: bool, panics: bool, counts: &Counts) {
    match (before, panics) {
        (false, true) => tracing::warn!(
            "upstream {name}: none of its {} endpoints can be used: {counts}",
            counts.members()
        ),
        (true, false) => tracing::info!("upstream {name}: it can be used again: {counts}"),
        _ => {}
    }
}

/// What the series of one upstream show, or of several that share them.
#[derive(Default)]
struct Sums {
    states: [usize; STATES.len()],
    panicking: usize,
}

impl Sums {
    fn add(&mut self, counts: &Counts, panics: bool) {
        for (sum, (_, count)) in self.states.iter_mut().zip(counts.states) {
            *sum += count;
        }
        self.panicking += usize::from(panics);
    }

    fn show(&self, metrics: &Metrics, series: &Name, tenant: Option<&Name>) {
        let value = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let upstream = series.as_str();
        for (state, count) in STATES.into_iter().zip(self.states) {
            metrics.upstream_endpoints.of(tenant, &[upstream, state]).set(value(count));
        }
        metrics.upstream_panic.of(tenant, &[upstream]).set(value(self.panicking));
    }
}

struct Counts {
    states: [(&'static str, usize); 7],
    /// What requests are sent to, last resorts apart.
    usable: usize,
}

impl Counts {
    fn of(upstream: &Upstream) -> Counts {
        let now = clock::process_ms();
        let set = upstream.state.endpoints.load();
        let mut counts = Counts { states: STATES.map(|state| (state, 0)), usable: 0 };
        for condition in set.members.iter().map(|member| &member.endpoint.condition) {
            let state = match condition.why(now) {
                Why::Healthy => 0,
                Why::Unhealthy => 1,
                Why::Starting => 2,
                Why::Unchecked => 3,
                Why::Ejected(_) | Why::Trial => 4,
                Why::Drained | Why::Gone => 5,
            };
            counts.states[state].1 += 1;
            counts.usable +=
                usize::from(!matches!(condition.usable(now), Usable::No | Usable::Never));
        }
        counts.states[UNRESOLVED].1 = set.unresolved.len();
        counts
    }

    fn members(&self) -> usize {
        self.states[..UNRESOLVED].iter().map(|(_, count)| count).sum()
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let some = self.states.iter().filter(|(_, count)| *count > 0);
        let some: Vec<String> = some.map(|(state, count)| format!("{count} {state}")).collect();
        f.write_str(&some.join(", "))
    }
}

const STATES: [&str; 7] =
    ["healthy", "unhealthy", "starting", "unchecked", "ejected", "draining", "unresolved"];
const UNRESOLVED: usize = 6;
/// Of one look: a network that is down takes every tenant along.
const LINES: usize = 20;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use config::model::{EndpointAddress, EndpointSpec};

    use super::*;
    use crate::metrics::UpstreamCounts;
    use crate::route::compile::empty;
    use crate::route::table::Series;
    use crate::upstream::condition::Health;
    use crate::upstream::endpoint::{EndpointRegistry, EndpointSet, UpstreamState};
    use crate::upstream::transport::Transport;

    /// Four addresses and a name.
    fn snapshot() -> Snapshot {
        let name = Name::new("api").unwrap();
        let address = |end| EndpointAddress::Ip(([192, 0, 2, end], 80).into());
        let host = EndpointAddress::Name { host: "h.openclaw.example".to_owned(), port: 80 };
        let spec = (1..5).map(address).chain([host]);
        let spec = spec.map(|address| EndpointSpec { address, weight: 1 }).collect();
        let spec = config::model::Upstream::new(name.clone(), spec);
        let mut registry = EndpointRegistry::default();
        let set = EndpointSet::resolve(&spec, &|_| None, &mut registry);
        let state = Arc::new(UpstreamState::default());
        state.replace(set);
        let transport = Transport::compile(&spec, None);
        let series = Series::own(&name);
        let counts = UpstreamCounts::new(&Metrics::new(), "api").into();
        let upstream = Upstream { name, series, counts, transport, spec: Arc::new(spec), state };
        Snapshot { upstreams: vec![Arc::new(upstream)], ..empty() }
    }

    fn shown(metrics: &Metrics, state: &str) -> i64 {
        metrics.upstream_endpoints.of(None, &["api", state]).get()
    }

    #[test]
    fn every_endpoint_is_counted_once_and_none_usable_is_panic() {
        let (metrics, snapshot, mut states) =
            (Metrics::new(), snapshot(), EndpointStates::default());
        let set = snapshot.upstreams[0].state.endpoints.load_full();
        let condition = |at: usize| &set.members[at].endpoint.condition;
        let health = [Health::Healthy, Health::Unhealthy, Health::Starting, Health::Unchecked];
        for (at, health) in health.into_iter().enumerate() {
            condition(at).set_health(health, 0);
        }
        condition(0).set_drained(true, 0);
        states.refresh(&metrics, &snapshot);
        let counts: Vec<i64> = STATES.iter().map(|state| shown(&metrics, state)).collect();
        assert_eq!(counts, [0, 1, 1, 1, 0, 1, 1]);
        let panic = metrics.upstream_panic.of(None, &["api"]);
        assert_eq!((panic.get(), states.panicking.len()), (0, 0));
        for at in [2, 3] {
            condition(at).set_health(Health::Unhealthy, 0);
        }
        states.refresh(&metrics, &snapshot);
        assert_eq!((panic.get(), shown(&metrics, "unhealthy"), states.panicking.len()), (1, 3, 1));
        condition(3).set_health(Health::Healthy, 0);
        states.refresh(&metrics, &snapshot);
        assert_eq!((panic.get(), states.panicking.len()), (0, 0));
    }
}
