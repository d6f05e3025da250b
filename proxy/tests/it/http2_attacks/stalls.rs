//! Clients that stop in the middle: every phase has its end, and waiting costs little memory.

use std::time::{Duration, Instant};

use super::raw::{
    CANCEL, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, Outcome, PING,
    PREFACE, RST_STREAM, Raw, block, frame, request, reset, settings, window_update,
};
use super::{assert_alive, assert_others_served, edge, hasty_edge};
use crate::harness::{Backend, Conf, Edge, End, wait_until};

/// A timeout of a second, its tick, and a slow machine.
const SOON: Duration = Duration::from_secs(4);

#[test]
fn a_connection_without_a_first_head_ends() {
    let backend = Backend::ok();
    let edge = hasty_edge(backend.addr);
    let head = block(&request("GET", "/"));
    let opened = [PREFACE, &settings(&[])].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("silence", Vec::new()),
        ("half a preface", PREFACE[..10].to_vec()),
        ("preface", PREFACE.to_vec()),
        ("half of SETTINGS", [PREFACE, &settings(&[(4, 1)])[..12]].concat()),
        ("SETTINGS", opened.clone()),
        ("half a frame head", [&opened[..], &[0, 0]].concat()),
        ("half of HEADERS", [&opened[..], &frame(HEADERS, 4, 1, &head)[..20]].concat()),
        ("no END_HEADERS", [&opened[..], &frame(HEADERS, 0, 1, &head)].concat()),
        ("half of PING", [&opened[..], &frame(PING, 0, 0, [0; 8])[..12]].concat()),
        ("not HTTP/2", b"GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n".to_vec()),
    ];
    // At once: they wait side by side.
    let start = Instant::now();
    let mut open = Vec::new();
    for (what, bytes) in cases {
        let mut raw = Raw::silent(&edge.tls());
        raw.send(bytes);
        open.push((what, raw));
    }
    for (what, mut raw) in open {
        // Answers nothing from here on: not even a GOAWAY's ping.
        let (_, end) = raw.wire.rest();
        assert_ne!(end, End::Timeout, "{what}");
        eprintln!("{what}: closed after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(8), "{what}: after {:?}", start.elapsed());
    }
    assert_eq!(backend.requests().len(), 0);
}

/// Bytes that come one by one do not extend the time for a head.
#[test]
fn a_dripping_head_ends() {
    let edge = hasty_edge(Backend::ok().addr);
    let mut raw = Raw::connect(&edge);
    raw.write_timeout(Duration::from_secs(1));
    let start = Instant::now();
    raw.send(frame(HEADERS, 0, 1, block(&request("GET", "/"))));
    let empty = frame(9, 0, 1, b"");
    wait_until("the edge to end it", || {
        std::thread::sleep(Duration::from_millis(300));
        !raw.try_send(&empty)
    });
    assert!(start.elapsed() < SOON, "after {:?}", start.elapsed());
}

#[test]
fn an_idle_connection_gets_goaway() {
    let backend = Backend::ok();
    let edge = hasty_edge(backend.addr);
    let mut raw = Raw::connect(&edge);
    assert_alive(&mut raw);
    let start = Instant::now();
    assert_eq!(raw.wait(GOAWAY, 0).unwrap().code(), 0);
    assert!(start.elapsed() > Duration::from_millis(800), "after {:?}", start.elapsed());
    raw.wait_closed();
    assert!(start.elapsed() < SOON, "after {:?}", start.elapsed());
}

