//! Arrival times by key, of a bounded number of keys. What does not fit counts in shared buckets:
//! nobody gets in for nothing, and who is known stays known.

use std::cell::Cell;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use governor::nanos::Nanos;

use super::clock::LimitClock;
use super::counter::Counter;
use super::key::Origin;
use super::slot::{Slot, Tick, tick};

/// Buckets for keys that do not fit.
pub const OVERFLOW_BUCKETS: usize = 4096;
/// The same of each tenant that shares its table with others: 1 KiB, where it needs any.
pub const TENANT_BUCKETS: usize = 128;

type Slots = DashMap<u64, Slot, Identity>;

/// Shared by all workers. Allocates with its first key.
pub struct KeyTable<C> {
    clock: C,
    slots: OnceLock<Slots>,
    /// Keys in `slots`: never more than `capacity`, but for a while after that was lowered.
    entries: AtomicUsize,
    capacity: AtomicUsize,
    buckets: Arc<Buckets>,
    overflow: Counter,
    evicted: Counter,
}

/// Arrival times that keys without a place share. Allocates with the first of them.
pub struct Buckets {
    count: usize,
    times: OnceLock<Box<[AtomicU64]>>,
}

impl Buckets {
    pub fn new(count: usize) -> Buckets {
        Buckets { count, times: OnceLock::new() }
    }

    /// The bucket of this network, and its index.
    fn of(&self, network: u64) -> (usize, &AtomicU64) {
        let times = self.times.get_or_init(|| (0..self.count).map(|_| AtomicU64::new(0)).collect());
        let index = usize::try_from(network).unwrap_or(usize::MAX) % times.len();
        (index, &times[index])
    }
}

/// One request's way into the table.
#[derive(Clone, PartialEq, Eq)]
pub struct Visit {
    pub key: u64,
    pub by: By,
    /// Nanoseconds since process start.
    pub now: u64,
    /// How far ahead of now an arrival time can be under the present quota, in nanoseconds.
    pub reach: u64,
    /// Set by the table.
    pub place: Cell<Place>,
}

/// Who is behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A client here, and whether it may draw the key.
    Origin(Origin, bool),
    /// A client that shares an overflow bucket by this hash.
    Network(u64),
    /// Other keys, which are counted by themselves: where it does not fit, it is not counted.
    Parts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Own,
    /// The overflow bucket of this index.
    Shared(usize),
}

/// A key and how much it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotKey {
    pub key: u64,
    /// Requests of this minute and, by halves, of those before, refused ones too.
    pub hits: u32,
    /// Since the last request.
    pub idle_seconds: u32,
}

impl Hash for Visit {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.key);
    }
}

/// Keys are keyed hashes already.
pub type Identity = BuildHasherDefault<KeyIsHash>;

#[derive(Default)]
pub struct KeyIsHash(u64);

impl Hasher for KeyIsHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

impl<C: LimitClock> KeyTable<C> {
    pub fn new(clock: C, capacity: usize) -> KeyTable<C> {
        KeyTable {
            clock,
            slots: OnceLock::new(),
            entries: AtomicUsize::new(0),
            capacity: AtomicUsize::new(capacity),
            buckets: Arc::new(Buckets::new(OVERFLOW_BUCKETS)),
            overflow: Counter::default(),
            evicted: Counter::default(),
        }
    }

    /// Keys beyond a lower capacity leave with the sweeps to come.
    pub fn set_capacity(&self, keys: usize) {
        self.capacity.store(keys, Ordering::Relaxed);
    }

    /// Keys that have a place of their own.
    pub fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Of whoever has none of their own.
    pub fn buckets(&self) -> &Arc<Buckets> {
        &self.buckets
    }

    /// Requests counted in shared buckets.
    pub fn overflow(&self) -> &Counter {
        &self.overflow
    }

    /// Keys removed by sweeps.
    pub fn evicted(&self) -> &Counter {
        &self.evicted
    }

    /// Lets `decide` make a new arrival time of the former one. `may_create` is asked before a
    /// key gets a place, `elsewhere` for a key that gets none: the buckets that it is counted in, and
    /// the hash of what the client shares one with; `None`: it is not counted then.
    #[inline(always)]
    pub fn visit<'b, T, E>(
        &self,
        visit: &Visit,
        may_create: impl FnOnce() -> bool,
        elsewhere: impl FnOnce() -> Option<(&'b Buckets, u64)>,
        decide: impl Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    ) -> Result<T, E> {
        let slots = self.slots.get_or_init(|| self.allocate());
        if let Some(mut slot) = slots.get_mut(&visit.key) {
            return self.known(&mut slot, visit, decide);
        }
        self.unknown(slots, visit, may_create, elsewhere, decide)
    }

    #[inline(never)]
    fn unknown<'b, T, E>(
        &self,
        slots: &Slots,
        visit: &Visit,
        may_create: impl FnOnce() -> bool,
        elsewhere: impl FnOnce() -> Option<(&'b Buckets, u64)>,
        decide: impl Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    ) -> Result<T, E> {
        if self.is_full() || !may_create() {
            return self.shared(visit, elsewhere(), decide);
        }
        match slots.entry(visit.key) {
            // Another worker was faster.
            Entry::Occupied(mut slot) => self.known(slot.get_mut(), visit, decide),
            Entry::Vacant(place) => {
                if !self.reserve() {
                    drop(place);
                    return self.shared(visit, elsewhere(), decide);
                }
                let decided = decide(None);
                match &decided {
                    Ok((_, due)) => {
                        place.insert(Slot::new(due.as_u64(), tick(visit.now)));
                    }
                    Err(_) => self.release(1),
                }
                decided.map(|(outcome, _)| outcome)
            }
        }
    }

