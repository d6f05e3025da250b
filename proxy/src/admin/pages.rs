//! Paths to answers. JSON everywhere but `/healthz` and `/metrics`; no secret is part of any.

use bytes::Bytes;
use config::error::Diagnostic;
use config::merge::Kind;
use config::model::{self, PathRule};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Body;
use super::certificates::certificates;
use super::limits;
use super::tenants;
use super::upstreams::{self, shifted_weights, split_weights, upstreams};
use crate::control::shifts::Shown;
use crate::control::status::Status;
use crate::route::table::Snapshot;
use crate::state::Shared;

pub(super) fn answer(
    method: &Method,
    path: &str,
    shared: &Shared,
    status: &Status,
) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "this path is only read");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/healthz" => reply(StatusCode::OK, TEXT, Bytes::from_static(b"ok\n")),
        "/readyz" => readiness(shared, status),
        "/metrics" => {
            shared.metrics.collect(shared);
            reply(StatusCode::OK, METRICS, shared.metrics.render().into())
        }
        "/api/v1/config" => json_reply(StatusCode::OK, &configuration(status)),
        "/api/v1/certificates" => json_reply(StatusCode::OK, &certificates(shared, status)),
        limits::PATH => json_reply(StatusCode::OK, &limits::limits(shared)),
        upstreams::PATH => json_reply(StatusCode::OK, &upstreams(shared, status)),
        tenants::PATH => json_reply(StatusCode::OK, &tenants::tenants(shared, status)),
        "/api/v1/routes" => json_reply(StatusCode::OK, &routes(shared, status)),
        _ => json_reply(StatusCode::NOT_FOUND, &json!({ "error": "not found", "paths": PATHS })),
    }
}

pub(super) fn error(status: StatusCode, why: &str) -> Response<Body> {
    json_reply(status, &json!({ "error": why }))
}

fn readiness(shared: &Shared, status: &Status) -> Response<Body> {
    let draining = shared.drain.draining();
    let mut reasons = status.missing();
    if draining {
        reasons.push("draining");
    }
    let listeners: Vec<Value> = status
        .listeners
        .get()
        .into_iter()
        .flatten()
        .map(|bound| {
            json!({
                "listener": bound.listener.as_str(),
                "address": bound.address.to_string(),
                "tls": bound.tls,
            })
        })
        .collect();
    let admin = status.admin();
    let body = json!({
        "ready": reasons.is_empty(),
        "draining": draining,
        "generation": status.config.load().generation,
        "listeners": listeners,
        "admin": {
            "tcp": admin.tcp.map(|address| address.to_string()),
            "socket": admin.socket.map(|path| path.display().to_string()),
        },
        "reasons": reasons,
    });
    let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_reply(code, &body)
}

fn configuration(status: &Status) -> Value {
    let config = status.config.load();
    let accepted = config.accepted.as_deref();
    let quarantined: Vec<Value> = accepted
        .into_iter()
        .flat_map(|accepted| &accepted.quarantined)
        .map(|entry| {
            json!({
                "kind": kind(entry.kind),
                "name": entry.name.as_str(),
                "line": entry.line,
                "reasons": diagnostics(&entry.reasons),
                "former_serves": entry.former_serves,
            })
        })
        .collect();
    let certificates: Vec<Value> = config
        .certificate_problems
        .iter()
        .map(|problem| json!({ "certificate": problem.certificate, "message": problem.message }))
        .collect();
    let shifts: Vec<Value> = status
        .shifts
        .load()
        .iter()
        .map(|(route, shown)| {
            let mut value = shift(shown);
            value["route"] = json!(route.as_str());
            value["configured"] = split_weights(&shown.configured);
            value
        })
        .collect();
    json!({
        "file": config.file.display().to_string(),
        "source": config.source,
        "generation": config.generation,
        "hash": config.hash,
        "outcome": config.outcome,
        "read_at": timestamp(config.read_at),
        "loaded_at": timestamp(config.loaded_at),
        "errors": diagnostics(&config.errors),
        "warnings": accepted.map(|accepted| diagnostics(&accepted.warnings)).unwrap_or_default(),
        "quarantined": quarantined,
        "certificate_problems": certificates,
        "shifts": shifts,
        "objects": accepted.map(|accepted| json!({
            "listeners": accepted.global.listeners.len(),
            "certificates": accepted.certificates.len(),
            "upstreams": accepted.upstreams.len(),
            "routes": accepted.routes.len(),
        })),
    })
}

