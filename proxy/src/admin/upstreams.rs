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

use crate::clock;
use crate::control::resolve::{NameState, Question};
use crate::control::shifts::in_units;
use crate::control::status::Status;
use crate::state::Shared;
use crate::upstream::condition::{Condition, Usable, Why};
use crate::upstream::endpoint::{EndpointSet, Member, Upstream};

pub(super) const PATH: &str = "/api/v1/upstreams";

/// All of them, in the order of their names.
pub(super) fn upstreams(shared: &Shared, status: &Status) -> Value {
    let snapshot = shared.snapshot.load_full();
    let (known, drains) = (status.names.load(), status.drains.load());
    let mut all: Vec<_> = snapshot.upstreams.iter().collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let all: Vec<Value> = all.into_iter().map(|upstream| one(upstream, &known, &drains)).collect();
    json!({ "generation": snapshot.generation, "upstreams": all })
}

fn one(upstream: &Upstream, known: &[NameState], drains: &[(Name, String)]) -> Value {
    let Upstream { name, spec, state, .. } = upstream;
    let set = state.endpoints.load();
    let now_ms = clock::process_ms();
    let endpoints: Vec<Value> =
        set.members.iter().map(|member| endpoint(member, spec, now_ms)).collect();
    let is_member = |text: &str| set.members.iter().any(|member| *member.endpoint.text == *text);
    let absent = drains.iter().filter(|(of, text)| of == name && !is_member(text));
    let names = names(spec, known);
    let unresolved = set.unresolved.iter().map(|written| {
        let known = names.iter().find(|(name, _)| name == written);
        json!({ "name": written, "why": known.and_then(|(_, known)| known.error.as_ref()) })
    });
    let (requests, retries) = state.budget.used(now_ms);
    let mut value = policy(spec);
    value["queue"]["length"] = json!(state.queue.len());
    value["retries"]["recent_requests"] = json!(requests);
    value["retries"]["recent_retries"] = json!(retries);
    value["usable"] = json!(usable(&set, now_ms));
    value["panic"] = json!(panics(&set, now_ms));
    value["endpoints"] = json!(endpoints);
    value["names"] = names.iter().map(|(_, known)| name_state(known)).collect();
    value["unresolved"] = unresolved.collect();
    value["drained_absent"] = json!(absent.map(|(_, text)| text).collect::<Vec<_>>());
    value
}

/// What is configured.
fn policy(spec: &model::Upstream) -> Value {
    let queue_seconds = spec.queue.timeout.as_secs_f64();
    json!({
        "name": spec.name.as_str(),
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
        "queue": { "size": spec.queue.size, "timeout_seconds": queue_seconds },
        "retries": {
            "attempts": spec.retries.attempts,
            "budget_percent": spec.retries.budget,
        },
    })
}

/// The names in a spec as written, and what is known of them.
fn names<'a>(spec: &model::Upstream, known: &'a [NameState]) -> Vec<(String, &'a NameState)> {
    let of = |endpoint: &model::EndpointSpec| {
        let name = Question::of(&endpoint.address)?.to_string();
        // They come in order.
        let at = known.binary_search_by(|state| state.name.cmp(&name)).ok()?;
        Some((endpoint.address.to_string(), known.get(at)?))
    };
    spec.endpoints.iter().filter_map(of).collect()
}

