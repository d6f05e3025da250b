//! Who waits for which verdict, and what is remembered, in shards: workers meet only where two
//! clients have the same shard, and a lock is held for an update only (design.md #1).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::verdicts::{Guesses, Verdicts};

/// Verdicts by question and questions by client. No two shards are ever locked at once.
pub struct Books {
    /// By the question's key, whoever asks.
    verdicts: [Mutex<Verdicts>; SHARDS],
    clients: [Mutex<Clients>; SHARDS],
    /// Questions in all shards.
    open: AtomicUsize,
}

struct Clients {
    guesses: Guesses,
    /// Queued or being verified, by client.
    open: HashMap<u64, Open>,
}

/// The one question of a client.
struct Open {
    key: u128,
    /// A browser asks for several things at once.
    waiting: Vec<oneshot::Sender<bool>>,
}

/// What became of a question that has no verdict yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    Waits,
    /// Too many are open, or another one of the same client is.
    Busy,
    /// Too many wrong guesses; milliseconds to wait.
    Limited {
        ms: u64,
    },
}

impl Books {
    pub fn new() -> Books {
        let clients = || Clients { guesses: Guesses::new(CLIENTS), open: HashMap::new() };
        Books {
            verdicts: std::array::from_fn(|_| Mutex::new(Verdicts::new(VERDICTS))),
            clients: std::array::from_fn(|_| Mutex::new(clients())),
            open: AtomicUsize::new(0),
        }
    }

    /// Questions queued or being verified.
    pub fn waiting(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub fn recall(&self, key: u128, now: u64) -> Option<bool> {
        self.verdicts_of(key).recall(key, now)
    }

    /// Notes that `reply` waits for the verdict on `key`. `submit` hands a new question to the
    /// thread; false: it was not taken.
    pub fn open(
        &self,
        client: u64,
        key: u128,
        now: u64,
        reply: oneshot::Sender<bool>,
        submit: impl FnOnce() -> bool,
    ) -> Opened {
        let mut clients = self.clients_of(client);
        if let Some(ms) = clients.guesses.wait_ms(client, now) {
            return Opened::Limited { ms };
        }
        if let Some(open) = clients.open.get_mut(&client) {
            if open.key != key || open.waiting.len() >= MAX_SAME {
                return Opened::Busy;
            }
            open.waiting.push(reply);
            return Opened::Waits;
        }
        if !self.take_place() {
            return Opened::Busy;
        }
        // The shard stays locked: the thread settles the question only when it is in the book.
        if !submit() {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Opened::Busy;
        }
        clients.open.insert(client, Open { key, waiting: vec![reply] });
        Opened::Waits
    }

    /// Whether anybody still waits for the client's question; else it is closed.
    pub fn still_open(&self, client: u64) -> bool {
        let mut clients = self.clients_of(client);
        let Some(open) = clients.open.get_mut(&client) else { return false };
        open.waiting.retain(|reply| !reply.is_closed());
        if open.waiting.is_empty() {
            self.close(&mut clients, client);
            return false;
        }
        true
    }

    /// Remembers the verdict and tells those who wait for it; `None`: there is none, and they are
    /// told that.
    pub fn settle(&self, client: u64, key: u128, verdict: Option<bool>, now: u64) {
        // Known before the question is closed: who asks again meanwhile does not open it anew.
        if let Some(right) = verdict {
            self.verdicts_of(key).learn(key, right, now);
        }
        let mut clients = self.clients_of(client);
        if verdict == Some(false) {
            clients.guesses.wrong(client, now);
        }
        let open = self.close(&mut clients, client);
        drop(clients);
        // Without a verdict the senders are dropped, which says so.
        if let (Some(open), Some(right)) = (open, verdict) {
            for reply in open.waiting {
                let _ = reply.send(right);
            }
        }
    }

    fn close(&self, clients: &mut Clients, client: u64) -> Option<Open> {
        let open = clients.open.remove(&client)?;
        self.open.fetch_sub(1, Ordering::Relaxed);
        Some(open)
    }

    /// Exact, so that the queue of the thread always has room for what has a place.
    fn take_place(&self) -> bool {
        let next = |open: usize| (open < MAX_OPEN).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    fn verdicts_of(&self, key: u128) -> MutexGuard<'_, Verdicts> {
        lock(&self.verdicts[(key % SHARDS as u128) as usize])
    }

    fn clients_of(&self, client: u64) -> MutexGuard<'_, Clients> {
        lock(&self.clients[(client % SHARDS as u64) as usize])
    }
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keys and clients are hashes: their low bits are as good as any.
const SHARDS: usize = 16;
/// Right and wrong verdicts that are surely remembered, each, per shard: 2,048 in all.
const VERDICTS: usize = 128;
/// Clients whose wrong guesses are surely remembered, per shard: 4,096 in all.
const CLIENTS: usize = 256;

/// Questions queued or being verified at once, over all clients.
pub const MAX_OPEN: usize = 64;
/// Requests of one client that wait for the same verdict.
pub const MAX_SAME: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::super::verdicts::MAX_WRONG;
    use super::*;

