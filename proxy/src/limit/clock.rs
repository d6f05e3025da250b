//! Time as rate limits see it: absolute, in nanoseconds since process start.
//!
//! governor keeps arrival times relative to the creation of a `RateLimiter`. A table that outlives
//! its limiter would then refuse good keys for as long as the process had run. So the reference
//! point is ignored here: what governor calls a duration since its start is a point in time.

use std::cell::Cell;
use std::ops::Add;

use governor::clock::{Clock, Reference};
use governor::nanos::Nanos;

use crate::clock;

/// A point in time: nanoseconds since process start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Of the process.
    pub fn now() -> Moment {
        ProcessClock.now()
    }

    /// From microseconds since process start ([`clock::process_us`]).
    pub fn from_us(us: u64) -> Moment {
        Moment(us.saturating_mul(1000))
    }
}

impl Reference for Moment {
    /// Since process start, whatever `_earlier` is.
    fn duration_since(&self, _earlier: Self) -> Nanos {
        Nanos::new(self.0)
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Moment(self.0.saturating_sub(duration.as_u64()))
    }
}

/// The counterpart of [`Moment::duration_since`]: the sum is counted from process start.
impl Add<Nanos> for Moment {
    type Output = Moment;

    fn add(self, since_start: Nanos) -> Moment {
        Moment(since_start.as_u64())
    }
}

/// What limits need of a clock.
pub trait LimitClock: Clock<Instant = Moment> + Clone + Send + Sync + 'static {}

impl<C: Clock<Instant = Moment> + Clone + Send + Sync + 'static> LimitClock for C {}

/// The clock of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessClock;

impl Clock for ProcessClock {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(clock::process_ns())
    }
}

/// governor's clock: what the thread has read for the question that it asks, so that one question
/// reads the time once.
#[derive(Clone, Copy, Debug, Default)]
pub struct AskedAt;

impl AskedAt {
    /// Until this thread sets it again.
    pub fn set(now: Moment) {
        ASKED_AT.set(now);
    }
}

impl Clock for AskedAt {
    type Instant = Moment;

    fn now(&self) -> Moment {
        ASKED_AT.get()
    }
}

thread_local! {
    static ASKED_AT: Cell<Moment> = const { Cell::new(Moment(0)) };
}

#[cfg(test)]
pub use hand::HandClock;

#[cfg(test)]
mod hand {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::{Clock, Moment};

    /// Stands until it is set.
    #[derive(Clone, Default)]
    pub struct HandClock(Arc<AtomicU64>);

    impl HandClock {
        pub fn set(&self, since_start: Duration) {
            self.0.store(u64::try_from(since_start.as_nanos()).unwrap(), Ordering::SeqCst);
        }

        pub fn advance(&self, by: Duration) {
            self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::SeqCst);
        }
    }

    impl Clock for HandClock {
        type Instant = Moment;

        fn now(&self) -> Moment {
            Moment(self.0.load(Ordering::SeqCst))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_point_does_not_matter() {
        for start in [0, 7, u64::MAX] {
            assert_eq!(Moment(9).duration_since(Moment(start)).as_u64(), 9);
            assert_eq!(Moment(start) + Nanos::new(9), Moment(9));
        }
    }

    #[test]
    fn the_process_clock_never_goes_back() {
        let first = ProcessClock.now();
        assert!(ProcessClock.now() >= first);
    }
}
