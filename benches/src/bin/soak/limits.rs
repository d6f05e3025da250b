//! `soak limits`: rate limits as the platform's token proxy has them. What passes of one key is what
//! its quota says, to the request; and a flood of addresses and credentials neither fills memory nor
//! locks out who is known.

use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use benches::report::number;
use benches::{HOST, Result};
use serde_json::Value;

use crate::backend::spawn;
use crate::caller::{Caller, Counting, Tally, paced};
use crate::flood::{Answers, Flood, Sources};
use crate::outcome::Outcome;
use crate::process::Edge;
use crate::stand::Stand;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    edge: PathBuf,
    /// Length of the exact count
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Of the flood, at least: it lasts until the customers have come back
    #[arg(long, default_value_t = 10_000_000)]
    credentials: u64,
    /// IPv6 /64s that most of them come from
    #[arg(long, default_value_t = 1_000_000)]
    addresses: u64,
    /// Seconds that the customers are away
    #[arg(long, default_value_t = 60)]
    idle: u64,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let mut outcome = Outcome::new("Rate limits: an exact count, and a flood")?;
    exact(args, &mut outcome)?;
    flood(args, &mut outcome)?;
    Ok(outcome)
}

/// Of the limit by credential.
const RATE: u64 = 10;
const BURST: u64 = 20;

fn start(binary: &Path, dir: &tempfile::TempDir, action: &str) -> Result<Stand> {
    let entries = format!(
        "trusted_proxies: [127.0.0.0/8]\n{action}\n    rate_limits:\n      \
         - {{ key: client_ip, rate: 50/s, burst: 100 }}\n      \
         - {{ name: credential, key: \"header:authorization\", rate: {RATE}/s, burst: {BURST}, \
         concurrent: 8 }}\n"
    );
    Stand::start(binary, dir, &entries, &[])
}

/// One key under much more than its quota, on both workers, while others keep to theirs.
fn exact(args: &Args, outcome: &mut Outcome) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let backend = Counting::start()?;
    let action = format!(
        "upstreams:\n  app: {{ endpoints: [\"127.0.0.1:{}\"] }}\n\
         routes:\n  app:\n    hosts: [{HOST}]\n    upstream: app",
        backend.port
    );
    let stand = start(&args.edge, &dir, &action)?;
    let port = stand.plain;
    let stop = Arc::new(AtomicBool::new(false));
    let others = (1..=OTHERS).map(|n| {
        Patron { port, address: v4(100 + n), credential: format!("other-{n}") }
            .calls(OTHER_PAUSE, &stop)
    });
    let others = others.collect::<Result<Vec<_>>>()?;
    let window = Arc::new(Window::new());
    let one = |connection| {
        let (stop, window) = (stop.clone(), window.clone());
        Ok(spawn(move || beyond_quota(port, connection, &stop, &window))?)
    };
    let eager = (0..CONNECTIONS).map(one).collect::<Result<Vec<_>>>()?;
    thread::sleep(Duration::from_secs(args.seconds));
    stop.store(true, Ordering::Relaxed);
    let (eager, mut others) = (joined(eager)?, joined(others)?);

    let length = window.length();
    let offered = eager.sent as f64 / length;
    let least = (CONNECTIONS * PER_CONNECTION * 9 / 10) as f64;
    let what = format!("requests offered per second with one key, over {CONNECTIONS} connections");
    outcome.require(what, number(offered), format!("≥ {least}"), offered >= least);
    let expected = (BURST as f64 + (length * RATE as f64).floor()) as u64;
    let arrived = backend.arrived(KEY);
    let off = (arrived as f64 - expected as f64) / expected as f64 * 100.0;
    outcome.require(
        format!("of {} requests in {length:.3} s, arrived at the backend", eager.sent),
        format!("{arrived}: {off:+.2} % of {expected}"),
        format!("{BURST} + ⌊{RATE}/s × time⌋ within 1 %"),
        off.abs() <= 1.0,
    );
    outcome.require_none("of those, not seen by the client as 200", arrived.abs_diff(eager.passed));
    outcome.require_none("refusals without Retry-After", eager.silent);
    outcome.require_none("other answers, and none", eager.failed + others.failed);
    let what = format!("of {} requests with {OTHERS} other keys, refused", others.sent);
    outcome.require_none(what, others.refused);
    let most = others.latency(0.99);
    outcome.measured("p99 of the other keys, ms", format!("{most:.1}"));
    let busy = stand.edge.worker_ns();
    let least = busy.iter().sum::<u64>() / 10;
    let shared = busy.len() == 2 && busy.iter().all(|ns| *ns > least);
    let shares = busy.iter().map(|ns| format!("{:.2}", *ns as f64 / 1e9)).collect::<Vec<_>>();
    outcome.require("CPU of the workers, s", shares.join(", "), "each ≥ 10 %", shared);
    outcome.note(format!("limits after the count:\n{}", limits(&stand.edge)?));
    if let Some(told) = eager.told.or(others.told) {
        outcome.note(told);
    }
    stand.finish(outcome);
    Ok(())
}