fn routes(shared: &Shared, status: &Status) -> Value {
    let snapshot = shared.snapshot.load();
    let config = status.config.load();
    let shifts = status.shifts.load();
    let Some(accepted) = config.accepted.as_deref() else { return json!({ "routes": [] }) };
    let serving = accepted.routes.values().map(|entry| {
        let route = &*entry.value;
        let former = accepted
            .quarantined
            .iter()
            .any(|bad| bad.kind == Kind::Route && bad.name == route.name);
        let mut value = json!({
            "name": route.name.as_str(),
            "hosts": route.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "path": path(&route.path),
            "methods": route.methods.iter().map(|method| method.as_str()).collect::<Vec<_>>(),
            "state": if former { "former" } else { "serving" },
        });
        describe(&route.action, &snapshot, &mut value);
        if let model::Action::Split(parts) = &route.action {
            let parts = parts.iter().map(|part| (part.upstream.clone(), part.weight));
            value["split"] = split_weights(&parts.collect());
            value["shift"] = json!(shifts.get(&route.name).map(shift));
        }
        value
    });
    let blocked = accepted.blocked.iter().map(|blocked| {
        json!({
            "name": blocked.route.as_str(),
            "hosts": [blocked.host.to_string()],
            "path": path(&blocked.path),
            "methods": [],
            "action": "respond",
            "status": 503,
            "state": "quarantined",
        })
    });
    let routes: Vec<Value> = serving.chain(blocked).collect();
    json!({ "generation": snapshot.generation, "routes": routes })
}

fn shift(shown: &Shown) -> Value {
    json!({ "weights": shifted_weights(&shown.weights), "until": shown.until.and_then(timestamp) })
}

fn describe(action: &model::Action, snapshot: &Snapshot, value: &mut Value) {
    match action {
        model::Action::Upstream(name) => {
            value["action"] = json!("forward");
            value["upstream"] = json!(name.as_str());
            if let Some(upstream) = snapshot.upstreams.iter().find(|up| up.name == *name) {
                let set = upstream.state.endpoints.load();
                let known: Vec<String> =
                    set.members.iter().map(|member| member.endpoint.text.to_string()).collect();
                value["endpoints"] = json!(known);
                value["unresolved"] = json!(set.unresolved);
            }
        }
        model::Action::Split(_) => value["action"] = json!("forward"),
        model::Action::Redirect(redirect) => {
            value["action"] = json!("redirect");
            value["status"] = json!(redirect.status);
        }
        model::Action::Respond(respond) => {
            value["action"] = json!("respond");
            value["status"] = json!(respond.status);
        }
    }
}

/// As in the config file: a trailing `*` has no meaning, so the two kinds are two keys.
fn path(rule: &PathRule) -> Value {
    match rule {
        PathRule::Exact(path) => json!({ "exact": path.as_str() }),
        PathRule::Prefix(path) => json!({ "prefix": path.as_str() }),
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Certificate => "certificate",
        Kind::Upstream => "upstream",
        Kind::Route => "route",
        Kind::Template => "template",
        Kind::Tenants => "tenants",
        Kind::Tenant => "tenant",
    }
}

/// Messages name keys and files, never interpolated values; the source line is left out.
fn diagnostics(found: &[Diagnostic]) -> Vec<Value> {
    let one = |found: &Diagnostic| {
        json!({
            "at": found.at,
            "line": found.line,
            "column": found.column,
            "message": found.message,
            "help": found.help,
        })
    };
    found.iter().map(one).collect()
}

