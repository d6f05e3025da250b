//! Security fields: only where the endpoint is silent.

use super::*;

const BASIC: [(&str, &str); 3] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "SAMEORIGIN"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
];

#[test]
fn a_silent_endpoint() {
    let backend = Backend::ok();
    let edge = Edge::start(&route(&backend, "security_headers: basic"));
    let mut both = Both::to(&edge);
    for method in ["GET", "HEAD"] {
        let told = both.alike(method, "/", "");
        for (name, value) in BASIC {
            assert_eq!(told.field(name), value);
        }
        assert!(!told.has("content-security-policy") && !told.has("permissions-policy"));
    }
    let edge = Edge::start(&route(&backend, "security_headers: strict"));
    let told = Both::to(&edge).alike("GET", "/", "");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("content-security-policy", "frame-ancestors 'none'"),
        ("cross-origin-opener-policy", "same-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
    ] {
        assert_eq!(told.field(name), value);
    }
}

#[test]
fn an_endpoint_that_speaks_is_right() {
    let backend = Backend::canned(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-FRAME-OPTIONS: DENY\r\n\
         content-security-policy: default-src 'self'\r\nReferrer-Policy:\r\n\r\nok",
    );
    let edge = Edge::start(&route(&backend, "security_headers: strict"));
    let told = Both::to(&edge).alike("GET", "/", "");
    assert_eq!(told.field("x-frame-options"), "DENY");
    assert_eq!(told.field("content-security-policy"), "default-src 'self'");
    assert_eq!(told.field("x-content-type-options"), "nosniff");
    // Said, if with nothing.
    assert!(told.has("referrer-policy") && told.field("referrer-policy").is_empty());
}

#[test]
fn rules_of_the_route_come_before_the_preset() {
    let backend = Backend::canned(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Frame-Options: ALLOWALL\r\n\r\nok",
    );
    let keys = "security_headers: basic, headers: { response: { remove: [X-Frame-Options], \
        set: { Referrer-Policy: no-referrer } } }";
    let edge = Edge::start(&route(&backend, keys));
    let told = Both::to(&edge).alike("GET", "/", "");
    assert!(!told.has("x-frame-options"), "{told:?}");
    assert_eq!(told.field("referrer-policy"), "no-referrer");
    assert_eq!(told.field("x-content-type-options"), "nosniff");
}

#[test]
fn fixed_answers_have_them_and_a_page_of_our_own_is_not_guessed_at() {
    let edge = Edge::start(&Conf::new(format!(
        "routes:\n  fixed: {{ hosts: [{HOST}], respond: {{ status: 200, content_type: text/html, body: hi }}, \
         security_headers: basic }}\n  \
         closed: {{ hosts: [{HOST}], path: /closed, respond: {{ status: 200 }}, maintenance: on, \
         security_headers: basic }}\n"
    )));
    let mut both = Both::to(&edge);
    let told = both.alike("GET", "/", "");
    for (name, value) in BASIC {
        assert_eq!(told.field(name), value);
    }
    let told = both.alike("GET", "/closed", "Accept: text/html\r\n");
    told.assert_cause(503, "maintenance");
    assert_eq!(told.field("x-content-type-options"), "nosniff");
}
