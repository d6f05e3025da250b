//! The keeper's loop: who owns the directory, what is due, what has ended.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Settings;
use super::command::Command;
use super::finish::Finished;
use super::library::Library;
use super::session::Sessions;
use super::slot::{Known, Slot};
use super::tell::TELL_MANY_EVERY;
use super::view::{OrderResult, Role, View};
use super::wanted::Wanted;
use crate::ledger::Ledger;
use crate::name;
use crate::storage::Lock;
use crate::store::{Listing, PendingOrder, Store, Stored};

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
    /// Wanted no more, but with an order under way or a certificate to be stored: neither is lost,
    /// nor ordered a second time when it is wanted again.
    pub leaving: BTreeMap<String, Slot>,
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
    pub skew: Option<i64>,
    pub problems: Vec<String>,
    /// When the last view was told.
    pub published: Option<Instant>,
    /// CAs that want to be left alone, by directory URL: until when, Unix seconds.
    pub held: BTreeMap<String, i64>,
    /// Some hosts' challenges are answered without knowing the tokens.
    stateless: bool,
    /// The files of certificates as of the last reading.
    listed: Option<Listing>,
    /// Thumbprints by directory, of the accounts that are answered for without tokens.
    answering: BTreeMap<String, String>,
    /// Something that the view shows has changed.
    pub stale: bool,
    /// Unix seconds.
    pub read_at: i64,
    pruned_at: i64,
    /// The last look at the clock.
    pub seen_at: i64,
    /// The same: by this machine's clock, and by one that nobody sets.
    pub looked: Option<(i64, Duration)>,
    /// The right to order was had just now.
    pub new_owner: bool,
    /// The clock has jumped or was never compared, and a CA is asked.
    pub doubt: Option<Instant>,
}

impl Run {
    pub(super) fn new(
        settings: Settings,
        queue: mpsc::UnboundedReceiver<Command>,
        view: Arc<ArcSwap<View>>,
    ) -> Run {
        let (uptime, asked) = (settings.uptime.clone(), settings.asked.clone());
        let sessions = Arc::new(Sessions::new(uptime, asked, settings.poll * 2));
        Run {
            settings,
            queue,
            view,
            store: None,
            lock: None,
            role: Role::Idle,
            wanted: Wanted::default(),
            slots: BTreeMap::new(),
            leaving: BTreeMap::new(),
            library: Library::default(),
            ledger: Ledger::default(),
            ledger_unsaved: false,
            unsaved: BTreeMap::new(),
            sessions,
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            orders: BTreeMap::new(),
            skew: None,
            problems: Vec::new(),
            published: None,
            held: BTreeMap::new(),
            stateless: false,
            listed: None,
            answering: BTreeMap::new(),
            stale: false,
            read_at: 0,
            pruned_at: 0,
            seen_at: 0,
            looked: None,
            new_owner: false,
            doubt: None,
        }
    }

