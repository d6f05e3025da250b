//! Tenants: what a registry and templates make routes, upstreams and certificates of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Action, EndpointAddress, EndpointSpec, Route, Upstream};
use crate::tenants::Template;
use crate::value::{HostPattern, Name};

/// `tenants:` without its templates. One error in here refuses the whole file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenants {
    /// The registry: JSON, watched, at most [`crate::defaults::REGISTRY_BYTES`].
    pub file: PathBuf,
    /// The field of an entry that names its tenant. Default `tenant`.
    pub id: String,
    /// `None`: hosts get certificates as those of other routes do.
    pub certificates: Option<TenantCertificates>,
    /// Streams of a removed tenant may go on for this long. Default: `drain.removed_route_grace`.
    pub removed_drain: Duration,
    /// Most tenants with a metric label of their own; the others share `other`. Default 100.
    pub metric_tenants: usize,
}

/// Certificates of their own for the hosts of tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantCertificates {
    pub issuer: Name,
    pub per: CertificatePer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificatePer {
    /// One for each host (default).
    Host,
    /// One for all hosts of a tenant.
    Tenant,
}

/// The tenant and the template that a route or an upstream was made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantOf {
    pub tenant: Name,
    pub template: Name,
}

/// One entry of the registry and what the templates made of it.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub id: Name,
    /// In the order of template names.
    pub parts: Vec<Part>,
    /// 1-based, where the entry stands in its line of the registry; not compared.
    pub(crate) column: u64,
}

impl PartialEq for Tenant {
    fn eq(&self, other: &Tenant) -> bool {
        self.id == other.id && self.parts == other.parts
    }
}

/// What one template made of a tenant.
#[derive(Clone, Debug)]
pub struct Part {
    pub template: Arc<Template>,
    /// Of the template's placeholders, in their order.
    pub(crate) values: Arc<[Box<str>]>,
    pub route: Arc<Route>,
    pub upstream: Arc<Upstream>,
}

impl PartialEq for Part {
    /// The route and the upstream are what the template and the values give.
    fn eq(&self, other: &Part) -> bool {
        if Arc::ptr_eq(&self.route, &other.route) && Arc::ptr_eq(&self.upstream, &other.upstream) {
            return true;
        }
        let same_template =
            Arc::ptr_eq(&self.template, &other.template) || self.template == other.template;
        same_template && self.values == other.values && self.route.hosts == other.route.hosts
    }
}

/// One entry of the registry, checked by itself: what it takes to make a [`Tenant`].
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub id: Name,
    /// In the order of template names.
    pub(crate) parts: Vec<DraftPart>,
    pub(crate) column: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DraftPart {
    pub template: Arc<Template>,
    pub values: Arc<[Box<str>]>,
    /// Of the route and the upstream.
    pub name: Name,
    pub hosts: Vec<HostPattern>,
    pub address: EndpointAddress,
}

impl Draft {
    /// Whether the tenant is what this draft would make, of the very same templates.
    pub(crate) fn is(&self, tenant: &Tenant) -> bool {
        let same = |(new, old): (&DraftPart, &Part)| {
            Arc::ptr_eq(&new.template, &old.template)
                && new.values == old.values
                && new.hosts == old.route.hosts
        };
        self.parts.len() == tenant.parts.len() && self.parts.iter().zip(&tenant.parts).all(same)
    }

    pub(crate) fn make(self) -> Tenant {
        let parts = self.parts.into_iter().map(|part| part.make(&self.id)).collect();
        Tenant { id: self.id, parts, column: self.column }
    }
}

impl DraftPart {
    pub(crate) fn make(self, tenant: &Name) -> Part {
        let DraftPart { template, values, name, hosts, address } = self;
        let of = TenantOf { tenant: tenant.clone(), template: template.name.clone() };
        let route = Route {
            name: name.clone(),
            hosts,
            action: Action::Upstream(name.clone()),
            tenant: Some(of.clone()),
            ..template.route.clone()
        };
        let upstream = Upstream {
            name,
            endpoints: vec![EndpointSpec { address, weight: 1 }],
            tenant: Some(of),
            ..template.upstream.clone()
        };
        Part { template, values, route: route.into(), upstream: upstream.into() }
    }
}
