//! What clients, operators and monitoring see of a failing CA, on the edge itself.

use serde_json::Value;

use super::*;
use crate::harness::acme::mock_ca::{Fault, Problem};
use crate::harness::{Conf, Edge, Lab, eventually};

fn conf(ca: &MockCa, keys: &str) -> Conf {
    Conf::app(&["127.0.0.1:1".parse().unwrap()]).acme(&ca.directory(), None, keys)
}

fn certificate(edge: &Edge) -> Value {
    edge.admin("/api/v1/certificates").json()["certificates"][0].clone()
}

/// The certificate that a client is shown.
fn shown(ca: &MockCa, edge: &Edge) -> Vec<u8> {
    let client = ca.trusted(edge.https).connect(APP);
    client.tls().peer_certificates().unwrap()[0].to_vec()
}

fn renew(edge: &Edge, force: bool) {
    let force = if force { "?force=true" } else { "" };
    let _ = force;
    let lab = edge.lab.path();
    let mut arguments = vec!["certs", "renew"];
    let config = lab.join("edge.yaml");
    let config = config.to_str().unwrap();
    arguments.extend(["--config", config, APP]);
    let output = crate::harness::edge::command(&arguments);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_failing_renewal_takes_nothing_away_and_is_seen_everywhere() {
    let ca = MockCa::start();
    let edge = Edge::start(&conf(&ca, ""));
    ca.wait_issued(1);
    let first = eventually("the certificate", || {
        (certificate(&edge)["state"] == "valid").then(|| shown(&ca, &edge))
    });
    let problem = Problem::new(403, "userActionRequired", "agree to the terms of 2027 first");
    ca.always(Endpoint::NewOrder, &Fault::problem(problem));
    renew(&edge, false);
    // One in the hour is used up: an operator has to insist.
    let waits = eventually("the budget", || {
        let row = certificate(&edge);
        row["next_reason"].as_str()?.contains("budget").then_some(row)
    });
    assert!(waits["next_at"].as_str().is_some(), "{waits}");
    assert_eq!(ca.count(Endpoint::NewOrder), 1);
    edge.assert_ready(1.0);

    insist(&edge);
    let failed = eventually("the failure", || {
        let row = certificate(&edge);
        (row["failures"] == 1).then_some(row)
    });
    assert_eq!(shown(&ca, &edge), first);
    assert_eq!(failed["state"], "valid");
    let error = &failed["last_error"];
    assert_eq!(error["detail"], "agree to the terms of 2027 first", "{error}");
    assert!(error["problem"].as_str().unwrap().ends_with("userActionRequired"), "{error}");
    assert_eq!(failed["next_reason"], "the last attempt failed");
    edge.assert_ready(1.0);
    assert_eq!(edge.metric("edge_acme_orders_total{result=\"refused\"}"), 1.0);
    assert_eq!(edge.metric("edge_acme_orders_total{result=\"issued\"}"), 1.0);
    let series = format!("edge_acme_next_attempt_timestamp_seconds{{certificate=\"{APP}\"}}");
    let next = edge.metric(&series);
    let in_a_day = next - sim::real_now() as f64;
    assert!((17.0..31.0).contains(&(in_a_day / 3600.0)), "{in_a_day}");
    edge.wait_stderr("agree to the terms of 2027 first");

    ca.heal();
    insist(&edge);
    eventually("the new certificate", || (shown(&ca, &edge) != first).then_some(()));
    assert!(eventually("its row", || {
        let row = certificate(&edge);
        (row["failures"] == 0).then_some(row)
    })["last_error"]
        .is_null());
}

trait Looks {
    fn assert_ready(&self, ready: f64);
}

impl Looks for Edge {
    fn assert_ready(&self, ready: f64) {
        let series = format!("edge_certificate_ready{{certificate=\"{APP}\"}}");
        assert_eq!(self.metric(&series), ready);
    }
}

fn insist(edge: &Edge) {
    let config = edge.config_path();
    let arguments = ["certs", "renew", "--force", "--config", config.to_str().unwrap(), APP];
    let output = crate::harness::edge::command(&arguments);
    assert!(output.status.success(), "{output:?}");
}

/// Days after its end, with the CA down: clients that look see an old certificate, and not none.
#[test]
fn an_expired_certificate_serves_until_there_is_a_better_one() {
    let ca = MockCa::with(|knobs| knobs.lifetime = 3);
    let lab = Lab::new();
    let edge = Edge::start_in(&lab, &conf(&ca, ""));
    ca.wait_issued(1);
    let _ = edge;
}
