//! The slow plane, one thread: config file, certificates, DNS, signals; admin runs here too. The
//! only place that publishes snapshots and certificates, and nothing in it can disturb traffic: a
//! refused file changes nothing, a slow disk or resolver is waited for elsewhere.

mod certificate_metrics;
pub mod certs;
mod changes;
pub mod command;
mod endpoint_states;
mod files;
pub mod gather;
mod gone;
pub mod health;
mod laps;
pub mod last_good;
mod manager;
mod operate;
mod publish;
mod random;
pub mod reload;
pub mod resolve;
pub mod shifts;
mod signals;
pub mod status;
pub mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::error::Diagnostic;
use config::merge::Accepted;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::clock;
use crate::server::notify::Notifier;
use crate::server::watchdog::Watchdog;
use crate::state::Shared;
use crate::upstream::transport::Transport;
use crate::wording::counted;
use crate::worker::Worker;
use certs::{CertKeeper, Problem, Report};
use gather::Gather;
use health::Checker;
use laps::Laps;
use last_good::LastGood;
use reload::{Decision, Reading, ReloadOutcome};
use resolve::Resolver;
use status::Status;
use watch::{Change, Digest, Watch};

pub use publish::Publisher;
pub use signals::{Signal, Signals};

/// Everything that the control thread owns.
pub struct Control {
    pub shared: Arc<Shared>,
    pub status: Arc<Status>,
    pub file: PathBuf,
    pub watch: Watch,
    pub accepted: Arc<Accepted>,
    pub publisher: Publisher,
    pub certs: CertKeeper,
    pub resolver: Resolver,
    pub checker: Checker,
    pub gather: Gather,
    pub last_good: LastGood,
    pub signals: Signals,
    pub commands: command::Inbox,
    pub workers: Vec<Worker>,
    pub notifier: Notifier,
    pub watchdog: Watchdog,
    pub problems: Vec<Problem>,
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Drained, at once or at the deadline.
    Drained,
    /// A worker ended by itself: a bug. Traffic was drained.
    WorkerLost,
}

/// The way out.
struct Leaving {
    end: End,
    /// Process milliseconds: connections are cut.
    deadline: u64,
    /// Process milliseconds: workers that have not ended by then are left behind.
    give_up: Option<u64>,
}

impl Control {
    /// Runs until the process has drained.
    pub async fn run(mut self) -> End {
        let mut tick = ticks(Duration::from_secs(1));
        let mut renew = ticks(RENEW);
        loop {
            tokio::select! {
                signal = self.signals.next() => match signal {
                    Signal::Reload => self.reload("SIGHUP").await,
                    Signal::End => return self.leave(End::Drained).await,
                },
                change = self.watch.changed() => self.changed(change).await,
                Some(report) = self.certs.report() => self.certified(report),
                answer = self.resolver.answer() => {
                    self.resolver.take(answer).into_iter().for_each(|name| self.gather.add(name));
                }
                () = self.gather.due() => self.update_endpoints(),
                () = self.checker.run() => {}
                event = self.commands.next(self.publisher.shifts.next_end()) => self.obey(event),
                () = self.watchdog.due() => self.tell_life(),
                _ = renew.tick() => self.certs.submit(certs::wanted(&self.accepted)),
                _ = tick.tick() => {
                    self.publisher.sweep();
                    self.sweep_drains();
                    self.publisher.count_endpoints();
                    self.checker.tick();
                    self.status.names.store(Arc::new(self.resolver.state()));
                    self.publisher
                        .recount_certificates(&self.accepted, || self.certs.acme().view());
                    if self.workers.iter().any(Worker::is_finished) {
                        tracing::error!("a worker has ended by itself; draining the others");
                        return self.leave(End::WorkerLost).await;
                    }
                }
            }
        }
    }

    /// Gives DNS this long to say where the first table's endpoints are.
    pub async fn first_names(&mut self, limit: Duration) {
        for name in self.resolver.first_answers(limit).await {
            self.gather.add(name);
        }
        self.update_endpoints();
    }

    async fn changed(&mut self, change: Change) {
        if change.config {
            self.reload("file changed").await;
        } else if change.others {
            self.reload("a certificate or a referenced file changed").await;
        }
    }

    /// Gives upstreams the endpoints that their names lead to now.
    fn update_endpoints(&mut self) {
        let (publisher, resolver) = (&mut self.publisher, &self.resolver);
        for upstream in self.gather.rebuild(|names| publisher.update_endpoints(resolver, names)) {
            self.checker.set_endpoints(&upstream);
        }
    }

