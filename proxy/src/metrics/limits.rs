//! What rate limits have counted, taken over at a scrape.

use std::collections::{HashMap, HashSet};

use super::{Def, Metrics};
use crate::limit::Counter;
use crate::route::table::Snapshot;

impl Metrics {
    /// Of every limit that serves.
    pub(super) fn collect_limits(&self, snapshot: &Snapshot) {
        // Series of limits that a route no longer has.
        self.rate_limit_keys.reset();
        self.rate_limit_streams.reset();
        // Routes that a template made of tenants share its limits, but for those of tenants that
        // are kept at a former version of it.
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
        for (labels, counts) in now {
            let families = [&self.rate_limit_keys, &self.rate_limit_streams];
            for (family, value) in families.into_iter().zip(counts) {
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                family.with_label_values(&labels).set(value);
            }
        }
    }
}

pub(super) const RATE_LIMIT_DECISIONS: Def = (
    "edge_rate_limit_decisions_total",
    "Requests that a limit was asked about, by what it said.",
    &["route", "limit", "decision"],
);
pub(super) const RATE_LIMIT_KEYS: Def =
    ("edge_rate_limit_keys", "Keys that have a place of their own.", &["route", "limit"]);
pub(super) const RATE_LIMIT_EVICTIONS: Def =
    ("edge_rate_limit_evictions_total", "Idle keys that were forgotten.", &["route", "limit"]);
pub(super) const RATE_LIMIT_OVERFLOW: Def = (
    "edge_rate_limit_overflow_total",
    "Requests counted in buckets that networks share.",
    &["route", "limit"],
);
pub(super) const RATE_LIMIT_STREAMS: Def = (
    "edge_rate_limit_streams",
    "Requests under way of limits with `concurrent`.",
    &["route", "limit"],
);