    #[inline(always)]
    fn known<T, E>(
        &self,
        slot: &mut Slot,
        visit: &Visit,
        decide: impl Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    ) -> Result<T, E> {
        slot.hit(tick(visit.now));
        slot.due = self.within_reach(slot.due, visit);
        let (outcome, due) = decide(Some(Nanos::new(slot.due)))?;
        slot.due = due.as_u64();
        Ok(outcome)
    }

    /// What lies further ahead than the present quota can lead is of a stricter one that no longer
    /// holds.
    fn within_reach(&self, due: u64, visit: &Visit) -> u64 {
        if due <= visit.now.saturating_add(visit.reach) {
            return due;
        }
        // Others may have counted since `visit.now`: only a clock that is read now is behind all
        // that were.
        due.min(self.clock.now().0.saturating_add(visit.reach))
    }

    fn shared<T, E>(
        &self,
        visit: &Visit,
        elsewhere: Option<(&Buckets, u64)>,
        decide: impl Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    ) -> Result<T, E> {
        let Some((buckets, network)) = elsewhere else {
            return decide(None).map(|(outcome, _)| outcome);
        };
        self.overflow.inc();
        let (index, bucket) = buckets.of(network);
        visit.place.set(Place::Shared(index));
        let mut found = bucket.load(Ordering::Acquire);
        loop {
            let due = self.within_reach(found, visit);
            let (decided, next) = match decide(Some(Nanos::new(due))) {
                Ok((outcome, next)) => (Ok(outcome), next.as_u64()),
                Err(refusal) => (Err(refusal), due),
            };
            if next == found {
                return decided;
            }
            match bucket.compare_exchange_weak(found, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return decided,
                Err(other) => found = other,
            }
        }
    }

    fn is_full(&self) -> bool {
        self.entries() >= self.capacity.load(Ordering::Relaxed)
    }

    fn reserve(&self) -> bool {
        let capacity = self.capacity.load(Ordering::Relaxed);
        let more = |entries: usize| (entries < capacity).then_some(entries + 1);
        self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn release(&self, places: usize) {
        self.entries.fetch_sub(places, Ordering::Relaxed);
    }

    /// As many shards as keep each under about 1,000 keys, so that a lock is held for
    /// microseconds even when a shard is swept or grows.
    fn allocate(&self) -> Slots {
        let wanted = self.capacity.load(Ordering::Relaxed) / KEYS_PER_SHARD;
        let shards = wanted.clamp(LEAST_SHARDS, MOST_SHARDS).next_power_of_two();
        DashMap::with_hasher_and_shard_amount(Identity::default(), shards)
    }

    /// Removes keys whose bucket is full again and that have been idle for longer than there is
    /// room for. Returns their number. Locks one shard at a time.
    pub fn sweep(&self) -> usize {
        let Some(slots) = self.slots.get() else { return 0 };
        let now = self.clock.now().0;
        let (newcomers, veterans) = patience(self.entries(), self.capacity.load(Ordering::Relaxed));
        let mut evicted = 0;
        slots.retain(|_, slot| {
            let patience = if slot.is_veteran() { veterans } else { newcomers };
            // Whose bucket is not full would get a full one by leaving.
            let keep = slot.due > now || slot.idle(tick(now)) < patience;
            if !keep {
                self.release(1);
                evicted += 1;
            }
            keep
        });
        self.evicted.add(evicted as u64);
        let room = slots.capacity();
        if room > LEAST_ROOM && self.entries() < room / MOSTLY_EMPTY {
            slots.shrink_to_fit();
        }
        evicted
    }

    /// Keys that fit without growing.
    #[cfg(test)]
    pub fn room(&self) -> usize {
        self.slots.get().map_or(0, DashMap::capacity)
    }

    /// The `most` keys with the most recent requests, busiest first. Looks at every key.
    pub fn hottest(&self, most: usize) -> Vec<HotKey> {
        let now = tick(self.clock.now().0);
        let mut hottest: Vec<HotKey> = Vec::new();
        for entry in self.slots.get().into_iter().flat_map(DashMap::iter) {
            let (key, slot) = entry.pair();
            let hot = HotKey {
                key: *key,
                hits: slot.recent(now),
                idle_seconds: slot.idle(now) / TICKS_PER_SECOND,
            };
            let at = hottest.partition_point(|other| other.hits >= hot.hits);
            if hot.hits > 0 && at < most {
                hottest.insert(at, hot);
                hottest.truncate(most);
            }
        }
        hottest
    }
}

/// How long newcomers and veterans may be idle at this occupancy.
fn patience(entries: usize, capacity: usize) -> (Tick, Tick) {
    let above =
        |part: usize, whole: usize| entries.saturating_mul(whole) > capacity.saturating_mul(part);
    let newcomers = match () {
        () if above(3, 4) => 0,
        () if above(1, 2) => 10,
        () => 60,
    };
    let veterans = if above(9, 10) { 5 * 60 } else { 60 * 60 };
    (newcomers * TICKS_PER_SECOND, veterans * TICKS_PER_SECOND)
}

const TICKS_PER_SECOND: Tick = 10;
const KEYS_PER_SHARD: usize = 1024;
const LEAST_SHARDS: usize = 16;
const MOST_SHARDS: usize = 4096;
/// Tables of up to so many keys are not worth shrinking.
const LEAST_ROOM: usize = 4096;
/// One key in so many places is mostly empty.
const MOSTLY_EMPTY: usize = 8;
