//! The keeper's loop: who owns the directory, what is due, what has ended.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Settings;
use super::command::Command;
use super::finish::Finished;
use super::library::Library;
use super::session::Sessions;
use super::slot::{Known, Slot};
use super::view::{OrderResult, Role, Row, SKEW_ALARM, View};
use super::wanted::Wanted;
use crate::ledger::{Event, Kind, Ledger};
use crate::name;
use crate::storage::Lock;
use crate::store::{Store, Stored};

pub(super) struct Run {
    pub settings: Settings,
    queue: mpsc::UnboundedReceiver<Command>,
    pub view: Arc<ArcSwap<View>>,
    /// Open from the first wanted certificate on.
    pub store: Option<Arc<Store>>,
    lock: Option<Lock>,
    pub role: Role,
    pub wanted: Wanted,
    /// By the stem of their files.
    pub slots: BTreeMap<String, Slot>,
    pub library: Library,
    pub ledger: Ledger,
    pub ledger_unsaved: bool,
    /// Issued and not written yet, by stem.
    pub unsaved: BTreeMap<String, Arc<Stored>>,
    pub sessions: Arc<Sessions>,
    pub tasks: JoinSet<Finished>,
    /// Which slot a task is for; it tells nothing when it panics.
    pub running: BTreeMap<tokio::task::Id, String>,
    pub orders: BTreeMap<(String, OrderResult), u64>,
    skew: Option<i64>,
    problems: Vec<String>,
    /// Something that the view shows has changed.
    pub stale: bool,
    /// Unix seconds.
    pub read_at: i64,
    pruned_at: i64,
    /// The last look at the clock.
    seen_at: i64,
}

impl Run {
    pub(super) fn new(
        settings: Settings,
        queue: mpsc::UnboundedReceiver<Command>,
        view: Arc<ArcSwap<View>>,
    ) -> Run {
        Run {
            settings,
            queue,
            view,
            store: None,
            lock: None,
            role: Role::Idle,
            wanted: Wanted::default(),
            slots: BTreeMap::new(),
            library: Library::default(),
            ledger: Ledger::default(),
            ledger_unsaved: false,
            unsaved: BTreeMap::new(),
            sessions: Arc::default(),
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            orders: BTreeMap::new(),
            skew: None,
            problems: Vec::new(),
            stale: false,
            read_at: 0,
            pruned_at: 0,
            seen_at: 0,
        }
    }

