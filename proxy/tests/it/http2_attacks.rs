//! Impolite HTTP/2 clients: raw frames over TLS against the real binary (facts/security.md §3, §5).
//! Every item that hyper and h2 leave open has a scenario here.

mod exchanges;
mod first_answer;
mod floods;
mod heads;
mod raw;
mod stalls;
mod tunnels;
mod uploads;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::harness::{Backend, Conf, Edge};
use raw::{Raw, request};

const HOST: &str = "app.openclaw.example";

/// Short times, so that a test can see them pass.
const TIMEOUTS: &str =
    "timeouts: { head: 1s, http2_idle: 1s, body_progress: 1s, write_progress: 1s }";

fn edge(backend: &Backend) -> Edge {
    Edge::start(&Conf::app(&[backend.addr]))
}

fn hasty_edge(endpoint: SocketAddr) -> Edge {
    Edge::start(&Conf::app(&[endpoint]).https(TIMEOUTS))
}

/// Somebody else is served, and soon.
#[track_caller]
fn assert_others_served(edge: &Edge) {
    let start = Instant::now();
    let mut other = Raw::connect(edge);
    let stream = other.get("/");
    assert_eq!(other.answer(stream).status, 200);
    assert!(start.elapsed() < Duration::from_secs(2), "served after {:?}", start.elapsed());
}

/// The connection still serves.
#[track_caller]
fn assert_alive(raw: &mut Raw) {
    let stream = raw.send_request(&request("GET", "/"), true);
    let answer = raw.answer(stream);
    assert_eq!(answer.status, 200, "{answer:?}");
}
