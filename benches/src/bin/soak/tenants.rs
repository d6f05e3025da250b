//! `soak tenants`: a registry of ten thousand, of which one entry changes every second, while fifty
//! others are in use: how long until the change serves, and what the others notice of it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use benches::stats::{Spread, percentile};
use benches::{Result, edge, http, net};

use crate::backend::{self, spawn};
use crate::outcome::Outcome;
use crate::process::{Edge, replace};
use crate::stall::Stall;
use crate::websocket;
use crate::wire::Head;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    edge: PathBuf,
    #[arg(long, default_value_t = 10_000)]
    tenants: usize,
    /// With a WebSocket and a kept connection each
    #[arg(long, default_value_t = 50)]
    active: usize,
    /// One entry changes in each
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// A TLS listener as well, and a certificate of the internal issuer for each tenant
    #[arg(long)]
    certificates: bool,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let mut outcome = Outcome::new("Ten thousand tenants, one of which changes")?;
    let dir = tempfile::tempdir()?;
    let stand = Stand::start(args, dir.path(), &mut outcome)?;
    let stop = Arc::new(AtomicBool::new(false));
    let books: Arc<Books> = Arc::default();
    let mut clients = Vec::new();
    for number in 0..args.active {
        clients.extend(stand.use_tenant(number, &stop, &books)?);
    }
    thread::sleep(Duration::from_secs(2));
    let stall = Stall::watch()?;
    let served = stand.change(args.seconds, &books)?;
    let stalled = stall.finish();
    stop.store(true, Ordering::Relaxed);
    let mut latencies: Vec<f64> = Vec::new();
    for client in clients {
        latencies.extend(client.join().map_err(|_| "a client's thread panicked")?);
    }
    report(args, &stand, &mut outcome, &served, latencies)?;
    outcome.measured("longest stall of the machine, ms", stalled.as_millis());
    outcome.require_none("requests and echoes that failed", books.failed.load(Ordering::Relaxed));
    outcome.require_none("connections closed", books.closed.load(Ordering::Relaxed));
    stand.finish(&mut outcome);
    Ok(outcome)
}

/// What the clients have met.
#[derive(Default)]
struct Books {
    done: AtomicU64,
    failed: AtomicU64,
    closed: AtomicU64,
}

struct Stand {
    edge: Edge,
    plain: u16,
    file: PathBuf,
    log: PathBuf,
    tenants: usize,
    /// Of the tenants in use, and of the one that changes, in turn.
    gateways: Vec<u16>,
    turns: [u16; 2],
}

impl Stand {
    fn start(args: &Args, dir: &Path, outcome: &mut Outcome) -> Result<Self> {
        let [plain, tls, admin] = net::free_ports()?;
        let ports = |_| backend::start("tenant");
        let gateways = (0..args.active).map(ports).collect::<Result<Vec<u16>>>()?;
        let turns = [backend::start("even")?, backend::start("odd")?];
        let (file, log) = (dir.join("registry/production.json"), dir.join("edge.log"));
        // A directory of its own: the watcher must see no other file change.
        fs::create_dir(dir.join("registry"))?;
        fs::create_dir(dir.join("config"))?;
        let config = dir.join("config/edge.yaml");
        let (listener, issuer) = match args.certificates {
            true => (
                format!("  tls: {{ bind: [\"127.0.0.1:{tls}\"], tls: {{}} }}\n"),
                "  certificates: { issuer: local, per: tenant }\n",
            ),
            false => (String::new(), ""),
        };
        fs::write(
            &config,
            format!(
                "version: 1\nworkers: 2\nstate_dir: {dir}/state\n\
                 admin: {{ listen: \"127.0.0.1:{admin}\", socket: {dir}/admin.sock }}\n\
                 listeners:\n  plain: {{ bind: [\"127.0.0.1:{plain}\"] }}\n{listener}\
                 issuers: {{ local: {{ internal: {{}} }} }}\n\
                 tenants:\n  file: {file}\n{issuer}  routes:\n    \
                 gateway: {{ hosts: [\"{{tenant}}.gw.openclaw.example\"], \
                 endpoint: \"{{host}}:{{gateway_port}}\" }}\n    \
                 bridge: {{ hosts: [\"{{tenant}}-bridge.gw.openclaw.example\"], \
                 endpoint: \"{{host}}:{{bridge_port}}\" }}\n",
                dir = dir.display(),
                file = file.display(),
            ),
        )?;
        fs::write(&file, registry(args.tenants, &gateways, turns[0]))?;
        let edge = Edge::spawn(&edge::argv(&args.edge, &config), admin, &log)?;
        let mut stand = Self { edge, plain, file, log, tenants: args.tenants, gateways, turns };
        let boot = stand.edge.wait_ready(READY)?;
        outcome.measured("start of the process to ready, ms", boot.as_millis());
        let size = fs::metadata(&stand.file)?.len();
        outcome.measured("tenants, bytes of the registry", format!("{}, {size}", args.tenants));
        thread::sleep(Duration::from_secs(3));
        let rss = stand.edge.rss_kib();
        outcome.measured("RSS after the start, MiB", mib(rss));
        outcome.measured("KiB per tenant (of two routes)", rss / args.tenants as u64);
        Ok(stand)
    }

