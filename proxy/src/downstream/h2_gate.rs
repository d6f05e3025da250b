//! How many exchanges an HTTP/2 connection may begin before it has had an answer (design.md §4). h2
//! announces its number of streams once and for all, and to refuse streams would hurt honest
//! clients: further requests wait here, in the order in which they came.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

/// Exchanges under way at most before the connection's first response head.
pub const FIRST_EXCHANGES: usize = 32;
/// What the bodies of waiting requests may take of the connection's window. Whoever takes more
/// begins at once: else the bodies of those that have begun would find no room, and nobody would
/// ever be answered.
const MAX_WAITING_BYTES: usize = super::h2::CONNECTION_WINDOW as usize / 2;

/// Where the exchanges of one connection begin.
#[derive(Default)]
pub struct Gate {
    /// A response head was sent.
    open: Cell<bool>,
    begun: Cell<usize>,
    /// By the number of their stream.
    waiting: RefCell<BTreeMap<u64, Waiting>>,
}

struct Waiting {
    waker: Waker,
    /// Body bytes in the connection's window.
    bytes: usize,
}

impl Gate {
    /// Begins the exchange of stream `number` if that needs no waiting.
    pub fn pass(&self, number: u64) -> bool {
        let passes = self.open.get() || (self.has_room() && self.is_next(number));
        if passes {
            self.begin(number);
        }
        passes
    }

    /// Begins it when its time has come. `bytes` of its body are in the connection's window.
    pub fn poll_pass(&self, cx: &mut Context<'_>, number: u64, bytes: usize) -> Poll<()> {
        if self.pass(number) {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        let others = waiting.iter().filter(|(other, _)| **other != number);
        let others: usize = others.map(|(_, other)| other.bytes).sum();
        if bytes > 0 && others.saturating_add(bytes) > MAX_WAITING_BYTES {
            drop(waiting);
            self.begin(number);
            return Poll::Ready(());
        }
        waiting.insert(number, Waiting { waker: cx.waker().clone(), bytes });
        Poll::Pending
    }

    /// The connection's first response head was sent: everybody begins.
    pub fn open(&self) {
        if !self.open.replace(true) {
            for waiting in self.waiting.take().into_values() {
                waiting.waker.wake();
            }
        }
    }

    /// Stream `number` is over; its exchange had `begun` or was still waiting.
    pub fn leave(&self, number: u64, begun: bool) {
        if begun {
            self.begun.set(self.begun.get().saturating_sub(1));
        }
        if !self.open.get() {
            self.waiting.borrow_mut().remove(&number);
            self.wake_next();
        }
    }

    fn begin(&self, number: u64) {
        self.begun.set(self.begun.get() + 1);
        if !self.open.get() {
            self.waiting.borrow_mut().remove(&number);
            self.wake_next();
        }
    }

    fn has_room(&self) -> bool {
        self.begun.get() < FIRST_EXCHANGES
    }

    /// Nobody has waited longer.
    fn is_next(&self, number: u64) -> bool {
        let waiting = self.waiting.borrow();
        waiting.first_key_value().is_none_or(|(first, _)| *first >= number)
    }

    fn wake_next(&self) {
        if self.has_room()
            && let Some((_, next)) = self.waiting.borrow().first_key_value()
        {
            next.waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A stream as its task sees it: it asks once, then only when it was woken.
    struct Stream {
        number: u64,
        woken: Arc<Count>,
        seen: usize,
        begun: bool,
    }

    impl Stream {
        fn ask(&mut self, gate: &Gate, bytes: usize) {
            self.seen = self.woken.0.load(Ordering::Relaxed);
            let waker = Waker::from(self.woken.clone());
            let mut cx = Context::from_waker(&waker);
            self.begun |= gate.poll_pass(&mut cx, self.number, bytes).is_ready();
        }
    }

    /// Polls whoever was woken, oldest first, until nobody is.
    fn settle(gate: &Gate, streams: &mut [Stream]) {
        let due = |s: &&mut Stream| !s.begun && s.woken.0.load(Ordering::Relaxed) > s.seen;
        while let Some(stream) = streams.iter_mut().find(due) {
            stream.ask(gate, 0);
        }
    }

    fn arrive(gate: &Gate, number: u64, bytes: usize) -> Stream {
        let mut stream = Stream { number, woken: Arc::default(), seen: 0, begun: false };
        stream.ask(gate, bytes);
        stream
    }

    #[test]
    fn bodies_do_not_wait_in_a_full_window() {
        let gate = Gate::default();
        let mut streams: Vec<_> = (0..32).map(|n| arrive(&gate, n, 1 << 20)).collect();
        assert!(streams.iter().all(|s| s.begun));
        streams.push(arrive(&gate, 32, MAX_WAITING_BYTES));
        assert!(!streams[32].begun);
        streams.push(arrive(&gate, 33, 0));
        assert!(!streams[33].begun, "it takes nothing");
        streams.push(arrive(&gate, 34, 1));
        assert!(streams[34].begun, "one byte too many");
        streams[33].ask(&gate, 1);
        assert!(streams[33].begun, "it was woken by a byte too many");
        assert!(!streams[32].begun);
    }

    proptest! {
        /// In any order of arrivals and ends: never more than 32, never an idle place while
        /// somebody waits, never out of turn; and an answer lets everybody through.
        #[test]
        fn thirty_two_in_order_of_arrival(ends in proptest::collection::vec(any::<u8>(), 1..300)) {
            let gate = Gate::default();
            let mut streams = Vec::new();
            let mut next = 0;
            for end in ends {
                if end % 3 < 2 {
                    streams.push(arrive(&gate, next, 0));
                    next += 1;
                } else if !streams.is_empty() {
                    let gone: Stream = streams.remove(usize::from(end) % streams.len());
                    gate.leave(gone.number, gone.begun);
                }
                settle(&gate, &mut streams);
                let begun = streams.iter().filter(|s| s.begun).count();
                prop_assert_eq!(begun, streams.len().min(FIRST_EXCHANGES));
                prop_assert!(streams.iter().take(begun).all(|s| s.begun), "out of turn");
            }
            gate.open();
            settle(&gate, &mut streams);
            prop_assert!(streams.iter().all(|s| s.begun));
            prop_assert!(gate.waiting.borrow().is_empty());
            prop_assert!(arrive(&gate, next, 0).begun);
        }
    }
}
