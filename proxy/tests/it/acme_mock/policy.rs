//! However long a failure lasts, the CA is asked no more often than the policy says. A week of each
//! in simulated time, counted in the CA's own log.

use std::time::Duration;

use super::*;
use crate::harness::acme::mock_ca::{Answer, Fault, Problem, Validation, http_date};

const WEEK: i64 = 7 * DAY;

/// The CA has this fault at one endpoint for so long.
fn suffer(endpoint: Endpoint, fault: &Fault, span: i64) -> (MockCa, Sim) {
    let ca = MockCa::start();
    ca.always(endpoint, fault);
    let sim = Sim::start(&ca, &[APP]);
    sim.pass(span);
    (ca, sim)
}

/// Back at work, the CA is asked once more and issues.
fn recovers(ca: &MockCa, sim: &Sim) {
    let orders = ca.orders().len();
    ca.heal();
    sim.pass(2 * DAY);
    assert_eq!(ca.issued().len(), 1, "{}", told(&sim.row(APP)));
    assert!(ca.orders().len() <= orders + 1, "{} orders", ca.orders().len());
    assert_eq!((sim.row(APP).failures, told(&sim.row(APP))), (0, String::new()));
    assert_eq!(ca.complaints(), [""; 0]);
}

/// 30 s, doubled up to an hour, 20 % less at most.
fn assert_unavailable(asked: &[i64], span: i64) {
    let most = 8 + usize::try_from(span / (HOUR * 8 / 10)).unwrap();
    let least = 5 + usize::try_from(span / (HOUR * 12 / 10)).unwrap();
    assert!((least..=most).contains(&asked.len()), "{} in {span} s", asked.len());
    assert!(closest(asked) >= 24, "{asked:?}");
    assert!(closest(&asked[8..]) >= HOUR * 8 / 10);
}

#[test]
fn a_ca_that_answers_nonsense_is_asked_once_an_hour() {
    for fault in [Fault::html_502(), Fault::empty_503(), Fault::internal(), Fault::Close] {
        let (ca, sim) = suffer(Endpoint::NewOrder, &fault, 2 * DAY);
        assert_unavailable(&times(&ca, Endpoint::NewOrder), 2 * DAY);
        assert_eq!((ca.accounts(), ca.count(Endpoint::Directory)), (1, 1));
        recovers(&ca, &sim);
    }
}

#[test]
fn a_ca_that_is_not_there_for_a_week() {
    let (ca, sim) = suffer(Endpoint::Directory, &Fault::html_502(), WEEK);
    assert_unavailable(&times(&ca, Endpoint::Directory), WEEK);
    assert_eq!(ca.log().len(), ca.count(Endpoint::Directory));
    recovers(&ca, &sim);
}

#[test]
fn a_ca_that_hangs() {
    let ca = MockCa::start();
    ca.down(&Fault::Hang);
    let mut sim = Sim::idle(&ca);
    sim.issuer("main").ca.limits.request = Duration::from_millis(100);
    sim.wanted.certificates.push(sim::certificate(APP));
    sim.run();
    sim.pass(DAY / 2);
    assert_unavailable(&times(&ca, Endpoint::Directory), DAY / 2);
    assert!(told(&sim.row(APP)).contains("no answer within 0.1 s"), "{}", told(&sim.row(APP)));
}

#[test]
fn a_nonce_that_is_never_taken() {
    let (ca, sim) = suffer(Endpoint::NewOrder, &Fault::bad_nonce(), DAY);
    let asked = times(&ca, Endpoint::NewOrder);
    // Each attempt repeats what was not done, a bounded number of times.
    let mut attempts = asked.clone();
    attempts.dedup();
    assert_unavailable(&attempts, DAY);
    assert!(densest(&asked, 1) <= 24, "{} in one attempt", densest(&asked, 1));
    assert_eq!(ca.orders().len(), 0);
    recovers(&ca, &sim);
}

/// In seconds, as a date, in words; with 429 and 503.
#[test]
fn the_time_that_the_ca_names_is_kept() {
    let later = real_now() + 30 * DAY;
    let word = time::OffsetDateTime::from_unix_timestamp(later).unwrap();
    let (date, (hour, minute, second)) = (word.date(), word.to_hms());
    let words = format!("{date} {hour:02}:{minute:02}:{second:02} UTC");
    for (fault, wait, most) in [
        (Fault::rate_limited("7200"), 2 * HOUR, 85),
        (Fault::overloaded("7200"), 2 * HOUR, 85),
        (Fault::rate_limited(http_date(later)), 29 * DAY, 1),
        (Fault::overloaded(http_date(later)), 29 * DAY, 1),
        (Fault::rate_limited_in_words(&words), 29 * DAY, 1),
        // Nothing named: an hour, doubled to a day.
        (Fault::problem(Problem::new(429, "rateLimited", "too many")), HOUR, 12),
    ] {
        let (ca, sim) = suffer(Endpoint::NewOrder, &fault, WEEK);
        let asked = times(&ca, Endpoint::NewOrder);
        assert!(closest(&asked) >= wait && asked.len() <= most, "{fault:?}: {asked:?}");
        assert!(asked.len() >= most * 8 / 10, "{fault:?}: {} times", asked.len());
        let row = sim.row(APP);
        assert!(row.next_at >= asked.last().unwrap() + wait, "{fault:?}");
        assert_eq!(row.next_why, "the last attempt failed");
    }
}

