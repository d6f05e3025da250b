//! WebSocket through the edge: upgrade, tunnel, end.

use std::time::Duration;

use bytes::Bytes;
use http::Request;

use crate::harness::backend::ok;
use crate::harness::h2c::H2;
use crate::harness::{Backend, Client, Conf, Edge, End, ws};

/// What the first connection began with; frames after the head may not be text.
fn first_bytes(backend: &Backend) -> String {
    let bytes = backend.bytes().remove(0);
    String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]).into_owned()
}

fn echo() -> (Backend, Edge) {
    let backend = Backend::script(ws::serve_echo);
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    (backend, edge)
}

#[test]
fn echo_over_plaintext_and_tls() {
    let (backend, edge) = echo();
    for mut client in [edge.client(), edge.tls_client("app.openclaw.example")] {
        ws::open(&mut client, "app.openclaw.example", "/_next/hmr?id=1");
        for n in [0, 1, 125, 126, 65_536, 1_000_000] {
            client.ws_echo(&"x".repeat(n));
        }
        client.ws_send(ws::PING, b"there?");
        assert_eq!(client.ws_receive(), ws::Frame { opcode: ws::PONG, payload: b"there?".into() });
        client.ws_send(ws::BINARY, &[0, 255, 10, 13]);
        assert_eq!(client.ws_receive().payload, [0, 255, 10, 13]);
        client.ws_send(ws::CLOSE, &1000u16.to_be_bytes());
        assert_eq!(client.ws_receive().opcode, ws::CLOSE);
        client.wire.finish();
        client.assert_closed();
    }
    let line = edge.wait_log("path", "/_next/hmr");
    assert_eq!(line["status"], 101);
    assert!(line["bytes_in"].as_u64() > Some(1_000_000), "{line}");
    let head = first_bytes(&backend).to_lowercase();
    assert!(head.starts_with("get /_next/hmr?id=1 http/1.1\r\n"));
    for field in ["upgrade: websocket", "connection: upgrade", "host: app.openclaw.example"] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field} in {head}");
    }
}