/// From many addresses, so that only the limit by credential counts.
fn beyond_quota(port: u16, connection: u64, stop: &AtomicBool, window: &Window) -> Tally {
    let (mut caller, mut tally) = (Caller::new(port), Tally::default());
    paced(Duration::from_micros(1_000_000 / PER_CONNECTION), |number| {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        let address = v4(1 + (number + connection * 8) % 64);
        window.note();
        caller.ask(address, KEY, &mut tally);
        window.note();
        true
    });
    tally
}

/// From the first request to the last.
struct Window {
    start: Instant,
    /// Microseconds after `start`.
    first: AtomicU64,
    last: AtomicU64,
}

impl Window {
    fn new() -> Self {
        let (first, last) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
        Self { start: Instant::now(), first, last }
    }

    fn note(&self) {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.first.fetch_min(now, Ordering::Relaxed);
        self.last.fetch_max(now, Ordering::Relaxed);
    }

    /// Seconds.
    fn length(&self) -> f64 {
        let [first, last] = [&self.first, &self.last].map(|at| at.load(Ordering::Relaxed));
        last.saturating_sub(first) as f64 / 1e6
    }
}

/// Patrons and customers keep to their quotas; the flood keeps to nothing.
fn flood(args: &Args, outcome: &mut Outcome) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let action = format!("routes:\n  app:\n    hosts: [{HOST}]\n    respond: {{ status: 200 }}");
    let stand = start(&args.edge, &dir, &action)?;
    let (edge, port) = (&stand.edge, stand.plain);
    let stop = Arc::new(AtomicBool::new(false));
    let patrons = (1..=PATRONS).map(|n| {
        Patron { port, address: v4(200 + n), credential: format!("patron-{n}") }
            .calls(PATRON_PAUSE, &stop)
    });
    let patrons = patrons.collect::<Result<Vec<_>>>()?;
    // Everything that serves is in place before memory is looked at.
    let warm = Flood::start(port, Sources { many: 1, few: 1, connections: FLOOD_CONNECTIONS }, 1)?;
    let known = customers(port, |n| v4(1 + n), Duration::ZERO, KNOWN_FOR)?;
    let known = joined(known)?;
    let warmed = warm.finish()?;
    let gone = Instant::now();
    thread::sleep(Duration::from_secs(2));
    let before = edge.rss_kib();
    edge.reset_peak()?;

    let (many, connections) = (args.addresses, FLOOD_CONNECTIONS);
    let flood = Flood::start(port, Sources { many, few: FEW, connections }, 2)?;
    let start = Instant::now();
    let back = Duration::from_secs(args.idle).saturating_sub(gone.elapsed());
    let back = customers(port, elsewhere, back, BACK_FOR)?;
    while flood.is_running()
        && start.elapsed() < LONGEST
        && (flood.answers().all() < args.credentials || back.iter().any(|t| !t.is_finished()))
    {
        thread::sleep(Duration::from_millis(200));
    }
    let took = start.elapsed();
    let seen = limits(edge)?;
    let peak = edge.peak_kib();
    let answers = flood.finish()?;
    let back = joined(back)?;
    thread::sleep(Duration::from_secs(3));
    stop.store(true, Ordering::Relaxed);
    let patrons = joined(patrons)?;

    report_flood(args, outcome, answers, took);
    report_memory(outcome, before, peak, edge.rss_kib());
    report_known(outcome, patrons, known, back);
    outcome.measured("requests before memory was looked at", warmed.all());
    outcome.note(format!("limits at the end of the flood:\n{seen}"));
    outcome.note(format!("limits 3 s later:\n{}", limits(edge)?));
    stand.finish(outcome);
    Ok(())
}

fn report_flood(args: &Args, outcome: &mut Outcome, answers: Answers, took: Duration) {
    let (sent, least) = (answers.all(), args.credentials);
    let met = sent >= least;
    outcome.require("flood: random credentials", sent, format!("≥ {least}"), met);
    let used = sent / 4 * 3;
    let what = "of these from as many IPv6 /64s, each in a /48 of its own";
    let criterion = format!("requests ≥ {}", args.addresses);
    outcome.require(what, args.addresses, criterion, used >= args.addresses);
    outcome.measured("and from the /64s of one more /48", FEW);
    let rate = number(sent as f64 / took.as_secs_f64());
    outcome.measured("time, and requests/s", format!("{:.0} s, {rate}", took.as_secs_f64()));
    let Answers { passed, refused, other } = answers;
    outcome.measured("answers 200, 429", format!("{passed}, {refused}"));
    outcome.require("the flood meets a limit", refused, "> 0", refused > 0);
    outcome.require_none("other answers", other);
}

fn report_memory(outcome: &mut Outcome, before: u64, peak: u64, after: u64) {
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    outcome.require(
        "RSS before → most during the flood → 3 s after, MiB",
        format!("{} → {} → {}", mib(before), mib(peak), mib(after)),
        "grows by less than 32",
        peak.saturating_sub(before) < 32 * 1024,
    );
}

