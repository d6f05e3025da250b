//! Questions to endpoints (active health checks), on the control plane. One scheduler for all of
//! them: a heap of due times, at most `AT_ONCE` questions under way. Each answer goes into the
//! endpoint's `Verdict` and, where that changes, into its condition, which workers read.
//!
//! An endpoint's verdict lives as long as the endpoint is a member of its upstream and the health
//! check is written as it is; a changed check starts anew. Without a check nobody asks.

mod connect;
pub mod failure;
mod grpc;
mod http1;
mod http2;
mod probe;
mod request;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
pub mod url;
mod verdict;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use config::value::Name;
use tokio::sync::mpsc;

use super::files;
use super::random::Random;
use crate::clock;
use crate::metrics::Metrics;
use crate::route::reuse::InOrder;
use crate::route::table::Snapshot;
use crate::state::Shared;
use crate::upstream::condition::Health;
use crate::upstream::endpoint::{Endpoint, Upstream};
use failure::{Failure, Reason};
use probe::{Plan, ask};
use verdict::{Rules, Verdict};

/// Everything that is checked.
pub struct Checker {
    shared: Arc<Shared>,
    /// By endpoint id.
    checked: HashMap<u32, Checked>,
    upstreams: HashMap<Name, Group>,
    /// Whom to ask when; what is not due as its entry says is out of date.
    due: BinaryHeap<Reverse<Due>>,
    under_way: usize,
    at_once: usize,
    answers: mpsc::UnboundedReceiver<Answer>,
    tell: mpsc::UnboundedSender<Answer>,
    random: Random,
    log: LogBudget,
}

/// The checked endpoints of one upstream.
struct Group {
    plan: Arc<Plan>,
    ids: HashSet<u32>,
}

struct Checked {
    endpoint: Arc<Endpoint>,
    plan: Arc<Plan>,
    verdict: Verdict,
    /// Process milliseconds.
    due: u64,
    /// Process milliseconds: the question under way was asked then.
    asked: Option<u64>,
    /// Tells answers to what was asked before the check changed.
    turn: u64,
}

/// Process milliseconds, then at random; the endpoint's id.
type Due = (u64, u64, u32);

struct Answer {
    id: u32,
    turn: u64,
    result: Result<(), Failure>,
}

impl Checker {
    pub fn new(shared: Arc<Shared>) -> Checker {
        let (tell, answers) = mpsc::unbounded_channel();
        Checker {
            shared,
            checked: HashMap::new(),
            upstreams: HashMap::new(),
            due: BinaryHeap::new(),
            under_way: 0,
            at_once: files::share(AT_ONCE, 16),
            answers,
            tell,
            random: Random::new(),
            log: LogBudget::default(),
        }
    }

    /// Brings the checks to a new table; what it has taken over is checked as it was.
    pub fn set_upstreams(&mut self, previous: &Snapshot, snapshot: &Snapshot) {
        let mut now = InOrder::new(&snapshot.upstreams, |upstream: &Upstream| &upstream.name);
        for gone in previous.upstreams.iter().filter(|one| now.find(&one.name).is_none()) {
            if let Some(group) = self.upstreams.remove(&gone.name) {
                self.forget(&group.ids);
            }
        }
        let mut before = InOrder::new(&previous.upstreams, |upstream: &Upstream| &upstream.name);
        for upstream in &snapshot.upstreams {
            let same = |before: &Arc<Upstream>| Arc::ptr_eq(before, upstream);
            if !before.find(&upstream.name).is_some_and(same) {
                self.set_endpoints(upstream);
            }
        }
    }

    /// Brings the checks to the endpoints of one upstream; new ones are asked at once.
    pub fn set_endpoints(&mut self, upstream: &Upstream) {
        let set = upstream.state.endpoints.load();
        let former = self.upstreams.remove(&upstream.name);
        let Some(check) = &upstream.spec.health else {
            for member in &set.members {
                let condition = &member.endpoint.condition;
                condition.set_health(Health::Unchecked, clock::process_ms());
                condition.set_error(None);
            }
            self.forget(&former.map(|group| group.ids).unwrap_or_default());
            return;
        };
        let same = former.as_ref().is_some_and(|group| group.plan.check == *check);
        let plan = Arc::new(Plan {
            upstream: upstream.name.clone(),
            series: upstream.series.name.clone(),
            check: check.clone(),
            transport: upstream.transport.clone(),
        });
        let ids: HashSet<u32> = set.members.iter().map(|member| member.endpoint.id).collect();
        for member in &set.members {
            match self.checked.get_mut(&member.endpoint.id) {
                Some(checked) if same => checked.plan = plan.clone(),
                _ => self.begin(member.endpoint.clone(), plan.clone()),
            }
        }
        let former = former.map(|group| group.ids).unwrap_or_default();
        self.forget(&former.difference(&ids).copied().collect());
        // Endpoints that come and go leave their due times behind.
        if self.due.len() > 2 * self.checked.len() + SLACK {
            let due = |id: &u32| self.checked.get(id).map(|checked| checked.due);
            self.due.retain(|Reverse((at, _, id))| due(id) == Some(*at));
        }
        self.upstreams.insert(upstream.name.clone(), Group { plan, ids });
    }

