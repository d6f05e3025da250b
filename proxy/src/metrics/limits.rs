//! What rate limits have counted, taken over at a scrape.

use std::collections::{HashMap, HashSet};

use super::Metrics;
use super::family::Def;
use crate::limit::Counter;
use crate::route::table::Snapshot;

impl Metrics {
    /// Of every limit that serves.
    pub(super) fn collect_limits(&self, snapshot: &Snapshot) {
        // Series of limits that a route no longer has.
        self.rate_limit_keys.reset();
        self.rate_limit_streams.reset();
        // Routes that a template made of tenants share its limits, but for those of tenants that
        // are kept at a former version of it; those beyond `metrics.max_series` share series.
        let mut done = HashSet::new();
        let mut now: HashMap<[&str; 2], [usize; 2]> = HashMap::new();
        for route in &snapshot.routes {
            for limit in route.limits.iter().filter(|limit| done.insert(limit.state_id())) {
                let labels = [route.series.name.as_str(), limit.spec.name.as_str()];
                let decisions = limit.decisions();
                for (decision, counter) in [
                    ("passed", &decisions.passed),
                    ("refused", &decisions.refused),
                    ("dry_run", &decisions.dry_run),
                    ("exempt", &decisions.exempt),
                ] {
                    let labels = [labels[0], labels[1], decision];
                    self.rate_limit_decisions.with_label_values(&labels).inc_by(counter.take());
                }
                let count = |family: &prometheus::IntCounterVec, counter: &Counter| {
                    family.with_label_values(&labels).inc_by(counter.take());
                };
                count(&self.rate_limit_evictions, limit.evicted());
                count(&self.rate_limit_overflow, limit.overflow());
                let [keys, streams] = now.entry(labels).or_default();
                *keys += limit.keys();
                *streams += limit.streams();
            }
        }
        for (labels, [keys, streams]) in now {
            let gauge = |family: &prometheus::IntGaugeVec, value: usize| {
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                family.with_label_values(&labels).set(value);
            };
            gauge(&self.rate_limit_keys, keys);
            gauge(&self.rate_limit_streams, streams);
        }
    }
}

pub(super) const RATE_LIMIT_DECISIONS: Def = Def {
    name: "edge_rate_limit_decisions_total",
    help: "Requests that a limit was asked about, by what it said.",
    detail: "`passed`, `refused`, `dry_run` (passed, and would have been refused), `exempt` (by \
        their address).",
    labels: &["route", "limit", "decision"],
};
pub(super) const RATE_LIMIT_KEYS: Def = Def {
    name: "edge_rate_limit_keys",
    help: "Keys that have a place of their own.",
    detail: "At most `limiter_keys`. An IPv6 client that is counted with its aggregate takes two.",
    labels: &["route", "limit"],
};
pub(super) const RATE_LIMIT_EVICTIONS: Def = Def {
    name: "edge_rate_limit_evictions_total",
    help: "Idle keys that were forgotten.",
    detail: "",
    labels: &["route", "limit"],
};
pub(super) const RATE_LIMIT_OVERFLOW: Def = Def {
    name: "edge_rate_limit_overflow_total",
    help: "Requests counted in buckets that networks share.",
    detail: "The table was full, or their client had drawn 32 new keys within a minute.",
    labels: &["route", "limit"],
};
pub(super) const RATE_LIMIT_STREAMS: Def = Def {
    name: "edge_rate_limit_streams",
    help: "Requests under way of limits with `concurrent`.",
    detail: "",
    labels: &["route", "limit"],
};
