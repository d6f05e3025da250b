//! What is due is started: orders, and questions for renewal information.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::command::Revoked;
use super::finish::{Finished, Outcome};
use super::order::{Errand, bring_home, dry_run};
use super::run::Run;
use super::session::{Sessions, account_gone};
use super::slot::{Known, Slot, Task};
use super::wanted::Issuer;
use crate::ca::{CertId, Class, Failure, Revocation, Step};
use crate::ledger::{Event, Kind, Ledger, Priority};
use crate::schedule::{Wait, Why};
use crate::store::{Store, Stored};

impl Run {
    /// Starts what is due, the most urgent first, at most [`MAX_TASKS`] at once.
    pub(super) fn start_due(&mut self) {
        let now = self.now();
        if self.tasks.len() < MAX_TASKS {
            let mut due = self.due(now);
            due.sort();
            let mut foreseen = self.foreseen(now);
            for (_, _, stem) in due {
                if self.tasks.len() >= MAX_TASKS {
                    break;
                }
                self.start(&stem, now, &mut foreseen);
            }
        }
        self.ask_for_renewal_information(now);
    }

    /// What may be due. Looks at no budget, which takes long where there are many.
    fn due(&self, now: i64) -> Vec<(Priority, i64, String)> {
        let known = self.known(now);
        let due = self.slots.iter().filter(|(_, slot)| !slot.running && slot.due_at <= now);
        due.map(|(stem, slot)| {
            let names: Vec<&str> = slot.wanted.names.iter().map(String::as_str).collect();
            let renewal = slot.pending.is_some() || slot.leaf(&names, &known).is_some();
            let wanted = slot.wanted.priority;
            let priority = if renewal { wanted.renewing() } else { wanted };
            (priority, slot.due_at, stem.clone())
        })
        .collect()
    }

    fn wait(&mut self, stem: &str, until: i64, why: Wait) {
        if let Some(slot) = self.slots.get_mut(stem)
            && (slot.due_at != until || slot.waits != why)
        {
            slot.due_at = until;
            slot.waits = why;
            self.stale = true;
        }
    }

    /// Planned one by one: an order of the same round may have used up the budget.
    fn start(&mut self, stem: &str, now: i64, foreseen: &mut Ledger) {
        let Some(store) = self.store.clone() else { return };
        let Some(slot) = self.slots.get(stem) else { return };
        let plan = slot.plan(&Known { ledger: foreseen, ..self.known(now) });
        let (name, order) = match &plan {
            Task::Nothing { until, why } => {
                let (until, why) = (*until, why.clone());
                return self.wait(stem, until.max(now + 1), why);
            }
            Task::Resume { issuer } => (issuer.clone(), None),
            Task::Order { issuer, names, why, renewal } => {
                (issuer.clone(), Some((names.clone(), *why, *renewal)))
            }
        };
        // What cannot be kept is not ordered.
        if let Err(why) = store.probe() {
            let failure = Failure::new(Class::Local, Step::NewOrder, why);
            let issuer = self.wanted.issuers.get(&name);
            let directory = issuer.map(|i| i.ca.directory.clone()).unwrap_or_default();
            return self.failed(stem, (&name, &directory), vec![failure], false);
        }
        let Some(job) = self.job(stem, &name, order.as_ref(), store, now) else { return };
        if let Some((names, why, renewal)) = order {
            let label = &job.label;
            tracing::info!("certificate {label}: ordering from {name} ({})", reason(why));
            let directory = job.issuer.ca.directory.clone();
            if let Some(staging) = &job.staging {
                self.note_order(now, &staging.ca.directory, &names, renewal);
            }
            self.note_order(now, &directory, &names, renewal);
            let (kind, account, set) = (Kind::Order, directory, names);
            foreseen.record(Event { at: now, kind, account, set, renewal, hosts: Vec::new() });
        }
        let under_way = job.foreseen();
        foreseen.record(Event { at: now, ..under_way.clone() });
        let sessions = self.sessions.clone();
        let handle = self.tasks.spawn(job.run(sessions));
        self.running.insert(handle.id(), stem.to_owned());
        if let Some(slot) = self.slots.get_mut(stem) {
            slot.running = true;
            slot.under_way = Some(under_way);
        }
        self.stale = true;
    }

