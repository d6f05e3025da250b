//! Attempts that meet limits, refusals and dead connections: nobody waits in vain, nobody spins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::harness::backend::{hanging, ok};
use crate::harness::behave::{Abort, Executions, aborting_warm, own_address};
use crate::harness::h2c::{self, H2};
use crate::harness::site::Site;
use crate::harness::{Backend, Client, Conf, Edge, Lab, Peer, wait_until};

const HOST: &str = "app.openclaw.example";
const QUEUED: &str = "edge_upstream_queue_length{upstream=\"app\"}";
const BROKEN: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 6\r\n\r\nbroken";

/// A door that a test opens.
#[derive(Clone, Default)]
struct Gate(Arc<AtomicBool>);

impl Gate {
    fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn wait(&self) {
        wait_until("an open gate", || self.0.load(Ordering::SeqCst));
    }
}

/// Answers when the gate is open.
fn gated(gate: &Gate) -> Backend {
    let gate = gate.clone();
    Backend::script(move |peer| {
        while peer.request().is_some() {
            gate.wait();
            peer.send(ok("gated"));
        }
    })
}

fn ask(edge: &Edge) -> Client {
    let mut client = edge.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    client
}

/// Seconds of processor time that the edge has used.
fn cpu(edge: &Edge) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", edge.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

// === limits ===

#[test]
fn who_waits_for_a_connection_does_not_wake_the_others_for_ever() {
    let gate = Gate::default();
    let backend = gated(&gate);
    let keys = "limits: { connections: 1 }, queue: { size: 10, timeout: 20s }";
    let edge = Edge::start(&Conf::app_with(&[backend.addr], keys, ""));
    let mut clients = vec![ask(&edge)];
    wait_until("the first at the backend", || backend.requests().len() == 1);
    clients.extend((0..4).map(|_| ask(&edge)));
    wait_until("a queue", || edge.metric(QUEUED) >= 4.0);
    let before = cpu(&edge);
    std::thread::sleep(Duration::from_secs(1));
    let used = cpu(&edge) - before;
    assert!(used < 0.15, "{used} s in a second of waiting");
    gate.open();
    for mut client in clients {
        client.response().assert_ok("gated");
    }
}

#[test]
fn an_endpoint_without_room_for_a_connection_leaves_the_rest_to_the_others() {
    let gate = Gate::default();
    let backends = [gated(&gate), Backend::named("other")];
    let addresses = [backends[0].addr, backends[1].addr];
    let keys = "limits: { endpoint_connections: 1 }, queue: { size: 0 }";
    let edge = Edge::start(&Conf::app_with(&addresses, keys, ""));
    let mut held = Vec::new();
    while backends[0].requests().is_empty() {
        let mut client = ask(&edge);
        wait_until("the request at a backend", || {
            backends[0].requests().len() + backends[1].requests().len() > held.len()
        });
        if backends[0].requests().is_empty() {
            client.response().assert_ok("other");
        }
        held.push(client);
    }
    for _ in 0..10 {
        ask(&edge).response().assert_ok("other");
    }
    gate.open();
    held.last_mut().unwrap().response().assert_ok("gated");
}

/// Connections belong to a worker; those that it does not need must not starve the others.
#[test]
fn an_idle_connection_of_another_worker_is_given_up() {
    let backend = Backend::named("ok");
    let keys = "limits: { connections: 1 }, timeouts: { keep_alive: 60s }";
    let edge = Edge::start(&Conf::app_with(&[backend.addr], keys, "").workers(2));
    // Whichever worker takes them: both do with near certainty.
    for _ in 0..20 {
        ask(&edge).response().assert_ok("ok");
    }
    assert!(backend.connections() > 1, "one worker took all");
}

// === who is left ===

#[test]
fn with_one_usable_endpoint_its_last_answer_is_the_clients() {
    let broken = Backend::script(|peer: &mut Peer| {
        while let Some(request) = peer.request() {
            let well = request.target() == "/health";
            peer.send(if well { ok("well") } else { BROKEN.to_owned() });
        }
    });
    let keys = "ejection: off, queue: { size: 0 }, retries: { attempts: 2 }, \
                health: { path: /health, interval: 100ms, fall: 1 }";
    let addresses = [broken.addr, own_address()];
    let edge = Edge::start(&Conf::app_with(&addresses, keys, "retry: { when: [5xx] }"));
    let states = "edge_upstream_endpoints{upstream=\"app\"";
    wait_until("verdicts", || {
        edge.metric(&format!("{states},state=\"unhealthy\"}}")) == 1.0
            && edge.metric(&format!("{states},state=\"healthy\"}}")) == 1.0
    });
    let asked = || broken.requests().iter().filter(|r| r.target() == "/").count();
    assert_eq!(ask(&edge).response().text(), "broken");
    assert_eq!(asked(), 3);
}

