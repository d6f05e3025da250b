//! Exactly as many requests pass as GCRA says, from one thread and from several.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::limit::Why;

/// A leaky bucket in whole units of nanoseconds: the textbook's other form of GCRA, without
/// arrival times. `level` is what is left in it of the last request's time.
struct Bucket {
    interval: u64,
    depth: u64,
    level: u64,
    at: u64,
}

impl Bucket {
    fn passes(&mut self, now: u64) -> bool {
        self.level = self.level.saturating_sub(now - self.at);
        self.at = now;
        let room = self.level + self.interval <= self.depth;
        self.level += if room { self.interval } else { 0 };
        room
    }
}

proptest! {
    #[test]
    fn every_decision_is_that_of_a_leaky_bucket(
        rate in 1u32..1000,
        per in prop::sample::select(vec![SECOND, MINUTE, HOUR]),
        burst in 1u32..50,
        start in 0u64..u64::MAX / 1_000_000,
        gaps in prop::collection::vec((0u64..40, 0u64..1000), 1..200),
    ) {
        let mut lab = Lab::new(100);
        let limit = lab.limit(&RateLimit { announce: true, ..spec(rate, per, burst) });
        let interval = u64::try_from(per.as_nanos()).unwrap() / u64::from(rate);
        let depth = interval * u64::from(burst);
        let mut bucket = Bucket { interval, depth, level: 0, at: start };
        let mut now = start;
        for (tenths, more) in gaps {
            now += interval / 10 * tenths + more;
            lab.clock.set(Duration::from_nanos(now));
            let verdict = ask(&limit, v4(1), 1);
            prop_assert_eq!(passes(&verdict), bucket.passes(now));
            match verdict {
                Verdict::Pass(pass) => {
                    let left = pass.left.unwrap();
                    let free = (bucket.depth - bucket.level) / interval;
                    prop_assert_eq!(u64::from(left.remaining), free);
                    let reset = u64::try_from(left.reset.as_nanos()).unwrap();
                    prop_assert!((bucket.level..bucket.level + interval).contains(&reset));
                }
                Verdict::Refuse(refuse) => {
                    let wait = bucket.level + interval - depth;
                    prop_assert_eq!(refuse.why, Why::Rate);
                    prop_assert_eq!(refuse.retry_after, Duration::from_nanos(wait));
                    let left = refuse.left.unwrap();
                    prop_assert_eq!(left.remaining, 0);
                    prop_assert_eq!(left.reset, Duration::from_nanos(bucket.level));
                }
            }
        }
    }
}

/// Workers that all ask at once pass together what one would.
#[test]
fn several_workers_pass_no_more_and_no_less() {
    let mut lab = Lab::new(100);
    let limit = lab.limit(&spec(10, SECOND, 20));
    let passed = AtomicUsize::new(0);
    let rush = |attempts: usize| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let pass = |_: &usize| passes(&ask(&limit, v4(1), 1));
                    let now = (0..attempts).filter(pass).count();
                    passed.fetch_add(now, Ordering::Relaxed);
                });
            }
        });
        passed.swap(0, Ordering::Relaxed)
    };
    assert_eq!(rush(50), 20, "the burst");
    for step in 1..=600u64 {
        lab.clock.advance(Duration::from_millis(100));
        assert_eq!(rush(3), 1, "step {step}");
    }
    let all = limit.decisions();
    assert_eq!((all.passed.total(), all.refused.total()), (620, 180 + 600 * 11));
}

/// While the clock runs, from the first to the last request.
#[test]
fn a_running_clock_passes_no_more() {
    let mut lab = Lab::new(100);
    let limit = lab.limit(&spec(1_000_000, SECOND, 5));
    let passed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    lab.clock.advance(Duration::from_nanos(100));
                    if passes(&ask(&limit, v4(1), 1)) {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    // 8 ms at one per microsecond, and the burst.
    let passed = passed.into_inner();
    assert!((7_900..=8_005).contains(&passed), "{passed}");
}

#[test]
fn the_largest_quota_does_not_overflow() {
    for (rate, burst) in [(1, u32::MAX), (1_000_000, u32::MAX), (1_000_000, 1)] {
        let mut lab = Lab::new(100);
        lab.clock.set(HOUR * 24 * 365 * 10);
        let limit = lab.limit(&by_address(spec(rate, HOUR, burst)));
        for _ in 0..3 {
            ask_address(&limit, v6(1));
        }
        assert!(passes(&ask_address(&limit, v4(1))));
    }
}

#[test]
fn a_dry_run_counts_and_refuses_nothing() {
    let mut lab = Lab::new(100);
    let limit = lab.limit(&RateLimit { dry_run: true, ..spec(1, HOUR, 2) });
    let would: Vec<_> = (0..4).map(|_| passed(ask(&limit, v4(1), 1)).would_refuse).collect();
    assert_eq!(would, [None, None, Some(Why::Rate), Some(Why::Rate)]);
    let counts = limit.decisions();
    assert_eq!((counts.passed.total(), counts.dry_run.total(), counts.refused.total()), (2, 2, 0));
}

#[test]
fn exempt_addresses_are_counted_apart() {
    let mut lab = Lab::new(100);
    let exempt = vec!["192.0.2.0/28".parse().unwrap()];
    let limit = lab.limit(&RateLimit { exempt, ..spec(1, HOUR, 2) });
    assert!(limit.exempts(&v4(15)) && !limit.exempts(&v4(16)));
    assert!(limit.exempts(&"::ffff:192.0.2.1".parse().unwrap()));
    assert_eq!(limit.decisions().exempt.total(), 2);
}
