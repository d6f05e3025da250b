//! More of something than any honest client sends.

use std::time::{Duration, Instant};

use super::raw::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PING,
    PRIORITY, Raw, SETTINGS, block, frame, literal, request, reset, window_update,
};
use super::{assert_others_served, edge};
use crate::harness::{Backend, Conf, Edge, wait_until};

/// Answers `GET /` of well-behaved clients, and nothing else.
fn half_silent() -> Backend {
    Backend::script(|peer| {
        while let Some(request) = peer.request() {
            if request.target() == "/" {
                peer.send(crate::harness::backend::ok("ok"));
            }
        }
    })
}

fn grown(edge: &Edge, before: u64) -> u64 {
    edge.peak_rss().saturating_sub(before)
}

/// RSS after one connection has been served.
fn warm(edge: &Edge) -> u64 {
    assert_others_served(edge);
    edge.rss()
}

#[test]
fn rapid_reset() {
    let backend = half_silent();
    let edge = edge(&backend);
    let before = warm(&edge);
    let mut raw = Raw::connect(&edge);
    raw.write_timeout(Duration::from_secs(1));
    let mut most = 0;
    for _ in 0..100 {
        let mut bytes = Vec::new();
        for _ in 0..50 {
            let stream = raw.stream();
            let head = block(&request("GET", "/slow"));
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, head));
            bytes.extend(reset(stream, CANCEL));
        }
        let open = raw.try_send(bytes);
        most = most.max(backend.open());
        if !open {
            break;
        }
    }
    assert!(most <= 200, "{most} requests under way at the backend");
    assert_others_served(&edge);
    drop(raw);
    wait_until("cancelled requests to end", || backend.open() <= 2);
    assert!(grown(&edge, before) < 16 << 20, "grew by {}", grown(&edge, before));
}

/// The client makes us reset: each way must be counted.
fn made_you_reset(what: &str, provoke: impl Fn(&mut Raw) -> Vec<u8>) {
    let backend = half_silent();
    let edge = edge(&backend);
    assert_others_served(&edge);
    let mut raw = Raw::connect(&edge);
    raw.write_timeout(Duration::from_secs(1));
    let mut most = 0;
    let mut sent = 0;
    while sent < 3000 {
        let bytes: Vec<u8> = (0..20).flat_map(|_| provoke(&mut raw)).collect();
        if !raw.try_send(bytes) {
            break;
        }
        sent += 20;
        most = most.max(backend.open());
    }
    let (_, codes) = raw.wait_closed();
    assert!(sent < 3000 || codes.iter().any(|code| *code != 0), "{what}: {sent} resets, {codes:?}");
    assert!(most <= 200, "{what}: {most} requests under way at the backend");
    assert_others_served(&edge);
    wait_until("cancelled requests to end", || backend.open() <= 2);
}

#[test]
fn made_you_reset_by_window_update_0() {
    made_you_reset("WINDOW_UPDATE 0", |raw| {
        let stream = raw.stream();
        let head = frame(HEADERS, END_HEADERS, stream, block(&request("POST", "/slow")));
        [head, window_update(stream, 0)].concat()
    });
}

#[test]
fn made_you_reset_by_window_overflow() {
    made_you_reset("overflow", |raw| {
        let stream = raw.stream();
        let head = frame(HEADERS, END_HEADERS, stream, block(&request("POST", "/slow")));
        [head, window_update(stream, 0x7fff_ffff)].concat()
    });
}

#[test]
fn made_you_reset_by_data_after_the_end() {
    made_you_reset("DATA after END_STREAM", |raw| {
        let stream = raw.stream();
        let head = block(&request("GET", "/slow"));
        let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, head);
        [head, frame(DATA, 0, stream, b"x")].concat()
    });
}

#[test]
fn made_you_reset_by_content_length() {
    made_you_reset("content-length", |raw| {
        let stream = raw.stream();
        let fields = [request("POST", "/slow"), vec![("content-length", &b"1"[..])]].concat();
        let head = frame(HEADERS, END_HEADERS, stream, block(&fields));
        [head, frame(DATA, 0, stream, b"xyz")].concat()
    });
}

#[test]
fn continuation_floods() {
    let backend = Backend::ok();
    let edge = edge(&backend);
    let before = warm(&edge);
    for (what, piece) in [("1 KB", 1000usize), ("empty", 0)] {
        let mut raw = Raw::connect(&edge);
        raw.write_timeout(Duration::from_secs(1));
        let stream = raw.stream();
        raw.send(frame(HEADERS, 0, stream, block(&request("GET", "/"))));
        let mut field = Vec::new();
        literal(&mut field, 0x00, "x", &vec![b'v'; piece.saturating_sub(12)]);
        let payload = if piece == 0 { &[][..] } else { &field };
        let bytes = frame(CONTINUATION, 0, stream, payload).repeat(10);
        let sent = 10 * (0..100_000).take_while(|_| raw.try_send(&bytes)).count();
        eprintln!("CONTINUATION, {what}: cut after {sent}");
        assert!(sent < 1_000_000, "{what}: endless");
        raw.wait_closed();
    }
    assert_eq!(edge.metric("edge_http_protocol_errors_total"), 2.0);
    assert!(grown(&edge, before) < 10 << 20, "grew by {}", grown(&edge, before));
    assert_others_served(&edge);
    assert!(backend.requests().len() <= 2);
}