fn name_state(known: &NameState) -> Value {
    json!({
        "name": known.name,
        "addresses": known.addresses.as_ref().map(|addresses| addresses.len()),
        "ttl_seconds": known.ttl.as_secs(),
        "asked_again_in_seconds": known.next_ms.saturating_sub(clock::process_ms()).div_ceil(1000),
        "error": known.error,
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
            Some((age, of)) => {
                format!("{words}; starts slowly, {} s of {} s", age.as_secs(), of.as_secs_f32())
            }
            None => words,
        },
        "used": is_used(condition, now_ms),
        "check_error": condition.error().map(|error| error.to_string()),
        "requests": endpoint.load.requests.load(Ordering::Relaxed),
        "connections": endpoint.load.connections.load(Ordering::Relaxed),
        "keep_alive_seconds":
            endpoint.keep_alive.limit(spec.timeouts.keep_alive).as_secs_f64(),
        "latency_ms": latency.map(|us| (f64::from(us) / 10.0).round() / 100.0),
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
        Why::Healthy => match check_error {
            // One alone, not as many in a row as it takes.
            Some(error) => format!("healthy, though the last health check failed: {error}"),
            None => "health checks pass".to_owned(),
        },
        Why::Unchecked => "no health check, and requests do not fail".to_owned(),
        Why::Starting => because("no health check has passed yet"),
        Why::Unhealthy => because("health checks fail"),
        Why::Ejected(_) => format!("requests failed: {why}"),
        Why::Trial => "requests failed; one at a time tries it again".to_owned(),
        Why::Drained => "taken out by the operator".to_owned(),
        Why::Gone => "not in the configuration or DNS any more".to_owned(),
    }
}

/// Whether requests are given to it, panic aside.
fn is_used(condition: &Condition, now_ms: u64) -> bool {
    !matches!(condition.usable(now_ms), Usable::No | Usable::Never)
}

fn usable(set: &EndpointSet, now_ms: u64) -> usize {
    set.members.iter().filter(|member| is_used(&member.endpoint.condition, now_ms)).count()
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
    let all = weights.iter().map(|(name, weight)| (name.to_string(), json!(weight)));
    all.collect::<serde_json::Map<_, _>>().into()
}

/// A split as shifted, in the same unit: whole numbers where they are.
pub(super) fn shifted_weights(weights: &BTreeMap<Name, u32>) -> Value {
    let number = |weight: f64| {
        if weight.fract() == 0.0 { json!(weight as u64) } else { json!(weight) }
    };
    let all = weights.iter().map(|(name, weight)| (name.to_string(), number(in_units(*weight))));
    all.collect::<serde_json::Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::condition::Health;

    #[test]
    fn every_state_has_its_reason() {
        let error = Some("connect: refused");
        for (why, error, expected) in [
            (Why::Healthy, None, "health checks pass"),
            (Why::Healthy, error, "healthy, though the last health check failed: connect: refused"),
            (Why::Unchecked, None, "no health check, and requests do not fail"),
            (Why::Starting, None, "no health check has passed yet"),
            (Why::Starting, error, "no health check has passed yet: connect: refused"),
            (Why::Unhealthy, error, "health checks fail: connect: refused"),
            (Why::Ejected(Duration::from_millis(2_001)), None, "requests failed: ejected for 3 s"),
            (Why::Trial, None, "requests failed; one at a time tries it again"),
            (Why::Drained, error, "taken out by the operator"),
            (Why::Gone, None, "not in the configuration or DNS any more"),
        ] {
            assert_eq!(words(why, error), expected);
        }
    }

    #[test]
    fn slow_start_is_told_while_it_lasts() {
        let text = "version: 1\nlisteners: { web: { bind: ['127.0.0.1:1'] } }\nupstreams:\n  \
                    u: { endpoints: ['127.0.0.1:2'], slow_start: 10s }\nroutes:\n  \
                    a: { hosts: [a.openclaw.example], upstream: u }\n";
        let candidate = config::parse("edge.yaml", text, &config::NoEnvironment).unwrap();
        let accepted = config::merge(None, candidate);
        let spec = &accepted.upstreams["u"].value;
        let condition = Condition::new(1_000);
        let ten = Duration::from_secs(10);
        assert_eq!(slow_start(spec, &condition, 4_000), Some((Duration::from_secs(3), ten)));
        assert_eq!(slow_start(spec, &condition, 11_000), None);
        condition.set_health(Health::Unhealthy, 1_000);
        assert_eq!(slow_start(spec, &condition, 4_000), None);
    }

    #[test]
    fn whole_weights_are_whole_numbers() {
        let name = |text| Name::new(text).unwrap();
        let shifted = BTreeMap::from([(name("a"), 80_000), (name("b"), 666)]);
        assert_eq!(shifted_weights(&shifted), json!({ "a": 80, "b": 0.666 }));
        assert_eq!(split_weights(&BTreeMap::from([(name("a"), 95)])), json!({ "a": 95 }));
    }
}
