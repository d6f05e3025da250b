//! What has ended is taken over: a certificate is stored and serves, a failure sets the time of
//! the next attempt.

use std::sync::Arc;

use tokio::task::{Id, JoinError};

use super::order::ends_order;
use super::run::Run;
use super::slot::{Slot, Told};
use super::view::OrderResult;
use crate::ca::{CertId, Class, Failure, RenewalInfo, Step};
use crate::ledger::{Event, Kind};
use crate::schedule::AriWindow;
use crate::store::Stored;

/// What a task comes back with.
pub(super) struct Finished {
    pub stem: String,
    /// The issuer's name, of orders.
    pub issuer: String,
    pub outcome: Outcome,
}

pub(super) enum Outcome {
    Issued(Stored),
    /// `resumed`: of an order that an earlier run had placed.
    Failed {
        failures: Vec<Failure>,
        resumed: bool,
    },
    /// `None`: the CA has none.
    RenewalInformation(Option<(CertId, RenewalInfo)>),
    NoRenewalInformation(Failure),
    Revoked(bool),
}

impl Run {
    pub(super) fn finished(&mut self, done: Result<(Id, Finished), JoinError>) {
        let finished = match done {
            Ok((id, finished)) => {
                self.running.remove(&id);
                finished
            }
            Err(lost) => return self.lost(&lost),
        };
        let Finished { stem, issuer, outcome } = finished;
        match outcome {
            Outcome::Issued(stored) => self.issued(&stem, &issuer, stored),
            Outcome::Failed { failures, resumed } => self.failed(&stem, &issuer, failures, resumed),
            Outcome::RenewalInformation(info) => self.informed(&stem, info),
            Outcome::NoRenewalInformation(failure) => {
                tracing::debug!("renewal information for {stem}: {failure}");
            }
            Outcome::Revoked(true) => {
                if let Some(slot) = self.slots.get_mut(&stem) {
                    slot.renew = true;
                    slot.impatient = true;
                    slot.forced = true;
                    slot.due_at = 0;
                }
            }
            Outcome::Revoked(false) => {}
        }
        self.stale = true;
    }

    /// Aborted on the way out, or panicked: the slot goes on, later.
    fn lost(&mut self, lost: &JoinError) {
        let Some(stem) = self.running.remove(&lost.id()) else { return };
        let until = self.now() + AFTER_PANIC;
        if let Some(slot) = self.slots.get_mut(&stem) {
            slot.running = false;
            slot.due_at = until;
        }
        if lost.is_panic() {
            tracing::error!("a panic while ordering {stem}; it is tried again in an hour");
        }
    }

    fn issued(&mut self, stem: &str, issuer: &str, stored: Stored) {
        let now = self.now();
        let Some(slot) = self.slots.get_mut(stem) else { return };
        slot.running = false;
        slot.pending = None;
        slot.renew = false;
        slot.impatient = false;
        slot.forced = false;
        slot.due_at = 0;
        slot.ari_at = 0;
        slot.record.ari = None;
        slot.record.retry.clear();
        slot.record.failing.retain(|name, _| !stored.names.contains(name));
        slot.last_failure = slot.last_failure.take().filter(|_| !slot.record.failing.is_empty());
        let label = slot.wanted.label.clone();
        let days = (stored.certificate.not_after - now) / 86_400;
        tracing::info!("certificate {label}: issued by {issuer}, valid for {days} days");
        self.count(issuer, OrderResult::Issued);
        if let Some(directory) = self.directory(issuer) {
            self.note_issued(now, &directory, &stored.names);
        }
        let stored = Arc::new(stored);
        self.library.add(stored.clone());
        self.unsaved.insert(stem.to_owned(), stored);
        self.save();
        self.publish();
    }