    /// Both clients of one tenant; each returns the latencies of its requests, ms.
    fn use_tenant(
        &self,
        number: usize,
        stop: &Arc<AtomicBool>,
        books: &Arc<Books>,
    ) -> Result<[JoinHandle<Vec<f64>>; 2]> {
        let host = format!("{}.gw.openclaw.example", name(number));
        let port = self.plain;
        let (stops, book, to) = (stop.clone(), books.clone(), host.clone());
        let socket = spawn(move || rounds(&stops, &book, || Socket::open(port, &to)))?;
        let (stops, book) = (stop.clone(), books.clone());
        let kept = spawn(move || rounds(&stops, &book, || Kept::open(port, &host)))?;
        Ok([socket, kept])
    }

    /// One entry leads elsewhere, once a second; from the file in place to the new answer, ms.
    fn change(&self, seconds: u64, books: &Books) -> Result<Vec<f64>> {
        let host = format!("{}.gw.openclaw.example", name(self.gateways.len()));
        let mut times = Vec::new();
        for turn in 1..=seconds {
            let begun = Instant::now();
            let odd = turn % 2 == 1;
            let text = registry(self.tenants, &self.gateways, self.turns[usize::from(odd)]);
            let wanted: &[u8] = if odd { b"odd\n" } else { b"even\n" };
            replace(&self.file, &text)?;
            let start = Instant::now();
            while http::get(net::loopback(self.plain), &host, "/")?.body != wanted {
                if start.elapsed() > READY {
                    return Err(
                        format!("change {turn} does not serve\n{}", self.edge.log_tail()).into()
                    );
                }
                thread::sleep(Duration::from_millis(2));
            }
            times.push(start.elapsed().as_secs_f64() * 1e3);
            books.done.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
        }
        Ok(times)
    }

    /// Of each reload, ms, as the edge's own log says, and one line of it.
    fn took(&self) -> Result<(Vec<f64>, String)> {
        let text = fs::read_to_string(&self.log)?;
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains("applied: tenants: 1 changed")).collect();
        let ms = |line: &&str| {
            let (_, took) = line.split_once("took=")?;
            took.trim_start_matches('"').split(' ').next()?.parse().ok()
        };
        let last = lines.last().copied().unwrap_or_default().to_owned();
        Ok((lines.iter().filter_map(ms).collect(), last))
    }

    fn finish(self, outcome: &mut Outcome) {
        if !outcome.met() {
            outcome.note(self.edge.log_tail());
        }
        let stopped = self.edge.stop();
        let text = stopped.as_ref().map_or_else(ToString::to_string, |t| format!("{t:.1?}"));
        outcome.require("SIGTERM at the end", text, "exit code 0", stopped.is_ok());
    }
}

fn report(
    args: &Args,
    stand: &Stand,
    outcome: &mut Outcome,
    served: &[f64],
    mut latencies: Vec<f64>,
) -> Result<()> {
    let (took, line) = stand.took()?;
    let spread = |s: Spread| format!("{:.0} [{:.0}–{:.0}]", s.median, s.min, s.max);
    let all = args.seconds as usize;
    outcome.require("reloads of one entry", took.len(), format!("{all}"), took.len() == all);
    let load = Spread::of(took.iter().copied()).ok_or("no reload in the log")?;
    let met = load.median < GOAL_MS;
    let what = "load: registry read, compared, compiled, published, ms: median [min–max]";
    outcome.require(what, spread(load), format!("< {GOAL_MS} ms"), met);
    let over = took.iter().filter(|ms| **ms >= GOAL_MS).count();
    outcome.measured(format!("loads of {GOAL_MS} ms and more"), over);
    let served = Spread::of(served.iter().copied()).ok_or("no change")?;
    let what = "file in place to first new answer (100 ms of quiet in it), ms: median [min–max]";
    outcome.measured(what, spread(served));
    latencies.sort_by(f64::total_cmp);
    let at = |share| percentile(&latencies, share).unwrap_or_default();
    let figures = format!("{:.1}, {:.1}, {:.0}", at(0.5), at(0.99), at(1.0));
    outcome.measured(
        format!("{} WebSockets and as many kept connections: requests", args.active),
        latencies.len(),
    );
    outcome.measured("p50, p99, slowest of these, ms", figures);
    let peak = mib(stand.edge.peak_kib());
    outcome.measured(
        "RSS at the end, and the most, MiB",
        format!("{}, {peak}", mib(stand.edge.rss_kib())),
    );
    let series = http::get(net::loopback(stand.edge.admin_port()), "127.0.0.1", "/metrics")?;
    let lines = series.body.split(|byte| *byte == b'\n').count();
    outcome.require("lines of /metrics", lines, "< 10000", lines < 10_000);
    outcome.note(line);
    Ok(())
}

