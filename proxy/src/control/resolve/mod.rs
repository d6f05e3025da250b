//! Names of endpoints to addresses: asked of DNS when a name appears and whenever its TTL (1 s to
//! 60 s) has passed; the last good answer is kept ([`known`]). Nothing waits for an answer but the
//! start, for a moment, and no answer is ever an error of the configuration.

pub mod known;
pub mod lookup;
pub mod system;
#[cfg(test)]
mod test_dns;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use config::model::{EndpointAddress, EndpointSpec};
use tokio::sync::mpsc;

use super::files;
use super::random::Random;
use crate::clock;
use crate::route::table::Snapshot;
use crate::upstream::endpoint::Resolved;
use known::{Known, Next};
use lookup::{ByName, Outcome, ask};
use system::{Paths, System};

/// What DNS is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Question {
    /// The addresses of a name.
    Host(Arc<str>),
    /// The SRV records of a service.
    Srv(Arc<str>),
}

/// What is known of every name.
pub struct Resolver {
    names: HashMap<Question, Entry>,
    /// When to ask what; what is not due as its entry says is out of date.
    due: BinaryHeap<Reverse<Due>>,
    under_way: usize,
    at_once: usize,
    answers: mpsc::UnboundedReceiver<Answer>,
    tell: mpsc::UnboundedSender<Answer>,
    /// `None`: no resolver can be made.
    system: Option<Arc<System>>,
    paths: Paths,
    /// Process milliseconds: the files are looked at again.
    look_at: u64,
    look_every_ms: u64,
    random: Random,
}

/// Process milliseconds, then at random.
type Due = (u64, u64, Question);

#[derive(Default)]
struct Entry {
    known: Known,
    /// Process milliseconds.
    due: u64,
    asking: bool,
}

/// What came of one question.
pub struct Answer {
    question: Question,
    outcome: Outcome,
}

/// One name for people.
#[derive(Clone, Debug)]
pub struct NameState {
    /// As in the configuration, without port: `api.example`, `srv+_http._tcp.api.example`.
    pub name: String,
    /// `None`: never resolved. A port of 0 is the endpoint's.
    pub addresses: Option<Arc<[Resolved]>>,
    /// Of the last good answer.
    pub ttl: Duration,
    /// Process milliseconds: it is asked for again.
    pub next_ms: u64,
    /// Why the last answer was none, or not whole.
    pub error: Option<String>,
}

impl Question {
    /// `None`: nothing to resolve.
    pub fn of(address: &EndpointAddress) -> Option<Question> {
        match address {
            EndpointAddress::Name { host, .. } => Some(Question::Host(host.as_str().into())),
            EndpointAddress::Srv(name) => Some(Question::Srv(name.as_str().into())),
            EndpointAddress::Ip(_) | EndpointAddress::Unix(_) => None,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Question::Host(name) | Question::Srv(name) => name,
        }
    }
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Question::Host(name) => f.write_str(name),
            Question::Srv(name) => write!(f, "srv+{name}"),
        }
    }
}

impl Resolver {
    /// As this machine resolves names; see [`system`].
    pub fn new() -> Resolver {
        Resolver::with(Paths::from_environment(), LOOK_EVERY)
    }

    fn with(paths: Paths, look_every: Duration) -> Resolver {
        let (tell, answers) = mpsc::unbounded_channel();
        let look_every_ms = millis(look_every);
        Resolver {
            names: HashMap::new(),
            due: BinaryHeap::new(),
            under_way: 0,
            at_once: files::share(AT_ONCE, 64),
            answers,
            tell,
            system: None,
            paths,
            look_at: 0,
            look_every_ms,
            random: Random::new(),
        }
    }

    /// Where a name or SRV record led to last.
    pub fn resolved(&self, address: &EndpointAddress) -> Option<Vec<Resolved>> {
        let found = self.names.get(&Question::of(address)?)?.known.addresses.as_ref()?;
        let mut found = found.to_vec();
        if let EndpointAddress::Name { port, .. } = address {
            found.iter_mut().for_each(|one| one.address.set_port(*port));
        }
        Some(found)
    }

    /// Makes these what is resolved: asks for the new ones at once, forgets those that are gone.
    pub fn set_questions(&mut self, wanted: BTreeSet<Question>) {
        self.names.retain(|question, _| wanted.contains(question));
        for question in wanted {
            if !self.names.contains_key(&question) {
                self.names.insert(question.clone(), Entry::default());
                self.ask_at(question, clock::process_ms());
            }
        }
    }

