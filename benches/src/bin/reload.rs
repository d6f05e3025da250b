//! `reload`: how long a change in a configuration of many hosts takes to be live, and whether idle
//! connections survive it.
//!
//! Time starts when the new file is in place (renamed) and ends when the admin API shows a new
//! generation; beside it the time until a request gets the new answer. Both contain the watcher's
//! own delay: it is what the operator sees.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use benches::edge::{self, Ports};
use benches::report::{self, Machine, number};
use benches::server::Server;
use benches::stats::Spread;
use benches::{HOST, Result, http, net};
use clap::Parser;
use serde::Serialize;
use serde_json::Value;

const GOAL_MS: f64 = 200.0;
const POLL: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Parser)]
#[command(about = "Time of a reload with many hosts")]
struct Cli {
    #[arg(long)]
    edge: PathBuf,
    #[arg(long, default_value_t = 10_000)]
    hosts: usize,
    #[arg(long, default_value_t = 5)]
    reps: usize,
    /// Plain keep-alive connections that must survive all reloads; below the keep-alive limit of
    /// the edge in time
    #[arg(long, default_value_t = 500)]
    connections: usize,
    #[arg(long, default_value = "benches/load/results")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    hosts: usize,
    connections: usize,
    /// Start of the process to the first 200, ms.
    boot_ms: f64,
    /// File in place to new generation, ms.
    generation_ms: Spread,
    /// File in place to the first new answer, ms.
    answer_ms: Spread,
    /// CPU of the whole process per reload, ms.
    cpu_ms: Spread,
    pss_mib_before: f64,
    pss_mib_after: f64,
    /// Idle connections that did not answer after the last reload.
    lost: usize,
    goal_ms: f64,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(lost) => {
            eprintln!("reload: {lost} connections lost");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("reload: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<usize> {
    net::raise_open_files()?;
    let dir = tempfile::tempdir()?;
    let bench = Bench::start(cli, dir.path())?;
    let mut held = bench.hold(cli.connections)?;
    let before = bench.server.pss_kib();
    let mut all = (1..=cli.reps).map(|rep| bench.reload(rep)).collect::<Result<Vec<_>>>()?;
    let after = bench.server.pss_kib();
    let marker = marker(cli.reps);
    let answers = |stream: &mut TcpStream| {
        let reply = http::exchange(stream, HOST, "/", "keep-alive");
        reply.is_ok_and(|reply| reply.body == marker.as_bytes())
    };
    let lost = held.iter_mut().filter_map(|stream| (!answers(stream)).then_some(())).count();
    all.sort_by(|a, b| a.generation.total_cmp(&b.generation));
    let spread = |pick: fn(&Times) -> f64| Spread::of(all.iter().map(pick)).ok_or("no repetitions");
    #[allow(clippy::cast_precision_loss)]
    let mib = |kib: u64| kib as f64 / 1024.0;
    let report = Report {
        machine: Machine::read()?,
        hosts: cli.hosts,
        connections: cli.connections,
        boot_ms: bench.boot_ms,
        generation_ms: spread(|t| t.generation)?,
        answer_ms: spread(|t| t.answer)?,
        cpu_ms: spread(|t| t.cpu)?,
        pss_mib_before: mib(before),
        pss_mib_after: mib(after),
        lost,
        goal_ms: GOAL_MS,
    };
    drop(held);
    bench.server.stop()?;
    let markdown = report.markdown();
    report::write(&cli.out, "reload", &markdown, &report)?;
    println!("{markdown}");
    Ok(lost)
}

struct Bench {
    server: Server,
    ports: Ports,
    dir: PathBuf,
    hosts: usize,
    boot_ms: f64,
}

struct Times {
    generation: f64,
    answer: f64,
    cpu: f64,
}

impl Bench {
    fn start(cli: &Cli, dir: &Path) -> Result<Self> {
        let [plain, tls, admin] = net::free_ports()?;
        let ports = Ports { plain, tls, admin };
        // A directory of its own: the watcher must see no other file change.
        fs::create_dir(dir.join("config"))?;
        let file = dir.join("config/edge.yaml");
        fs::write(&file, edge::many_hosts(&ports, cli.hosts, &marker(0), WORKERS, dir))?;
        let start = Instant::now();
        let argv = edge::argv(&cli.edge, &file);
        let server = Server::start_within(&argv, None, &[plain, admin], dir, LIMIT)?;
        let boot_ms = ms(start);
        Ok(Self { server, ports, dir: dir.to_owned(), hosts: cli.hosts, boot_ms })
    }

    fn hold(&self, count: usize) -> Result<Vec<TcpStream>> {
        let one = |_| {
            let mut stream = http::connect(net::loopback(self.ports.plain))?;
            http::exchange(&mut stream, HOST, "/", "keep-alive")?;
            Ok(stream)
        };
        (0..count).map(one).collect()
    }

    fn reload(&self, rep: usize) -> Result<Times> {
        let marker = marker(rep);
        let text = edge::many_hosts(&self.ports, self.hosts, &marker, WORKERS, &self.dir);
        let part = self.dir.join("edge.part");
        fs::write(&part, text)?;
        let old = self.generation()?;
        let cpu = self.server.cpu_ns();
        fs::rename(&part, self.dir.join("config/edge.yaml"))?;
        let start = Instant::now();
        let (mut generation, mut answer) = (None, None);
        while generation.is_none() || answer.is_none() {
            if start.elapsed() > LIMIT {
                return Err(format!("reload {rep} is not live after {LIMIT:?}").into());
            }
            if generation.is_none() && self.generation()? != old {
                generation = Some(ms(start));
            }
            if answer.is_none() && self.answer()? == marker.as_bytes() {
                answer = Some(ms(start));
            }
            thread::sleep(POLL);
        }
        #[allow(clippy::cast_precision_loss)]
        let cpu = self.server.cpu_ns().saturating_sub(cpu) as f64 / 1e6;
        let missing = "no time taken";
        Ok(Times { generation: generation.ok_or(missing)?, answer: answer.ok_or(missing)?, cpu })
    }

    fn generation(&self) -> Result<Value> {
        let reply = http::get(net::loopback(self.ports.admin), "127.0.0.1", "/api/v1/config")?;
        let json: Value = serde_json::from_slice(&reply.body)?;
        let found = find(&json, "generation").cloned();
        found.ok_or_else(|| "no \"generation\" in /api/v1/config".into())
    }

    fn answer(&self) -> Result<Vec<u8>> {
        Ok(http::get(net::loopback(self.ports.plain), HOST, "/")?.body)
    }
}

const WORKERS: usize = 2;

fn marker(rep: usize) -> String {
    format!("table-{rep}")
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// The member `name` of the object or of any object in it, outermost first.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    object.get(name).or_else(|| object.values().find_map(|inner| find(inner, name)))
}

impl Report {
    fn markdown(&self) -> String {
        let spread =
            |s: Spread| format!("{} [{}–{}]", number(s.median), number(s.min), number(s.max));
        let met = self.generation_ms.median <= self.goal_ms;
        let mut out =
            format!("# Reload with {} hosts\n\n{}\n", self.hosts, self.machine.markdown());
        let rows = [
            ("boot to first 200, ms", number(self.boot_ms), "–".to_owned()),
            (
                "file in place to new generation, ms",
                spread(self.generation_ms),
                format!("≤ {} ms: {}", self.goal_ms, if met { "met" } else { "**not met**" }),
            ),
            ("file in place to first new answer, ms", spread(self.answer_ms), "–".into()),
            ("CPU per reload (with the polling), ms", spread(self.cpu_ms), "–".into()),
            (
                "PSS before → after all reloads, MiB",
                format!("{} → {}", number(self.pss_mib_before), number(self.pss_mib_after)),
                "–".into(),
            ),
            (
                "idle connections lost",
                format!("{} of {}", self.lost, self.connections),
                format!("0: {}", if self.lost == 0 { "met" } else { "**not met**" }),
            ),
        ];
        out += "| what | median [min–max] | goal |\n|---|---|---|\n";
        for (what, value, goal) in rows {
            let _ = writeln!(out, "| {what} | {value} | {goal} |");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_is_found_at_any_depth() {
        let json = serde_json::json!({"outcome": "applied", "live": {"generation": 7}});
        assert_eq!(find(&json, "generation"), Some(&Value::from(7)));
        assert_eq!(find(&json, "nothing"), None);
    }
}
