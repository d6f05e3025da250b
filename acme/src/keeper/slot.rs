//! One wanted certificate: what is known of it, and what is to be done about it next.

use std::sync::Arc;

use super::library::{Library, is_of};
use super::wanted::{Issuer, Wanted, WantedCertificate};
use crate::ca::Class;
use crate::ledger::{Ledger, Request};
use crate::schedule::{Leaf, Next, Retry, Situation, Why, next};
use crate::store::{PendingOrder, Record, Store, Stored};

/// A wanted certificate with its records.
pub struct Slot {
    pub wanted: WantedCertificate,
    pub record: Record,
    /// Placed by this run or an earlier one, and not brought home.
    pub pending: Option<PendingOrder>,
    /// Asked for by an operator: renewed whatever its age.
    pub renew: bool,
    /// With that, whatever this program's budget for the set of names says.
    pub forced: bool,
    pub running: bool,
    /// Unix seconds: nothing is to be done before.
    pub due_at: i64,
    /// Unix seconds: renewal information is not to be asked for before. Kept for CAs without it.
    pub ari_at: i64,
    /// For people: what it is waiting for.
    pub waits: String,
    /// The last failure since the last success.
    pub last_failure: Option<Told>,
}

/// A failure and its time.
#[derive(Clone, Debug)]
pub struct Told {
    /// Unix seconds.
    pub at: i64,
    pub failure: crate::ca::Failure,
}

/// What is to be done about a slot.
#[derive(Clone, Debug)]
pub enum Task {
    Nothing { until: i64, why: String },
    /// Goes on with the pending order.
    Resume { issuer: String },
    Order { issuer: String, names: Vec<String>, why: Why, renewal: bool },
}

/// What every slot's plan depends on.
pub struct Known<'a> {
    pub wanted: &'a Wanted,
    pub library: &'a Library,
    pub ledger: &'a Ledger,
    pub now: i64,
}

impl Slot {
    pub fn open(wanted: WantedCertificate, store: &Store) -> Slot {
        let record = store.record(&wanted.names);
        let pending = store.order(&wanted.names);
        let last_failure = latest(&record);
        Slot {
            wanted,
            record,
            pending,
            renew: false,
            forced: false,
            running: false,
            due_at: 0,
            ari_at: 0,
            waits: String::new(),
            last_failure,
        }
    }

