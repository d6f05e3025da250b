//! What an upstream and an endpoint can be asked for at most, and the answer to what is more.

use std::time::{Duration, Instant};

use crate::harness::backend::ok;
use crate::harness::h2c::H2;
use crate::harness::{Backend, Client, Conf, Edge, Lab, wait_until};

const HOST: &str = "app.openclaw.example";

/// Answers only when it is told to: when `open` is there.
fn gated(lab: &Lab) -> Backend {
    let open = lab.path().join("open");
    Backend::script(move |peer| {
        while peer.request().is_some() {
            while !open.exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            peer.send(ok("ok"));
        }
    })
}

fn ask(edge: &Edge) -> Client {
    let mut client = edge.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    client
}

/// `allowed` requests are under way; the next is refused at once and the first are answered.
fn refused_above(limits: &str, workers: usize, endpoints: usize, allowed: usize) {
    let lab = Lab::new();
    let backends: Vec<Backend> = (0..endpoints).map(|_| gated(&lab)).collect();
    let addresses: Vec<_> = backends.iter().map(|b| b.addr).collect();
    let keys = format!("limits: {{ {limits} }}, queue: {{ size: 0 }}");
    let edge = Edge::start(&Conf::app_with(&addresses, &keys, "").workers(workers));
    let under_way: Vec<Client> = (0..allowed).map(|_| ask(&edge)).collect();
    let arrived = || backends.iter().map(|b| b.requests().len()).sum::<usize>();
    wait_until("requests at the backends", || arrived() == allowed);

    let start = Instant::now();
    let refused = ask(&edge).response();
    refused.assert_cause(503, "over_capacity");
    let after: u64 = refused.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    H2::connect(&edge.tls(), HOST)
        .get(&format!("https://{HOST}/"))
        .assert_cause(503, "over_capacity");
    assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
    assert_eq!(arrived(), allowed);
    edge.wait_log("cause", "over_capacity");

    lab.write("open", "");
    for mut client in under_way {
        client.response().assert_ok("ok");
    }
    // What was taken has been given back.
    for _ in 0..3 * allowed {
        ask(&edge).response().assert_ok("ok");
    }
}

#[test]
fn requests_of_the_upstream() {
    refused_above("requests: 3", 2, 2, 3);
}

#[test]
fn requests_of_an_endpoint() {
    refused_above("endpoint_requests: 2", 2, 2, 4);
}

#[test]
fn connections_of_the_upstream() {
    refused_above("connections: 2", 1, 2, 2);
}

#[test]
fn connections_of_an_endpoint() {
    refused_above("endpoint_connections: 1", 1, 3, 3);
}

#[test]
fn what_is_more_waits_where_there_is_a_queue() {
    let lab = Lab::new();
    let backend = gated(&lab);
    let keys = "limits: { requests: 1 }, queue: { size: 2, timeout: 5s }";
    let edge = Edge::start(&Conf::app_with(&[backend.addr], keys, ""));
    let mut all = vec![ask(&edge)];
    wait_until("the first at the backend", || backend.requests().len() == 1);
    all.extend([ask(&edge), ask(&edge)]);
    let queued = "edge_upstream_queue_length{upstream=\"app\"}";
    wait_until("a full queue", || edge.metric(queued) >= 2.0);
    ask(&edge).response().assert_cause(503, "over_capacity");
    assert_eq!(backend.requests().len(), 1);
    lab.write("open", "");
    for mut client in all {
        client.response().assert_ok("ok");
    }
    assert_eq!(backend.requests().len(), 3);
}

#[test]
fn an_endpoint_at_its_limit_leaves_the_rest_to_the_others() {
    let lab = Lab::new();
    let backends = [gated(&lab), Backend::named("other")];
    let addresses = [backends[0].addr, backends[1].addr];
    let keys = "limits: { endpoint_requests: 1 }, queue: { size: 0 }";
    let edge = Edge::start(&Conf::app_with(&addresses, keys, ""));
    let mut clients: Vec<Client> = (0..2).map(|_| ask(&edge)).collect();
    wait_until("one at the gate", || backends[0].requests().len() == 1);
    for _ in 0..20 {
        ask(&edge).response().assert_ok("other");
    }
    lab.write("open", "");
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
}
