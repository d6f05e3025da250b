//! Heads that HTTP/2 forbids or that HTTP/1.1 behind us would misread.

use super::raw::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fields, GOAWAY, HEADERS, Outcome, PING,
    RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, block, frame, literal, request, window_update,
};
use super::{HOST, assert_alive, assert_others_served, edge};
use crate::harness::Backend;

fn with<'a>(more: &[(&'a str, &'a [u8])]) -> Fields<'a> {
    [request("GET", "/"), more.to_vec()].concat()
}

fn without<'a>(name: &str) -> Fields<'a> {
    request("GET", "/").into_iter().filter(|(n, _)| *n != name).collect()
}

/// Each is refused, and the backend hears nothing of it.
#[test]
fn malformed_heads_reach_nobody() {
    let cases: Vec<(&str, Fields<'_>)> = vec![
        ("no method", without(":method")),
        ("no path", without(":path")),
        ("no scheme", without(":scheme")),
        ("two paths", with(&[(":path", b"/b")])),
        ("two authorities", with(&[(":authority", b"b.openclaw.example")])),
        ("pseudo after regular", [vec![("accept", &b"*"[..])], request("GET", "/")].concat()),
        ("unknown pseudo", with(&[(":colour", b"red")])),
        ("response pseudo", with(&[(":status", b"200")])),
        ("empty path", [without(":path"), vec![(":path", b"")]].concat()),
        ("relative path", [without(":path"), vec![(":path", b"x")]].concat()),
        ("absolute path", [without(":path"), vec![(":path", b"http://b.example/")]].concat()),
        ("space in path", [without(":path"), vec![(":path", b"/a HTTP/1.1\r\nX: y")]].concat()),
        ("star with GET", [without(":path"), vec![(":path", b"*")]].concat()),
        ("upper case name", with(&[("X-Upper", b"1")])),
        ("space in name", with(&[("a b", b"1")])),
        ("colon in name", with(&[("a:b", b"1")])),
        ("CRLF in name", with(&[("a\r\nb", b"1")])),
        ("empty name", with(&[("", b"1")])),
        ("CR in value", with(&[("a", b"1\r2")])),
        ("LF in value", with(&[("a", b"1\nhost: b.openclaw.example")])),
        ("NUL in value", with(&[("a", b"1\x002")])),
        (
            "CRLF in method",
            [without(":method"), vec![(":method", b"GET / HTTP/1.1\r\nA: b")]].concat(),
        ),
        ("connection", with(&[("connection", b"close")])),
        ("keep-alive", with(&[("keep-alive", b"1")])),
        ("transfer-encoding", with(&[("transfer-encoding", b"chunked")])),
        ("upgrade", with(&[("upgrade", b"h2c")])),
        ("proxy-connection", with(&[("proxy-connection", b"close")])),
        ("te", with(&[("te", b"gzip")])),
        ("two hosts", with(&[("host", HOST.as_bytes()), ("host", HOST.as_bytes())])),
        ("host differs", with(&[("host", b"b.openclaw.example")])),
        ("bad authority", [without(":authority"), vec![(":authority", b"a@b")]].concat()),
        ("no authority", without(":authority")),
        ("two lengths", with(&[("content-length", b"1"), ("content-length", b"2")])),
        ("bad length", with(&[("content-length", b"+1")])),
        ("CONNECT", vec![(":method", b"CONNECT"), (":authority", HOST.as_bytes())]),
        ("CONNECT with path", request("CONNECT", "/")),
        ("CONNECT to anything", [request("CONNECT", "/"), vec![(":protocol", b"ip")]].concat()),
        ("TRACE", request("TRACE", "/")),
        (":protocol with GET", [request("GET", "/"), vec![(":protocol", b"websocket")]].concat()),
    ];
    let backend = Backend::ok();
    let edge = edge(&backend);
    for (what, fields) in &cases {
        let mut raw = Raw::connect(&edge);
        let stream = raw.send_request(fields, true);
        let answer = raw.answer(stream);
        let told = matches!(answer.status, 400 | 405 | 421);
        assert!(answer.refused() || told, "{what}: {answer:?}");
        assert_eq!(backend.requests().len(), 0, "{what} reached the backend");
    }
    assert_others_served(&edge);
}

