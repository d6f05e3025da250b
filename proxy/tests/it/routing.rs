//! Which request goes where: hosts, paths, methods, redirects, fixed answers, refusals.

use crate::harness::{Backend, Client, Conf, Edge};

/// A backend named like its route.
fn named(names: &[&'static str]) -> (Vec<Backend>, String) {
    let backends: Vec<Backend> = names.iter().map(|name| Backend::named(name)).collect();
    let mut yaml = "upstreams:\n".to_owned();
    for (name, backend) in names.iter().zip(&backends) {
        yaml.push_str(&format!("  {name}: {{ endpoints: [\"{}\"] }}\n", backend.addr));
    }
    (backends, yaml)
}

#[test]
fn hosts() {
    let (_backends, upstreams) = named(&["exact", "wild"]);
    let edge = Edge::start(&Conf::new(format!(
        "{upstreams}routes:\n\
         \x20 exact: {{ hosts: [app.gw.openclaw.example, App2.Openclaw.Example], upstream: exact }}\n\
         \x20 wild: {{ hosts: [\"*.gw.openclaw.example\"], upstream: wild }}\n"
    )));
    let mut client = edge.client();
    let mut body = |host: &str| client.get(host, "/").text();
    for host in [
        "app.gw.openclaw.example",
        "APP.gw.OPENCLAW.EXAMPLE",
        "app.gw.openclaw.example.",
        "app2.openclaw.example",
    ] {
        assert_eq!(body(host), "exact", "{host}");
    }
    assert_eq!(body("app.gw.openclaw.example:8080"), "exact");
    assert_eq!(body("app.gw.openclaw.example.:80"), "exact");
    assert_eq!(body("other.gw.openclaw.example"), "wild");
    assert_eq!(body("OTHER.gw.openclaw.example:1"), "wild");
    for host in [
        "gw.openclaw.example",
        "a.b.gw.openclaw.example",
        "example",
        "xgw.openclaw.example",
        "192.0.2.1",
        "[::1]",
    ] {
        client.get(host, "/").assert_cause(404, "unknown_host");
    }
    client.assert_usable("app2.openclaw.example");
}

#[test]
fn paths_most_specific_first() {
    let (_backends, upstreams) = named(&["root", "api", "deep", "one"]);
    let edge = Edge::start(&Conf::new(format!(
        "{upstreams}routes:\n\
         \x20 root: {{ hosts: [app.openclaw.example], upstream: root }}\n\
         \x20 api: {{ hosts: [app.openclaw.example], path: /api, upstream: api }}\n\
         \x20 deep: {{ hosts: [app.openclaw.example], path: /api/v1/users, upstream: deep }}\n\
         \x20 one: {{ hosts: [app.openclaw.example], path: {{ exact: /api/v1 }}, upstream: one }}\n"
    )));
    let mut client = edge.client();
    let expected = [
        ("/", "root"),
        ("/apix", "root"),
        ("/api-x", "root"),
        ("/API", "root"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api?x=/api/v1", "api"),
        ("/api/v1", "one"),
        ("/api/v1?q", "one"),
        ("/api/v1/", "api"),
        ("/api/v1/userss", "api"),
        ("/api/v1/users", "deep"),
        ("/api/v1/users/7", "deep"),
    ];
    for (path, route) in expected {
        assert_eq!(client.get("app.openclaw.example", path).text(), route, "{path}");
    }
}

#[test]
fn methods_and_no_route() {
    let (_backends, upstreams) = named(&["write", "read"]);
    let edge = Edge::start(&Conf::new(format!(
        "{upstreams}routes:\n\
         \x20 write: {{ hosts: [app.openclaw.example], path: /x, methods: [POST, PUT], upstream: write }}\n\
         \x20 read: {{ hosts: [app.openclaw.example], path: /x, upstream: read }}\n\
         \x20 only: {{ hosts: [only.openclaw.example], path: /x, methods: [POST], upstream: write }}\n"
    )));
    let mut client = edge.client();
    assert_eq!(client.get("app.openclaw.example", "/x").text(), "read");
    client.send("POST /x HTTP/1.1\r\nHost: app.openclaw.example\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().text(), "write");
    client.get("app.openclaw.example", "/y").assert_cause(404, "no_route");
    client.get("only.openclaw.example", "/x").assert_cause(404, "no_route");
    let line = edge.wait_log("cause", "no_route");
    assert_eq!(
        (line["status"].as_u64(), &line["host"]),
        (Some(404), &"app.openclaw.example".into())
    );
}

#[test]
fn listener_redirects_known_hosts_to_the_public_port() {
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr]).http("redirect_to: https");
    let edge = Edge::start(&conf.clone().https("public_port: 443"));
    let mut client = edge.client();
    let location = |client: &mut Client, path: &str| {
        let response = client.get("APP.openclaw.example:8080", path);
        assert_eq!(response.status, 308, "{response:?}");
        response.header("location").unwrap().to_owned()
    };
    assert_eq!(location(&mut client, "/a/b?c=d&e"), "https://app.openclaw.example/a/b?c=d&e");
    assert_eq!(location(&mut client, "/"), "https://app.openclaw.example/");
    let evil = location(&mut client, "//evil.openclaw.example/x");
    assert!(evil.starts_with("https://app.openclaw.example/"), "{evil}");
    client.get("unknown.openclaw.example", "/").assert_cause(404, "unknown_host");
    assert!(backend.requests().is_empty());

    let edge = Edge::start(&conf);
    let port = edge.https.port();
    let url = format!("https://app.openclaw.example:{port}/x");
    assert_eq!(location(&mut edge.client(), "/x"), url);
    edge.tls_client("app.openclaw.example").get("app.openclaw.example", "/x").assert_ok("ok");
}

#[test]
fn redirect_and_fixed_answers_of_routes() {
    let edge = Edge::start(
        &Conf::new(
            "routes:\n\
             \x20 moved: { hosts: [old.openclaw.example], redirect: { host: new.openclaw.example, status: 301 } }\n\
             \x20 https: { hosts: [plain.openclaw.example], redirect: { https: true } }\n\
             \x20 gone: { hosts: [fixed.openclaw.example], \
                 respond: { status: 410, content_type: text/plain, body: \"gone\\n\" } }\n",
        )
        .https("public_port: 443"),
    );
    let mut client = edge.client();
    let response = client.get("old.openclaw.example", "/a?b");
    assert_eq!(response.status, 301);
    let location = response.header("location").unwrap();
    // The scheme stays: written, or left to the client.
    let rest = location.strip_prefix("http:").unwrap_or(location);
    assert_eq!(rest, "//new.openclaw.example/a?b");
    let response = client.get("plain.openclaw.example", "/a?b");
    assert_eq!(response.status, 308);
    assert_eq!(response.header("location"), Some("https://plain.openclaw.example/a?b"));
    let response = client.get("fixed.openclaw.example", "/any");
    assert_eq!((response.status, response.text().as_str()), (410, "gone\n"));
    assert_eq!(response.header("content-type"), Some("text/plain"));
    client.send("HEAD / HTTP/1.1\r\nHost: fixed.openclaw.example\r\n\r\n");
    let response = client.response_to("HEAD").unwrap();
    assert_eq!((response.status, response.header("content-length")), (410, Some("5")));
    client.send("POST / HTTP/1.1\r\nHost: fixed.openclaw.example\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.response().status, 410);
}

#[test]
fn a_path_exception_keeps_a_backend_path_private() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{}\"] }}\n\
         routes:\n\
         \x20 app: {{ hosts: [app.openclaw.example], upstream: app }}\n\
         \x20 internal: {{ hosts: [app.openclaw.example], path: /internal, respond: {{ status: 404 }} }}\n",
        backend.addr
    )));
    let mut client = edge.client();
    for path in [
        "/internal",
        "/internal/x",
        "//internal/x",
        "/./internal",
        "/x/../internal",
        "/x/%2e%2e/internal/x",
        "/%69nternal",
        "/in%74ernal/",
        "///internal",
    ] {
        assert_eq!(client.get("app.openclaw.example", path).status, 404, "{path}");
    }
    for path in ["/a%2Fb", "/a%2fb", "/a%5Cb", "/a%00b", "/internal%2Fx", "/x/..;/internal"] {
        let response = edge.client().get("app.openclaw.example", path);
        response.assert_cause(400, "bad_request");
    }
    assert!(backend.requests().is_empty(), "{:?}", backend.requests());
    client.get("app.openclaw.example", "/a//b/./c/../%7Ed?q=/../x%2F").assert_ok("ok");
    assert_eq!(backend.only().target(), "/a/b/~d?q=/../x%2F");
}

