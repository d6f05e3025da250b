//! Cross-origin requests.

use super::*;

const ORIGIN: &str = "https://app.openclaw.example";

/// An endpoint with CORS of its own, which must not reach a browser beside ours.
fn chatty() -> Backend {
    Backend::canned(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nAccess-Control-Allow-Origin: https://evil.example\r\n\
         Access-Control-Allow-Credentials: true\r\nAccess-Control-Allow-Methods: TRACE\r\n\
         Access-Control-Allow-Headers: x-evil\r\nAccess-Control-Expose-Headers: x-evil\r\n\
         Access-Control-Max-Age: 1\r\nAccess-Control-Allow-Private-Network: true\r\n\
         Vary: Accept-Encoding\r\nX-Mine: 1\r\n\r\nok",
    )
}

fn edge(backend: &Backend) -> Edge {
    let cors = "cors: { origins: [\"https://app.openclaw.example\", \"https://*.apps.openclaw.example\"], \
        methods: [GET, PUT, OPTIONS], headers: [X-A, authorization], expose: [X-Mine], \
        credentials: true, max_age: 10m }";
    Edge::start(&route(backend, cors))
}

fn question(origin: &str, method: &str, headers: &str) -> String {
    let headers = match headers {
        "" => String::new(),
        names => format!("Access-Control-Request-Headers: {names}\r\n"),
    };
    format!("Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n{headers}")
}

