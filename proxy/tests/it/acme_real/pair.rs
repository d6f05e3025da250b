//! Two processes on one state directory, as in every rolling update: one orders, both serve and
//! answer, and the second goes on where the first one ended.

use super::*;
use crate::harness::acme::MockCa;
use crate::harness::acme::mock_ca::{Endpoint, Fault, Validation};

/// Another process with the same configuration and state, its own admin socket, ready.
fn second(stage: &Stage, conf: &Conf, arguments: &[&str]) -> Edge {
    let lab = Lab::new();
    let state = |lab: &Lab| format!("state_dir: {}/state", lab.path().display());
    let text = conf.render(lab.path()).replace(&state(&lab), &state(&stage.lab));
    let config = lab.write("edge.yaml", text);
    let mut edge = Edge::spawn(&lab, &config, arguments);
    edge.wait_ready();
    edge
}

#[test]
fn the_one_that_does_not_order_answers_and_serves() {
    let (stage, other) = (Stage::new(), Stage::new());
    // The CA looks at the second one only.
    let pebble = Pebble::start(other.http.number(), other.https.number());
    let first = stage.start(&ordering(stage.hosts(&[APP]), &pebble, ""));
    wait_role(&first, "owner");
    let failed = wait_told(&first, APP, |one| one["last_error"].is_object());
    assert_eq!(failed["last_error"]["class"], "validation", "nobody listens there: {failed}");

    let reader = second(&stage, &ordering(other.hosts(&[APP]), &pebble, ""), &[]);
    wait_role(&reader, "reader");
    assert_eq!(reader.post("/api/v1/certificates/renew", &json!({ "name": APP })).status, 409);
    ask_to_renew(&first, APP);
    let shown = wait_trusted(&first, &pebble.trusted(first.https), &[APP]);
    // It reads what the other one has stored.
    assert_eq!(wait_trusted(&reader, &pebble.trusted(reader.https), &[APP]), shown);
    assert_eq!(pebble.issued(), 1);
    wait_role(&reader, "reader");
}

/// The first is ended while the CA has not begun to look at API.
fn takes_over(end: impl FnOnce(&mut Edge), survives: bool) {
    let stage = Stage { backend: Backend::silent(), ..Stage::new() };
    let ca = MockCa::with(|knobs| knobs.validation = Validation::Fetch(stage.http.addr));
    let with = |hosts: &[&str]| stage.hosts(hosts).acme(&ca.directory(), None, "");
    let lab = &stage.lab;
    let config = lab.write("edge.yaml", with(&[APP]).render(lab.path()));
    let mut first = Edge::spawn(lab, &config, &["--share-ports"]);
    first.wait_ready();
    let trusted = ca.trusted(stage.https.addr);
    let app = wait_trusted(&first, &trusted, &[APP]);
    wait_at_rest(&first, &[APP]);
    // Something to drain for.
    let mut busy = trusted.connect(APP);
    busy.send(format!("GET / HTTP/1.1\r\nHost: {APP}\r\n\r\n"));
    stage.backend.wait_requests(1);
    ca.next(Endpoint::Challenge, 1, &Fault::Hang);
    first.reload(&with(&[APP, API]));
    ca.wait_count(Endpoint::Challenge, 2);

    let next = second(&stage, &with(&[APP, API]), &["--share-ports"]);
    wait_role(&next, "reader");
    let waiting = told(&next, API).unwrap();
    assert_eq!(waiting["state"], "placeholder", "{waiting}");
    assert_eq!(ca.count(Endpoint::NewOrder), 2, "it orders nothing itself");
    end(&mut first);
    wait_role(&next, "owner");
    assert_eq!(first.is_running(), survives, "nobody waits for the end of the other's requests");
    wait_trusted(&next, &trusted, &[API]);
    assert_eq!(wait_trusted(&next, &trusted, &[APP]), app);
    wait_at_rest(&next, &[APP, API]);
    // The order of the first one was brought home, and no other was placed.
    assert_eq!((ca.orders().len(), ca.issued().len(), ca.accounts()), (2, 2, 1));
    assert_eq!(ca.complaints(), [""; 0]);
}

#[test]
fn the_first_ends_orderly_in_the_middle_of_an_order() {
    takes_over(|first| first.sigterm(), true);
}

#[test]
fn the_first_is_killed_in_the_middle_of_an_order() {
    takes_over(Edge::kill, false);
}

#[test]
fn two_that_start_at_once_place_one_order_per_host() {
    let stage = Stage::new();
    let pebble = stage.pebble();
    let conf = ordering(stage.hosts(&HOSTS), &pebble, "");
    let config = stage.lab.write("edge.yaml", conf.render(stage.lab.path()));
    let mut one = Edge::spawn(&stage.lab, &config, &["--share-ports"]);
    let other = second(&stage, &conf, &["--share-ports"]);
    one.wait_ready();
    // The kernel gives each of them a part of the CA's questions.
    let trusted = pebble.trusted(stage.https.addr);
    wait_trusted(&one, &trusted, &HOSTS);
    for edge in [&one, &other] {
        wait_at_rest(edge, &HOSTS);
    }
    assert_eq!((pebble.orders(), pebble.issued()), (4, 4));
    let mut roles = [&one, &other]
        .map(|edge| edge.admin("/api/v1/certificates").json()["role"].as_str().unwrap().to_owned());
    roles.sort();
    assert_eq!(roles, ["owner", "reader"]);
}
