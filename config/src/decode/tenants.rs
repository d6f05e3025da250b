//! `tenants:`, its settings, its templates, and the registry it names.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::global::Defaults;
use super::issuance::help_for_issuers;
use super::read::shown;
use super::{At, Cx, Fields, keys};
use crate::defaults::{METRIC_TENANTS, TENANT_ID};
use crate::error::Diagnostic;
use crate::model::{
    Action, BadEntry, CertificatePer, Entry, Good, Issuer, KeyPart, LimitKey, Missing, RateLimit,
    TenantCertificates, Tenants,
};
use crate::node::{self, Kind, Node, Pos};
use crate::suggest::nearest;
use crate::tenants::{
    self, EndpointPattern, Expander, Pattern, Placeholders, Registry, Template, TenantEntries,
    is_field,
};
use crate::value::{Name, ValueError, quote};

/// Where a template names its placeholders: what no entry has is an error there.
pub(crate) struct Place {
    template: Name,
    field: Arc<str>,
    pos: Pos,
    at: String,
}

impl Cx<'_> {
    pub(crate) fn tenant_settings(
        &mut self,
        top: &Fields<'_, '_>,
        issuers: &BTreeMap<Name, Issuer>,
        default_issuer: Option<&Name>,
        grace: Duration,
    ) -> Option<Tenants> {
        self.field(top, "tenants", |cx, node, at| {
            cx.mapping(node, at, "write `{ file: /etc/tenants.json, routes: { .. } }`")?;
            let keys = if cx.restoring { &keys::TENANTS_KEPT } else { &keys::TENANTS };
            let fields = cx.fields(node, at, keys)?;
            let file = cx.required(&fields, "file", Self::absolute_path);
            let id = cx.field(&fields, "id", |cx, node, at| cx.value(node, at, field_name));
            let certificates = cx.field(&fields, "certificates", |cx, node, at| {
                cx.tenant_certificates(node, at, issuers, default_issuer)
            });
            let removed = cx.field(&fields, "removed", |cx, node, at| {
                let fields = cx.fields(node, at, &keys::TENANT_REMOVED)?;
                cx.field(&fields, "drain", |cx, node, at| cx.duration(node, at, DRAIN))
            });
            let metrics = cx.field(&fields, "metrics", |cx, node, at| {
                let fields = cx.fields(node, at, &keys::TENANT_METRICS)?;
                cx.field(&fields, "tenants", |cx, node, at| cx.count(node, at, METRICS))
            });
            cx.some_templates(&fields);
            Some(Tenants {
                file: file?,
                id: id.unwrap_or_else(|| TENANT_ID.to_owned()),
                certificates,
                removed_drain: removed.unwrap_or(grace),
                metric_tenants: metrics.unwrap_or(METRIC_TENANTS),
            })
        })
    }

    fn some_templates(&mut self, fields: &Fields<'_, '_>) {
        let none = match fields.get("routes").map(|node| &node.kind) {
            None | Some(Kind::Null) => true,
            Some(Kind::Map(pairs)) => pairs.is_empty(),
            _ => false,
        };
        if none && !self.restoring {
            let help = "write `routes: { gateway: { hosts: [..], endpoint: \"{host}:{port}\" } }`";
            let message = "`tenants` has no `routes`: nothing is made of the entries";
            self.error(fields.pos_of("routes"), fields.at, message, Some(help.into()));
        }
    }

    fn tenant_certificates(
        &mut self,
        node: &Node,
        at: &At<'_>,
        issuers: &BTreeMap<Name, Issuer>,
        default_issuer: Option<&Name>,
    ) -> Option<TenantCertificates> {
        self.mapping(node, at, "write `{ issuer: letsencrypt, per: tenant }`")?;
        let fields = self.fields(node, at, &keys::TENANT_CERTIFICATES)?;
        let per = self.field(&fields, "per", |cx, node, at| {
            let words = [("host", CertificatePer::Host), ("tenant", CertificatePer::Tenant)];
            cx.word(node, at, &words)
        });
        let named = self.field(&fields, "issuer", |cx, node, at| {
            let name = cx.value(node, at, Name::new)?;
            if !issuers.contains_key(&name) {
                let message = format!("unknown issuer {}", shown(node, name.as_str()));
                cx.error(node.pos, at, message, help_for_issuers(name.as_str(), issuers));
            }
            Some(name)
        });
        if !fields.has("issuer") && default_issuer.is_none() {
            let help = help_for_issuers("", issuers);
            self.error(node.pos, at, "which issuer is meant is not clear", help);
        }
        let issuer = named.or_else(|| default_issuer.cloned())?;
        Some(TenantCertificates { issuer, per: per.unwrap_or(CertificatePer::Host) })
    }

    /// The templates, and where each placeholder stands.
    pub(crate) fn templates(
        &mut self,
        top: &Fields<'_, '_>,
        defaults: &Defaults,
    ) -> (BTreeMap<Name, Entry<Template>>, Vec<Place>) {
        let Some(Node { kind: Kind::Map(pairs), pos }) = top.get("tenants") else {
            return Default::default();
        };
        let at = top.at.key("tenants");
        let fields = Fields { pairs, at: &at, pos: *pos };
        let mut places = Vec::new();
        let mut templates = self.entries(&fields, "routes", |cx, name, node, at| {
            let template = cx.template(name, node, at, defaults, &mut places);
            (template, Vec::new())
        });
        clashes(&mut templates);
        (templates, places)
    }

    pub(crate) fn template(
        &mut self,
        name: &Name,
        node: &Node,
        at: &At<'_>,
        defaults: &Defaults,
        places: &mut Vec<Place>,
    ) -> Option<Template> {
        self.mapping(node, at, "write `{ hosts: [..], endpoint: \"{host}:{port}\" }`")?;
        let fields = self.fields(node, at, &keys::TENANT_ROUTE)?;
        let mut known = Placeholders::new();
        let mut found = |known: &mut Placeholders, before: usize, pos: Pos, at: &At<'_>| {
            places.extend(known.iter().skip(before).map(|field| Place {
                template: name.clone(),
                field: field.clone(),
                pos,
                at: at.to_string(),
            }));
        };
        let hosts = self.required(&fields, "hosts", |cx, node, at| {
            cx.list(node, at, 1..=MAX_HOSTS, |cx, node, at| {
                let before = known.len();
                let host = cx.value(node, at, |text| host(text, &mut known));
                found(&mut known, before, node.pos, at);
                host
            })
        });
        let endpoint = self.required(&fields, "endpoint", |cx, node, at| {
            let before = known.len();
            let endpoint = cx.value(node, at, |text| EndpointPattern::parse(text, &mut known));
            found(&mut known, before, node.pos, at);
            endpoint
        });
        let unix = matches!(endpoint, Some(EndpointPattern::Unix(_)));
        let upstream = match fields.get("upstream") {
            Some(node) => self.tenant_upstream(node, &at.key("upstream"), &defaults.upstream, unix),
            None => Some(defaults.upstream.clone()),
        };
        let path = self.path_of(&fields);
        let route = self.route_with(name, &fields, defaults, (Vec::new(), path), |_, _, _, _| {
            Some(Action::Upstream(name.clone()))
        });
        let mut route = route?;
        route.rate_limits.iter_mut().for_each(of_each_tenant);
        let mut text = String::new();
        node::write(node, &mut text);
        Some(Template {
            name: name.clone(),
            fields: known,
            hosts: hosts?,
            endpoint: endpoint?,
            route,
            upstream: upstream?,
            text: text.into(),
        })
    }

    /// Reads the registry and fills the templates.
    pub(crate) fn tenants(
        &mut self,
        settings: &Tenants,
        mut templates: BTreeMap<Name, Entry<Template>>,
        places: &[Place],
    ) -> TenantEntries {
        let file = tenants::shown(&settings.file);
        let bytes = self.env.read_registry(&settings.file).map_err(|why| Diagnostic {
            message: format!("the registry cannot be read: {why}"),
            file: Some(file.clone()),
            ..Diagnostic::default()
        });
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(why) => return broken(templates, why),
        };
        let registry = match tenants::read(file, &bytes) {
            Ok(registry) => registry,
            Err(why) => return broken(templates, why),
        };
        absent_fields(&mut templates, places, &registry);
        let good: Vec<Arc<Template>> = templates
            .values()
            .filter_map(|entry| match entry {
                Entry::Good(template) => Some(template.value.clone()),
                Entry::Bad(_) => None,
            })
            .collect();
        let expander = Expander { registry: &registry, id: &settings.id, templates: &good };
        let (tenants, strays) = expander.expand();
        TenantEntries { templates, tenants, strays, ..TenantEntries::default() }
    }
}

