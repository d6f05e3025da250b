//! One entry of the registry and the templates to a tenant, or to every reason why not.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map};
use std::sync::Arc;

use super::json::Value;
use super::pattern::{Fault, Fill};
use super::registry::{Field, Raw, RawKind, Registry};
use super::{Stray, Template};
use crate::error::Diagnostic;
use crate::model::{BadEntry, Draft, DraftPart, Entry, Good, PathRule};
use crate::node::Pos;
use crate::value::{HostPattern, Name, quote};

impl Template {
    /// What it makes of a tenant whose fields have these values.
    pub(crate) fn draft(
        self: &Arc<Self>,
        tenant: &Name,
        values: Arc<[Box<str>]>,
    ) -> Result<DraftPart, (Vec<Fault>, Claims)> {
        let fill = Fill { tenant, values: &values };
        let mut faults = Vec::new();
        let name = format!("{tenant}.{}", self.name);
        let name = Name::new(&name).ok().filter(|_| name.len() <= MAX_ROUTE).unwrap_or_else(|| {
            let message =
                format!("the name {} is longer than {MAX_ROUTE} characters", quote(&name));
            let help = "give the tenant or the template a shorter name";
            faults.push(Fault { field: None, message, help: Some(help.to_owned()) });
            tenant.clone()
        });
        let mut hosts: Vec<HostPattern> = Vec::with_capacity(self.hosts.len());
        for pattern in &self.hosts {
            match pattern.host(fill) {
                Ok(host) if hosts.contains(&host) => {
                    let message = format!("{} comes out twice", quote(&host.to_string()));
                    faults.push(Fault { field: None, message, help: None });
                }
                Ok(host) => hosts.push(host),
                Err(fault) => faults.push(fault),
            }
        }
        let address = self.endpoint.address(fill).map_err(|found| faults.extend(found)).ok();
        let Some(address) = address.filter(|_| faults.is_empty()) else {
            let path = &self.route.path;
            return Err((faults, hosts.into_iter().map(|host| (host, path.clone())).collect()));
        };
        Ok(DraftPart { template: self.clone(), values, name, hosts, address })
    }
}

/// Hosts and paths, as far as they could be made.
pub(crate) type Claims = Vec<(HostPattern, PathRule)>;

/// Makes tenants of entries.
pub(crate) struct Expander<'r> {
    pub registry: &'r Registry<'r>,
    /// The field that names a tenant.
    pub id: &'r str,
    /// In the order of names.
    pub templates: &'r [Arc<Template>],
}

impl Expander<'_> {
    pub(crate) fn expand(&self) -> (BTreeMap<Name, Entry<Draft>>, Vec<Stray>) {
        let mut tenants: BTreeMap<Name, Entry<Draft>> = BTreeMap::new();
        let mut strays = Vec::new();
        let named = self.named();
        let lines = Lines::of(self.registry, &named);
        for ((index, raw), (id, mut reasons)) in self.registry.entries.iter().enumerate().zip(named)
        {
            let known = match id {
                Some(id) if !tenants.contains_key(&id) => {
                    let entry = self.tenant(&id, raw, reasons);
                    tenants.insert(id, entry);
                    continue;
                }
                known => known,
            };
            let sound = reasons.found.is_empty();
            if let Some(id) = &known {
                reasons.second(raw, self.id, id, &lines);
            }
            let again = known.as_ref().filter(|_| sound).and_then(|id| {
                match self.tenant(id, raw, Reasons::new(self.registry, index)) {
                    Entry::Good(again) => Some(again),
                    Entry::Bad(_) => None,
                }
            });
            strays.push(Stray { again, ..reasons.stray(raw, index, known) });
        }
        (tenants, strays)
    }

    /// Who each entry is, and what is wrong with it so far.
    fn named(&self) -> Vec<(Option<Name>, Reasons<'_>)> {
        let entries = self.registry.entries.iter().enumerate();
        let named = entries.map(|(index, raw)| {
            let mut reasons = Reasons::new(self.registry, index);
            (self.id_of(raw, &mut reasons), reasons)
        });
        named.collect()
    }

    /// A field written twice matters where it names the tenant, or a template asks for it.
    fn is_asked_for(&self, field: &str) -> bool {
        let mut asked = self.templates.iter().flat_map(|template| &template.fields);
        field == self.id || asked.any(|asked| **asked == *field)
    }

    /// `None`: reported; nothing names the tenant.
    fn id_of(&self, raw: &Raw<'_>, reasons: &mut Reasons<'_>) -> Option<Name> {
        if let RawKind::Other(what) = &raw.kind {
            reasons.add(raw.pos, "", format!("expected a mapping, found {what}"), None);
            return None;
        }
        let id = self.id;
        reasons.doubled(raw, |field| self.is_asked_for(field));
        let Some(field) = raw.field(id) else {
            reasons.add(raw.pos, "", format!("`{id}` is missing: it names the tenant"), None);
            return None;
        };
        let Value::Scalar(text) = &field.value else {
            reasons.no_scalar(field);
            return None;
        };
        let name = tenant_name(text);
        name.map_err(|(message, help)| reasons.add(field.pos, id, message, help)).ok()
    }

    fn tenant(&self, id: &Name, raw: &Raw<'_>, mut reasons: Reasons<'_>) -> Entry<Draft> {
        let mut parts = Vec::with_capacity(self.templates.len());
        let mut claims = Vec::new();
        for template in self.templates {
            let (values, complete) = reasons.values(template, raw);
            match template.draft(id, values) {
                Ok(part) => parts.push(part),
                Err((faults, hosts)) => {
                    claims.extend(hosts);
                    // What is not there was told; nothing else is wrong with it.
                    let faults = if complete { faults } else { Vec::new() };
                    reasons.faults(faults, template, raw);
                }
            }
        }
        let line = raw.pos.line;
        if reasons.found.is_empty() {
            let text = Arc::from("");
            return Entry::Good(Good {
                value: Draft { id: id.clone(), parts, column: raw.pos.column }.into(),
                text,
                line,
            });
        }
        for part in &parts {
            let path = &part.template.route.path;
            claims.extend(part.hosts.iter().map(|host| (host.clone(), path.clone())));
        }
        Entry::Bad(BadEntry { reasons: reasons.found, claims, line })
    }
}