    /// Asks whenever it is time and takes the answers in. Never ends; can be dropped and called
    /// again without losing an answer.
    pub async fn run(&mut self) {
        loop {
            let wait = self.ask_who_is_due();
            tokio::select! {
                Some(answer) = self.answers.recv() => self.take(answer),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Says how many lines were held back; once a second.
    pub fn tick(&mut self) {
        self.log.refill();
    }

    fn begin(&mut self, endpoint: Arc<Endpoint>, plan: Arc<Plan>) {
        let (id, now) = (endpoint.id, clock::process_ms());
        endpoint.condition.set_health(Health::Starting, now);
        let (verdict, turn) = (Verdict::new(now), self.random.next());
        let checked = Checked { endpoint, plan, verdict, due: now, asked: None, turn };
        self.checked.insert(id, checked);
        self.ask_at(id, now);
    }

    fn forget(&mut self, ids: &HashSet<u32>) {
        for id in ids {
            self.checked.remove(id);
        }
    }

    fn ask_at(&mut self, id: u32, at_ms: u64) {
        if let Some(checked) = self.checked.get_mut(&id) {
            checked.due = at_ms;
            self.due.push(Reverse((at_ms, self.random.next(), id)));
        }
    }

    /// Returns how long nobody is due.
    fn ask_who_is_due(&mut self) -> Duration {
        let now = clock::process_ms();
        while self.under_way < self.at_once
            && let Some(Reverse((at, ..))) = self.due.peek()
            && *at <= now
            && let Some(Reverse((at, _, id))) = self.due.pop()
        {
            self.ask(id, at, now);
        }
        // At the limit the next answer is what is waited for.
        let next = self.due.peek().filter(|_| self.under_way < self.at_once);
        let wait = next.map(|Reverse((at, ..))| at.saturating_sub(now).max(1));
        wait.map_or(IDLE, Duration::from_millis)
    }

    fn ask(&mut self, id: u32, at: u64, now: u64) {
        let Some(checked) = self.checked.get_mut(&id) else { return };
        if checked.asked.is_some() || checked.due != at {
            return;
        }
        checked.asked = Some(now);
        self.under_way += 1;
        let (plan, endpoint) = (checked.plan.clone(), checked.endpoint.clone());
        let mut told = Tell { to: self.tell.clone(), about: Some((id, checked.turn)) };
        tokio::spawn(async move {
            let result = Box::pin(ask(&plan, &endpoint)).await;
            told.tell(result);
        });
    }

    fn take(&mut self, answer: Answer) {
        let Answer { id, turn, result } = answer;
        self.under_way = self.under_way.saturating_sub(1);
        // Removed, or begun anew meanwhile.
        let Some(checked) = self.checked.get_mut(&id).filter(|one| one.turn == turn) else {
            return;
        };
        let asked = checked.asked.take().unwrap_or_default();
        let now = clock::process_ms();
        count(&self.shared.metrics, &checked.plan.series, &result);
        if checked.heard(&result, now) && self.log.allows() {
            checked.tell(&result);
        }
        let interval = checked.plan.check.interval.max(MIN_INTERVAL);
        let next = asked + millis(self.random.vary(interval, 900, 1100));
        self.ask_at(id, next.max(now + 1));
    }
}

impl Checked {
    /// Returns whether the verdict is another one now.
    fn heard(&mut self, result: &Result<(), Failure>, now_ms: u64) -> bool {
        let condition = &self.endpoint.condition;
        condition.set_error(result.as_ref().err().map(ToString::to_string));
        if result.as_ref().is_err_and(|failure| failure.reason == Reason::Local) {
            return false;
        }
        let rules = Rules::of(&self.plan.check);
        let change = self.verdict.answer(result.is_ok(), rules, now_ms);
        if let Some(health) = change {
            condition.set_health(health, now_ms);
        }
        change.is_some()
    }

    fn tell(&self, result: &Result<(), Failure>) {
        let (upstream, endpoint) = (&self.plan.upstream, &self.endpoint.text);
        let checks = match self.verdict.in_a_row() {
            1 => "1 check".to_owned(),
            some => format!("{some} checks"),
        };
        match result {
            Ok(()) => tracing::info!("upstream {upstream}: {endpoint} is healthy: {checks} passed"),
            Err(why) => tracing::warn!(
                "upstream {upstream}: {endpoint} is unhealthy: {checks} failed, last: {why}"
            ),
        }
    }
}

fn count(metrics: &Metrics, series: &Name, result: &Result<(), Failure>) {
    let label = result.as_ref().err().map_or("ok", |failure| failure.reason.label());
    metrics.upstream_health_checks.with_label_values(&[series.as_str(), label]).inc();
}

/// Answers in any case: an endpoint without an answer would never be asked again.
struct Tell {
    to: mpsc::UnboundedSender<Answer>,
    about: Option<(u32, u64)>,
}

impl Tell {
    fn tell(&mut self, result: Result<(), Failure>) {
        if let Some((id, turn)) = self.about.take() {
            // Nobody listens any more when the process ends.
            let _ = self.to.send(Answer { id, turn, result });
        }
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        self.tell(Err(Failure::new(Reason::Local, "the check ended early")));
    }
}

/// A network that breaks changes ten thousand verdicts at once.
struct LogBudget {
    left: usize,
    held_back: usize,
}

impl Default for LogBudget {
    fn default() -> Self {
        LogBudget { left: LINES_PER_SECOND, held_back: 0 }
    }
}

impl LogBudget {
    fn allows(&mut self) -> bool {
        let allowed = self.left > 0;
        match allowed {
            true => self.left -= 1,
            false => self.held_back += 1,
        }
        allowed
    }

    fn refill(&mut self) {
        if self.held_back > 0 {
            tracing::warn!("the health of {} more endpoints has changed", self.held_back);
        }
        *self = LogBudget::default();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4)
}

/// Questions under way at the most; fewer where few files may be open.
const AT_ONCE: usize = 256;
/// However short `interval` is written.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Due times that are out of date and do no harm.
const SLACK: usize = 1024;
const IDLE: Duration = Duration::from_secs(60);
const LINES_PER_SECOND: usize = 50;
