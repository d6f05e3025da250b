//! Which tenants serve, and which version of them.
//!
//! 1. An entry that is bad, or clashes with another, is refused alone; the tenant's former version
//!    serves on. An entry that the registry does not hold is gone.
//! 2. A registry that cannot be read leaves every tenant as it is, a bad template what it made.
//! 3. A route of the config file goes before any tenant. A tenant that had a host or an endpoint
//!    and still wants it keeps it, whatever else changes; else the first of the registry gets it.
//! 4. What a refused tenant claims is blocked, but nothing on a host that another one or the config
//!    file serves.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::claims::{Claims, Place};
use super::{Accepted, Blocked, Kind};
use crate::model::{
    BadEntry, Draft, Entry, Good, Part, PathRule, Stray, Template, Tenant, TenantEntries,
};
use crate::value::{HostPattern, Name};

pub(super) fn select(out: &mut Accepted, mut new: TenantEntries, previous: Option<&Accepted>) {
    if out.global.tenants.is_none() {
        return;
    }
    if let Some(previous) = previous {
        new.prefer_former(&previous.tenants);
    }
    let TenantEntries { templates, mut tenants, strays, broken, kept } = new;
    let templates = Templates::settle(out, templates, previous);
    templates.renew(&mut tenants);
    let mut select = Select {
        claims: Claims::of(out),
        former: previous.map(|previous| &previous.tenants),
        templates,
        placed: Placed::default(),
        refused: Vec::new(),
    };
    match broken {
        Some(bad) => {
            let any = select.keep_all();
            let name = Name::resembling("registry");
            select.refused.push(Refused { kind: Kind::Tenants, name, bad, serves: any });
        }
        None => {
            let some = tenants.keys().filter(|_| !strays.is_empty());
            let listed = some.cloned().collect();
            select.entries(tenants);
            select.strays(strays, listed);
        }
    }
    for tenant in kept {
        let name = tenant.id.clone();
        let (text, line) = (Arc::from(""), 0);
        select.keep(&name, Good { value: tenant.into(), text, line });
    }
    let Select { placed, mut refused, templates, .. } = select;
    refused.sort_by_key(|refused| refused.bad.line);
    templates.tell(out, &placed);
    placed.into(out);
    tell_refused(out, refused);
}

/// The templates of the new file.
struct Templates {
    good: BTreeMap<Name, Good<Template>>,
    bad: BTreeMap<Name, BadEntry>,
    /// Good ones that are what they were: tenants they were applied to need not be looked at.
    unchanged: BTreeSet<Name>,
}

impl Templates {
    fn settle(
        out: &mut Accepted,
        entries: BTreeMap<Name, Entry<Template>>,
        previous: Option<&Accepted>,
    ) -> Templates {
        let mut sorted =
            Templates { good: BTreeMap::new(), bad: BTreeMap::new(), unchanged: BTreeSet::new() };
        for (name, entry) in entries {
            let mut template = match entry {
                Entry::Good(template) => template,
                Entry::Bad(bad) => {
                    sorted.bad.insert(name, bad);
                    continue;
                }
            };
            let former = previous.and_then(|previous| previous.templates.get(&name));
            if let Some(former) = former
                && former.value == template.value
                && former.value.text == template.value.text
            {
                // One template, not two equal ones: what it made is compared by it.
                template.value = former.value.clone();
                sorted.unchanged.insert(name.clone());
            }
            sorted.good.insert(name, template);
        }
        out.templates = sorted.good.clone();
        sorted
    }

    /// Lets parts point to the templates that stay.
    fn renew(&self, tenants: &mut BTreeMap<Name, Entry<Draft>>) {
        if self.unchanged.is_empty() {
            return;
        }
        let good = tenants.values_mut().filter_map(|entry| match entry {
            Entry::Good(good) => Some(Arc::make_mut(&mut good.value)),
            Entry::Bad(_) => None,
        });
        for part in good.flat_map(|draft| &mut draft.parts) {
            if let Some(template) = self.good.get(&part.template.name) {
                part.template = template.value.clone();
            }
        }
    }

