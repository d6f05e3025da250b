//! kill -9 at every request of an order: before the CA does anything, and when it has done it but
//! nobody was told. The scriptable CA can stop at each; Pebble goes on without us.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::harness::acme::MockCa;
use crate::harness::acme::mock_ca::{Endpoint, Fault};

fn ca() -> MockCa {
    MockCa::with(|knobs| {
        // The last request of an order is the download.
        knobs.renewal_info = false;
        // An order is polled after finalize.
        knobs.processing_polls = 1;
        knobs.poll_retry_after = Some(1);
    })
}

fn conf(stage: &Stage, ca: &MockCa) -> Conf {
    stage.hosts(&[APP]).acme(&ca.directory(), None, "")
}

/// The endpoints that an undisturbed order asks, in order.
fn undisturbed() -> Vec<Endpoint> {
    let (stage, ca) = (Stage::new(), ca());
    let edge = stage.start(&conf(&stage, &ca));
    wait_trusted(&edge, &ca.trusted(edge.https), &[APP]);
    wait_at_rest(&edge, &[APP]);
    let log = ca.log();
    assert!(log.iter().all(|entry| entry.status.is_some_and(|status| status < 300)), "{log:?}");
    log.iter().map(|entry| entry.endpoint.unwrap()).collect()
}

#[test]
fn a_kill_at_any_request_loses_and_wastes_nothing() {
    let steps = undisturbed();
    for step in [
        Endpoint::NewAccount,
        Endpoint::NewOrder,
        Endpoint::Authorization,
        Endpoint::Challenge,
        Endpoint::Order,
        Endpoint::Finalize,
        Endpoint::Certificate,
    ] {
        assert!(steps.contains(&step), "{steps:?}");
    }
    let faults = [Fault::Hang, Fault::DoneThenHang];
    let cases: Vec<(usize, Fault)> =
        (0..steps.len()).flat_map(|n| faults.iter().map(move |fault| (n, fault.clone()))).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some((n, fault)) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    kill_at(*n, steps[*n], fault);
                }
            });
        }
    });
}

fn kill_at(n: usize, step: Endpoint, fault: &Fault) {
    let case = format!("killed at request {n}, {step:?}, {fault:?}");
    let (stage, ca) = (Stage::new(), ca());
    let conf = conf(&stage, &ca);
    ca.nth(n, fault);
    let mut edge = stage.start(&conf);
    ca.wait_hung(n);
    edge.kill();

    let edge = stage.start(&conf);
    let shown = wait_trusted(&edge, &ca.trusted(edge.https), &[APP]).remove(0);
    wait_at_rest(&edge, &[APP]);
    let issued = ca.issued();
    assert_eq!(issued.len(), 1, "{case}: {issued:?}");
    assert_eq!(shown, issued[0].leaf, "{case}");
    assert_eq!(ca.complaints(), [""; 0], "{case}");
    let done = matches!(fault, Fault::DoneThenHang);
    // Whose answer nobody read, nobody knows: then there is one more, and never in other cases.
    let unknown = |endpoint| usize::from(done && step == endpoint);
    assert_eq!(ca.accounts(), 1 + unknown(Endpoint::NewAccount), "{case}");
    assert_eq!(ca.orders().len(), 1 + unknown(Endpoint::NewOrder), "{case}");
    assert!(told(&edge, APP).unwrap()["last_error"].is_null(), "{case}");
}

/// How many processes of an order are killed at once.
const LANES: usize = 5;

#[test]
fn pebble_goes_on_while_nobody_listens() {
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            scope.spawn(move || {
                let stage = Stage::new();
                let pebble = stage.pebble();
                let conf = ordering(stage.hosts(&[APP]), &pebble, "");
                let mut after = 1 + lane;
                while kill_during(&stage, &pebble, &conf, after) {
                    after += LANES;
                }
                assert!(after > 8, "an order has more requests than {after}");
            });
        }
    });
}

/// Kills the process when Pebble has taken this many requests of its; false: an order has fewer.
fn kill_during(stage: &Stage, pebble: &Pebble, conf: &Conf, after: usize) -> bool {
    let lab = Lab::new();
    let trusted = pebble.trusted(stage.https.addr);
    let (issued, orders, requests) = (pebble.issued(), pebble.orders(), pebble.requests());
    let mut edge = Edge::start_in(&lab, conf);
    let reached = in_time(&format!("{after} requests, or a certificate"), &edge, || {
        let reached = pebble.requests() >= requests + after;
        (reached || trusted.try_connect(APP).is_ok()).then_some(reached)
    });
    edge.kill();
    let edge = Edge::start_in(&lab, conf);
    wait_trusted(&edge, &trusted, &[APP]);
    wait_at_rest(&edge, &[APP]);
    assert_eq!(pebble.issued(), issued + 1, "killed after {after} requests");
    let placed = pebble.orders() - orders;
    assert!((1..=2).contains(&placed), "killed after {after} requests: {placed} orders");
    reached
}
