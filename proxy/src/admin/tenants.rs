//! `GET /api/v1/tenants`: every tenant of the registry, whether it serves and as what, and why not.

use std::collections::BTreeMap;

use config::error::Diagnostic;
use config::merge::{Accepted, Kind, Quarantined};
use config::model::{Part, Tenant};
use config::value::HostPattern;
use serde_json::{Value, json};

use super::pages::timestamp;
use crate::control::status::Status;
use crate::downstream::cert_table::Certs;
use crate::state::Shared;

pub(super) const PATH: &str = "/api/v1/tenants";

/// All of them by name, refused ones too.
pub(super) fn tenants(shared: &Shared, status: &Status) -> Value {
    let config = status.config.load();
    let Some(accepted) = config.accepted.as_deref() else {
        return json!({ "registry": null, "tenants": [] });
    };
    let certs = shared.certs.load();
    let refused = refused(accepted);
    let broken = broken(accepted);
    let mut all: BTreeMap<&str, Value> = BTreeMap::new();
    for (name, entry) in &accepted.tenants {
        let why = refused.get(name.as_str()).copied().or(broken);
        let (state, reasons) = match why {
            None => ("good", Vec::new()),
            Some(bad) => ("former", reasons(&bad.reasons)),
        };
        let value = json!({
            "name": name.as_str(),
            "state": state,
            "line": entry.line,
            "routes": routes(&entry.value, &certs),
            "reasons": reasons,
        });
        all.insert(name.as_str(), value);
    }
    for (name, bad) in refused {
        all.entry(name).or_insert_with(|| {
            json!({
                "name": name,
                "state": "refused",
                "line": bad.line,
                "routes": [],
                "reasons": reasons(&bad.reasons),
            })
        });
    }
    let registry = accepted.global.tenants.as_ref().map(|settings| {
        json!({
            "file": settings.file.display().to_string(),
            "reasons": broken.map(|bad| reasons(&bad.reasons)).unwrap_or_default(),
        })
    });
    let all: Vec<Value> = all.into_values().collect();
    json!({ "generation": config.generation, "registry": registry, "tenants": all })
}

/// How many tenants are good, refused, and served by their former version.
pub fn states(accepted: &Accepted) -> [(&'static str, usize); 3] {
    let refused = refused(accepted);
    let serving = accepted.tenants.len();
    let former = match broken(accepted) {
        Some(_) => serving,
        None => refused.keys().filter(|name| accepted.tenants.contains_key(**name)).count(),
    };
    let gone = refused.keys().filter(|name| !accepted.tenants.contains_key(**name)).count();
    [("good", serving - former), ("refused", gone), ("former", former)]
}

/// The last account of each.
fn refused(accepted: &Accepted) -> BTreeMap<&str, &Quarantined> {
    let bad = accepted.quarantined.iter().filter(|bad| bad.kind == Kind::Tenant);
    bad.map(|bad| (bad.name.as_str(), bad)).collect()
}

/// The registry as a whole cannot be used: every tenant goes on as it was.
fn broken(accepted: &Accepted) -> Option<&Quarantined> {
    accepted.quarantined.iter().find(|bad| bad.kind == Kind::Tenants)
}

fn routes(tenant: &Tenant, certs: &Certs) -> Vec<Value> {
    let one = |part: &Part| {
        let endpoint = part.upstream.endpoints.first();
        let hosts: Vec<Value> = part.route.hosts.iter().map(|host| served(host, certs)).collect();
        json!({
            "template": part.template.name.as_str(),
            "route": part.route.name.as_str(),
            "upstream": part.upstream.name.as_str(),
            "endpoint": endpoint.map(|endpoint| endpoint.address.to_string()),
            "hosts": hosts,
        })
    };
    tenant.parts.iter().map(one).collect()
}

/// A host and the certificate that it is shown with.
fn served(host: &HostPattern, certs: &Certs) -> Value {
    // For `*.x` this looks for a wildcard of just that suffix.
    let host = host.to_string();
    let shown = certs.find(&host);
    json!({
        "host": host,
        "certificate": shown.map(|entry| json!({
            "name": entry.name,
            "placeholder": entry.placeholder,
            "not_after": timestamp(u64::try_from(entry.not_after).unwrap_or(0) * 1000),
        })),
    })
}

fn reasons(found: &[Diagnostic]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}
