//! Making families, and removing series of things that are gone.

use std::collections::{HashMap, HashSet};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::tenants::WithTenants;

/// What is written of a family.
#[derive(Clone, Copy, Debug)]
pub struct Def {
    pub name: &'static str,
    /// One sentence: what is counted. Its HELP text.
    pub help: &'static str,
    /// What else there is to know, for the document alone: label values, units, limits.
    pub detail: &'static str,
    pub labels: &'static [&'static str],
}

/// A family as it is registered.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub def: Def,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Upper ends, in seconds; empty but for histograms.
    pub buckets: &'static [f64],
}

/// The registry while it is filled.
#[derive(Default)]
pub(super) struct Catalogue {
    pub registry: Registry,
    /// What is labelled with a tenant; see [`super::tenants`].
    pub tenants: Registry,
    pub families: Vec<Family>,
}

impl Catalogue {
    pub fn counters(&mut self, def: Def) -> IntCounterVec {
        self.add(def, "counter", IntCounterVec::new(opts(def), def.labels))
    }

    pub fn counter(&mut self, def: Def) -> IntCounter {
        self.add(def, "counter", IntCounter::with_opts(opts(def)))
    }

    pub fn gauges(&mut self, def: Def) -> IntGaugeVec {
        self.add(def, "gauge", IntGaugeVec::new(opts(def), def.labels))
    }

    /// Of numbers that are not whole.
    pub fn fractions(&mut self, def: Def) -> GaugeVec {
        self.add(def, "gauge", GaugeVec::new(opts(def), def.labels))
    }

    pub fn gauge(&mut self, def: Def) -> IntGauge {
        self.add(def, "gauge", IntGauge::with_opts(opts(def)))
    }

    pub fn histograms(&mut self, def: Def, buckets: &'static [f64]) -> HistogramVec {
        let opts = HistogramOpts::new(def.name, def.help).buckets(buckets.to_vec());
        self.families.push(Family { def, kind: "histogram", buckets });
        registered(&self.registry, def.name, HistogramVec::new(opts, def.labels))
    }

    /// The last of the labels is `tenant`.
    pub fn tenant_counters(&mut self, def: Def) -> WithTenants<IntCounterVec> {
        self.with_tenants(def, "counter", |labels| IntCounterVec::new(opts(def), labels))
    }

    /// The last of the labels is `tenant`.
    pub fn tenant_gauges(&mut self, def: Def) -> WithTenants<IntGaugeVec> {
        self.with_tenants(def, "gauge", |labels| IntGaugeVec::new(opts(def), labels))
    }

    fn with_tenants<V: Collector + Clone + 'static>(
        &mut self,
        def: Def,
        kind: &'static str,
        made: impl Fn(&[&str]) -> prometheus::Result<V>,
    ) -> WithTenants<V> {
        let plain = def.labels.split_last().map_or(def.labels, |(_, plain)| plain);
        WithTenants {
            plain: self.add(def, kind, made(plain)),
            tenants: registered(&self.tenants, def.name, made(def.labels)),
        }
    }

    fn add<T: Collector + Clone + 'static>(
        &mut self,
        def: Def,
        kind: &'static str,
        made: prometheus::Result<T>,
    ) -> T {
        self.families.push(Family { def, kind, buckets: &[] });
        registered(&self.registry, def.name, made)
    }
}

fn opts(def: Def) -> Opts {
    Opts::new(def.name, def.help)
}

fn registered<T: Collector + Clone + 'static>(
    registry: &Registry,
    name: &str,
    made: prometheus::Result<T>,
) -> T {
    match made.and_then(|made| registry.register(Box::new(made.clone())).map(|()| made)) {
        Ok(made) => made,
        // Names, labels and buckets are constants: the first test of this module would fail.
        Err(why) => unreachable!("{name}: {why}"),
    }
}

/// Removes the series whose `label` has one of these values.
pub(super) fn forget<T: MetricVecBuilder>(
    family: &MetricVec<T>,
    label: &str,
    values: &HashSet<&str>,
) {
    forget_where(family, |labels| labels.get(label).is_some_and(|value| values.contains(value)));
}

/// Removes the series whose labels are such.
pub(super) fn forget_where<T: MetricVecBuilder>(
    family: &MetricVec<T>,
    gone: impl Fn(&HashMap<&str, &str>) -> bool,
) {
    for collected in family.collect() {
        for metric in collected.get_metric() {
            let labels: HashMap<&str, &str> =
                metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            if gone(&labels) {
                // Gone already is as good.
                let _ = family.remove(&labels);
            }
        }
    }
}
