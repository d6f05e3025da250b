//! What tenants claim beside each other and beside the routes of the config file: names, hosts,
//! endpoints.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::routes::overlap;
use super::shadow::place_of;
use super::{Accepted, Kind};
use crate::error::Diagnostic;
use crate::model::{Draft, EndpointAddress, Good, Part, PathRule, Route, Tenant};
use crate::value::{HostPattern, Name, quote};

pub(super) type Place<'p> = (&'p HostPattern, &'p PathRule);

pub(super) struct Claims {
    /// The registry, as diagnostics name it.
    file: Option<Arc<str>>,
    /// Hosts of the config file's routes. They are few, or the tenants are.
    config: HashMap<HostPattern, Vec<Claimed>>,
    names: HashSet<Name>,
    /// What serves.
    taken: Held,
    /// What a changed tenant had and still wants: no other tenant's, whoever is looked at first.
    held: Held,
}

#[derive(Default)]
struct Held {
    hosts: HashMap<HostPattern, Owner>,
    /// Who has hosts under this suffix that are no wildcards: one, and another where there are
    /// several. More need not be known to find one that is not who asks.
    under: HashMap<Arc<str>, (Owner, Option<Owner>)>,
    /// As [`gateway`] gives them.
    endpoints: HashMap<EndpointAddress, Owner>,
}

/// What a route of the config file claims of a host.
enum Claimed {
    Served(Arc<Route>),
    /// By a route that is quarantined.
    Blocked {
        route: Name,
        path: PathRule,
    },
}

#[derive(Clone)]
struct Owner {
    tenant: Name,
    line: u64,
}

impl Held {
    /// The first to hold a host has it.
    fn hold(&mut self, host: &HostPattern, owner: &Owner) {
        self.hosts.entry(host.clone()).or_insert_with(|| owner.clone());
        let HostPattern::Exact(name) = host else { return };
        let Some((_, suffix)) = name.split_once('.') else { return };
        match self.under.get_mut(suffix) {
            None => drop(self.under.insert(suffix.into(), (owner.clone(), None))),
            Some((one, other)) if one.tenant != owner.tenant && other.is_none() => {
                *other = Some(owner.clone());
            }
            Some(_) => {}
        }
    }

    /// Who else has the wildcard that this host is under, or hosts under this wildcard.
    fn overlaps(&self, host: &HostPattern, asking: &Name) -> Option<&Owner> {
        let another = |owner: &&Owner| owner.tenant != *asking;
        match host {
            HostPattern::Exact(name) => {
                let (_, suffix) = name.split_once('.')?;
                self.hosts.get(&HostPattern::Wildcard(suffix.into())).filter(another)
            }
            HostPattern::Wildcard(suffix) => {
                let (one, other) = self.under.get(suffix)?;
                [Some(one), other.as_ref()].into_iter().flatten().find(another)
            }
        }
    }
}

impl Claims {
    /// Of what serves, before tenants are added.
    pub(super) fn of(out: &Accepted) -> Claims {
        let mut config: HashMap<HostPattern, Vec<Claimed>> = HashMap::new();
        for route in out.routes.values() {
            for host in &route.value.hosts {
                let claimed = Claimed::Served(route.value.clone());
                config.entry(host.clone()).or_default().push(claimed);
            }
        }
        for blocked in &out.blocked {
            let (route, path) = (blocked.route.clone(), blocked.path.clone());
            let claimed = Claimed::Blocked { route, path };
            config.entry(blocked.host.clone()).or_default().push(claimed);
        }
        let names = out.routes.keys().chain(out.upstreams.keys()).chain(out.certificates.keys());
        let refused = out
            .quarantined
            .iter()
            .filter(|bad| matches!(bad.kind, Kind::Route | Kind::Upstream | Kind::Certificate));
        Claims {
            file: out.global.tenants.as_ref().map(|settings| crate::tenants::shown(&settings.file)),
            config,
            names: names.chain(refused.map(|bad| &bad.name)).cloned().collect(),
            taken: Held::default(),
            held: Held::default(),
        }
    }

    pub(super) fn reserve(&mut self, count: usize) {
        self.taken.hosts.reserve(count);
        self.taken.endpoints.reserve(count);
    }