#[test]
fn without_path_rules_the_target_passes_unchanged() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    let targets = ["/a//b/../c", "/a%2Fb?x=%2F", "/%61;v=1", "/?", "/a?b?c=/..", "/%7e"];
    for target in targets {
        client.get("app.openclaw.example", target).assert_ok("ok");
    }
    let requests = backend.requests();
    let seen: Vec<&str> = requests.iter().map(|r| r.target()).collect();
    assert_eq!(seen, targets);
    client.send("OPTIONS * HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    assert!(matches!(client.response().status, 200 | 204 | 400));
}

#[test]
fn absolute_form_is_routed_by_its_authority() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client
        .send("GET http://app.openclaw.example/x?y HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    client.response().assert_ok("ok");
    let request = backend.only();
    assert_eq!(request.head.first, "GET /x?y HTTP/1.1");
    assert_eq!(request.field("host"), "app.openclaw.example");
}

#[test]
fn misdirected_and_coalesced_hosts_over_tls() {
    let (_backends, upstreams) = named(&["one", "two", "three"]);
    let edge = Edge::start(&Conf::new(format!(
        "{upstreams}certificates:\n\
         \x20 shared: {{ names: [one.openclaw.example, two.openclaw.example, none.openclaw.example], issuer: local }}\n\
         routes:\n\
         \x20 one: {{ hosts: [one.openclaw.example], upstream: one }}\n\
         \x20 two: {{ hosts: [two.openclaw.example], upstream: two }}\n\
         \x20 three: {{ hosts: [three.openclaw.example], upstream: three }}\n"
    )));
    let mut client = edge.tls_client("one.openclaw.example");
    client.get("one.openclaw.example", "/").assert_ok("one");
    client.get("two.openclaw.example", "/").assert_ok("two");
    // Covered by the certificate but not a host of any route.
    client.get("none.openclaw.example", "/").assert_cause(404, "unknown_host");
    edge.tls_client("one.openclaw.example")
        .get("three.openclaw.example", "/")
        .assert_cause(421, "misdirected");
    edge.tls_client("one.openclaw.example")
        .get("unknown.openclaw.example", "/")
        .assert_cause(421, "misdirected");
    edge.tls_client("three.openclaw.example").get("three.openclaw.example", "/").assert_ok("three");
    edge.wait_log("cause", "misdirected");
}

