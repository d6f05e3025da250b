//! A registry of tenants and templates to routes and upstreams: `tenants:` of the config file.
//!
//! ```text
//! bytes ─► registry (entries, each good or bad) ─┐
//! config ─► templates (decoded once) ────────────┴─► expand ─► Entry<Draft> ─► merge
//! ```

mod doubled;
mod expand;
mod json;
pub(crate) mod kept;
pub(crate) mod pattern;
mod registry;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(crate) use expand::{Expander, tenant_name};
pub(crate) use pattern::{EndpointPattern, Pattern, Placeholders, is_field};
pub(crate) use registry::{Registry, names, read};

use crate::error::Diagnostic;
use crate::merge::overlap;
use crate::model::{BadEntry, Draft, Entry, Good, Route, Tenant, Upstream};
use crate::value::Name;

/// What every tenant gets: a route with an upstream of its own. Compared as a whole: two equal
/// templates make the same of the same entry.
#[derive(Clone, Debug)]
pub struct Template {
    pub name: Name,
    pub(crate) fields: Placeholders,
    pub(crate) hosts: Vec<Pattern>,
    pub(crate) endpoint: EndpointPattern,
    /// Of every tenant, but for its name and its hosts.
    pub(crate) route: Route,
    /// Of every tenant, but for its name and its endpoint.
    pub(crate) upstream: Upstream,
    /// Its source before interpolation, one YAML mapping: what the state directory keeps.
    pub(crate) text: Arc<str>,
}

/// What it makes, not how it is written.
impl PartialEq for Template {
    fn eq(&self, other: &Template) -> bool {
        (&self.name, &self.fields, &self.hosts) == (&other.name, &other.fields, &other.hosts)
            && self.endpoint == other.endpoint
            && self.route == other.route
            && self.upstream == other.upstream
    }
}

impl Template {
    /// Whether a tenant would get one host of both, for the same requests.
    pub(crate) fn claims_what(&self, other: &Template) -> bool {
        let hosts = |template: &Template| -> Vec<String> {
            template.hosts.iter().map(|host| host.source(&template.fields)).collect()
        };
        let own = hosts(self);
        self.route.path == other.route.path
            && overlap(&self.route, &other.route)
            && hosts(other).iter().any(|host| own.contains(host))
    }
}

/// What a config file and its registry say of tenants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TenantEntries {
    pub templates: BTreeMap<Name, Entry<Template>>,
    /// Lines are those of the registry.
    pub tenants: BTreeMap<Name, Entry<Draft>>,
    /// Entries that name no tenant of their own.
    pub strays: Vec<Stray>,
    /// What the state directory kept: nothing of it is checked against a registry.
    pub(crate) kept: Vec<Tenant>,
    /// Why the registry as a whole cannot be used: then every tenant goes on as it is.
    pub broken: Option<BadEntry>,
}

/// An entry of the registry whose tenant is not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Stray {
    /// What it is reported as.
    pub name: Name,
    pub reasons: Vec<Diagnostic>,
    pub line: u64,
    /// Single values by field, to find the tenant by that it was before. Empty where the tenant is
    /// known, but another entry has it.
    pub(crate) values: BTreeMap<Box<str>, Box<str>>,
    /// What the entry makes where another has its tenant.
    pub(crate) again: Option<Good<Draft>>,
}

/// A file as diagnostics name it.
pub(crate) fn shown(file: &Path) -> Arc<str> {
    file.display().to_string().into()
}
