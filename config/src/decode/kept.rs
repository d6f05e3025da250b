//! Tenants of a document of the state directory: see [`crate::tenants::kept`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::global::Defaults;
use super::{At, Cx, Fields};
use crate::model::{Entry, Part, Tenant};
use crate::node::{Kind, Node};
use crate::tenants::{Template, tenant_name};
use crate::value::Name;

impl Cx<'_> {
    /// What was served. What cannot be made any more, because a secret is gone for instance, is
    /// not there: the document itself is no worse for it.
    pub(super) fn kept_tenants(
        &mut self,
        top: &Fields<'_, '_>,
        defaults: &Defaults,
        templates: &BTreeMap<Name, Entry<Template>>,
    ) -> Vec<Tenant> {
        let Some(Kind::Map(section)) = top.get("tenants").map(|node| &node.kind) else {
            return Vec::new();
        };
        let served = section.iter().find(|(key, _)| key.text == "served").map(|(_, node)| node);
        let Some(Kind::List(versions)) = served.map(|node| &node.kind) else {
            return Vec::new();
        };
        let errors = std::mem::take(&mut self.errors);
        let mut tenants: BTreeMap<Name, (usize, Vec<Part>)> = BTreeMap::new();
        for (order, version) in versions.iter().enumerate() {
            let read = self.kept_version(version, defaults, templates);
            let Some((template, values)) = read else { continue };
            for line in values.split(';') {
                let mut words = line.split(' ');
                let Ok(tenant) = tenant_name(words.next().unwrap_or_default()) else { continue };
                let values: Arc<[Box<str>]> = words.map(Box::from).collect();
                if values.len() == template.fields.len()
                    && let Ok(part) = template.draft(&tenant, values)
                {
                    let part = part.make(&tenant);
                    let (last, parts) = tenants.entry(tenant).or_default();
                    *last = order;
                    parts.push(part);
                }
            }
        }
        self.errors = errors;
        let mut tenants: Vec<(Name, (usize, Vec<Part>))> = tenants.into_iter().collect();
        // Where two want one host, the one that the current templates made has it.
        tenants.sort_by_key(|(_, (last, _))| *last);
        let tenant = |(id, (_, mut parts)): (Name, (usize, Vec<Part>))| {
            parts.sort_by(|a, b| a.template.name.cmp(&b.template.name));
            parts.dedup_by(|a, b| a.template.name == b.template.name);
            Tenant { id, parts, column: 0 }
        };
        tenants.into_iter().map(tenant).collect()
    }

    /// A version of a template, and the values of its tenants.
    fn kept_version<'n>(
        &mut self,
        node: &'n Node,
        defaults: &Defaults,
        templates: &BTreeMap<Name, Entry<Template>>,
    ) -> Option<(Arc<Template>, &'n str)> {
        let Kind::Map(pairs) = &node.kind else { return None };
        let get = |name: &str| pairs.iter().find(|(key, _)| key.text == name);
        let (_, Node { kind: Kind::Map(named), .. }) = get("template")? else { return None };
        let (key, template) = named.first()?;
        let (_, Node { kind: Kind::Scalar(values), .. }) = get("values")? else { return None };
        let name = Name::new(&key.text).ok()?;
        self.errors.clear();
        let template = self.template(&name, template, &At::TOP, defaults, &mut Vec::new());
        let template = template.filter(|_| self.errors.is_empty())?;
        let template = match templates.get(&name) {
            // One template, not two equal ones.
            Some(Entry::Good(current)) if current.value.text == template.text => {
                current.value.clone()
            }
            _ => template.into(),
        };
        Some((template, &values.text))
    }
}
