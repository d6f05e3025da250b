//! What happens to the fields of a head on its way up and down.

use crate::harness::backend::Request;
use crate::harness::{Backend, Client, Conf, Edge};

/// Sends one GET with these field lines and returns it as the backend got it.
fn through(conf: &Conf, backend: &Backend, fields: &str) -> (Edge, Request) {
    let edge = Edge::start(conf);
    let mut client = edge.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n{fields}\r\n"));
    assert_eq!(client.response().status, 200);
    let request = backend.only();
    (edge, request)
}

#[test]
fn hop_by_hop_fields_end_here() {
    let backend = Backend::canned(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: x\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok",
    );
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: app.openclaw.example\r\nConnection: X-Foo, keep-alive , TE\r\n\
         X-Foo: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: Basic eA==\r\n\
         TE: gzip\r\nTrailer: x\r\nAccept: a, b\r\n\r\n",
    );
    let response = client.response();
    for name in ["x-secret", "keep-alive", "proxy-connection"] {
        assert!(!response.head.has(name), "{name} came through: {response:?}");
    }
    assert_eq!(response.header("x-kept"), Some("1"));
    let request = backend.only();
    for name in ["x-foo", "keep-alive", "proxy-connection", "te", "connection"] {
        assert!(!request.head.has(name), "{name} went upstream: {request:?}");
    }
    assert_eq!(request.field("accept"), "a, b");
}

#[test]
fn te_trailers_may_pass_and_nothing_else_of_te() {
    let backend = Backend::ok();
    let fields = "TE: gzip, trailers\r\nConnection: TE\r\n";
    let (_edge, request) = through(&Conf::app(&[backend.addr]), &backend, fields);
    assert!(request.head.all("te").iter().all(|te| *te == "trailers"), "{request:?}");
}

#[test]
fn an_untrusted_peer_cannot_forge_identity() {
    let backend = Backend::ok();
    let forged = "X-Forwarded-For: 192.0.2.6\r\nx-forwarded-proto: https\r\nX-Forwarded-Host: e\r\n\
                  X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\nX-Forwarded-Server: e\r\n\
                  X-Real-IP: 192.0.2.6\r\nForwarded: for=192.0.2.6\r\nX-Original-URL: /admin\r\n\
                  X-Rewrite-URL: /admin\r\nProxy: e\r\nX-Request-Id: mine\r\n\
                  X_Forwarded_For: 192.0.2.6\r\n";
    let (edge, request) = through(&Conf::app(&[backend.addr]), &backend, forged);
    assert_eq!(request.field("x-forwarded-for"), "127.0.0.1");
    assert_eq!(request.field("x-real-ip"), "127.0.0.1");
    assert_eq!(request.field("x-forwarded-proto"), "http");
    assert_eq!(request.field("x-forwarded-host"), "app.openclaw.example");
    assert_eq!(request.field("x-forwarded-port"), edge.http.port().to_string());
    for name in ["x-forwarded-prefix", "x-forwarded-server", "forwarded", "x-original-url"] {
        assert!(!request.head.has(name), "{name} went upstream");
    }
    for name in ["x-rewrite-url", "proxy", "x_forwarded_for"] {
        assert!(!request.head.has(name), "{name} went upstream");
    }
    let id = request.field("x-request-id");
    assert!(id.len() >= 16 && id != "mine", "{id}");
    let line = edge.wait_log("request_id", id);
    assert_eq!(line["client"], "127.0.0.1");
}

#[test]
fn a_trusted_peer_is_believed() {
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr]).global("trusted_proxies: [\"127.0.0.0/8\"]");
    let fields = "X-Forwarded-For: 203.0.113.9, 192.0.2.6\r\nX-Forwarded-Proto: https\r\n\
                  X-Forwarded-Host: outer.openclaw.example\r\nX-Request-Id: kept-by-the-edge-123\r\n";
    let (edge, request) = through(&conf, &backend, fields);
    assert_eq!(request.field("x-forwarded-for"), "203.0.113.9, 192.0.2.6, 127.0.0.1");
    assert_eq!(request.field("x-real-ip"), "192.0.2.6");
    assert_eq!(request.field("x-forwarded-proto"), "https");
    assert_eq!(request.field("x-request-id"), "kept-by-the-edge-123");
    let line = edge.wait_log("request_id", "kept-by-the-edge-123");
    assert_eq!(line["client"], "192.0.2.6");
}

