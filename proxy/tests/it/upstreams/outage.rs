//! A backend that is away for a moment: requests wait, none fails.

use std::time::{Duration, Instant};

use crate::harness::behave::{Executions, Switch, own_address};
use crate::harness::load::Load;
use crate::harness::service::{Kind, Service, assert_once};
use crate::harness::{Client, Conf, Edge, Lab, wait_until};

const HOST: &str = "app.openclaw.example";
const QUEUED: &str = "edge_upstream_queue_length{upstream=\"app\"}";

#[test]
fn the_only_backend_away_for_a_second_and_a_half() {
    let executions = Executions::default();
    let mut backend = Switch::named("ok", &executions);
    let edge = Edge::start(&Conf::app(&[backend.addr]).workers(2));
    let load = Load::start(&edge, HOST);
    backend.stop();
    wait_until("requests that wait", || edge.metric(QUEUED) > 0.0);
    load.run_for(Duration::from_millis(1500));
    backend.start();
    load.wait_more(200);
    let tally = load.finish();
    tally.assert_clean(200);
    // Latency only, and the outage was one.
    let expected = Duration::from_millis(1400)..Duration::from_millis(3000);
    assert!(expected.contains(&tally.slowest), "{:?}", tally.slowest);
    assert_eq!(executions.repeated(), Vec::<String>::new());
    assert!(tally.posts.iter().all(|id| executions.of(id) == 1));
}

fn restarted(kind: Kind) {
    let lab = Lab::new();
    let mut service = Service::start(&lab, kind, "ok");
    // Its own start takes how long it takes on a busy machine.
    let conf = Conf::app_with(&[service.addr], "queue: { timeout: 8s }", "");
    let edge = Edge::start_in(&lab, &conf);
    let load = Load::start(&edge, HOST);
    for _ in 0..2 {
        service.down();
        load.run_for(Duration::from_millis(900));
        service.up();
        load.wait_more(100);
    }
    let mut tally = load.finish();
    if matches!(kind, Kind::Uvicorn) {
        // It closes idle connections without looking for a request that is just arriving, which
        // gets a reset: whether that POST was executed nobody can know, so it must not be replayed.
        let reset = |error: &String| error.starts_with("POST") && error.contains("(reset)");
        let before = tally.errors.len();
        tally.errors.retain(|error| !reset(error));
        let met = before - tally.errors.len();
        assert!(met * 100 <= tally.posts.len(), "{met} of {} POSTs", tally.posts.len());
    }
    tally.assert_clean(200);
    assert_once(&[service], &tally.posts);
}

#[test]
fn uvicorn_restarted() {
    restarted(Kind::Uvicorn);
}

#[test]
fn node_restarted() {
    restarted(Kind::Node);
}

// === the queue ===

fn ask(edge: &Edge) -> Client {
    let mut client = edge.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    client
}

#[test]
fn the_hundred_and_twenty_ninth_is_refused_at_once() {
    let mut backend = Switch::new(crate::harness::behave::answering("ok"));
    let edge = Edge::start(&Conf::app_with(&[backend.addr], "queue: { timeout: 8s }", ""));
    let waiting: Vec<Client> = (0..128).map(|_| ask(&edge)).collect();
    wait_until("a full queue", || edge.metric(QUEUED) >= 128.0);
    let start = Instant::now();
    let refused = ask(&edge).response();
    refused.assert_cause(503, "over_capacity");
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    let after: u64 = refused.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    assert!(edge.metric(QUEUED) <= 128.0);
    // Those that wait are served when the backend comes.
    backend.start();
    for mut client in waiting {
        client.response().assert_ok("ok");
    }
    wait_until("an empty queue", || edge.metric(QUEUED) == 0.0);
}

#[test]
fn who_waits_in_vain_is_told_the_cause() {
    let conf = Conf::app_with(&[own_address()], "queue: { timeout: 600ms }", "");
    let edge = Edge::start(&conf);
    let start = Instant::now();
    let response = ask(&edge).response();
    let took = start.elapsed();
    response.assert_cause(502, "connect_failed");
    let expected = Duration::from_millis(450)..Duration::from_millis(1500);
    assert!(expected.contains(&took), "{took:?}");
}

#[test]
fn without_a_queue_nobody_waits() {
    let edge = Edge::start(&Conf::app_with(&[own_address()], "queue: { size: 0 }", ""));
    let start = Instant::now();
    ask(&edge).response().assert_cause(502, "connect_failed");
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
}

#[test]
fn who_leaves_the_queue_makes_room() {
    let conf = Conf::app_with(&[own_address()], "queue: { size: 2, timeout: 8s }", "");
    let edge = Edge::start(&conf);
    let (first, _second) = (ask(&edge), ask(&edge));
    wait_until("a full queue", || edge.metric(QUEUED) >= 2.0);
    drop(first);
    wait_until("room in the queue", || edge.metric(QUEUED) == 1.0);
    let _third = ask(&edge);
    wait_until("a full queue", || edge.metric(QUEUED) == 2.0);
    ask(&edge).response().assert_cause(503, "over_capacity");
}
