//! A CA that is away for as long as a certificate lives.

use super::*;
use crate::harness::acme::mock_ca::Fault;

#[test]
fn away_for_a_whole_life_except_its_end() {
    for back in [6 * DAY - HOUR, 7 * DAY] {
        let ca = MockCa::with(|knobs| knobs.lifetime = 6 * DAY);
        let sim = Sim::start(&ca, &[APP]);
        sim.settle();
        let (serial, begun) = (sim.serial(APP), sim.now());
        ca.down(&Fault::html_502());
        sim.pass(back);
        assert_eq!(sim.serial(APP), serial, "it serves, in time or not");
        let row = sim.row(APP);
        assert!(row.failures > 30 && told(&row).contains("502"), "{} failures", row.failures);
        assert!(row.next_at - sim.now() <= 2 * HOUR, "never far from the next attempt");
        ca.heal();
        sim.pass(2 * HOUR);
        assert_ne!(sim.serial(APP), serial, "after {} days", back / DAY);
        assert!(ca.issued()[1].at - begun - back <= 75 * MINUTE);
        assert_eq!((ca.issued().len(), sim.row(APP).failures), (2, 0));
    }
}

/// Short lives leave short times.
#[test]
fn six_days_and_the_ca_is_away_for_two() {
    let ca = MockCa::with(|knobs| {
        knobs.lifetime = 6 * DAY;
        knobs.renewal_info = false;
    });
    let sim = Sim::start(&ca, &[APP]);
    sim.pass(2 * DAY);
    ca.down(&Fault::Close);
    sim.pass(2 * DAY);
    assert_eq!(ca.issued().len(), 1);
    ca.heal();
    sim.pass(2 * HOUR);
    assert_eq!(ca.issued().len(), 2, "with a third of its life left");
    // And so on, for two months: one in three days.
    sim.pass(60 * DAY);
    assert!((20..=24).contains(&ca.issued().len()), "{}", ca.issued().len());
}

/// The process is killed again and again meanwhile: it asks no more often for it.
#[test]
fn restarts_do_not_shorten_the_back_off() {
    let ca = MockCa::start();
    ca.always(Endpoint::NewOrder, &Fault::internal());
    let mut sim = Sim::start(&ca, &[APP]);
    sim.pass(DAY);
    let before = ca.count(Endpoint::NewOrder);
    for _ in 0..12 {
        sim.restart();
        sim.pass(5 * MINUTE);
    }
    assert!(ca.count(Endpoint::NewOrder) <= before + 2);
}
