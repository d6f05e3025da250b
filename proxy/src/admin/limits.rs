//! `GET /api/v1/limits`: every rate limit with what it has decided, and its busiest keys as the
//! hashes they are kept as.

use std::collections::{BTreeMap, HashSet};

use config::model::{KeyPart, LimitKey, Missing};
use config::value::Name;
use serde_json::{Value, json};

use crate::limit::{HotKey, Limit};
use crate::state::Shared;

pub(super) const PATH: &str = "/api/v1/limits";

/// All of them, by the name of their route or template.
pub(super) fn limits(shared: &Shared) -> Value {
    let snapshot = shared.snapshot.load_full();
    // Routes that a template made of tenants share its limits, but for those of tenants that kept
    // a former version.
    let mut shown = HashSet::new();
    let mut owners: BTreeMap<(&Name, bool), Vec<Value>> = BTreeMap::new();
    for route in snapshot.routes.iter() {
        let template = route.series.tenant.is_some();
        // A route beyond `metrics.max_series` is called by its own name here.
        let name = if template { &route.series.name } else { &route.name };
        let new = route.limits.iter().filter(|limit| shown.insert(limit.state_id()));
        let limits: Vec<Value> = new.map(|limit| one(limit)).collect();
        if !limits.is_empty() {
            owners.entry((name, template)).or_default().extend(limits);
        }
    }
    let mut routes = Vec::with_capacity(owners.len());
    for ((name, template), limits) in owners {
        routes.push(json!({ "route": name.as_str(), "template": template, "limits": limits }));
    }
    json!({ "generation": snapshot.generation, "routes": routes })
}

fn one(limit: &Limit) -> Value {
    let (spec, decisions) = (&limit.spec, limit.decisions());
    json!({
        "name": spec.name.as_str(),
        "key": key(&spec.key),
        "missing": match spec.missing {
            Missing::ClientIp => "client_ip",
            Missing::Refuse => "refuse",
        },
        "rate": spec.rate.map(|rate| rate.to_string()),
        "burst": spec.rate.map(|_| spec.burst),
        "concurrent": spec.concurrent,
        "dry_run": spec.dry_run,
        "decisions": {
            "passed": decisions.passed.total(),
            "refused": decisions.refused.total(),
            "dry_run": decisions.dry_run.total(),
            "exempt": decisions.exempt.total(),
        },
        "keys": limit.keys(),
        "evicted": limit.evicted().total(),
        "overflow": limit.overflow().total(),
        "streams": limit.streams(),
        "hottest": limit.hottest().iter().map(hot).collect::<Vec<_>>(),
    })
}

/// As the file writes it.
fn key(key: &LimitKey) -> Vec<String> {
    let part = |part: &KeyPart| match part {
        KeyPart::ClientIp => "client_ip".to_owned(),
        KeyPart::Header(name) => format!("header:{name}"),
        KeyPart::Cookie(name) => format!("cookie:{name}"),
        KeyPart::Host => "host".to_owned(),
        KeyPart::Route => "route".to_owned(),
        KeyPart::Tenant => "tenant".to_owned(),
    };
    let combination = |parts: &Vec<KeyPart>| parts.iter().map(part).collect::<Vec<_>>().join("+");
    key.0.iter().map(combination).collect()
}

fn hot(key: &HotKey) -> Value {
    json!({
        "key": format!("{:016x}", key.key),
        "recent_requests": key.hits,
        "idle_seconds": key.idle_seconds,
    })
}
