//! Dates, back-off and the properties that no sequence of events may break.

use proptest::prelude::*;

use super::*;
use crate::ca::{Class, Failure, Step};
use crate::ledger::{Event, Kind, Ledger, Limits, Request};

const HOUR: i64 = 3600;
const NOW: i64 = 1_800_000_000;
const CLASSES: [Class; 7] = [
    Class::Validation,
    Class::RateLimited,
    Class::Unavailable,
    Class::Refused,
    Class::AccountGone,
    Class::OrderGone,
    Class::Local,
];

fn failure(class: Class, retry_at: Option<i64>) -> Failure {
    Failure {
        class,
        step: Step::NewOrder,
        name: None,
        problem: None,
        detail: String::new(),
        status: None,
        subproblems: Vec::new(),
        retry_at,
    }
}

fn leaf(not_before: i64, life: i64) -> Leaf {
    Leaf { not_before, not_after: not_before + life, issued_at: None }
}

fn situation<'a>(now: i64, leaf: Option<&'a Leaf>, retry: &'a Retry) -> Situation<'a> {
    Situation {
        now,
        leaf,
        leaf_id: Some("own"),
        ari: None,
        retry,
        issuer_changed: false,
        forced: false,
        hurry: false,
        jitter: 0.5,
        allowed_at: now,
        limit: None,
    }
}

fn window(id: &str, start: i64, end: i64) -> AriWindow {
    AriWindow::new(id, (start, end), None, NOW, 0.5, None)
}

#[test]
fn reasons_in_their_order() {
    let retry = Retry::default();
    let fresh = leaf(NOW, 90 * DAY);
    let expired = leaf(NOW - 90 * DAY, 90 * DAY);
    let at = |leaf, forced, changed| {
        next(&Situation { forced, issuer_changed: changed, ..situation(NOW, leaf, &retry) })
    };
    assert_eq!(at(None, false, false), Next::RenewNow(Why::Missing));
    assert_eq!(at(Some(&expired), false, false), Next::RenewNow(Why::Expired));
    assert_eq!(at(Some(&fresh), true, false), Next::RenewNow(Why::Forced));
    assert_eq!(at(Some(&fresh), false, true), Next::RenewNow(Why::IssuerChanged));
    let wait = Next::WaitUntil { at: NOW + 60 * DAY, why: Wait::Fresh };
    assert_eq!(at(Some(&fresh), false, false), wait);
}

#[test]
fn lifetimes_of_every_length_are_renewed_in_time() {
    let retry = Retry::default();
    for (life, share) in [
        (60, 0.5),
        (160 * HOUR, 0.5),
        (6 * DAY, 0.5),
        (45 * DAY, 2.0 / 3.0),
        (90 * DAY, 2.0 / 3.0),
        (5 * 365 * DAY, 2.0 / 3.0),
    ] {
        for jitter in [0.0, 0.5, 1.0, f64::NAN] {
            let leaf = leaf(NOW, life);
            let start = situation(NOW, Some(&leaf), &retry);
            let Next::WaitUntil { at, why: Wait::Fresh } = next(&Situation { jitter, ..start })
            else {
                panic!("{life}")
            };
            let middle = NOW + part(life, share);
            assert!((at - middle).abs() <= part(life, SPREAD) + 1, "{life}: {}", at - NOW);
            let then = Situation { jitter, ..situation(at, Some(&leaf), &retry) };
            assert_eq!(next(&then), Next::RenewNow(Why::Lifetime));
        }
    }
}

