//! One line per request, with what an operator needs and nothing that must stay secret.

use serde_json::Value;

use crate::harness::h2c::H2;
use crate::harness::{Backend, Conf, Edge, wait_until, ws};

fn app(backend: &Backend) -> Edge {
    Edge::start(&Conf::app(&[backend.addr]))
}

#[test]
fn the_fields_of_a_line() {
    let backend = Backend::canned("HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello");
    let edge = app(&backend);
    let mut client = edge.tls_client("app.openclaw.example");
    client.send(
        "POST /a/b?secret=1 HTTP/1.1\r\nHost: APP.openclaw.example:443\r\nContent-Length: 3\r\n\r\nabc",
    );
    assert_eq!(client.response().status, 201);
    let line = edge.wait_log("path", "/a/b");
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(text("method"), "POST");
    assert!(text("host").to_lowercase().starts_with("app.openclaw.example"), "{line}");
    assert_eq!((text("client"), text("route")), ("127.0.0.1".into(), "app".into()));
    assert_eq!((text("upstream"), text("endpoint")), ("app".into(), backend.addr.to_string()));
    assert_eq!(line["status"], 201);
    assert_eq!(line["bytes_out"].as_u64().map(|n| n >= 5), Some(true), "{line}");
    assert_eq!(line["bytes_in"].as_u64().map(|n| n >= 3), Some(true), "{line}");
    assert!(line["duration_ms"].is_number() && line["first_byte_ms"].is_number(), "{line}");
    assert!(line["cause"].is_null() || line["cause"] == "", "{line}");
    assert!(text("tls").contains("1.3"), "{line}");
    assert!(text("time").starts_with("20") && text("time").ends_with('Z'), "{line}");
    assert_eq!(text("request_id"), backend.only().field("x-request-id"));
    assert!(text("protocol").contains("1.1"), "{line}");
}

#[test]
fn secrets_are_not_written() {
    let backend =
        Backend::canned("HTTP/1.1 200 OK\r\nSet-Cookie: tasty\r\nContent-Length: 2\r\n\r\nok");
    let edge = app(&backend);
    let mut client = edge.client();
    client.send(
        "GET /p?token=hush HTTP/1.1\r\nHost: app.openclaw.example\r\nAuthorization: Bearer hush\r\n\
         Cookie: hush=1\r\nProxy-Authorization: hush\r\nX-Api-Key: hush\r\n\r\n",
    );
    client.response();
    client.get("app.openclaw.example", "/login?password=hush").assert_ok("ok");
    client.get("nowhere.openclaw.example", "/x?hush=hush").assert_cause(404, "unknown_host");
    client.send(
        "GET /bad?hush HTTP/1.1\r\nHost: app.openclaw.example\r\nAuthorization : hush\r\n\r\n",
    );
    client.response();
    wait_until("all lines", || edge.access_log().len() == 4);
    let text = edge.access_log_lines().join("\n") + &edge.stderr();
    assert!(!text.contains("hush") && !text.contains("tasty"), "{text}");
}

#[test]
fn hostile_bytes_do_not_forge_lines() {
    let backend = Backend::ok();
    let edge = app(&backend);
    let mut sent = 0;
    for path in [
        "/a\"b",
        "/a\\n",
        "/%0d%0a{\"x\":1}",
        "/<script>",
        "/'",
        "/{}",
        "/\u{202e}x",
        "/\u{1b}[31m",
    ] {
        let mut client = edge.client();
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: app.openclaw.example\r\nUser-Agent: \"\\\r\n\r\n"
        ));
        if client.response_to("GET").is_ok() {
            sent += 1;
        }
    }
    let mut client = edge.client();
    client.send("G\"ET / HTTP/1.1\r\nHost: a\"b\r\n\r\n");
    let _ = client.response_to("GET");
    edge.client().get("app.openclaw.example", "/last").assert_ok("ok");
    edge.wait_log("path", "/last");
    assert!(sent >= 5);
    for line in edge.access_log_lines() {
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        assert!(value.is_object());
        let tame = |c: char| !c.is_control() && c != '\u{202e}';
        assert!(line.chars().all(tame), "{line:?}");
    }
}

