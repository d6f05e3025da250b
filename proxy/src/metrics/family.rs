//! Making families, and removing series of things that are gone.

use std::collections::{HashMap, HashSet};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::Def;
use super::tenants::WithTenants;

/// What a family is called; for the test that compares with the document.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    pub labels: &'static [&'static str],
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
    pub fn counters(&mut self, (name, help, labels): Def) -> IntCounterVec {
        self.add(name, "counter", labels, IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub fn counter(&mut self, (name, help, labels): Def) -> IntCounter {
        self.add(name, "counter", labels, IntCounter::new(name, help))
    }

    pub fn gauges(&mut self, (name, help, labels): Def) -> IntGaugeVec {
        self.add(name, "gauge", labels, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// Of numbers that are not whole.
    pub fn fractions(&mut self, (name, help, labels): Def) -> GaugeVec {
        self.add(name, "gauge", labels, GaugeVec::new(Opts::new(name, help), labels))
    }

    pub fn gauge(&mut self, (name, help, labels): Def) -> IntGauge {
        self.add(name, "gauge", labels, IntGauge::new(name, help))
    }

    pub fn histograms(&mut self, (name, help, labels): Def, buckets: &[f64]) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(name, "histogram", labels, HistogramVec::new(opts, labels))
    }

    /// The last of the labels is `tenant`.
    pub fn tenant_counters(&mut self, def: Def) -> WithTenants<IntCounterVec> {
        let made = |labels: &[&str]| IntCounterVec::new(Opts::new(def.0, def.1), labels);
        self.with_tenants(def, "counter", made)
    }

    /// The last of the labels is `tenant`.
    pub fn tenant_gauges(&mut self, def: Def) -> WithTenants<IntGaugeVec> {
        let made = |labels: &[&str]| IntGaugeVec::new(Opts::new(def.0, def.1), labels);
        self.with_tenants(def, "gauge", made)
    }

    fn with_tenants<V: Collector + Clone + 'static>(
        &mut self,
        (name, _, labels): Def,
        kind: &'static str,
        made: impl Fn(&[&str]) -> prometheus::Result<V>,
    ) -> WithTenants<V> {
        let plain = labels.split_last().map_or(labels, |(_, plain)| plain);
        WithTenants {
            plain: self.add(name, kind, labels, made(plain)),
            tenants: registered(&self.tenants, name, made(labels)),
        }
    }

    fn add<T: Collector + Clone + 'static>(
        &mut self,
        name: &'static str,
        kind: &'static str,
        labels: &'static [&'static str],
        made: prometheus::Result<T>,
    ) -> T {
        self.families.push(Family { name, kind, labels });
        registered(&self.registry, name, made)
    }
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