    fn open(books: &Books, client: u64, key: u128) -> (Opened, oneshot::Receiver<bool>) {
        let (reply, answer) = oneshot::channel();
        (books.open(client, key, 0, reply, || true), answer)
    }

    #[test]
    fn places_are_counted_over_all_shards_from_all_threads() {
        let (books, start) = (Books::new(), Barrier::new(8));
        let taken: usize = std::thread::scope(|scope| {
            let ask = |thread: u64| {
                let (books, start) = (&books, &start);
                scope.spawn(move || {
                    start.wait();
                    let ask = |n: u64| open(books, thread * 1000 + n, 7).0;
                    (0..50).map(ask).filter(|opened| *opened == Opened::Waits).count()
                })
            };
            let threads: Vec<_> = (0..8).map(ask).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((taken, books.waiting()), (MAX_OPEN, MAX_OPEN));
        for client in 0..8000 {
            books.settle(client, 7, Some(true), 0);
        }
        assert_eq!(books.waiting(), 0);
        assert_eq!(books.recall(7, 1), Some(true));
    }

    #[test]
    fn what_the_thread_does_not_take_has_no_place() {
        let books = Books::new();
        let (reply, _answer) = oneshot::channel();
        assert_eq!(books.open(1, 1, 0, reply, || false), Opened::Busy);
        assert_eq!(books.waiting(), 0);
        assert!(!books.still_open(1));
    }

    #[test]
    fn who_leaves_gives_the_place_back() {
        let books = Books::new();
        let (opened, answer) = open(&books, 1, 1);
        assert!(opened == Opened::Waits && books.still_open(1));
        drop(answer);
        assert!(!books.still_open(1));
        assert_eq!(books.waiting(), 0);
        // Settled all the same: nothing is given back twice.
        books.settle(1, 1, None, 0);
        assert_eq!(books.waiting(), 0);
    }

    #[test]
    fn guesses_are_counted_by_client_in_whatever_shard() {
        let books = Books::new();
        for n in 0..u64::from(MAX_WRONG) {
            for client in 0..40 {
                assert_eq!(open(&books, client, u128::from(n)).0, Opened::Waits, "{client}");
                // The last one has guessed right once.
                let right = client == 39 && n == 0;
                books.settle(client, u128::from(n), Some(right), 0);
            }
        }
        for client in 0..40 {
            let limited = matches!(open(&books, client, 99).0, Opened::Limited { .. });
            assert_eq!(limited, client != 39, "{client}");
        }
        assert_eq!(books.waiting(), 1);
    }

    #[test]
    fn a_thousand_right_ones_are_remembered() {
        let books = Books::new();
        // Keys are hashes.
        let key = |n: u128| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 3;
        (0..1000).for_each(|n| books.settle(0, key(n), Some(true), 0));
        assert!((0..1000).all(|n| books.recall(key(n), 1) == Some(true)));
    }
}