fn report_known(outcome: &mut Outcome, mut patrons: Tally, known: Tally, mut back: Tally) {
    let what = format!("{PATRONS} known keys at 8 of 10/s: of {} requests, refused", patrons.sent);
    outcome.require_none(what, patrons.refused);
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| patrons.latency(share));
    outcome.measured("p50, p99, slowest of these, ms", format!("{p50:.1}, {p99:.1}, {most:.0}"));
    outcome.require_none("refused of customers before the flood", known.refused);
    let what = format!(
        "{CUSTOMERS} customers, back from other addresses after that: of {} requests, refused",
        back.sent
    );
    outcome.require(what, back.refused, "0", back.refused == 0 && back.passed > 0);
    let p99 = back.latency(0.99);
    outcome.measured("p99 of these, ms", format!("{p99:.1}"));
    outcome.require_none("failed of all these", patrons.failed + known.failed + back.failed);
    if let Some(told) = patrons.told.or(known.told).or(back.told) {
        outcome.note(told);
    }
}

/// One visit of each customer, after a while.
fn customers(
    port: u16,
    address: impl Fn(u64) -> IpAddr,
    after: Duration,
    calls: u64,
) -> Result<Vec<JoinHandle<Tally>>> {
    let one = |n: u64| {
        let (address, credential) = (address(n), format!("customer-{n}"));
        // Not all at once.
        let after = if after.is_zero() { after } else { after + Duration::from_millis(n * 250) };
        Ok(spawn(move || {
            thread::sleep(after);
            let (mut caller, mut tally) = (Caller::new(port), Tally::default());
            paced(CUSTOMER_PAUSE, |number| {
                caller.ask(address, &credential, &mut tally);
                number + 1 < calls
            });
            tally
        })?)
    };
    (0..CUSTOMERS).map(one).collect()
}

/// Half of the customers come back by IPv6.
fn elsewhere(customer: u64) -> IpAddr {
    let site = u128::from(0x100 + customer);
    let v6 = Ipv6Addr::from_bits(0x2001_0db8 << 96 | site << 80 | 1);
    if customer.is_multiple_of(2) { v4(101 + customer) } else { v6.into() }
}

fn v4(host: u64) -> IpAddr {
    IpAddr::from([192, 0, 2, u8::try_from(host).unwrap_or(u8::MAX)])
}

/// Who is known and keeps to the quota.
struct Patron {
    port: u16,
    address: IpAddr,
    credential: String,
}

impl Patron {
    fn calls(self, every: Duration, stop: &Arc<AtomicBool>) -> Result<JoinHandle<Tally>> {
        let stop = stop.clone();
        Ok(spawn(move || {
            let (mut caller, mut tally) = (Caller::new(self.port), Tally::default());
            paced(every, |_| {
                caller.ask(self.address, &self.credential, &mut tally);
                !stop.load(Ordering::Relaxed)
            });
            tally
        })?)
    }
}

fn joined(threads: Vec<JoinHandle<Tally>>) -> Result<Tally> {
    let mut sum = Tally::default();
    for thread in threads {
        sum.merge(thread.join().map_err(|_| "a client's thread panicked")?);
    }
    Ok(sum)
}

/// What the edge says of each limit, one line each.
fn limits(edge: &Edge) -> Result<String> {
    let told = edge.admin("/api/v1/limits")?;
    let routes = told["routes"].as_array().into_iter().flatten();
    let limits = routes.flat_map(|route| route["limits"].as_array().into_iter().flatten());
    let line = |limit: &Value| {
        let counts = ["keys", "evicted", "overflow", "streams"];
        let counts = counts.map(|key| format!("{key} {}", limit[key])).join(", ");
        let decided = ["passed", "refused"];
        let decided = decided.map(|key| format!("{key} {}", limit["decisions"][key])).join(", ");
        format!("{}: {counts}, {decided}", limit["name"].as_str().unwrap_or_default())
    };
    Ok(limits.map(line).collect::<Vec<_>>().join("\n"))
}

const KEY: &str = "the-one-key";
/// As many as the limit lets be under way at once.
const CONNECTIONS: u64 = 8;
/// Requests per second.
const PER_CONNECTION: u64 = 125;
const OTHERS: u64 = 10;
const OTHER_PAUSE: Duration = Duration::from_millis(200);

const PATRONS: u64 = 4;
/// 8 per second.
const PATRON_PAUSE: Duration = Duration::from_millis(125);
const CUSTOMERS: u64 = 16;
const CUSTOMER_PAUSE: Duration = Duration::from_millis(250);
/// Requests: three seconds.
const KNOWN_FOR: u64 = 12;
const BACK_FOR: u64 = 20;
const FLOOD_CONNECTIONS: u64 = 4;
const FEW: u64 = 64;
/// A flood that takes longer has failed by its number of requests.
const LONGEST: Duration = Duration::from_secs(15 * 60);
