//! What has ended is taken over: a certificate is stored and serves, a failure sets the time of
//! the next attempt.

use std::sync::Arc;

use tokio::task::{Id, JoinError};

use super::order::{ends_order, is_spent};
use super::run::Run;
use super::slot::{Slot, Told};
use super::view::OrderResult;
use crate::ca::{CertId, Class, Failure, RenewalInfo, Step, unix_now};
use crate::ledger::{Event, Kind};
use crate::schedule::{AriWindow, Wait};
use crate::store::Stored;

/// What a task comes back with.
pub(super) struct Finished {
    pub stem: String,
    /// The issuer's name and directory, of orders: by now it may be gone from the configuration.
    pub issuer: String,
    pub directory: String,
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
    /// There is a session again, or there is no CA to be had.
    ClockAsked,
    /// The serial number; `None`: not revoked.
    Revoked(Option<String>),
}

impl Finished {
    /// Of what was no order.
    pub(super) fn other(stem: String, outcome: Outcome) -> Finished {
        Finished { stem, issuer: String::new(), directory: String::new(), outcome }
    }
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
        let Finished { stem, issuer, directory, outcome } = finished;
        match outcome {
            Outcome::Issued(stored) => self.issued(&stem, (&issuer, &directory), stored),
            Outcome::Failed { failures, resumed } => {
                self.failed(&stem, (&issuer, &directory), failures, resumed);
            }
            Outcome::RenewalInformation(info) => self.informed(&stem, info),
            Outcome::NoRenewalInformation(failure) => {
                tracing::debug!("renewal information for {stem}: {failure}");
            }
            Outcome::Revoked(Some(serial)) => {
                let store = self.store.clone();
                if let Some(slot) = self.slot_of(&stem) {
                    slot.record.revoked = Some(serial);
                    if let Some(Err(why)) = store.map(|store| store.put_record(&slot.record)) {
                        tracing::warn!("{why}");
                    }
                    slot.renew = true;
                    slot.forced = true;
                    slot.hurry = true;
                    slot.due_at = 0;
                }
            }
            Outcome::Revoked(None) => {}
            Outcome::ClockAsked => self.doubt = None,
        }
        self.let_go();
        if self.is_stateless() {
            self.answer_statelessly();
        }
        self.stale = true;
    }

    /// Aborted on the way out, or panicked: the slot goes on, later.
    fn lost(&mut self, lost: &JoinError) {
        let Some(stem) = self.running.remove(&lost.id()) else { return };
        self.stale = true;
        // It was a question; the order is another task.
        if self.running.values().any(|other| *other == stem) {
            return;
        }
        let until = self.now() + AFTER_PANIC;
        let store = self.store.clone();
        if let Some(slot) = self.slot_of(&stem) {
            slot.running = false;
            slot.due_at = until;
            // Its order may be on disk.
            let names = &slot.wanted.names;
            slot.pending = store.and_then(|store| store.order(names)).or(slot.pending.take());
        }
        self.let_go();
        if lost.is_panic() {
            tracing::error!("a panic while ordering {stem}; it is tried again in an hour");
        }
    }

    pub(super) fn issued(&mut self, stem: &str, (issuer, directory): (&str, &str), stored: Stored) {
        let now = self.now();
        let Some(slot) = self.slot_of(stem) else { return };
        slot.running = false;
        slot.pending = None;
        slot.renew = false;
        slot.forced = false;
        slot.hurry = false;
        slot.due_at = 0;
        slot.ari_at = 0;
        slot.record.ari = None;
        slot.record.retry.clear();
        slot.record.failing.retain(|name, _| !stored.names.contains(name));
        slot.last_failure = slot.last_failure.take().filter(|_| !slot.record.failing.is_empty());
        let label = slot.wanted.label.clone();
        let until = time::OffsetDateTime::from_unix_timestamp(stored.certificate.not_after);
        let until =
            until.map_or_else(|_| "?".to_owned(), |at| format!("{} {}", at.date(), at.time()));
        tracing::info!("certificate {label}: issued by {issuer}, valid until {until} UTC");
        self.count(issuer, OrderResult::Issued);
        self.note_issued(now, directory, &stored.names);
        let stored = Arc::new(stored);
        self.library.add(stored.clone());
        self.unsaved.insert(stem.to_owned(), stored);
        self.save();
    }

    pub(super) fn failed(
        &mut self,
        stem: &str,
        (issuer, directory): (&str, &str),
        mut failures: Vec<Failure>,
        resumed: bool,
    ) {
        self.translate(&mut failures);
        let now = self.now();
        // What was on its way counted as issued.
        let waits = self.slots.values_mut().filter(|slot| matches!(slot.waits, Wait::Budget(_)));
        waits.for_each(|slot| slot.due_at = 0);
        let store = self.store.clone();
        let Some(slot) = self.slot_of(stem) else { return };
        slot.running = false;
        slot.hurry = false;
        // The CA has signed something: that counts, whatever became of it.
        let issued = failures.iter().any(is_spent).then(|| {
            let order = store.as_ref().and_then(|store| store.order(&slot.wanted.names));
            order.map_or_else(|| slot.wanted.names.clone(), |order| order.names)
        });
        if issued.is_some() || failures.iter().all(|failure| ends_order(failure.class)) {
            slot.pending = None;
            if let Some(store) = &store
                && let Err(why) = store.drop_order(&slot.wanted.names)
            {
                tracing::warn!("{why}");
            }
        } else if let Some(store) = &store {
            slot.pending = store.order(&slot.wanted.names);
        }
        // An order that ended while nobody looked says nothing about the next one.
        if resumed && failures.iter().all(|failure| failure.class == Class::OrderGone) {
            slot.due_at = 0;
            return;
        }
        let unasked = |failure: &Failure| matches!(failure.step, Step::Directory | Step::Register);
        if !resumed && failures.iter().all(unasked) {
            self.ledger.take_back_order(directory);
        }
        let Some(slot) = self.slot_of(stem) else { return };
        let failures = blame(failures, &slot.wanted.names);
        slot.put_off(directory, &failures, now);
        let held = slot.record.retry.get(directory).map_or(0, |retry| retry.next_at);
        let held = failures.iter().any(wants_quiet).then_some(held);
        let label = slot.wanted.label.clone();
        let names = slot.wanted.names.clone();
        for failure in &failures {
            tracing::warn!("certificate {label}: {failure}");
        }
        let record = slot.record.clone();
        if let Some(until) = held {
            self.held.insert(directory.to_owned(), until);
        }
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
            let account = directory.to_owned();
            self.note(Event { at: now, kind, account, set: vec![], renewal: false, hosts: failed });
        }
        if let Some(names) = issued {
            self.note_issued(now, directory, &names);
        }
    }

    /// What the CA asks to wait is told in terms of this machine's clock, which may not be the one
    /// that we go by.
    fn translate(&self, failures: &mut [Failure]) {
        let system = unix_now();
        let ahead = self.now().saturating_sub(system);
        for at in failures.iter_mut().filter_map(|failure| failure.retry_at.as_mut()) {
            *at = at.saturating_add(ahead);
        }
    }

    fn informed(&mut self, stem: &str, info: Option<(CertId, RenewalInfo)>) {
        let now = self.now();
        let Some((id, info)) = info else { return };
        if self.question(stem, now).is_none_or(|(current, _)| current != id) {
            // It was renewed while the CA was asked.
            return;
        }
        let Some(slot) = self.slots.get_mut(stem) else { return };
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
            let slot = self.slots.get(&stem).or_else(|| self.leaving.get(&stem));
            let set = slot.map_or(&stored.names, |slot| &slot.wanted.names);
            let written = store.put_certificate(set, &stored.bundle).and_then(|()| {
                if let Some(slot) = slot {
                    store.put_record(&slot.record)?;
                }
                // The order of the one after it stays.
                let newer = slot.is_some_and(|slot| slot.running);
                if newer { Ok(()) } else { store.drop_order(set) }
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
        self.let_go();
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

    fn count(&mut self, issuer: &str, result: OrderResult) {
        *self.orders.entry((issuer.to_owned(), result)).or_default() += 1;
    }
}

impl Slot {
    /// Sets the time of the next attempt: per name where names failed, else per CA.
    fn put_off(&mut self, directory: &str, failures: &[Failure], now: i64) {
        let mut noted = false;
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
            // One attempt, however many names it was about.
            if names.is_empty() && !std::mem::replace(&mut noted, true) {
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
        self.ari_at = self.ari_at.min(now + ARI_POLL);
        if let Some(ari) = &mut self.record.ari {
            ari.poll_at = ari.poll_at.min(now + ARI_POLL);
        }
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

/// Whether a CA has said when to come back, to everybody and not about these names.
fn wants_quiet(failure: &Failure) -> bool {
    let to_all = matches!(failure.step, Step::Directory | Step::Register)
        || failure.class == Class::Unavailable;
    failure.retry_at.is_some() && to_all && failure.name.is_none()
}

/// What a CA refuses because of some names is held against those, and no other name of the group.
fn blame(failures: Vec<Failure>, wanted: &[String]) -> Vec<Failure> {
    let about = |failure: Failure| -> Vec<Failure> {
        if failure.name.is_some() || !matches!(failure.class, Class::Validation | Class::Refused) {
            return vec![failure];
        }
        let part = |name: &String| {
            let of_name = failure.subproblems.iter().any(|part| part.name.as_ref() == Some(name));
            (of_name || mentions(&failure, name))
                .then(|| Failure { name: Some(name.clone()), ..failure.clone() })
        };
        let parts: Vec<Failure> = wanted.iter().filter_map(part).collect();
        // Where all are refused it is this CA's word on the whole: another one may be asked.
        let whole = failure.class == Class::Refused && parts.len() == wanted.len();
        if whole || parts.is_empty() { vec![failure] } else { parts }
    };
    failures.into_iter().flat_map(about).collect()
}

/// Whether a refusal of identifiers names this one in its text, as a whole word.
fn mentions(failure: &Failure, name: &str) -> bool {
    let of_names = ["rejectedIdentifier", "unsupportedIdentifier", "caa"];
    let kind = failure.problem.as_deref().and_then(|problem| problem.rsplit(':').next());
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    kind.is_some_and(|kind| of_names.contains(&kind))
        && failure.subproblems.is_empty()
        && failure
            .detail
            .split(|c: char| !part_of_name(c))
            .any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name))
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

/// Seconds, the longest between two questions for renewal information.
const ARI_POLL: i64 = 24 * 3600;
/// Seconds.
const AFTER_PANIC: i64 = 3600;
