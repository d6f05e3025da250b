//! What this program allows itself, below what CAs allow.

use super::*;
use acme::keeper::WantedCertificate;

#[test]
fn renew_again_and_again() {
    let ca = MockCa::start();
    let sim = Sim::start(&ca, &[APP]);
    sim.settle();
    for _ in 0..8 * 24 * 4 {
        sim.renew(APP, false);
        sim.pass(HOUR / 4);
    }
    let at: Vec<i64> = ca.issued().iter().map(|issued| issued.at).collect();
    assert!(densest(&at, HOUR) == 1 && densest(&at, 7 * DAY) == 4, "{at:?}");
    assert!(at.len() >= 6, "it goes on when it may: {}", at.len());
    assert_eq!(
        sim.row(APP).next_why,
        "the budget is used up: 4 certificates for these names in 7 days"
    );
    // An operator's word.
    let before = ca.issued().len();
    sim.renew(APP, true);
    sim.settle();
    assert_eq!(ca.issued().len(), before + 1);
    // Once.
    sim.pass(DAY / 2);
    assert_eq!(ca.issued().len(), before + 1);
}

#[test]
fn restarts_in_a_loop_order_nothing() {
    let ca = MockCa::start();
    let mut sim = Sim::start(&ca, &[APP, API]);
    sim.settle();
    for _ in 0..10 {
        sim.restart();
        sim.pass(MINUTE);
    }
    assert_eq!((ca.issued().len(), ca.orders().len(), ca.accounts()), (2, 2, 1));
}

/// A state directory that loses its certificates and nothing else.
#[test]
fn lost_certificates_are_ordered_again_within_the_budget() {
    let ca = MockCa::start();
    let mut sim = Sim::start(&ca, &[APP]);
    sim.settle();
    for _ in 0..60 {
        sim.stop();
        std::fs::remove_dir_all(sim.state_file("certs")).unwrap();
        sim.restart();
        sim.pass(HOUR / 4);
        std::fs::create_dir_all(sim.state_file("certs")).unwrap();
    }
    let at: Vec<i64> = ca.issued().iter().map(|issued| issued.at).collect();
    assert_eq!((densest(&at, HOUR), at.len()), (1, 4), "{at:?}");
    assert!(sim.row(APP).next_why.contains("4 certificates for these names in 7 days"));
}

/// Removed and added again, also in the middle of its order.
#[test]
fn a_host_that_comes_and_goes() {
    let ca = MockCa::with(|knobs| knobs.processing_polls = 10);
    let mut sim = Sim::start(&ca, &[API]);
    let both = vec![sim::certificate(API), sim::certificate(APP)];
    for _ in 0..20 {
        sim.wanted.certificates = both.clone();
        sim.want();
        sim.poke();
        sim.wanted.certificates.truncate(1);
        sim.want();
        sim.poke();
    }
    sim.wanted.certificates = both;
    sim.want();
    sim.pass(HOUR);
    assert_eq!((ca.orders().len(), ca.issued().len()), (2, 2), "one for each");
    assert!(sim.serial(APP).is_some() && sim.serial(API).is_some());
    sim.restart();
    sim.settle();
    assert_eq!(ca.orders().len(), 2);
}

/// Its issuer goes with it, or gets another name, while the order is under way.
#[test]
fn an_issuer_that_is_renamed_during_its_order() {
    for fails in [false, true] {
        let ca = MockCa::with(|knobs| knobs.processing_polls = 10);
        if fails {
            ca.always(Endpoint::Finalize, &crate::harness::acme::mock_ca::Fault::internal());
        }
        let mut sim = Sim::start(&ca, &[APP]);
        ca.wait_count(Endpoint::NewOrder, 1);
        let issuer = sim.wanted.issuers.remove("main").unwrap();
        sim.wanted.issuers.insert("other".to_owned(), issuer);
        sim.wanted.certificates[0].issuer = "other".to_owned();
        sim.want();
        sim.settle();
        ca.heal();
        sim.pass(HOUR);
        assert_eq!((ca.orders().len(), ca.issued().len()), (1, 1), "fails: {fails}");
        assert!(sim.serial(APP).is_some());
    }
}

#[test]
fn sixty_hosts_under_one_domain() {
    let ca = MockCa::with(|knobs| knobs.renewal_info = false);
    let mut sim = Sim::idle(&ca);
    let host = |n: usize| format!("t{n}.tenants.openclaw.example");
    let of = |range: std::ops::Range<usize>| -> Vec<WantedCertificate> {
        range.map(|n| sim::certificate(&host(n))).collect()
    };
    sim.wanted.certificates = of(0..5);
    sim.run();
    sim.settle();
    sim.pass(57 * DAY);
    assert_eq!(ca.issued().len(), 5);
    // The five are due for renewal soon, and 60 others want their first certificate before.
    sim.wanted.certificates = of(0..65);
    sim.want();
    sim.settle();
    assert_eq!(ca.issued().len(), 55, "50 new ones");
    let view = sim.view();
    let waiting: Vec<&Row> = view.rows.iter().filter(|row| row.serving.is_empty()).collect();
    assert_eq!(waiting.len(), 10);
    for row in waiting {
        let limit = "50 new certificates under openclaw.example in 7 days";
        assert_eq!(row.next_why, format!("the budget is used up: {limit}"));
        assert!((6 * DAY..=7 * DAY).contains(&(row.next_at - sim.now())));
    }
    // Renewals are not held up by it.
    sim.pass(5 * DAY);
    assert_eq!(ca.issued().len(), 60);
    sim.pass(3 * DAY);
    assert_eq!(ca.issued().len(), 70);
    let orders: Vec<i64> = ca.orders().iter().map(|order| order.at).collect();
    assert_eq!(orders.len(), 70);
}

/// What is due at the same time: renewals first.
#[test]
fn renewals_go_first() {
    let ca = MockCa::with(|knobs| knobs.renewal_info = false);
    let mut sim = Sim::idle(&ca);
    // One order in three hours.
    sim.issuer("main").limits.orders_3h = 1;
    sim.wanted.certificates = vec![sim::certificate("z.openclaw.example")];
    sim.run();
    sim.settle();
    sim.skip(65 * DAY);
    let tenant = WantedCertificate {
        priority: acme::ledger::Priority::Tenant,
        ..sim::certificate("a.openclaw.example")
    };
    sim.wanted.certificates.extend([sim::certificate("b.openclaw.example"), tenant]);
    sim.want();
    sim.pass(10 * HOUR);
    let order: Vec<String> = ca.orders().iter().map(|order| order.names[0].clone()).collect();
    let of = |host: &str| format!("{host}.openclaw.example");
    assert_eq!(order, [of("z"), of("z"), of("b"), of("a")]);
    let at: Vec<i64> = ca.orders().iter().map(|order| order.at).collect();
    assert!(closest(&at) >= 3 * HOUR);
}
