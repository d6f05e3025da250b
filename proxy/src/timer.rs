//! Deadlines of one worker: a slab that a tick walks every [`TICK`]. Arming is one store, so that
//! every wait of every request can have a deadline; firing is late by at most two ticks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use slab::Slab;

use crate::clock;
use crate::route::table::RouteLife;

pub const TICK: Duration = Duration::from_millis(50);
const TICK_MS: u64 = 50;
const NEVER: u64 = u64::MAX;

/// All deadlines of a worker.
#[derive(Default)]
pub struct Timers {
    entries: RefCell<Slab<Entry>>,
    now_ms: Cell<u64>,
    forced: Cell<bool>,
}

struct Entry {
    deadline: u64,
    waker: Option<Waker>,
    /// The route whose removal ends this wait.
    life: Option<Arc<RouteLife>>,
    /// Woken at every tick while set: waits on something that has no event of its own.
    poll: bool,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    Deadline,
    /// The route was removed and its grace time has passed.
    RouteRemoved,
    /// The process ends now.
    Forced,
}

/// One task's deadline; gone with its owner.
pub struct Timer {
    timers: Rc<Timers>,
    key: usize,
}

impl Timers {
    /// Worker time in milliseconds, as of the last tick.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    pub fn timer(self: &Rc<Self>) -> Timer {
        let entry = Entry { deadline: NEVER, waker: None, life: None, poll: false };
        let key = self.entries.borrow_mut().insert(entry);
        Timer { timers: self.clone(), key }
    }

    /// Moves the time on and wakes whoever is due; everybody with `all` (a drain begins or ends).
    pub fn tick(&self, all: bool, forced: bool) {
        let now = clock::process_ms();
        self.now_ms.set(now);
        self.forced.set(forced);
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            let ended = entry.life.as_ref().is_some_and(|life| life.ended(now));
            if all || forced || ended || entry.poll || entry.deadline <= now {
                entry.poll = false;
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

impl Timer {
    pub fn set(&self, after: Duration) {
        let ms = u64::try_from(after.as_millis()).unwrap_or(NEVER);
        self.set_at(self.timers.now_ms.get().saturating_add(ms).saturating_add(TICK_MS));
    }

    /// At this worker time in milliseconds.
    pub fn set_at(&self, at_ms: u64) {
        self.with(|entry| entry.deadline = at_ms);
    }

    pub fn clear(&self) {
        self.with(|entry| entry.deadline = NEVER);
    }

    pub fn follow(&self, life: Option<Arc<RouteLife>>) {
        self.with(|entry| entry.life = life);
    }

    /// Asks to be polled again at the next tick.
    pub fn poll_at_tick(&self) {
        self.with(|entry| entry.poll = true);
    }

    pub fn now_ms(&self) -> u64 {
        self.timers.now_ms()
    }

    /// Whether the wait is over; otherwise the task is woken when it is.
    pub fn check(&self, cx: &mut Context<'_>) -> Option<Fired> {
        if let Some(fired) = self.fired() {
            return Some(fired);
        }
        self.with(|entry| match &mut entry.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            slot => *slot = Some(cx.waker().clone()),
        });
        None
    }

    pub fn fired(&self) -> Option<Fired> {
        if self.timers.forced.get() {
            return Some(Fired::Forced);
        }
        let now = self.timers.now_ms.get();
        let entries = self.timers.entries.borrow();
        let entry = entries.get(self.key)?;
        if entry.deadline <= now {
            Some(Fired::Deadline)
        } else if entry.life.as_ref().is_some_and(|life| life.ended(now)) {
            Some(Fired::RouteRemoved)
        } else {
            None
        }
    }

    fn with(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.timers.entries.borrow_mut().get_mut(self.key) {
            change(entry);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.timers.entries.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_after_its_time_and_not_before() {
        let timers = Rc::new(Timers::default());
        timers.tick(false, false);
        let timer = timers.timer();
        assert_eq!(timer.fired(), None);
        timer.set(Duration::from_secs(60));
        timers.tick(false, false);
        assert_eq!(timer.fired(), None);
        timer.set_at(timers.now_ms());
        assert_eq!(timer.fired(), Some(Fired::Deadline));
        timer.clear();
        let life = Arc::new(RouteLife::default());
        timer.follow(Some(life.clone()));
        assert_eq!(timer.fired(), None);
        life.retire(timers.now_ms());
        assert_eq!(timer.fired(), Some(Fired::RouteRemoved));
        timers.tick(false, true);
        assert_eq!(timer.fired(), Some(Fired::Forced));
        drop(timer);
        assert!(timers.entries.borrow().is_empty());
    }
}
