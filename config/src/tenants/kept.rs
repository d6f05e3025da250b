//! Tenants as the state directory keeps them: per version of a template its text and one line of
//! values for each tenant, not what was made of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Template;
use crate::merge::Accepted;
use crate::model::{CertificatePer, Tenants};
use crate::node::write_text;
use crate::value::{Name, show_duration};

/// `tenants: {..}` of a document of [`crate::last_good`]; nothing where there are none.
pub(crate) fn write(accepted: &Accepted, out: &mut String) {
    let Some(settings) = &accepted.global.tenants else { return };
    out.push_str("tenants: {");
    write_settings(settings, out);
    out.push_str(", \"routes\": {");
    for (n, template) in accepted.templates.values().enumerate() {
        out.push_str(if n > 0 { ", " } else { "" });
        write_template(&template.value, out);
    }
    out.push_str("}, \"served\": [");
    for (n, (template, values)) in by_template(accepted).iter().enumerate() {
        out.push_str(if n > 0 { ", " } else { "" });
        out.push_str("{\"template\": {");
        write_template(template, out);
        out.push_str("}, \"values\": \"");
        // Of an alphabet without quotes, blanks and `;`: see `pattern`.
        for (n, (tenant, values)) in values.iter().enumerate() {
            out.push_str(if n > 0 { ";" } else { "" });
            out.push_str(tenant.as_str());
            for value in values.iter() {
                out.push(' ');
                out.push_str(value);
            }
        }
        out.push_str("\"}");
    }
    out.push_str("]}\n");
}

fn write_settings(settings: &Tenants, out: &mut String) {
    let Tenants { file, id, certificates, removed_drain, metric_tenants } = settings;
    out.push_str("\"file\": ");
    write_text(&file.display().to_string(), out);
    out.push_str(", \"id\": ");
    write_text(id, out);
    if let Some(certificates) = certificates {
        let per = match certificates.per {
            CertificatePer::Host => "host",
            CertificatePer::Tenant => "tenant",
        };
        let issuer = certificates.issuer.as_str();
        out.push_str(&format!(
            ", \"certificates\": {{\"issuer\": \"{issuer}\", \"per\": \"{per}\"}}"
        ));
    }
    let drain = show_duration(*removed_drain);
    out.push_str(&format!(", \"removed\": {{\"drain\": \"{drain}\"}}"));
    out.push_str(&format!(", \"metrics\": {{\"tenants\": \"{metric_tenants}\"}}"));
}

fn write_template(template: &Template, out: &mut String) {
    write_text(template.name.as_str(), out);
    out.push_str(": ");
    out.push_str(&template.text);
}

type Version<'a> = (&'a Arc<Template>, Vec<(&'a Name, &'a [Box<str>])>);

/// The current versions of templates first: where two parts want one host, the first of the
/// document gets it.
fn by_template(accepted: &Accepted) -> Vec<Version<'_>> {
    let is_current = |template: &Arc<Template>| {
        let current = accepted.templates.get(&template.name);
        current.is_some_and(|current| Arc::ptr_eq(&current.value, template))
    };
    let mut versions: BTreeMap<(bool, &Name, *const Template), Version<'_>> = BTreeMap::new();
    for (name, tenant) in &accepted.tenants {
        for part in &tenant.value.parts {
            let template = &part.template;
            let key = (!is_current(template), &template.name, Arc::as_ptr(template));
            let (_, values) = versions.entry(key).or_insert_with(|| (template, Vec::new()));
            values.push((name, &part.values));
        }
    }
    versions.into_values().collect()
}