/// A request that crosses the GOAWAY of an idle connection is still served, however long it takes.
#[test]
fn a_request_that_crosses_goaway_is_served() {
    let (answer, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::script(move |peer| {
        while let Some(request) = peer.request() {
            if request.target() == "/slow" {
                let _ = wait.lock().unwrap().recv();
            }
            peer.send(crate::harness::backend::ok("ok"));
        }
    });
    let edge = hasty_edge(backend.addr);
    let mut raw = Raw::connect(&edge);
    assert_alive(&mut raw);
    // Unread so far: the GOAWAY is on its way and its ping unanswered.
    std::thread::sleep(Duration::from_millis(1800));
    let stream = raw.get("/slow");
    backend.wait_requests(2);
    std::thread::sleep(Duration::from_secs(6));
    answer.send(()).unwrap();
    let answer = raw.answer(stream);
    assert_eq!((answer.status, answer.outcome), (200, Outcome::Complete));
}

#[test]
fn a_silent_body_ends() {
    let backend = Backend::silent();
    let edge = hasty_edge(backend.addr);
    let mut raw = Raw::connect(&edge);
    let start = Instant::now();
    let stream = raw.send_request(&request("POST", "/"), false);
    raw.data(stream, b"some", false);
    // Half a frame is as silent as none.
    raw.send(&frame(DATA, 0, stream, [0; 100])[..50]);
    let answer = raw.answer(stream);
    assert!(answer.status == 408 || answer.refused(), "{answer:?}");
    assert!(start.elapsed() < SOON, "after {:?}", start.elapsed());
    edge.wait_log("cause", "body_timeout");
    assert_ne!(backend.wait_end(0), End::Timeout);
    assert!(backend.requests().iter().all(|r| r.body.cut.is_some()), "never completed");
}

/// Answers that nobody takes are given up, in every size: what hyper waits to send, and what it
/// has taken already.
#[test]
fn a_window_that_never_opens_ends_the_stream() {
    let edge = hasty_edge(Backend::real());
    for (size, window) in [(10, 0), (1000, 0), (1000, 1), (30_000, 1), (1_000_000, 100)] {
        let mut raw = Raw::connect_with(&edge, &[(INITIAL_WINDOW_SIZE, window)]);
        let start = Instant::now();
        let stream = raw.get(&format!("/bytes/{size}"));
        let end = raw.answer_tail(stream);
        let took = start.elapsed();
        eprintln!("{size} bytes, window {window}: {end:?} after {took:?}");
        assert_eq!(end, Outcome::Reset(CANCEL), "{size} bytes, window {window}");
        assert!(took < SOON, "{size} bytes, window {window}: after {took:?}");
    }
    assert_others_served(&edge);
}

/// The same, while another stream of the connection keeps it busy.
#[test]
fn a_busy_neighbour_does_not_hide_a_stalled_stream() {
    let edge = hasty_edge(Backend::real());
    let mut raw = Raw::connect_with(&edge, &[(INITIAL_WINDOW_SIZE, 1)]);
    let stalled = raw.get("/bytes/1000");
    let start = Instant::now();
    let mut ended = false;
    while start.elapsed() < SOON + SOON && !ended {
        let stream = raw.get("/bytes/1");
        let answer = raw.answer(stream);
        ended = answer.outcome != Outcome::Complete || raw.has_reset(stalled);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(ended, "stalled for {:?}", start.elapsed());
}

#[test]
fn a_dripping_window_ends_the_stream() {
    let edge = hasty_edge(Backend::real());
    let mut raw = Raw::connect_with(&edge, &[(INITIAL_WINDOW_SIZE, 0)]);
    raw.write_timeout(Duration::from_secs(1));
    let stream = raw.get("/bytes/1000000");
    let start = Instant::now();
    wait_until("the edge to give up", || {
        std::thread::sleep(Duration::from_millis(100));
        !raw.try_send(window_update(stream, 1)) || raw.poll_reset(stream)
    });
    assert!(start.elapsed() < SOON, "after {:?}", start.elapsed());
}

/// Reads nothing from the socket, with all windows open.
#[test]
fn an_unread_connection_ends() {
    let edge = hasty_edge(Backend::real());
    assert_others_served(&edge);
    let before = edge.rss();
    let mut raw = Raw::connect_with(&edge, &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
    raw.send(window_update(0, 0x7fff_0000));
    for _ in 0..100 {
        raw.get("/bytes/2000000");
    }
    edge.wait_log("cause", "client_gone");
    let grown = edge.peak_rss().saturating_sub(before);
    eprintln!("100 x 2 MB unread: grown by {grown}");
    assert!(grown < 16 << 20, "grew by {grown}");
    assert_others_served(&edge);
}

/// An unread upload: windows, not memory, hold it back.
#[test]
fn uploads_that_nobody_reads_cost_their_window_only() {
    let backend = Backend::script(|peer| {
        if peer.head().is_some() {
            std::thread::park();
        }
    });
    let edge = edge(&backend);
    let before = edge.rss();
    let mut raws = Vec::new();
    for _ in 0..10 {
        let mut raw = Raw::connect(&edge);
        raw.write_timeout(Duration::from_millis(500));
        for _ in 0..8 {
            let stream = raw.send_request(&request("POST", "/"), false);
            // Small frames cost most to keep.
            let bytes: Vec<u8> =
                (0..200).flat_map(|_| frame(DATA, 0, stream, [b'x'; 300])).collect();
            raw.try_send(bytes);
        }
        raws.push(raw);
    }
    let grown = edge.peak_rss().saturating_sub(before);
    eprintln!("10 x 8 unread uploads: grown by {grown}");
    assert!(grown < 32 << 20, "grew by {grown}");
}

/// 200 connections, 100 streams each, no window (design.md #17).
fn stalled_crowd(size: u64) {
    const CONNECTIONS: usize = 200;
    let edge = Edge::start(&Conf::app(&[Backend::real()]));
    assert_others_served(&edge);
    let before = edge.rss();
    let tls = edge.tls();
    let head = block(&request("GET", &format!("/bytes/{size}")));
    let mut crowd = Vec::new();
    let start = Instant::now();
    for n in 0..CONNECTIONS {
        let mut raw = Raw::connect_tls(&tls, &[(INITIAL_WINDOW_SIZE, 0)]);
        let streams = (0..100).map(|_| raw.stream());
        let bytes: Vec<u8> = streams
            .collect::<Vec<_>>()
            .into_iter()
            .flat_map(|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head))
            .collect();
        raw.send(bytes);
        crowd.push(raw);
        if n % 50 == 49 {
            // Behind thousands of requests, but served.
            assert_alive(&mut Raw::connect(&edge));
        }
    }
    // Every stream has its answer, or its refusal.
    let mut heads = 0;
    for raw in &mut crowd {
        for _ in 0..100 {
            let got = raw.wait_kind(HEADERS);
            assert!(got.is_ok(), "{got:?} after {heads} heads");
            heads += 1;
        }
    }
    assert_others_served(&edge);
    let grown = edge.peak_rss().saturating_sub(before);
    let (now, took) = (edge.rss().saturating_sub(before), start.elapsed());
    eprintln!(
        "200 x 100 stalled streams of {size} bytes: grown by {} KiB, at most {} KiB, in {took:?}",
        now >> 10,
        grown >> 10
    );
    assert!(grown < 128 << 20, "grew by {grown}");
    drop(crowd);
    wait_until("the crowd to leave", || {
        edge.metric("edge_connections_open{protocol=\"h2\"}") == 0.0
    });
    eprintln!("after they left: {} KiB", edge.rss().saturating_sub(before) >> 10);
    assert_others_served(&edge);
}

#[test]
fn a_stalled_crowd_of_small_answers() {
    stalled_crowd(1000);
}

#[test]
fn a_stalled_crowd_of_large_answers() {
    stalled_crowd(100_000);
}

/// Answers that are finished for everybody but h2, which cannot write them: the client does not
/// read.
fn pile_up(edge: &Edge) -> (Raw, Vec<u32>) {
    let mut raw = Raw::connect(edge);
    // This one fills the socket.
    let endless = raw.get("/bytes/1000000000");
    raw.send([window_update(0, 0x7fff_0000), window_update(endless, 0x7ffe_0000)].concat());
    let mut finished = Vec::new();
    wait_until("answers to pile up", || {
        if finished.len() < 90 {
            finished.push(raw.get("/bytes/60000"));
        }
        edge.metric("edge_buffered_bytes") >= 1_000_000.0
    });
    raw.send(reset(endless, CANCEL));
    let written = |l: &serde_json::Value| l["path"] == "/bytes/60000" && l["status"] == 200;
    wait_until("them to be finished", || {
        edge.access_log().iter().filter(|l| written(l)).count() == finished.len()
    });
    (raw, finished)
}

/// A client takes its windows back: what it was given already stays in h2, but not for ever.
#[test]
fn answers_pinned_by_a_shrunk_window_are_given_up() {
    let conf = Conf::app(&[Backend::real()]).https("timeouts: { write_progress: 3s }");
    let edge = Edge::start(&conf);
    let (mut raw, finished) = pile_up(&edge);
    raw.send(settings(&[(INITIAL_WINDOW_SIZE, 0)]));
    let start = Instant::now();
    let (mut complete, mut given_up) = (0, 0);
    while complete + given_up < finished.len() {
        let frame = raw.frame().unwrap_or_else(|end| panic!("{end:?} after {given_up} resets"));
        match frame.kind {
            DATA if frame.flags & END_STREAM != 0 => complete += 1,
            RST_STREAM => {
                assert_eq!(frame.code(), CANCEL);
                given_up += 1;
            }
            kind => assert_ne!(kind, GOAWAY),
        }
    }
    eprintln!("{complete} complete, {given_up} given up after {:?}", start.elapsed());
    assert!(given_up >= 10 && start.elapsed() < SOON + SOON, "{given_up}: {:?}", start.elapsed());
    wait_until("nothing to be held", || edge.metric("edge_buffered_bytes") == 0.0);
    raw.send(settings(&[(INITIAL_WINDOW_SIZE, 65_535)]));
    assert_alive(&mut raw);
}

/// The same from a client that reads nothing any more.
#[test]
fn unread_finished_answers_end_with_their_connection() {
    let conf = Conf::app(&[Backend::real()]).https("timeouts: { write_progress: 3s }");
    let edge = Edge::start(&conf);
    let (_raw, _finished) = pile_up(&edge);
    wait_until("nothing to be held", || edge.metric("edge_buffered_bytes") == 0.0);
    wait_until("the connection to end", || {
        edge.metric("edge_connections_open{protocol=\"h2\"}") == 0.0
    });
    assert_others_served(&edge);
}