    /// The ledger as if every order under way had brought its certificate: together they must not
    /// pass a limit that each of them respects.
    fn foreseen(&self, now: i64) -> Ledger {
        let mut ledger = self.ledger.clone();
        let running = self.slots.values().chain(self.leaving.values()).filter(|slot| slot.running);
        for event in running.filter_map(|slot| slot.under_way.clone()) {
            ledger.record(Event { at: now, ..event });
        }
        ledger
    }

    fn job(
        &self,
        stem: &str,
        name: &str,
        order: Option<&(Vec<String>, Why, bool)>,
        store: Arc<Store>,
        now: i64,
    ) -> Option<Job> {
        let slot = self.slots.get(stem)?;
        let issuer = self.wanted.issuers.get(name)?.clone();
        let names = order.map(|(names, _, _)| names.clone()).unwrap_or_default();
        let renewal = order.is_some_and(|(_, _, renewal)| *renewal);
        let wary = |name: &String| {
            slot.record.failing.get(name).is_some_and(|retry| retry.wants_dry_run())
        };
        let tried = names.iter().any(wary);
        let staging = issuer.staging.as_ref().filter(|_| tried).map(|directory| {
            let mut staging = issuer.clone();
            staging.ca.directory.clone_from(directory);
            // The account there is another one, and needs no binding.
            staging.eab = None;
            staging
        });
        let refs: Vec<&str> = names.iter().map(String::as_str).collect();
        let leaf = slot.leaf(&refs, &self.known(now));
        let own = leaf.filter(|leaf| leaf.issuer.as_deref() == Some(&issuer.ca.directory));
        Some(Job {
            stem: stem.to_owned(),
            label: slot.wanted.label.clone(),
            issuer_name: name.to_owned(),
            resumed: order.is_none(),
            errand: ErrandParts {
                set: slot.wanted.names.clone(),
                names,
                profile: slot.wanted.profile.clone(),
                key: slot.wanted.key,
                // Only what this CA has issued can be replaced there (RFC 9773 §5).
                replaces: own.and_then(|leaf| leaf.id.clone()),
                renewal,
                pending: slot.pending.clone().filter(|_| order.is_none()),
                now,
                skew: self.skew.unwrap_or(0),
            },
            challenges: self.settings.challenges.clone(),
            issuer,
            staging,
            store,
        })
    }

    fn ask_for_renewal_information(&mut self, now: i64) {
        let Some(store) = self.store.clone() else { return };
        let due: Vec<String> = self
            .slots
            .iter()
            .filter(|(_, slot)| !slot.running && slot.ari_due() <= now)
            .map(|(stem, _)| stem.clone())
            .collect();
        for stem in due {
            if self.tasks.len() >= MAX_TASKS {
                return;
            }
            let question = self.question(&stem, now);
            let Some(slot) = self.slots.get_mut(&stem) else { continue };
            let Some((id, issuer)) = question else {
                slot.ari_at = now + ARI_AGAIN;
                continue;
            };
            slot.ari_at = now + ARI_AGAIN;
            let (sessions, store, task) = (self.sessions.clone(), store.clone(), stem.clone());
            let handle = self.tasks.spawn(async move {
                let outcome = renewal_information(&sessions, &store, &issuer, id).await;
                Finished::other(task, outcome)
            });
            self.running.insert(handle.id(), stem);
            self.stale = true;
        }
    }

    /// The certificate in use, and the CA that issued it.
    pub(super) fn question(&self, stem: &str, now: i64) -> Option<(CertId, Issuer)> {
        let slot = self.slots.get(stem)?;
        let names: Vec<&str> = slot.wanted.names.iter().map(String::as_str).collect();
        let leaf = slot.leaf(&names, &self.known(now))?;
        let id = leaf.id.clone()?;
        let chain = self.wanted.chain(&slot.wanted.issuer);
        let issued = |issuer: &Issuer| {
            leaf.issuer.as_deref().is_none_or(|directory| directory == issuer.ca.directory)
        };
        let (_, issuer) = chain.into_iter().find(|(_, issuer)| issued(issuer))?;
        Some((id, issuer.clone()))
    }

