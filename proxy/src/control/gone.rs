//! What a new table has no more: streams of removed routes end after their time, and series go at
//! once, and once more when the last streams must have ended.

use std::collections::HashSet;
use std::time::Duration;

use config::value::Name;

use crate::clock;
use crate::metrics::Metrics;
use crate::route::reuse::InOrder;
use crate::route::table::{Route, Series, Snapshot};
use crate::upstream::endpoint::Upstream;

/// Series to remove once more.
#[derive(Default)]
pub struct Gone {
    due: Vec<(u64, Labels)>,
}

/// What series to be removed were counted under.
#[derive(Default)]
struct Labels {
    routes: HashSet<Series>,
    upstreams: HashSet<Series>,
}

impl Gone {
    /// `current` has followed `previous`.
    pub fn retire(&mut self, metrics: &Metrics, previous: &Snapshot, current: &Snapshot) {
        let now = clock::process_ms();
        let mut gone = Labels::default();
        let mut last = now;
        let mut end = |series: &Series| {
            let end = now + millis(grace(series.tenant.is_some(), current));
            last = last.max(end);
            end
        };
        let mut kept = InOrder::new(&current.routes, |route: &Route| &route.name);
        for route in &previous.routes {
            let kept = kept.find(&route.name);
            // What the config file and a tenant call alike are two routes.
            if kept.is_none_or(|kept| kept.whose() != route.whose()) {
                route.life.retire(end(&route.series));
            }
            if kept.is_none_or(|kept| kept.series != route.series) {
                gone.routes.insert(route.series.clone());
            }
        }
        let mut kept = InOrder::new(&current.upstreams, |upstream: &Upstream| &upstream.name);
        for upstream in &previous.upstreams {
            let kept = kept.find(&upstream.name);
            if kept.is_none_or(|kept| kept.series != upstream.series) {
                end(&upstream.series);
                gone.upstreams.insert(upstream.series.clone());
            }
        }
        if !gone.is_empty() {
            gone.forget(metrics, current);
            self.due.push((last + SWEEP_AFTER_MS, gone));
        }
    }

    /// To be called every second.
    pub fn sweep(&mut self, metrics: &Metrics, snapshot: &Snapshot, now: u64) {
        for (_, gone) in self.due.extract_if(.., |(at, _)| *at <= now) {
            gone.forget(metrics, snapshot);
        }
    }
}

/// How long streams of what was removed may go on.
fn grace(of_a_tenant: bool, current: &Snapshot) -> Duration {
    match of_a_tenant {
        true => current.limits.removed_tenant_drain,
        false => current.limits.removed_route_grace,
    }
}

impl Labels {
    fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.upstreams.is_empty()
    }

    /// But for those that something of this table has: a name may be back, a template have other
    /// tenants, the config file call something as a template.
    fn forget(&self, metrics: &Metrics, snapshot: &Snapshot) {
        let used = snapshot.routes.iter().map(|route| &route.series).collect();
        let (names, series) = unused(&self.routes, &used);
        if !series.is_empty() {
            if !names.is_empty() {
                metrics.forget_routes(&names);
            }
            metrics.forget_series_of_routes(&series);
        }
        let used = snapshot.upstreams.iter().map(|upstream| &upstream.series).collect();
        let (names, series) = unused(&self.upstreams, &used);
        if !series.is_empty() {
            if !names.is_empty() {
                metrics.forget_upstreams(&names);
            }
            metrics.forget_series_of_upstreams(&series);
        }
    }
}

type Unused<'g> = (HashSet<&'g str>, HashSet<(&'g str, Option<&'g str>)>);

/// Names that nothing has any more, and what nothing is counted under any more.
fn unused<'g>(gone: &'g HashSet<Series>, used: &HashSet<&Series>) -> Unused<'g> {
    let names: HashSet<&str> = used.iter().map(|series| series.name.as_str()).collect();
    let gone = gone.iter().filter(|series| !used.contains(series));
    let series =
        |series: &'g Series| (series.name.as_str(), series.tenant.as_ref().map(Name::as_str));
    let gone: HashSet<_> = gone.map(series).collect();
    let all = gone.iter().map(|(name, _)| *name);
    (all.filter(|name| !names.contains(name)).collect(), gone)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

/// Workers count in lumps: the last one of a stream that was cut comes a little later.
const SWEEP_AFTER_MS: u64 = 2_000;
