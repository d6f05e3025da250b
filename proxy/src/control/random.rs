//! Numbers that nobody has to be unable to guess: jitter and the order of equals.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// splitmix64 (Steele, Lea, Flood 2014), seeded by the standard library.
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        Random(RandomState::new().hash_one(0))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly between these two thousandths of a time, both included. Saturates.
    pub fn vary(&mut self, time: Duration, least: u64, most: u64) -> Duration {
        let span = most.saturating_sub(least).saturating_add(1);
        let permille = least.saturating_add(self.next() % span);
        let scaled = time.as_micros().saturating_mul(u128::from(permille)) / 1000;
        Duration::from_micros(u64::try_from(scaled).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varied_time_stays_between_its_bounds_and_reaches_both() {
        let mut random = Random::new();
        let (mut least, mut most) = (Duration::MAX, Duration::ZERO);
        for _ in 0..100_000 {
            let varied = random.vary(Duration::from_secs(10), 900, 1100);
            (least, most) = (least.min(varied), most.max(varied));
        }
        assert_eq!((least, most), (Duration::from_secs(9), Duration::from_secs(11)));
    }
}