    /// What would be revoked, and by whom.
    pub(super) fn revocable(&self, which: &str) -> Result<(String, Arc<Stored>, Issuer), String> {
        let stem = self.find(which)?;
        let now = self.now();
        let slot = self.slots.get(&stem).ok_or("it is gone")?;
        let names: Vec<&str> = slot.wanted.names.iter().map(String::as_str).collect();
        let leaf = slot.leaf(&names, &self.known(now)).ok_or("it has no certificate yet")?;
        let directory = leaf.issuer.clone().ok_or(
            "the certificate was imported: only the account that ordered it, or the holder of \
             its key with the CA's own tools, can revoke it",
        )?;
        let mut issuers = self.wanted.issuers.values();
        let issuer = issuers.find(|issuer| issuer.ca.directory == directory);
        let issuer = issuer.ok_or_else(|| format!("no issuer has the directory {directory}"))?;
        Ok((stem, leaf.clone(), issuer.clone()))
    }

    pub(super) fn start_revocation(
        &mut self,
        stem: String,
        stored: Arc<Stored>,
        issuer: Issuer,
        reason: Revocation,
        reply: oneshot::Sender<Result<Revoked, String>>,
    ) {
        let (Some(store), Some(slot)) = (self.store.clone(), self.slots.get(&stem)) else { return };
        let (sessions, label) = (self.sessions.clone(), slot.wanted.label.clone());
        let task = stem.clone();
        let handle = self.tasks.spawn(async move {
            let done = revoke(&sessions, &store, &issuer, &stored, reason).await;
            let revoked = done.is_ok().then(|| stored.certificate.serial()).flatten();
            let issuer = issuer.ca.directory;
            let answer = done.map(|()| Revoked { label, issuer });
            // The operator may have stopped waiting.
            let _ = reply.send(answer.map_err(|failure| failure.to_string()));
            Finished::other(task, Outcome::Revoked(revoked))
        });
        self.running.insert(handle.id(), stem);
    }
}

/// For the log.
fn reason(why: Why) -> &'static str {
    match why {
        Why::Missing => "there is none",
        Why::IssuerChanged => "its issuer has changed",
        Why::Forced => "asked for",
        Why::AriWindow => "the CA's renewal window",
        Why::Lifetime => "its age",
        Why::Expired => "it has expired",
    }
}

/// Everything that one order's task needs.
struct Job {
    stem: String,
    label: String,
    issuer_name: String,
    issuer: Issuer,
    /// Where the names are tried before the issuer is asked.
    staging: Option<Issuer>,
    resumed: bool,
    errand: ErrandParts,
    challenges: Arc<crate::challenge::Challenges>,
    store: Arc<Store>,
}

#[derive(Clone)]
struct ErrandParts {
    set: Vec<String>,
    names: Vec<String>,
    profile: Option<String>,
    key: super::wanted::KeyKind,
    replaces: Option<CertId>,
    renewal: bool,
    pending: Option<crate::store::PendingOrder>,
    now: i64,
    skew: i64,
}

impl Job {
    fn foreseen(&self) -> Event {
        let of_pending = self.errand.pending.as_ref();
        Event {
            at: self.errand.now,
            kind: Kind::Issued,
            account: self.issuer.ca.directory.clone(),
            set: of_pending.map_or(&self.errand.names, |pending| &pending.names).clone(),
            renewal: of_pending.map_or(self.errand.renewal, |pending| pending.renewal),
            hosts: Vec::new(),
        }
    }

    async fn run(self, sessions: Arc<Sessions>) -> Finished {
        let outcome = self.outcome(&sessions).await;
        let directory = self.issuer.ca.directory;
        Finished { stem: self.stem, issuer: self.issuer_name, directory, outcome }
    }