/// RFC 3339 in UTC; `null` for never.
pub(crate) fn timestamp(unix_ms: u64) -> Option<String> {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
    (unix_ms != 0).then(|| time.format(&Rfc3339).ok()).flatten()
}

pub(super) fn json_reply(status: StatusCode, value: &Value) -> Response<Body> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    reply(status, "application/json", text.into())
}

/// hyper leaves the body out for HEAD.
fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PATHS: [&str; 9] = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/v1/config",
    "/api/v1/routes",
    upstreams::PATH,
    limits::PATH,
    tenants::PATH,
    "/api/v1/certificates",
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use config::NoEnvironment;
    use config::merge::merge;
    use http_body_util::BodyExt;

    use super::*;
    use crate::log::Sink;

    fn shared() -> Shared {
        Shared::new(Sink::start_on(0, std::io::sink()).0)
    }

    fn get(path: &str, shared: &Shared, status: &Status) -> (u16, String) {
        let response = answer(&Method::GET, path, shared, status);
        let code = response.status().as_u16();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn readiness_names_what_is_missing_and_turns_with_the_drain() {
        let (shared, status) = (shared(), Status::default());
        let (code, body) = get("/readyz", &shared, &status);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(code, 503);
        assert_eq!(body["reasons"].as_array().unwrap().len(), 3);
        status.update_config(|config| config.generation = 1);
        status.set_certificates_loaded();
        status.set_serving();
        assert_eq!(get("/readyz", &shared, &status).0, 200);
        shared.drain.begin();
        let (code, body) = get("/readyz", &shared, &status);
        assert_eq!(code, 503);
        assert!(body.contains("\"draining\": true"), "{body}");
        assert_eq!(get("/healthz", &shared, &status), (200, "ok\n".to_owned()));
    }

    #[test]
    fn the_configuration_is_shown_without_its_secrets() {
        let (shared, status) = (shared(), Status::default());
        let text = "version: 1\nlisteners: { web: { bind: ['127.0.0.1:1'] } }\n\
            upstreams: { u: { endpoints: ['127.0.0.1:2'] } }\nroutes:\n  \
            a: { hosts: [a.openclaw.example], upstream: u, \
                 headers: { request: { set: { authorization: s3cret } } } }\n  \
            b: { hosts: [b.openclaw.example], upstraem: u, \
                 headers: { request: { set: { authorization: s3cret } } } }\n";
        let accepted = merge(None, config::parse("edge.yaml", text, &NoEnvironment).unwrap());
        status.update_config(|config| config.accepted = Some(Arc::new(accepted)));
        let (code, body) = get("/api/v1/config", &shared, &status);
        let value: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(code, 200);
        assert_eq!(value["quarantined"][0]["name"], "b");
        assert_eq!(value["quarantined"][0]["line"], 6);
        assert_eq!(value["objects"]["routes"], 1);
        let (_, routes) = get("/api/v1/routes", &shared, &status);
        let value: Value = serde_json::from_str(&routes).unwrap();
        assert_eq!(value["routes"][0]["upstream"], "u");
        assert_eq!(value["routes"][1]["state"], "quarantined");
        assert!(!body.contains("s3cret") && !routes.contains("s3cret"));
    }

    #[test]
    fn only_reading_and_only_known_paths() {
        let (shared, status) = (shared(), Status::default());
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let response = answer(&method, "/api/v1/config", &shared, &status);
            assert_eq!(response.status(), 405);
        }
        let (code, body) = get("/api/v1/config/", &shared, &status);
        assert_eq!(code, 404);
        assert!(body.contains("/readyz"));
        let (code, body) = get("/metrics", &shared, &status);
        assert_eq!(code, 200);
        assert!(body.contains("edge_buffered_bytes 0"));
    }
}
