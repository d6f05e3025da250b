//! What a refused request is told, what it leaves behind in log and metrics, and that it costs
//! neither its body nor the connection.

use std::time::Duration;

use http::Request;

use super::{HOST, behind, get, left, limited, named};
use crate::harness::h2c::{H2, finish, push};
use crate::harness::{Backend, Edge, End, Response, wait_until};

/// One an hour, two at once.
const SLOW: &str = "{ name: slow, key: client_ip, rate: 1/h, burst: 2 }";

/// The third request of a fresh edge.
fn refused(limit: &str) -> (Edge, Response) {
    let backend = Backend::ok();
    let edge = Edge::start(&limited(&backend, limit));
    let mut client = edge.client();
    for _ in 0..2 {
        client.get(HOST, "/").assert_ok("ok");
    }
    let response = client.get(HOST, "/refused");
    assert_eq!(backend.requests().len(), 2);
    (edge, response)
}

#[test]
fn a_refusal_says_when_to_come_again() {
    let (_edge, response) = refused(SLOW);
    response.assert_cause(429, "rate_limited (slow)");
    assert!(response.header("proxy-status").unwrap().contains("error=http_request_denied"));
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&wait), "{wait}");
    assert_eq!(response.header("ratelimit-policy"), Some("\"slow\";q=2;w=7200"));
    let (remaining, reset) = left(response.header("ratelimit").unwrap(), "slow");
    assert_eq!(remaining, 0);
    assert!((7100..=7200).contains(&reset), "{reset}");
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert!(!response.head.has("x-ratelimit-limit"));
    assert!(!response.head.has("connection"), "the connection stays");
}

/// A client that waits exactly as long as it was told is not refused again.
#[test]
fn who_waits_as_told_passes() {
    let backend = Backend::ok();
    let limit = "{ key: client_ip, rate: 1/s, burst: 1 }";
    let edge = Edge::start(&limited(&backend, limit));
    let mut client = edge.client();
    client.get(HOST, "/").assert_ok("ok");
    let response = client.get(HOST, "/");
    if response.status == 429 {
        assert_eq!(response.header("retry-after"), Some("1"));
        std::thread::sleep(Duration::from_secs(1));
        client.get(HOST, "/").assert_ok("ok");
    }
}

#[test]
fn refusals_of_other_kinds() {
    let old = "{ name: slow, key: client_ip, rate: 1/h, burst: 2, legacy_headers: true }";
    let (_edge, response) = refused(old);
    assert_eq!(response.header("x-ratelimit-limit"), Some("2"));
    assert_eq!(response.header("x-ratelimit-remaining"), Some("0"));
    let reset: u64 = response.header("x-ratelimit-reset").unwrap().parse().unwrap();
    assert!((7100..=7200).contains(&reset), "{reset}");
    assert!(response.head.has("ratelimit") && response.head.has("ratelimit-policy"));

    let nginx = "{ name: slow, key: client_ip, rate: 1/h, burst: 2, status: 503 }";
    let (edge, response) = refused(nginx);
    response.assert_cause(503, "rate_limited (slow)");
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&wait), "{wait}");
    assert!(response.text().starts_with("503 Service Unavailable\n"), "{}", response.text());
    assert_eq!(edge.wait_log("path", "/refused")["status"], 503);
}

#[test]
fn every_answer_announces_what_is_left() {
    let backend = Backend::ok();
    let limits = "{ name: a, key: client_ip, rate: 1/h, burst: 3, announce: true }, \
        { name: b, key: route, rate: 1/h, burst: 2, announce: true, legacy_headers: true }, \
        { name: quiet, key: host, rate: 1/h, burst: 9 }";
    let edge = Edge::start(&limited(&backend, limits));
    let mut client = edge.client();
    for n in 0..2 {
        let response = client.get(HOST, "/");
        response.assert_ok("ok");
        let policies = response.head.all("ratelimit-policy");
        assert_eq!(policies, ["\"a\";q=3;w=10800", "\"b\";q=2;w=7200"]);
        let [a, b] = response.head.all("ratelimit")[..] else { panic!("{response:?}") };
        assert_eq!((left(a, "a").0, left(b, "b").0), (2 - n, 1 - n));
        assert_eq!(response.header("x-ratelimit-remaining"), Some((1 - n).to_string().as_str()));
        assert!(!response.head.has("retry-after"));
    }
    let response = client.get(HOST, "/");
    response.assert_cause(429, "rate_limited (b)");
    // Those that passed before it say their part as well.
    let [a, b] = response.head.all("ratelimit")[..] else { panic!("{response:?}") };
    assert_eq!((left(a, "a").0, left(b, "b").0), (0, 0));
}

