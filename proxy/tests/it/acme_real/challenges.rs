//! What a CA asks, and that nothing else is in its way.

use std::net::SocketAddr;

use super::*;
use crate::harness::Client;
use crate::harness::acme::MockCa;
use crate::harness::acme::mock_ca::{Endpoint, Fault, Validation};

#[test]
fn tls_alpn_01_without_a_plaintext_listener() {
    let stage = Stage::new();
    let pebble = stage.pebble();
    let conf = ordering(stage.hosts(&[APP, API]).tls_only(), &pebble, "challenge: tls-alpn-01");
    let edge = stage.start(&conf);
    let trusted = pebble.trusted(edge.https);
    wait_trusted(&edge, &trusted, &[APP, API]);
    trusted.connect(APP).get(APP, "/").assert_ok("ok");
    wait_at_rest(&edge, &[APP, API]);
    assert_eq!((pebble.orders(), pebble.issued()), (2, 2));
    // Nobody is offered it any more.
    assert!(Tls::blind(edge.https).alpn(&["acme-tls/1"]).try_connect(APP).is_err());
    assert!(std::net::TcpStream::connect(stage.http.addr).is_err(), "nobody listens on port 80");
}

#[test]
fn http_01_is_answered_before_redirects_and_routes() {
    let stage = Stage::new();
    let ca = MockCa::with(|knobs| knobs.validation = Validation::Fetch(stage.http.addr));
    // The CA has given its token and does not look yet.
    ca.next(Endpoint::Challenge, 1, &Fault::Hang);
    let entries = format!(
        "upstreams:\n  all: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  app: {{ hosts: [{APP}, {API}], path: /, upstream: all }}\n  \
         taken: {{ hosts: [{APP}], path: /.well-known, respond: {{ status: 404 }} }}\n\
         certificates:\n  one: {{ names: [{APP}] }}\n  local: {{ names: [{API}], issuer: local }}\n",
        stage.backend.addr
    );
    let conf = stage.here(Conf::new(entries)).http("redirect_to: https");
    let mut edge = stage.start(&conf.clone().acme(&ca.directory(), None, ""));
    ca.wait_count(Endpoint::Challenge, 1);
    let token = ca.tokens(APP).remove(0);
    let path = format!("/.well-known/acme-challenge/{token}");
    let port = stage.http.number();
    let mut answers = Vec::new();
    for host in [
        APP.to_owned(),
        APP.to_uppercase(),
        format!("{APP}."),
        format!("{APP}:{port}"),
        format!("{APP}.:{port}"),
    ] {
        let answer = Client::plain(edge.http).get(&host, &path);
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"), "{host}");
        answers.push(answer.text());
    }
    answers.push(absolute(edge.http, &path));
    answers.push(Tls::blind(edge.https).connect(APP).get(APP, &path).text());
    assert!(answers[0].starts_with(&format!("{token}.")), "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");

    // A token of nobody is a request as any other.
    let unknown = format!("/.well-known/acme-challenge/{}", "x".repeat(43));
    assert_eq!(Client::plain(edge.http).get(API, &unknown).status, 308);
    edge.tls_client(API).get(API, &unknown).assert_ok("ok");
    assert_eq!(stage.backend.only().target(), unknown);
    // And so is this one on another host.
    assert_eq!(Client::plain(edge.http).get(API, &path).status, 308);

    edge.kill();
    let edge = stage.start(&conf.acme(&ca.directory(), None, ""));
    wait_trusted(&edge, &ca.trusted(edge.https), &[APP]);
    assert_eq!(ca.issued().len(), 1);
}

fn absolute(addr: SocketAddr, path: &str) -> String {
    let mut client = Client::plain(addr);
    client.send(format!("GET http://{APP}{path} HTTP/1.1\r\nHost: {APP}\r\n\r\n"));
    let answer = client.response();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text()
}