#[test]
fn refused_requests_have_lines_with_causes() {
    let backend = Backend::ok();
    let edge = app(&backend);
    edge.client().get("nowhere.openclaw.example", "/").assert_cause(404, "unknown_host");
    let line = edge.wait_log("cause", "unknown_host");
    assert_eq!(
        (line["status"].as_u64(), &line["host"]),
        (Some(404), &"nowhere.openclaw.example".into())
    );
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\n\r\n");
    client.response().assert_cause(400, "bad_request");
    assert_eq!(edge.wait_log("cause", "bad_request")["status"], 400);
}

#[test]
fn off_per_route_and_in_all() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  app: {{ hosts: [app.openclaw.example], upstream: app }}\n\
         \x20 quiet: {{ hosts: [quiet.openclaw.example], upstream: app, access_log: false }}\n",
        backend.addr
    )));
    let mut client = edge.client();
    client.get("quiet.openclaw.example", "/quiet").assert_ok("ok");
    client.get("app.openclaw.example", "/loud").assert_ok("ok");
    edge.wait_log("path", "/loud");
    assert!(!edge.access_log_lines().join("").contains("/quiet"));
    let silent = Edge::start(&Conf::app(&[backend.addr]).global("log: { access: off }"));
    silent.client().get("app.openclaw.example", "/x").assert_ok("ok");
    wait_until("the request to be counted", || {
        silent.metric("edge_http_requests_total{route=\"app\"}") == 1.0
    });
    assert_eq!(silent.access_log_lines(), Vec::<String>::new());
}

#[test]
fn text_format() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]).global("log: { access: text }"));
    edge.client().get("app.openclaw.example", "/x?hush").assert_ok("ok");
    wait_until("a line", || !edge.access_log_lines().is_empty());
    let line = edge.access_log_lines().remove(0);
    assert!(line.contains("GET") && line.contains("/x") && line.contains("200"), "{line}");
    assert!(!line.starts_with('{') && !line.contains("hush"), "{line}");
}

#[test]
fn one_line_per_stream_and_tunnel() {
    let backend = Backend::script(ws::serve_echo);
    let plain = Backend::ok();
    let edge = Edge::start(&Conf::new(format!(
        "upstreams:\n  ws: {{ endpoints: [\"{}\"] }}\n  app: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  ws: {{ hosts: [ws.openclaw.example], upstream: ws }}\n\
         \x20 app: {{ hosts: [app.openclaw.example], upstream: app }}\n",
        backend.addr, plain.addr
    )));
    let mut socket = edge.client();
    ws::open(&mut socket, "ws.openclaw.example", "/socket");
    socket.ws_echo("x");
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    for n in 0..3 {
        assert_eq!(h2.get(&format!("https://app.openclaw.example/{n}")).status, 200);
    }
    edge.wait_log("path", "/2");
    assert!(edge.access_log().iter().all(|line| line["path"] != "/socket"), "written at its end");
    drop(socket);
    assert_eq!(edge.wait_log("path", "/socket")["status"], 101);
    assert_eq!(edge.access_log().len(), 4);
}

#[test]
fn a_reader_that_stops_does_not_stop_the_workers() {
    let (lab, backend) = (crate::harness::Lab::new(), Backend::ok());
    let conf = Conf::app(&[backend.addr]).global("log: { queue_bytes: 64KiB }");
    let path = lab.write("edge.yaml", conf.render(lab.path()));
    // Its stdout is a pipe that nobody reads.
    let mut edge = Edge::spawn_unread(&lab, &path);
    edge.wait_ready();
    let mut client = edge.client();
    let path = format!("/{}", "x".repeat(1500));
    for _ in 0..200 {
        client.get("app.openclaw.example", &path).assert_ok("ok");
    }
    wait_until("dropped lines to be counted", || edge.metric("edge_log_dropped_total") > 0.0);
}