/// cert-manager#8993: a window of the former certificate must not renew the new one.
#[test]
fn a_window_of_another_certificate_is_ignored() {
    let retry = Retry::default();
    let leaf = leaf(NOW - HOUR, 90 * DAY);
    let past = window("former", NOW - 2 * DAY, NOW - DAY);
    let with = |ari, leaf_id| {
        next(&Situation { ari: Some(ari), leaf_id, ..situation(NOW, Some(&leaf), &retry) })
    };
    let without = next(&situation(NOW, Some(&leaf), &retry));
    assert_eq!(with(&past, Some("own")), without);
    assert_eq!(with(&past, None), without);
    let own = window("own", NOW - 2 * DAY, NOW - DAY);
    assert_eq!(with(&own, Some("own")), Next::RenewNow(Why::AriWindow));
    let later = window("own", NOW + 70 * DAY, NOW + 72 * DAY);
    let wait = Next::WaitUntil { at: NOW + 71 * DAY, why: Wait::Fresh };
    assert_eq!(with(&later, Some("own")), wait);
    // Windows that make no sense.
    let (empty, too_late) = (window("own", NOW, NOW), window("own", NOW + DAY, NOW + 91 * DAY));
    assert_eq!(with(&empty, Some("own")), without);
    assert_eq!(with(&too_late, Some("own")), without);
}

#[test]
fn near_the_end_the_ca_is_not_asked_when() {
    let retry = Retry::default();
    let leaf = leaf(NOW, 100 * DAY);
    let late = window("own", NOW + 98 * DAY, NOW + 100 * DAY);
    let at = |now| next(&Situation { ari: Some(&late), ..situation(now, Some(&leaf), &retry) });
    assert_eq!(at(NOW), Next::WaitUntil { at: NOW + 95 * DAY, why: Wait::Fresh });
    assert_eq!(at(NOW + 95 * DAY), Next::RenewNow(Why::Lifetime));
}

#[test]
fn what_was_drawn_stays_until_the_window_moves() {
    let first = AriWindow::new("own", (0, 1000), None, 0, 0.25, None);
    assert_eq!(first.selected, 250);
    let again = AriWindow::new("own", (0, 1000), None, 9, 0.75, Some(&first));
    assert_eq!((again.selected, again.poll_at), (250, 9));
    assert_eq!(AriWindow::new("own", (0, 1001), None, 0, 1.0, Some(&first)).selected, 1001);
    assert_eq!(AriWindow::new("new", (0, 1000), None, 0, 0.75, Some(&first)).selected, 750);
}

/// Failure 30: lifetimes that are almost over when the certificate arrives.
#[test]
fn a_back_dated_certificate_is_not_renewed_at_once() {
    let retry = Retry::default();
    for (back, life) in [(HOUR, 2 * HOUR), (89 * DAY, 90 * DAY), (59, 61), (30 * DAY, 31 * DAY)] {
        let leaf = Leaf { issued_at: Some(NOW), ..leaf(NOW - back, life) };
        let Next::WaitUntil { at, .. } = next(&situation(NOW, Some(&leaf), &retry)) else {
            panic!("renewed at once: {back} of {life}")
        };
        assert!(at < leaf.not_after);
        let usable = life - back;
        assert!(at - NOW >= LEAST_AGE.min(usable / 4), "{back} of {life}: {}", at - NOW);
    }
}

#[test]
fn delays_by_class() {
    let nth = |class, retry_at: Option<i64>, n: u32| {
        let mut retry = Retry::default();
        for _ in 0..n {
            retry = retry.after(failure(class, retry_at), NOW, 0.5);
        }
        retry.next_at - NOW
    };
    let ladder: Vec<i64> = (1..=7).map(|n| nth(Class::Validation, None, n)).collect();
    assert_eq!(ladder, [60, 600, 6000, 6 * HOUR, 12 * HOUR, DAY, DAY]);
    let doubled: Vec<i64> = (1..=9).map(|n| nth(Class::Unavailable, None, n)).collect();
    assert_eq!(doubled, [30, 60, 120, 240, 480, 960, 1920, HOUR, HOUR]);
    assert_eq!(nth(Class::Refused, None, 1), DAY);
    assert_eq!(nth(Class::RateLimited, Some(NOW + 7200), 1), 7200 + 180);
    assert_eq!(nth(Class::Unavailable, Some(NOW + 120), 1), 123);
    assert!(nth(Class::RateLimited, Some(NOW - 5), 9) >= 1280);
    assert_eq!(nth(Class::Validation, Some(NOW + 5), 2), 600);
    assert_eq!(nth(Class::AccountGone, None, 1), 5);
}

