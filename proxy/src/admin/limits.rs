//! `GET /api/v1/limits`: every rate limit with what it has decided, and its busiest keys as the
//! hashes they are kept as.

use config::model::{KeyPart, LimitKey, Missing};
use serde_json::{Value, json};

use crate::limit::{HotKey, Limit};
use crate::state::Shared;

pub(super) const PATH: &str = "/api/v1/limits";

/// All of them, by route, in the order of the file.
pub(super) fn limits(shared: &Shared) -> Value {
    let snapshot = shared.snapshot.load_full();
    let of_route = |route: &crate::route::table::Route| {
        let limits: Vec<Value> = route.limits.iter().map(|limit| one(limit)).collect();
        (!limits.is_empty()).then(|| json!({ "route": route.name.as_str(), "limits": limits }))
    };
    let routes: Vec<Value> = snapshot.routes.iter().filter_map(|route| of_route(route)).collect();
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
