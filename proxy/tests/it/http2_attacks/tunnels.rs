//! WebSocket over HTTP/2 (RFC 8441).

use std::time::{Duration, Instant};

use super::exchanges::announced;
use super::raw::{
    CANCEL, DATA, ENABLE_CONNECT_PROTOCOL, END_STREAM, Fields, GOAWAY, HEADERS, Outcome, Raw,
    request, reset,
};
use super::{edge, hasty_edge};
use crate::harness::ws::{self, CLOSE, TEXT, encode, serve_echo};
use crate::harness::{Backend, Conf, Edge, End, wait_until};

fn opening() -> Fields<'static> {
    let more: Fields<'static> = vec![
        (":protocol", b"websocket"),
        ("sec-websocket-version", b"13"),
        ("origin", b"https://app.openclaw.example"),
    ];
    let mut fields = request("CONNECT", "/ws");
    fields.extend(more);
    // Pseudo-header fields come first; these do.
    fields
}

/// Opens a tunnel: the head says 200 and the stream stays open.
pub fn open(raw: &mut Raw) -> u32 {
    let stream = raw.send_request(&opening(), false);
    let head = raw.wait(HEADERS, stream).unwrap();
    assert_eq!(
        (head.payload[0] & 0x80 != 0 || head.payload[1] == 0x88, head.flags & END_STREAM),
        (true, 0)
    );
    stream
}

/// The next message from the tunnel.
fn message(raw: &mut Raw, stream: u32) -> Vec<u8> {
    raw.wait(DATA, stream).unwrap().payload
}

fn echo(raw: &mut Raw, stream: u32, text: &str) {
    raw.data(stream, encode(TEXT, text.as_bytes(), true), false);
    assert_eq!(message(raw, stream), encode(TEXT, text.as_bytes(), false));
}

#[test]
fn a_tunnel_echoes_and_closes() {
    let backend = Backend::script(serve_echo);
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    assert_eq!(announced(&mut raw, ENABLE_CONNECT_PROTOCOL), Some(1));
    let stream = open(&mut raw);
    let second = open(&mut raw);
    for text in ["one", "two", &"x".repeat(10_000)] {
        raw.data(stream, encode(TEXT, text.as_bytes(), true), false);
        let want = encode(TEXT, text.as_bytes(), false);
        let mut got = Vec::new();
        while got.len() < want.len() {
            got.extend(message(&mut raw, stream));
        }
        assert_eq!(got, want);
        echo(&mut raw, second, "other");
    }
    assert_eq!(edge.metric("edge_websocket_connections"), 2.0);
    raw.data(stream, encode(CLOSE, b"\x03\xe8", true), false);
    assert_eq!(message(&mut raw, stream), encode(CLOSE, b"\x03\xe8", false));
    raw.data(stream, b"", true);
    let answer = raw.answer_tail(stream);
    assert_eq!(answer, Outcome::Complete, "the backend closes when it has seen the end");
    echo(&mut raw, second, "still here");
    raw.send(reset(second, CANCEL));
    wait_until("both to end at the backend", || backend.open() == 0);
    wait_until("the gauge", || edge.metric("edge_websocket_connections") == 0.0);
    let bytes = String::from_utf8_lossy(&backend.bytes()[0]).to_lowercase();
    let head = bytes.split("\r\n\r\n").next().unwrap();
    for line in ["get /ws http/1.1", "upgrade: websocket", "sec-websocket-version: 13"] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(head.contains("sec-websocket-key: ") && !head.contains(":protocol"), "{head}");
}

/// The backend ends its half first.
#[test]
fn the_end_of_the_backend_ends_the_tunnel() {
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        peer.send(ws::accepting(&head, ""));
        peer.send(encode(TEXT, b"bye", false));
    });
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let stream = open(&mut raw);
    assert_eq!(message(&mut raw, stream), encode(TEXT, b"bye", false));
    assert_eq!(raw.answer_tail(stream), Outcome::Complete);
}

/// How a tunnel ends is how its attempt is counted.
#[test]
fn tunnels_count_by_their_end() {
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        peer.send(ws::accepting(&head, ""));
        if head.first.contains("/gone") {
            return peer.wire.reset_on_close();
        }
        peer.wait_end();
    });
    let conf = Conf::app_with(&[backend.addr], "timeouts: { stream_idle: 1s }", "");
    let edge = Edge::start(&conf);
    let results =
        |result: &str| edge.metric(&format!("edge_upstream_requests_total{{result=\"{result}\"}}"));
    let mut raw = Raw::connect(&edge);
    let mut gone = opening();
    gone[3].1 = b"/gone";
    let gone = raw.send_request(&gone, false);
    assert_eq!(raw.answer(gone).outcome, Outcome::Reset(CANCEL));
    wait_until("the endpoint's reset", || results("upstream_closed") == 1.0);
    let stream = open(&mut raw);
    raw.send(reset(stream, CANCEL));
    wait_until("the client's reset", || results("client_gone") == 1.0);
    let silent = open(&mut raw);
    assert_eq!(raw.answer_tail(silent), Outcome::Reset(CANCEL));
    wait_until("the silence", || results("stream_idle") == 1.0);
    assert_eq!(results("ok"), 0.0);
    let stream = open(&mut raw);
    raw.data(stream, b"", true);
    assert_eq!(raw.answer_tail(stream), Outcome::Complete);
    wait_until("the good end", || results("ok") == 1.0);
    for cause in ["upstream_closed", "client_gone", "stream_idle"] {
        assert_eq!(edge.wait_log("cause", cause)["status"], 200);
    }
}

