//! How many requests may be tried again: a share of the requests of the last ten seconds, so that
//! retries never make an overload worse. One per upstream, shared by all workers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Always allowed in ten seconds.
pub const LEAST: u64 = 10;

/// Seconds that count: the one that runs and the ten before, so that ten seconds are covered
/// whole.
const WINDOW: u64 = 11;
/// A power of two above `WINDOW`.
const BUCKETS: usize = 16;

#[derive(Default)]
pub struct RetryBudget {
    requests: Window,
    retries: Window,
}

impl RetryBudget {
    /// A request has come; its retries do not count as such.
    pub fn request(&self, now_ms: u64) {
        self.requests.add(now_ms / 1000);
    }

    /// Takes one retry. False: in any ten seconds there are no more than `percent` of the requests
    /// of the last ten to eleven, or [`LEAST`] if that is more.
    pub fn try_retry(&self, percent: u8, now_ms: u64) -> bool {
        let second = now_ms / 1000;
        let allowed = (self.requests.sum(second) * u64::from(percent) / 100).max(LEAST);
        // First taken, then counted: two threads may refuse each other in vain at the brim, but
        // never both get the last one.
        self.retries.add(second);
        let granted = self.retries.sum(second) <= allowed;
        if !granted {
            self.retries.remove(second);
        }
        granted
    }

    /// Requests and retries of the last ten to eleven seconds, for people.
    pub fn used(&self, now_ms: u64) -> (u64, u64) {
        let second = now_ms / 1000;
        (self.requests.sum(second), self.retries.sum(second))
    }
}

/// Counts per second. Each is the second (upper half) and its count (lower half) in one atomic, so
/// that nobody has to clear them.
#[derive(Default)]
struct Window([AtomicU64; BUCKETS]);

impl Window {
    fn add(&self, second: u64) {
        let bucket = self.bucket(second);
        if stamp(bucket.load(Ordering::Relaxed)) == stamp_of(second) {
            bucket.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let _ = bucket.fetch_update(Ordering::SeqCst, Ordering::Relaxed, |former| {
            // Somebody may have been faster.
            let count = if stamp(former) == stamp_of(second) { former & COUNT_MASK } else { 0 };
            Some(stamp_of(second) << 32 | (count + 1))
        });
    }

    fn remove(&self, second: u64) {
        let _ = self.bucket(second).fetch_update(Ordering::SeqCst, Ordering::Relaxed, |former| {
            let own = stamp(former) == stamp_of(second) && former & COUNT_MASK > 0;
            own.then(|| former - 1)
        });
    }

    fn sum(&self, second: u64) -> u64 {
        let counts = self.0.iter().map(|bucket| bucket.load(Ordering::SeqCst));
        let recent = counts.filter(|one| {
            // Other threads may be a moment ahead.
            let age = stamp_of(second).wrapping_sub(stamp(*one)) & COUNT_MASK;
            age < WINDOW || age > COUNT_MASK - BUCKETS as u64
        });
        recent.map(|one| one & COUNT_MASK).sum()
    }

    fn bucket(&self, second: u64) -> &AtomicU64 {
        let [first, ..] = &self.0;
        self.0.get(second as usize % BUCKETS).unwrap_or(first)
    }
}

const COUNT_MASK: u64 = u32::MAX as u64;

fn stamp(bucket: u64) -> u64 {
    bucket >> 32
}

fn stamp_of(second: u64) -> u64 {
    second & COUNT_MASK
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ten_are_always_allowed_and_come_back() {
        let budget = RetryBudget::default();
        assert_eq!((0..100).filter(|_| budget.try_retry(20, 5_500)).count(), 10);
        assert!(!budget.try_retry(20, 15_999), "within eleven seconds");
        assert!(budget.try_retry(20, 16_000));
    }

    #[test]
    fn a_share_of_the_requests_is_allowed() {
        let budget = RetryBudget::default();
        for now_ms in 0..1_000 {
            budget.request(now_ms * 10);
        }
        assert_eq!((0..1_000).filter(|_| budget.try_retry(20, 10_000)).count(), 200);
        assert_eq!((0..1_000).filter(|_| budget.try_retry(30, 10_000)).count(), 100);
        assert_eq!((0..1_000).filter(|_| budget.try_retry(0, 25_000)).count(), 10);
        budget.request(40_000);
        assert_eq!((0..1_000).filter(|_| budget.try_retry(20, 40_000)).count(), 10, "forgotten");
    }

    proptest! {
        /// At every retry: no ten seconds hold more than the share of the requests of eleven.
        /// What is allowed for sure (by the requests of ten seconds) is granted.
        #[test]
        fn it_is_never_exceeded(
            percent in 0u8..=100,
            events in prop::collection::vec((0u64..400, any::<bool>()), 1..600)
        ) {
            let (budget, mut now_ms) = (RetryBudget::default(), 0);
            let (mut requests, mut retries) = (Vec::new(), Vec::new());
            let since = |times: &[u64], from: u64| {
                times.iter().filter(|at| **at >= from).count() as u64
            };
            let allowed = |requests: u64| (requests * u64::from(percent) / 100).max(LEAST);
            for (pause, retry) in events {
                now_ms += pause;
                if !retry {
                    budget.request(now_ms);
                    requests.push(now_ms);
                } else if budget.try_retry(percent, now_ms) {
                    retries.push(now_ms);
                    let known = since(&requests, now_ms.saturating_sub(11_000));
                    let used = since(&retries, now_ms.saturating_sub(9_999));
                    prop_assert!(used <= allowed(known));
                } else {
                    let known = since(&requests, now_ms.saturating_sub(9_999));
                    let used = since(&retries, now_ms.saturating_sub(11_000));
                    prop_assert!(used >= allowed(known));
                }
            }
        }
    }

    #[test]
    fn threads_together_never_exceed_it() {
        let budget = RetryBudget::default();
        let granted: usize = thread::scope(|scope| {
            let work = || (0..20_000).filter(|step| budget.try_retry(0, step / 4)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        // Five seconds: one window. Refusals in vain are possible, the last ones meet nobody.
        assert!((1..=10).contains(&granted), "{granted}");
    }

    #[test]
    fn no_request_is_lost_between_threads() {
        let budget = RetryBudget::default();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|step| budget.request(step)));
            }
        });
        assert_eq!(budget.requests.sum(9), 40_000);
    }
}
