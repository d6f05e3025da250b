//! Making families, and removing series of things that are gone.

use std::collections::HashMap;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::Def;

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

    fn add<T: Collector + Clone + 'static>(
        &mut self,
        name: &'static str,
        kind: &'static str,
        labels: &'static [&'static str],
        made: prometheus::Result<T>,
    ) -> T {
        self.families.push(Family { name, kind, labels });
        let registered =
            made.and_then(|made| self.registry.register(Box::new(made.clone())).map(|()| made));
        match registered {
            Ok(made) => made,
            // Names, labels and buckets are constants: the first test of this module would fail.
            Err(why) => unreachable!("{name}: {why}"),
        }
    }
}

/// Removes the series whose `label` has this value.
pub(super) fn forget<T: MetricVecBuilder>(family: &MetricVec<T>, label: &str, value: &str) {
    for collected in family.collect() {
        for metric in collected.get_metric() {
            let labels: HashMap<&str, &str> =
                metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            if labels.get(label) == Some(&value) {
                // Gone already is as good.
                let _ = family.remove(&labels);
            }
        }
    }
}
