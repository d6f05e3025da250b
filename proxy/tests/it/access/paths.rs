//! Excepted paths, in every spelling: the rule and the backend read the same one.

use super::*;

const EXCEPT: &str = "except: [/oauth/callback, \"/webhook/*\"]";

fn guarded(backend: &Backend) -> Conf {
    conf(backend, &format!("basic_auth: \"{ANN}\", {EXCEPT}"))
}

/// Targets that nothing is asked for, and what the backend gets.
const OPEN: [(&str, &str); 21] = [
    ("/oauth/callback", "/oauth/callback"),
    ("/oauth/callback?code=1&state=//..", "/oauth/callback?code=1&state=//.."),
    ("/oauth/callback?", "/oauth/callback?"),
    ("//oauth//callback", "/oauth/callback"),
    ("/./oauth/./callback", "/oauth/callback"),
    ("/x/../oauth/callback", "/oauth/callback"),
    ("/%6fauth/call%62ack", "/oauth/callback"),
    ("/admin/%2e%2e/oauth/callback", "/oauth/callback"),
    ("/../../oauth/callback", "/oauth/callback"),
    ("/webhook", "/webhook"),
    ("/webhook/", "/webhook/"),
    ("/webhook/a/b", "/webhook/a/b"),
    ("/webhook//a", "/webhook/a"),
    ("/webhook/../webhook/a", "/webhook/a"),
    ("/webhook/%2e/a", "/webhook/a"),
    ("/webhook/a;b=c", "/webhook/a;b=c"),
    ("/webhook/...", "/webhook/..."),
    ("/webhook/%252e%252e/admin", "/webhook/%252e%252e/admin"),
    ("/webhook/%c3%a9", "/webhook/%C3%A9"),
    ("/webhook/a..", "/webhook/a.."),
    ("/webhook?/../admin", "/webhook?/../admin"),
];

/// Targets that look like them.
const GUARDED: [&str; 27] = [
    "/",
    "/admin",
    "/oauth",
    "/oauth/",
    "/oauth/callback/",
    "/oauth/callback//",
    "/oauth/callback/.",
    "/oauth/callback/x",
    "/oauth/callback;x",
    "/oauth/callback%20",
    "/oauth/callback%3f",
    "/oauth/callback%23",
    "/OAuth/callback",
    "/oauth/Callback",
    "/oauth/callback/../admin",
    "/oauth/callback/../../admin",
    "/webhooks",
    "/webhook;x",
    "/webhook.",
    "/Webhook/a",
    "/webhook/..",
    "/webhook/../admin",
    "/webhook/%2e%2e/admin",
    "/webhook/.%2E/admin",
    "/webhook/a/../../admin",
    "/webhook//../admin",
    "//admin/webhook/a",
];

/// Targets of which there are two readings.
const REFUSED: [&str; 14] = [
    "/webhook/..%2fadmin",
    "/webhook%2f..%2fadmin",
    "/webhook/%2F../admin",
    "/oauth%2Fcallback",
    "/webhook/..;/admin",
    "/webhook/..;a=b/admin",
    "/webhook/%2e%2e;/admin",
    "/webhook/.;/a",
    "/webhook\\..\\admin",
    "/webhook/%5c../admin",
    "/webhook/%00/../admin",
    "/webhook/%",
    "/webhook/%zz",
    "/webhook/%u002e/admin",
];

#[test]
fn every_spelling_is_one_path_for_the_rule_and_the_backend() {
    let backend = Backend::ok();
    let edge = Edge::start(&guarded(&backend));
    let (mut h1, h2) = (edge.client(), H2::connect(&edge.tls(), HOST));
    for (target, normal) in OPEN {
        let response = ask(&mut h1, "GET", target, "");
        assert_eq!(response.status, 200, "{target}: {response:?}");
        let response = ask_h2(&h2, "GET", target, "");
        assert_eq!(response.status, 200, "{target}: {response:?}");
        let requests = backend.requests();
        // Its connections are listed in order, so the last one is not always the latest.
        let seen = requests.iter().filter(|request| request.target() == normal).count();
        let expected = OPEN.iter().take_while(|(t, _)| *t != target).filter(|(_, n)| *n == normal);
        assert_eq!(seen, 2 * (expected.count() + 1), "{target}: {requests:?}");
    }
    assert_eq!(backend.requests().len(), 2 * OPEN.len());
}

#[test]
fn no_other_path_comes_around_the_guard() {
    let backend = Backend::ok();
    let edge = Edge::start(&guarded(&backend));
    let mut both = Both::to(&edge);
    for target in GUARDED {
        both.assert(target, "", 401, "auth_required");
        both.assert(target, &line("ann", "right"), 200, "");
    }
    for request in backend.requests() {
        let target = request.target();
        assert!(!target.contains("//") && !target.contains("/../") && !target.contains("/./"));
        assert!(!request.head.has("authorization"), "{target}");
    }
}