    pub(super) fn failed(
        &mut self,
        stem: &str,
        issuer: &str,
        failures: Vec<Failure>,
        resumed: bool,
    ) {
        let now = self.now();
        let Some(directory) = self.directory(issuer) else { return };
        let Some(slot) = self.slots.get_mut(stem) else { return };
        slot.running = false;
        if failures.iter().all(|failure| ends_order(failure.class)) {
            slot.pending = None;
            if let Some(store) = &self.store
                && let Err(why) = store.drop_order(&slot.wanted.names)
            {
                tracing::warn!("{why}");
            }
        } else if let Some(store) = &self.store {
            slot.pending = store.order(&slot.wanted.names);
        }
        // An order that ended while nobody looked says nothing about the next one.
        if resumed && failures.iter().all(|failure| failure.class == Class::OrderGone) {
            slot.due_at = 0;
            return;
        }
        slot.put_off(&directory, &failures, now);
        let label = slot.wanted.label.clone();
        let names = slot.wanted.names.clone();
        for failure in &failures {
            tracing::warn!("certificate {label}: {failure}");
        }
        let record = slot.record.clone();
        if let Some(store) = &self.store
            && let Err(why) = store.put_record(&record)
        {
            tracing::warn!("{why}");
        }
        if let Some(failure) = failures.first() {
            self.count(issuer, result(failure));
        }
        let failed: Vec<String> = failures
            .iter()
            .filter(|failure| failure.class == Class::Validation)
            .flat_map(|failure| failure.name.clone().map_or(names.clone(), |name| vec![name]))
            .collect();
        if !failed.is_empty() {
            let kind = Kind::Failed;
            let account = directory.clone();
            self.note(Event { at: now, kind, account, set: vec![], renewal: false, hosts: failed });
        }
        // The CA has signed something: that counts, whatever became of it.
        if failures.iter().any(|failure| failure.step == Step::Download && failure.name.is_none())
            && failures.iter().any(|failure| failure.class == Class::Local)
        {
            self.note_issued(now, &directory, &names);
        }
    }

    fn informed(&mut self, stem: &str, info: Option<(CertId, RenewalInfo)>) {
        let now = self.now();
        let Some(slot) = self.slots.get_mut(stem) else { return };
        let Some((id, info)) = info else { return };
        let former = slot.record.ari.as_ref();
        let (poll_at, page) = (now + info.retry_after, info.explanation_url);
        let window =
            AriWindow::new(id.as_str(), (info.start, info.end), page, poll_at, random(), former);
        let moved = slot.record.ari.as_ref().is_none_or(|former| {
            (former.start, former.end, &former.cert_id)
                != (window.start, window.end, &window.cert_id)
        });
        if moved && let Some(url) = &window.explanation_url {
            let label = &slot.wanted.label;
            tracing::info!("certificate {label}: the CA explains its renewal window: {url}");
        }
        slot.ari_at = 0;
        slot.record.ari = Some(window);
        slot.due_at = 0;
        let record = slot.record.clone();
        if let Some(store) = &self.store
            && let Err(why) = store.put_record(&record)
        {
            tracing::warn!("{why}");
        }
    }

    /// Writes what could not be written yet. Until then it serves from memory, and its order
    /// stays on disk: a crash loses nothing.
    pub(super) fn save(&mut self) {
        let Some(store) = self.store.clone() else { return };
        let unsaved: Vec<(String, Arc<Stored>)> =
            self.unsaved.iter().map(|(stem, stored)| (stem.clone(), stored.clone())).collect();
        for (stem, stored) in unsaved {
            let set = match self.slots.get(&stem) {
                Some(slot) => slot.wanted.names.clone(),
                None => stored.names.clone(),
            };
            let written = store.put_certificate(&set, &stored.bundle).and_then(|()| {
                if let Some(slot) = self.slots.get(&stem) {
                    store.put_record(&slot.record)?;
                }
                store.drop_order(&set)
            });
            match written {
                Ok(()) => drop(self.unsaved.remove(&stem)),
                Err(why) => {
                    tracing::error!("a certificate serves from memory, not stored yet: {why}");
                    break;
                }
            }
            self.stale = true;
        }
        if self.ledger_unsaved {
            self.ledger_unsaved = store.put_ledger(&self.ledger).is_err();
        }
    }

