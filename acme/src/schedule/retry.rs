//! What failed, and when it may be tried again: back-off by class of failure.

use serde::{Deserialize, Serialize};

use super::{DAY, Leaf, part, unit};
use crate::ca::{Class, Failure};

const HOUR: i64 = 3600;
/// What the CA saw was wrong; Let's Encrypt's own advice, then slower.
const VALIDATION: [i64; 6] = [60, 600, 6000, 6 * HOUR, 12 * HOUR, DAY];
/// The account has to be made again, which is done at once, but not again and again.
const ACCOUNT: [i64; 4] = [5, HOUR, 6 * HOUR, DAY];
/// Without a word of the CA about when.
const RATE_LIMITED: [i64; 6] = [HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 16 * HOUR, DAY];
/// Share of a delay by which it is spread, to either side.
const SPREAD: f64 = 0.2;
/// Share of the CA's own delay that is added to it; never taken away.
const AFTER: f64 = 0.05;
/// Failures of a CA that cannot be reached, before the next issuer is asked.
const BEFORE_FALLBACK: u32 = 3;

/// What went wrong since the last success. The default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    pub failures: u32,
    /// Each class has its own count: one that comes in between does not make another start anew.
    pub counts: Counts,
    pub last: Option<Failure>,
    pub failed_at: i64,
    pub next_at: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    pub validation: u32,
    pub rate_limited: u32,
    pub unavailable: u32,
    pub refused: u32,
    pub account_gone: u32,
    pub order_gone: u32,
    pub local: u32,
}

impl Counts {
    fn of(&mut self, class: Class) -> &mut u32 {
        match class {
            Class::Validation => &mut self.validation,
            Class::RateLimited => &mut self.rate_limited,
            Class::Unavailable => &mut self.unavailable,
            Class::Refused => &mut self.refused,
            Class::AccountGone => &mut self.account_gone,
            Class::OrderGone => &mut self.order_gone,
            Class::Local => &mut self.local,
        }
    }
}

impl Retry {
    /// The state after one more failure. `random`: 0 to 1, new for each failure.
    pub fn after(&self, failure: Failure, now: i64, random: f64) -> Retry {
        let mut counts = self.counts;
        let count = counts.of(failure.class);
        *count = count.saturating_add(1);
        let delay = delay(&failure, *count, now, unit(random));
        Retry {
            failures: self.failures.saturating_add(1),
            counts,
            failed_at: now,
            next_at: now.saturating_add(delay),
            last: Some(failure),
        }
    }

    /// Whether the next try is a dry run, where there is a staging directory: failed validations
    /// are counted by the CA, and there they cost nothing.
    pub fn wants_dry_run(&self) -> bool {
        self.counts.validation > 0
    }

    /// Whether the next issuer is asked: this one cannot be reached, or time runs out.
    pub fn wants_fallback(&self, leaf: Option<&Leaf>, now: i64) -> bool {
        self.counts.unavailable >= BEFORE_FALLBACK
            || (self.failures > 0 && leaf.is_some_and(|leaf| leaf.is_near_its_end(now)))
    }

    /// Moves a failure of the future, from before the clock was set back, to now. Call it with
    /// every look at the clock and keep the result, or the future has to be waited for.
    pub fn settle(&mut self, now: i64) {
        if self.failed_at > now {
            let delay = self.next_at.saturating_sub(self.failed_at);
            self.failed_at = now;
            self.next_at = now.saturating_add(delay);
        }
    }

    /// When the next try may be. An operator's word passes our own patience, never the CA's.
    pub fn held_until(&self, now: i64, forced: bool) -> i64 {
        let Some(last) = &self.last else { return now };
        if forced && last.class != Class::RateLimited && last.retry_at.is_none() {
            return now;
        }
        self.next_at
    }
}

/// Seconds to wait after the `count`th failure of its class, at least 1.
fn delay(failure: &Failure, count: u32, now: i64, random: f64) -> i64 {
    let step = |ladder: &[i64]| {
        let index = usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(1);
        ladder.get(index).or(ladder.last()).copied().unwrap_or(DAY)
    };
    let doubled = |first: i64| first.saturating_mul(1 << count.saturating_sub(1).min(20)).min(HOUR);
    let spread = |delay: i64| part(delay, 1.0 + (random * 2.0 - 1.0) * SPREAD);
    let asked = failure.retry_at.map(|at| {
        let asked = at.saturating_sub(now).max(0);
        // Never before what the CA said. One that says "at once" again and again is not believed.
        asked.saturating_add(part(asked, AFTER * random)).max(doubled(5))
    });
    let own = match failure.class {
        Class::Validation | Class::OrderGone => spread(step(&VALIDATION)),
        Class::RateLimited if asked.is_some() => 0,
        Class::RateLimited => {
            step(&RATE_LIMITED).saturating_add(part(step(&RATE_LIMITED), AFTER * random))
        }
        Class::Unavailable if asked.is_some() => 0,
        Class::Unavailable | Class::Local => spread(doubled(30)),
        Class::Refused => spread(DAY),
        Class::AccountGone => spread(step(&ACCOUNT)),
    };
    own.max(asked.unwrap_or(0)).max(1)
}
