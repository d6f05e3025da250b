//! The next issuer, and the dry run before a name fails once more where it counts.

use super::*;
use crate::harness::acme::mock_ca::{Fault, Problem};

/// `main` with the fallback `spare`.
fn pair() -> (MockCa, MockCa, Sim) {
    let (main, spare) = (MockCa::start(), MockCa::start());
    let mut sim = Sim::idle(&main).with_issuer("spare", &spare);
    sim.issuer("main").fallback = Some("spare".to_owned());
    sim.wanted.certificates.push(sim::certificate(APP));
    (main, spare, sim)
}

fn dns() -> Problem {
    Problem::new(400, "dns", "NXDOMAIN")
}

#[test]
fn a_ca_that_is_down_is_passed_over_and_returned_to() {
    let (main, spare, mut sim) = pair();
    main.down(&Fault::html_502());
    sim.run();
    sim.pass(10 * MINUTE);
    assert_eq!(main.count(Endpoint::Directory), 3, "three failures, then the next");
    assert_eq!((main.issued().len(), spare.issued().len()), (0, 1));
    assert_eq!(sim.row(APP).failures, 0);
    let spared = spare.issued()[0].at;
    main.heal();
    // The certificate of the second issuer is as good, until it is due.
    sim.pass(50 * DAY);
    assert_eq!((main.issued().len(), spare.issued().len()), (0, 1));
    sim.pass(15 * DAY);
    assert_eq!((main.issued().len(), spare.issued().len()), (1, 1));
    assert!(main.issued()[0].at > spared + 50 * DAY);
    assert_eq!(main.orders()[0].replaces, None, "it was not issued there");
    assert_eq!(sim.serial(APP), acme_serial(&main));
}

fn acme_serial(ca: &MockCa) -> Option<String> {
    let issued = ca.issued();
    let (_, leaf) = x509_parser::parse_x509_certificate(&issued.last()?.leaf).ok()?;
    Some(leaf.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect())
}

/// Refuses for longer than an hour.
#[test]
fn a_ca_that_wants_to_be_left_alone_is_passed_over() {
    let (main, spare, mut sim) = pair();
    main.always(Endpoint::NewOrder, &Fault::rate_limited("86400"));
    sim.run();
    sim.pass(10 * MINUTE);
    assert_eq!((main.count(Endpoint::NewOrder), spare.issued().len()), (1, 1));
}

/// Both are down: neither is asked more often for it.
#[test]
fn with_both_down_neither_is_stormed() {
    let (main, spare, mut sim) = pair();
    main.down(&Fault::empty_503());
    spare.down(&Fault::empty_503());
    sim.run();
    sim.pass(2 * DAY);
    for ca in [&main, &spare] {
        let asked = ca.count(Endpoint::Directory);
        assert!((3..=70).contains(&asked), "{asked}");
    }
    assert!(main.count(Endpoint::Directory) + spare.count(Endpoint::Directory) <= 140);
    spare.heal();
    sim.pass(3 * HOUR);
    assert_eq!(spare.issued().len(), 1);
}

/// With an order placed at the first that nobody will ever finish.
#[test]
fn an_order_under_way_does_not_bind_to_a_ca_that_is_gone() {
    let (main, spare, mut sim) = pair();
    main.always(Endpoint::Finalize, &Fault::Close);
    sim.run();
    sim.pass(10 * MINUTE);
    assert_eq!(main.orders().len(), 1);
    assert_eq!((main.issued().len(), spare.issued().len()), (0, 1));
}

/// Less than a sixth of its life is left: one failure is enough.
#[test]
fn time_runs_out() {
    let (main, spare, mut sim) = pair();
    sim.run();
    sim.settle();
    assert_eq!(main.issued().len(), 1);
    sim.stop();
    // Nobody was there for most of its life.
    sim.skip(80 * DAY);
    main.always(Endpoint::NewOrder, &Fault::internal());
    sim.restart();
    sim.pass(10);
    // The first one, and one attempt: with the former certificate named and without.
    assert_eq!((main.count(Endpoint::NewOrder), spare.issued().len()), (3, 1));
}

/// A failed validation is counted by the CA: the second try is made where it is not.
#[test]
fn the_second_try_is_a_rehearsal() {
    let (main, staging) = (MockCa::start(), MockCa::start());
    for ca in [&main, &staging] {
        ca.set(|knobs| {
            knobs.invalid.insert(APP.to_owned(), dns());
        });
    }
    // Only for its clock: it is no issuer.
    let mut sim = Sim::idle(&main).with_issuer("staging", &staging);
    sim.issuer("main").staging = Some(staging.directory());
    sim.wanted.certificates.push(sim::certificate(APP));
    sim.run();
    sim.pass(3 * DAY);
    assert_eq!(main.orders().len(), 1, "one failed validation, and no more");
    let rehearsals = staging.orders().len();
    assert!((5..=9).contains(&rehearsals), "{rehearsals}");
    assert!(told(&sim.row(APP)).contains("NXDOMAIN"));
    // Put right: the next rehearsal succeeds and production is asked in the same minute.
    for ca in [&main, &staging] {
        ca.set(|knobs| knobs.invalid.clear());
    }
    sim.pass(DAY + DAY / 4);
    assert_eq!((main.orders().len(), main.issued().len()), (2, 1));
    assert_eq!(staging.orders().len(), rehearsals + 1);
    assert!(main.orders()[1].at - staging.orders().last().unwrap().at < MINUTE);
    assert_eq!(staging.issued().len(), 0, "nobody needs its certificates");
    assert!(staging.authorizations().iter().all(|(_, status)| status != "pending"));
}

/// A staging directory that is down is no reason to wait.
#[test]
fn without_the_stage_there_is_no_rehearsal() {
    let (main, staging) = (MockCa::start(), MockCa::start());
    main.set(|knobs| {
        knobs.invalid.insert(APP.to_owned(), dns());
    });
    staging.down(&Fault::html_502());
    let mut sim = Sim::idle(&main);
    sim.issuer("main").staging = Some(staging.directory());
    sim.wanted.certificates.push(sim::certificate(APP));
    sim.run();
    sim.settle();
    main.set(|knobs| knobs.invalid.clear());
    sim.pass(2 * MINUTE);
    assert_eq!(main.issued().len(), 1);
    assert!(staging.count(Endpoint::Directory) >= 1);
}
