//! Which tenants serve, and which version of them.
//!
//! An entry that is bad, or clashes with another, is refused alone; the tenant's former version
//! serves on. Who had a host or an endpoint before keeps it; among new tenants the first of the
//! registry gets it; a route of the config file goes before any tenant.

use super::{Accepted, Kind};
use crate::model::{Entry, Good, Tenant, TenantEntries};

pub(super) fn select(out: &mut Accepted, new: TenantEntries, previous: Option<&Accepted>) {
    let TenantEntries { templates, tenants, strays, broken } = new;
    let _ = (&strays, &broken, previous);
    for (name, entry) in templates {
        match entry {
            Entry::Good(template) => {
                out.templates.insert(name, template);
            }
            Entry::Bad(bad) => out.quarantine(Kind::Template, &name, bad, false),
        }
    }
    for (name, entry) in tenants {
        match entry {
            Entry::Good(tenant) => place(out, tenant),
            Entry::Bad(bad) => out.quarantine(Kind::Tenant, &name, bad, false),
        }
    }
}

fn place(out: &mut Accepted, tenant: Good<Tenant>) {
    for part in &tenant.value.parts {
        let line = out.templates.get(&part.template.name).map_or(0, |template| template.line);
        let text = part.template.text.clone();
        let route = Good { value: part.route.clone(), text: text.clone(), line };
        out.routes.insert(part.route.name.clone(), route);
        let upstream = Good { value: part.upstream.clone(), text, line };
        out.upstreams.insert(part.upstream.name.clone(), upstream);
    }
    out.tenants.insert(tenant.value.id.clone(), tenant);
}
