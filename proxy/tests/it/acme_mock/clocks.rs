//! Clocks that jump, here or at the CA.

use super::*;

/// Suspended, restored from a snapshot, set by hand; without a word from the CA about the time.
#[test]
fn jumps_of_days_and_years() {
    let ca = MockCa::start();
    let mut sim = Sim::start(&ca, &[APP, API]);
    sim.settle();
    for (jump, most) in [(20, 2), (-40, 2), (-365, 2), (3 * 365, 4), (-3 * 365, 4), (340, 4)] {
        sim.jump(jump * DAY);
        sim.pass(3 * HOUR);
        assert!(ca.orders().len() <= most, "after {jump} days: {} orders", ca.orders().len());
        assert!(sim.serial(APP).is_some() && sim.serial(API).is_some());
        sim.restart();
        sim.pass(HOUR);
        assert!(ca.orders().len() <= most, "a restart after {jump} days");
    }
}

/// Back and forth, as with two sources of time that disagree.
#[test]
fn a_clock_that_cannot_decide() {
    let ca = MockCa::start();
    let sim = Sim::start(&ca, &[APP]);
    sim.settle();
    for _ in 0..20 {
        for jump in [200 * DAY, -200 * DAY] {
            sim.jump(jump);
            sim.pass(MINUTE);
        }
    }
    // Each of them knows a certificate that is good now.
    assert!(ca.orders().len() <= 4, "{} orders", ca.orders().len());
}

/// A failure that was noted by a clock ahead of time does not hold for ever.
#[test]
fn a_back_off_from_the_future() {
    let ca = MockCa::start();
    let down = crate::harness::acme::mock_ca::Fault::internal();
    ca.always(Endpoint::NewOrder, &down);
    let mut sim = Sim::idle(&ca);
    sim.wanted.certificates.push(sim::certificate(APP));
    sim.jump(500 * DAY);
    sim.run();
    sim.pass(HOUR);
    sim.stop();
    ca.heal();
    sim.jump(-500 * DAY);
    sim.restart();
    sim.pass(2 * HOUR);
    assert_eq!(ca.issued().len(), 1, "{}", told(&sim.row(APP)));
}

/// This machine's clock is two years behind: the certificate would not be valid yet for it.
#[test]
fn a_wrong_clock_here_is_told_and_the_cas_is_believed() {
    let ca = MockCa::start();
    for off in [-700 * DAY, 40 * DAY] {
        let mut sim = Sim::idle(&ca);
        // The CA lives in the real time, and its answers say so.
        ca.set(|knobs| {
            knobs.clock = None;
            knobs.date_ahead = -off;
        });
        let before = ca.issued().len();
        sim.wanted.certificates.push(sim::certificate(APP));
        sim.jump(off);
        sim.run();
        sim.settle();
        assert_eq!(ca.issued().len(), before + 1, "{}", told(&sim.row(APP)));
        let skew = sim.view().clock_skew.unwrap();
        assert!((skew + off).abs() <= 5, "{skew}");
        assert!(sim.row(APP).leaf().is_some());
        for _ in 0..10 {
            sim.restart();
            sim.skip(HOUR);
            ca.set(|knobs| knobs.date_ahead -= HOUR);
            sim.settle();
        }
        assert_eq!(ca.issued().len(), before + 1, "not again");
    }
}

/// What the CA asks to wait is measured in its time.
#[test]
fn a_retry_after_under_a_wrong_clock() {
    let ca = MockCa::start();
    let mut sim = Sim::idle(&ca);
    ca.set(|knobs| {
        knobs.clock = None;
        knobs.date_ahead = 30 * DAY;
    });
    let fault = crate::harness::acme::mock_ca::Fault::rate_limited("7200");
    ca.always(Endpoint::NewOrder, &fault);
    sim.wanted.certificates.push(sim::certificate(APP));
    sim.run();
    sim.settle();
    // By now it goes by the CA's clock, 30 days ahead.
    assert!(sim.view().clock_skew.is_some());
    let wait = sim.row(APP).next_at - (sim.now() + 30 * DAY);
    assert!((2 * HOUR - 5..=2 * HOUR + HOUR / 4).contains(&wait), "{wait}");
    sim.skip(HOUR);
    sim.settle();
    assert_eq!(ca.count(Endpoint::NewOrder), 1);
    sim.skip(HOUR + HOUR / 4);
    sim.settle();
    assert_eq!(ca.count(Endpoint::NewOrder), 2);
}

/// A CA whose Date is nonsense: nothing is ordered in a loop for it.
#[test]
fn a_ca_with_a_wrong_clock() {
    for ahead in [400 * DAY, -400 * DAY] {
        let ca = MockCa::with(|knobs| knobs.date_ahead = ahead);
        let sim = Sim::start(&ca, &[APP]);
        sim.pass_by(30 * HOUR, HOUR);
        let at: Vec<i64> = ca.issued().iter().map(|issued| issued.at).collect();
        // An order that brought nothing of use is kept for a day.
        assert!(at.len() <= 4 && closest(&at) >= DAY, "{ahead}: {at:?}");
        ca.set(|knobs| knobs.date_ahead = 0);
        sim.pass_by(3 * HOUR, HOUR);
        assert!(sim.row(APP).leaf().is_some(), "{}", told(&sim.row(APP)));
        assert_eq!(ca.issued().len(), at.len(), "what was kept is of use now");
        assert_eq!(sim.view().clock_skew, None);
    }
}