/// Says "at once" again and again.
#[test]
fn a_retry_after_of_nothing_is_no_invitation() {
    let (ca, _sim) = suffer(Endpoint::NewOrder, &Fault::rate_limited("0"), DAY);
    let asked = times(&ca, Endpoint::NewOrder);
    assert!(asked.len() <= 40, "{}", asked.len());
}

/// Somebody has to do something: once a day.
#[test]
fn what_the_ca_refuses_is_asked_for_once_a_day() {
    for kind in ["userActionRequired", "rejectedIdentifier", "externalAccountRequired", "badCSR"] {
        let fault = Fault::problem(Problem::new(403, kind, "not like this"));
        let (ca, sim) = suffer(Endpoint::NewOrder, &fault, WEEK);
        let asked = times(&ca, Endpoint::NewOrder);
        assert!((6..=9).contains(&asked.len()), "{kind}: {}", asked.len());
        assert!(closest(&asked) >= DAY * 8 / 10);
        assert!(told(&sim.row(APP)).contains(kind), "{}", told(&sim.row(APP)));
        recovers(&ca, &sim);
    }
}

#[test]
fn a_missing_binding_is_not_even_asked_for() {
    let ca = MockCa::with(|knobs| knobs.eab = Some(("kid".to_owned(), vec![1; 32])));
    let sim = Sim::start(&ca, &[APP]);
    sim.pass(WEEK);
    assert_eq!(ca.count(Endpoint::NewAccount), 0);
    assert!((6..=9).contains(&ca.count(Endpoint::Directory)), "{}", ca.count(Endpoint::Directory));
    assert!(told(&sim.row(APP)).contains("externalAccountRequired"));
}

#[test]
fn a_refused_contact_is_left_out() {
    let ca = MockCa::with(|knobs| knobs.refuse_contact = true);
    let mut sim = Sim::idle(&ca);
    sim.issuer("main").contact = Some("ops@openclaw.example".to_owned());
    sim.wanted.certificates.push(sim::certificate(APP));
    sim.run();
    sim.settle();
    assert_eq!((ca.count(Endpoint::NewAccount), ca.accounts(), ca.issued().len()), (2, 1, 1));
}

#[test]
fn a_forgotten_account_is_registered_again_once() {
    let ca = MockCa::start();
    let mut sim = Sim::start(&ca, &[APP]);
    sim.settle();
    ca.forget_accounts();
    sim.wanted.certificates.push(sim::certificate(API));
    sim.want();
    sim.settle();
    assert_eq!((ca.count(Endpoint::NewAccount), ca.accounts(), ca.issued().len()), (2, 1, 2));
}

/// The CA takes every registration and knows nobody.
#[test]
fn an_account_that_is_never_known() {
    let fault = Fault::problem(Problem::new(400, "accountDoesNotExist", "who are you?"));
    let (ca, sim) = suffer(Endpoint::NewOrder, &fault, WEEK);
    let registered = times(&ca, Endpoint::NewAccount);
    // Let's Encrypt allows 10 in 3 hours.
    assert!(densest(&registered, 3 * HOUR) <= 5, "{registered:?}");
    assert!((2..=14).contains(&registered.len()), "{registered:?}");
    // 5 s, 1 h, 6 h, then daily; twice each as long as there is another account to try.
    let asked = ca.count(Endpoint::NewOrder);
    assert!((6..=2 * 14).contains(&asked), "{asked}");
    recovers(&ca, &sim);
}

/// 1, 10 and 100 minutes, then 6 hours to a day. Let's Encrypt allows 5 in an hour.
#[test]
fn a_name_that_cannot_be_validated() {
    for (kind, order_error) in [("dns", true), ("connection", false), ("caa", true)] {
        let ca = MockCa::with(|knobs| {
            knobs.order_error = order_error;
            knobs.invalid.insert(APP.to_owned(), Problem::new(400, kind, "no such thing"));
        });
        let sim = Sim::start(&ca, &[APP]);
        sim.pass(WEEK);
        let orders: Vec<i64> = ca.orders().iter().map(|order| order.at).collect();
        assert!((9..=14).contains(&orders.len()), "{kind}: {}", orders.len());
        assert!(densest(&orders, HOUR) <= 4 && densest(&orders, DAY) <= 8, "{orders:?}");
        let gaps: Vec<i64> = orders.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (gap, asked) in gaps.iter().zip([MINUTE, 10 * MINUTE, 100 * MINUTE, 6 * HOUR]) {
            assert!((asked * 8 / 10..=asked * 12 / 10 + 1).contains(gap), "{gaps:?}");
        }
        assert!(told(&sim.row(APP)).contains("no such thing"));
        // Nothing is left pending at the CA.
        assert!(ca.authorizations().iter().all(|(_, status)| status != "pending"));
        ca.set(|knobs| knobs.invalid.clear());
        recovers(&ca, &sim);
    }
}

