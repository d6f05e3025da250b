//! Which tenants have metric labels of their own, and which hosts had a tenant once.

use std::collections::BTreeSet;

use config::value::Name;

/// Labels for the first so many tenants; those beyond share `other`. A tenant keeps what it has as
/// long as it is there: series that change hands would be worth nothing.
#[derive(Default)]
pub struct Labels {
    own: BTreeSet<Name>,
    others: BTreeSet<Name>,
}

impl Labels {
    /// Brings the labels to these tenants, at most `most` of them. Returns those whose label is
    /// free now.
    pub fn follow(&mut self, tenants: &BTreeSet<&Name>, most: usize) -> Vec<Name> {
        self.others.retain(|tenant| tenants.contains(tenant));
        let gone: Vec<Name> =
            self.own.iter().filter(|tenant| !tenants.contains(tenant)).cloned().collect();
        for tenant in &gone {
            self.own.remove(tenant);
        }
        for tenant in tenants {
            if self.own.contains(*tenant) || self.others.contains(*tenant) {
                continue;
            }
            let labels = if self.own.len() < most { &mut self.own } else { &mut self.others };
            labels.insert((*tenant).clone());
        }
        gone
    }

    /// The value of the label `tenant`.
    pub fn of(&self, tenant: &Name) -> Option<Name> {
        if self.own.contains(tenant) { Some(tenant.clone()) } else { Name::new(OTHER).ok() }
    }

    pub fn is_own(&self, tenant: &Name) -> bool {
        self.own.contains(tenant)
    }
}

pub const OTHER: &str = "other";
