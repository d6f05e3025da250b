//! Who has to go when, and who stays.

use super::*;

const KEYS: usize = 100;

/// A table with these newcomers and veterans, all of whom have been idle for `idle`.
fn swept(newcomers: u8, veterans: u8, idle: Duration) -> (usize, usize) {
    let mut lab = Lab::new(KEYS);
    let limit = lab.limit(&by_address(spec(10, SECOND, 10)));
    (0..veterans).for_each(|last| drop(ask_address(&limit, v4(last))));
    lab.clock.advance(2 * SECOND);
    (0..veterans + newcomers).for_each(|last| drop(ask_address(&limit, v4(last))));
    lab.clock.advance(idle);
    let before = limit.keys();
    assert_eq!(before, usize::from(newcomers + veterans));
    let evicted = lab.registry.sweep();
    assert_eq!(limit.keys(), before - evicted);
    assert_eq!(limit.evicted().total(), evicted as u64);
    (evicted, limit.keys())
}

#[test]
fn newcomers_wait_as_long_as_there_is_room() {
    for (newcomers, idle, evicted) in [
        (50, Duration::from_millis(59_800), 0),
        (50, MINUTE, 50),
        (51, Duration::from_millis(9_800), 0),
        (51, 10 * SECOND, 51),
        (75, Duration::from_millis(9_800), 0),
        (76, SECOND, 76),
        (100, SECOND, 100),
    ] {
        assert_eq!(swept(newcomers, 0, idle).0, evicted, "{newcomers} idle for {idle:?}");
    }
}

#[test]
fn veterans_stay_for_an_hour() {
    for (veterans, idle, evicted) in [
        (50, 59 * MINUTE, 0),
        (50, HOUR, 50),
        (90, 59 * MINUTE, 0),
        (91, 4 * MINUTE, 0),
        (91, 5 * MINUTE, 91),
    ] {
        assert_eq!(swept(0, veterans, idle).0, evicted, "{veterans} idle for {idle:?}");
    }
    assert_eq!(swept(60, 30, SECOND), (60, 30), "newcomers go, veterans stay");
}

/// Leaving would fill the bucket.
#[test]
fn whose_bucket_is_not_full_stays() {
    let mut lab = Lab::new(KEYS);
    let limit = lab.limit(&by_address(spec(1, HOUR, 1)));
    (0..100).for_each(|last| drop(passed(ask_address(&limit, v4(last)))));
    lab.clock.advance(HOUR - SECOND);
    assert_eq!(lab.registry.sweep(), 0);
    refused(ask_address(&limit, v4(1)));
    lab.clock.advance(2 * SECOND);
    // The one that came back is known now.
    assert_eq!((lab.registry.sweep(), limit.keys()), (99, 1));
    passed(ask_address(&limit, v4(1)));
}

#[test]
fn memory_is_given_back() {
    let mut lab = Lab::new(20_000);
    let limit = lab.limit(&by_address(spec(10, SECOND, 10)));
    (0..20_000u32).for_each(|n| drop(ask_address(&limit, Ipv4Addr::from_bits(n).into())));
    assert!(limit.state.table.room() >= 20_000);
    lab.clock.advance(MINUTE);
    lab.registry.sweep();
    assert_eq!(limit.keys(), 0);
    assert!(limit.state.table.room() < 1_000, "{}", limit.state.table.room());
}
