//! What clients, operators and monitoring see of a failing CA, on the edge itself.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

use super::*;
use crate::harness::acme::mock_ca::{Fault, Problem};
use crate::harness::{Client, Conf, Edge, eventually, wait_until};

fn conf(ca: &MockCa, keys: &str) -> Conf {
    Conf::app(&["127.0.0.1:1".parse().unwrap()]).acme(&ca.directory(), None, keys)
}

fn certificate(edge: &Edge) -> Value {
    edge.admin("/api/v1/certificates").json()["certificates"][0].clone()
}

/// The certificate that a client is shown.
fn shown(ca: &MockCa, edge: &Edge) -> Vec<u8> {
    leaf(&ca.trusted(edge.https).connect(APP))
}

/// The same, once one of this CA is served: a moment after the books have it.
fn soon_shown(ca: &MockCa, edge: &Edge) -> Vec<u8> {
    let trusted = ca.trusted(edge.https);
    leaf(&eventually("one of this CA", || trusted.try_connect(APP).ok()))
}

fn leaf(client: &Client) -> Vec<u8> {
    client.tls().peer_certificates().unwrap()[0].to_vec()
}

/// As `certs renew` does.
fn renew(edge: &Edge, force: bool) {
    let body = format!("{{\"name\":\"{APP}\",\"force\":{force}}}");
    let answer = edge.act("/api/v1/certificates/renew", &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn a_failing_renewal_takes_nothing_away_and_is_seen_everywhere() {
    let page = "https://ca.invalid/why-now";
    let ca = MockCa::with(|knobs| knobs.explanation = Some(page.to_owned()));
    let edge = Edge::start(&conf(&ca, ""));
    ca.wait_issued(1);
    edge.wait_stderr(page);
    wait_until("the certificate", || certificate(&edge)["state"] == "valid");
    let first = soon_shown(&ca, &edge);
    assert_times(&edge);
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
    assert_ready(&edge, 1.0);

    renew(&edge, true);
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
    assert_ready(&edge, 1.0);
    assert_eq!(edge.metric("edge_acme_orders_total{result=\"refused\"}"), 1.0);
    assert_eq!(edge.metric("edge_acme_orders_total{result=\"issued\"}"), 1.0);
    let series = format!("edge_acme_next_attempt_timestamp_seconds{{certificate=\"{APP}\"}}");
    let next = edge.metric(&series);
    let in_a_day = next - f64::from(u32::try_from(real_now()).unwrap());
    assert!((17.0..31.0).contains(&(in_a_day / 3600.0)), "{in_a_day}");
    edge.wait_stderr("agree to the terms of 2027 first");

    ca.heal();
    renew(&edge, true);
    eventually("the new certificate", || (shown(&ca, &edge) != first).then_some(()));
    assert!(
        eventually("its row", || {
            let row = certificate(&edge);
            (row["failures"] == 0).then_some(row)
        })["last_error"]
            .is_null()
    );
}

/// Its dates are those of the API, in the order in which they come.
fn assert_times(edge: &Edge) {
    let row = certificate(edge);
    let told = [("not_before", "not_before"), ("renewal", "renews_at"), ("not_after", "not_after")];
    let mut last = 0.0;
    for (family, key) in told {
        let series =
            format!("edge_certificate_{family}_timestamp_seconds{{certificate=\"{APP}\"}}");
        let at = edge.metric(&series);
        let text = row[key].as_str().unwrap();
        let format = &time::format_description::well_known::Rfc3339;
        let of_api = time::OffsetDateTime::parse(text, format).unwrap().unix_timestamp();
        assert_eq!(at, of_api as f64, "{family}: {row}");
        assert!(at > last, "{family}: {at}");
        last = at;
    }
    assert_eq!(edge.metric("edge_certificate_info{issuer=\"acme\",key_type=\"ecdsa\"}"), 1.0);
}

fn assert_ready(edge: &Edge, ready: f64) {
    let series = format!("edge_certificate_ready{{certificate=\"{APP}\"}}");
    assert_eq!(edge.metric(&series), ready);
}

/// Days after its end, with the CA down: clients that look see an old certificate, and not none.
#[test]
fn an_expired_certificate_serves_until_there_is_a_better_one() {
    let ca = MockCa::with(|knobs| knobs.lifetime = 1);
    let mut edge = Edge::start(&conf(&ca, ""));
    eventually("the certificate", || (certificate(&edge)["state"] != "placeholder").then_some(()));
    ca.down(&Fault::html_502());
    let expired = eventually("its end", || {
        let row = certificate(&edge);
        (row["state"] == "expired").then_some(row)
    });
    let leaf = ca.issued().last().unwrap().leaf.to_vec();
    assert_eq!(unverified(&edge), leaf);
    wait_until("the metric", || {
        edge.metric(&format!("edge_certificate_ready{{certificate=\"{APP}\"}}")) == 0.0
    });
    assert!(expired["not_after"].is_string());
    // Also after a restart, with the CA still down.
    let lab = edge.lab.clone();
    edge.sigterm();
    edge.wait_exit();
    let again = Edge::start_file(&lab, &lab.path().join("edge.yaml"));
    assert_eq!(unverified(&again), leaf);
    ca.heal();
    ca.set(|knobs| knobs.lifetime = 86_400);
    renew(&again, true);
    eventually("the new one", || (unverified(&again) != leaf).then_some(()));
    assert_ready(&again, 1.0);
}

/// What is shown to a client that trusts nobody: it looks before it leaves.
fn unverified(edge: &Edge) -> Vec<u8> {
    let output = std::process::Command::new("openssl")
        .args(["s_client", "-connect", &edge.https.to_string(), "-servername", APP])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let begin = text.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("{text}"));
    CertificateDer::from_pem_slice(&text.as_bytes()[begin..]).unwrap().to_vec()
}

/// A reload to another CA: the first one's certificate serves on while the second one is down.
#[test]
fn a_reload_to_another_ca() {
    let (a, b) = (MockCa::start(), MockCa::start());
    let edge = Edge::start(&conf(&a, ""));
    eventually("the certificate", || (certificate(&edge)["state"] == "valid").then_some(()));
    let first = soon_shown(&a, &edge);
    b.always(Endpoint::NewOrder, &Fault::internal());
    assert_eq!(edge.reload(&conf(&b, ""))["outcome"], "applied");
    eventually("a failure", || (certificate(&edge)["failures"] == 1).then_some(()));
    assert_eq!(shown(&a, &edge), first);
    assert_eq!(certificate(&edge)["issued_by"], a.directory());
    assert_eq!(edge.metric("edge_certificate_info{issuer=\"former\"}"), 1.0);
    b.heal();
    renew(&edge, false);
    b.wait_issued(1);
    eventually("B's", || (certificate(&edge)["issued_by"] == b.directory()).then_some(()));
    assert_eq!(soon_shown(&b, &edge), b.issued()[0].leaf.to_vec());
    assert_eq!((a.orders().len(), b.orders().len()), (1, 1));
}

/// Profile and staging directory get from the file to the CA.
#[test]
fn profile_and_stage_of_the_file() {
    let staging = MockCa::start();
    let ca = MockCa::with(|knobs| {
        knobs.profiles.insert("shortlived".into(), 6 * DAY);
    });
    for ca in [&ca, &staging] {
        ca.set(|knobs| {
            knobs.invalid.insert(APP.into(), Problem::new(400, "dns", "gone"));
        });
    }
    let keys = format!("profile: shortlived, staging: \"{}\"", staging.directory());
    let edge = Edge::start(&conf(&ca, &keys));
    eventually("a failure", || (certificate(&edge)["failures"] == 1).then_some(()));
    assert_eq!(ca.orders()[0].profile.as_deref(), Some("shortlived"));
    renew(&edge, false);
    eventually("another", || (certificate(&edge)["failures"] == 2).then_some(()));
    assert_eq!((ca.orders().len(), staging.orders().len()), (1, 1));
    let error = certificate(&edge)["last_error"]["text"].as_str().unwrap().to_owned();
    assert!(error.contains("gone"), "{error}");
    assert_ready(&edge, 0.0);
}
