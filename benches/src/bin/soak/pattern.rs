//! Bytes that know their place: every 8 of them are a hash of their position, so a body that lacks,
//! repeats or swaps anything is found without keeping it.

/// Numbers that look random and are the same for the same seed (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// `0..end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    pub fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap_or(0)
    }

    /// True in one of `n` cases.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Writes the bytes that stand at `offset`, a multiple of 8.
pub fn fill(offset: u64, out: &mut [u8]) {
    for (word, chunk) in (offset / 8..).zip(out.chunks_mut(8)) {
        let bytes = word_at(word);
        chunk.copy_from_slice(bytes.get(..chunk.len()).unwrap_or_default());
    }
}

/// Compares a body, in pieces of any size, with what it should be.
#[derive(Default)]
pub struct Checker {
    bytes: u64,
    wrong: Option<u64>,
}

impl Checker {
    pub fn push(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() && self.wrong.is_none() {
            let skip = usize::try_from(self.bytes % 8).unwrap_or_default();
            let expected = word_at(self.bytes / 8);
            let expected = expected.get(skip..).unwrap_or_default();
            let n = expected.len().min(piece.len());
            let (now, rest) = piece.split_at(n);
            if let Some(at) = now.iter().zip(expected).position(|(a, b)| a != b) {
                self.wrong = Some(self.bytes + at as u64);
            }
            self.bytes += n as u64;
            piece = rest;
        }
        // After a wrong byte only the length counts.
        self.bytes += piece.len() as u64;
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Position of the first wrong byte.
    pub fn wrong(&self) -> Option<u64> {
        self.wrong
    }
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn word_at(word: u64) -> [u8; 8] {
    mix(word.wrapping_mul(STEP)).to_le_bytes()
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        fill(0, &mut out);
        out
    }

    #[test]
    fn pieces_of_any_size_are_the_whole() {
        let whole = body(1003);
        let mut later = vec![0; 1003 - 64];
        fill(64, &mut later);
        assert_eq!(later, whole[64..]);
        for size in [1, 3, 8, 13, 1003] {
            let mut checker = Checker::default();
            whole.chunks(size).for_each(|piece| checker.push(piece));
            assert_eq!((checker.bytes(), checker.wrong()), (1003, None), "pieces of {size}");
        }
    }

    #[test]
    fn what_is_changed_lost_or_doubled_is_found() {
        let whole = body(256);
        let mut changed = whole.clone();
        changed[77] ^= 1;
        let lost = [&whole[..40], &whole[48..]].concat();
        let doubled = [&whole[..16], &whole[8..]].concat();
        for (wrong, at) in [(changed, 77), (lost, 40), (doubled, 16)] {
            let mut checker = Checker::default();
            checker.push(&wrong);
            assert_eq!(checker.bytes(), wrong.len() as u64);
            // A wrong byte may be right by chance, not for long.
            assert!((at..at + 3).contains(&checker.wrong().unwrap()), "at {at}");
        }
    }

    #[test]
    fn a_seed_repeats_itself() {
        let some = |seed| -> Vec<u64> {
            let mut random = Random::new(seed);
            (0..20).map(|_| random.below(10)).collect()
        };
        assert_eq!(some(7), some(7));
        assert_ne!(some(7), some(8));
        assert!(some(7).iter().all(|n| *n < 10));
    }
}