#[test]
fn every_request_of_a_connection_is_routed_by_itself() {
    let (backends, upstreams) = named(&["one", "two"]);
    let edge = Edge::start(&Conf::new(format!(
        "{upstreams}routes:\n\
         \x20 one: {{ hosts: [one.openclaw.example], upstream: one }}\n\
         \x20 two: {{ hosts: [two.openclaw.example], upstream: two }}\n"
    )));
    let mut client = edge.client();
    for _ in 0..2 {
        client.get("one.openclaw.example", "/").assert_ok("one");
        client.get("nowhere.openclaw.example", "/").assert_cause(404, "unknown_host");
        client.get("two.openclaw.example", "/").assert_ok("two");
    }
    assert!(backends.iter().all(|backend| backend.connections() == 1), "connections are pooled");
}

#[test]
fn two_endpoints_take_turns() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let edge = Edge::start(&Conf::app(&[a.addr, b.addr]));
    let mut client = edge.client();
    for _ in 0..6 {
        assert_eq!(client.get("app.openclaw.example", "/").status, 200);
    }
    assert_eq!((a.requests().len(), b.requests().len()), (3, 3));
}

#[test]
fn endpoints_take_turns_and_a_refusing_one_is_passed_over() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let refusing = crate::harness::backend::refusing();
    let edge = Edge::start(&Conf::app(&[a.addr, refusing, b.addr]));
    let mut client = edge.client();
    for _ in 0..6 {
        assert_eq!(client.get("app.openclaw.example", "/").status, 200);
    }
    let counts = (a.requests().len(), b.requests().len());
    assert!(counts.0 >= 2 && counts.1 >= 2, "{counts:?}");
}

/// A refusal costs nothing, so every endpoint may be asked.
#[test]
fn refusing_endpoints_are_passed_over() {
    let backend = Backend::ok();
    let mut addresses: Vec<_> = (0..7).map(|_| crate::harness::backend::refusing()).collect();
    addresses.push(backend.addr);
    let edge = Edge::start(&Conf::app(&addresses));
    for _ in 0..16 {
        assert_eq!(edge.client().get("app.openclaw.example", "/").status, 200);
    }
}

#[test]
fn an_unresolved_name_is_503_and_does_not_stop_the_boot() {
    let edge = Edge::start(&Conf::new(
        "upstreams:\n  app: { endpoints: [\"nowhere.invalid:80\"] }\n\
         routes:\n  app: { hosts: [app.openclaw.example], upstream: app }\n",
    ));
    edge.client().get("app.openclaw.example", "/").assert_cause(503, "dns_failed");
}

#[test]
fn a_resolvable_name_is_used() {
    let backend = Backend::ok();
    let port = backend.addr.port();
    let edge = Edge::start(&Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"localhost:{port}\"] }}\n\
         routes:\n  app: {{ hosts: [app.openclaw.example], upstream: app }}\n"
    )));
    crate::harness::wait_until("the name to be resolved", || {
        edge.client().get("app.openclaw.example", "/").status == 200
    });
}
