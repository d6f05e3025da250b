//! What a route may have tried again, and what that may cost.

use std::time::{Duration, Instant};

use crate::harness::backend::ok;
use crate::harness::h2c::H2;
use crate::harness::{Backend, Client, Conf, Edge, Response};

const HOST: &str = "app.openclaw.example";
const BROKEN: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 6\r\n\r\nbroken";

/// One endpoint that answers 503, one that is well. Nothing is ejected.
fn pair(upstream: &str, route: &str) -> ([Backend; 2], Edge) {
    let backends = [Backend::canned(BROKEN), Backend::named("well")];
    let edge = edge(&backends, upstream, route);
    (backends, edge)
}

fn edge(backends: &[Backend], upstream: &str, route: &str) -> Edge {
    let addresses: Vec<_> = backends.iter().map(|b| b.addr).collect();
    Edge::start(&Conf::app_with(&addresses, &format!("ejection: off{upstream}"), route))
}

fn request(client: &mut Client, method: &str, body: &str) -> Response {
    let length = body.len();
    client.send(format!(
        "{method} / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    client.response()
}

#[test]
fn without_a_word_of_the_route_a_5xx_passes() {
    let (backends, edge) = pair("", "");
    let mut client = edge.client();
    let bad = (0..20).filter(|_| request(&mut client, "GET", "").text() == "broken").count();
    assert_eq!(bad, 10);
    assert_eq!(backends[0].requests().len() + backends[1].requests().len(), 20);
}

#[test]
fn a_5xx_is_tried_elsewhere_where_the_route_asks() {
    let (backends, edge) = pair("", "retry: { when: [5xx] }");
    let mut client = edge.client();
    let h2 = H2::connect(&edge.tls(), HOST);
    for _ in 0..6 {
        request(&mut client, "GET", "").assert_ok("well");
        request(&mut client, "PUT", "whole").assert_ok("well");
        assert_eq!(h2.get(&format!("https://{HOST}/")).text(), "well");
    }
    assert!(!backends[0].requests().is_empty());
    assert!(
        backends[1].requests().iter().all(|r| {
            r.body.bytes == if r.method() == "PUT" { &b"whole"[..] } else { &b""[..] }
        })
    );
    assert!(edge.metric("edge_upstream_retries_total{upstream=\"app\"}") > 0.5);
}

#[test]
fn only_the_statuses_that_are_named() {
    let (_backends, edge) = pair("", "retry: { when: [502] }");
    let mut client = edge.client();
    let bad = (0..10).filter(|_| request(&mut client, "GET", "").status == 503).count();
    assert_eq!(bad, 5);
}

#[test]
fn a_post_only_where_the_route_says_so() {
    let (backends, edge) = pair("", "retry: { when: [5xx] }");
    let mut client = edge.client();
    let bad = (0..10).filter(|_| request(&mut client, "POST", "once").status == 503).count();
    assert_eq!(bad, 5);
    assert_eq!(backends[0].requests().len() + backends[1].requests().len(), 10);

    let (_backends, edge) = pair("", "retry: { when: [5xx], non_idempotent: true }");
    let mut client = edge.client();
    for _ in 0..8 {
        request(&mut client, "POST", "again").assert_ok("well");
    }
}

#[test]
fn a_body_too_large_to_keep_is_not_sent_twice() {
    let (backends, edge) = pair("", "retry: { when: [5xx] }");
    let mut client = edge.client();
    let large = "x".repeat(200 * 1024);
    let bad = (0..4).filter(|_| request(&mut client, "PUT", &large).status == 503).count();
    assert_eq!(bad, 2);
    assert_eq!(backends[0].requests().len() + backends[1].requests().len(), 4);
}

#[test]
fn a_timeout_is_tried_elsewhere_where_the_route_asks() {
    let backends = [Backend::silent(), Backend::named("well")];
    let edge_with = |route| edge(&backends, ", timeouts: { first_byte: 200ms }", route);
    let edge = edge_with("retry: { when: [timeout] }");
    let mut client = edge.client();
    let start = Instant::now();
    for _ in 0..4 {
        request(&mut client, "GET", "").assert_ok("well");
    }
    assert!(start.elapsed() >= Duration::from_millis(350), "the silent one was not asked");
    drop(edge);

    let edge = edge_with("");
    let late = (0..4).filter(|_| request(&mut edge.client(), "GET", "").status == 504).count();
    assert_eq!(late, 2);
}

#[test]
fn attempts_have_a_limit() {
    let backends: Vec<Backend> = (0..5).map(|_| Backend::canned(BROKEN)).collect();
    let edge = edge(&backends, ", retries: { attempts: 2 }", "retry: { when: [5xx] }");
    // The last answer is what the client gets.
    assert_eq!(request(&mut edge.client(), "GET", "").text(), "broken");
    let tried: Vec<usize> = backends.iter().map(|b| b.requests().len()).collect();
    assert_eq!(tried.iter().sum::<usize>(), 3, "{tried:?}");
    assert!(tried.iter().all(|n| *n <= 1), "the same endpoint twice: {tried:?}");
}

#[test]
fn retries_have_a_budget() {
    let backends = [Backend::canned(BROKEN), Backend::canned(BROKEN)];
    let upstream = ", retries: { attempts: 1, budget: 20% }";
    let edge = edge(&backends, upstream, "retry: { when: [5xx] }");
    let mut client = edge.client();
    const SENT: usize = 200;
    for _ in 0..SENT {
        assert_eq!(request(&mut client, "GET", "").status, 503);
    }
    let tried = backends[0].requests().len() + backends[1].requests().len();
    let retries = tried - SENT;
    // A fifth, and the ten that are always allowed.
    assert!((10..=SENT / 5 + 10).contains(&retries), "{retries}");
}

#[test]
fn a_refused_connection_costs_no_budget() {
    let dead = crate::harness::backend::refusing();
    let well = Backend::named("well");
    let keys = "ejection: off, retries: { attempts: 1, budget: 0% }";
    let edge = Edge::start(&Conf::app_with(&[dead, well.addr], keys, ""));
    let mut client = edge.client();
    for _ in 0..60 {
        request(&mut client, "POST", "once").assert_ok("well");
    }
    assert_eq!(well.requests().len(), 60);
}

#[test]
fn an_interim_answer_is_no_reason_not_to_try_again() {
    let backends = [
        Backend::canned(format!("HTTP/1.1 103 Early Hints\r\n\r\n{BROKEN}")),
        Backend::canned(ok("well")),
    ];
    let edge = edge(&backends, "", "retry: { when: [5xx] }");
    let mut client = edge.client();
    for _ in 0..4 {
        // Whatever hints went out: one final answer, whole.
        let response = request(&mut client, "GET", "");
        assert!(response.status == 200 || response.status == 503, "{response:?}");
        assert_eq!(response.body.cut, None);
    }
}
