//! Upstreams: every key, its limits, defaults, combinations.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use config::model::*;
use config::value::Name;
use config::{Accepted, Candidate, Diagnostic, NoEnvironment, merge, parse};

fn read(text: &str) -> Candidate {
    parse("edge.yaml", text, &NoEnvironment)
        .unwrap_or_else(|errors| panic!("{}", errors.render("edge.yaml", text)))
}

fn accepted(text: &str) -> Accepted {
    let accepted = merge(None, read(text));
    assert_eq!(accepted.quarantined, []);
    accepted
}

/// A file with this upstream `u` and what `defaults.upstream` says.
fn file(defaults: &str, keys: &str) -> String {
    format!(
        "version: 1\ndefaults: {{ upstream: {{ {defaults} }} }}\nupstreams: {{ u: {{ {keys} }} }}\n\
         routes: {{ r: {{ hosts: [a.x], upstream: u }} }}\n"
    )
}

fn with_defaults(defaults: &str, keys: &str) -> Upstream {
    let keys = format!("endpoints: ['192.0.2.1:1'], {keys}");
    Upstream::clone(&accepted(&file(defaults, &keys)).upstreams["u"].value)
}

fn upstream(keys: &str) -> Upstream {
    with_defaults("", keys)
}

fn endpoints(list: &str) -> Vec<EndpointSpec> {
    let text = file("", &format!("endpoints: [{list}]"));
    accepted(&text).upstreams["u"].value.endpoints.clone()
}

/// What is wrong with the upstream: `at: message` of each reason.
fn reasons(keys: &str) -> Vec<String> {
    let keys = if keys.starts_with("endpoints") {
        keys.to_owned()
    } else {
        format!("endpoints: ['192.0.2.1:1'], {keys}")
    };
    match &read(&file("", &keys)).upstreams["u"] {
        Entry::Good(_) => Vec::new(),
        Entry::Bad(bad) => bad.reasons.iter().map(shown).collect(),
    }
}