    /// Until the handle is dropped.
    pub(super) async fn run(mut self) {
        loop {
            self.look_at_clock().await;
            self.take_role();
            self.housekeeping();
            if self.role == Role::Owner {
                self.start_due();
            }
            if self.stale {
                self.publish();
            }
            let nap = self.nap();
            tokio::select! {
                command = self.queue.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                Some(done) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    self.finished(done);
                }
                () = tokio::time::sleep(nap) => {}
            }
        }
    }

    /// Unix seconds; the CA's where ours are far off.
    pub(super) fn now(&self) -> i64 {
        (self.settings.clock)() + self.skew.unwrap_or(0)
    }

    /// What plans are made of.
    pub(super) fn known(&self, now: i64) -> Known<'_> {
        Known { wanted: &self.wanted, library: &self.library, ledger: &self.ledger, now }
    }

    /// Takes over what is wanted; slots whose certificate is still wanted keep their state.
    pub(super) fn want(&mut self, wanted: Wanted) {
        self.wanted = wanted;
        if self.wanted.certificates.is_empty() && self.store.is_none() {
            return;
        }
        if !self.open() {
            return;
        }
        let Some(store) = self.store.clone() else { return };
        let mut former = std::mem::take(&mut self.slots);
        for wanted in &self.wanted.certificates {
            let stem = name::file_stem(&wanted.names);
            if self.slots.contains_key(&stem) {
                continue;
            }
            let slot = match former.remove(&stem) {
                Some(slot) => Slot { wanted: wanted.clone(), due_at: 0, ..slot },
                None => Slot::open(wanted.clone(), &store),
            };
            self.slots.insert(stem, slot);
        }
        self.answer_statelessly();
        self.stale = true;
    }

    /// Gives the right to order away. Tasks end where they are: the disk has what the next owner
    /// needs, and answers to challenges stay for a while.
    pub(super) fn release(&mut self) {
        self.tasks.abort_all();
        self.save();
        self.lock = None;
        if self.role != Role::Idle {
            self.role = Role::Released;
            self.answer_statelessly();
        }
        self.stale = true;
    }

    fn open(&mut self) -> bool {
        if self.store.is_some() {
            return true;
        }
        match Store::open(&self.settings.state_dir) {
            Ok(store) => {
                store.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
                self.store = Some(Arc::new(store));
                self.role = Role::Reader;
                self.try_own();
                self.read();
                true
            }
            Err(why) => {
                self.broken(why.to_string());
                false
            }
        }
    }

    /// Looks whether the directory, or the right to write to it, can be had by now.
    fn take_role(&mut self) {
        match self.role {
            Role::Broken(_) if self.store.is_none() => {
                let wanted = std::mem::take(&mut self.wanted);
                self.want(wanted);
            }
            Role::Reader | Role::Broken(_) => {
                if self.try_own() {
                    self.read();
                    let wanted = std::mem::take(&mut self.wanted);
                    self.slots.clear();
                    self.want(wanted);
                }
            }
            Role::Idle | Role::Owner | Role::Released => {}
        }
    }

    fn try_own(&mut self) -> bool {
        let Some(store) = &self.store else { return false };
        match store.try_own() {
            Ok(Some(lock)) => {
                self.lock = Some(lock);
                self.role = Role::Owner;
                tracing::info!("this process orders certificates");
                true
            }
            Ok(None) => {
                if self.role != Role::Reader || self.read_at == 0 {
                    tracing::info!("another process orders certificates; this one reads them");
                }
                self.role = Role::Reader;
                false
            }
            Err(why) => {
                self.broken(why.to_string());
                false
            }
        }
    }

    fn broken(&mut self, why: String) {
        if self.role != Role::Broken(why.clone()) {
            tracing::error!("no certificate can be ordered: {why}");
            self.role = Role::Broken(why);
            self.stale = true;
        }
    }

    /// Everything on disk, anew.
    fn read(&mut self) {
        let Some(store) = &self.store else { return };
        let mut problems = Vec::new();
        let stored = store.certificates(&mut problems);
        self.library = Library::new(stored.into_iter().chain(self.unsaved.values().cloned()));
        if self.role == Role::Owner && !self.ledger_unsaved {
            self.ledger = store.ledger();
        }
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::warn!("{problem}");
        }
        self.problems = problems;
        self.read_at = self.now();
        self.stale = true;
    }

    fn housekeeping(&mut self) {
        let now = self.now();
        self.settings.challenges.sweep(now);
        let every = if self.role == Role::Owner { READ_OWN } else { READ_OTHERS };
        if self.store.is_some() && !(self.read_at..self.read_at + every).contains(&now) {
            self.read();
            self.answer_statelessly();
        }
        if self.role != Role::Owner {
            return;
        }
        self.save();
        if !(self.pruned_at..self.pruned_at + PRUNE_EVERY).contains(&now) {
            self.pruned_at = now;
            let wanted: HashSet<String> = self.slots.keys().cloned().collect();
            let pruned = self.store.as_ref().map(|store| store.prune(&wanted, now - PRUNE_AFTER));
            if let Some(Err(why)) = pruned {
                tracing::warn!("old certificates are not cleared away: {why}");
            }
        }
    }

    /// A process without the right to order answers for the one that has it.
    fn answer_statelessly(&self) {
        let mut hosts = std::collections::HashMap::new();
        if let (Role::Reader | Role::Released, Some(store)) = (&self.role, &self.store) {
            for wanted in &self.wanted.certificates {
                let issuer = self.wanted.issuers.get(&wanted.issuer);
                let account = issuer.and_then(|issuer| store.account(&issuer.ca.directory));
                let Some(account) = account else { continue };
                let entry = |name: &String| (name.clone(), account.thumbprint.clone());
                hosts.extend(wanted.names.iter().map(entry));
            }
        }
        self.settings.challenges.set_stateless(hosts);
    }

    /// A clock that is far off makes everything due, or nothing: the CA's is believed then.
    async fn look_at_clock(&mut self) {
        let Some(skew) = self.sessions.clock_skew().await else { return };
        let skew = (skew.abs() > SKEW_ALARM).then_some(skew);
        if skew.is_some() != self.skew.is_some() {
            match skew {
                Some(off) => tracing::error!(
                    "this machine's clock is off by {} s (the CA's is right); put it right",
                    -off
                ),
                None => tracing::info!("the clock is right again"),
            }
            self.slots.values_mut().for_each(|slot| slot.due_at = 0);
            self.stale = true;
        }
        self.skew = skew;
        let now = self.now();
        if now < self.seen_at {
            tracing::warn!("the clock was set back by {} s", self.seen_at - now);
            self.slots.values_mut().for_each(|slot| slot.settle(now));
        }
        self.ledger.settle(now);
        self.seen_at = now;
    }

    fn issued_this_week(&self, names: &[String]) -> usize {
        let of_set = |event: &&Event| event.kind == Kind::Issued && event.set == names;
        self.ledger.entries().iter().filter(of_set).count()
    }

    /// Until the next thing that is due by itself.
    fn nap(&self) -> Duration {
        let poll = match self.role {
            Role::Owner | Role::Idle => Duration::from_secs(60),
            Role::Reader | Role::Released | Role::Broken(_) => TAKE_OVER_POLL,
        };
        if !self.unsaved.is_empty() || self.ledger_unsaved {
            return poll.min(SAVE_AGAIN);
        }
        if self.role != Role::Owner || self.tasks.len() >= super::start::MAX_TASKS {
            return poll;
        }
        let now = self.now();
        let waiting = self.slots.values().filter(|slot| !slot.running);
        let next = waiting.map(|slot| slot.due_at.min(slot.ari_due())).min().unwrap_or(i64::MAX);
        let seconds = u64::try_from(next.saturating_sub(now)).unwrap_or(0);
        // Whole seconds: what is due within this one is due at its end.
        poll.min(Duration::from_secs(seconds).max(Duration::from_millis(200)))
    }

    pub(super) fn publish(&mut self) {
        self.stale = false;
        let now = self.now();
        let known = self.known(now);
        let rows = self.slots.iter().map(|(stem, slot)| self.row(stem, slot, &known)).collect();
        let view = View {
            role: self.role.clone(),
            rows,
            problems: self.problems.clone(),
            clock_skew: self.skew,
            orders: self.orders.clone(),
        };
        self.view.store(Arc::new(view));
        (self.settings.changed)();
    }

    fn row(&self, stem: &str, slot: &Slot, known: &Known<'_>) -> Row {
        let names: Vec<&str> = slot.wanted.names.iter().map(String::as_str).collect();
        let mut serving: Vec<Arc<Stored>> = Vec::new();
        let mut missing = Vec::new();
        match slot.leaf(&names, known) {
            Some(whole) => serving.push(whole.clone()),
            None => {
                for name in &names {
                    match slot.leaf(&[*name], known) {
                        Some(part) if serving.iter().any(|s| Arc::ptr_eq(s, part)) => {}
                        Some(part) => serving.push(part.clone()),
                        None => missing.push((*name).to_owned()),
                    }
                }
            }
        }
        Row {
            label: slot.wanted.label.clone(),
            names: slot.wanted.names.clone(),
            issuer: slot.wanted.issuer.clone(),
            serving,
            missing,
            ordering: slot.running || slot.pending.is_some(),
            unsaved: self.unsaved.contains_key(stem),
            renews_at: slot.renews_at(known),
            next_at: slot.due_at,
            next_why: slot.next_why(known.now),
            failures: slot.failures(),
            last_failure: slot.last_failure.clone(),
            issued_this_week: self.issued_this_week(&slot.wanted.names),
            per_week: self.wanted.issuers.get(&slot.wanted.issuer).map(|i| i.limits.per_set_week),
        }
    }
}

/// A process that has not the right to order asks for it this often.
const TAKE_OVER_POLL: Duration = Duration::from_millis(500);
const SAVE_AGAIN: Duration = Duration::from_secs(10);
/// Seconds between two readings of a directory that another process writes to.
const READ_OTHERS: i64 = 5;
/// The same for our own directory: somebody may put a file there.
const READ_OWN: i64 = 600;
const PRUNE_EVERY: i64 = 24 * 3600;
/// Seconds after its end that a certificate nobody wants is kept.
const PRUNE_AFTER: i64 = 10 * 24 * 3600;
