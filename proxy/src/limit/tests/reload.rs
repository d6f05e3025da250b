//! State over reloads, hours of uptime, changed quotas.

use super::*;

/// governor alone, with a new limiter over an old table, refuses good keys for as long as the
/// process has run.
#[test]
fn hours_of_uptime_and_reloads_refuse_no_good_key() {
    let mut lab = Lab::new(100);
    let spec = spec(1, SECOND, 2);
    let mut limit = lab.limit(&spec);
    for second in 0..10_000u64 {
        lab.clock.set(Duration::from_secs(second));
        if second % 97 == 0 {
            limit = lab.limit(&spec);
        }
        lab.registry.sweep();
        assert!(passes(&ask(&limit, v4(1), 1)), "second {second}");
    }
    lab.clock.advance(100 * HOUR);
    let former = limit;
    let limit = lab.limit(&spec);
    drop(former);
    passed(ask(&limit, v4(1), 1));
    passed(ask(&limit, v4(1), 1));
    refused(ask(&limit, v4(1), 1));
    let limit = lab.limit(&spec);
    refused(ask(&limit, v4(1), 1));
}

#[test]
fn a_lowered_rate_applies_at_once() {
    let mut lab = Lab::new(100);
    let generous = lab.limit(&spec(1000, SECOND, 1000));
    passed(ask(&generous, v4(1), 1));
    let strict = lab.limit(&spec(1, HOUR, 2));
    // The first one is a millisecond's worth and hardly counts any more.
    let first: Vec<bool> = (0..4).map(|_| passes(&ask(&strict, v4(1), 1))).collect();
    assert_eq!(first, [true, false, false, false]);
    lab.clock.advance(HOUR);
    passed(ask(&strict, v4(1), 1));
    refused(ask(&strict, v4(1), 1));
}

#[test]
fn a_raised_rate_applies_at_once() {
    let mut lab = Lab::new(100);
    let strict = lab.limit(&spec(1, HOUR, 5));
    (0..5).for_each(|_| drop(passed(ask(&strict, v4(1), 1))));
    assert_eq!(refused(ask(&strict, v4(1), 1)).retry_after, HOUR);
    let generous = lab.limit(&spec(10, SECOND, 20));
    let wait = refused(ask(&generous, v4(1), 1)).retry_after;
    assert_eq!(wait, Duration::from_millis(100), "one request's worth, not 5 hours");
    for _ in 0..50 {
        lab.clock.advance(Duration::from_millis(100));
        passed(ask(&generous, v4(1), 1));
        refused(ask(&generous, v4(1), 1));
    }
}

#[test]
fn the_same_name_with_another_kind_of_key_begins_anew() {
    let mut lab = Lab::new(100);
    let first = lab.limit(&spec(1, HOUR, 1));
    passed(ask(&first, v4(1), 1));
    let same = lab.limit(&spec(1, HOUR, 1));
    assert_eq!(same.keys(), 1);
    let other = lab.limit(&by_address(spec(1, HOUR, 1)));
    assert_eq!(other.keys(), 0);
    let elsewhere = lab.registry.limit(Owner::Route(name("other")), None, &spec(1, HOUR, 1), 100);
    assert_eq!(elsewhere.keys(), 0);
    assert_eq!(lab.registry.live(), 3);
}

#[test]
fn what_no_longer_serves_is_forgotten() {
    let mut lab = Lab::new(100);
    let limit = lab.limit(&spec(1, HOUR, 1));
    passed(ask(&limit, v4(1), 1));
    refused(ask(&limit, v4(1), 1));
    let decisions = limit.decisions();
    assert_eq!((decisions.passed.total(), decisions.refused.total(), limit.keys()), (1, 1, 1));
    assert_eq!(lab.registry.live(), 1);
    drop(limit);
    lab.registry.sweep();
    assert_eq!(lab.registry.live(), 0);
    passed(ask(&lab.limit(&spec(1, HOUR, 1)), v4(1), 1));
}

#[test]
fn the_busiest_keys_come_first() {
    let mut lab = Lab::new(100);
    let limit = lab.limit(&spec(1000, SECOND, 1000));
    for credential in 0..20 {
        (0..=credential).for_each(|_| drop(passed(ask(&limit, v4(1), credential))));
    }
    lab.clock.advance(3 * SECOND);
    let hot = limit.hottest();
    let hits: Vec<u32> = hot.iter().map(|key| key.hits).collect();
    assert_eq!(hits, [20, 19, 18, 17, 16, 15, 14, 13, 12, 11]);
    assert!(hot.iter().all(|key| key.idle_seconds == 3));
    lab.clock.advance(10 * MINUTE);
    assert!(limit.hottest().is_empty());
}

/// A template's key changes, one tenant is kept at its former version: both tables live.
#[test]
fn every_table_that_serves_is_swept_and_found_again() {
    let mut lab = Lab::new(100);
    let former = lab.limit(&spec(10, SECOND, 10));
    passed(ask(&former, v4(1), 1));
    let present = lab.limit(&by_address(spec(10, SECOND, 10)));
    passed(ask_address(&present, v4(1)));
    // The next reload compiles both anew, in either order.
    let again = lab.limit(&spec(10, SECOND, 10));
    let once_more = lab.limit(&by_address(spec(10, SECOND, 10)));
    assert_eq!((again.keys(), once_more.keys()), (1, 1));
    drop((former, present));
    assert_eq!(lab.registry.live(), 2);
    lab.clock.advance(2 * MINUTE);
    assert_eq!(lab.registry.sweep(), 2);
    assert_eq!((again.keys(), once_more.keys()), (0, 0));
    drop(again);
    lab.registry.sweep();
    assert_eq!(lab.registry.live(), 1);
}
