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