#[test]
fn dry_runs_and_fallbacks() {
    let mut retry = Retry::default();
    assert!(!retry.wants_dry_run() && !retry.wants_fallback(None, NOW));
    retry = retry.after(failure(Class::Validation, None), NOW, 0.5);
    assert!(retry.wants_dry_run());
    assert_eq!(next(&situation(NOW + 60, None, &retry)), Next::RenewNow(Why::Missing));
    retry = retry.after(failure(Class::Validation, None), NOW + 60, 0.5);
    assert!(retry.wants_dry_run());
    assert_eq!(retry.next_at, NOW + 660);
    let near = leaf(NOW - 80 * DAY, 90 * DAY);
    assert!(retry.wants_fallback(Some(&near), NOW));
    assert!(!retry.wants_fallback(Some(&leaf(NOW - 60 * DAY, 90 * DAY)), NOW));
    for n in 1..=3 {
        retry = retry.after(failure(Class::Unavailable, None), NOW, 0.5);
        assert_eq!(retry.wants_fallback(None, NOW), n == 3);
    }
}

#[test]
fn an_operator_passes_our_patience_but_not_the_ca() {
    let forced = |retry: &Retry| {
        let (forced, hurry) = (true, true);
        next(&Situation { forced, hurry, ..situation(NOW, Some(&leaf(NOW, DAY)), retry) })
    };
    for class in CLASSES {
        let retry = Retry::default().after(failure(class, None), NOW, 0.5);
        let waits = forced(&retry) != Next::RenewNow(Why::Forced);
        assert_eq!(waits, class == Class::RateLimited, "{class:?}");
        let told = Retry::default().after(failure(class, Some(NOW + DAY)), NOW, 0.5);
        let Next::WaitUntil { at, why: Wait::BackOff } = forced(&told) else { panic!("{class:?}") };
        assert!(at >= NOW + DAY);
    }
}

#[test]
fn the_budget_is_the_last_word() {
    let retry = Retry::default();
    let limit = Some("4 certificates");
    let blocked = Situation { allowed_at: NOW + 9, limit, ..situation(NOW, None, &retry) };
    let wait = Next::WaitUntil { at: NOW + 9, why: Wait::Budget("4 certificates".into()) };
    assert_eq!(next(&blocked), wait);
}

#[test]
fn a_failure_of_the_future_does_not_block_for_ever() {
    let ahead = NOW + 365 * DAY;
    let mut retry = Retry::default().after(failure(Class::Refused, None), ahead, 0.5);
    retry.settle(NOW);
    assert_eq!((retry.failed_at, retry.next_at), (NOW, NOW + DAY));
    retry.settle(NOW + 5);
    assert_eq!(retry.next_at, NOW + DAY);
}