#[test]
fn refusals_have_their_status_and_the_connection_survives() {
    let backend = Backend::ok();
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let star: Fields<'_> = [without(":path"), vec![(":path", &b"*"[..])]].concat();
    let forty_kb = vec![b'v'; 40_000];
    let big = with(&[("x-big", &forty_kb)]);
    let names: Vec<String> = (0..101).map(|n| format!("x-{n}")).collect();
    let many: Fields<'_> = names.iter().map(|name| (name.as_str(), &b"1"[..])).collect();
    let one_more = [&many[..100], &[("cookie", &b"a=1"[..]); 2]].concat();
    let crumbs: Fields<'_> = (0..900).map(|_| ("cookie", &b"a=1"[..])).collect();
    let other: Fields<'_> =
        [without(":authority"), vec![(":authority", &b"other.openclaw.example"[..])]].concat();
    let cases: Vec<(&str, Fields<'_>, u16, &str)> = vec![
        (
            "two hosts",
            with(&[("host", HOST.as_bytes()), ("host", HOST.as_bytes())]),
            400,
            "bad_request",
        ),
        ("host differs", with(&[("host", b"b.openclaw.example")]), 400, "bad_request"),
        ("star", star, 400, "bad_request"),
        ("TRACE", request("TRACE", "/"), 405, "method_refused"),
        (
            "CONNECT",
            [request("CONNECT", "/"), vec![(":protocol", b"ip")]].concat(),
            405,
            "method_refused",
        ),
        ("40 KB", big, 431, "head_too_large"),
        ("101 fields", [request("GET", "/"), many].concat(), 431, "head_too_large"),
        ("100 and a cookie", [request("GET", "/"), one_more].concat(), 431, "head_too_large"),
        ("900 crumbs", [request("GET", "/"), crumbs].concat(), 431, "head_too_large"),
        ("another host", other, 421, "misdirected"),
    ];
    for (what, fields, status, cause) in cases {
        let stream = raw.send_block(&block(&fields), true);
        let answer = raw.answer(stream);
        assert_eq!((answer.status, answer.outcome), (status, Outcome::Complete), "{what}");
        assert!(
            String::from_utf8_lossy(&answer.body).contains(&format!("cause: {cause}")),
            "{what}"
        );
        edge.wait_log("cause", cause);
    }
    assert_eq!(backend.requests().len(), 0);
    assert_alive(&mut raw);
}

#[test]
fn own_answers_to_head_have_no_body() {
    let backend = Backend::ok();
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let mut fields = request("HEAD", "/");
    fields[2].1 = b"other.openclaw.example";
    let stream = raw.send_request(&fields, true);
    let answer = raw.answer(stream);
    assert_eq!((answer.status, answer.outcome), (421, Outcome::Complete));
    assert!(answer.body.is_empty(), "{answer:?}");
}

#[test]
fn crumbs_within_the_limits_become_one_cookie() {
    let backend = Backend::ok();
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    // In the dynamic table first, then by references of one byte each.
    let mut head = block(&request("GET", "/"));
    literal(&mut head, 0x40, "cookie", b"a=1");
    head.extend([0xbe; 40]);
    let stream = raw.send_block(&head, true);
    assert_eq!(raw.answer(stream).status, 200);
    assert_eq!(backend.only().field("cookie"), ["a=1"; 41].join("; "));
}

/// However many crumbs: they are one field, here among 100.
#[test]
fn crumbs_count_as_one_field() {
    let backend = Backend::ok();
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let names: Vec<String> = (0..99).map(|n| format!("x-{n}")).collect();
    let mut fields = request("GET", "/");
    fields.extend(names.iter().map(|name| (name.as_str(), &b"1"[..])));
    fields.extend([("cookie", &b"a=1"[..]); 200]);
    let stream = raw.send_block(&block(&fields), true);
    assert_eq!(raw.answer(stream).status, 200);
    assert_eq!(backend.only().field("cookie"), ["a=1"; 200].join("; "));
}