    async fn outcome(&self, sessions: &Sessions) -> Outcome {
        if let Some(staging) = &self.staging
            && let Err(failures) = self.try_on_staging(sessions, staging).await
        {
            return Outcome::Failed { failures, resumed: false };
        }
        let mut done = self.order(sessions).await;
        if matches!(&done, Err((failures, _)) if failures.iter().any(account_gone)) {
            if let Err((_, Some(session))) = &done {
                sessions.forget(&self.store, &self.issuer, session).await;
            }
            done = self.order(sessions).await;
        }
        match done {
            Ok(stored) => Outcome::Issued(stored),
            Err((failures, _)) => Outcome::Failed { failures, resumed: self.resumed },
        }
    }

    /// A failed validation is not repeated where failures are counted before it has succeeded
    /// where they are not. A staging directory that does not answer is no reason to wait.
    async fn try_on_staging(
        &self,
        sessions: &Sessions,
        staging: &Issuer,
    ) -> Result<(), Vec<Failure>> {
        let Ok(session) = sessions.get(&self.store, staging).await else { return Ok(()) };
        let tried = dry_run(&session, &self.errand.names, staging, &self.challenges).await;
        if matches!(&tried, Err(failures) if failures.iter().any(account_gone)) {
            sessions.forget(&self.store, staging, &session).await;
        }
        match tried {
            Err(failures) if failures.iter().any(|f| f.class == Class::Validation) => Err(failures),
            _ => Ok(()),
        }
    }

    async fn order(
        &self,
        sessions: &Sessions,
    ) -> Result<Stored, (Vec<Failure>, Option<super::session::Session>)> {
        let session = match sessions.get(&self.store, &self.issuer).await {
            Ok(session) => session,
            Err(failure) => return Err((vec![failure], None)),
        };
        let parts = self.errand.clone();
        let errand = Errand {
            store: self.store.clone(),
            challenges: self.challenges.clone(),
            session: session.clone(),
            directory: self.issuer.ca.directory.clone(),
            challenge: self.issuer.challenge,
            limits: self.issuer.ca.limits.clone(),
            set: parts.set,
            names: parts.names,
            profile: parts.profile,
            key: parts.key,
            replaces: parts.replaces,
            renewal: parts.renewal,
            pending: parts.pending,
            now: parts.now,
            skew: parts.skew,
        };
        bring_home(errand).await.map_err(|failures| (failures, Some(session)))
    }
}

async fn renewal_information(
    sessions: &Sessions,
    store: &Store,
    issuer: &Issuer,
    id: CertId,
) -> Outcome {
    let session = match sessions.get(store, issuer).await {
        Ok(session) => session,
        Err(failure) => return Outcome::NoRenewalInformation(failure),
    };
    if !session.ca.directory().renewal_info {
        return Outcome::RenewalInformation(None);
    }
    match session.ca.renewal_info(&id).await {
        Ok(info) => Outcome::RenewalInformation(Some((id, info))),
        Err(failure) => Outcome::NoRenewalInformation(failure),
    }
}

async fn revoke(
    sessions: &Sessions,
    store: &Store,
    issuer: &Issuer,
    stored: &Stored,
    reason: Revocation,
) -> Result<(), Failure> {
    let session = sessions.get(store, issuer).await?;
    match stored.certificate.chain.first() {
        Some(leaf) => session.account.revoke(leaf, reason).await,
        None => Ok(()),
    }
}

impl Slot {
    /// Unix seconds at which renewal information is to be asked for.
    pub(super) fn ari_due(&self) -> i64 {
        self.ari_at.max(self.record.ari.as_ref().map_or(0, |ari| ari.poll_at))
    }
}

/// Orders and questions under way at once.
pub(super) const MAX_TASKS: usize = 4;
/// Seconds until renewal information is asked for again where there was none: RFC 9773 §4.3
/// leaves it to the client.
const ARI_AGAIN: i64 = 6 * 3600;