#[test]
fn header_bombs() {
    let backend = Backend::ok();
    let edge = edge(&backend);
    let before = warm(&edge);
    let value = vec![b'v'; 4000];
    for (what, name, value, times) in [
        ("large value", "x-bomb", &value[..], 16_000usize),
        ("crumbs", "cookie", b"a=1", 16_000),
        ("empty crumbs", "cookie", b"", 60_000),
    ] {
        // No window: whatever is answered stays where it is.
        let mut raw = Raw::connect_with(&edge, &[(INITIAL_WINDOW_SIZE, 0)]);
        raw.write_timeout(Duration::from_secs(1));
        for _ in 0..40 {
            let mut head = block(&request("GET", "/"));
            literal(&mut head, 0x40, name, value);
            head.extend(std::iter::repeat_n(0xbe, times));
            raw.send_block(&head, true);
        }
        assert_others_served(&edge);
        assert!(backend.requests().iter().all(|r| !r.head.has(name)), "{what}");
    }
    assert!(grown(&edge, before) < 96 << 20, "grew by {}", grown(&edge, before));
}

#[test]
fn a_header_list_of_a_megabyte() {
    let backend = Backend::ok();
    let edge = edge(&backend);
    let value = vec![b'v'; 1 << 20];
    let mut raw = Raw::connect(&edge);
    raw.write_timeout(Duration::from_secs(1));
    let stream =
        raw.send_block(&block(&[request("GET", "/"), vec![("x", &value[..])]].concat()), true);
    let answer = raw.answer(stream);
    assert!(answer.refused() || answer.status == 431, "{:?}", answer.outcome);
    assert_eq!(backend.requests().len(), 0);
    assert_others_served(&edge);
}

/// Nobody reads what they provoke.
#[test]
fn control_frame_floods() {
    let backend = Backend::silent();
    let edge = Edge::start(&Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  app: {{ hosts: [app.openclaw.example], respond: {{ status: 200 }} }}\n  \
         slow: {{ hosts: [app.openclaw.example], path: /slow, upstream: app }}\n",
        backend.addr
    )));
    let before = warm(&edge);
    type Flood = fn(u32) -> Vec<u8>;
    let floods: [(&str, Flood); 7] = [
        ("PING", |_| frame(PING, 0, 0, [7; 8])),
        ("SETTINGS", |_| frame(SETTINGS, 0, 0, b"")),
        ("PRIORITY", |n| frame(PRIORITY, 0, 2 * n + 3, [0, 0, 0, 1, 9])),
        ("WINDOW_UPDATE", |_| window_update(0, 1)),
        ("unknown", |_| frame(0xee, 0, 0, b"x")),
        ("empty DATA", |_| frame(DATA, 0, 1, b"")),
        ("small DATA", |_| frame(DATA, 0, 1, b"x")),
    ];
    for (what, flood) in floods {
        let mut raw = Raw::connect(&edge);
        raw.write_timeout(Duration::from_secs(2));
        raw.send_request(&request("POST", "/slow"), false);
        let bytes: Vec<u8> = (0..1000).flat_map(flood).collect();
        let start = Instant::now();
        let rounds = (0..20_000).take_while(|_| raw.try_send(&bytes)).count();
        let took = start.elapsed();
        eprintln!("{what}: {rounds} thousand in {took:?}, grown {}", grown(&edge, before));
        assert!(rounds < 20_000, "{what}: never cut");
        assert!(took < Duration::from_secs(5), "{what}: cut after {took:?}");
        assert_others_served(&edge);
    }
    assert!(grown(&edge, before) < 32 << 20, "grew by {}", grown(&edge, before));
}

/// Downloads bring window updates in proportion: that is no flood.
#[test]
fn an_eager_reader_is_no_flood() {
    let edge = Edge::start(&Conf::app(&[Backend::real()]));
    let mut raw = Raw::connect(&edge);
    let size = 100_000_000;
    let stream = raw.get(&format!("/bytes/{size}"));
    let mut left = size;
    let start = Instant::now();
    while left > 0 {
        let data = raw.wait(DATA, stream).unwrap_or_else(|end| panic!("{end:?} with {left} left"));
        left -= data.payload.len();
        // In pieces as small as those of Go's client.
        let mut bytes = Vec::new();
        for piece in data.payload.chunks(4096) {
            let n = u32::try_from(piece.len()).unwrap();
            bytes.extend([window_update(0, n), window_update(stream, n)].concat());
        }
        raw.send(bytes);
    }
    eprintln!("{} window updates in {:?}", size / 2048, start.elapsed());
}