/// Lower-case letters, digits, `-` and `_`: one label of a host, and no `.`, which parts it from
/// the template in the names of routes.
pub(crate) fn tenant_name(text: &str) -> Result<Name, (String, Option<String>)> {
    let error = |help: &str| {
        let message = format!("{} is no name of a tenant", quote(text));
        Err((message, Some(help.to_owned())))
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if text.len() > MAX_TENANT {
        return error("use at most 58 characters");
    }
    let lower = text.to_ascii_lowercase();
    if lower != text && !text.is_empty() {
        return error(&format!("write {}", quote(&lower)));
    }
    let inside = |byte: u8| plain(byte) || byte == b'-' || byte == b'_';
    let ends = [text.bytes().next(), text.bytes().next_back()];
    if !ends.iter().all(|end| end.is_some_and(plain)) || !text.bytes().all(inside) {
        return error("use lower-case letters and digits, with `-` and `_` between them");
    }
    Name::new(text).map_err(|why| (why.message, why.help))
}

/// What is wrong with one entry.
struct Reasons<'r> {
    file: &'r Arc<str>,
    index: usize,
    found: Vec<Diagnostic>,
    /// Fields that were reported: two templates may ask for one.
    told: BTreeSet<Box<str>>,
}

impl<'r> Reasons<'r> {
    fn new(registry: &'r Registry<'_>, index: usize) -> Self {
        Reasons { file: &registry.file, index, found: Vec::new(), told: BTreeSet::new() }
    }

    fn add(&mut self, pos: Pos, field: &str, message: String, help: Option<String>) {
        let dot = if field.is_empty() { "" } else { "." };
        let diagnostic = Diagnostic {
            at: format!("servers[{}]{dot}{field}", self.index),
            line: pos.line,
            column: pos.column,
            message,
            help,
            file: Some(self.file.clone()),
        };
        // The same host of two templates is one mistake.
        if !self.found.contains(&diagnostic) {
            self.found.push(diagnostic);
        }
    }

    fn doubled(&mut self, raw: &Raw<'_>, matters: impl Fn(&str) -> bool) {
        let fields = raw.fields();
        let again = |(n, field): &(usize, &Field<'_>)| {
            // Few, and mostly of different lengths.
            fields.iter().take(*n).any(|earlier| earlier.name == field.name) && matters(&field.name)
        };
        for (_, field) in fields.iter().enumerate().filter(again) {
            let message = format!("{} is written twice", quote(&field.name));
            self.add(field.pos, &quoted(&field.name), message, None);
        }
    }

    fn no_scalar(&mut self, field: &Field<'_>) {
        let what = match &field.value {
            Value::Other(what) => what,
            _ => "nothing",
        };
        let name = quoted(&field.name);
        if self.told.insert(field.name.as_ref().into()) {
            let message = format!("expected a single value, found {what}");
            self.add(field.pos, &name, message, None);
        }
    }

