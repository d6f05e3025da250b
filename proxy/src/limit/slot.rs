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

/// One key's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Theoretical arrival time (GCRA), nanoseconds since process start: until then the bucket is
    /// not full.
    pub due: u64,
    created: Tick,
    seen: Tick,
    hits: u32,
    /// Hits of the minute before the one of `seen`.
    before: u32,
}

impl Slot {
    pub fn new(due: u64, now: Tick) -> Slot {
        Slot { due, created: now, seen: now, hits: 1, before: 0 }
    }

    /// Counts a request.
    pub fn hit(&mut self, now: Tick) {
        match (now / MINUTE).saturating_sub(self.seen / MINUTE) {
            0 => {}
            1 => (self.before, self.hits) = (self.hits, 0),
            _ => (self.before, self.hits) = (0, 0),
        }
        self.hits = self.hits.saturating_add(1);
        self.seen = self.seen.max(now);
    }

    /// Came back at least a second after it was first seen.
    pub fn is_veteran(&self) -> bool {
        // One more: ticks are cut off.
        self.seen.saturating_sub(self.created) > VETERAN
    }

    /// Ticks since the last request.
    pub fn idle(&self, now: Tick) -> Tick {
        now.saturating_sub(self.seen)
    }

    /// Requests in about the last minute.
    pub fn recent(&self, now: Tick) -> u32 {
        let rest = |hits: u32| {
            let share = u64::from(hits) * u64::from(MINUTE - now % MINUTE) / u64::from(MINUTE);
            u32::try_from(share).unwrap_or(u32::MAX)
        };
        match (now / MINUTE).saturating_sub(self.seen / MINUTE) {
            0 => self.hits.saturating_add(rest(self.before)),
            1 => rest(self.hits),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_with_its_key_is_small() {
        assert!(size_of::<(u64, Slot)>() <= 32);
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
    fn hits_fade_within_two_minutes() {
        let mut slot = Slot::new(0, 0);
        (0..599).for_each(|now| slot.hit(now));
        assert_eq!(slot.recent(599), 600);
        assert_eq!(slot.recent(600), 600);
        assert_eq!(slot.recent(900), 300);
        assert_eq!(slot.recent(1200), 0);
        slot.hit(900);
        assert_eq!(slot.recent(900), 301);
        slot.hit(3000);
        assert_eq!((slot.recent(3000), slot.idle(3010)), (1, 10));
    }
}
