//! What is remembered about passwords: verdicts by a keyed hash of the question, and wrong guesses
//! by client. Bounded by counts; nothing is ever searched through to make room.

use std::collections::HashMap;
use std::hash::Hash;

/// A map that forgets what was not used for long. Two generations: when the younger one is full,
/// the older one is dropped whole, so that the `capacity` keys used last are always there and
/// never more than twice as many.
struct Recent<K, V> {
    capacity: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Copy + Eq + Hash, V: Copy> Recent<K, V> {
    fn new(capacity: usize) -> Self {
        Recent { capacity, young: HashMap::new(), old: HashMap::new() }
    }

    fn get(&self, key: K) -> Option<V> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity && !self.young.contains_key(&key) {
            std::mem::swap(&mut self.young, &mut self.old);
            // The values own nothing: this clears a table of fixed size.
            self.young.clear();
        }
        self.young.insert(key, value);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// Verdicts by the key of their question, until when (process milliseconds).
pub struct Verdicts {
    right: Recent<u128, u64>,
    wrong: Recent<u128, u64>,
}

impl Verdicts {
    /// `capacity`: right and wrong ones that are surely remembered, each.
    pub fn new(capacity: usize) -> Verdicts {
        Verdicts { right: Recent::new(capacity), wrong: Recent::new(capacity) }
    }

    /// A right one stays for 5 min after its last use, a wrong one for a minute.
    pub fn recall(&mut self, key: u128, now: u64) -> Option<bool> {
        if self.right.get(key).is_some_and(|end| now < end) {
            self.right.put(key, now.saturating_add(RIGHT_MS));
            return Some(true);
        }
        self.wrong.get(key).is_some_and(|end| now < end).then_some(false)
    }

    pub fn learn(&mut self, key: u128, right: bool, now: u64) {
        if right {
            self.right.put(key, now.saturating_add(RIGHT_MS));
        } else {
            self.wrong.put(key, now.saturating_add(WRONG_MS));
        }
    }
}

/// Wrong guesses by client prefix, in windows of a minute that begin with the first.
pub struct Guesses {
    clients: Recent<u64, Window>,
}

#[derive(Clone, Copy)]
struct Window {
    end: u64,
    wrong: u32,
}

impl Guesses {
    /// `capacity`: clients that are surely remembered.
    pub fn new(capacity: usize) -> Guesses {
        Guesses { clients: Recent::new(capacity) }
    }

    /// Milliseconds until the client may guess again; `None`: now.
    pub fn wait_ms(&self, client: u64, now: u64) -> Option<u64> {
        let window = self.clients.get(client)?;
        (window.wrong >= MAX_WRONG && now < window.end).then(|| window.end - now)
    }

    pub fn wrong(&mut self, client: u64, now: u64) {
        let running = self.clients.get(client).filter(|window| now < window.end);
        let window = running.unwrap_or(Window { end: now.saturating_add(WINDOW_MS), wrong: 0 });
        let wrong = window.wrong.saturating_add(1);
        self.clients.put(client, Window { wrong, ..window });
    }
}

const RIGHT_MS: u64 = 5 * 60 * 1000;
const WRONG_MS: u64 = 60 * 1000;

/// Wrong guesses of one client in a window; after them it waits for its end.
pub const MAX_WRONG: u32 = 10;
const WINDOW_MS: u64 = 60 * 1000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPACITY: usize = 64;
    const CLIENTS: usize = 128;

    #[test]
    fn a_right_one_stays_while_it_is_used_and_a_wrong_one_for_a_minute() {
        let mut verdicts = Verdicts::new(CAPACITY);
        verdicts.learn(1, true, 0);
        verdicts.learn(2, false, 0);
        assert_eq!(verdicts.recall(1, RIGHT_MS - 1), Some(true));
        assert_eq!(verdicts.recall(1, 2 * RIGHT_MS - 2), Some(true));
        assert_eq!(verdicts.recall(1, 3 * RIGHT_MS - 2), None);
        assert_eq!(verdicts.recall(2, WRONG_MS - 1), Some(false));
        assert_eq!(verdicts.recall(2, WRONG_MS), None);
        assert_eq!(verdicts.recall(3, 0), None);
    }

    #[test]
    fn wrong_ones_never_push_out_right_ones() {
        let mut verdicts = Verdicts::new(CAPACITY);
        verdicts.learn(0, true, 0);
        for key in 1..100_000 {
            verdicts.learn(key, false, 0);
        }
        assert_eq!(verdicts.recall(0, 1), Some(true));
        assert_eq!(verdicts.recall(99_999, 1), Some(false));
        assert_eq!(verdicts.recall(1, 1), None);
        assert!(verdicts.wrong.len() <= 2 * CAPACITY);
    }

    #[test]
    fn the_eleventh_guess_waits_for_the_end_of_the_minute() {
        let mut guesses = Guesses::new(CLIENTS);
        for n in 0..u64::from(MAX_WRONG) {
            assert_eq!(guesses.wait_ms(7, 1000 + n), None);
            guesses.wrong(7, 1000 + n);
        }
        assert_eq!(guesses.wait_ms(7, 2000), Some(WINDOW_MS - 1000));
        assert_eq!(guesses.wait_ms(8, 2000), None);
        assert_eq!(guesses.wait_ms(7, 1000 + WINDOW_MS), None);
        // A new window, from 1.
        guesses.wrong(7, 1000 + WINDOW_MS);
        assert_eq!(guesses.wait_ms(7, 1001 + WINDOW_MS), None);
    }

    #[test]
    fn a_million_clients_are_not_remembered_all() {
        let mut guesses = Guesses::new(CLIENTS);
        for client in 0..1_000_000 {
            guesses.wrong(client, 0);
        }
        assert!(guesses.clients.len() <= 2 * CLIENTS);
    }

    proptest! {
        #[test]
        fn the_last_used_are_there_and_no_more_than_twice_as_many(
            keys in proptest::collection::vec(0u8..40, 0..200),
        ) {
            let mut recent = Recent::new(8);
            for (n, key) in keys.iter().enumerate() {
                recent.put(*key, n);
                prop_assert!(recent.len() <= 16);
                // Going back until 8 different ones were seen.
                let mut seen = Vec::new();
                for (at, key) in keys[..=n].iter().enumerate().rev() {
                    if seen.contains(key) {
                        continue;
                    }
                    prop_assert_eq!(recent.get(*key), Some(at));
                    seen.push(*key);
                    if seen.len() == 8 {
                        break;
                    }
                }
            }
        }
    }
}