    fn has(&self, name: &Name) -> bool {
        self.good.contains_key(name) || self.bad.contains_key(name)
    }

    fn tell(self, out: &mut Accepted, placed: &Placed) {
        for (name, bad) in self.bad {
            let mut parts = placed.tenants.iter().flat_map(|(_, tenant)| &tenant.value.parts);
            let serves = parts.any(|part| part.template.name == name);
            out.quarantine(Kind::Template, &name, bad, serves);
        }
    }
}

struct Refused {
    kind: Kind,
    name: Name,
    bad: BadEntry,
    /// Whether its former version does.
    serves: bool,
}

struct Select<'p> {
    claims: Claims,
    former: Option<&'p BTreeMap<Name, Good<Tenant>>>,
    templates: Templates,
    placed: Placed,
    refused: Vec<Refused>,
}

impl<'p> Select<'p> {
    fn entries(&mut self, tenants: BTreeMap<Name, Entry<Draft>>) {
        let mut standing: Vec<(Order, Name, Entry<Draft>)> = Vec::with_capacity(tenants.len());
        for (name, entry) in tenants {
            let former = self.former.and_then(|former| former.get(&name));
            let (line, column) = match &entry {
                Entry::Good(good) => (good.line, good.value.column),
                Entry::Bad(bad) => (bad.line, 0),
            };
            let rank = match (former, &entry) {
                (Some(former), Entry::Good(new)) if new.value.is(&former.value) => Rank::Same,
                (_, Entry::Bad(_)) => Rank::Bad,
                (Some(_), _) => Rank::Known,
                (None, _) => Rank::New,
            };
            if let (Rank::Known, Some(former), Entry::Good(new)) = (rank, former, &entry) {
                let bad = &self.templates.bad;
                self.claims.hold(new, &former.value, |part| bad.contains_key(&part.template.name));
            }
            standing.push(((rank, line, column), name, entry));
        }
        self.claims.reserve(standing.len() * self.templates.good.len());
        standing.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        for ((rank, ..), name, entry) in standing {
            match entry {
                Entry::Good(tenant) => self.good(rank, name, tenant),
                Entry::Bad(bad) => self.bad(name, bad),
            }
        }
    }

    fn good(&mut self, rank: Rank, name: Name, draft: Good<Draft>) {
        let Good { value, text, line } = draft;
        let value = match self.former.and_then(|former| former.get(&name)) {
            // Not only equal: what was made of it is not made again.
            Some(former) if rank == Rank::Same => former.value.clone(),
            former => {
                let tenant = Arc::unwrap_or_clone(value).make();
                self.with_parts_of_bad_templates(tenant, former).into()
            }
        };
        let tenant = Good { value, text, line };
        match self.claims.judge(&tenant, rank == Rank::Same) {
            Ok(()) => self.place(name, tenant),
            Err(reasons) => {
                let parts = tenant.value.parts.iter();
                let claims = parts.flat_map(|part| {
                    part.route.hosts.iter().map(|host| (host.clone(), part.route.path.clone()))
                });
                let bad = BadEntry { reasons, claims: claims.collect(), line: tenant.line };
                self.bad(name, bad);
            }
        }
    }

    /// A bad template leaves what it made.
    fn with_parts_of_bad_templates(
        &self,
        mut tenant: Tenant,
        former: Option<&Good<Tenant>>,
    ) -> Tenant {
        let Some(former) = former else { return tenant };
        let is_bad = |part: &&Part| self.templates.bad.contains_key(&part.template.name);
        tenant.parts.extend(former.value.parts.iter().filter(is_bad).cloned());
        tenant.parts.sort_by(|a, b| a.template.name.cmp(&b.template.name));
        tenant
    }

    fn bad(&mut self, name: Name, bad: BadEntry) {
        let former = self.former.and_then(|former| former.get(&name));
        let serves = former.is_some_and(|former| self.keep(&name, former.clone()));
        self.refused.push(Refused { kind: Kind::Tenant, name, bad, serves });
    }

