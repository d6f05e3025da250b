//! Which tenants have metric labels of their own.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use config::merge::Accepted;
use config::model::TenantOf;
use config::value::Name;

use super::budget::{Budget, Dropped};
use crate::route::table::Series;

/// Labels for the first so many tenants; those beyond share `other`. A tenant keeps what it has as
/// long as it is there: series that change hands would be worth nothing.
#[derive(Default)]
pub struct TenantLabels {
    most: usize,
    own: BTreeSet<Name>,
    followed: Option<Arc<Accepted>>,
    budget: Budget,
}

impl TenantLabels {
    /// Brings the labels to these tenants.
    pub fn follow(&mut self, accepted: &Arc<Accepted>) {
        if self.followed.as_ref().is_some_and(|followed| Arc::ptr_eq(followed, accepted)) {
            return;
        }
        let former = self.followed.replace(accepted.clone());
        self.budget.follow(accepted);
        let most = self.budget.tenants();
        // Another number: everybody begins anew.
        let former = former.filter(|_| self.most == most);
        if former.is_none() {
            self.own.clear();
        }
        self.most = most;
        self.own.retain(|tenant| accepted.tenants.contains_key(tenant));
        let mut known = former.iter().flat_map(|former| former.tenants.keys()).peekable();
        for tenant in accepted.tenants.keys() {
            while known.next_if(|known| *known < tenant).is_some() {}
            let is_new = known.next_if(|known| *known == tenant).is_none();
            if is_new && self.own.len() < most {
                self.own.insert(tenant.clone());
            }
        }
    }

    /// What something is counted under that is called `name`.
    pub fn series(&self, name: &Name, made_of: Option<&TenantOf>) -> Series {
        match made_of {
            None if self.budget.is_beyond(name) => {
                Series { name: Name::new(OTHER).unwrap_or_else(|_| name.clone()), tenant: None }
            }
            None => Series::own(name),
            Some(TenantOf { tenant, template }) => {
                Series { name: template.clone(), tenant: self.of(tenant) }
            }
        }
    }

    /// What `metrics.max_series` has cost since this was asked last.
    pub fn dropped(&mut self) -> Option<Dropped> {
        self.budget.dropped()
    }

    /// Whether this tenant shares a label with others.
    pub fn is_other(&self, tenant: &Name) -> bool {
        !self.own.contains(tenant)
    }

    /// The value of the label `tenant`.
    pub fn of(&self, tenant: &Name) -> Option<Name> {
        if self.own.contains(tenant) { Some(tenant.clone()) } else { SHARED.clone() }
    }
}

pub const OTHER: &str = "other";
/// Asked for with every tenant.
static SHARED: LazyLock<Option<Name>> = LazyLock::new(|| Name::new(OTHER).ok());

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    /// A registry of tenants of these names.
    struct Registry<'n>(&'n [&'n str]);

    impl config::Environment for Registry<'_> {
        fn var(&self, _name: &str) -> Option<String> {
            None
        }

        fn read(&self, _path: &Path) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn read_registry(&self, _path: &Path) -> io::Result<Vec<u8>> {
            let entry =
                |name: &&str| format!("{{ \"tenant\": \"{name}\", \"host\": \"{name}.x\" }}");
            let entries = self.0.iter().map(entry).collect::<Vec<_>>().join(", ");
            Ok(format!("{{ \"servers\": [{entries}] }}").into_bytes())
        }
    }

    fn accepted(most: usize, names: &[&str]) -> Arc<Accepted> {
        let text = format!(
            "version: 1\nlisteners: {{ web: {{ bind: ['127.0.0.1:1'] }} }}\ntenants:\n  \
             file: /registry.json\n  metrics: {{ tenants: {most} }}\n  routes:\n    \
             gw: {{ hosts: ['{{tenant}}.gw.example'], endpoint: '{{host}}:80' }}\n"
        );
        config::merge(None, config::parse("edge.yaml", &text, &Registry(names)).unwrap()).into()
    }

    #[test]
    fn the_first_have_labels_and_keep_them() {
        let mut labels = TenantLabels::default();
        let mut shown = |most: usize, names: &[&str]| -> String {
            let accepted = accepted(most, names);
            labels.follow(&accepted);
            let routes = accepted.routes.values();
            let series =
                routes.map(|route| labels.series(&route.value.name, route.value.tenant.as_ref()));
            let of = |series: Series| format!("{}:{}", series.name, series.tenant.unwrap());
            series.map(of).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(2, &["b", "c", "d"]), "gw:b gw:c gw:other");
        // Nobody loses a label, and who shares one does not get another.
        assert_eq!(shown(2, &["a", "b", "c", "d"]), "gw:other gw:b gw:c gw:other");
        assert_eq!(shown(2, &["a", "c", "d"]), "gw:other gw:c gw:other");
        assert_eq!(shown(2, &["a", "c", "d", "e", "f"]), "gw:other gw:c gw:other gw:e gw:other");
        assert_eq!(shown(1, &["a", "c"]), "gw:a gw:other");
        assert_eq!(shown(0, &["a"]), "gw:other");
    }
}