#[test]
fn what_a_trusted_peer_says_is_kept() {
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr]).global("trusted_proxies: [\"127.0.0.1\"]");
    let fields = "X-Real-IP: 192.0.2.6\r\nX-Forwarded-Port: 8443\r\n\
                  X-Forwarded-Host: outer.openclaw.example\r\n";
    let (_edge, request) = through(&conf, &backend, fields);
    assert_eq!(request.field("x-real-ip"), "192.0.2.6");
    assert_eq!(request.field("x-forwarded-port"), "8443");
    assert_eq!(request.field("x-forwarded-host"), "outer.openclaw.example");
}

#[test]
fn a_trusted_peer_may_add_a_line_of_its_own() {
    // HAProxy appends a second X-Forwarded-For: the first one is what its client made up.
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr]).global("trusted_proxies: [\"127.0.0.1\"]");
    let fields = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 192.0.2.6\r\n\
                  X-Request-Id: two-lines-0123456789\r\n";
    let (edge, request) = through(&conf, &backend, fields);
    let hops = request.head.all("x-forwarded-for").join(", ");
    assert_eq!(hops, "203.0.113.9, 192.0.2.6, 127.0.0.1");
    assert_eq!(edge.wait_log("request_id", "two-lines-0123456789")["client"], "192.0.2.6");
}

#[test]
fn over_tls_the_backend_learns_scheme_and_port() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]).https("public_port: 443"));
    let mut client = edge.tls_client("app.openclaw.example");
    client.get("app.openclaw.example:443", "/").assert_ok("ok");
    let request = backend.only();
    assert_eq!(request.field("x-forwarded-proto"), "https");
    assert_eq!(request.field("x-forwarded-port"), "443");
    assert!(request.field("host").starts_with("app.openclaw.example"), "Host is kept");
}

#[test]
fn nomination_cannot_remove_what_the_edge_needs() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: app.openclaw.example\r\nContent-Length: 3\r\n\
         Connection: Host, Content-Length, X-Forwarded-For, X-Real-IP, X-Request-Id\r\n\r\nabc",
    );
    client.response().assert_ok("ok");
    let request = backend.only();
    assert_eq!(request.field("host"), "app.openclaw.example");
    assert_eq!(request.body.bytes, b"abc");
    for name in ["x-forwarded-for", "x-real-ip", "x-request-id"] {
        assert!(request.head.has(name), "{name} was removed");
    }
}

#[test]
fn underscore_names_pass_only_when_allowed() {
    let backend = Backend::ok();
    let fields = "X_Odd: 1\r\nX-Even: 2\r\n";
    let (_edge, request) = through(&Conf::app(&[backend.addr]), &backend, fields);
    assert!(!request.head.has("x_odd"));
    assert_eq!(request.field("x-even"), "2");
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr]).http("allow_underscores: true");
    let (_edge, request) = through(&conf, &backend, fields);
    assert_eq!(request.field("x_odd"), "1");
}