    /// Holds for a tenant the hosts and endpoints of its former version that the new one has, too.
    /// `stays`: parts of the former version that the new one takes over.
    pub(super) fn hold(
        &mut self,
        new: &Good<Draft>,
        former: &Tenant,
        stays: impl Fn(&Part) -> bool,
    ) {
        let owner = Owner { tenant: new.value.id.clone(), line: new.line };
        let parts = &new.value.parts;
        for part in &former.parts {
            let stays = stays(part);
            for host in &part.route.hosts {
                if stays || parts.iter().any(|new| new.hosts.contains(host)) {
                    self.held.hold(host, &owner);
                }
            }
            for endpoint in &part.upstream.endpoints {
                let address = gateway(&endpoint.address);
                if stays || parts.iter().any(|new| gateway(&new.address) == address) {
                    let held = self.held.endpoints.entry(address.into_owned());
                    held.or_insert_with(|| owner.clone());
                }
            }
        }
    }

    fn host_owner(&self, host: &HostPattern, asking: &Name) -> Option<&Owner> {
        let held = || self.held.hosts.get(host).filter(|owner| owner.tenant != *asking);
        self.taken.hosts.get(host).or_else(held)
    }

    /// Exact hosts go before wildcards: whoever has one under another's wildcard has its requests.
    /// A host that the tenant had stays its own.
    fn overlap_owner(&self, host: &HostPattern, asking: &Name) -> Option<&Owner> {
        if self.held.hosts.get(host).is_some_and(|owner| owner.tenant == *asking) {
            return None;
        }
        self.taken.overlaps(host, asking).or_else(|| self.held.overlaps(host, asking))
    }

    fn endpoint_owner(&self, address: &EndpointAddress, asking: &Name) -> Option<&Owner> {
        let address = &*gateway(address);
        let held = || self.held.endpoints.get(address).filter(|owner| owner.tenant != *asking);
        self.taken.endpoints.get(address).or_else(held)
    }

