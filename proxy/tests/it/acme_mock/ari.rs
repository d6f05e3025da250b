//! Renewal information (RFC 9773), `replaces` and profiles, and CAs that get them wrong.

use super::*;
use crate::harness::acme::mock_ca::{Fault, Knobs, Problem, Replaces};

/// A CA whose certificates live for 60 days, and an edge that has one of them.
fn issued(set: impl FnOnce(&mut Knobs)) -> (MockCa, Sim) {
    let ca = MockCa::with(|knobs| {
        knobs.lifetime = 60 * DAY;
        set(knobs);
    });
    let sim = Sim::start(&ca, &[APP]);
    sim.settle();
    assert_eq!(ca.issued().len(), 1);
    assert_eq!(ca.count(Endpoint::RenewalInfo), 1);
    (ca, sim)
}

/// cert-manager#8993: 5 certificates in 10 s.
#[test]
fn a_window_in_the_past_renews_once() {
    let (ca, sim) = issued(|_| ());
    let first = ca.issued()[0].cert_id.clone();
    let now = sim.now();
    ca.set(|knobs| {
        knobs.windows.insert(first.clone(), (now - 2 * DAY, now - DAY));
    });
    sim.pass_by(DAY, HOUR);
    let issued = ca.issued();
    assert_eq!(issued.len(), 2, "at once, and not again");
    assert!(issued[1].at - now <= 7 * HOUR, "with the next look: {}", issued[1].at - now);
    assert_eq!(ca.orders()[1].replaces, Some(first));
    assert_eq!(sim.serial(APP), acme::ca::CertId::of(&issued[1].leaf).map(|_| serial(&issued[1])));
    sim.pass_by(7 * DAY, 6 * HOUR);
    assert_eq!(ca.issued().len(), 2);
}