    /// An order is about to be placed.
    pub(super) fn note_order(&mut self, at: i64, account: &str, set: &[String], renewal: bool) {
        let (account, set) = (account.to_owned(), set.to_vec());
        self.note(Event { at, kind: Kind::Order, account, set, renewal, hosts: vec![] });
    }

    fn note_issued(&mut self, at: i64, account: &str, set: &[String]) {
        let renewal = self.library.has_issued(set);
        let (account, set) = (account.to_owned(), set.to_vec());
        self.note(Event { at, kind: Kind::Issued, account, set, renewal, hosts: vec![] });
    }

    fn note(&mut self, event: Event) {
        self.ledger.record(event);
        self.ledger_unsaved = true;
        if let Some(store) = &self.store {
            match store.put_ledger(&self.ledger) {
                Ok(()) => self.ledger_unsaved = false,
                Err(why) => tracing::warn!("{why}"),
            }
        }
    }

    fn directory(&self, issuer: &str) -> Option<String> {
        self.wanted.issuers.get(issuer).map(|issuer| issuer.ca.directory.clone())
    }

    fn count(&mut self, issuer: &str, result: OrderResult) {
        *self.orders.entry((issuer.to_owned(), result)).or_default() += 1;
    }
}

impl Slot {
    /// Sets the time of the next attempt: per name where names failed, else per CA.
    fn put_off(&mut self, directory: &str, failures: &[Failure], now: i64) {
        self.impatient = false;
        for failure in failures {
            let names = match (&failure.name, failure.class) {
                (Some(name), Class::Validation | Class::Refused) => vec![name.clone()],
                (None, Class::Validation) => self.wanted.names.clone(),
                _ => Vec::new(),
            };
            for name in &names {
                let retry = self.record.failing.entry(name.clone()).or_default();
                *retry = retry.after(failure.clone(), now, random());
            }
            if names.is_empty() {
                let retry = self.record.retry.entry(directory.to_owned()).or_default();
                *retry = retry.after(failure.clone(), now, random());
            }
        }
        self.last_failure =
            failures.first().map(|failure| Told { at: now, failure: failure.clone() });
        self.due_at = 0;
    }

    /// The clock was set back.
    pub(super) fn settle(&mut self, now: i64) {
        let retries = self.record.failing.values_mut().chain(self.record.retry.values_mut());
        retries.for_each(|retry| retry.settle(now));
        self.due_at = 0;
        self.ari_at = self.ari_at.min(now);
    }

    /// For people: what comes next, and why not before.
    pub(super) fn next_why(&self, now: i64) -> String {
        match &self.waits {
            _ if self.running => "an order is under way".to_owned(),
            _ if self.due_at <= now => "it is its turn".to_owned(),
            wait => wait.to_string(),
        }
    }

    /// Failures in a row, of the CA or of the name that fails most.
    pub(super) fn failures(&self) -> u32 {
        let retries = self.record.failing.values().chain(self.record.retry.values());
        retries.map(|retry| retry.failures).max().unwrap_or(0)
    }
}

fn result(failure: &Failure) -> OrderResult {
    match failure.class {
        Class::Validation => OrderResult::Invalid,
        Class::Unavailable | Class::OrderGone => OrderResult::Unavailable,
        Class::RateLimited | Class::Refused | Class::AccountGone => OrderResult::Refused,
        Class::Local => OrderResult::Local,
    }
}

/// 0 to 1.
#[allow(clippy::cast_precision_loss)]
fn random() -> f64 {
    let mut bytes = [0; 8];
    // Without it everybody waits equally long, which still works.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
}

/// Seconds.
const AFTER_PANIC: i64 = 3600;
