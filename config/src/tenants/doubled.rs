//! Which of two entries of one tenant counts: the one that is as before, else the first.

use std::collections::BTreeMap;

use super::TenantEntries;
use crate::error::Diagnostic;
use crate::model::{Draft, Entry, Good, Tenant};
use crate::value::Name;

impl TenantEntries {
    /// Puts entries that claim what their tenant has before earlier ones that do not: a copied
    /// entry with the name not yet changed moves nobody.
    pub(crate) fn prefer_former(&mut self, former: &BTreeMap<Name, Good<Tenant>>) {
        for stray in &mut self.strays {
            let Some(again) = &stray.again else { continue };
            let Some(former) = former.get(&stray.name) else { continue };
            let Some(Entry::Good(first)) = self.tenants.get_mut(&stray.name) else { continue };
            if first.value.claims_as(&former.value) || !again.value.claims_as(&former.value) {
                continue;
            }
            let reason = Diagnostic {
                at: format!("tenant {}", stray.name),
                line: first.line,
                column: first.value.column,
                message: format!(
                    "tenant `{}` has another entry, at line {}, and that one is as before",
                    stray.name, again.line
                ),
                help: Some("remove one of the two, or give it another name".to_owned()),
                file: stray.reasons.first().and_then(|reason| reason.file.clone()),
            };
            (stray.line, stray.reasons) = (first.line, vec![reason]);
            *first = again.clone();
        }
    }
}

impl Draft {
    /// Whether both have the same hosts and endpoints, as far as they are of the same templates.
    fn claims_as(&self, tenant: &Tenant) -> bool {
        let mut common = self.parts.iter().filter_map(|new| {
            let old = tenant.parts.iter().find(|old| old.template.name == new.template.name)?;
            let mut addresses = old.upstream.endpoints.iter().map(|endpoint| &endpoint.address);
            Some(new.hosts == old.route.hosts && addresses.all(|old| *old == new.address))
        });
        common.next().is_some_and(|first| first && common.all(|same| same))
    }
}