    /// The next answer; asks meanwhile whenever it is time. Can be dropped and called again
    /// without losing an answer.
    pub async fn answer(&mut self) -> Answer {
        loop {
            let wait = self.ask_what_is_due();
            tokio::select! {
                Some(answer) = self.answers.recv() => return answer,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Takes answers in until every name has had one, good or bad, or `limit` has passed; returns
    /// the questions whose addresses are known now.
    pub async fn first_answers(&mut self, limit: Duration) -> Vec<Question> {
        let end = tokio::time::Instant::now() + limit;
        let mut changed = Vec::new();
        while self.names.values().any(|entry| entry.known.is_unasked()) {
            match tokio::time::timeout_at(end, self.answer()).await {
                Ok(answer) => changed.extend(self.take(answer)),
                Err(_) => break,
            }
        }
        changed
    }

    /// Takes an answer in; returns the question where its addresses are other ones now.
    pub fn take(&mut self, answer: Answer) -> Option<Question> {
        let Answer { question, outcome } = answer;
        self.under_way = self.under_way.saturating_sub(1);
        // Removed from the configuration meanwhile.
        let entry = self.names.get_mut(&question)?;
        let now = clock::process_ms();
        entry.asking = false;
        let Next { changed, after } = entry.known.take(&question.to_string(), outcome, now);
        // Never before the TTL has passed; names that came together part.
        let after = self.random.vary(after, 1000, 1100);
        self.ask_at(question.clone(), now + millis(after));
        changed.then_some(question)
    }

    /// Every name and what is known of it, in order.
    pub fn state(&self) -> Vec<NameState> {
        let state = |(question, entry): (&Question, &Entry)| NameState {
            name: question.to_string(),
            addresses: entry.known.addresses.clone(),
            ttl: entry.known.ttl,
            next_ms: entry.due,
            error: entry.known.error.clone(),
        };
        let mut all: Vec<NameState> = self.names.iter().map(state).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn ask_at(&mut self, question: Question, at_ms: u64) {
        if let Some(entry) = self.names.get_mut(&question) {
            entry.due = at_ms;
            self.due.push(Reverse((at_ms, self.random.next(), question)));
        }
    }

    /// Returns how long nothing is due.
    fn ask_what_is_due(&mut self) -> Duration {
        if self.names.is_empty() {
            return LOOK_EVERY;
        }
        let now = clock::process_ms();
        if now >= self.look_at {
            self.look_at = now + self.look_every_ms;
            self.look_at_files();
        }
        while self.under_way < self.at_once
            && let Some(Reverse((at, ..))) = self.due.peek()
            && *at <= now
            && let Some(Reverse((at, _, question))) = self.due.pop()
        {
            self.ask(at, question);
        }
        // At the limit the next answer is what is waited for.
        let next = self.due.peek().filter(|_| self.under_way < self.at_once);
        let next = next.map_or(self.look_at, |Reverse((at, ..))| (*at).min(self.look_at));
        Duration::from_millis(next.saturating_sub(now).clamp(1, self.look_every_ms.max(1)))
    }

    fn look_at_files(&mut self) {
        let former = self.system.as_ref();
        if former.is_some_and(|system| !system.is_stale(&self.paths)) {
            return;
        }
        if former.is_some() {
            tracing::info!("{} or the hosts file has changed", self.paths.resolv_conf.display());
        }
        match System::read(&self.paths) {
            Ok(system) => self.system = Some(Arc::new(system)),
            Err(why) => tracing::warn!("names are not resolved as configured: {why}"),
        }
    }

    fn ask(&mut self, at: u64, question: Question) {
        let Some(entry) = self.names.get_mut(&question) else { return };
        if entry.asking || entry.due != at {
            return;
        }
        entry.asking = true;
        self.under_way += 1;
        let former: Arc<ByName> = entry.known.by_name.clone();
        let mut told = Tell { to: self.tell.clone(), question: Some(question) };
        let system = self.system.clone();
        tokio::spawn(async move {
            let (Some(system), Some(question)) = (system, told.question.as_ref()) else { return };
            let asked = Box::pin(ask(&system, question, &former));
            let outcome = match tokio::time::timeout(PATIENCE, asked).await {
                Ok(outcome) => outcome,
                Err(_) => Outcome::Failed("no answer".to_owned()),
            };
            told.tell(outcome);
        });
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver::new()
    }
}

/// Answers in any case: a question that ends without an answer would never be asked again.
struct Tell {
    to: mpsc::UnboundedSender<Answer>,
    question: Option<Question>,
}

impl Tell {
    fn tell(&mut self, outcome: Outcome) {
        if let Some(question) = self.question.take() {
            // Nobody listens any more when the process ends.
            let _ = self.to.send(Answer { question, outcome });
        }
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        self.tell(Outcome::Failed("the resolver does not work".to_owned()));
    }
}

/// What a snapshot's upstreams have resolved.
pub fn questions(snapshot: &Snapshot) -> BTreeSet<Question> {
    snapshot.upstreams.iter().flat_map(|upstream| questions_of(&upstream.spec.endpoints)).collect()
}

/// What an upstream's endpoints are resolved from.
pub fn questions_of(spec: &[EndpointSpec]) -> impl Iterator<Item = Question> {
    spec.iter().filter_map(|one| Question::of(&one.address))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4)
}

/// Questions under way at the most; fewer where few files may be open.
const AT_ONCE: usize = 64;
/// For one question, with every name of the search list.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at resolv.conf and the hosts file.
const LOOK_EVERY: Duration = Duration::from_secs(60);
