//! Timeouts of a route come before those of its upstream; who leaves takes his request along.

use std::time::{Duration, Instant};

use crate::harness::backend::hanging;
use crate::harness::h2c::{H2, get};
use crate::harness::{Backend, Conf, Edge, End, wait_until};

const HOST: &str = "app.openclaw.example";

/// An upstream with `generous` timeouts, and a route that has its own.
fn edge(backend: std::net::SocketAddr, own: &str) -> Edge {
    let keys = "queue: { size: 0 }, ejection: off";
    Edge::start(&Conf::app_with(&[backend], keys, &format!("timeouts: {{ {own} }}")))
}

/// The clock of a worker may be a tick behind: `at_least` leaves room.
#[track_caller]
fn took(start: Instant, at_least: u64, less_than: u64) {
    let took = start.elapsed();
    let expected = Duration::from_millis(at_least)..Duration::from_millis(less_than);
    assert!(expected.contains(&took), "{took:?}");
}

#[test]
fn connect() {
    let (address, _held) = hanging();
    let edge = edge(address, "connect: 300ms");
    let start = Instant::now();
    edge.client().get(HOST, "/").assert_cause(504, "connect_timeout");
    // With what the policy allows to try again.
    took(start, 200, 1800);
}

#[test]
fn first_byte() {
    let backend = Backend::silent();
    let edge = edge(backend.addr, "first_byte: 300ms");
    let start = Instant::now();
    edge.client().get(HOST, "/").assert_cause(504, "first_byte_timeout");
    took(start, 200, 1200);
    let start = Instant::now();
    let client = H2::connect(&edge.tls(), HOST);
    client.get(&format!("https://{HOST}/")).assert_cause(504, "first_byte_timeout");
    took(start, 200, 1200);
    assert_eq!(backend.requests().len(), 2, "a timeout is no reason to try again");
}

#[test]
fn idle() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let backend = Backend::once(half);
    let edge = edge(backend.addr, "idle: 300ms");
    let start = Instant::now();
    let mut client = edge.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (200, "half"));
    assert!(response.body.cut.is_some_and(|end| end != End::Timeout), "{response:?}");
    took(start, 200, 1500);
}

/// Writes a piece every 50 ms for ever.
fn dripping(head: &'static str) -> Backend {
    Backend::script(move |peer| {
        let Some(_) = peer.request() else { return };
        peer.send(head);
        while peer.wire.try_send("2\r\nok\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    })
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn total_ends_what_is_still_flowing() {
    let backend = dripping(CHUNKED);
    let edge = edge(backend.addr, "total: 600ms");
    let start = Instant::now();
    let mut client = edge.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let response = client.response();
    assert!(response.body.cut.is_some_and(|end| end != End::Timeout), "{response:?}");
    assert!(response.body.bytes.len() > 10, "{response:?}");
    took(start, 500, 1500);
    let start = Instant::now();
    let client = H2::connect(&edge.tls(), HOST);
    let answer = client.get(&format!("https://{HOST}/"));
    assert!(answer.error.is_some(), "{answer:?}");
    took(start, 500, 1500);
    backend.wait_idle();
}

#[test]
fn total_before_the_first_byte() {
    let backend = Backend::silent();
    let edge = edge(backend.addr, "total: 400ms");
    let start = Instant::now();
    let response = edge.client().get(HOST, "/");
    assert_eq!(response.status, 504, "{response:?}");
    took(start, 300, 1300);
}

#[test]
fn without_total_a_stream_goes_on() {
    let backend = dripping(CHUNKED);
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    client.wire.head().unwrap();
    for _ in 0..30 {
        client.wire.until(b"ok\r\n").unwrap();
    }
}

// === the client leaves ===

const CANCELLED: &str = "edge_upstream_cancelled_total{upstream=\"app\"}";

#[track_caller]
fn cancelled_within_a_second(edge: &Edge, backend: &Backend, left: Instant, n: usize) {
    assert_ne!(backend.wait_end(n), End::Timeout);
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    wait_until("the count", || edge.metric(CANCELLED) > f64::from(u32::try_from(n).unwrap()) + 0.5);
}

#[test]
fn a_client_that_leaves_cancels_its_request() {
    let backend = Backend::silent();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    // While it waits for the first byte: closed, then reset.
    for (n, reset) in [false, true].into_iter().enumerate() {
        let mut client = edge.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        backend.wait_requests(n + 1);
        if reset {
            client.wire.reset_on_close();
        }
        let left = Instant::now();
        drop(client);
        cancelled_within_a_second(&edge, &backend, left, n);
    }
    edge.wait_log("cause", "client_gone");
}

#[test]
fn a_client_that_leaves_a_stream_cancels_it() {
    let backend = dripping(CHUNKED);
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    client.wire.until(b"ok\r\n").unwrap();
    let left = Instant::now();
    drop(client);
    backend.wait_idle();
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    wait_until("the count", || edge.metric(CANCELLED) > 0.5);
}

#[test]
fn an_h2_stream_that_is_reset_cancels_its_request() {
    let backend = Backend::silent();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let client = H2::connect(&edge.tls(), HOST);
    let (response, mut stream) = client.open(get(&format!("https://{HOST}/")), true);
    client.run_for(Duration::from_millis(50));
    backend.wait_requests(1);
    let left = Instant::now();
    stream.send_reset(h2::Reason::CANCEL);
    drop((response, stream));
    client.run_for(Duration::from_millis(50));
    cancelled_within_a_second(&edge, &backend, left, 0);
}