/// A connection that is used again and again.
trait Uses: Sized {
    const PAUSE: Duration;
    fn once(&mut self, number: u64) -> Result<()>;
}

fn rounds<U: Uses>(stop: &AtomicBool, books: &Books, open: impl Fn() -> Result<U>) -> Vec<f64> {
    let mut latencies = Vec::new();
    let mut connection = None;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        if connection.is_none() {
            connection = open().ok();
        }
        let start = Instant::now();
        let done = connection.as_mut().map(|connection| connection.once(number));
        match done {
            Some(Ok(())) => {
                latencies.push(start.elapsed().as_secs_f64() * 1e3);
                books.done.fetch_add(1, Ordering::Relaxed);
            }
            some => {
                books.failed.fetch_add(1, Ordering::Relaxed);
                books.closed.fetch_add(u64::from(some.is_some()), Ordering::Relaxed);
                connection = None;
            }
        }
        thread::sleep(U::PAUSE);
    }
    latencies
}

struct Socket(websocket::Client<TcpStream>);

impl Socket {
    fn open(port: u16, host: &str) -> Result<Self> {
        Ok(Self(websocket::Client::open(connect(port)?, host, "/ws", u64::from(port))?))
    }
}

impl Uses for Socket {
    const PAUSE: Duration = Duration::from_millis(100);

    fn once(&mut self, number: u64) -> Result<()> {
        self.0.echo(&format!("message {number}"))
    }
}

/// One connection with a GET after the other.
struct Kept {
    stream: BufReader<TcpStream>,
    request: String,
}

impl Kept {
    fn open(port: u16, host: &str) -> Result<Self> {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Ok(Self { stream: BufReader::new(connect(port)?), request })
    }
}

impl Uses for Kept {
    const PAUSE: Duration = Duration::from_millis(50);

    fn once(&mut self, _number: u64) -> Result<()> {
        self.stream.get_mut().write_all(self.request.as_bytes())?;
        let head = Head::read(&mut self.stream)?.ok_or("closed before an answer")?;
        let mut body = String::new();
        head.body(&mut self.stream)?.read_to_string(&mut body)?;
        match (head.status(), body.as_str()) {
            (200, "tenant\n") => Ok(()),
            (status, body) => Err(format!("{status}: {body}").into()),
        }
    }
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = http::connect(net::loopback(port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// The first lead to these gateways, the next to the one that changes; nobody asks for the rest.
fn registry(tenants: usize, gateways: &[u16], changing: u16) -> String {
    let mut text = String::from("{\n  \"servers\": [\n");
    for number in 0..tenants {
        let live = gateways.iter().copied().chain([changing]).nth(number);
        let (host, port) = match live {
            Some(port) => ("127.0.0.1".to_owned(), port),
            None => (format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255), 18_789),
        };
        // Nobody listens at bridges; those of one machine have ports of their own.
        let bridge = if live.is_some() { 1_000 + number } else { 18_790 };
        let comma = if number + 1 == tenants { "" } else { "," };
        let tenant = name(number);
        let _ = write!(
            text,
            "    {{\n      \"id\": \"prd-{tenant}\",\n      \"host\": \"{host}\",\n      \
             \"user\": \"deploy\",\n      \"port\": 22,\n      \
             \"deployment_path\": \"/home/deploy/openclaw-prd-{tenant}\",\n      \
             \"container_prefix\": \"{tenant}\",\n      \"gateway_port\": {port},\n      \
             \"bridge_port\": {bridge},\n      \
             \"tenant\": \"{tenant}\",\n      \"region\": \"us-east\"\n    }}{comma}\n",
        );
    }
    text + "  ]\n}\n"
}

fn name(number: usize) -> String {
    format!("tenant-{number}")
}

fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}

const GOAL_MS: f64 = 200.0;
const READY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_differs_in_what_changes() {
        let [one, other] = [1, 2].map(|port| registry(100, &[7, 8], port));
        let lines = one.lines().zip(other.lines());
        let changed: Vec<_> = lines.filter(|(a, b)| a != b).collect();
        assert_eq!(changed, [("      \"gateway_port\": 1,", "      \"gateway_port\": 2,")]);
        let read: serde_json::Value = serde_json::from_str(&one).unwrap();
        assert_eq!(read["servers"].as_array().unwrap().len(), 100);
        assert_eq!(read["servers"][99]["host"], "10.0.0.99");
    }
}
