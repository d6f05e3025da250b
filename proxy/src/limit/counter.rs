//! Counts that outlive their readers and tell each reader of series what is new.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub struct Counter {
    total: AtomicU64,
    taken: AtomicU64,
}

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, more: u64) {
        self.total.fetch_add(more, Ordering::Relaxed);
    }

    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// What came since this was last called, by whichever thread.
    pub fn take(&self) -> u64 {
        let total = self.total();
        total.saturating_sub(self.taken.fetch_max(total, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_taken_once() {
        let counter = Counter::default();
        counter.inc();
        counter.add(2);
        assert_eq!((counter.take(), counter.take()), (3, 0));
        counter.inc();
        assert_eq!((counter.take(), counter.total()), (1, 4));
    }
}
