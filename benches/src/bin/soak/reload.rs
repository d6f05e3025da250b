//! `soak reload`: the config is rewritten a thousand times under load, and nobody notices.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use benches::edge::{self, Identity, Ports};
use benches::generators::{self, Said};
use benches::{HOST, Result, net};

use crate::backend;
use crate::churn::{Base, Churn, Edition, Kind, hash};
use crate::client::tls_config;
use crate::outcome::Outcome;
use crate::pattern::Random;
use crate::process::{Edge, overwrite_in_halves, replace};
use crate::streams::{Streams, Tally, Target};

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    edge: PathBuf,
    #[arg(long, default_value_t = 1000)]
    rewrites: u64,
    /// WebSockets, and as many event streams
    #[arg(long, default_value_t = 200)]
    streams: usize,
    /// Half-written files while the edge makes its own look at the file, which is every 2 s
    #[arg(long, default_value_t = 10)]
    poll_races: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let mut outcome = Outcome::new("Rewrites of the config under load")?;
    let dir = tempfile::tempdir()?;
    let [plain, tls, admin] = net::free_ports()?;
    // Directories of their own: the watcher must see no other file change.
    for own in ["config", "certs"] {
        fs::create_dir(dir.path().join(own))?;
    }
    let identity = Identity::make(&dir.path().join("certs"))?;
    let trusted = tls_config(&identity.chain)?;
    let base = Base {
        dir: dir.path().to_owned(),
        ports: Ports { plain, tls, admin },
        identity,
        backend: backend::start("backend")?,
    };
    let mut churn = Churn::new(base, args.seed);
    let file = dir.path().join("config/edge.yaml");
    fs::write(&file, churn.edition(Kind::Good).text)?;
    let mut edge =
        Edge::spawn(&edge::argv(&args.edge, &file), admin, &dir.path().join("edge.log"))?;
    edge.wait_ready(READY)?;

    let targets = [Target { port: plain, tls: None }, Target { port: tls, tls: Some(trusted) }];
    let streams = Streams::open(&targets, args.streams)?;
    let load = Load::start(plain, tls)?;
    thread::sleep(SETTLE);
    let before = edge.rss_kib();
    let first = generation(&edge)?;
    let mut writer = Writer::new(&edge, &file, args.seed);
    writer.run(&mut churn, args)?;
    let last = churn.edition(Kind::Good);
    writer.write(&last)?;
    let reflected = reflected(&edge, &last)?;
    let ended_early = streams.ended();
    thread::sleep(SETTLE);
    let after = edge.rss_kib();
    let generations = generation(&edge)?.saturating_sub(first);
    let told = load.finish();
    let tally = streams.finish();

    writer.report(&mut outcome, args);
    outcome.measured("generations", generations);
    outcome.require("the last file is what serves", reflected.clone(), "yes", reflected == "yes");
    report_load(&mut outcome, &told);
    report_streams(&mut outcome, &tally, args.streams as u64, ended_early);
    let limit = (before * 6 / 5).max(before + 16 * 1024);
    outcome.require(
        "RSS after warm-up → after the last rewrite, under load, MiB",
        format!("{} → {}", before / 1024, after / 1024),
        format!("≤ {}", limit / 1024),
        after <= limit,
    );
    outcome.measured("most RSS, MiB", edge.peak_kib() / 1024);
    if !outcome.met() {
        outcome.note(edge.log_tail());
    }
    let stopped = edge.stop();
    let text = stopped.as_ref().map_or_else(ToString::to_string, |t| format!("{t:.1?}"));
    outcome.require("SIGTERM at the end", text, "exit code 0", stopped.is_ok());
    Ok(outcome)
}

/// Rewrites the file, and waits until the edge has seen it: what it has not seen, it was not
/// disturbed by.
struct Writer<'a> {
    edge: &'a Edge,
    file: &'a Path,
    random: Random,
    renamed: u64,
    halves: u64,
    kinds: BTreeMap<&'static str, u64>,
    unnoticed: u64,
    /// A half-written file was taken for a whole one.
    halves_applied: Vec<String>,
    slowest: Duration,
}

impl<'a> Writer<'a> {
    fn new(edge: &'a Edge, file: &'a Path, seed: u64) -> Self {
        Self {
            edge,
            file,
            random: Random::new(seed ^ 0xfeed),
            renamed: 0,
            halves: 0,
            kinds: BTreeMap::new(),
            unnoticed: 0,
            halves_applied: Vec::new(),
            slowest: Duration::ZERO,
        }
    }

