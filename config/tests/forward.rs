//! Splits, timeouts and retries of routes; peers of listeners; what the state directory keeps of it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use config::model::*;
use config::value::Name;
use config::{Diagnostic, NoEnvironment, last_good, merge, parse};

/// The route `r` with these keys, beside the upstreams `u` and `v`.
fn route(keys: &str) -> Result<Route, Vec<String>> {
    let text = format!(
        "version: 1\nupstreams: {{ u: {{ endpoints: ['192.0.2.1:1'] }}, v: {{ endpoints: ['192.0.2.2:1'] }} }}\n\
         routes: {{ r: {{ hosts: [a.x], {keys} }} }}\n"
    );
    match &parse("edge.yaml", &text, &NoEnvironment).unwrap().routes["r"] {
        Entry::Good(good) => Ok(Route::clone(&good.value)),
        Entry::Bad(bad) => Err(bad.reasons.iter().map(shown).collect()),
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

#[test]
fn splits() {
    let split = |text: &str| route(&format!("split: {{ {text} }}")).map(|route| route.action);
    let part = |upstream, weight| SplitTarget { upstream: name(upstream), weight };
    let parts = |v, u| Ok(Action::Split(vec![part("v", v), part("u", u)]));
    assert_eq!(split("v: 95, u: 5"), parts(95, 5));
    assert_eq!(split("v: 1000, u: 0"), parts(1000, 0));
    for (text, reason) in [
        ("v: 0, u: 0", "routes.r.split: every weight is 0"),
        ("v: 1001, u: 0", "routes.r.split.v: `1001` is no weight"),
        ("v: 1, u: 05", "routes.r.split.u: `05` is no weight"),
        ("v: 1", "routes.r.split: a split has 2 to 32 upstreams"),
        ("v: 1, v: 1", "routes.r.split.v: `v` is written twice: first at 3:39"),
    ] {
        assert_eq!(split(text), Err(vec![reason.to_owned()]), "{text}");
    }
    let many = |count: usize| -> String {
        (0..count).map(|n| format!("u{n}: 1")).collect::<Vec<_>>().join(", ")
    };
    assert!(split(&many(32)).is_ok() && split(&many(33)).is_err());
    for second in ["upstream: u", "redirect: https", "respond: { status: 404 }"] {
        let both = route(&format!("split: {{ u: 1, v: 1 }}, {second}")).unwrap_err();
        assert!(both[0].starts_with("routes.r: the route has both"), "{both:?}");
    }
}

#[test]
fn timeouts_and_retries_of_a_route() {
    let plain = route("upstream: u").unwrap();
    assert_eq!((plain.timeouts, plain.retry), (RouteTimeouts::default(), RouteRetry::default()));
    let all = "timeouts: { connect: 1s, first_byte: 2s, idle: 3s, stream_idle: 4s, total: 5s }";
    let timeouts = RouteTimeouts {
        connect: Some(secs(1)),
        first_byte: Some(secs(2)),
        idle: Some(secs(3)),
        stream_idle: Some(secs(4)),
        total: Some(secs(5)),
    };
    assert_eq!(route(&format!("upstream: u, {all}")).unwrap().timeouts, timeouts);
    assert_eq!(route(&format!("split: {{ u: 1, v: 1 }}, {all}")).unwrap().timeouts, timeouts);
    let some = route("upstream: u, timeouts: { total: 5s }").unwrap().timeouts;
    assert_eq!(some, RouteTimeouts { total: Some(secs(5)), ..RouteTimeouts::default() });

    let retry = |text: &str| route(&format!("upstream: u, retry: {{ {text} }}"));
    let reasons = |text: &str| retry(text).unwrap().retry;
    let retry_of = |statuses: &[u16], timeout, non_idempotent| RouteRetry {
        statuses: statuses.to_vec(),
        timeout,
        non_idempotent,
    };
    assert_eq!(reasons("when: [timeout]"), retry_of(&[], true, false));
    assert_eq!(reasons("when: [599, 502, 500, 502]"), retry_of(&[500, 502, 599], false, false));
    assert_eq!(reasons("when: [502], non_idempotent: true"), retry_of(&[502], false, true));
    let every: Vec<u16> = (500..=599).collect();
    assert_eq!(reasons("when: [5xx, 502, timeout]"), retry_of(&every, true, false));
    assert_eq!(reasons(""), RouteRetry::default());
    for text in ["499", "600", "0502", "5XX", "connect", "''"] {
        let [reason] = retry(&format!("when: [{text}]")).unwrap_err().try_into().unwrap();
        assert!(reason.ends_with("is no reason to try again"), "{reason}");
    }
    for action in ["redirect: https", "respond: { status: 200 }"] {
        let both = route(&format!("{action}, retry: {{}}, timeouts: {{}}")).unwrap_err();
        assert_eq!(both.len(), 2, "{both:?}");
    }
}

#[test]
fn peers_that_speak_the_proxy_protocol() {
    let listener = |keys: &str| {
        let text = format!("version: 1\nlisteners: {{ l: {{ bind: ['127.0.0.1:0'] {keys} }} }}\n");
        let candidate = parse("edge.yaml", &text, &NoEnvironment).ok()?;
        let peers = candidate.global.listeners["l"].proxy_protocol.iter();
        Some(peers.map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(listener("").unwrap(), [""; 0]);
    let peers = listener(", proxy_protocol: [192.0.2.0/24, 192.0.3.1, '2001:db8::/32']").unwrap();
    assert_eq!(peers, ["192.0.2.0/24", "192.0.3.1/32", "2001:db8::/32"]);
    for bad in ["[]", "true", "v1", "[haproxy]", "192.0.2.1", ""] {
        assert_eq!(listener(&format!(", proxy_protocol: {bad}")), None, "{bad}");
    }
    let list =
        |count: usize| format!(", proxy_protocol: [{}]", vec!["192.0.2.1"; count].join(", "));
    assert!(listener(&list(1000)).is_some() && listener(&list(1001)).is_none());
}

#[test]
fn the_state_directory_keeps_it_all() {
    let text = include_str!("../examples/backends.yaml");
    let before = merge(None, parse("backends.yaml", text, &NoEnvironment).unwrap());
    assert_eq!(before.quarantined, []);
    let document = last_good::document(&before);
    let after = last_good::restore(&document, &NoEnvironment).unwrap();
    assert_eq!(after.global.listeners, before.global.listeners);
    assert!(before.upstreams.len() >= 7 && before.routes.len() >= 6);
    for (name, upstream) in &before.upstreams {
        assert_eq!(after.upstreams[name].value, upstream.value);
    }
    for (name, route) in &before.routes {
        assert_eq!(after.routes[name].value, route.value);
    }
    assert_eq!(last_good::document(&after), document);
}
