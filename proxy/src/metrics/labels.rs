//! Which tenants have metric labels of their own.

use std::collections::BTreeSet;

use config::merge::Accepted;
use config::model::TenantOf;
use config::value::Name;

use crate::route::table::Series;

/// Labels for the first so many tenants; those beyond share `other`. A tenant keeps what it has as
/// long as it is there: series that change hands would be worth nothing.
#[derive(Default)]
pub struct TenantLabels {
    most: usize,
    own: BTreeSet<Name>,
    others: BTreeSet<Name>,
}

impl TenantLabels {
    /// Brings the labels to these tenants, at most `most` of them.
    pub fn follow(&mut self, accepted: &Accepted) {
        let Some(settings) = &accepted.global.tenants else {
            *self = TenantLabels::default();
            return;
        };
        let tenants = &accepted.tenants;
        // Another number: everybody begins anew.
        if self.most != settings.metric_tenants {
            *self = TenantLabels { most: settings.metric_tenants, ..TenantLabels::default() };
        }
        self.own.retain(|tenant| tenants.contains_key(tenant));
        self.others.retain(|tenant| tenants.contains_key(tenant));
        for tenant in tenants.keys() {
            if self.own.contains(tenant) || self.others.contains(tenant) {
                continue;
            }
            let labels = if self.own.len() < self.most { &mut self.own } else { &mut self.others };
            labels.insert(tenant.clone());
        }
    }

    /// What something is counted under that is called `name`.
    pub fn series(&self, name: &Name, made_of: Option<&TenantOf>) -> Series {
        match made_of {
            None => Series::own(name),
            Some(TenantOf { tenant, template }) => {
                Series { name: template.clone(), tenant: self.of(tenant) }
            }
        }
    }

    /// Whether this tenant shares a label with others.
    pub fn is_other(&self, tenant: &Name) -> bool {
        !self.own.contains(tenant)
    }

    /// The value of the label `tenant`.
    pub fn of(&self, tenant: &Name) -> Option<Name> {
        if self.own.contains(tenant) { Some(tenant.clone()) } else { Name::new(OTHER).ok() }
    }
}

pub const OTHER: &str = "other";
