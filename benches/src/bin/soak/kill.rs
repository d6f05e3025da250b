//! `soak kill`: kill -9 at any time, start again: serves as before.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use benches::{HOST, Result, edge, net};
use rustls::ClientConfig;

use crate::backend;
use crate::client::{Stream, get, tls_config};
use crate::outcome::Outcome;
use crate::pattern::Random;
use crate::process::{Edge, replace};

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    edge: PathBuf,
    #[arg(long, default_value_t = 30)]
    rounds: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let mut outcome = Outcome::new("kill -9 at any time")?;
    let [plain, tls, admin] = net::free_ports()?;
    let dir = tempfile::tempdir()?;
    let mut site = Site {
        binary: args.edge.clone(),
        dir: dir.path().to_owned(),
        plain,
        tls,
        admin,
        backend: backend::start("backend")?,
        state: 0,
        written: AtomicU64::new(0),
    };
    let mut random = Random::new(args.seed);
    let mut sum = Sum::default();
    for number in 1..=args.rounds {
        let plan = Plan::draw(number, &mut random);
        match site.round(plan, &mut random) {
            Ok(told) => {
                sum.good += 1;
                sum.early += told.early;
                sum.compared += u64::from(told.compared);
                sum.broken += u64::from(plan.file != FileState::Good);
                sum.slowest = sum.slowest.max(told.back_after);
            }
            Err(e) => outcome.note(format!("round {number} {plan:?}: {e}")),
        }
    }
    let rounds = args.rounds;
    outcome.require(
        format!("rounds that serve as before within 5 s (seed {})", args.seed),
        sum.good,
        rounds.to_string(),
        sum.good == rounds,
    );
    outcome.measured("of them with a config file that was broken by then", sum.broken);
    outcome.measured("starts killed before they were ready", sum.early);
    outcome.measured("rounds whose certificate was seen before, and the same after", sum.compared);
    outcome.measured("longest from start to ready", format!("{:.2?}", sum.slowest));
    Ok(outcome)
}

#[derive(Default)]
struct Sum {
    good: u64,
    broken: u64,
    early: u64,
    compared: u64,
    slowest: Duration,
}

/// What a round does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// The state directory is empty at first.
    fresh: bool,
    /// From ready to the kill.
    run: Duration,
    /// Starts that are killed this long after they began.
    early: Option<Duration>,
    file: FileState,
}

/// The config file at the start after the kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileState {
    Good,
    /// Cut in its middle.
    Cut,
    /// The route that serves has a bad entry.
    BadEntry,
}

impl Plan {
    fn draw(number: u64, random: &mut Random) -> Self {
        let fresh = number % 5 == 1;
        // What was accepted is stored a moment later: a broken file needs a state to fall back on.
        let file = match number % 3 {
            0 if !fresh && number.is_multiple_of(2) => FileState::Cut,
            0 if !fresh => FileState::BadEntry,
            _ => FileState::Good,
        };
        let early = (fresh || random.one_in(3)).then(|| Duration::from_millis(random.below(60)));
        Self { fresh, run: Duration::from_millis(random.below(1500)), early, file }
    }
}

/// What a round found.
struct Told {
    early: u64,
    compared: bool,
    back_after: Duration,
}

struct Site {
    binary: PathBuf,
    dir: PathBuf,
    plain: u16,
    tls: u16,
    admin: u16,
    backend: u16,
    /// Number of the state directory.
    state: u64,
    /// Number of the last edition in the file.
    written: AtomicU64,
}

impl Site {
    fn round(&mut self, plan: Plan, random: &mut Random) -> Result<Told> {
        if plan.fresh {
            self.state += 1;
        }
        self.write()?;
        let mut early = 0;
        if let Some(after) = plan.early {
            let mut edge = self.start()?;
            thread::sleep(after);
            edge.kill()?;
            early = 1;
        }
        let mut edge = self.start()?;
        edge.wait_ready(LIMIT)?;
        let seen = self.under_load(plan.run, random, || edge.kill())?;
        self.spoil(plan.file)?;

        let mut edge = self.start()?;
        let back_after = edge.wait_ready(LIMIT)?;
        let compared = self.serves_as_before(&edge, plan.file, &seen)?;
        self.write()?;
        self.wait_marker(self.written.load(Ordering::Relaxed))?;
        edge.kill()?;
        Ok(Told { early, compared, back_after })
    }