#[test]
fn two_readings_are_refused_before_anything_else() {
    let backend = Backend::ok();
    let edge = Edge::start(&guarded(&backend));
    let mut h1 = edge.client();
    let h2 = H2::connect(&edge.tls(), HOST);
    for target in REFUSED {
        for lines in [String::new(), line("ann", "right")] {
            let response = ask(&mut h1, "GET", target, &lines);
            response.assert_cause(400, "bad_request");
            if response.header("connection") == Some("close") {
                h1 = edge.client();
            }
            // Crate `http` does not send a backslash.
            if !target.contains('\\') {
                ask_h2(&h2, "GET", target, &lines).assert_cause(400, "bad_request");
            }
        }
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn the_form_of_the_target_makes_no_difference() {
    let backend = Backend::ok();
    let edge = Edge::start(&guarded(&backend));
    for (target, status) in [
        (format!("http://{HOST}/webhook/a"), 200),
        (format!("http://{HOST}/webhook/../admin"), 401),
        (format!("http://{HOST}"), 401),
        (format!("http://{HOST}?/webhook/a"), 401),
        (format!("HTTP://{HOST}//webhook/./a"), 200),
    ] {
        let response = ask(&mut edge.client(), "GET", &target, "");
        assert_eq!(response.status, status, "{target}: {response:?}");
    }
    // A server-wide question has no path.
    ask(&mut edge.client(), "OPTIONS", "*", "").assert_cause(401, "auth_required");
    // Other names of a path are the client's own invention.
    for name in ["X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X-Forwarded-Uri"] {
        let response = ask(&mut edge.client(), "GET", "/", &format!("{name}: /webhook/a\r\n"));
        response.assert_cause(401, "auth_required");
    }
    for request in backend.requests() {
        assert_eq!(request.target(), "/webhook/a");
    }
}

#[test]
fn other_names_of_a_path_do_not_reach_the_backend_on_an_excepted_one() {
    let backend = Backend::ok();
    let edge = Edge::start(&guarded(&backend));
    let lines = "X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n";
    ask(&mut edge.client(), "GET", "/webhook/a", lines).assert_ok("ok");
    let request = backend.only();
    assert!(!request.head.has("x-original-url") && !request.head.has("x-rewrite-url"));
}

#[test]
fn credentials_for_the_backend_pass_on_excepted_paths_only() {
    let backend = Backend::ok();
    let edge = Edge::start(&guarded(&backend));
    let (mut h1, h2) = (edge.client(), H2::connect(&edge.tls(), HOST));
    let own = "Authorization: Bearer of-the-webhook\r\n";
    ask(&mut h1, "GET", "/webhook/a", own).assert_ok("ok");
    assert_eq!(ask_h2(&h2, "GET", "/webhook/a", own).status, 200);
    let seen = fields(&backend.requests(), "authorization");
    assert_eq!(seen, [["Bearer of-the-webhook"], ["Bearer of-the-webhook"]]);
    ask(&mut h1, "GET", "/admin", own).assert_cause(401, "auth_required");
    ask(&mut h1, "GET", "/admin", &line("ann", "right")).assert_ok("ok");
    let seen = fields(&backend.requests(), "authorization");
    assert_eq!(seen.iter().filter(|values| values.is_empty()).count(), 1);
}

/// Of two routes each has its own demands, and the more specific path wins.
#[test]
fn a_route_below_another_is_guarded_by_its_own_rule() {
    let backend = Backend::ok();
    let addr = backend.addr;
    let edge = Edge::start(&Conf::new(format!(
        "upstreams: {{ app: {{ endpoints: [\"{addr}\"] }} }}\n\
         routes:\n  app: {{ hosts: [{HOST}], upstream: app }}\n  \
         admin: {{ hosts: [{HOST}], path: /admin, upstream: app, access: {{ basic_auth: \"{ANN}\" }} }}\n"
    )));
    let mut both = Both::to(&edge);
    for target in ["/", "/admins", "/admin/../x", "/Admin"] {
        both.assert(target, "", 200, "");
    }
    for target in [
        "/admin",
        "/admin/",
        "/admin/x",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/admin?x",
    ] {
        both.assert(target, "", 401, "auth_required");
    }
    for target in ["/admin%2fx", "/x/..;/admin", "/x%2f..%2fadmin"] {
        both.assert(target, "", 400, "bad_request");
    }
    assert_eq!(backend.requests().len(), 8);
}