fn serial(issued: &crate::harness::acme::mock_ca::Issued) -> String {
    let (_, leaf) = x509_parser::parse_x509_certificate(&issued.leaf).unwrap();
    leaf.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Of every certificate that it ever issues: the ledger bounds it.
#[test]
fn a_ca_that_wants_everything_renewed_at_once() {
    let now = sim::real_now();
    let (ca, sim) = issued(|knobs| knobs.window = Some((now - 2 * DAY, now - DAY)));
    sim.pass_by(6 * DAY, HOUR);
    let at: Vec<i64> = ca.issued().iter().map(|issued| issued.at).collect();
    assert!(at.len() == 4 && closest(&at) >= HOUR, "{at:?}");
    assert!(sim.row(APP).next_why.contains("4 certificates for these names in 7 days"));
    // No more questions than usual either.
    assert!(ca.count(Endpoint::RenewalInfo) <= 6 * 4 + 5, "{}", ca.count(Endpoint::RenewalInfo));
}

/// The same with a notBefore that looks old from the start (cert-manager#8993, too).
#[test]
fn a_dated_back_certificate_is_not_old() {
    let ca = MockCa::with(|knobs| {
        knobs.backdate = 50 * DAY;
        knobs.lifetime = 10 * DAY;
        knobs.renewal_info = false;
    });
    let sim = Sim::start(&ca, &[APP]);
    sim.pass_by(6 * DAY, HOUR);
    assert_eq!(ca.issued().len(), 1, "two thirds of what is left: of 10 days");
    sim.pass_by(2 * DAY, HOUR);
    assert_eq!(ca.issued().len(), 2);
}

#[test]
fn a_window_that_moves_is_followed() {
    let (ca, sim) = issued(|knobs| knobs.renewal_retry_after = Some("3600".to_owned()));
    let now = sim.now();
    let id = ca.issued()[0].cert_id.clone();
    let set = |from: i64, to: i64| {
        ca.set(|knobs| {
            knobs.windows.insert(id.clone(), (now + from, now + to));
        });
    };
    set(30 * DAY, 31 * DAY);
    sim.pass_by(2 * HOUR, HOUR / 2);
    let row = sim.row(APP);
    let window = now + 30 * DAY..=now + 31 * DAY;
    assert!(window.contains(&row.next_at), "{}", row.next_at - now);
    let drawn = row.next_at;
    sim.pass_by(5 * HOUR, HOUR / 2);
    assert_eq!(sim.row(APP).next_at, drawn, "drawn once");
    set(2 * DAY, 3 * DAY);
    sim.pass_by(3 * DAY, HOUR);
    let issued = ca.issued();
    assert_eq!(issued.len(), 2);
    assert!((now + 2 * DAY..=now + 3 * DAY + 1).contains(&issued[1].at));
}

/// A window for another certificate, none at all, broken answers, a window after the end: the
/// certificate's age decides.
#[test]
fn without_usable_information_its_age_decides() {
    let now = sim::real_now();
    let not_found = Fault::problem(Problem::not_found());
    let page = Fault::html_502();
    let faults = [Some(not_found), Some(page), Some(Fault::Close), None];
    for fault in faults {
        let ca = MockCa::with(|knobs| {
            knobs.lifetime = 60 * DAY;
            // Ends after the certificate does.
            knobs.window = Some((now - DAY, now + 400 * DAY));
        });
        if let Some(fault) = &fault {
            ca.always(Endpoint::RenewalInfo, fault);
        }
        let sim = Sim::start(&ca, &[APP]);
        sim.pass_by(35 * DAY, 6 * HOUR);
        assert_eq!(ca.issued().len(), 1, "{fault:?}");
        let asked = times(&ca, Endpoint::RenewalInfo);
        assert!(densest(&asked, DAY) <= 5 && asked.len() >= 60, "{fault:?}: {}", asked.len());
        sim.pass_by(10 * DAY, 6 * HOUR);
        assert_eq!(ca.issued().len(), 2, "{fault:?}");
        let age = ca.issued()[1].at - ca.issued()[0].at;
        assert!((38 * DAY..=42 * DAY).contains(&age), "{fault:?}: {}", age / DAY);
    }
}

#[test]
fn information_without_a_retry_after_is_good() {
    let (ca, sim) = issued(|knobs| knobs.renewal_retry_after = None);
    let now = sim.now();
    let id = ca.issued()[0].cert_id.clone();
    ca.set(|knobs| {
        knobs.windows.insert(id, (now + 2 * DAY, now + 3 * DAY));
    });
    sim.pass_by(4 * DAY, HOUR);
    assert_eq!(ca.issued().len(), 2);
    assert!(ca.issued()[1].at >= now + 2 * DAY);
}

#[test]
fn a_replaced_certificate_is_renewed_without_naming_it() {
    for replaces in [Replaces::Refuse, Replaces::Ignore] {
        let (ca, sim) = issued(|knobs| knobs.replaces = replaces);
        sim.renew(APP, true);
        sim.settle();
        assert_eq!(ca.issued().len(), 2, "{replaces:?}: {}", told(&sim.row(APP)));
        assert_eq!(ca.count(Endpoint::NewOrder), 3, "once with it, once without");
        let asked = ca.requests(Endpoint::NewOrder);
        let named = |n: usize| asked[n].payload["replaces"].as_str().map(str::to_owned);
        assert_eq!((named(1), named(2)), (Some(ca.issued()[0].cert_id.clone()), None));
        assert_eq!(sim.row(APP).failures, 0);
    }
}

/// The one that is named is the one that serves.
#[test]
fn each_renewal_names_its_predecessor() {
    let (ca, sim) = issued(|knobs| knobs.lifetime = 90 * DAY);
    sim.pass_by(140 * DAY, DAY);
    let (issued, orders) = (ca.issued(), ca.orders());
    assert_eq!((issued.len(), orders.len()), (3, 3));
    assert_eq!(orders[0].replaces, None);
    assert_eq!(orders[1].replaces, Some(issued[0].cert_id.clone()));
    assert_eq!(orders[2].replaces, Some(issued[1].cert_id.clone()));
}

#[test]
fn a_profile_is_sent_where_the_ca_has_it() {
    let shortlived = |knobs: &mut Knobs| {
        knobs.profiles.insert("shortlived".into(), 6 * DAY);
    };
    for (listed, refused) in [(true, false), (false, false), (true, true)] {
        let ca = MockCa::start();
        if listed {
            ca.set(shortlived);
        }
        if refused {
            let problem = Problem::new(400, "invalidProfile", "not for you");
            ca.next(Endpoint::NewOrder, 1, &Fault::problem(problem));
        }
        let mut sim = Sim::idle(&ca);
        let profile = Some("shortlived".to_owned());
        sim.wanted.certificates.push(acme::keeper::WantedCertificate {
            profile: profile.clone(),
            ..sim::certificate(APP)
        });
        sim.run();
        sim.settle();
        assert_eq!(ca.count(Endpoint::NewOrder), if refused { 2 } else { 1 });
        assert_eq!(ca.orders()[0].profile, profile.filter(|_| listed && !refused));
        // Whatever the CA made of it: it is what was wanted.
        sim.pass(DAY);
        assert_eq!(ca.issued().len(), 1);
    }
}
