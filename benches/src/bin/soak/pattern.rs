//! Bytes that know their place: every 8 of them are a hash of their position, so a body that lacks,
//! repeats or swaps anything is found without keeping it.

pub use benches::random::Random;
use benches::random::{STEP, mix};

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

fn word_at(word: u64) -> [u8; 8] {
    mix(word.wrapping_mul(STEP)).to_le_bytes()
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
}
