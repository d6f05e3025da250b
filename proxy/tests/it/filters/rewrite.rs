//! The path that the endpoint gets.

use super::*;

/// What the endpoint got for each of these targets, over both protocols.
#[track_caller]
fn rewritten(keys: &str, targets: &[(&str, &str)]) -> Backend {
    let backend = Backend::ok();
    let edge = Edge::start(&route(&backend, keys));
    let mut both = Both::to(&edge);
    for (target, expected) in targets {
        let before = backend.requests().len();
        for told in both.ask("GET", target, "") {
            assert_eq!(told.status, 200, "{target}: {told:?}");
        }
        let requests = backend.requests();
        assert_eq!(requests.len(), before + 2);
        let seen = requests.iter().filter(|request| request.target() == *expected).count();
        let expected_count = targets.iter().take_while(|(t, _)| t != target);
        let expected_count = 2 * (expected_count.filter(|(_, e)| e == expected).count() + 1);
        assert_eq!(seen, expected_count, "{target} should be {expected}: {requests:?}");
    }
    backend
}

#[test]
fn a_prefix_is_stripped_in_whole_segments() {
    let backend = rewritten(
        "path: /api, rewrite: { strip_prefix: /api }",
        &[
            ("/api/users?x=1&y=/api", "/users?x=1&y=/api"),
            ("/api", "/"),
            ("/api/", "/"),
            ("/api?q", "/?q"),
            ("/api/api/x", "/api/x"),
            ("//api//users/./1", "/users/1"),
            ("/%61pi/a%20b", "/a%20b"),
            ("/x/../api/z", "/z"),
        ],
    );
    for request in backend.requests() {
        assert_eq!(request.field("x-forwarded-prefix"), "/api");
    }
}

#[test]
fn what_does_not_fit_stays() {
    let backend = rewritten(
        "rewrite: { strip_prefix: /api }",
        &[("/apix", "/apix"), ("/x/api/y", "/x/api/y"), ("/", "/"), ("/API/x", "/API/x")],
    );
    for request in backend.requests() {
        assert!(!request.head.has("x-forwarded-prefix"), "{request:?}");
    }
}

#[test]
fn the_prefix_that_a_client_invents_is_not_believed() {
    let backend = Backend::ok();
    let conf = Conf::app_with(&[backend.addr], "", "rewrite: { strip_prefix: /api }");
    let edge = Edge::start(&conf);
    let mut both = Both::to(&edge);
    both.ask("GET", "/api/x", "X-Forwarded-Prefix: /evil\r\n");
    both.ask("GET", "/other", "X-Forwarded-Prefix: /evil\r\n");
    let prefixes: Vec<Vec<String>> = backend
        .requests()
        .iter()
        .map(|r| r.head.all("x-forwarded-prefix").iter().map(|v| (*v).to_owned()).collect())
        .collect();
    assert_eq!(prefixes.iter().filter(|p| **p == ["/api"]).count(), 2, "{prefixes:?}");
    assert_eq!(prefixes.iter().filter(|p| p.is_empty()).count(), 2, "{prefixes:?}");
}

#[test]
fn a_prefix_is_replaced() {
    let backend = rewritten(
        "rewrite: { prefix: /v1, to: /internal/v2 }",
        &[
            ("/v1/chat?stream=1", "/internal/v2/chat?stream=1"),
            ("/v1", "/internal/v2"),
            ("/v1/", "/internal/v2/"),
            ("/v12/x", "/v12/x"),
        ],
    );
    assert!(backend.requests().iter().all(|request| !request.head.has("x-forwarded-prefix")));
    rewritten("rewrite: { prefix: /, to: /base }", &[("/a?b", "/base/a?b"), ("/", "/base/")]);
}

#[test]
fn a_regex_and_its_groups() {
    rewritten(
        "rewrite: { regex: \"^/u/(?P<id>[0-9]+)(/.*)?$\", to: \"/users/${id}/view$2\" }",
        &[
            ("/u/42", "/users/42/view"),
            ("/u/42/a/b?c=$1", "/users/42/view/a/b?c=$1"),
            ("/u/4x", "/u/4x"),
            ("/x/u/42", "/x/u/42"),
            // As it was normalised, not as it was sent.
            ("/u/%34%32", "/users/42/view"),
            ("/u/42/a%20b", "/users/42/view/a%20b"),
        ],
    );
    rewritten(
        "rewrite: { regex: \"/b+\", to: \"/found$$\" }",
        &[("/a/bbb/c", "/found$"), ("/c", "/c")],
    );
}