    /// Whether all that the tenant claims is free, or every reason why not. `same`: it is what it
    /// was; then it stood beside all that go before it already.
    pub(super) fn judge(&self, tenant: &Good<Tenant>, same: bool) -> Result<(), Vec<Diagnostic>> {
        let id = &tenant.value.id;
        let mut reasons = Vec::new();
        let mut refuse = |message: String, help: &str| {
            let reason = Diagnostic {
                at: format!("tenant {id}"),
                line: tenant.line,
                column: tenant.value.column,
                message,
                help: Some(help.to_owned()),
                file: self.file.clone(),
            };
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        };
        for (index, part) in tenant.value.parts.iter().enumerate() {
            let name = &part.route.name;
            if self.names.contains(name) {
                let message =
                    format!("tenant `{id}` and the config file both have an entry `{name}`");
                refuse(message, "give the entry of the config file another name");
            }
            for host in &part.route.hosts {
                if let Some(other) = self.config_route(part, host) {
                    let message = format!(
                        "host {} belongs to the route `{other}` of the config file",
                        part.shown(host)
                    );
                    refuse(message, "rename the tenant, or remove the host from the route");
                }
                if same {
                    continue;
                }
                if let Some(Owner { tenant: other, line }) = self.host_owner(host, id) {
                    let host = part.shown(host);
                    let message = format!("host {host} belongs to tenant `{other}` (line {line})");
                    refuse(message, "every tenant has hosts of its own");
                } else if let Some(Owner { tenant: other, line }) = self.overlap_owner(host, id) {
                    let shown = part.shown(host);
                    let message = match host {
                        HostPattern::Exact(_) => format!(
                            "host {shown} is under a wildcard of tenant `{other}` (line {line})"
                        ),
                        HostPattern::Wildcard(_) => {
                            format!("host {shown} covers a host of tenant `{other}` (line {line})")
                        }
                    };
                    refuse(message, "every tenant has hosts of its own");
                }
                let mut earlier = tenant.value.parts.iter().take(index);
                if let Some(other) = earlier.find(|other| other.claims_too(part, host)) {
                    let (a, b) = (&other.template.name, &part.template.name);
                    let host = part.shown(host);
                    let message = format!("templates `{a}` and `{b}` both claim {host}");
                    refuse(message, "give them different hosts or paths");
                }
            }
            for endpoint in part.upstream.endpoints.iter().filter(|_| !same) {
                let owner = self.endpoint_owner(&endpoint.address, id);
                if let Some(Owner { tenant: other, line }) = owner {
                    let address = part.shown_address(&endpoint.address);
                    let message =
                        format!("endpoint {address} belongs to tenant `{other}` (line {line})");
                    refuse(message, "requests for one tenant must not reach another's gateway");
                }
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    /// The route of the config file that has this place of the host.
    fn config_route(&self, part: &Part, host: &HostPattern) -> Option<&Name> {
        let own = place_of(&part.route.path);
        self.config.get(host)?.iter().find_map(|claimed| match claimed {
            Claimed::Served(route) => {
                let same = place_of(&route.path) == own && overlap(route, &part.route);
                same.then_some(&route.name)
            }
            Claimed::Blocked { route, path } => (place_of(path) == own).then_some(route),
        })
    }

    pub(super) fn take(&mut self, tenant: &Good<Tenant>) {
        let owner = Owner { tenant: tenant.value.id.clone(), line: tenant.line };
        for part in &tenant.value.parts {
            for host in &part.route.hosts {
                self.taken.hold(host, &owner);
            }
            for endpoint in &part.upstream.endpoints {
                let address = gateway(&endpoint.address).into_owned();
                let taken = self.taken.endpoints.entry(address);
                taken.or_insert_with(|| owner.clone());
            }
        }
    }

    /// The wildcard over this exact host, and the other tenant that has it.
    fn wildcard_of_another(
        &self,
        host: &HostPattern,
        tenant: &Name,
    ) -> Option<(HostPattern, &Name)> {
        let HostPattern::Exact(name) = host else { return None };
        let (_, suffix) = name.split_once('.')?;
        let wildcard = HostPattern::Wildcard(suffix.into());
        let owner = &self.taken.hosts.get(&wildcard)?.tenant;
        (owner != tenant).then_some((wildcard, owner))
    }

    /// What the tenant's part still has beside those that go before it. `new`: whether a tenant
    /// has got this wildcard just now.
    pub(super) fn rest_of(
        &self,
        tenant: &Name,
        part: &Part,
        new: impl Fn(&Name, &HostPattern) -> bool,
    ) -> Option<Part> {
        // An address that is another's gateway by now: nobody's requests may end there.
        let given_away = |address| self.taken.endpoints.contains_key(&*gateway(address));
        let mut addresses = part.upstream.endpoints.iter().map(|endpoint| &endpoint.address);
        if self.names.contains(&part.route.name) || addresses.any(given_away) {
            return None;
        }
        let free = |host: &&HostPattern| {
            !self.taken.hosts.contains_key(*host)
                && self.config_route(part, host).is_none()
                // Exact hosts go before wildcards: it would have requests of who got that one.
                && !self.wildcard_of_another(host, tenant).is_some_and(|(any, other)| new(other, &any))
        };
        let hosts: Vec<HostPattern> = part.route.hosts.iter().filter(free).cloned().collect();
        match hosts.len() {
            0 => None,
            all if all == part.route.hosts.len() => Some(part.clone()),
            _ => {
                let route = Route { hosts, ..Route::clone(&part.route) };
                Some(Part { route: route.into(), ..part.clone() })
            }
        }
    }
}

/// One gateway however it is written: an IPv6 address that stands for an IPv4 one (RFC 4291
/// §2.5.5.2), a name with the dot at its end.
fn gateway(address: &EndpointAddress) -> Cow<'_, EndpointAddress> {
    let without_dot = |name: &str| name.strip_suffix('.').map(str::to_owned);
    let other = match address {
        EndpointAddress::Ip(socket) => match (socket.ip(), socket.ip().to_canonical()) {
            (written, meant) if written == meant => None,
            (_, meant) => Some(EndpointAddress::Ip((meant, socket.port()).into())),
        },
        EndpointAddress::Name { host, port } => {
            without_dot(host).map(|host| EndpointAddress::Name { host, port: *port })
        }
        EndpointAddress::Srv(name) => without_dot(name).map(EndpointAddress::Srv),
        EndpointAddress::Unix(_) => None,
    };
    other.map_or(Cow::Borrowed(address), Cow::Owned)
}

impl Part {
    /// Whether both match the same requests of this host.
    fn claims_too(&self, other: &Part, host: &HostPattern) -> bool {
        self.route.path == other.route.path
            && overlap(&self.route, &other.route)
            && self.route.hosts.contains(host)
    }

    /// For a message; never what a reference gave.
    fn shown(&self, host: &HostPattern) -> String {
        self.or_reference(&host.to_string())
    }

    fn shown_address(&self, address: &EndpointAddress) -> String {
        self.or_reference(&address.to_string())
    }

    fn or_reference(&self, value: &str) -> String {
        match crate::interpolate::is_interpolated(&self.template.text) {
            true => "[a reference]".to_owned(),
            false => quote(value),
        }
    }
}
