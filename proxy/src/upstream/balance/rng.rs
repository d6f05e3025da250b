//! A small seeded generator, one per worker: fair enough to spread load, useless for secrets.

use std::cell::Cell;

/// wyrand: one multiplication a number, period 2^64.
pub struct Rng(Cell<u64>);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(Cell::new(mix(seed)))
    }

    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0xa076_1d64_78bd_642f);
        self.0.set(state);
        fold(state, state ^ 0xe703_7ed1_a0b4_28db)
    }

    /// Below `bound`; 0 for a bound of 0. The bias is below `bound` / 2^64.
    pub fn below(&self, bound: usize) -> usize {
        scale(self.next(), bound)
    }

    /// In (0, 1].
    pub fn unit(&self) -> f64 {
        unit(self.next())
    }
}

/// Spreads every bit of a number over all of the result (splitmix64's finaliser).
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Maps an evenly spread number to 0..`bound`.
pub fn scale(number: u64, bound: usize) -> usize {
    ((u128::from(number) * bound as u128) >> 64) as usize
}

/// Maps an evenly spread number to (0, 1].
pub fn unit(number: u64) -> f64 {
    ((number >> 11) + 1) as f64 / (1u64 << 53) as f64
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_evenly_and_repeat_for_a_seed() {
        let (rng, again) = (Rng::new(7), Rng::new(7));
        let mut counts = [0u32; 10];
        for _ in 0..100_000 {
            let drawn = rng.below(10);
            assert_eq!(drawn, again.below(10));
            counts[drawn] += 1;
        }
        // 10,000 each; the standard deviation is 95.
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_ne!(Rng::new(7).next(), Rng::new(8).next());
    }

    #[test]
    fn bounds_hold() {
        let rng = Rng::new(1);
        assert_eq!(rng.below(0), 0);
        assert_eq!(scale(u64::MAX, 10), 9);
        assert_eq!(scale(0, 10), 0);
        assert!(unit(0) > 0.0 && unit(u64::MAX) <= 1.0);
    }
}