fn broken(templates: BTreeMap<Name, Entry<Template>>, why: Diagnostic) -> TenantEntries {
    let line = why.line;
    let broken = BadEntry { reasons: vec![why], claims: Vec::new(), line };
    TenantEntries { templates, broken: Some(broken), ..TenantEntries::default() }
}

/// Two templates for one place would clash in every tenant: the second of the file is bad.
fn clashes(templates: &mut BTreeMap<Name, Entry<Template>>) {
    let mut good: Vec<(u64, Arc<Template>)> = templates
        .values()
        .filter_map(|entry| match entry {
            Entry::Good(template) => Some((template.line, template.value.clone())),
            Entry::Bad(_) => None,
        })
        .collect();
    good.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
    let mut kept: Vec<(u64, Arc<Template>)> = Vec::new();
    for (line, template) in good {
        let first = kept.iter().find(|(_, earlier)| earlier.claims_what(&template));
        let Some((first_line, earlier)) = first else {
            kept.push((line, template));
            continue;
        };
        let reason = Diagnostic {
            at: format!("tenants.routes.{}", template.name),
            line,
            message: format!(
                "templates `{}` (line {first_line}) and `{}` (line {line}) both claim one host",
                earlier.name, template.name
            ),
            help: Some("give them different hosts, paths or methods".to_owned()),
            ..Diagnostic::default()
        };
        let bad = BadEntry { reasons: vec![reason], claims: Vec::new(), line };
        templates.insert(template.name.clone(), Entry::Bad(bad));
    }
}

