//! One wanted certificate: what is known of it, and what is to be done about it next.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::library::Library;
use super::wanted::{Issuer, Wanted, WantedCertificate};
use crate::ca::{CertId, Class, Failure};
use crate::certificate::Certificate;
use crate::ledger::{Event, Ledger, Request};
use crate::name;
use crate::schedule::{Leaf, Next, Retry, Situation, Wait, Why, due, next};
use crate::store::{PendingOrder, Record, Store, Stored};

/// A wanted certificate with its records.
pub struct Slot {
    pub wanted: WantedCertificate,
    pub record: Record,
    /// Placed by this run or an earlier one, and not brought home.
    pub pending: Option<PendingOrder>,
    /// Asked for by an operator: renewed whatever its age.
    pub renew: bool,
    /// With that, the next attempt does not wait for our own back-off; the one after does.
    pub hurry: bool,
    /// With that, whatever this program's budget for the set of names says.
    pub forced: bool,
    pub running: bool,
    /// What the ledger is going to say of the order that is running.
    pub under_way: Option<Event>,
    /// Unix seconds: nothing is to be done before.
    pub due_at: i64,
    /// Unix seconds: renewal information is not to be asked for before. Kept for CAs without it.
    pub ari_at: i64,
    /// For people: what it is waiting for.
    pub waits: Wait,
    /// The last failure since the last success.
    pub last_failure: Option<Told>,
}

/// A failure and its time.
#[derive(Clone, Debug)]
pub struct Told {
    /// Unix seconds.
    pub at: i64,
    pub failure: Failure,
}

/// What is to be done about a slot.
#[derive(Clone, Debug)]
pub enum Task {
    Nothing {
        until: i64,
        why: Wait,
    },
    /// Goes on with the pending order.
    Resume {
        issuer: String,
    },
    Order {
        issuer: String,
        names: Vec<String>,
        why: Why,
        renewal: bool,
    },
}