    /// Reads the file and applies what it says. What is refused is logged, counted and shown by
    /// the admin server; what serves goes on serving.
    async fn reload(&mut self, why: &str) {
        self.notifier.reloading();
        let mut laps = Laps::start();
        let reading = reload::read(&self.file);
        let Reading { hash, files, result, .. } = reading;
        laps.lap("read");
        let decision = reload::decide(&self.accepted, result);
        laps.lap("compare");
        let outcome = match decision {
            Decision::Reject(errors) => {
                self.watch_files(files);
                // Certificates are renewed whatever state the config file is in.
                self.certify().await;
                reject(why, &self.file.display().to_string(), &errors);
                ReloadOutcome::Rejected { errors }
            }
            Decision::Unchanged(accepted) => {
                self.accepted = Arc::new(accepted);
                self.watch_files(files);
                self.certify().await;
                if self.publisher.transports_changed(&self.accepted) {
                    self.publisher.publish(&self.accepted, &mut self.resolver, &mut self.checker);
                    tracing::info!("{why}: endpoints are spoken to by the new TLS files");
                } else {
                    tracing::info!("{why}: what the file says serves already");
                }
                ReloadOutcome::Unchanged
            }
            Decision::Apply(accepted, changes) => {
                let outcome = outcome(&accepted);
                let more = certs::needs_more(&self.accepted, &accepted);
                self.accepted = Arc::new(accepted);
                self.watch_files(files);
                if more {
                    // A new host has its certificate before it has its route.
                    self.certify().await;
                    laps.lap("certificates");
                }
                let generation =
                    self.publisher.publish(&self.accepted, &mut self.resolver, &mut self.checker);
                laps.lap("publish");
                if !more {
                    self.certs.submit(certs::wanted(&self.accepted));
                }
                self.last_good.keep(&self.accepted);
                let changed = reload::summary(&changes);
                tracing::info!(
                    generation,
                    outcome = outcome.label(),
                    took = %laps,
                    "{why}: configuration applied: {changed}"
                );
                tell_quarantined(&self.accepted);
                outcome
            }
        };
        self.note(&outcome, hash);
        self.tell_ready();
    }

    /// Brings certificates to what is configured; goes on after [`CERTIFY`] in any case.
    async fn certify(&mut self) {
        self.certs.submit(certs::wanted(&self.accepted));
        if let Some(report) = self.certs.settled(CERTIFY).await {
            self.certified(report);
        }
    }

    pub(crate) fn certified(&mut self, report: Report) {
        let Report { problems, .. } = report;
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::warn!("certificate {}: {}", problem.certificate, problem.message);
        }
        self.publisher.count_certificates(&self.accepted, &self.certs.acme().view());
        self.publisher.count_objects(&self.accepted, &problems);
        self.problems.clone_from(&problems);
        self.status.update_config(|config| config.certificate_problems = problems);
        self.status.set_certificates_loaded();
    }

    /// Watches the config file, what it refers to, and the files of certificates that serve.
    fn watch_files(&mut self, read: BTreeMap<PathBuf, Option<Digest>>) {
        let own = certs::files(&self.accepted).flat_map(|pair| [pair.chain, pair.key]);
        let upstreams = self.accepted.upstreams.values();
        let endpoints = upstreams.flat_map(|entry| Transport::files(&entry.value));
        self.watch.set_others(read, own.chain(endpoints));
    }

    fn note(&self, outcome: &ReloadOutcome, hash: String) {
        note(&self.shared, &self.status, outcome, hash, Some(&self.accepted));
        self.show_shifts();
        self.publisher.count_objects(&self.accepted, &self.problems);
    }

    /// Drains; a second signal or the deadline cuts what is left.
    async fn leave(mut self, end: End) -> End {
        let deadline = self.accepted.global.drain.deadline;
        let text = format!("draining: up to {} s for what is under way", deadline.as_secs_f32());
        tracing::info!("{text}");
        self.notifier.stopping(deadline + Duration::from_millis(GIVE_UP_MS) + LAST_BOOKS, &text);
        self.shared.drain.begin();
        // Another process may order from now on.
        self.certs.acme().release();
        let mut leaving =
            Leaving { end, deadline: clock::process_ms() + millis(deadline), give_up: None };
        let mut tick = ticks(Duration::from_millis(10));
        loop {
            tokio::select! {
                signal = self.signals.next() => if signal == Signal::End {
                    self.cut(&mut leaving, "a second signal came");
                },
                // Requests of open connections still need to know where endpoints are.
                answer = self.resolver.answer() => {
                    self.resolver.take(answer).into_iter().for_each(|name| self.gather.add(name));
                }
                () = self.gather.due() => self.update_endpoints(),
                () = self.checker.run() => {}
                () = self.watchdog.due() => self.tell_life(),
                _ = tick.tick() => {}
            }
            let now = clock::process_ms();
            if self.workers.iter().all(Worker::is_finished) {
                break;
            }
            if now >= leaving.deadline {
                self.cut(&mut leaving, "the deadline has passed");
            }
            if leaving.give_up.is_some_and(|at| now >= at) {
                tracing::warn!("a worker does not end; leaving it behind");
                break;
            }
        }
        let lost = self.workers.into_iter().filter(Worker::is_finished);
        let panicked = lost.map(Worker::join).any(|joined| joined.is_err());
        self.last_good.finish(Duration::from_secs(1));
        if panicked { End::WorkerLost } else { leaving.end }
    }

    fn cut(&self, leaving: &mut Leaving, why: &str) {
        if leaving.give_up.is_none() {
            tracing::info!("{why}: ending what is left");
            self.shared.drain.force();
            leaving.give_up = Some(clock::process_ms() + GIVE_UP_MS);
        }
    }
}