#[test]
fn repeated_fields_and_values_pass_as_they_are() {
    let backend = Backend::canned(
        "HTTP/1.1 200 Fine Indeed\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\n\
         Server: Backend/1\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nX-Empty:\r\n\
         ETag: \"x,y\"\r\nContent-Length: 2\r\n\r\nok",
    );
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: app.openclaw.example\r\nAccept: a\r\nX-L: 1\r\nAccept: b\r\nCookie: a=1; b=2\r\n\
         Authorization: Bearer t\r\nOrigin: https://app.openclaw.example\r\nX-Empty:\r\n\
         X-Blank:   spaced  \r\n\r\n",
    );
    let response = client.response();
    assert_eq!(response.head.all("set-cookie"), ["a=1; Path=/", "b=2"]);
    assert_eq!(response.header("server"), Some("Backend/1"));
    assert_eq!(response.header("date"), Some("Mon, 01 Jan 2024 00:00:00 GMT"));
    assert_eq!((response.header("x-empty"), response.header("etag")), (Some(""), Some("\"x,y\"")));
    let request = backend.only();
    assert_eq!(request.head.all("accept"), ["a", "b"]);
    assert_eq!(request.field("cookie"), "a=1; b=2");
    assert_eq!(request.field("authorization"), "Bearer t");
    assert_eq!(request.field("origin"), "https://app.openclaw.example");
    assert_eq!((request.field("x-empty"), request.field("x-blank")), ("", "spaced"));
}

#[test]
fn no_server_field_is_invented() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    assert!(!edge.client().get("app.openclaw.example", "/").head.has("server"));
}

#[test]
fn edits_per_route() {
    let backend = Backend::canned(
        "HTTP/1.1 200 OK\r\nX-Powered-By: x\r\nX-Set: old\r\nX-Add: 1\r\nContent-Length: 2\r\n\r\nok",
    );
    let edge = Edge::start(&Conf::app_with(
        &[backend.addr],
        "",
        "headers: { request: { remove: [X-Gone], set: { X-Set: new }, add: { X-Add: \"2\" } }, \
          response: { remove: [X-Powered-By], set: { X-Set: new }, add: { X-Add: \"2\" } } }",
    ));
    let check = |mut client: Client| {
        client.send(
            "GET / HTTP/1.1\r\nHost: app.openclaw.example\r\nX-Gone: 1\r\nx-set: a\r\nX-Set: b\r\nX-Add: 1\r\n\r\n",
        );
        let response = client.response();
        assert!(!response.head.has("x-powered-by"));
        assert_eq!(response.head.all("x-set"), ["new"]);
        assert_eq!(response.head.all("x-add"), ["1", "2"]);
        let request = backend.requests().pop().unwrap();
        assert!(!request.head.has("x-gone"));
        assert_eq!(request.head.all("x-set"), ["new"]);
        assert_eq!(request.head.all("x-add"), ["1", "2"]);
    };
    check(edge.client());
    check(edge.tls_client("app.openclaw.example"));
}

#[test]
fn hsts_only_over_tls_and_only_where_asked() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  app: {{ hosts: [app.openclaw.example], upstream: app, \
           hsts: {{ max_age: 3600s, include_subdomains: true }} }}\n\
         \x20 off: {{ hosts: [off.openclaw.example], upstream: app }}\n",
        backend.addr
    )));
    let name = "strict-transport-security";
    let response = edge.tls_client("app.openclaw.example").get("app.openclaw.example", "/");
    assert_eq!(response.header(name), Some("max-age=3600; includeSubDomains"));
    assert!(!edge.client().get("app.openclaw.example", "/").head.has(name));
    assert!(
        !edge.tls_client("off.openclaw.example").get("off.openclaw.example", "/").head.has(name)
    );
}

#[test]
fn error_answers_carry_cause_and_request_id_and_no_details_of_the_inside() {
    let refusing = crate::harness::backend::refusing();
    let edge = Edge::start(&Conf::app(&[refusing]));
    let response = edge.client().get("app.openclaw.example", "/");
    response.assert_cause(502, "connect_failed");
    assert!(!format!("{:?}{}", response.head, response.text()).contains("127.0.0.1"));
    let line = edge.wait_log("cause", "connect_failed");
    let id = line["request_id"].as_str().unwrap();
    let told = response.header("x-request-id").map(str::to_owned).unwrap_or_default();
    assert!(told == id || response.text().contains(id), "{response:?} does not name {id}");
}
