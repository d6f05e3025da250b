//! Requests that wait for an endpoint: none can be reached, or all are at their limits. Only counts
//! are shared; each waiting request is a task of its own worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use super::endpoint::UpstreamState;

/// Between two questions whether an endpoint is back, over all waiting requests.
const PROBE_MS: u64 = 40;

/// The queue of one upstream.
#[derive(Default)]
pub struct Queue {
    waiting: AtomicUsize,
    /// Process milliseconds of the next question.
    probe_at_ms: AtomicU64,
    /// Counts recoveries: whoever waits sees that there was one.
    recoveries: AtomicU64,
}

/// A place in the queue, for as long as it lives.
pub struct Waiting(Arc<UpstreamState>);

impl Waiting {
    /// `None`: the queue is full.
    pub fn enter(state: &Arc<UpstreamState>, size: usize) -> Option<Waiting> {
        let waiting = &state.queue.waiting;
        if waiting.fetch_add(1, Ordering::Relaxed) >= size {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Waiting(state.clone()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.queue.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queue {
    pub fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the caller is the one to ask an endpoint now: one request in `PROBE_MS`, however
    /// many wait.
    pub fn may_probe(&self, now_ms: u64) -> bool {
        let due = self.probe_at_ms.load(Ordering::Relaxed);
        let next = now_ms + PROBE_MS;
        due <= now_ms
            && self
                .probe_at_ms
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// An endpoint was reached.
    pub fn recovered(&self) {
        if !self.is_empty() {
            self.recoveries.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn recoveries(&self) -> u64 {
        self.recoveries.load(Ordering::Relaxed)
    }
}

/// Who waits on one worker, by upstream: woken when a request of this worker makes room. Requests
/// of other workers are noticed at the next tick, when everybody looks anyway.
#[derive(Default)]
pub struct Waiters(RefCell<HashMap<*const UpstreamState, Vec<Waker>>>);

impl Waiters {
    pub fn add(&self, state: &Arc<UpstreamState>, waker: &Waker) {
        self.0.borrow_mut().entry(Arc::as_ptr(state)).or_default().push(waker.clone());
    }

    /// There may be room: the first to look gets it, the others wait on in their order.
    pub fn wake(&self, state: &Arc<UpstreamState>) {
        let waiters = self.0.borrow_mut().remove(&Arc::as_ptr(state));
        for waker in waiters.into_iter().flatten() {
            waker.wake();
        }
    }

    /// Called at every tick, which wakes all of them: nobody is kept who has left.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded() {
        let state = Arc::new(UpstreamState::default());
        let held: Vec<_> = (0..3).map(|_| Waiting::enter(&state, 3).unwrap()).collect();
        assert!(Waiting::enter(&state, 3).is_none());
        assert_eq!(state.queue.len(), 3);
        drop(held);
        assert!(state.queue.is_empty());
        assert!(Waiting::enter(&state, 0).is_none());
    }

    #[test]
    fn one_of_many_asks() {
        let queue = Queue::default();
        let asked = (0..100u64).filter(|now_ms| queue.may_probe(1000 + now_ms)).count();
        assert_eq!(asked, 3);
    }
}