proptest! {
    #[test]
    fn never_beyond_the_end(
        life in 4i64..400 * DAY, age in 0i64..500 * DAY, back in 0i64..400 * DAY,
        jitter in 0.0f64..=1.0, start in -DAY..400 * DAY, len in -DAY..30 * DAY,
    ) {
        let retry = Retry::default();
        let issued_at = Some(NOW + back.min(life - 1));
        let leaf = Leaf { not_before: NOW, not_after: NOW + life, issued_at };
        let ari = window("own", NOW + start, NOW + start + len);
        let now = NOW + age;
        let situation =
            Situation { ari: Some(&ari), jitter, ..situation(now, Some(&leaf), &retry) };
        match next(&situation) {
            Next::WaitUntil { at, .. } => prop_assert!(now < at && at < leaf.not_after),
            Next::RenewNow(why) => prop_assert_eq!(why == Why::Expired, now >= leaf.not_after),
        }
        if now >= leaf.not_after {
            prop_assert_eq!(next(&situation), Next::RenewNow(Why::Expired));
        }
    }

    #[test]
    fn more_failures_never_mean_sooner(class in 0usize..7, told in proptest::option::of(0i64..9000), random in 0.0f64..=1.0) {
        let mut retry = Retry::default();
        let mut former = 0;
        for _ in 0..40 {
            retry = retry.after(failure(CLASSES[class], told.map(|t| NOW + t)), NOW, random);
            let delay = retry.next_at - NOW;
            prop_assert!(delay >= former.max(1));
            prop_assert!(delay >= told.unwrap_or(0));
            prop_assert!(delay <= DAY + DAY / 5);
            former = delay;
        }
    }

    /// Whatever fails, whatever the CA's windows say, however the clock jumps: no limit is
    /// exceeded in any span of time, and it never stops for good.
    #[test]
    fn no_limit_is_ever_exceeded(
        steps in proptest::collection::vec((0u8..10, any::<u8>(), 0.0f64..=1.0), 1..150),
        life in 60i64..100 * DAY, per_hour in 1u32..4, per_week in 1u32..6,
    ) {
        let limits = Limits { per_set_week: per_week, per_set_hour: per_hour, orders_3h: 7, failures_per_host_hour: 2, ..Limits::default() };
        let set = vec!["app.openclaw.example".to_owned()];
        let mut ledger = Ledger::default();
        let mut retry = Retry::default();
        let mut current: Option<Leaf> = None;
        // Real time, which no clock jump changes, and what our clock is off by.
        let (mut real, mut off) = (NOW, 0i64);
        let (mut issued, mut orders, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (what, detail, random) in steps {
            if what == 0 {
                // Back only: after a jump ahead limits are for the true clock to break.
                off -= i64::from(detail) * HOUR;
            }
            let now = real + off;
            ledger.settle(now);
            retry.settle(now);
            // Every window of the CA is in the past.
            let ari = window("own", now - DAY, now - HOUR);
            let request = Request { account: "ca", set: &set, renewal: current.is_some(), forced: false };
            let allowed = ledger.allowed_at(now, &limits, &request);
            let situation = Situation {
                ari: Some(&ari), allowed_at: allowed.at, limit: allowed.why.as_deref(),
                ..situation(now, current.as_ref(), &retry)
            };
            match next(&situation) {
                Next::WaitUntil { at, .. } => {
                    prop_assert!(at > now && at - now <= 200 * DAY + i64::from(u8::MAX) * HOUR * 150);
                    real += at - now;
                }
                Next::RenewNow(_) => {
                    let event = |kind| Event {
                        at: now, kind, account: "ca".into(), set: set.clone(),
                        renewal: current.is_some(), hosts: set.clone(),
                    };
                    ledger.record(event(Kind::Order));
                    orders.push(real);
                    if what < 6 {
                        issued.push(real);
                        ledger.record(event(Kind::Issued));
                        retry = Retry::default();
                        current = Some(Leaf { not_before: now - HOUR, not_after: now + life, issued_at: Some(now) });
                    } else {
                        let class = CLASSES[usize::from(detail) % CLASSES.len()];
                        if class == Class::Validation {
                            failed.push(real);
                            ledger.record(event(Kind::Failed));
                        }
                        retry = retry.after(failure(class, None), now, random);
                    }
                }
            }
            let stored = serde_json::to_string(&(&ledger, &retry)).unwrap();
            (ledger, retry) = serde_json::from_str(&stored).unwrap();
        }
        let most = |times: &[i64], span: i64| {
            times.iter().map(|end| times.iter().filter(|t| **t <= *end && **t > end - span).count()).max().unwrap_or(0)
        };
        prop_assert!(most(&issued, HOUR) <= per_hour as usize);
        prop_assert!(most(&issued, 7 * DAY) <= per_week as usize);
        prop_assert!(most(&orders, 3 * HOUR) <= 7);
        prop_assert!(most(&failed, HOUR) <= 2);
    }
}