#[test]
fn pieces_of_a_path_do_not_lead_out_of_what_the_rule_says() {
    let backend = Backend::ok();
    let edge = Edge::start(&route(
        &backend,
        "rewrite: { regex: \"^/files/([^/]*)/([^/]*)$\", to: \"/data/$1$2/x\" }",
    ));
    let mut both = Both::to(&edge);
    // `.` and `.` are `..` together; so are a dot and an empty piece a dot.
    for target in ["/files/.a/../x", "/files/..a/b"] {
        assert_eq!(both.alike("GET", target, "").status, 200, "{target}");
    }
    let dots = Edge::start(&route(
        &backend,
        "rewrite: { regex: \"^/d/(.)-(.*)$\", to: \"/data/$1$2/x\" }",
    ));
    let mut dots = Both::to(&dots);
    for target in ["/d/.-.", "/d/.-", "/d/.-./../../etc", "/d/.-%2e"] {
        let told = dots.alike("GET", target, "");
        if told.status == 200 {
            // The dot segment was the client's own and is gone before the rule looks.
            continue;
        }
        told.assert_cause(400, "bad_request (rewrite)");
    }
    dots.alike("GET", "/d/.-.", "").assert_cause(400, "bad_request (rewrite)");
    dots.alike("GET", "/d/.-", "").assert_cause(400, "bad_request (rewrite)");
    for request in backend.requests() {
        let target = request.target();
        assert!(!target.split('/').any(|segment| segment == ".." || segment == "."), "{target}");
    }
    // Encoded slashes do not get as far as the rule.
    dots.alike("GET", "/d/.-.%2f..%2fetc", "").assert_cause(400, "bad_request (ambiguous_path)");
}

#[test]
fn a_path_that_grows_too_long_is_refused() {
    let backend = Backend::ok();
    let edge = Edge::start(&route(&backend, "rewrite: { regex: \"^/(.*)$\", to: \"/$1/$1/$1\" }"));
    let mut both = Both::to(&edge);
    assert_eq!(both.alike("GET", &format!("/{}", "a".repeat(5000)), "").status, 200);
    let told = both.alike("GET", &format!("/{}", "a".repeat(6000)), "");
    told.assert_cause(400, "bad_request (rewrite)");
    assert_eq!(backend.requests().len(), 2);
}

#[test]
fn access_looks_at_the_path_before_it_is_rewritten() {
    let backend = Backend::ok();
    let edge = Edge::start(&route(
        &backend,
        "access: { basic_auth: \"ann:{SHA}0nofEXcSAJSXFLGvmfBIpBb11vQ=\", except: [\"/pub/*\"] }, \
         rewrite: { prefix: /secret, to: /pub }",
    ));
    let mut both = Both::to(&edge);
    both.alike("GET", "/secret/a", "").assert_cause(401, "auth_required");
    assert_eq!(both.alike("GET", "/pub/a", "").status, 200);
    let right = "Authorization: Basic YW5uOnJpZ2h0\r\n";
    assert_eq!(both.alike("GET", "/secret/a", right).status, 200);
    assert!(backend.requests().iter().all(|request| request.target() == "/pub/a"));
}

#[test]
fn the_log_has_the_path_that_was_asked_for() {
    let backend = Backend::ok();
    let edge = Edge::start(&route(&backend, "rewrite: { strip_prefix: /api }"));
    ask(&mut edge.client(), "GET", "/api/users?secret=1", "").assert_ok("ok");
    assert_eq!(edge.wait_log("path", "/api/users")["status"], 200);
}

#[test]
fn the_size_of_a_body_is_the_routes_after_its_limits() {
    let backend = Backend::ok();
    let edge = Edge::start(&route(
        &backend,
        "body_limit: 4B, rate_limits: [ { key: client_ip, rate: 2/h } ]",
    ));
    let post = |body: &str| {
        let mut client = edge.client();
        let length = body.len();
        let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n");
        client.send(format!("{head}{body}"));
        client.response()
    };
    // A body that is too large has been counted; beyond the limit its size is not looked at.
    post("12345").assert_cause(413, "body_too_large");
    post("1234").assert_ok("ok");
    post("12345").assert_cause(429, "rate_limited");
    assert_eq!(backend.only().body.bytes, b"1234");
}
