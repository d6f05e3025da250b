//! Families that know tenants: the label `tenant` is there for what templates made of a tenant and
//! for nothing else. The library gives all series of a family the same labels, so these are two
//! families of one name that become one in the text.

use std::collections::HashMap;

use config::value::Name;
use prometheus::core::{MetricVec, MetricVecBuilder};
use prometheus::proto::MetricFamily;

/// One family, with and without the label `tenant`.
#[derive(Clone)]
pub struct WithTenants<V> {
    pub(super) plain: V,
    /// The label `tenant` comes last.
    pub(super) tenants: V,
}

impl<T: MetricVecBuilder> WithTenants<MetricVec<T>> {
    /// The series of these values, for a tenant or not for one. Looks it up: to be kept.
    pub fn of(&self, tenant: Option<&Name>, labels: &[&str]) -> T::M {
        match tenant {
            None => self.plain.with_label_values(labels),
            Some(tenant) => {
                let labels: Vec<&str> = labels.iter().copied().chain([tenant.as_str()]).collect();
                self.tenants.with_label_values(&labels)
            }
        }
    }

    /// Both of them.
    pub(super) fn both(&self) -> [&MetricVec<T>; 2] {
        [&self.plain, &self.tenants]
    }
}

/// Series of one family under one name; both in order, as a registry gathers them.
pub(super) fn merged(
    mut plain: Vec<MetricFamily>,
    tenants: Vec<MetricFamily>,
) -> Vec<MetricFamily> {
    let mut at: HashMap<String, usize> = HashMap::new();
    for (index, family) in plain.iter().enumerate() {
        at.insert(family.name().to_owned(), index);
    }
    for mut family in tenants {
        match at.get(family.name()).and_then(|index| plain.get_mut(*index)) {
            Some(plain) => plain.mut_metric().append(family.mut_metric()),
            None => plain.push(family),
        }
    }
    plain.sort_by(|a, b| a.name().cmp(b.name()));
    plain
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn both_halves_are_one_family() {
        let metrics = Metrics::new();
        let tenant = Name::new("acme").unwrap();
        metrics.upstream_panic.of(None, &["api"]).set(1);
        metrics.upstream_panic.of(Some(&tenant), &["gateway"]).set(2);
        metrics.upstream_endpoints.of(Some(&tenant), &["gateway", "healthy"]).set(3);
        let text = String::from_utf8(metrics.render()).unwrap();
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains("edge_upstream_panic")).collect();
        assert_eq!(
            lines[1..],
            [
                "# TYPE edge_upstream_panic gauge",
                "edge_upstream_panic{upstream=\"api\"} 1",
                "edge_upstream_panic{tenant=\"acme\",upstream=\"gateway\"} 2"
            ]
        );
        // A family that only tenants have series of has its place, too.
        assert!(text.contains("edge_upstream_endpoints{state=\"healthy\",tenant=\"acme\""));
        // Of one name, only what was counted so.
        metrics.forget_series_of_upstreams(&[("gateway", None), ("api", Some("acme"))].into());
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(text.contains("acme") && text.contains("upstream=\"api\"} 1"), "{text}");
        metrics.forget_series_of_upstreams(&[("gateway", Some("acme"))].into());
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(!text.contains("tenant=") && text.contains("upstream=\"api\"} 1"), "{text}");
    }
}
