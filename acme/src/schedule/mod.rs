//! When a certificate is to be renewed: a pure function of what is known.
//!
//! Three questions, in this order: when is it due, may it be tried again after what went wrong,
//! does the budget of the [`ledger`](crate::ledger) allow it. The latest of the three answers
//! counts. Times are Unix seconds.

mod ari;
mod retry;
#[cfg(test)]
mod tests;

use std::fmt;

pub use ari::AriWindow;
pub use retry::{Counts, Retry};

const DAY: i64 = 24 * 3600;
/// Lifetimes below this are renewed at half of them, not at two thirds (Let's Encrypt's
/// integration guide).
const SHORT_LIFE: i64 = 10 * DAY;
/// Share of the lifetime by which certificates of one age are spread, to either side.
const SPREAD: f64 = 0.02;
/// Least age of a renewed certificate, whatever its lifetime: 5 minutes, a quarter of shorter
/// lives.
const LEAST_AGE: i64 = 300;

/// The certificate that serves now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub not_before: i64,
    pub not_after: i64,
    /// When we got it; `None`: not known (imported). A CA may date `not_before` back, and only
    /// the time from here on is of use.
    pub issued_at: Option<i64>,
}

impl Leaf {
    /// The start of its use.
    fn from(&self) -> i64 {
        match self.issued_at {
            Some(at) if at > self.not_before && at < self.not_after => at,
            _ => self.not_before,
        }
    }

    /// Seconds from the start of its use to its end, at least 1.
    fn life(&self) -> i64 {
        self.not_after.saturating_sub(self.from()).max(1)
    }

    /// Seconds left at `now`; 0: expired.
    pub fn left(&self, now: i64) -> i64 {
        self.not_after.saturating_sub(now).max(0)
    }

    /// Less than a sixth of its life is left: time to ask another CA.
    pub fn is_near_its_end(&self, now: i64) -> bool {
        self.left(now) < self.life() / 6
    }

    /// When it is renewed if the CA says nothing: at two thirds of its life, at half of a short
    /// one, ± 2 %.
    fn due_by_life(&self, jitter: f64) -> i64 {
        let life = self.life();
        let nominal = self.not_after.saturating_sub(self.not_before);
        let share = if nominal < SHORT_LIFE { 0.5 } else { 2.0 / 3.0 };
        let spread = (unit(jitter) * 2.0 - 1.0) * SPREAD;
        let due = self.from().saturating_add(part(life, share + spread));
        due.max(self.from().saturating_add((life / 20).max(self.least_age())))
    }

    fn least_age(&self) -> i64 {
        LEAST_AGE.min(self.life() / 4)
    }
}

/// What is known about one certificate.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub now: i64,
    /// `None`: there is no usable certificate.
    pub leaf: Option<&'a Leaf>,
    /// RFC 9773 identifier of the leaf.
    pub leaf_id: Option<&'a str>,
    pub ari: Option<&'a AriWindow>,
    pub retry: &'a Retry,
    /// Another issuer, profile or kind of key is wanted.
    pub issuer_changed: bool,
    /// An operator asks for it.
    pub forced: bool,
    /// This attempt is the operator's own: our patience does not hold it.
    pub hurry: bool,
    /// 0 to 1, fixed per certificate.
    pub jitter: f64,
    /// What the ledger says.
    pub allowed_at: i64,
    /// Which limit it is, when `allowed_at` is in the future.
    pub limit: Option<&'a str>,
}

/// Why a certificate is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Missing,
    /// Another issuer, profile or kind of key is wanted.
    IssuerChanged,
    Forced,
    AriWindow,
    Lifetime,
    Expired,
}

/// Why no certificate is ordered now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not due yet.
    Fresh,
    /// Due, but a try failed not long ago.
    BackOff,
    /// Due, but too many were ordered; the limit in words.
    Budget(String),
}

/// For people.
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Fresh => f.write_str("it is young enough"),
            Wait::BackOff => f.write_str("the last attempt failed"),
            Wait::Budget(limit) => write!(f, "the budget is used up: {limit}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    RenewNow(Why),
    /// Ask again at `at`, which is after `now`.
    WaitUntil {
        at: i64,
        why: Wait,
    },
}

/// What to do about a certificate, and when.
pub fn next(situation: &Situation<'_>) -> Next {
    let now = situation.now;
    let (due, why) = due(situation);
    let retry_at = situation.retry.held_until(now, situation.hurry);
    let at = due.max(retry_at).max(situation.allowed_at);
    if at <= now {
        return Next::RenewNow(why);
    }
    let why = if due == at {
        Wait::Fresh
    } else if situation.allowed_at == at {
        Wait::Budget(situation.limit.unwrap_or("the budget of the ledger").to_owned())
    } else {
        Wait::BackOff
    };
    Next::WaitUntil { at, why }
}

/// When the certificate is due if nothing stands against it, and because of what.
pub fn due(situation: &Situation<'_>) -> (i64, Why) {
    let now = situation.now;
    let Some(leaf) = situation.leaf else { return (now, Why::Missing) };
    if situation.forced {
        return (now, Why::Forced);
    }
    if leaf.not_after <= now {
        return (now, Why::Expired);
    }
    if situation.issuer_changed {
        return (now, Why::IssuerChanged);
    }
    let ari = situation.ari.zip(situation.leaf_id);
    match ari.and_then(|(window, id)| window.due(leaf, id, now)) {
        Some(due) => (due, Why::AriWindow),
        None => (leaf.due_by_life(situation.jitter), Why::Lifetime),
    }
}

/// A random number as it should be: 0 to 1.
fn unit(random: f64) -> f64 {
    if random.is_finite() { random.clamp(0.0, 1.0) } else { 0.5 }
}

/// A part of a time span, in whole seconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn part(span: i64, share: f64) -> i64 {
    // Spans are lifetimes and delays: far below 2^53, where an f64 counts every second.
    (span as f64 * share) as i64
}