    /// Until the handle is dropped.
    pub(super) async fn run(mut self) {
        loop {
            self.look_at_clock().await;
            self.take_role();
            self.housekeeping();
            if self.role == Role::Owner && !self.doubts_clock() {
                self.start_due();
            }
            if self.must_tell() {
                self.publish();
            }
            let nap = self.nap();
            tokio::select! {
                command = self.queue.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                Some(done) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    // Times are noted by the clock that this very task may have shown to be right.
                    self.look_at_clock().await;
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
        Known {
            wanted: &self.wanted,
            library: &self.library,
            ledger: &self.ledger,
            held: &self.held,
            now,
        }
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
            let known = former.remove(&stem).or_else(|| self.leaving.remove(&stem));
            let slot = match known {
                Some(slot) => Slot { wanted: wanted.clone(), due_at: 0, ..slot },
                None => Slot::open(wanted.clone(), &store),
            };
            // A crash came between storing the certificate and dropping its order.
            let stored = |pending: &PendingOrder| self.library.has_key(pending);
            let slot =
                Slot { pending: slot.pending.filter(|p| slot.running || !stored(p)), ..slot };
            self.slots.insert(stem, slot);
        }
        self.leaving.extend(former);
        self.let_go();
        // Records of a run whose clock was ahead.
        let now = self.now();
        self.slots.values_mut().for_each(|slot| slot.settle(now));
        self.answer_statelessly();
        self.stale = true;
    }

    /// Forgets slots that nobody wants and nothing is under way for.
    pub(super) fn let_go(&mut self) {
        let unsaved = &self.unsaved;
        self.leaving.retain(|stem, slot| slot.running || unsaved.contains_key(stem));
    }

    /// The slot of a task.
    pub(super) fn slot_of(&mut self, stem: &str) -> Option<&mut Slot> {
        self.slots.get_mut(stem).or_else(|| self.leaving.get_mut(stem))
    }

    /// Gives the right to order away. Tasks end where they are: the disk has what the next owner
    /// needs, and answers to challenges stay for a while.
    pub(super) fn release(&mut self) {
        // What has ended already counts.
        while let Some(done) = self.tasks.try_join_next_with_id() {
            self.finished(done);
        }
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
        let owned = store.try_own().and_then(|lock| {
            // Without it a budget could be spent twice.
            lock.map(|lock| Ok((lock, store.ledger()?))).transpose()
        });
        match owned {
            Ok(Some((lock, ledger))) => {
                self.lock = Some(lock);
                self.ledger = ledger;
                self.role = Role::Owner;
                self.new_owner = true;
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
        // Asked first: what changes meanwhile is read next time.
        let listed = store.listing();
        let mut problems = Vec::new();
        let stored = store.certificates(&mut problems);
        let mut library = Library::new(stored.into_iter().chain(self.unsaved.values().cloned()));
        let mut lost: Vec<Arc<Stored>> = Vec::new();
        // What serves goes on serving, whatever has become of its file.
        for serving in self.view.load().rows.iter().flat_map(|row| &row.serving) {
            if !library.has(serving) {
                lost.push(serving.clone());
                library.add(serving.clone());
            }
        }
        self.library = library;
        if self.role == Role::Reader {
            // What another process does, as it has written it down.
            for slot in self.slots.values_mut() {
                *slot = Slot::open(slot.wanted.clone(), store);
            }
        }
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::warn!("{problem}");
        }
        if self.role == Role::Owner {
            let written = lost.iter().map(|lost| store.put_certificate(&lost.names, &lost.bundle));
            problems.extend(written.filter_map(|done| done.err().map(|why| why.to_string())));
        }
        self.problems = problems;
        // Looked at again next time where something is missing.
        self.listed = listed.filter(|_| lost.is_empty());
        self.read_at = self.now();
        self.stale = true;
    }

    fn housekeeping(&mut self) {
        let now = self.now();
        self.settings.challenges.sweep(now);
        let every = if self.role == Role::Owner { READ_OWN } else { READ_OTHERS };
        if self.store.is_some() && !(self.read_at..self.read_at + every).contains(&now) {
            let listed = self.store.as_ref().and_then(|store| store.listing());
            if listed.is_none() || listed != self.listed {
                self.read();
            }
            self.read_at = now;
            self.answer_statelessly();
        } else if self.answering != self.thumbprints() {
            self.answer_statelessly();
        }
        if self.role != Role::Owner {
            return;
        }
        self.save();
        if !self.doubts_clock() && !(self.pruned_at..self.pruned_at + PRUNE_EVERY).contains(&now) {
            self.pruned_at = now;
            let wanted: HashSet<String> = self.slots.keys().cloned().collect();
            let pruned = self.store.as_ref().map(|store| store.prune(&wanted, now - PRUNE_AFTER));
            if let Some(Err(why)) = pruned {
                tracing::warn!("old certificates are not cleared away: {why}");
            }
        }
    }

    /// A process without the right to order answers for the one that has it; one that has taken
    /// over an order answers for that until its tokens are known.
    pub(super) fn answer_statelessly(&mut self) {
        self.answering = self.thumbprints();
        let mut hosts = std::collections::HashMap::new();
        if let Some(store) = &self.store {
            let mut thumbprints: BTreeMap<&str, Option<String>> = BTreeMap::new();
            for slot in self.slots.values() {
                let issuer = self.wanted.issuers.get(&slot.wanted.issuer);
                let directory = match (&self.role, &slot.pending) {
                    (Role::Owner, Some(pending)) => Some(pending.directory.as_str()),
                    (Role::Reader | Role::Released, _) => {
                        issuer.map(|issuer| issuer.ca.directory.as_str())
                    }
                    _ => None,
                };
                let Some(directory) = directory else { continue };
                let account = || Some(store.account(directory).ok()??.thumbprint);
                let thumbprint = thumbprints.entry(directory).or_insert_with(account);
                let Some(thumbprint) = thumbprint.as_ref() else { continue };
                let entry = |name: &String| (name.clone(), thumbprint.clone());
                hosts.extend(slot.wanted.names.iter().map(entry));
            }
        }
        if self.stateless || !hosts.is_empty() {
            self.stateless = !hosts.is_empty();
            self.settings.challenges.set_stateless(hosts);
        }
    }

    /// None where this process orders itself.
    fn thumbprints(&self) -> BTreeMap<String, String> {
        let (Role::Reader | Role::Released, Some(store)) = (&self.role, &self.store) else {
            return BTreeMap::new();
        };
        let directories = self.wanted.issuers.values().map(|issuer| &issuer.ca.directory);
        let known = |directory: &String| {
            Some((directory.clone(), store.account(directory).ok()??.thumbprint))
        };
        directories.filter_map(known).collect()
    }

    pub(super) fn is_stateless(&self) -> bool {
        self.stateless
    }

    /// Until the next thing that is due by itself.
    fn nap(&self) -> Duration {
        let poll = match self.role {
            _ if self.stale => TELL_MANY_EVERY.min(self.settings.poll),
            Role::Owner | Role::Idle => Duration::from_secs(60),
            Role::Reader | Role::Released | Role::Broken(_) => self.settings.poll,
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
}

const SAVE_AGAIN: Duration = Duration::from_secs(10);
/// Seconds between two readings of a directory that another process writes to.
const READ_OTHERS: i64 = 5;
/// The same for our own directory: somebody may put a file there.
const READ_OWN: i64 = 600;
const PRUNE_EVERY: i64 = 24 * 3600;
/// Seconds after its end that a certificate nobody wants is kept.
const PRUNE_AFTER: i64 = 10 * 24 * 3600;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
