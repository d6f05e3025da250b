//! Series that are looked up once.

use std::sync::OnceLock;

/// Series of one thing whose last label comes from a closed list (a cause, a version): each is
/// looked up when it first counts, and kept. All of a list at once would be series that never count
/// anything. Reading takes no lock; what is found often should be found first.
pub struct Kept<K, M> {
    first: OnceLock<Box<Node<K, M>>>,
}

struct Node<K, M> {
    key: K,
    series: M,
    next: Kept<K, M>,
}

impl<K, M> Default for Kept<K, M> {
    fn default() -> Self {
        Kept { first: OnceLock::new() }
    }
}

impl<K: Copy + PartialEq, M> Kept<K, M> {
    /// The series of `key`, which `look_up` finds.
    pub fn get(&self, key: K, look_up: impl Fn() -> M) -> &M {
        let mut at = self;
        loop {
            let node = at
                .first
                .get_or_init(|| Box::new(Node { key, series: look_up(), next: Kept::default() }));
            // Else somebody else's, from before or from this very moment.
            if node.key == key {
                return &node.series;
            }
            at = &node.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_is_looked_up_once_whoever_asks() {
        let (kept, lookups) = (Kept::default(), AtomicUsize::new(0));
        let series = |key: usize| {
            kept.get(key, || {
                lookups.fetch_add(1, Ordering::Relaxed);
                (key, AtomicUsize::new(0))
            })
        };
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || {
                    for at in 0..1000 {
                        let key = (thread + at) % 10;
                        let (found, count) = series(key);
                        assert_eq!(*found, key);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        for key in 0..10 {
            assert_eq!(series(key).1.load(Ordering::Relaxed), 800);
        }
        assert_eq!(lookups.load(Ordering::Relaxed), 10);
    }
}