/// What a configuration that serves is called.
pub fn outcome(accepted: &Accepted) -> ReloadOutcome {
    match accepted.quarantined.len() {
        0 => ReloadOutcome::Applied,
        quarantined => ReloadOutcome::Partial { quarantined },
    }
}

/// Counts a reading and shows it to the admin API.
pub fn note(
    shared: &Shared,
    status: &Status,
    outcome: &ReloadOutcome,
    hash: String,
    accepted: Option<&Arc<Accepted>>,
) {
    let metrics = &shared.metrics;
    let now = clock::unix_ms();
    metrics.config_reloads.with_label_values(&[outcome.label()]).inc();
    let rejected = matches!(outcome, ReloadOutcome::Rejected { .. });
    metrics.config_last_reload_successful.set(i64::from(!rejected));
    status.update_config(|config| {
        config.outcome = outcome.label();
        config.read_at = now;
        config.generation = shared.snapshot.load().generation;
        config.accepted = accepted.cloned();
        config.errors = match outcome {
            ReloadOutcome::Rejected { errors } => errors.clone(),
            _ => Vec::new(),
        };
        if !rejected {
            config.source = "file";
            config.hash = hash;
            config.loaded_at = now;
        }
    });
    if !rejected {
        let seconds = i64::try_from(now / 1000).unwrap_or(i64::MAX);
        metrics.config_last_reload_success_timestamp_seconds.set(seconds);
        metrics.config_info.reset();
        metrics.config_info.with_label_values(&[&status.config.load().hash]).set(1);
    }
}

/// One line per error, at most `LOGGED_ERRORS`.
pub fn reject(why: &str, file: &str, errors: &[Diagnostic]) {
    let count = counted(errors.len(), "error", "errors");
    tracing::error!("{why}: {file} is refused, {count}; nothing changes");
    for error in errors.iter().take(LOGGED_ERRORS) {
        tracing::error!("{file}:{error}");
    }
}

/// One line per quarantined entry and its first reason.
pub fn tell_quarantined(accepted: &Accepted) {
    for bad in accepted.quarantined.iter().take(LOGGED_ERRORS) {
        let serves = if bad.former_serves { "its former version serves" } else { "nothing serves" };
        let reason = bad.reasons.first().map(ToString::to_string).unwrap_or_default();
        let (kind, name) = (reload::word(bad.kind), &bad.name);
        // What is not of the configuration file, the registry of tenants, has no line in it.
        let place = if bad.line == 0 { String::new() } else { format!(" (line {})", bad.line) };
        tracing::warn!("{kind} {name}{place} is quarantined, {serves}: {reason}");
    }
    if let more @ 1.. = accepted.quarantined.len().saturating_sub(LOGGED_ERRORS) {
        let more = counted(more, "more entry is", "more entries are");
        tracing::warn!("{more} quarantined");
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

/// A reload waits for certificates for this long.
const CERTIFY: Duration = Duration::from_millis(500);
/// Between two looks at what the internal issuer has to renew.
const RENEW: Duration = Duration::from_secs(3600);
/// After everything was cut, workers only have to close.
const GIVE_UP_MS: u64 = 2_000;
/// For what was accepted last and the log, once workers have ended.
const LAST_BOOKS: Duration = Duration::from_secs(5);
const LOGGED_ERRORS: usize = 20;