#[test]
fn the_answer_comes_before_the_body() {
    for tls in [false, true] {
        let backend = Backend::ok();
        let edge = Edge::start(&limited(&backend, "{ key: client_ip, rate: 1/h, burst: 1 }"));
        let connect = || if tls { edge.tls_client(HOST) } else { edge.client() };
        connect().get(HOST, "/").assert_ok("ok");
        let mut client = connect();
        let half = "x".repeat(500);
        client
            .send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000\r\n\r\n{half}"));
        let response = client.response();
        response.assert_cause(429, "rate_limited");
        assert_eq!(response.header("connection"), Some("close"));
        client.assert_closed();
        // Nobody is told to send what nobody will read.
        let mut client = connect();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        ));
        let response = client.response();
        response.assert_cause(429, "rate_limited");
        assert!(response.interim.is_empty(), "{response:?}");
        assert_eq!(backend.requests().len(), 1);
    }
}

#[test]
fn the_answer_comes_before_the_body_on_http2() {
    let backend = Backend::ok();
    let edge = Edge::start(&limited(&backend, SLOW));
    let h2 = H2::connect(&edge.tls(), HOST);
    let url = format!("https://{HOST}/");
    assert_eq!(h2.get(&url).status, 200);
    assert_eq!(h2.get(&url).status, 200);
    let (response, mut stream) = h2.open(Request::post(&url).body(()).unwrap(), false);
    let response = h2.block(async {
        push(&mut stream, b"half", false).await.unwrap();
        finish(response).await.unwrap()
    });
    response.assert_cause(429, "rate_limited (slow)");
    assert_eq!(response.header("ratelimit-policy"), "\"slow\";q=2;w=7200");
    assert_eq!(left(response.header("ratelimit"), "slow").0, 0);
    assert!(response.header("retry-after").parse::<u64>().unwrap() > 3500);
    // The other streams of the connection do not suffer.
    h2.get(&url).assert_cause(429, "rate_limited (slow)");
    assert_eq!(backend.requests().len(), 2);
}

/// Where it came with the head. Nobody waits for one that did not, or looks for the end of chunks.
#[test]
fn a_small_body_does_not_cost_the_connection() {
    let (edge, _) = refused(SLOW);
    for mut client in [edge.client(), edge.tls_client(HOST)] {
        for n in 0..5 {
            let body = "x".repeat(n * 1000);
            let length = body.len();
            client.send(format!(
                "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n{body}"
            ));
            let response = client.response();
            response.assert_cause(429, "rate_limited");
            assert!(!response.head.has("connection"), "{response:?}");
        }
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n\
             4\r\nbody\r\n0\r\n\r\n"
        ));
        let response = client.response();
        response.assert_cause(429, "rate_limited");
        assert_eq!(response.header("connection"), Some("close"));
        client.assert_closed();
    }
}

#[test]
fn the_log_names_the_limit() {
    let (edge, response) = refused(SLOW);
    let line = edge.wait_log("path", "/refused");
    assert_eq!(line["limit"], "slow", "{line}");
    assert_eq!((&line["cause"], &line["status"]), (&"rate_limited".into(), &429.into()), "{line}");
    assert_eq!(line["route"], "app", "{line}");
    assert!(line["limit_dry_run"].is_null() && line["endpoint"].is_null(), "{line}");
    assert_eq!(line["request_id"], response.header("x-request-id").unwrap());
    let passed = edge.wait_log("path", "/");
    assert!(passed["limit"].is_null() && passed["cause"].is_null(), "{passed}");
}

#[test]
fn a_dry_run_only_tells() {
    let backend = Backend::ok();
    let limits = "{ name: dry, key: client_ip, rate: 1/h, burst: 1, dry_run: true }, \
        { name: wet, key: route, rate: 1/h, burst: 3 }";
    let edge = Edge::start(&limited(&backend, limits));
    let mut client = edge.client();
    client.get(HOST, "/1").assert_ok("ok");
    for path in ["/2", "/3"] {
        let response = client.get(HOST, path);
        response.assert_ok("ok");
        assert!(!response.head.has("ratelimit") && !response.head.has("retry-after"));
        let line = edge.wait_log("path", path);
        assert_eq!(line["limit_dry_run"], "dry", "{line}");
        assert!(line["limit"].is_null() && line["cause"].is_null(), "{line}");
    }
    assert_eq!(named(&client.get(HOST, "/4")), "wet");
    let line = edge.wait_log("path", "/4");
    assert_eq!(line["limit"], "wet", "{line}");
    assert!(edge.wait_log("path", "/1")["limit_dry_run"].is_null());
    assert_eq!(backend.requests().len(), 3);
}

