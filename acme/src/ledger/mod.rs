//! What was asked of each CA, and what may still be: budgets below the CA's own rate limits.
//!
//! Kept on disk, so that neither a restart nor a loop of any kind can use up what a CA allows.
//! Times are Unix seconds; an account is named by the URL of its directory. A limit of `n` in a
//! window means: never more than `n` in any span of that length.

mod plan;
#[cfg(test)]
mod tests;
mod usage;
mod windows;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

pub use plan::{Plan, estimate};
pub use usage::{Left, Usage};

const HOUR: i64 = 3600;
const WEEK: i64 = 7 * 24 * HOUR;
const THREE_HOURS: i64 = 3 * HOUR;
/// Entries kept. With so many that still count nothing more is ordered until some have aged:
/// forgetting one could exceed a limit.
const MAX_ENTRIES: usize = 100_000;

/// What an issuer is asked for, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Certificates for one exact set of names in 7 days.
    pub per_set_week: u32,
    /// Certificates for one exact set of names in an hour.
    pub per_set_hour: u32,
    /// Certificates, renewals aside, with names of one registered domain in 7 days.
    pub per_domain_week: u32,
    /// Orders of the account in 3 hours.
    pub orders_3h: u32,
    /// Failed validations of one host in an hour.
    pub failures_per_host_hour: u32,
}

impl Default for Limits {
    /// Below Let's Encrypt's: 5, -, 50, 300, 5.
    fn default() -> Limits {
        Limits {
            per_set_week: 4,
            per_set_hour: 1,
            per_domain_week: 50,
            orders_3h: 300,
            failures_per_host_hour: 4,
        }
    }
}

/// Who gets what is left of a budget: in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    Renewal,
    Route,
    TenantRenewal,
    Tenant,
}

impl Priority {
    /// The same for what is there already.
    pub fn renewing(self) -> Priority {
        match self {
            Priority::Renewal | Priority::Route => Priority::Renewal,
            Priority::TenantRenewal | Priority::Tenant => Priority::TenantRenewal,
        }
    }

    /// What of these limits it may use up. Tenants leave a fifth of what all certificates share:
    /// thousands of them wait for weeks, and a host of the config file that comes meanwhile does
    /// not.
    pub fn share(self, limits: &Limits) -> Limits {
        let rest = |limit: u32| limit.saturating_sub((limit / 5).max(1)).max(1);
        match self {
            Priority::Renewal | Priority::Route => *limits,
            Priority::TenantRenewal | Priority::Tenant => Limits {
                orders_3h: rest(limits.orders_3h),
                per_domain_week: rest(limits.per_domain_week),
                ..*limits
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An order is about to be placed.
    Order,
    /// A certificate was issued.
    Issued,
    /// Validation failed for `hosts`.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    pub at: i64,
    pub kind: Kind,
    /// URL of the directory.
    pub account: String,
    /// The certificate's names, canonical.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// A certificate for this very set was issued before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub renewal: bool,
    /// Of a failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What is to be ordered.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// URL of the directory.
    pub account: &'a str,
    /// The certificate's names, canonical.
    pub set: &'a [String],
    /// A certificate for this very set was issued before.
    pub renewal: bool,
    /// An operator's word passes the limits per set, and no other.
    pub forced: bool,
}

/// When an order may be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Not before this time; `now` when there is nothing against it.
    pub at: i64,
    /// The limit, when `at` is in the future.
    pub why: Option<String>,
}

/// The events that may still count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    entries: Vec<Event>,
}

impl Ledger {
    /// Notes what happens. Orders are noted before the CA is asked, so that a crash forgets none.
    pub fn record(&mut self, mut event: Event) {
        let now = event.at;
        event.set.sort_unstable();
        match event.kind {
            // What counts, and nothing more.
            Kind::Order => (event.set, event.hosts) = (Vec::new(), Vec::new()),
            Kind::Issued => event.hosts = Vec::new(),
            Kind::Failed => event.set = Vec::new(),
        }
        self.settle(now);
        self.entries.push(event);
    }

    /// The newest order of an account was not placed after all: its CA was never asked for one. A
    /// CA that is away for long would use up its own budget otherwise.
    pub fn take_back_order(&mut self, account: &str) {
        let placed = |entry: &Event| entry.kind == Kind::Order && entry.account == account;
        if let Some(newest) = self.entries.iter().rposition(placed) {
            self.entries.remove(newest);
        }
    }

    /// Forgets what counts no more, and moves entries of the future, from before the clock was
    /// set back, to now: from here they age. Call it with every look at the clock, or the future
    /// has to be waited for.
    pub fn settle(&mut self, now: i64) {
        self.entries.retain_mut(|entry| {
            entry.at = entry.at.min(now);
            entry.at > now.saturating_sub(entry.kind.counts_for())
        });
    }

    /// When this order may be placed.
    pub fn allowed_at(&self, now: i64, limits: &Limits, request: &Request<'_>) -> Allowance {
        let mut free = Allowance { at: now, why: None };
        if self.entries.len() >= MAX_ENTRIES {
            let ends = self.entries.iter().map(|entry| entry.at.min(now) + entry.kind.counts_for());
            let at = ends.min().unwrap_or(now).max(now.saturating_add(1));
            free = Allowance { at, why: Some(format!("{MAX_ENTRIES} entries in the ledger")) };
        }
        for window in windows::of(limits, request) {
            let times = self.times(now, request.account, &window);
            let at = windows::free_at(&times, window.span, window.limit, now);
            if at > free.at {
                free = Allowance { at, why: Some(window.to_string()) };
            }
        }
        free
    }

    /// Times of the events that count in a window, oldest first.
    fn times(&self, now: i64, account: &str, window: &windows::Window<'_>) -> Vec<i64> {
        let of_account = self.entries.iter().filter(|entry| entry.account == account);
        let counted = of_account.filter(|entry| window.counts(entry));
        let mut times: Vec<i64> = counted.map(|entry| entry.at.min(now)).collect();
        times.sort_unstable();
        times
    }

    /// Adds what another copy of this ledger has noted and this one has not. What both have counts
    /// once.
    pub fn absorb(&mut self, other: Ledger) {
        let mut known: HashMap<Event, u32> = HashMap::new();
        for entry in &self.entries {
            *known.entry(entry.clone()).or_default() += 1;
        }
        for entry in other.entries {
            match known.get_mut(&entry) {
                Some(count @ 1..) => *count -= 1,
                _ => self.entries.push(entry),
            }
        }
        self.entries.sort_by_key(|entry| entry.at);
    }

    /// Entries that may still count.
    pub fn entries(&self) -> &[Event] {
        &self.entries
    }
}

impl Kind {
    /// Seconds for which an event counts.
    fn counts_for(self) -> i64 {
        match self {
            Kind::Order => THREE_HOURS,
            Kind::Issued => WEEK,
            Kind::Failed => HOUR,
        }
    }
}