    fn second(&mut self, raw: &Raw<'_>, field: &str, id: &Name, lines: &Lines) {
        let pos = raw.field(field).map_or(raw.pos, |field| field.pos);
        let (other, at) = lines.others(id, raw.pos.line);
        let message = format!("tenant `{id}` has {other} already, {at}");
        let help = "the one that is as before counts, else the first; rename or remove one";
        self.add(pos, field, message, Some(help.to_owned()));
    }

    /// The values of the template's placeholders, and whether all are there: those that are not are
    /// reported, and empty.
    fn values(&mut self, template: &Template, raw: &Raw<'_>) -> (Arc<[Box<str>]>, bool) {
        let mut values: Vec<Box<str>> = Vec::with_capacity(template.fields.len());
        let mut complete = true;
        for name in &template.fields {
            let field = raw.field(name);
            if let Some(Field { value: Value::Scalar(text), .. }) = field {
                values.push(text.as_ref().into());
                continue;
            }
            values.push(Box::default());
            complete = false;
            match field {
                Some(field) => self.no_scalar(field),
                None if self.told.insert((**name).into()) => {
                    let message =
                        format!("`{name}` is missing: template `{}` needs it", template.name);
                    self.add(raw.pos, "", message, None);
                }
                None => {}
            }
        }
        (values.into(), complete)
    }

    fn faults(&mut self, faults: Vec<Fault>, template: &Template, raw: &Raw<'_>) {
        for fault in faults {
            let name = fault.field.and_then(|index| template.fields.get(index));
            let field = name.and_then(|name| raw.field(name));
            let pos = field.map_or(raw.pos, |field| field.pos);
            self.add(pos, name.map_or("", |name| name), fault.message, fault.help);
        }
    }

    fn stray(self, raw: &Raw<'_>, index: usize, known: Option<Name>) -> Stray {
        let unknown = known.is_none();
        let values = raw.fields().iter().filter(|_| unknown);
        let values = values.filter_map(|field| match &field.value {
            Value::Scalar(text) => Some((field.name.as_ref().into(), text.as_ref().into())),
            _ => None,
        });
        Stray {
            // No tenant is called so: their names have no dots.
            name: known.unwrap_or_else(|| Name::resembling(&format!("servers.{index}"))),
            reasons: self.found,
            line: raw.pos.line,
            values: values.collect(),
            again: None,
        }
    }
}

/// Where the entries of tenants are that have several.
struct Lines(HashMap<Name, Vec<u64>>);

impl Lines {
    fn of(registry: &Registry<'_>, named: &[(Option<Name>, Reasons<'_>)]) -> Lines {
        let mut first: HashMap<&Name, u64> = HashMap::with_capacity(named.len());
        let mut several: HashMap<Name, Vec<u64>> = HashMap::new();
        for (raw, (id, _)) in registry.entries.iter().zip(named) {
            let Some(id) = id else { continue };
            match first.entry(id) {
                hash_map::Entry::Vacant(free) => drop(free.insert(raw.pos.line)),
                hash_map::Entry::Occupied(first) => {
                    let lines = several.entry(id.clone()).or_insert_with(|| vec![*first.get()]);
                    lines.push(raw.pos.line);
                }
            }
        }
        Lines(several)
    }

    /// The other entries of the tenant whose entry this is: `an entry`, `at line 2`.
    fn others(&self, id: &Name, line: u64) -> (&'static str, String) {
        let lines = self.0.get(id).map_or(&[][..], Vec::as_slice);
        let mut own = false;
        let others =
            lines.iter().filter(|other| **other != line || std::mem::replace(&mut own, true));
        let shown: Vec<String> = others.take(MOST_LINES).map(u64::to_string).collect();
        let more = lines.len().saturating_sub(shown.len() + 1);
        match shown.split_last() {
            Some((last, [])) => ("an entry", format!("at line {last}")),
            Some((last, rest)) if more == 0 => {
                ("other entries", format!("at lines {} and {last}", rest.join(", ")))
            }
            _ => ("other entries", format!("at lines {} and {more} more", shown.join(", "))),
        }
    }
}

/// A field's name as a part of a place.
fn quoted(name: &str) -> String {
    match super::pattern::is_field(name) {
        true => name.to_owned(),
        false => quote(name),
    }
}

/// Lines that a message names.
const MOST_LINES: usize = 10;
/// So that certificates of its further hosts can be called after it, in the 63 of a name.
const MAX_ROUTE: usize = 60;
/// So that a template's name fits behind it into the 63 of a name.
const MAX_TENANT: usize = 58;
