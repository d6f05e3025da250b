//! What a new table has no more: streams of removed routes end after their time, and series go at
//! once, and once more when the last streams must have ended.

use std::collections::HashSet;
use std::time::Duration;

use config::value::Name;

use crate::clock;
use crate::metrics::Metrics;
use crate::route::reuse::InOrder;
use crate::route::table::{Route, Snapshot};
use crate::upstream::endpoint::Upstream;

/// Series to remove once more.
#[derive(Default)]
pub struct Gone {
    due: Vec<(u64, Labels)>,
}

/// Values of labels whose series are to be removed.
#[derive(Default)]
struct Labels {
    routes: HashSet<Name>,
    upstreams: HashSet<Name>,
    tenants: HashSet<Name>,
}

impl Gone {
    /// `current` has followed `previous`.
    pub fn retire(&mut self, metrics: &Metrics, previous: &Snapshot, current: &Snapshot) {
        let now = clock::process_ms();
        let mut gone = Labels::default();
        let mut last = now;
        let mut kept = InOrder::new(&current.routes, |route: &Route| &route.name);
        for route in previous.routes.iter().filter(|route| kept.find(&route.name).is_none()) {
            let end = now + millis(grace(route.series.tenant.is_some(), current));
            route.life.retire(end);
            last = last.max(end);
            gone.routes.insert(route.series.name.clone());
            gone.tenants.extend(route.series.tenant.clone());
        }
        let mut kept = InOrder::new(&current.upstreams, |upstream: &Upstream| &upstream.name);
        for upstream in previous.upstreams.iter().filter(|one| kept.find(&one.name).is_none()) {
            let tenant = upstream.series.tenant.is_some();
            last = last.max(now + millis(grace(tenant, current)));
            gone.upstreams.insert(upstream.series.name.clone());
            gone.tenants.extend(upstream.series.tenant.clone());
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
        self.routes.is_empty() && self.upstreams.is_empty() && self.tenants.is_empty()
    }

    /// But for those that something of this table has: a name may be back, a template have other
    /// tenants.
    fn forget(&self, metrics: &Metrics, snapshot: &Snapshot) {
        let series = |gone: &HashSet<Name>, used: HashSet<&Name>| -> Vec<Name> {
            gone.iter().filter(|name| !used.contains(name)).cloned().collect()
        };
        let routes = &snapshot.routes;
        let upstreams = &snapshot.upstreams;
        let of_routes = routes.iter().map(|route| &route.series);
        let all = of_routes.clone().chain(upstreams.iter().map(|upstream| &upstream.series));
        let tenants = all.filter_map(|series| series.tenant.as_ref()).collect();
        let gone = |names: &[Name], forget: &dyn Fn(&HashSet<&str>)| {
            if !names.is_empty() {
                forget(&names.iter().map(Name::as_str).collect());
            }
        };
        let used = of_routes.map(|series| &series.name).collect();
        gone(&series(&self.routes, used), &|names| metrics.forget_routes(names));
        let used = upstreams.iter().map(|upstream| &upstream.series.name).collect();
        gone(&series(&self.upstreams, used), &|names| metrics.forget_upstreams(names));
        gone(&series(&self.tenants, tenants), &|names| metrics.forget_tenants(names));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

/// Workers count in lumps: the last one of a stream that was cut comes a little later.
const SWEEP_AFTER_MS: u64 = 2_000;
