//! `GET /api/v1/upstreams`: policies, and of every endpoint whether it is used, why, and what it
//! has to do.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use config::model::{
    self, Balance, HashKey, Probe, ProxyProtocolVersion, UpstreamProtocol, UpstreamTls,
};
use config::value::Name;
use serde_json::{Value, json};

use super::Sources;
use super::operate::commands;
use crate::clock;
use crate::control::command::Command;
use crate::control::shifts::in_units;
use crate::upstream::condition::{Condition, Usable, Why};
use crate::upstream::endpoint::{EndpointSet, Member, Upstream};

pub(super) const PATH: &str = "/api/v1/upstreams";

/// All of them, in the order of their names.
pub(super) async fn upstreams(sources: &Sources) -> Value {
    let absent = drained(sources).await;
    let snapshot = sources.shared.snapshot.load_full();
    let mut all: Vec<_> = snapshot.upstreams.iter().collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let all: Vec<Value> = all.into_iter().map(|upstream| one(upstream, &absent)).collect();
    json!({ "generation": snapshot.generation, "upstreams": all })
}

/// Marks of the operator by upstream; none where the control thread does not answer.
async fn drained(sources: &Sources) -> Vec<(Name, String)> {
    match commands(sources) {
        Ok(commands) => commands.ask(|tell| Command::Drains { tell }).await.unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

fn one(upstream: &Upstream, drained: &[(Name, String)]) -> Value {
    let Upstream { name, spec, state, .. } = upstream;
    let set = state.endpoints.load();
    let now_ms = clock::process_ms();
    let endpoints: Vec<Value> =
        set.members.iter().map(|member| endpoint(member, spec, now_ms)).collect();
    let is_member = |text: &str| set.members.iter().any(|member| *member.endpoint.text == *text);
    let absent = drained.iter().filter(|(of, text)| of == name && !is_member(text));
    let unresolved = set.unresolved.iter().map(|name| json!({ "name": name, "why": null }));
    json!({
        "name": name.as_str(),
        "balance": balance(&spec.balance),
        "sticky_cookie": spec.sticky.as_ref().map(|cookie| &cookie.name),
        "protocol": match spec.protocol {
            UpstreamProtocol::Http1 => "http1",
            UpstreamProtocol::Http2 => "http2",
        },
        "tls": spec.tls.as_ref().map(tls),
        "proxy_protocol": spec.proxy_protocol.map(|version| match version {
            ProxyProtocolVersion::V1 => "v1",
            ProxyProtocolVersion::V2 => "v2",
        }),
        "health": spec.health.as_ref().map(|health| probe(&health.probe)),
        "limits": {
            "connections": spec.limits.connections,
            "requests": spec.limits.requests,
            "endpoint_connections": spec.limits.endpoint_connections,
            "endpoint_requests": spec.limits.endpoint_requests,
        },
        "queue": { "size": spec.queue.size, "timeout_seconds": spec.queue.timeout.as_secs_f64() },
        "retries": { "attempts": spec.retries.attempts, "budget_percent": spec.retries.budget },
        "usable": usable(&set, now_ms),
        "panic": panics(&set, now_ms),
        "endpoints": endpoints,
        "unresolved": unresolved.collect::<Vec<_>>(),
        "drained_absent": absent.map(|(_, text)| text).collect::<Vec<_>>(),
    })
}

fn endpoint(member: &Member, spec: &model::Upstream, now_ms: u64) -> Value {
    let endpoint = &member.endpoint;
    let condition = &endpoint.condition;
    let why = condition.why(now_ms);
    let slow_start = slow_start(spec, condition, now_ms);
    let words = words(why, condition.error().as_ref().map(|error| error.as_str()));
    let latency = endpoint.load.latency.recent_us(now_ms);
    json!({
        "address": &*endpoint.text,
        "host": &*endpoint.host,
        "weight": member.weight,
        "state": why.code(),
        "why": match &slow_start {
            Some((age, of)) => format!(
                "{words}; starts slowly, {} s of {} s", age.as_secs(), of.as_secs_f32()
            ),
            None => words,
        },
        "used": condition.usable(now_ms) != Usable::Never && condition.usable(now_ms) != Usable::No,
        "check_error": condition.error().map(|error| error.to_string()),
        "requests": endpoint.load.requests.load(Ordering::Relaxed),
        "connections": endpoint.load.connections.load(Ordering::Relaxed),
        "latency_ms": latency.map(|us| (us / 10.0).round() / 100.0),
        "slow_start": slow_start.map(|(age, of)| json!({
            "age_seconds": age.as_secs_f64(),
            "of_seconds": of.as_secs_f64(),
        })),
    })
}

/// The age of an endpoint that does not get its full share yet, and at which it does.
fn slow_start(
    spec: &model::Upstream,
    condition: &Condition,
    now_ms: u64,
) -> Option<(Duration, Duration)> {
    let age = Duration::from_millis(now_ms.saturating_sub(condition.since_ms()));
    let takes_traffic = matches!(condition.usable(now_ms), Usable::Yes | Usable::Trial);
    (takes_traffic && age < spec.slow_start).then_some((age, spec.slow_start))
}

/// The state as a sentence.
fn words(why: Why, check_error: Option<&str>) -> String {
    let because = |text: &str| match check_error {
        Some(error) => format!("{text}: {error}"),
        None => text.to_owned(),
    };
    match why {
        // The last check may have failed, but not `fall` of them in a row.
        Why::Healthy => {
            because("health checks pass").replace("pass:", "pass; the last one failed:")
        }
        Why::Unchecked => "no health check, and requests do not fail".to_owned(),
        Why::Starting => because("no health check has passed yet"),
        Why::Unhealthy => because("health checks fail"),
        Why::Ejected(_) => format!("requests failed: {why}"),
        Why::Trial => "requests failed; one at a time tries it again".to_owned(),
        Why::Drained => "taken out by the operator".to_owned(),
        Why::Gone => "not in the configuration or DNS any more".to_owned(),
    }
}

/// Endpoints that requests are given to, panic aside.
fn usable(set: &EndpointSet, now_ms: u64) -> usize {
    let given = |member: &&Member| {
        !matches!(member.endpoint.condition.usable(now_ms), Usable::No | Usable::Never)
    };
    set.members.iter().filter(given).count()
}

/// Nobody is usable, and all that are not drained get requests.
fn panics(set: &EndpointSet, now_ms: u64) -> bool {
    let out = |member: &Member| member.endpoint.condition.usable(now_ms) == Usable::No;
    usable(set, now_ms) == 0 && set.members.iter().any(out)
}

/// As in the configuration.
fn balance(balance: &Balance) -> String {
    match balance {
        Balance::RoundRobin => "round_robin".to_owned(),
        Balance::LeastRequest => "least_request".to_owned(),
        Balance::PeakEwma => "peak_ewma".to_owned(),
        Balance::Hash(HashKey::ClientIp) => "hash: client_ip".to_owned(),
        Balance::Hash(HashKey::Path) => "hash: path".to_owned(),
        Balance::Hash(HashKey::Header(name)) => format!("hash: header:{name}"),
        Balance::Hash(HashKey::Cookie(name)) => format!("hash: cookie:{name}"),
    }
}

fn tls(tls: &UpstreamTls) -> Value {
    json!({
        "server_name": tls.server_name,
        "insecure": tls.insecure,
        "client_certificate": tls.certificate.is_some(),
    })
}

fn probe(probe: &Probe) -> &'static str {
    match probe {
        Probe::Http { .. } => "http",
        Probe::Tcp => "tcp",
        Probe::Grpc { .. } => "grpc",
    }
}

/// A split as configured.
pub(super) fn split_weights(weights: &BTreeMap<Name, u16>) -> Value {
    weights
        .iter()
        .map(|(name, weight)| (name.to_string(), json!(weight)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A split as shifted, in the same unit: whole numbers where they are.
pub(super) fn shifted_weights(weights: &BTreeMap<Name, u32>) -> Value {
    let number = |weight: f64| {
        if weight.fract() == 0.0 { json!(weight as u64) } else { json!(weight) }
    };
    let all = weights.iter().map(|(name, weight)| (name.to_string(), number(in_units(*weight))));
    all.collect::<serde_json::Map<_, _>>().into()
}