/// What the endpoint refuses is an ordinary answer.
#[test]
fn a_refused_tunnel_is_an_answer() {
    let backend = Backend::canned("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let stream = raw.send_request(&opening(), false);
    let answer = raw.answer(stream);
    assert_eq!((answer.status, answer.body.as_slice()), (403, &b"no"[..]));
}

/// No byte goes up before the endpoint has agreed.
#[test]
fn nothing_is_sent_before_the_101() {
    let backend = Backend::silent();
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let stream = raw.send_request(&opening(), false);
    raw.data(stream, b"GET /smuggled HTTP/1.1\r\n\r\n", false);
    backend.wait_requests(1);
    std::thread::sleep(Duration::from_millis(200));
    let bytes = backend.bytes()[0].clone();
    assert!(bytes.ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&bytes));
    assert!(!bytes.windows(8).any(|w| w == b"smuggled"));
    raw.send(reset(stream, CANCEL));
    assert_ne!(backend.wait_end(0), End::Timeout);
}

/// A tunnel is a stream: its connection is not idle.
#[test]
fn a_quiet_tunnel_outlives_the_idle_time() {
    let backend = Backend::script(serve_echo);
    let edge = hasty_edge(backend.addr);
    let mut raw = Raw::connect(&edge);
    let stream = open(&mut raw);
    std::thread::sleep(Duration::from_secs(8));
    echo(&mut raw, stream, "still here");
    // Now it ends, and the connection with it.
    raw.data(stream, encode(CLOSE, b"", true), true);
    assert_eq!(raw.wait(GOAWAY, 0).unwrap().code(), 0);
}

/// Silence for `stream_idle` ends a tunnel, and traffic keeps it.
#[test]
fn silence_ends_a_tunnel_over_http2() {
    let backend = Backend::script(serve_echo);
    let timeouts = "timeouts: { stream_idle: 1s }";
    let edge = Edge::start(&Conf::app_with(&[backend.addr], timeouts, ""));
    let mut raw = Raw::connect(&edge);
    let stream = open(&mut raw);
    let opened = Instant::now();
    while opened.elapsed() < Duration::from_secs(2) {
        echo(&mut raw, stream, "kept");
        std::thread::sleep(Duration::from_millis(200));
    }
    let silent = Instant::now();
    let end = raw.answer_tail(stream);
    assert!(matches!(end, Outcome::Complete | Outcome::Reset(_)), "{end:?}");
    assert!(silent.elapsed() > Duration::from_millis(700), "{:?}", silent.elapsed());
    backend.wait_end(0);
}

/// A client that takes nothing from its tunnel holds the backend back, and costs one window.
#[test]
fn a_tunnel_has_back_pressure() {
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        peer.send(ws::accepting(&head, ""));
        let piece = vec![b'x'; 1 << 20];
        while peer.wire.try_send(&piece).is_ok() {}
        *peer.seen.end.lock().unwrap() = Some(End::Reset);
    });
    let edge = edge(&backend);
    let before = edge.rss();
    let mut raw = Raw::connect(&edge);
    let stream = open(&mut raw);
    std::thread::sleep(Duration::from_millis(700));
    let grown = edge.peak_rss().saturating_sub(before);
    assert!(grown < 8 << 20, "grew by {grown}");
    raw.send(reset(stream, CANCEL));
    assert_ne!(backend.wait_end(0), End::Timeout);
}

#[test]
fn tunnels_end_at_the_drain_deadline() {
    let backend = Backend::script(serve_echo);
    let conf = Conf::app(&[backend.addr]).global("drain: { deadline: 2s }");
    let mut edge = Edge::start(&conf);
    let mut raw = Raw::connect(&edge);
    let stream = open(&mut raw);
    echo(&mut raw, stream, "hello");
    edge.sigterm();
    let start = Instant::now();
    assert_eq!(raw.wait(GOAWAY, 0).unwrap().code(), 0);
    echo(&mut raw, stream, "during the drain");
    raw.wait_closed();
    let took = start.elapsed();
    assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(4), "{took:?}");
    assert!(edge.wait_exit().success());
    assert_eq!(backend.wait_end(0), End::Closed, "FIN, not a reset");
}