fn shown(reason: &Diagnostic) -> String {
    assert!(reason.line > 0 && reason.column > 0, "{reason:?}");
    format!("{}: {}", reason.at, reason.message)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

// === one key after the other ===

#[test]
fn an_upstream_without_keys_has_the_defaults_of_the_model() {
    let endpoint =
        EndpointSpec { address: EndpointAddress::Ip("192.0.2.1:1".parse().unwrap()), weight: 1 };
    assert_eq!(upstream(""), Upstream::new(name("u"), vec![endpoint]));
    let upstream = upstream("");
    assert_eq!((upstream.balance, upstream.slow_start), (Balance::RoundRobin, secs(0)));
    assert_eq!((upstream.sticky, upstream.health), (None, None));
    let ejection = Ejection { failures: 5, time: secs(10), max_time: secs(300), max_share: 50 };
    assert_eq!(upstream.ejection, Some(ejection));
    assert_eq!(upstream.retries, Retries { attempts: 2, budget: 20 });
    assert_eq!(upstream.queue, Queue { size: 128, timeout: secs(2) });
    assert_eq!(upstream.limits, UpstreamLimits::default());
    assert_eq!((upstream.protocol, upstream.tls), (UpstreamProtocol::Http1, None));
    assert_eq!((upstream.proxy_protocol, upstream.timeouts.total), (None, None));
}

#[test]
fn endpoints_of_every_kind() {
    let list = "'192.0.2.1:1', '[2001:db8::1]:2', 'Web.Internal.:3', 'srv+_http._tcp.Web.internal', \
                'unix:/run/A.sock', { address: 'web:4' }, { address: 'srv+web', weight: 7 }";
    let name = |host: &str, port| EndpointAddress::Name { host: host.into(), port };
    let expected = [
        (EndpointAddress::Ip("192.0.2.1:1".parse().unwrap()), 1),
        (EndpointAddress::Ip("[2001:db8::1]:2".parse().unwrap()), 1),
        (name("web.internal.", 3), 1),
        (EndpointAddress::Srv("_http._tcp.web.internal".into()), 1),
        (EndpointAddress::Unix("/run/A.sock".into()), 1),
        (name("web", 4), 1),
        (EndpointAddress::Srv("web".into()), 7),
    ];
    let expected = expected.map(|(address, weight)| EndpointSpec { address, weight });
    assert_eq!(endpoints(list), expected);
    assert_eq!(endpoints("'unix:/run/A.sock'")[0].address.to_string(), "unix:/run/A.sock");
}

#[test]
fn ways_to_balance() {
    let header = Balance::Hash(HashKey::Header("x-tenant".into()));
    let cookie = Balance::Hash(HashKey::Cookie("Sid".into()));
    for (text, balance) in [
        ("round_robin", Balance::RoundRobin),
        ("least_request", Balance::LeastRequest),
        ("peak_ewma", Balance::PeakEwma),
        ("{ hash: client_ip }", Balance::Hash(HashKey::ClientIp)),
        ("{ hash: path }", Balance::Hash(HashKey::Path)),
        ("{ hash: 'header:X-Tenant' }", header),
        ("{ hash: 'cookie:Sid' }", cookie),
    ] {
        assert_eq!(upstream(&format!("balance: {text}")).balance, balance, "{text}");
    }
    for text in ["'header:'", "'cookie:a b'", "header", "client_ip:1", "query", "''"] {
        assert_eq!(reasons(&format!("balance: {{ hash: {text} }}")).len(), 1, "{text}");
    }
    // Both: the cookie first, then the hash.
    let both = upstream("balance: { hash: path }, sticky: { cookie: sid }");
    assert_eq!(both.sticky, Some(StickyCookie { name: "sid".into(), max_age: None }));
    let sticky = upstream("sticky: { cookie: __Host-sid, max_age: 1d }").sticky;
    assert_eq!(
        sticky,
        Some(StickyCookie { name: "__Host-sid".into(), max_age: Some(secs(86400)) })
    );
}

#[test]
fn health_checks_of_every_type() {
    let health = |text: &str| upstream(&format!("health: {text}")).health;
    let http = Probe::Http { path: "/h?x=1".into(), host: None, status: (200, 399), body: None };
    assert_eq!(health("{ path: '/h?x=1' }"), Some(HealthCheck::new(http)));
    let times = |check: HealthCheck| (check.interval, check.timeout, check.start_period);
    let plain = HealthCheck::new(Probe::Tcp);
    assert_eq!((plain.rise, plain.fall, plain.port), (1, 3, None));
    assert_eq!(times(plain.clone()), (secs(5), secs(2), secs(0)));
    assert_eq!(health("{ type: tcp }"), Some(plain));
    let all = "interval: 1s, timeout: 300ms, rise: 2, fall: 4, start_period: 30s, port: 9000";
    let with_all = |probe| HealthCheck {
        probe,
        interval: secs(1),
        timeout: millis(300),
        rise: 2,
        fall: 4,
        start_period: secs(30),
        port: Some(9000),
    };
    let text =
        format!("{{ type: http, path: /, host: 'A.x:80', status: 204, body: 'o k', {all} }}");
    let probe = Probe::Http {
        path: "/".into(),
        host: Some("a.x:80".into()),
        status: (204, 204),
        body: Some("o k".into()),
    };
    assert_eq!(health(&text), Some(with_all(probe)));
    assert_eq!(health(&format!("{{ type: tcp, {all} }}")), Some(with_all(Probe::Tcp)));
    let grpc = |service: &str| Probe::Grpc { service: service.into() };
    assert_eq!(
        health(&format!("{{ type: grpc, service: a.B, {all} }}")),
        Some(with_all(grpc("a.B")))
    );
    assert_eq!(health("{ type: grpc }"), Some(HealthCheck::new(grpc(""))));
    assert_eq!(health("off"), None);
    for (host, sent) in [("a.x", "a.x"), ("'[::1]'", "[::1]"), ("'192.0.2.1:8'", "192.0.2.1:8")] {
        let Some(Probe::Http { host, .. }) =
            health(&format!("{{ path: /, host: {host} }}")).map(|health| health.probe)
        else {
            panic!()
        };
        assert_eq!(host.as_deref(), Some(sent));
    }
}

#[test]
fn what_is_done_about_failures() {
    let all = upstream(
        "ejection: { failures: 3, time: 1s, max_time: 1m, max_share: 34% }, \
         retries: { attempts: 1, budget: 10% }, queue: { size: 7, timeout: 500ms }, \
         limits: { connections: 4, requests: 3, endpoint_connections: 2, endpoint_requests: 1 }, \
         slow_start: 20s, timeouts: { connect: 1s, first_byte: 2s, idle: 3s, stream_idle: 4s, \
         keep_alive: 5s, total: 6s }",
    );
    let ejection = Ejection { failures: 3, time: secs(1), max_time: secs(60), max_share: 34 };
    assert_eq!(all.ejection, Some(ejection));
    assert_eq!(all.retries, Retries { attempts: 1, budget: 10 });
    assert_eq!(all.queue, Queue { size: 7, timeout: millis(500) });
    let limits = UpstreamLimits {
        connections: Some(4),
        requests: Some(3),
        endpoint_connections: Some(2),
        endpoint_requests: Some(1),
    };
    assert_eq!((all.limits, all.slow_start), (limits, secs(20)));
    let timeouts = UpstreamTimeouts {
        connect: secs(1),
        first_byte: secs(2),
        idle: secs(3),
        stream_idle: secs(4),
        keep_alive: secs(5),
        total: Some(secs(6)),
    };
    assert_eq!(all.timeouts, timeouts);
    assert_eq!(upstream("ejection: off").ejection, None);
    // The longest ejection is never shorter than the first.
    let long = upstream("ejection: { time: 1h }").ejection.unwrap();
    assert_eq!((long.time, long.max_time), (secs(3600), secs(3600)));
}

#[test]
fn how_endpoints_are_spoken_to() {
    let tls = |text: &str| upstream(&format!("tls: {text}")).tls.unwrap();
    let plain = UpstreamTls { ca: None, certificate: None, server_name: None, insecure: false };
    assert_eq!(tls("{}"), plain);
    let all = "{ ca: /ca.pem, certificate: { chain: /c.pem, key: /c.key }, server_name: A.x., insecure: false }";
    let certificate = ClientCertificate { chain: "/c.pem".into(), key: "/c.key".into() };
    let expected = UpstreamTls {
        ca: Some("/ca.pem".into()),
        certificate: Some(certificate),
        server_name: Some("a.x".into()),
        insecure: false,
    };
    assert_eq!(tls(all), expected);
    assert_eq!(tls("{ server_name: '[2001:db8::1]' }").server_name.unwrap(), "2001:db8::1");
    assert!(tls("{ insecure: true, server_name: a.x }").insecure);
    assert_eq!(upstream("protocol: http2").protocol, UpstreamProtocol::Http2);
    assert_eq!(upstream("protocol: http1").protocol, UpstreamProtocol::Http1);
    let version = |text: &str| upstream(&format!("proxy_protocol: {text}")).proxy_protocol;
    assert_eq!(version("v1"), Some(ProxyProtocolVersion::V1));
    assert_eq!(version("v2"), Some(ProxyProtocolVersion::V2));
}

#[test]
fn an_unverified_upstream_is_warned_about_by_name() {
    let warnings = |keys: &str| {
        let text = file("", &format!("endpoints: ['192.0.2.1:1'], tls: {{ {keys} }}"));
        let warnings = accepted(&text).warnings;
        let about = warnings.iter().filter(|one| one.at.starts_with("upstreams"));
        about.map(shown).collect::<Vec<_>>()
    };
    let [warning] = warnings("insecure: true").try_into().unwrap();
    assert!(warning.starts_with("upstreams.u.tls.insecure: certificates of `u` are not verified"));
    assert_eq!(warnings(""), [""; 0]);
    assert_eq!(warnings("insecure: false, ca: /ca.pem"), [""; 0]);
}

// === limits ===

#[test]
fn values_at_their_limits() {
    for (good, bad) in [
        ("slow_start: 1h", "slow_start: 61m"),
        ("slow_start: 0s", "slow_start: 0"),
        ("sticky: { cookie: a, max_age: 400d }", "sticky: { cookie: a, max_age: 9601h }"),
        ("sticky: { cookie: a, max_age: 1s }", "sticky: { cookie: a, max_age: 999ms }"),
        ("health: { type: tcp, interval: 100ms }", "health: { type: tcp, interval: 99ms }"),
        ("health: { type: tcp, interval: 1h }", "health: { type: tcp, interval: 61m }"),
        ("health: { type: tcp, timeout: 10ms }", "health: { type: tcp, timeout: 9ms }"),
        ("health: { type: tcp, timeout: 1h }", "health: { type: tcp, timeout: 61m }"),
        ("health: { type: tcp, rise: 100 }", "health: { type: tcp, rise: 101 }"),
        ("health: { type: tcp, rise: 1 }", "health: { type: tcp, rise: 0 }"),
        ("health: { type: tcp, fall: 100 }", "health: { type: tcp, fall: 101 }"),
        ("health: { type: tcp, fall: 1 }", "health: { type: tcp, fall: 0 }"),
        ("health: { type: tcp, start_period: 1h }", "health: { type: tcp, start_period: 61m }"),
        ("health: { type: tcp, port: 65535 }", "health: { type: tcp, port: 65536 }"),
        ("health: { type: tcp, port: 1 }", "health: { type: tcp, port: 0 }"),
        ("health: { path: /, status: 200-599 }", "health: { path: /, status: 199-599 }"),
        ("health: { path: /, status: 599 }", "health: { path: /, status: 600 }"),
        ("health: { path: /, status: 200-200 }", "health: { path: /, status: 201-200 }"),
        ("ejection: { failures: 1 }", "ejection: { failures: 0 }"),
        ("ejection: { failures: 1000 }", "ejection: { failures: 1001 }"),
        ("ejection: { time: 100ms }", "ejection: { time: 99ms }"),
        ("ejection: { time: 1d }", "ejection: { time: 25h }"),
        ("ejection: { time: 5s, max_time: 5s }", "ejection: { time: 5s, max_time: 4s }"),
        ("ejection: { max_time: 10s }", "ejection: { max_time: 9s }"),
        ("ejection: { max_share: 100% }", "ejection: { max_share: 101% }"),
        ("ejection: { max_share: 1% }", "ejection: { max_share: 0% }"),
        ("retries: { attempts: 0 }", "retries: { attempts: -1 }"),
        ("retries: { attempts: 10 }", "retries: { attempts: 11 }"),
        ("retries: { budget: 0% }", "retries: { budget: 0 }"),
        ("retries: { budget: 100% }", "retries: { budget: 101% }"),
        ("queue: { size: 0 }", "queue: { size: off }"),
        ("queue: { size: 100000 }", "queue: { size: 100001 }"),
        ("queue: { timeout: 10ms }", "queue: { timeout: 9ms }"),
        ("queue: { timeout: 60s }", "queue: { timeout: 61s }"),
        ("limits: { connections: 1 }", "limits: { connections: 0 }"),
        ("limits: { requests: 1000000 }", "limits: { requests: 1000001 }"),
        ("limits: { endpoint_connections: 1 }", "limits: { endpoint_connections: 0 }"),
        ("limits: { endpoint_requests: 1 }", "limits: { endpoint_requests: 0 }"),
        ("timeouts: { total: 30d }", "timeouts: { total: 721h }"),
        ("timeouts: { total: off }", "timeouts: { idle: off }"),
        ("tls: {}", "tls: { ca: ca.pem }"),
        (
            "endpoints: [{ address: 'a:1', weight: 1000 }]",
            "endpoints: [{ address: 'a:1', weight: 1001 }]",
        ),
        (
            "endpoints: [{ address: 'a:1', weight: 1 }]",
            "endpoints: [{ address: 'a:1', weight: 0 }]",
        ),
    ] {
        assert_eq!(reasons(good), [""; 0], "{good}");
        assert_eq!(reasons(bad).len(), 1, "{bad}");
    }
}

#[test]
fn texts_at_their_limits() {
    let long = |bytes: usize| "x".repeat(bytes);
    for (keys, most) in [
        (["sticky: { cookie: ", " }"], 128),
        (["balance: { hash: 'header:", "' }"], 128),
        (["balance: { hash: 'cookie:", "' }"], 128),
        (["health: { path: /, body: ", " }"], 1024),
        (["health: { path: /", " }"], 1023),
        (["health: { type: grpc, service: ", " }"], 256),
    ] {
        let [before, after] = keys;
        assert_eq!(reasons(&format!("{before}{}{after}", long(most))), [""; 0], "{before}");
        assert_eq!(reasons(&format!("{before}{}{after}", long(most + 1))).len(), 1, "{before}");
    }
}

#[test]
fn ten_thousand_endpoints_are_read() {
    let list = |count: usize| {
        let list: Vec<String> =
            (0..count).map(|n| format!("'192.0.{}.{}:1'", n / 250, n % 250)).collect();
        format!("endpoints: [{}]", list.join(", "))
    };
    let text = file("", &list(10_000));
    assert_eq!(accepted(&text).upstreams["u"].value.endpoints.len(), 10_000);
    assert_eq!(
        reasons(&list(10_001)),
        ["upstreams.u.endpoints: the list has more than 10000 items"]
    );
}

// === combinations ===

#[test]
fn what_does_not_go_together() {
    for (keys, reason) in [
        (
            "protocol: http2, proxy_protocol: v2",
            "upstreams.u.proxy_protocol: `proxy_protocol` names one client, an HTTP/2 connection carries many",
        ),
        (
            "tls: { ca: /ca.pem, insecure: true }",
            "upstreams.u.tls.insecure: `ca` verifies certificates, `insecure: true` does not",
        ),
        (
            "endpoints: ['unix:/a'], tls: { insecure: true }",
            "upstreams.u.tls: a unix socket has no name that a certificate could show",
        ),
        (
            "endpoints: ['unix:/a', 'a:1'], health: { type: tcp, port: 1 }",
            "upstreams.u.health: `health.port` asks another port, a unix socket has none",
        ),
        ("health: { type: grpc, path: / }", "upstreams.u.health.path: unknown key `path`"),
        ("health: { type: tcp, service: a }", "upstreams.u.health.service: unknown key `service`"),
        ("health: { path: /, service: a }", "upstreams.u.health.service: unknown key `service`"),
    ] {
        assert_eq!(reasons(keys), [reason], "{keys}");
    }
    for keys in [
        "protocol: http2, tls: {}",
        "proxy_protocol: v1, tls: {}",
        "endpoints: ['unix:/a'], tls: { server_name: a.x }, protocol: http2",
        "endpoints: ['unix:/a'], proxy_protocol: v1, health: { type: tcp }",
        "health: { type: grpc }, protocol: http1",
    ] {
        assert_eq!(reasons(keys), [""; 0], "{keys}");
    }
}

// === defaults ===

const DEFAULTS: &str = "balance: peak_ewma, slow_start: 1s, health: { path: /d, interval: 1s }, \
    ejection: { failures: 9, time: 9s }, retries: { attempts: 9, budget: 9% }, \
    queue: { size: 9, timeout: 9s }, limits: { connections: 9, requests: 9 }, \
    timeouts: { connect: 9s, idle: 9s, total: 9s }";

#[test]
fn defaults_are_for_upstreams_that_do_not_say_it() {
    let upstream = with_defaults(DEFAULTS, "");
    assert_eq!((upstream.balance, upstream.slow_start), (Balance::PeakEwma, secs(1)));
    assert_eq!(upstream.health.unwrap().interval, secs(1));
    assert_eq!(upstream.ejection.unwrap().failures, 9);
    assert_eq!(upstream.retries, Retries { attempts: 9, budget: 9 });
    assert_eq!(upstream.queue, Queue { size: 9, timeout: secs(9) });
    assert_eq!((upstream.limits.connections, upstream.limits.requests), (Some(9), Some(9)));
    assert_eq!(upstream.timeouts.total, Some(secs(9)));
    assert_eq!((upstream.name.as_str(), upstream.endpoints.len()), ("u", 1));
}

#[test]
fn an_own_key_replaces_the_whole_default_and_timeouts_one_by_one() {
    let upstream = with_defaults(
        DEFAULTS,
        "balance: { hash: path }, slow_start: 0s, health: { type: tcp }, ejection: { failures: 1 }, \
         retries: { attempts: 1 }, queue: { size: 1 }, limits: { requests: 1 }, \
         timeouts: { idle: 1s, total: off }",
    );
    assert_eq!((upstream.balance, upstream.slow_start), (Balance::Hash(HashKey::Path), secs(0)));
    assert_eq!(upstream.health, Some(HealthCheck::new(Probe::Tcp)));
    assert_eq!(upstream.ejection, Some(Ejection { failures: 1, ..Ejection::default() }));
    assert_eq!(upstream.retries, Retries { attempts: 1, ..Retries::default() });
    assert_eq!(upstream.queue, Queue { size: 1, ..Queue::default() });
    let limits = UpstreamLimits { requests: Some(1), ..UpstreamLimits::default() };
    assert_eq!(upstream.limits, limits);
    assert_eq!((upstream.timeouts.connect, upstream.timeouts.idle), (secs(9), secs(1)));
    assert_eq!(upstream.timeouts.total, None);
    let off = with_defaults(DEFAULTS, "health: off, ejection: off");
    assert_eq!((off.health, off.ejection), (None, None));
}