/// A placeholder that no entry at all has is a slip of the template.
fn absent_fields(
    templates: &mut BTreeMap<Name, Entry<Template>>,
    places: &[Place],
    registry: &Registry<'_>,
) {
    if registry.entries.is_empty() {
        return;
    }
    let absent =
        |place: &&Place| !registry.entries.iter().any(|entry| entry.field(&place.field).is_some());
    for place in places.iter().filter(absent) {
        let known = tenants::names(registry);
        let near = nearest(&place.field, known.iter().copied());
        let reason = Diagnostic {
            at: place.at.clone(),
            line: place.pos.line,
            column: place.pos.column,
            message: format!("no entry of {} has a field `{}`", registry.file, place.field),
            help: near.map(|near| format!("did you mean `{{{near}}}`?")),
            file: None,
        };
        let Some(entry) = templates.get_mut(&place.template) else { continue };
        match entry {
            Entry::Bad(bad) => bad.reasons.push(reason),
            Entry::Good(Good { line, .. }) => {
                let (reasons, claims, line) = (vec![reason], Vec::new(), *line);
                *entry = Entry::Bad(BadEntry { reasons, claims, line });
            }
        }
    }
}

/// Two tenants never share a count: not the one of a key, and not the one of an address that
/// requests without a key are counted on.
fn of_each_tenant(limit: &mut RateLimit) {
    let LimitKey(alternatives) = &mut limit.key;
    let may_be_absent = |parts: &Vec<KeyPart>| {
        parts.iter().any(|part| matches!(part, KeyPart::Header(_) | KeyPart::Cookie(_)))
    };
    if limit.missing == Missing::ClientIp && alternatives.iter().all(may_be_absent) {
        alternatives.push(vec![KeyPart::ClientIp]);
    }
    alternatives.iter_mut().for_each(|parts| parts.insert(0, KeyPart::Tenant));
}

fn field_name(text: &str) -> Result<String, ValueError> {
    match is_field(text) {
        true => Ok(text.to_owned()),
        false => {
            let message = format!("{} is no name of a field", quote(text));
            Err(ValueError::new("the name of a field", message).help("write `tenant`"))
        }
    }
}

fn host(text: &str, known: &mut Placeholders) -> Result<Pattern, ValueError> {
    let pattern = Pattern::parse(text, known)?;
    if !pattern.tells_apart() {
        let message = format!("{} is one host for all tenants", quote(text));
        let help = "write a placeholder: `{tenant}.gw.example`";
        return Err(ValueError::new("a host with a placeholder", message).help(help));
    }
    pattern.check_host()?;
    Ok(pattern)
}

const MAX_HOSTS: usize = 20;
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);
const METRICS: RangeInclusive<u64> = 0..=10_000;