    /// What serves these names now, as one certificate; of several the best.
    pub fn leaf<'a>(&self, names: &[&str], known: &Known<'a>) -> Option<&'a Arc<Stored>> {
        let directories = known.directories(&self.wanted.issuer);
        known.library.best(names, &directories, known.now)
    }

    /// What to do at `known.now`.
    pub fn plan(&self, known: &Known<'_>) -> Task {
        if let Some(task) = self.resume(known) {
            return task;
        }
        let now = known.now;
        let held = |name: &str| self.record.failing.get(name).filter(|retry| retry.next_at > now);
        let active: Vec<&str> =
            self.wanted.names.iter().map(String::as_str).filter(|n| held(n).is_none()).collect();
        let later = self.wanted.names.iter().filter_map(|n| held(n)).map(|r| r.next_at).min();
        if active.is_empty() {
            return Task::Nothing { until: later.unwrap_or(now + 60), why: FAILED.into() };
        }
        match (self.next_for(&active, known), later) {
            (Task::Nothing { until, .. }, Some(later)) if later < until => {
                Task::Nothing { until: later, why: FAILED.into() }
            }
            (task, _) => task,
        }
    }

    /// An order that an earlier run has placed with a CA that is still wanted.
    fn resume(&self, known: &Known<'_>) -> Option<Task> {
        let pending = self.pending.as_ref()?;
        let chain = known.wanted.chain(&self.wanted.issuer);
        let (name, _) = chain.iter().find(|(_, i)| i.ca.directory == pending.directory)?;
        let next_at = self.record.retry.get(&pending.directory).map_or(0, |retry| retry.next_at);
        if next_at > known.now {
            return Some(Task::Nothing { until: next_at, why: FAILED.into() });
        }
        Some(Task::Resume { issuer: (*name).to_owned() })
    }

    fn next_for(&self, active: &[&str], known: &Known<'_>) -> Task {
        let now = known.now;
        let leaf = self.leaf(active, known);
        let directories = known.directories(&self.wanted.issuer);
        let strange = leaf.is_some_and(|leaf| !is_of(leaf, &directories));
        let left = leaf.map_or(0.0, |leaf| leaf.certificate.remaining(now));
        let Some((name, issuer)) = self.issuer(left, known) else {
            return Task::Nothing { until: now + 3600, why: "its issuer is gone".into() };
        };
        let names: Vec<String> = active.iter().map(|name| (*name).to_owned()).collect();
        let renewal = leaf.is_some_and(|leaf| leaf.names == names);
        let no_failure = Retry::default();
        let retry = self.record.retry.get(&issuer.ca.directory).unwrap_or(&no_failure);
        let request = Request {
            account: &issuer.ca.directory,
            set: &names,
            renewal,
            forced: self.forced,
        };
        let allowance = known.ledger.allowed_at(now, &issuer.limits, &request);
        let parts = leaf.map(|leaf| Leaf {
            not_before: leaf.certificate.not_before,
            not_after: leaf.certificate.not_after,
        });
        let situation = Situation {
            now,
            leaf: parts.as_ref(),
            leaf_id: leaf.and_then(|leaf| leaf.id.as_ref()).map(|id| id.as_str()),
            ari: self.record.ari.as_ref(),
            retry,
            forced: self.renew,
            issuer_changed: strange,
            jitter: jitter(leaf.map_or("", |leaf| leaf.bundle.as_str())),
            allowance: &allowance,
        };
        match next(&situation) {
            Next::RenewNow(why) => Task::Order { issuer: name.to_owned(), names, why, renewal },
            Next::WaitUntil { at, why } => Task::Nothing { until: at, why },
        }
    }

    /// The CA to ask: the first, unless it has failed too often for the time that is left. Where
    /// all have, the one that may be asked first.
    fn issuer<'a>(&self, left: f64, known: &Known<'a>) -> Option<(&'a str, &'a Issuer)>
    where
        Self: 'a,
    {
        let chain = known.chain(&self.wanted.issuer);
        let retry = |issuer: &Issuer| self.record.retry.get(&issuer.ca.directory);
        let given_up = |issuer: &Issuer| {
            retry(issuer).is_some_and(|retry| {
                let urgent = left < URGENT && retry.failures >= 1;
                let far = retry.next_at > known.now + FAR
                    && retry.last.as_ref().is_some_and(|last| last.class == Class::RateLimited);
                retry.failures >= FALL_BACK_AFTER || urgent || far
            })
        };
        let first = chain.iter().find(|(_, issuer)| !given_up(issuer));
        first
            .or_else(|| {
                chain.iter().min_by_key(|(_, issuer)| retry(issuer).map_or(0, |r| r.next_at))
            })
            .copied()
    }
}

impl<'a> Known<'a> {
    fn chain(&self, first: &str) -> Vec<(&'a str, &'a Issuer)> {
        let wanted: &'a Wanted = self.wanted;
        match wanted.issuers.get_key_value(first) {
            Some((name, _)) => wanted.chain(name),
            None => Vec::new(),
        }
    }

    fn directories(&self, first: &str) -> Vec<&'a str> {
        self.chain(first).into_iter().map(|(_, issuer)| issuer.ca.directory.as_str()).collect()
    }
}

fn latest(record: &Record) -> Option<Told> {
    let retries = record.failing.values().chain(record.retry.values());
    let failed = retries.filter_map(|retry| Some((retry.failed_at, retry.last.clone()?)));
    failed.max_by_key(|(at, _)| *at).map(|(at, failure)| Told { at, failure })
}

/// 0 to 1, the same for one certificate in every run.
fn jitter(bundle: &str) -> f64 {
    let text = [bundle.to_owned()];
    (crate::name::fingerprint(&text) >> 11) as f64 / (1u64 << 53) as f64
}

/// What a slot waits for after a failure.
const FAILED: &str = "the last attempt failed";
/// Failures of one CA in a row before the next is asked.
const FALL_BACK_AFTER: u32 = 3;
/// Part of the life below which one failure is enough.
const URGENT: f64 = 1.0 / 6.0;
/// Seconds: a CA that wants us to come back later than this is passed over.
const FAR: i64 = 3600;
