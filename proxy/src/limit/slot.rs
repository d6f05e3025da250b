//! What is remembered of one key.

/// Tenths of a second since process start: enough for 13 years.
pub type Tick = u32;

/// A tenth of a second in nanoseconds.
const TICK_NS: u64 = 100_000_000;
/// Hits are counted by the minute.
const MINUTE: Tick = 600;
/// Who comes back after this long is a customer rather than a visitor.
const VETERAN: Tick = 10;

pub fn tick(now_ns: u64) -> Tick {
    Tick::try_from(now_ns / TICK_NS).unwrap_or(Tick::MAX)
}

/// One key's state. With its key 24 bytes: tables are as large as a flood makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Theoretical arrival time (GCRA), nanoseconds since process start: until then the bucket is
    /// not full.
    pub due: u64,
    seen: Tick,
    /// Hits, weighted by age, above [`AGE_BITS`]; below, the ticks from the first request to the
    /// last one, as far as they matter.
    usage: u32,
}

const AGE_BITS: u32 = 8;
const MOST_AGE: u32 = (1 << AGE_BITS) - 1;
const MOST_HITS: u32 = u32::MAX >> AGE_BITS;

impl Slot {
    pub fn new(due: u64, now: Tick) -> Slot {
        Slot { due, seen: now, usage: 1 << AGE_BITS }
    }

    /// Counts a request.
    pub fn hit(&mut self, now: Tick) {
        if now == self.seen && self.usage >> AGE_BITS < MOST_HITS {
            // Nothing has aged.
            self.usage += 1 << AGE_BITS;
            return;
        }
        let hits = self.recent(now).saturating_add(1).min(MOST_HITS);
        let age = self.age().saturating_add(now.saturating_sub(self.seen)).min(MOST_AGE);
        self.usage = hits << AGE_BITS | age;
        self.seen = self.seen.max(now);
    }

    fn age(&self) -> u32 {
        self.usage & MOST_AGE
    }

    /// Came back at least a second after it was first seen.
    pub fn is_veteran(&self) -> bool {
        // One more: ticks are cut off.
        self.age() > VETERAN
    }

    /// Ticks since the last request.
    pub fn idle(&self, now: Tick) -> Tick {
        now.saturating_sub(self.seen)
    }

    /// Requests of this minute and half of those of the one before, a quarter of the one before
    /// that, and so on.
    pub fn recent(&self, now: Tick) -> u32 {
        let minutes = (now / MINUTE).saturating_sub(self.seen / MINUTE);
        (self.usage >> AGE_BITS).checked_shr(minutes).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_with_its_key_is_small() {
        assert_eq!(size_of::<(u64, Slot)>(), 24);
    }

    #[test]
    fn a_veteran_came_back_after_a_second() {
        let mut slot = Slot::new(0, 5);
        assert!(!slot.is_veteran());
        slot.hit(15);
        assert!(!slot.is_veteran(), "0.91 s may look like 1.0 s");
        slot.hit(16);
        assert!(slot.is_veteran());
    }

    #[test]
    fn hits_fade_by_half_each_minute() {
        let mut slot = Slot::new(0, 0);
        (0..599).for_each(|now| slot.hit(now));
        assert_eq!(slot.recent(599), 600);
        assert_eq!(slot.recent(600), 300);
        assert_eq!(slot.recent(1800), 75);
        slot.hit(900);
        assert_eq!(slot.recent(900), 301);
        slot.hit(30_000);
        assert_eq!((slot.recent(30_000), slot.idle(30_010)), (1, 10));
        assert_eq!(slot.recent(Tick::MAX), 0);
        (0..100).for_each(|_| slot.hit(Tick::MAX));
        assert!(slot.is_veteran());
        slot.usage = MOST_HITS << AGE_BITS;
        slot.hit(Tick::MAX);
        assert_eq!(slot.recent(Tick::MAX), MOST_HITS);
    }
}