#[test]
fn one_bad_name_of_a_group_does_not_block_the_others() {
    let ca = MockCa::with(|knobs| {
        knobs.invalid.insert(API.to_owned(), Problem::new(400, "dns", "NXDOMAIN"));
    });
    let mut sim = Sim::idle(&ca);
    let group = acme::keeper::WantedCertificate {
        names: vec![API.to_owned(), APP.to_owned()],
        ..sim::certificate("group")
    };
    sim.wanted.certificates.push(group);
    sim.run();
    sim.pass(WEEK);
    let row = sim.row("group");
    assert_eq!(row.missing, [API]);
    assert!(told(&row).contains("NXDOMAIN"));
    let issued = ca.issued();
    assert_eq!(issued.len(), 1, "one for the good name");
    assert_eq!(issued[0].names, [APP]);
    assert!(ca.orders().len() <= 16, "{}", ca.orders().len());
    ca.set(|knobs| knobs.invalid.clear());
    sim.pass(2 * DAY);
    assert_eq!(sim.row("group").missing, [""; 0]);
    assert_eq!(ca.issued().last().unwrap().names, [API, APP]);
}

#[test]
fn an_order_that_is_never_ready_is_finalized_no_more_often() {
    let fault = Fault::problem(Problem::new(403, "orderNotReady", "not yet"));
    let (ca, sim) = suffer(Endpoint::Finalize, &fault, DAY);
    assert_unavailable(&times(&ca, Endpoint::Finalize), DAY);
    assert_eq!(ca.orders().len(), 1, "it is the same order all the time");
    recovers(&ca, &sim);
    assert_eq!(ca.orders().len(), 1);
}

/// It never finishes one, and forgets them meanwhile.
#[test]
fn orders_that_are_forgotten() {
    let ca = MockCa::start();
    ca.always(Endpoint::Finalize, &Fault::internal());
    let sim = Sim::start(&ca, &[APP]);
    for _ in 0..48 {
        sim.pass(HOUR / 2);
        ca.forget_orders();
    }
    let at: Vec<i64> = ca.orders().iter().map(|order| order.at).collect();
    assert!((15..=45).contains(&at.len()) && densest(&at, HOUR) <= 8, "{at:?}");
    ca.heal();
    sim.pass(2 * HOUR);
    assert_eq!(ca.issued().len(), 1, "{}", told(&sim.row(APP)));
}

#[test]
fn an_order_that_stays_processing_is_waited_for() {
    let ca = MockCa::with(|knobs| knobs.processing_polls = u32::MAX);
    let sim = Sim::start(&ca, &[APP]);
    sim.pass(6 * HOUR);
    assert_eq!((ca.orders().len(), ca.count(Endpoint::Finalize)), (1, 1));
    assert!((8..=20).contains(&sim.row(APP).failures), "{}", sim.row(APP).failures);
    assert!(sim.row(APP).ordering);
}

#[test]
fn challenges_that_are_never_looked_at() {
    let ca = MockCa::with(|knobs| knobs.validation = Validation::Never);
    let sim = Sim::start(&ca, &[APP]);
    sim.pass(6 * HOUR);
    assert_eq!(ca.orders().len(), 1, "the order is still good");
    assert!(told(&sim.row(APP)).contains("has not looked at it"), "{}", told(&sim.row(APP)));
    ca.forget_orders();
    ca.set(|knobs| knobs.validation = Validation::Trust);
    sim.pass(2 * HOUR);
    assert_eq!((ca.orders().len(), ca.issued().len()), (2, 1));
}

/// An operator who asks again and again is one attempt each time, and never an endless one.
#[test]
fn renew_passes_the_back_off_once() {
    let (ca, sim) = suffer(Endpoint::NewOrder, &Fault::internal(), HOUR);
    let before = ca.count(Endpoint::NewOrder);
    sim.renew(APP, true);
    sim.pass(10);
    assert_eq!(ca.count(Endpoint::NewOrder), before + 1);
    // What the CA itself asked for holds for everybody.
    ca.always(Endpoint::NewOrder, &Fault::rate_limited("86400"));
    sim.renew(APP, true);
    sim.settle();
    for _ in 0..5 {
        sim.renew(APP, true);
        sim.pass(HOUR);
    }
    assert_eq!(ca.count(Endpoint::NewOrder), before + 2);
}

#[test]
fn a_redirect_or_plain_text_is_no_answer() {
    let text = Fault::Answer(Answer::new(400, "text/plain", "bad request"));
    for fault in [Fault::redirect("http://192.0.2.1/"), text] {
        let (ca, _sim) = suffer(Endpoint::NewOrder, &fault, DAY);
        assert!(ca.count(Endpoint::NewOrder) <= 40, "{fault:?}: {}", ca.count(Endpoint::NewOrder));
    }
}
