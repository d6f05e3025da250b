//! Before a connection has had its first answer, 32 of its exchanges begin and the others wait.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::raw::{CANCEL, GOAWAY, NO_ERROR, Outcome, Raw, WINDOW_UPDATE, request, reset};
use super::{assert_others_served, edge};
use crate::harness::backend::ok;
use crate::harness::{Backend, Conf, Edge, wait_until};

/// Answers one request for every message, and all of them when the sender is gone.
fn held_back() -> (Backend, Sender<()>) {
    let (answer, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::script(move |peer| {
        while let Some(request) = peer.request() {
            let _ = wait.lock().unwrap().recv();
            peer.send(ok(request.target()));
        }
    });
    (backend, answer)
}

fn open(raw: &mut Raw, n: usize) -> Vec<u32> {
    (0..n).map(|n| raw.get(&format!("/{n}"))).collect()
}

/// The edge has decided on so many requests, and only `begun` of them reach the backend.
#[track_caller]
fn assert_begun(edge: &Edge, backend: &Backend, decided: u32, begun: usize) {
    let in_flight = f64::from(decided);
    wait_until("all to be decided", || edge.metric("edge_http_requests_in_flight") == in_flight);
    wait_until("those who begin", || backend.requests().len() >= begun);
    // Nothing tells of what does not happen.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(backend.requests().len(), begun);
}

fn targets(backend: &Backend) -> BTreeSet<usize> {
    backend.requests().iter().map(|r| r.target()[1..].parse().unwrap()).collect()
}

#[test]
fn thirty_two_begin_and_the_others_follow_the_first_answer() {
    let (backend, answer) = held_back();
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let streams = open(&mut raw, 100);
    assert_begun(&edge, &backend, 100, 32);
    assert_eq!(targets(&backend), (0..32).collect(), "in the order of arrival");
    answer.send(()).unwrap();
    backend.wait_requests(100);
    drop(answer);
    for stream in streams {
        assert_eq!(raw.answer(stream).status, 200);
    }
    // No limit from here on.
    let streams = open(&mut raw, 100);
    for stream in streams {
        assert_eq!(raw.answer(stream).status, 200);
    }
}

#[test]
fn resets_make_room_and_leave_the_queue() {
    let (backend, answer) = held_back();
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let streams = open(&mut raw, 50);
    assert_begun(&edge, &backend, 50, 32);
    // One that waits: the backend never hears of it.
    raw.send(reset(streams[33], CANCEL));
    edge.wait_log("path", "/33");
    assert_begun(&edge, &backend, 49, 32);
    // Three that had begun: the next three take their places.
    for stream in [7, 0, 31] {
        raw.send(reset(streams[stream], CANCEL));
    }
    assert_begun(&edge, &backend, 46, 35);
    assert_eq!(targets(&backend), (0..36).filter(|n| *n != 33).collect());
    drop(answer);
    for (n, stream) in streams.into_iter().enumerate() {
        if ![33, 7, 0, 31].contains(&n) {
            assert_eq!(raw.answer(stream).status, 200, "/{n}");
        }
    }
    assert_eq!(backend.requests().len(), 49);
}

#[test]
fn a_drain_serves_those_who_wait() {
    let (backend, answer) = held_back();
    let mut edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let streams = open(&mut raw, 50);
    assert_begun(&edge, &backend, 50, 32);
    edge.sigterm();
    assert_eq!(raw.wait(GOAWAY, 0).unwrap().code(), NO_ERROR);
    let last = raw.wait(GOAWAY, 0).unwrap();
    assert_eq!(last.payload[..4], streams[49].to_be_bytes(), "those who wait will be served");
    assert_begun(&edge, &backend, 50, 32);
    drop(answer);
    for stream in streams {
        let answer = raw.answer(stream);
        assert_eq!((answer.status, answer.outcome), (200, Outcome::Complete));
    }
    raw.wait_closed();
    assert!(edge.wait_exit().success());
}

/// The first 32 are never answered: their timeout is the first answer.
#[test]
fn timeouts_of_the_first_let_the_others_through() {
    let backend = Backend::script(|peer| {
        while peer.request().is_some() {
            if peer.index >= 32 {
                peer.send(ok("ok"));
            }
        }
    });
    let edge = Edge::start(&Conf::app_with(&[backend.addr], "timeouts: { first_byte: 1s }", ""));
    let mut raw = Raw::connect(&edge);
    let streams = open(&mut raw, 100);
    let mut count = std::collections::BTreeMap::<u16, usize>::new();
    for stream in streams {
        *count.entry(raw.answer(stream).status).or_default() += 1;
    }
    assert_eq!(count, [(200, 68), (504, 32)].into());
}

/// Exchanges that go on and on: who waits for them has a deadline, and its refusal is an answer
/// that ends the waiting of the others.
#[test]
fn waiting_has_an_end() {
    let backend = Backend::ok();
    let timeouts = "timeouts: { connect: 500ms, first_byte: 500ms }";
    let edge = Edge::start(&Conf::app_with(&[backend.addr], timeouts, ""));
    let mut raw = Raw::connect(&edge);
    for _ in 0..32 {
        raw.send_request(&request("POST", "/"), false);
    }
    let streams = open(&mut raw, 5);
    let mut statuses: Vec<u16> =
        streams.into_iter().map(|stream| raw.answer(stream).status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 503]);
    assert_eq!(edge.wait_log("cause", "over_capacity")["detail"], "streams");
}

/// An answer of the edge itself is an answer.
#[test]
fn own_answers_do_not_wait() {
    let (backend, _answer) = held_back();
    let edge = Edge::start(&Conf::app_with(&[backend.addr], "", "path: /app"));
    let mut raw = Raw::connect(&edge);
    let waiting: Vec<u32> = (0..40).map(|_| raw.get("/app")).collect();
    assert_begun(&edge, &backend, 40, 32);
    let stream = raw.get("/elsewhere");
    assert_eq!(raw.answer(stream).status, 404);
    backend.wait_requests(waiting.len());
}

/// Bodies of waiting requests must not fill the window that those before them need.
#[test]
fn waiting_bodies_starve_nobody() {
    let backend = Backend::ok();
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    raw.wait(WINDOW_UPDATE, 0).unwrap();
    let streams: Vec<u32> =
        (0..40).map(|_| raw.send_request(&request("POST", "/"), false)).collect();
    // All of the connection's window, and of the windows of four that wait.
    for stream in &streams[36..] {
        for _ in 0..16 {
            raw.data(*stream, [b'x'; 16 * 1024], false);
        }
    }
    raw.wait(WINDOW_UPDATE, 0).unwrap();
    raw.data(streams[0], b"the end", true);
    assert_eq!(raw.answer(streams[0]).status, 200);
    for stream in &streams[1..] {
        raw.data(*stream, b"", true);
    }
    for stream in &streams[1..] {
        assert_eq!(raw.answer(*stream).status, 200);
    }
    assert_others_served(&edge);
}