/// What every slot's plan depends on.
pub struct Known<'a> {
    pub wanted: &'a Wanted,
    pub library: &'a Library,
    pub ledger: &'a Ledger,
    /// CAs that want to be left alone: until when.
    pub held: &'a BTreeMap<String, i64>,
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
            hurry: false,
            forced: false,
            running: false,
            under_way: None,
            due_at: 0,
            ari_at: 0,
            waits: Wait::Fresh,
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
        let held = |name: &String| {
            let until = self.record.failing.get(name)?.held_until(now, self.hurry);
            (until > now).then_some(until)
        };
        let names = &self.wanted.names;
        let active: Vec<&str> =
            names.iter().filter(|name| held(name).is_none()).map(String::as_str).collect();
        let later = names.iter().filter_map(held).min();
        if active.is_empty() {
            return Task::Nothing { until: later.unwrap_or(now + 60), why: Wait::BackOff };
        }
        match (self.next_for(&active, known), later) {
            (Task::Nothing { until, .. }, Some(later)) if later < until => {
                Task::Nothing { until: later, why: Wait::BackOff }
            }
            (task, _) => task,
        }
    }

    /// When the certificate that serves is to be renewed, whatever failed. `None`: there is none.
    pub fn renews_at(&self, known: &Known<'_>) -> Option<i64> {
        let names: Vec<&str> = self.wanted.names.iter().map(String::as_str).collect();
        let leaf = self.leaf(&names, known)?;
        let parts = leaf_parts(leaf);
        let no_failure = Retry::default();
        let situation = Situation {
            now: known.now,
            leaf: Some(&parts),
            leaf_id: leaf.id.as_ref().map(CertId::as_str),
            ari: self.record.ari.as_ref(),
            retry: &no_failure,
            issuer_changed: false,
            forced: false,
            hurry: false,
            jitter: jitter(&leaf.bundle),
            allowed_at: known.now,
            limit: None,
        };
        Some(due(&situation).0)
    }

    /// An order that an earlier run has placed with a CA that is still wanted.
    fn resume(&self, known: &Known<'_>) -> Option<Task> {
        let pending = self.pending.as_ref()?;
        let chain = known.chain(&self.wanted.issuer);
        let (name, issuer) = chain.iter().find(|(_, i)| i.ca.directory == pending.directory)?;
        // A CA that is gone does not keep the next one from being asked.
        let names: Vec<&str> = pending.names.iter().map(String::as_str).collect();
        let leaf = self.leaf(&names, known).map(|leaf| leaf_parts(leaf));
        let gone = |issuer: &Issuer| self.given_up(issuer, leaf.as_ref(), known);
        if gone(issuer) && !chain.iter().all(|(_, other)| gone(other)) {
            return None;
        }
        let retry = self.record.retry.get(&pending.directory);
        let until = retry.map_or(0, |retry| retry.held_until(known.now, self.hurry));
        let until = until.max(known.held_until(&pending.directory));
        if until > known.now {
            return Some(Task::Nothing { until, why: Wait::BackOff });
        }
        Some(Task::Resume { issuer: (*name).to_owned() })
    }

    fn next_for(&self, active: &[&str], known: &Known<'_>) -> Task {
        let now = known.now;
        let leaf = self.leaf(active, known);
        let parts = leaf.map(|leaf| leaf_parts(leaf));
        let directories = known.directories(&self.wanted.issuer);
        let strange = leaf.is_some_and(|leaf| {
            let other = leaf.ordered_as.as_ref().is_some_and(|kind| *kind != self.wanted.kind());
            other || !leaf.is_of(&directories)
        });
        let Some((name, issuer)) = self.issuer(parts.as_ref(), known) else {
            return Task::Nothing { until: now + 3600, why: Wait::BackOff };
        };
        let names: Vec<String> = active.iter().map(|name| (*name).to_owned()).collect();
        let renewal = leaf.is_some_and(|leaf| leaf.names == names);
        let no_failure = Retry::default();
        let retry = self.record.retry.get(&issuer.ca.directory).unwrap_or(&no_failure);
        let request =
            Request { account: &issuer.ca.directory, set: &names, renewal, forced: self.forced };
        let limits = self.wanted.priority.share(&issuer.limits);
        let allowance = known.ledger.allowed_at(now, &limits, &request);
        let situation = Situation {
            now,
            leaf: parts.as_ref(),
            leaf_id: leaf.and_then(|leaf| leaf.id.as_ref()).map(CertId::as_str),
            ari: self.record.ari.as_ref(),
            retry,
            issuer_changed: strange,
            forced: self.renew || leaf.is_some_and(|leaf| self.was_revoked(leaf)),
            hurry: self.hurry,
            jitter: jitter(leaf.map_or("", |leaf| leaf.bundle.as_str())),
            allowed_at: allowance.at,
            limit: allowance.why.as_deref(),
        };
        let held = known.held_until(&issuer.ca.directory);
        match next(&situation) {
            Next::RenewNow(_) if held > now => Task::Nothing { until: held, why: Wait::BackOff },
            Next::RenewNow(why) => Task::Order { issuer: name.to_owned(), names, why, renewal },
            Next::WaitUntil { at, why } => Task::Nothing { until: at, why },
        }
    }

    /// The CA to ask: the first, unless it cannot be had for the time that is left. Where none can,
    /// the one that may be asked first.
    fn issuer<'a>(&self, leaf: Option<&Leaf>, known: &Known<'a>) -> Option<(&'a str, &'a Issuer)> {
        let chain = known.chain(&self.wanted.issuer);
        let retry = |issuer: &Issuer| self.record.retry.get(&issuer.ca.directory);
        let first = chain.iter().find(|(_, issuer)| !self.given_up(issuer, leaf, known));
        let soonest =
            || chain.iter().min_by_key(|(_, issuer)| retry(issuer).map_or(0, |r| r.next_at));
        first.or_else(soonest).copied()
    }

    fn was_revoked(&self, leaf: &Stored) -> bool {
        self.record.revoked.is_some() && self.record.revoked == leaf.certificate.serial()
    }

    /// Whether the next issuer is asked instead of this one.
    fn given_up(&self, issuer: &Issuer, leaf: Option<&Leaf>, known: &Known<'_>) -> bool {
        let (now, held) = (known.now, known.held_until(&issuer.ca.directory));
        if held > now + FAR || (held > now && leaf.is_some_and(|leaf| leaf.is_near_its_end(now))) {
            return true;
        }
        self.record.retry.get(&issuer.ca.directory).is_some_and(|retry| {
            let last = retry.last.as_ref().map(|last| last.class);
            let refuses = matches!(last, Some(Class::RateLimited | Class::Refused));
            let far = refuses && retry.next_at > now + FAR;
            far || retry.wants_fallback(leaf, now)
        })
    }
}

impl<'a> Known<'a> {
    fn held_until(&self, directory: &str) -> i64 {
        self.held.get(directory).copied().unwrap_or(0)
    }

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

fn leaf_parts(stored: &Stored) -> Leaf {
    let Certificate { not_before, not_after, .. } = stored.certificate;
    Leaf { not_before, not_after, issued_at: stored.issued_at }
}

/// 0 to 1, the same for one certificate in every run.
#[allow(clippy::cast_precision_loss)]
fn jitter(bundle: &str) -> f64 {
    // 53 bits are what an f64 holds.
    // The end of the key is enough, and there may be many certificates.
    let end = bundle.get(bundle.len().saturating_sub(128)..).unwrap_or(bundle);
    (name::fingerprint(&[end.to_owned()]) >> 11) as f64 / (1u64 << 53) as f64
}

/// Seconds: a CA that wants us to come back later than this is passed over for the next one.
const FAR: i64 = 3600;