    /// Keeps what is left of a former version when others have had their share.
    fn keep(&mut self, name: &Name, former: Good<Tenant>) -> bool {
        let mut parts = Vec::with_capacity(former.value.parts.len());
        let all = self.former;
        let new = |tenant: &Name, host: &HostPattern| {
            let had = |former: &Good<Tenant>| {
                former.value.parts.iter().any(|part| part.route.hosts.contains(host))
            };
            all.is_some_and(|all| !all.get(tenant).is_some_and(had))
        };
        for part in &former.value.parts {
            // A template that was removed takes its routes along; one that is restored stays.
            let wanted = self.former.is_none() || self.templates.has(&part.template.name);
            let rest = |part| self.claims.rest_of(name, part, new);
            parts.extend(Some(part).filter(|_| wanted).and_then(rest));
        }
        if parts.is_empty() {
            return false;
        }
        let value = Tenant { parts, ..Tenant::clone(&former.value) };
        self.place(name.clone(), Good { value: value.into(), ..former });
        true
    }

    fn keep_all(&mut self) -> bool {
        let Some(former) = self.former else { return false };
        // Each of them: no short cut.
        former.iter().filter(|(name, tenant)| self.keep(name, (*tenant).clone())).count() > 0
    }

    /// An entry whose tenant cannot be read is the one that has gone with the same values.
    fn strays(&mut self, strays: Vec<Stray>, mut listed: HashSet<Name>) {
        if strays.is_empty() {
            return;
        }
        let placed: HashSet<Name> =
            self.placed.tenants.iter().map(|(name, _)| name.clone()).collect();
        let gone = Gone::of(self.former, &listed);
        for Stray { name, reasons, line, values, .. } in strays {
            let bad = BadEntry { reasons, claims: Vec::new(), line };
            match gone.with(&values).filter(|name| listed.insert((*name).clone())) {
                Some(former) => self.bad(former.clone(), bad),
                None => {
                    let serves = placed.contains(&name);
                    self.refused.push(Refused { kind: Kind::Tenant, name, bad, serves });
                }
            }
        }
    }

    fn place(&mut self, name: Name, tenant: Good<Tenant>) {
        self.claims.take(&tenant);
        if !tenant.value.parts.is_empty() {
            self.placed.tenants.push((name, tenant));
        }
    }
}

/// Tenants that are not in the registry any more, by the templates and all values of each.
struct Gone<'p> {
    by_templates: Vec<(Vec<&'p Arc<Template>>, ByValues<'p>)>,
}

/// `None`: several have these values, which then tell nobody.
type ByValues<'p> = HashMap<Vec<&'p str>, Option<&'p Name>>;

impl<'p> Gone<'p> {
    fn of(former: Option<&'p BTreeMap<Name, Good<Tenant>>>, listed: &HashSet<Name>) -> Gone<'p> {
        let mut gone = Gone { by_templates: Vec::new() };
        let absent = former.into_iter().flatten().filter(|(name, _)| !listed.contains(*name));
        for (name, tenant) in absent {
            let parts = &tenant.value.parts;
            let values: Vec<&str> =
                parts.iter().flat_map(|part| &*part.values).map(|value| &**value).collect();
            if values.is_empty() {
                continue;
            }
            let templates: Vec<&Arc<Template>> = parts.iter().map(|part| &part.template).collect();
            let same = |known: &[&Arc<Template>]| {
                known.len() == templates.len()
                    && known.iter().zip(&templates).all(|(a, b)| Arc::ptr_eq(a, b))
            };
            let all = &mut gone.by_templates;
            let known = all.iter().position(|(known, _)| same(known));
            match known.and_then(|index| all.get_mut(index)) {
                Some((_, tenants)) => {
                    tenants.entry(values).and_modify(|first| *first = None).or_insert(Some(name));
                }
                None => all.push((templates, HashMap::from([(values, Some(name))]))),
            }
        }
        gone
    }

    /// The only one that had all these values.
    fn with(&self, values: &BTreeMap<Box<str>, Box<str>>) -> Option<&'p Name> {
        let mut found = self.by_templates.iter().filter_map(|(templates, tenants)| {
            let fields = templates.iter().flat_map(|template| &template.fields);
            let values: Option<Vec<&str>> =
                fields.map(|field| values.get(&**field).map(|value| &**value)).collect();
            tenants.get(&values?).copied()
        });
        match (found.next(), found.next()) {
            (Some(only), None) => only,
            _ => None,
        }
    }
}

