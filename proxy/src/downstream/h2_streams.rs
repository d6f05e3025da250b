//! The streams of one HTTP/2 connection: how many there are, and the watchdog that each runs under.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use super::h2_gate::Gate;
use crate::local::Local;
use crate::timer::Timer;

/// Streams that a connection may have under way without being asked to make room for others.
pub const MODEST_STREAMS: usize = 8;

/// The streams of one connection.
pub struct Streams {
    local: Rc<Local>,
    open: Cell<usize>,
    /// How many there ever were.
    served: Cell<u64>,
    idle_since: Cell<u64>,
    gate: Gate,
    /// Body bytes that h2 holds for this client; they are released on whatever thread drops them.
    held: Arc<AtomicUsize>,
}

impl Streams {
    pub fn new(local: &Rc<Local>) -> Streams {
        Streams {
            local: local.clone(),
            open: Cell::new(0),
            served: Cell::new(0),
            idle_since: Cell::new(local.timers.now_ms()),
            gate: Gate::default(),
            held: Arc::default(),
        }
    }

    pub fn open(self: &Rc<Self>) -> Rc<Watch> {
        let number = self.served.get();
        self.served.set(number + 1);
        self.open.set(self.open.get() + 1);
        let timer = self.local.timers.timer();
        Rc::new(Watch { timer, streams: self.clone(), number, begun: Cell::new(false) })
    }

    /// Since when no stream is open, and whether one ever was.
    pub fn idle_since(&self) -> Option<(u64, bool)> {
        (self.open.get() == 0).then(|| (self.idle_since.get(), self.served.get() > 0))
    }
}

/// The deadline of one stream. Whoever the stream waits for sets it; when it has passed and nobody
/// has taken note, the stream is reset.
pub struct Watch {
    pub timer: Timer,
    streams: Rc<Streams>,
    /// Counts the connection's streams in the order in which they came.
    number: u64,
    /// Its exchange has begun.
    begun: Cell<bool>,
}

impl Watch {
    /// Streams of this connection that are not over.
    pub fn open_streams(&self) -> usize {
        self.streams.open.get()
    }

    /// Body bytes that h2 holds for this client.
    pub fn held(&self) -> usize {
        self.streams.held.load(Ordering::Relaxed)
    }

    pub fn held_counter(&self) -> Arc<AtomicUsize> {
        self.streams.held.clone()
    }

    /// Begins the exchange if it need not wait for the connection's first answer.
    pub fn begin(&self) -> bool {
        let begun = self.streams.gate.pass(self.number);
        self.begun.set(begun);
        begun
    }

    /// Begins it when its turn comes. `bytes` of its body are in the connection's window.
    pub fn poll_begin(&self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        let turn = self.streams.gate.poll_pass(cx, self.number, bytes);
        self.begun.set(turn.is_ready());
        turn
    }

    /// A response head was sent.
    pub fn answered(&self) {
        self.streams.gate.open();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let streams = &self.streams;
        streams.open.set(streams.open.get().saturating_sub(1));
        streams.idle_since.set(streams.local.timers.now_ms());
        streams.gate.leave(self.number, self.begun.get());
    }
}

/// A stream future that is dropped (the stream is reset) when its deadline passes.
pub struct Watched<F> {
    pub inner: Pin<Box<F>>,
    pub watch: Rc<Watch>,
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.inner.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match self.watch.timer.check(cx) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    }
}