#[test]
fn a_unix_socket_that_is_made_anew_is_waited_for() {
    let lab = Lab::new();
    let path = lab.path().join("app.sock");
    let endpoint = format!("unix:{}", path.display());
    let conf = Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{endpoint}\"], queue: {{ timeout: 10s }} }}\n\
         routes:\n  app: {{ hosts: [{HOST}], upstream: app }}\n"
    ));
    let edge = Edge::start_in(&lab, &conf);
    let mut client = edge.client();
    client.send(format!("GET /hello HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    wait_until("a request that waits", || edge.metric(QUEUED) == 1.0);
    // It has been looked for more often than a request may fail.
    let errors = "edge_upstream_connection_errors_total{upstream=\"app\"";
    wait_until("questions", || edge.metric(&format!("{errors}}}")) >= 6.0);
    let _site = Site::unix(&path);
    client.response().assert_ok("hello");
}

/// The one whose time is over was making the connection that both wait for.
#[test]
fn a_short_deadline_ends_no_others_wait_for_a_shared_connection() {
    let (addr, _held) = hanging();
    let keys = "protocol: http2, timeouts: { connect: 1500ms }, retries: { attempts: 0 }";
    let edge = Edge::start(&Conf::app_with(&[addr], keys, ""));
    let begun = Instant::now();
    let mut hurried = edge.client();
    hurried.send(format!(
        "POST /s/m HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/grpc\r\n\
         TE: trailers\r\ngrpc-timeout: 300m\r\nContent-Length: 0\r\n\r\n"
    ));
    let mut patient = ask(&edge);
    let _ = hurried.response();
    assert!(begun.elapsed() < Duration::from_millis(1200), "{:?}", begun.elapsed());
    patient.response().assert_cause(504, "connect_timeout");
    assert!(begun.elapsed() >= Duration::from_millis(1450), "{:?}", begun.elapsed());
}

// === dead connections ===

#[test]
fn a_post_on_a_warm_connection_is_tried_again_where_the_route_says_so() {
    let executions = Executions::default();
    let backend = aborting_warm(Abort::Reset, &executions);
    let route = "retry: { when: [timeout], non_idempotent: true }";
    let edge = Edge::start(&Conf::app_with(&[backend.addr], "", route));
    let mut client = edge.client();
    client.get(HOST, "/").assert_ok("ok");
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody"));
    client.response().assert_ok("ok");
    assert_eq!(backend.requests().len(), 3);
}

/// The edge meets the reset when it writes a part of the body; the rest is still to come.
#[test]
fn a_body_on_its_way_follows_its_request_to_another_connection() {
    let gate = Gate::default();
    let reset = gate.clone();
    let backend = Backend::script(move |peer| {
        if peer.index > 0 {
            while peer.request().is_some() {
                peer.send(ok("whole"));
            }
            return;
        }
        let Some(_) = peer.request() else { return };
        peer.send(ok("warm"));
        let Some(_) = peer.head() else { return };
        reset.wait();
        peer.wire.reset_on_close();
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let client = H2::connect(&edge.tls(), HOST);
    let url = format!("https://{HOST}/");
    assert_eq!(client.get(&url).text(), "warm");
    let put = http::Request::put(&url).body(()).unwrap();
    let (answer, mut body) = client.open(put, false);
    client.run_for(Duration::from_millis(100));

    // Both wait for the edge, the data first.
    edge.signal("STOP");
    body.send_data(Bytes::from_static(b"first "), false).unwrap();
    client.run_for(Duration::from_millis(50));
    gate.open();
    wait_until("the reset", || backend.open() == 0);
    edge.signal("CONT");

    client.run_for(Duration::from_millis(100));
    body.send_data(Bytes::from_static(b"and last"), true).unwrap();
    let begun = Instant::now();
    let answer = client.block(h2c::finish(answer)).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "whole"), "{:?}", begun.elapsed());
    let carried = backend.connection(1).requests.lock().unwrap().clone();
    assert_eq!(carried.last().unwrap().body.bytes, b"first and last");
}

// === what counts ===

#[test]
fn an_endpoint_with_broken_heads_is_ejected() {
    let broken =
        Backend::canned("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx");
    let backends = [broken, Backend::named("well")];
    let addresses = [backends[0].addr, backends[1].addr];
    let edge = Edge::start(&Conf::app_with(&addresses, "ejection: { failures: 3 }", ""));
    let bad = (0..20).filter(|_| ask(&edge).response().status == 502).count();
    assert_eq!(bad, 3);
}

/// What is kept of a body is bounded over all attempts, not in each.
#[test]
fn a_body_that_grows_from_attempt_to_attempt_is_kept_no_further() {
    const PART: usize = 40 * 1024;
    let backend = Backend::script(|peer| {
        let Some(_) = peer.head() else { return };
        let parts = if peer.index == 0 { 1 } else { 2 };
        let Ok(_) = peer.wire.exact(parts * PART) else { return };
        peer.send(BROKEN);
        peer.wait_end();
    });
    let route = "retry: { when: [5xx] }";
    let edge = Edge::start(&Conf::app_with(&[backend.addr], "ejection: off", route));
    let mut client = edge.client();
    let chunk = format!("{PART:x}\r\n{}\r\n", "x".repeat(PART));
    client.send(format!(
        "PUT / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
    ));
    wait_until("a second attempt", || backend.connections() == 2);
    client.send(format!("{chunk}0\r\n\r\n"));
    assert_eq!(client.response().text(), "broken");
    assert_eq!(backend.connections(), 2);
}