    /// Rewrites the config and asks for answers until `end` has been called after `time`.
    fn under_load(
        &self,
        time: Duration,
        random: &mut Random,
        end: impl FnOnce() -> Result<()>,
    ) -> Result<Seen> {
        let trusted = tls_config(&self.state_dir().join("internal/ca.pem")).ok();
        let stop = AtomicBool::new(false);
        let seen = Mutex::new(Seen::default());
        let mut pace = Random::new(random.next());
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    self.write()?;
                    thread::sleep(Duration::from_millis(20 + pace.below(250)));
                }
                Result::Ok(())
            });
            for config in [None, trusted.as_ref()] {
                let (stop, seen) = (&stop, &seen);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        // The edge may be gone at any time.
                        if let Ok(answer) = self.ask(config) {
                            seen.lock().unwrap_or_else(PoisonError::into_inner).add(answer);
                        }
                    }
                });
            }
            thread::sleep(time);
            let ended = end();
            seen.lock().unwrap_or_else(PoisonError::into_inner).killed = Some(Instant::now());
            stop.store(true, Ordering::Relaxed);
            let written = writer.join().unwrap_or_else(|_| Err("the writer panicked".into()));
            ended.and(written)
        })?;
        Ok(seen.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there was a certificate to compare with.
    fn serves_as_before(&self, edge: &Edge, file: FileState, seen: &Seen) -> Result<bool> {
        let written = self.written.load(Ordering::Relaxed);
        let trusted = tls_config(&self.state_dir().join("internal/ca.pem"))?;
        for config in [None, Some(&trusted)] {
            let Answer { marker, certificate } = self.ask(config)?;
            let least = if file == FileState::Good { written } else { seen.stored() };
            if !(least..=written).contains(&marker) {
                return Err(format!("edition {marker} serves, not {least} to {written}").into());
            }
            if let Some(other) = seen.certificates.iter().find(|c| certificate.as_ref() != Some(c))
                && config.is_some()
            {
                let now = certificate.map(|c| c.len());
                return Err(
                    format!("another certificate: {now:?} for {} bytes", other.len()).into()
                );
            }
        }
        let (head, body) = get(self.open(None)?, HOST, "/forward")?;
        if body != "backend\n" {
            return Err(format!("the backend is not reached: {}", head.text()).into());
        }
        let config = edge.admin("/api/v1/config")?;
        let source = if file == FileState::Cut { "last_good" } else { "file" };
        if config["source"] != source {
            return Err(format!("source is {}, not {source}", config["source"]).into());
        }
        if edge.admin("/readyz")?["admin"]["socket"].is_null() {
            return Err("the admin socket of the killed process is in the way".into());
        }
        Ok(!seen.certificates.is_empty())
    }

    fn wait_marker(&self, wanted: u64) -> Result<()> {
        let start = Instant::now();
        loop {
            let marker = self.ask(None)?.marker;
            if marker == wanted {
                return Ok(());
            }
            if start.elapsed() > LIMIT {
                return Err(format!("mended, but {marker} serves, not {wanted}").into());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn ask(&self, config: Option<&Arc<ClientConfig>>) -> Result<Answer> {
        let stream = self.open(config)?;
        let certificate = stream.certificate();
        let (head, body) = get(stream, HOST, "/")?;
        let marker = body.strip_prefix("edition ").and_then(|number| number.parse().ok());
        let marker = marker.ok_or_else(|| format!("answered: {}{body}", head.text()))?;
        Ok(Answer { marker, certificate })
    }

    fn open(&self, config: Option<&Arc<ClientConfig>>) -> Result<Stream> {
        let port = if config.is_some() { self.tls } else { self.plain };
        Stream::open(port, config, HOST, LIMIT)
    }

    fn start(&self) -> Result<Edge> {
        let argv = edge::argv(&self.binary, &self.file());
        Edge::spawn(&argv, self.admin, &self.dir.join("edge.log"))
    }

    /// The next edition.
    fn write(&self) -> Result<()> {
        let number = self.written.fetch_add(1, Ordering::Relaxed) + 1;
        replace(&self.file(), &self.text(number))
    }

    fn spoil(&self, state: FileState) -> Result<()> {
        let text = self.text(self.written.load(Ordering::Relaxed));
        match state {
            FileState::Good => Ok(()),
            FileState::Cut => {
                let cut = text.find("names: [").unwrap_or_default() + 12;
                Ok(fs::write(self.file(), text.get(..cut).unwrap_or_default())?)
            }
            FileState::BadEntry => replace(&self.file(), &text.replace("status: 200", "statsu: 1")),
        }
    }

    fn text(&self, number: u64) -> String {
        let Self { dir, plain, tls, admin, backend, .. } = self;
        format!(
            "version: 1\nstate_dir: {state}\nworkers: 2\n\
             admin: {{ listen: \"127.0.0.1:{admin}\", socket: {dir}/admin.sock }}\n\
             listeners:\n  plain: {{ bind: [\"127.0.0.1:{plain}\"] }}\n  \
             tls: {{ bind: [\"127.0.0.1:{tls}\"], tls: {{}} }}\n\
             issuers: {{ local: {{ internal: {{}} }} }}\n\
             certificates:\n  site: {{ names: [{HOST}], issuer: local }}\n\
             upstreams:\n  backend: {{ endpoints: [\"127.0.0.1:{backend}\"] }}\n\
             routes:\n  app:\n    hosts: [{HOST}]\n    \
             respond: {{ status: 200, body: \"edition {number}\" }}\n  \
             forward: {{ hosts: [{HOST}], path: /forward, upstream: backend }}\n",
            state = self.state_dir().display(),
            dir = dir.display(),
        )
    }

    fn file(&self) -> PathBuf {
        self.dir.join("edge.yaml")
    }

    fn state_dir(&self) -> PathBuf {
        Path::new(&self.dir).join(format!("state-{}", self.state))
    }
}

struct Answer {
    /// Number of the edition that serves.
    marker: u64,
    certificate: Option<Vec<u8>>,
}

/// What clients saw before the kill.
#[derive(Default)]
struct Seen {
    /// Each edition with when it was first seen.
    markers: Vec<(u64, Instant)>,
    certificates: Vec<Vec<u8>>,
    killed: Option<Instant>,
}

impl Seen {
    fn add(&mut self, answer: Answer) {
        if self.markers.last().is_none_or(|(last, _)| *last < answer.marker) {
            self.markers.push((answer.marker, Instant::now()));
        }
        if let Some(certificate) = answer.certificate
            && !self.certificates.contains(&certificate)
        {
            self.certificates.push(certificate);
        }
    }

    /// The newest edition that must have been stored: it served for a while before the kill.
    fn stored(&self) -> u64 {
        let Some(killed) = self.killed else { return 0 };
        let old = |at: &Instant| killed.saturating_duration_since(*at) > STORE;
        self.markers.iter().rev().find(|(_, at)| old(at)).map_or(0, |(marker, _)| *marker)
    }
}

const LIMIT: Duration = Duration::from_secs(5);
/// For writing down what was accepted.
const STORE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_served_for_a_while_must_be_stored() {
        let now = Instant::now();
        let ago = |ms| now.checked_sub(Duration::from_millis(ms)).unwrap();
        let mut seen = Seen::default();
        assert_eq!(seen.stored(), 0);
        seen.markers = vec![(3, ago(2000)), (4, ago(700)), (6, ago(20))];
        seen.killed = Some(now);
        assert_eq!(seen.stored(), 4);
    }

    #[test]
    fn thirty_rounds_have_every_kind() {
        let mut random = Random::new(1);
        let plans: Vec<Plan> = (1..=30).map(|n| Plan::draw(n, &mut random)).collect();
        for state in [FileState::Good, FileState::Cut, FileState::BadEntry] {
            assert!(plans.iter().filter(|p| p.file == state).count() >= 3, "{state:?}");
        }
        assert!(plans.iter().any(|p| p.fresh && p.early.is_some()));
        assert!(plans.iter().all(|p| !p.fresh || p.file == FileState::Good));
    }
}
