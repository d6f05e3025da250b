//! A route that is closed for a while.

use super::*;

#[test]
fn only_the_listed_are_served() {
    let backend = Backend::ok();
    let keys = "maintenance: { retry_after: 90s, allow: [192.0.2.0/28, \"2001:db8::/64\"] }";
    let edge = Edge::start(&route(&backend, keys));
    let mut both = Both::to(&edge);
    for (ip, served) in [
        ("192.0.2.1", true),
        ("2001:db8::9", true),
        ("192.0.2.16", false),
        ("2001:db8:0:1::1", false),
        ("192.0.2.1, 203.0.113.1", false),
    ] {
        let told = both.alike("GET", "/", &from(ip));
        if served {
            assert_eq!(told.body, "ok", "{ip}");
            continue;
        }
        told.assert_cause(503, "maintenance");
        assert_eq!(told.field("retry-after"), "90", "{ip}");
    }
    assert_eq!(backend.requests().len(), 4);
    let line = edge.wait_log("cause", "maintenance");
    assert_eq!(line["status"], 503);
}

#[test]
fn a_reload_closes_and_opens() {
    let backend = Backend::ok();
    let open = |keys: &str| route(&backend, keys);
    let edge = Edge::start(&open(""));
    let mut both = Both::to(&edge);
    assert_eq!(both.alike("GET", "/", "").status, 200);
    for (keys, wait) in [("maintenance: on", "300"), ("maintenance: { retry_after: 1s }", "1")] {
        edge.reload(&open(keys));
        // On connections that were open before, too.
        let told = both.alike("GET", "/", "");
        told.assert_cause(503, "maintenance");
        assert_eq!(told.field("retry-after"), wait);
        let html = "Accept: text/html\r\n";
        assert!(both.alike("GET", "/", html).body.contains("Closed for maintenance."));
        assert_eq!(both.alike("HEAD", "/", "").status, 503);
    }
    edge.reload(&open("maintenance: off"));
    assert_eq!(both.alike("GET", "/", "").status, 200);
}

/// design.md #16: who is not allowed does not learn of it, and nothing else is asked.
#[test]
fn its_place_among_the_steps() {
    let backend = Backend::ok();
    let keys = "maintenance: on, cors: \"*\", \
        access: { deny: [203.0.113.0/24], basic_auth: \"ann:{SHA}0nofEXcSAJSXFLGvmfBIpBb11vQ=\" }, \
        rate_limits: [ { key: client_ip, rate: 1/h } ]";
    let edge = Edge::start(&route(&backend, keys));
    let mut both = Both::to(&edge);
    both.alike("GET", "/", &from("203.0.113.1")).assert_cause(403, "denied");
    for _ in 0..3 {
        both.alike("GET", "/", &from("192.0.2.1")).assert_cause(503, "maintenance");
    }
    let told = both.alike("GET", "/", "Origin: https://b.example\r\n");
    assert_eq!(told.field("access-control-allow-origin"), "*");
    // What was refused was not counted.
    let open = keys.replace("maintenance: on, ", "");
    edge.reload(&route(&backend, &open));
    let lines = format!("{}Authorization: Basic YW5uOnJpZ2h0\r\n", from("192.0.2.1"));
    ask(&mut edge.client(), "GET", "/", &lines).assert_ok("ok");
    ask(&mut edge.client(), "GET", "/", &lines).assert_cause(429, "rate_limited");
}

#[test]
fn fixed_answers_and_redirects_are_closed_as_well() {
    let edge = Edge::start(&Conf::new(format!(
        "routes:\n  fixed: {{ hosts: [{HOST}], respond: {{ status: 200, body: hi }}, maintenance: on }}\n  \
         moved: {{ hosts: [{HOST}], path: /moved, redirect: {{ path: /x }}, maintenance: on }}\n"
    )));
    let mut both = Both::to(&edge);
    for target in ["/", "/moved"] {
        both.alike("GET", target, "").assert_cause(503, "maintenance");
    }
}
