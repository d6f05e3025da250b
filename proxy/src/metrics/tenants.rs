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