/// Every field of CORS that is there.
fn cors_fields(told: &Told) -> Vec<&str> {
    let cors = |(name, _): &&(String, String)| name.starts_with("access-control-");
    told.fields.iter().filter(cors).map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_preflight_is_answered_by_the_edge() {
    let backend = chatty();
    let edge = edge(&backend);
    let mut both = Both::to(&edge);
    for origin in [ORIGIN, "https://a.apps.openclaw.example"] {
        let told = both.alike("OPTIONS", "/x", &question(origin, "PUT", "x-a, authorization"));
        assert_eq!((told.status, told.body.as_str()), (204, ""));
        assert_eq!(told.field("access-control-allow-origin"), origin);
        assert_eq!(told.field("access-control-allow-credentials"), "true");
        assert_eq!(told.field("access-control-allow-methods"), "GET, PUT, OPTIONS");
        assert_eq!(told.field("access-control-max-age"), "600");
        let headers = told.field("access-control-allow-headers").to_ascii_lowercase();
        assert_eq!(headers, "x-a, authorization");
        let vary = told.field("vary");
        assert!(vary.contains("Origin") && vary.contains("Access-Control-Request-Headers"));
    }
    assert!(backend.requests().is_empty());
    let line = edge.wait_log("method", "OPTIONS");
    assert_eq!(line["status"], 204);
}

#[test]
fn a_preflight_that_is_not_allowed_gets_no_permission_at_all() {
    let backend = chatty();
    let edge = edge(&backend);
    let mut both = Both::to(&edge);
    for (origin, method) in [
        ("https://evil.example", "PUT"),
        ("http://app.openclaw.example", "PUT"),
        ("https://app.openclaw.example:8443", "PUT"),
        ("https://app.openclaw.example.evil.example", "PUT"),
        ("https://apps.openclaw.example", "PUT"),
        ("https://a.b.apps.openclaw.example", "PUT"),
        ("https://evilapps.openclaw.example", "PUT"),
        ("null", "PUT"),
        (ORIGIN, "DELETE"),
        (ORIGIN, "put"),
    ] {
        let told = both.alike("OPTIONS", "/", &question(origin, method, ""));
        assert_eq!(told.status, 204, "{origin} {method}");
        assert_eq!(cors_fields(&told), [""; 0], "{origin} {method}");
        assert!(told.field("vary").contains("Origin"));
    }
    // Two origins are none.
    let two = format!("Origin: https://evil.example\r\n{}", question(ORIGIN, "PUT", ""));
    let told = both.alike("OPTIONS", "/", &two);
    assert_eq!(cors_fields(&told), [""; 0]);
    assert!(backend.requests().is_empty());
}

#[test]
fn an_options_that_is_no_preflight_is_the_endpoints() {
    let backend = chatty();
    let edge = edge(&backend);
    let mut both = Both::to(&edge);
    for lines in [String::new(), format!("Origin: {ORIGIN}\r\n")] {
        let told = both.alike("OPTIONS", "/", &lines);
        assert_eq!((told.status, told.field("x-mine")), (200, "1"));
    }
    let told = both.alike("GET", "/", &question(ORIGIN, "PUT", ""));
    assert_eq!(told.status, 200);
    assert_eq!(backend.requests().len(), 6);
}

#[test]
fn answers_say_who_may_read_them_and_the_endpoint_does_not() {
    let backend = chatty();
    let edge = edge(&backend);
    let mut both = Both::to(&edge);
    let told = both.alike("GET", "/", &format!("Origin: {ORIGIN}\r\n"));
    assert_eq!(told.body, "ok");
    assert_eq!(told.field("access-control-allow-origin"), ORIGIN);
    assert_eq!(told.field("access-control-allow-credentials"), "true");
    let exposed = told.field("access-control-expose-headers");
    assert!(exposed.contains("x-mine") && exposed.contains("Retry-After"), "{exposed}");
    assert!(!exposed.contains("x-evil"), "{exposed}");
    for preflights_own in ["methods", "headers", "private-network"] {
        assert!(!told.has(&format!("access-control-allow-{preflights_own}")), "{told:?}");
    }
    assert!(!told.has("access-control-max-age"));
    // Both Vary lines stand: the endpoint's answer depends on more.
    let vary = |told: &Told| {
        let values = told.fields.iter().filter(|(n, _)| n == "vary").map(|(_, v)| v.as_str());
        values.collect::<Vec<_>>().join(", ")
    };
    assert!(vary(&told).contains("Accept-Encoding") && vary(&told).contains("Origin"));
    for lines in [String::new(), "Origin: https://evil.example\r\n".to_owned()] {
        let told = both.alike("GET", "/", &lines);
        assert_eq!((told.status, cors_fields(&told)), (200, vec![]), "{lines}");
        assert!(vary(&told).contains("Origin"), "caches must tell them apart: {told:?}");
    }
}

#[test]
fn every_origin_without_credentials() {
    let backend = chatty();
    let edge = Edge::start(&route(&backend, "cors: \"*\""));
    let mut both = Both::to(&edge);
    for lines in ["", "Origin: null\r\n", "Origin: https://evil.example\r\n"] {
        let told = both.alike("GET", "/", lines);
        assert_eq!(told.field("access-control-allow-origin"), "*");
        assert!(!told.has("access-control-allow-credentials"));
        assert_eq!(told.field("vary"), "Accept-Encoding");
    }
    let told = both.alike("OPTIONS", "/", &question("https://b.example", "PATCH", "x-b, X-C"));
    assert_eq!((told.status, told.field("access-control-allow-origin")), (204, "*"));
    assert_eq!(told.field("access-control-allow-headers"), "x-b, X-C");
    assert!(told.field("access-control-allow-methods").contains("PATCH"));
    // Names only.
    let told = both.alike("OPTIONS", "/", &question("https://b.example", "PATCH", "x b"));
    assert_eq!(cors_fields(&told), [""; 0]);
    assert_eq!(backend.requests().len(), 6);
}

#[test]
fn a_script_may_read_the_edges_own_errors() {
    let backend = Backend::ok();
    let keys = format!(
        "cors: {{ origins: [\"{ORIGIN}\"] }}, body_limit: 1B, \
         rate_limits: [ {{ key: \"header:x-tenant\", missing: refuse, rate: 1/h }} ]"
    );
    let edge = Edge::start(&route(&backend, &keys));
    let mut both = Both::to(&edge);
    let lines = format!("Origin: {ORIGIN}\r\n");
    let told = both.alike("GET", "/", &lines);
    told.assert_cause(403, "denied (limit_key)");
    assert_eq!(told.field("access-control-allow-origin"), ORIGIN);
    let lines = format!("{lines}X-Tenant: a\r\n");
    assert_eq!(ask(&mut edge.client(), "GET", "/", &lines).status, 200);
    let told = both.alike("GET", "/", &lines);
    told.assert_cause(429, "rate_limited");
    assert_eq!(told.field("access-control-allow-origin"), ORIGIN);
    assert!(told.has("retry-after") && told.has("ratelimit"));
    for name in ["Retry-After", "RateLimit"] {
        assert!(told.field("access-control-expose-headers").contains(name));
    }
    // An endpoint that is not there.
    drop(backend);
    let gone = crate::harness::behave::own_address();
    let cors = format!("cors: {{ origins: [\"{ORIGIN}\"] }}");
    let edge = Edge::start(&Conf::app_with(&[gone], "", &cors));
    let told = Both::to(&edge).alike("GET", "/", &format!("Origin: {ORIGIN}\r\n"));
    told.assert_cause(502, "connect_failed");
    assert_eq!(told.field("access-control-allow-origin"), ORIGIN);
}

#[test]
fn on_fixed_answers_and_redirects() {
    let edge = Edge::start(&Conf::new(format!(
        "routes:\n  fixed: {{ hosts: [{HOST}], respond: {{ status: 200, body: hi }}, cors: \"*\" }}\n  \
         moved: {{ hosts: [{HOST}], path: /moved, redirect: {{ path: /x }}, cors: \"*\" }}\n"
    )));
    let mut both = Both::to(&edge);
    for (target, status) in [("/", 200), ("/moved", 308)] {
        let told = both.alike("GET", target, "Origin: https://b.example\r\n");
        assert_eq!((told.status, told.field("access-control-allow-origin")), (status, "*"));
        let told = both.alike("OPTIONS", target, &question("https://b.example", "GET", ""));
        assert_eq!(told.status, 204);
    }
}