/// 32 KiB of fields (RFC 9113 §10.5.1: 32 bytes more for each) and target, 16 KiB of target.
#[test]
fn heads_at_their_limits_pass_and_one_byte_more_does_not() {
    let backend = Backend::ok();
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let most = 32 * 1024 - ("x-big".len() + 32 + "/".len());
    for (bytes, status) in [(most, 200), (most + 1, 431)] {
        let stream = raw.send_block(&block(&with(&[("x-big", &vec![b'v'; bytes])])), true);
        assert_eq!(raw.answer(stream).status, status, "{bytes} bytes");
    }
    for (bytes, status) in [(16 * 1024, 200), (16 * 1024 + 1, 414)] {
        let target = format!("/{}", "t".repeat(bytes - 1));
        let stream = raw.send_block(&block(&request("GET", &target)), true);
        assert_eq!(raw.answer(stream).status, status, "{bytes} bytes of target");
    }
    assert_eq!(backend.requests().len(), 2);
    assert_alive(&mut raw);
}

/// Frames that end the connection, at once (RFC 9113 §5.4.1).
#[test]
fn frame_errors_end_the_connection() {
    let head = block(&request("GET", "/"));
    let get = |stream: u32| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("even stream", get(2)),
        ("stream 0", get(0)),
        ("decreasing stream", [get(5), get(3)].concat()),
        ("DATA on stream 0", frame(DATA, 0, 0, b"x")),
        ("DATA on an idle stream", frame(DATA, 0, 9, b"x")),
        ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, 8u32.to_be_bytes())),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 9, 8u32.to_be_bytes())),
        ("short RST_STREAM", [get(1), frame(RST_STREAM, 0, 1, b"xx")].concat()),
        ("WINDOW_UPDATE 0", window_update(0, 0)),
        ("window overflow", window_update(0, 0x7fff_ffff)),
        ("short WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, b"x")),
        ("short SETTINGS", frame(SETTINGS, 0, 0, b"xxx")),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, b"")),
        ("SETTINGS ack with payload", frame(SETTINGS, 1, 0, [0; 6])),
        ("too large a window", super::raw::settings(&[(4, 0x8000_0000)])),
        ("too small a frame size", super::raw::settings(&[(5, 1)])),
        ("short PING", frame(PING, 0, 0, b"x")),
        ("PING on a stream", frame(PING, 0, 1, [0; 8])),
        ("CONTINUATION alone", frame(CONTINUATION, END_HEADERS, 1, &head)),
        ("interleaved", [frame(HEADERS, 0, 1, &head), frame(PING, 0, 0, [0; 8])].concat()),
        ("oversized", frame(DATA, 0, 0, vec![0; 20_000])),
        ("PUSH_PROMISE", frame(5, END_HEADERS, 1, [&[0, 0, 0, 2], &head[..]].concat())),
        ("table size", frame(HEADERS, END_HEADERS | END_STREAM, 1, [0x3f, 0xff, 0xff, 0x7f])),
        ("index", frame(HEADERS, END_HEADERS | END_STREAM, 1, [0xff, 0x20])),
        ("integer", frame(HEADERS, END_HEADERS | END_STREAM, 1, [0xff; 12])),
        ("cut string", frame(HEADERS, END_HEADERS | END_STREAM, 1, [0x00, 0x05, b'a'])),
    ];
    let backend = Backend::ok();
    let edge = edge(&backend);
    for (what, bytes) in cases {
        let mut raw = Raw::connect(&edge);
        raw.send(bytes);
        let goaway = raw.wait(GOAWAY, 0);
        assert!(goaway.is_ok_and(|frame| frame.code() != 0), "{what}: no GOAWAY with an error");
        let (took, _) = raw.wait_closed();
        assert!(took.as_secs() < 1, "{what}: closed after {took:?}");
    }
    assert_others_served(&edge);
}
