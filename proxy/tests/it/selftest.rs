//! The harness against itself: its clients and backends agree without an edge between them.

use crate::harness::backend::ok;
use crate::harness::{Backend, Client, End, ws};

#[test]
fn raw_client_and_scripted_backend() {
    let backend = Backend::canned(ok("hello"));
    let mut client = Client::plain(backend.addr);
    client.get("app.openclaw.example", "/a").assert_ok("hello");
    client.send("POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n");
    client.response().assert_ok("hello");
    let requests = backend.requests();
    assert_eq!(requests[1].body.bytes, b"abc");
    assert_eq!(requests[1].body.trailers, [("X-T".to_owned(), "1".to_owned())]);
    drop(client);
    assert_eq!(backend.wait_end(0), End::Closed);
    assert!(backend.bytes()[0].starts_with(b"GET /a HTTP/1.1\r\n"));
}

#[test]
fn a_cut_answer_is_seen_as_cut() {
    let backend = Backend::then_close("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    let response = Client::plain(backend.addr).get("x", "/");
    assert_eq!(response.body.cut, Some(End::Closed));
    let backend =
        Backend::then_close("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let response = Client::plain(backend.addr).get("x", "/");
    assert_eq!(response.body.cut, Some(End::Closed));
}

#[test]
fn websocket_echo() {
    let backend = Backend::script(ws::serve_echo);
    let mut client = Client::plain(backend.addr);
    ws::open(&mut client, "x", "/ws");
    for n in [0, 125, 126, 65_535, 65_536] {
        client.ws_echo(&"a".repeat(n));
    }
    client.ws_send(ws::PING, b"p");
    assert_eq!(client.ws_receive().opcode, ws::PONG);
    client.ws_send(ws::CLOSE, &1000u16.to_be_bytes());
    assert_eq!(client.ws_receive().opcode, ws::CLOSE);
}

#[test]
fn real_backend() {
    let addr = Backend::real();
    let mut client = Client::plain(addr);
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    client.response().assert_ok("abc");
    assert_eq!(client.get("x", "/bytes/100000").body.bytes.len(), 100_000);
    client.send("POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    client.response().assert_ok("3");
}

#[test]
fn accept_key_of_the_rfc() {
    assert_eq!(ws::accept_key(ws::KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}