/// With line and column of the entry.
type Order = (Rank, u64, u64);

/// The order in which entries claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// It is what it was.
    Same,
    /// Its former version claims.
    Bad,
    /// There before, and changed.
    Known,
    New,
}

/// Each name once.
#[derive(Default)]
struct Placed {
    tenants: Vec<(Name, Good<Tenant>)>,
}

impl Placed {
    fn into(self, out: &mut Accepted) {
        // Made whole and joined: many times faster than one by one.
        out.tenants = self.tenants.into_iter().collect();
        let count = out.tenants.len() * out.templates.len().max(1);
        let mut routes = Vec::with_capacity(count);
        let mut upstreams = Vec::with_capacity(count);
        for part in out.tenants.values().flat_map(|tenant| &tenant.value.parts) {
            let line = out.templates.get(&part.template.name).map_or(0, |template| template.line);
            let text = &part.template.text;
            let route = Good { value: part.route.clone(), text: text.clone(), line };
            routes.push((part.route.name.clone(), route));
            let upstream = Good { value: part.upstream.clone(), text: text.clone(), line };
            upstreams.push((part.upstream.name.clone(), upstream));
        }
        out.routes.append(&mut routes.into_iter().collect());
        out.upstreams.append(&mut upstreams.into_iter().collect());
        out.certify_tenants();
    }
}

fn tell_refused(out: &mut Accepted, refused: Vec<Refused>) {
    let mut blocked = Vec::new();
    for Refused { kind, name, bad, serves } in refused {
        let claims = bad.claims.iter();
        blocked.extend(claims.map(|(host, path)| (name.clone(), host.clone(), path.clone())));
        out.quarantine(kind, &name, bad, serves);
    }
    if blocked.is_empty() {
        return;
    }
    let served = Served::of(out);
    let mut free = BTreeSet::new();
    let mut found = Vec::new();
    for (route, host, path) in blocked {
        if !served.has(&route, &host, &path) && free.insert((host.clone(), path.clone())) {
            found.push(Blocked { route, host, path });
        }
    }
    out.blocked.extend(found);
}

/// What a refused tenant must not block.
struct Served<'r> {
    places: HashSet<Place<'r>>,
    /// By tenant; `None`: by the config file.
    hosts: HashMap<&'r HostPattern, BTreeSet<Option<&'r Name>>>,
}

impl<'r> Served<'r> {
    fn of(out: &'r Accepted) -> Served<'r> {
        let mut served = Served { places: HashSet::new(), hosts: HashMap::new() };
        for route in out.routes.values() {
            let tenant = route.value.tenant.as_ref().map(|of| &of.tenant);
            for host in &route.value.hosts {
                served.places.insert((host, &route.value.path));
                served.hosts.entry(host).or_default().insert(tenant);
            }
        }
        let blocked = out.blocked.iter().map(|blocked| (&blocked.host, &blocked.path));
        served.places.extend(blocked);
        served
    }

    fn has(&self, tenant: &Name, host: &HostPattern, path: &PathRule) -> bool {
        let of_another = |owners: &BTreeSet<Option<&Name>>| {
            // Its former version may serve other paths of the host.
            owners.iter().any(|owner| *owner != Some(tenant))
        };
        // Another's, which it is refused for, or that of its own former version: it goes on to serve.
        let by_a_tenant = |owners: &BTreeSet<Option<&Name>>| owners.iter().any(Option::is_some);
        let above = match host {
            HostPattern::Exact(name) => name.split_once('.').map(|(_, suffix)| suffix),
            HostPattern::Wildcard(_) => None,
        };
        let above = above.and_then(|suffix| self.hosts.get(&HostPattern::Wildcard(suffix.into())));
        self.places.contains(&(host, path))
            || self.hosts.get(host).is_some_and(of_another)
            || above.is_some_and(by_a_tenant)
    }
}