#[test]
fn fields_of_the_opening_and_the_subprotocol_pass() {
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        assert_eq!(head.get("origin"), Some("https://app.openclaw.example"));
        assert_eq!(head.get("sec-websocket-protocol"), Some("a, b"));
        assert_eq!(head.get("sec-websocket-version"), Some("13"));
        assert_eq!(head.get("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(head.get("cookie"), Some("s=1"));
        peer.send(ws::accepting(&head, "Sec-WebSocket-Protocol: b\r\nX-Backend: 1\r\n"));
        peer.wait_end();
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.send(ws::opening(
        "app.openclaw.example",
        "/",
        "Origin: https://app.openclaw.example\r\nSec-WebSocket-Protocol: a, b\r\nCookie: s=1\r\n",
    ));
    let response = client.response();
    assert_eq!(response.status, 101, "{response:?}");
    assert_eq!(response.header("sec-websocket-protocol"), Some("b"));
    assert_eq!(response.header("x-backend"), Some("1"));
}

#[test]
fn the_server_may_speak_first_and_with_its_answer() {
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        let mut bytes = ws::accepting(&head, "").into_bytes();
        bytes.extend(ws::encode(ws::TEXT, b"connect.challenge", false));
        peer.send(bytes);
        peer.wait_end();
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    for mut client in [edge.client(), edge.tls_client("app.openclaw.example")] {
        ws::open(&mut client, "app.openclaw.example", "/");
        assert_eq!(client.ws_receive().payload, b"connect.challenge");
    }
}

#[test]
fn an_answer_that_is_not_http_is_a_clean_502() {
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        if head.has("upgrade") {
            return peer.send("Unauthorized");
        }
        peer.send(ok("fine"));
        peer.wait_end();
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    for client in [edge.client(), edge.tls_client("app.openclaw.example")] {
        let mut client: Client = client;
        client.send(ws::opening(
            "app.openclaw.example",
            "/_next/hmr",
            "Origin: https://evil.openclaw.example\r\n",
        ));
        client.response().assert_cause(502, "upstream_protocol");
    }
    edge.client().get("app.openclaw.example", "/").assert_ok("fine");
    edge.wait_log("cause", "upstream_protocol");
}

#[test]
fn a_refused_upgrade_is_a_normal_answer() {
    let backend = Backend::script(|peer| {
        while let Some(request) = peer.request() {
            let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
            peer.send(if request.head.has("upgrade") { refused.to_owned() } else { ok("ok") });
        }
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.send(ws::opening("app.openclaw.example", "/", ""));
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
    edge.client().get("app.openclaw.example", "/").assert_ok("ok");
}

#[test]
fn early_bytes_wait_for_the_101() {
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        // Nothing but the head may be here before the answer.
        assert!(peer.wire.peek(Duration::from_millis(200)).is_empty());
        peer.send(ws::accepting(&head, ""));
        let frame = ws::receive(&mut peer.wire, true).unwrap();
        peer.send(ws::encode(ws::TEXT, &frame.payload, false));
        peer.wait_end();
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    let mut bytes = ws::opening("app.openclaw.example", "/", "").into_bytes();
    bytes.extend(ws::encode(ws::TEXT, b"early", true));
    client.send(bytes);
    assert_eq!(client.response().status, 101);
    assert_eq!(client.ws_receive().payload, b"early");
}

#[test]
fn the_end_passes_both_ways() {
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        peer.send(ws::accepting(&head, ""));
        if head.first.contains("/backend-ends") {
            return;
        }
        peer.wait_end();
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    ws::open(&mut client, "app.openclaw.example", "/backend-ends");
    client.assert_closed();
    for client in [edge.client(), edge.tls_client("app.openclaw.example")] {
        let mut client: Client = client;
        ws::open(&mut client, "app.openclaw.example", "/client-ends");
        let index = backend.connections() - 1;
        drop(client);
        assert_ne!(backend.wait_end(index), End::Timeout);
    }
    backend.wait_idle();
}

#[test]
fn half_close_passes_the_last_bytes() {
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        peer.send(ws::accepting(&head, ""));
        let (bytes, _) = peer.wire.rest();
        peer.send(bytes);
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    ws::open(&mut client, "app.openclaw.example", "/");
    client.send("last words");
    client.wire.finish();
    let (bytes, end) = client.wire.rest();
    assert_eq!((bytes.as_slice(), end), (&b"last words"[..], End::Closed));
}

#[test]
fn silence_ends_a_tunnel_and_traffic_keeps_it() {
    let backend = Backend::script(ws::serve_echo);
    let conf = Conf::app_with(&[backend.addr], "timeouts: { stream_idle: 600ms, idle: 100ms }", "");
    let edge = Edge::start(&conf);
    let mut client = edge.client();
    ws::open(&mut client, "app.openclaw.example", "/");
    for n in 0..8 {
        client.ws_echo(&n.to_string());
        std::thread::sleep(Duration::from_millis(150));
    }
    client.assert_closed();
    edge.wait_log("cause", "stream_idle");
    assert_ne!(backend.wait_end(0), End::Timeout);
}

#[test]
fn only_websocket_is_upgraded() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client
        .send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n");
    client.response().assert_ok("ok");
    let request = backend.only();
    assert!(!request.head.has("upgrade") && !request.head.has("connection"), "{request:?}");
}

#[test]
fn over_http2() {
    let (backend, edge) = echo();
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    h2.run_for(Duration::from_millis(100));
    assert!(h2.send.is_extended_connect_protocol_enabled(), "SETTINGS announce RFC 8441");
    let request = Request::connect("https://app.openclaw.example/chat?x=1")
        .extension(h2::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .header("origin", "https://app.openclaw.example")
        .body(());
    let (response, mut stream) = h2.open(request.unwrap(), false);
    let (parts, mut body) = h2.block(response).unwrap().into_parts();
    assert_eq!(parts.status, 200);
    let frame = ws::encode(ws::TEXT, b"over h2", true);
    stream.send_data(Bytes::from(frame), false).unwrap();
    let wanted = ws::encode(ws::TEXT, b"over h2", false);
    let mut got = Vec::new();
    while got.len() < wanted.len() {
        got.extend(h2.block(body.data()).expect("the tunnel ended").unwrap());
    }
    assert_eq!(got, wanted);
    let head = first_bytes(&backend);
    assert!(head.starts_with("GET /chat?x=1 HTTP/1.1\r\n"), "{head}");
    stream.send_data(Bytes::new(), true).unwrap();
    h2.run_for(Duration::from_millis(20));
    assert_ne!(backend.wait_end(0), End::Timeout);
}