    fn run(&mut self, churn: &mut Churn, args: &Args) -> Result<()> {
        let race_every = args.rewrites.checked_div(args.poll_races).unwrap_or(u64::MAX).max(1);
        for number in 1..=args.rewrites {
            if number % race_every == 0 {
                let edition = churn.edition(Kind::Good);
                self.race_the_poll(&edition)?;
                continue;
            }
            let edition = churn.next();
            if self.random.one_in(20) {
                let pause = Duration::from_millis(self.random.below(60));
                let cut = self.random.index(edition.text.len());
                self.write_halves(&edition, cut, pause)?;
            } else {
                self.write(&edition)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, edition: &Edition) -> Result<()> {
        replace(self.file, &edition.text)?;
        self.renamed += 1;
        self.seen(edition)
    }

    fn write_halves(&mut self, edition: &Edition, cut: usize, pause: Duration) -> Result<()> {
        let half = edition.text.get(..cut).map(hash).unwrap_or_default();
        overwrite_in_halves(self.file, &edition.text, cut, pause)?;
        self.halves += 1;
        if self.config_hash()? == half {
            let lines = edition.text.get(..cut).unwrap_or_default().lines().count();
            self.halves_applied.push(format!("cut after line {lines}, pause {pause:?}"));
        }
        self.seen(edition)
    }

    /// Halves that meet the edge's own look at the file, which comes 2 s after its last one; the
    /// first half is a valid file without the route that stays.
    fn race_the_poll(&mut self, edition: &Edition) -> Result<()> {
        // A burst of events ends with a comparison too, so this is the last one.
        let read_at = self.edge.admin("/api/v1/config")?["read_at"].clone();
        replace(self.file, &format!("{}# touched\n", fs::read_to_string(self.file)?))?;
        let start = Instant::now();
        while self.edge.admin("/api/v1/config")?["read_at"] == read_at {
            if start.elapsed() > NOTICE {
                self.unnoticed += 1;
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        thread::sleep(POLL.saturating_sub(RACE_PAUSE / 2));
        let cut = edition.text.rfind("\n  app: ").map_or(0, |at| at + 1);
        self.write_halves(edition, cut, RACE_PAUSE)
    }

    fn seen(&mut self, edition: &Edition) -> Result<()> {
        let kind = match edition.kind {
            Kind::Good => "good",
            Kind::Quarantine => "with a bad entry",
            Kind::Broken => "broken",
        };
        *self.kinds.entry(kind).or_default() += 1;
        let wanted = hash(&edition.text);
        let start = Instant::now();
        loop {
            let config = self.edge.admin("/api/v1/config")?;
            let seen = match edition.kind {
                Kind::Broken => config["outcome"] == "rejected",
                _ => config["hash"] == wanted.as_str(),
            };
            if seen {
                self.slowest = self.slowest.max(start.elapsed());
                return Ok(());
            }
            if start.elapsed() > NOTICE {
                self.unnoticed += 1;
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn config_hash(&self) -> Result<String> {
        let config = self.edge.admin("/api/v1/config")?;
        Ok(config["hash"].as_str().unwrap_or_default().to_owned())
    }

    fn report(&self, outcome: &mut Outcome, args: &Args) {
        let kinds: Vec<String> = self.kinds.iter().map(|(k, n)| format!("{n} {k}")).collect();
        let halves = self.halves;
        outcome.measured(
            format!("rewrites (seed {})", args.seed),
            format!(
                "{} renamed, {halves} in place in two halves: {}",
                self.renamed,
                kinds.join(", ")
            ),
        );
        outcome.measured("longest until one was seen", format!("{:.0?}", self.slowest));
        outcome.require_none("rewrites that were not seen within 5 s", self.unnoticed);
        outcome.require_none(
            format!("half-written files taken for whole, of {halves}"),
            self.halves_applied.len() as u64,
        );
        if !self.halves_applied.is_empty() {
            outcome.note(format!("halves applied:\n{}", self.halves_applied.join("\n")));
        }
    }
}

/// wrk and h2load, one after the other, each in segments of new connections.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<(&'static str, JoinHandle<Result<Total>>)>,
}

#[derive(Default)]
struct Total {
    segments: u64,
    requests: u64,
    errors: u64,
    text: Option<String>,
    p99_us: f64,
}

type Parse = fn(&str) -> Option<Said>;

impl Load {
    fn start(plain: u16, tls: u16) -> Result<Self> {
        let wrk = |url: String| {
            let args = ["wrk", "-t1", "-c16", "-d10s", "--latency", "--timeout", "10s"];
            let mut argv: Vec<String> = args.map(str::to_owned).to_vec();
            argv.extend([format!("-HHost: {HOST}"), url]);
            argv
        };
        let mut h2: Vec<String> =
            ["h2load", "-t1", "-c8", "-m10", "-D", "10"].map(str::to_owned).to_vec();
        h2.extend([format!("--connect-to=127.0.0.1:{tls}"), format!("https://{HOST}/")]);
        let jobs: [(&str, Vec<String>, Parse); 3] = [
            ("wrk, h1 plain", wrk(format!("http://127.0.0.1:{plain}/")), generators::wrk),
            ("wrk, h1 TLS", wrk(format!("https://127.0.0.1:{tls}/")), generators::wrk),
            ("h2load, h2 TLS", h2, generators::h2load),
        ];
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (name, argv, parse) in jobs {
            let stop = stop.clone();
            threads.push((name, backend::spawn(move || segments(&argv, parse, &stop))?));
        }
        Ok(Self { stop, threads })
    }

    fn finish(self) -> Vec<(&'static str, Result<Total>)> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |thread: JoinHandle<Result<Total>>| {
            thread.join().unwrap_or_else(|_| Err("the thread panicked".into()))
        };
        self.threads.into_iter().map(|(name, thread)| (name, join(thread))).collect()
    }
}

fn segments(argv: &[String], parse: Parse, stop: &AtomicBool) -> Result<Total> {
    let mut total = Total::default();
    while !stop.load(Ordering::Relaxed) {
        let printed = generators::output_of(argv, None, Duration::from_secs(40))?;
        let said = parse(&printed).ok_or_else(|| format!("printed: {}", printed.trim()))?;
        total.segments += 1;
        total.requests += said.requests;
        total.errors += said.errors;
        total.text = total.text.or(said.error_text);
        total.p99_us = total.p99_us.max(said.p99_us.unwrap_or_default());
    }
    Ok(total)
}

fn report_load(outcome: &mut Outcome, told: &[(&str, Result<Total>)]) {
    for (name, total) in told {
        match total {
            Ok(total) => {
                let Total { segments, requests, errors, text, p99_us } = total;
                let p99 = if *p99_us > 0.0 {
                    format!(", worst p99 {:.0} ms", p99_us / 1e3)
                } else {
                    String::new()
                };
                outcome.require(
                    format!("{name}: failed requests"),
                    format!("{errors} of {requests} ({segments} segments{p99})"),
                    "0",
                    *errors == 0 && *requests > 0,
                );
                if let Some(text) = text {
                    outcome.note(format!("{name}: {text}"));
                }
            }
            Err(e) => outcome.require(*name, e, "runs", false),
        }
    }
}

fn report_streams(outcome: &mut Outcome, tally: &Tally, each: u64, ended_early: usize) {
    for (what, count) in [("WebSockets", tally.websockets), ("event streams", tally.events)] {
        outcome.require(
            format!("{what} open from start to end, nothing lost"),
            count,
            each.to_string(),
            count == each,
        );
    }
    outcome.measured(
        "messages on them",
        format!("{}, longest wait {:.1?}", tally.messages, tally.slowest),
    );
    if !tally.failures.is_empty() {
        let some: Vec<&str> = tally.failures.iter().take(10).map(String::as_str).collect();
        let (lost, some) = (tally.failures.len(), some.join("\n"));
        outcome.note(format!("{lost} streams lost, {ended_early} before the end:\n{some}"));
    }
}

/// `yes`, or what differs.
fn reflected(edge: &Edge, last: &Edition) -> Result<String> {
    let config = edge.admin("/api/v1/config")?;
    let routes = edge.admin("/api/v1/routes")?;
    let listed = routes["routes"].as_array().into_iter().flatten();
    let mut names: Vec<String> =
        listed.filter_map(|route| Some(route["name"].as_str()?.to_owned())).collect();
    names.sort();
    if config["hash"] != hash(&last.text).as_str() {
        return Ok(format!("no: hash {}, outcome {}", config["hash"], config["outcome"]));
    }
    if names != last.routes {
        return Ok(format!("no: {} routes, {} in the file", names.len(), last.routes.len()));
    }
    Ok("yes".to_owned())
}

fn generation(edge: &Edge) -> Result<u64> {
    Ok(edge.admin("/readyz")?["generation"].as_u64().ok_or("no generation")?)
}

const READY: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(10);
const NOTICE: Duration = Duration::from_secs(5);
/// Of the edge's watch.
const POLL: Duration = Duration::from_secs(2);
const RACE_PAUSE: Duration = Duration::from_millis(70);