#[test]
fn metrics_count_decisions() {
    let backend = Backend::ok();
    let limits = "{ name: dry, key: client_ip, rate: 1/h, burst: 1, dry_run: true }, \
        { name: wet, key: route, rate: 1/h, burst: 3, exempt: [192.0.2.0/24] }";
    let edge = Edge::start(&behind(&backend, limits));
    let mut client = edge.client();
    for (address, status) in [
        ("198.51.100.1", 200),
        ("198.51.100.1", 200),
        ("192.0.2.1", 200),
        ("198.51.100.1", 200),
        ("198.51.100.1", 429),
        ("198.51.100.2", 429),
    ] {
        let fields = format!("X-Forwarded-For: {address}\r\n");
        assert_eq!(get(&mut client, "/", &fields).status, status, "{address}");
    }
    for (limit, decision, count) in [
        ("dry", "passed", 3.0),
        ("dry", "dry_run", 3.0),
        ("dry", "refused", 0.0),
        ("dry", "exempt", 0.0),
        ("wet", "passed", 3.0),
        ("wet", "refused", 2.0),
        ("wet", "exempt", 1.0),
        ("wet", "dry_run", 0.0),
    ] {
        let labels = format!("route=\"app\",limit=\"{limit}\",decision=\"{decision}\"");
        let series = format!("edge_rate_limit_decisions_total{{{labels}}}");
        assert_eq!(edge.metric(&series), count, "{series}");
    }
    let keys = |limit| edge.metric(&format!("edge_rate_limit_keys{{limit=\"{limit}\"}}"));
    assert_eq!((keys("dry"), keys("wet")), (3.0, 1.0));
    let local = "edge_http_local_responses_total{route=\"app\",reason=\"rate_limited\"}";
    assert_eq!(edge.metric(local), 2.0);
}

/// A client that goes while it is refused ends nothing but its own connection.
#[test]
fn refused_and_gone() {
    let (edge, _) = refused(SLOW);
    let mut client = edge.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\nhalf"));
    client.wire.finish();
    client.response().assert_cause(429, "rate_limited");
    let (rest, end) = client.wire.rest();
    assert!(rest.is_empty() && end != End::Timeout, "{end:?}");
    edge.client().get(HOST, "/").assert_cause(429, "rate_limited");
}

/// The body of a refused request is never read as a request, whole or in part.
#[test]
fn a_refused_body_is_no_request() {
    let (edge, _) = refused(SLOW);
    let inner = format!("GET /inner HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let length = inner.len();
    let head = format!("POST /outer HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n");
    for mut client in [edge.client(), edge.tls_client(HOST)] {
        client.send(format!("{head}{inner}GET /next HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        client.response().assert_cause(429, "rate_limited");
        client.response().assert_cause(429, "rate_limited");
        assert!(client.is_silent_for(Duration::from_millis(100)), "a third answer");
    }
    for mut client in [edge.client(), edge.tls_client(HOST)] {
        client.send(&head);
        client.response().assert_cause(429, "rate_limited");
        // It may be closed already.
        let _ = client.wire.try_send(&inner);
        let (bytes, end) = client.wire.rest();
        assert!(bytes.is_empty() && end != End::Timeout, "{end:?}: {bytes:?}");
    }
    let of = |path| edge.access_log().iter().filter(|line| line["path"] == path).count();
    wait_until("a line for each", || (of("/outer"), of("/next")) == (4, 2));
    assert_eq!(of("/inner"), 0);
}

/// Requests that come in one packet count one by one, and their answers come in order.
#[test]
fn pipelined_requests_count_one_by_one() {
    let backend = Backend::ok();
    let edge = Edge::start(&limited(&backend, SLOW));
    let clients = [edge.client(), edge.tls_client(HOST)];
    for (mut client, expected) in clients.into_iter().zip([[200, 200, 429, 429], [429; 4]]) {
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").repeat(4));
        assert_eq!([0; 4].map(|_| client.response().status), expected);
    }
    assert_eq!(backend.requests().len(), 2);
}
