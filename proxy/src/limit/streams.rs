//! Requests under way by key. Bounded by what is under way: an entry goes with its last request.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;

use super::rate::WIDER;
use super::table::Identity;

/// Shared by all workers. Allocates with its first request.
#[derive(Default)]
pub struct Streams {
    counts: OnceLock<DashMap<u64, u32, Identity>>,
    open: AtomicUsize,
}

impl Streams {
    /// Takes a place among `most` requests of this key, and among 16 times as many of its
    /// aggregate; `None`: there is none.
    pub fn enter(
        self: &Arc<Self>,
        key: u64,
        aggregate: Option<u64>,
        most: u32,
    ) -> Option<StreamGuard> {
        if !self.count(key, most) {
            return None;
        }
        let mut guard = StreamGuard { streams: self.clone(), key, aggregate: None };
        self.open.fetch_add(1, Ordering::Relaxed);
        if let Some(aggregate) = aggregate {
            if !self.count(aggregate, most.saturating_mul(WIDER)) {
                return None;
            }
            guard.aggregate = Some(aggregate);
        }
        Some(guard)
    }

    /// Requests under way.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Keys that have any.
    #[cfg(test)]
    pub fn keys(&self) -> usize {
        self.counts.get().map_or(0, DashMap::len)
    }

    /// Gives memory back after a rush.
    pub fn sweep(&self) {
        let Some(counts) = self.counts.get() else { return };
        let room = counts.capacity();
        if room > LEAST_ROOM && counts.len() < room / MOSTLY_EMPTY {
            counts.shrink_to_fit();
        }
    }

    fn count(&self, key: u64, most: u32) -> bool {
        let counts = self
            .counts
            .get_or_init(|| DashMap::with_hasher_and_shard_amount(Identity::default(), SHARDS));
        let mut count = counts.entry(key).or_insert(0);
        let room = *count < most;
        *count += u32::from(room);
        room
    }

    fn uncount(&self, key: u64) {
        let Some(counts) = self.counts.get() else { return };
        counts.remove_if_mut(&key, |_, count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }
}

const SHARDS: usize = 64;
const LEAST_ROOM: usize = 4096;
const MOSTLY_EMPTY: usize = 8;

/// A request's place, given back on drop.
#[must_use]
pub struct StreamGuard {
    streams: Arc<Streams>,
    key: u64,
    aggregate: Option<u64>,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.streams.uncount(self.key);
        if let Some(aggregate) = self.aggregate {
            self.streams.uncount(aggregate);
        }
        self.streams.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for StreamGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamGuard")
    }
}
