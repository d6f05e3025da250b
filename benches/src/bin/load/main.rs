//! `load`: CPU per request and memory per idle connection of openclaw-edge against its peers, by
//! the method of benches/README.md. It measures and reports; it judges nothing by time. Exit code
//! 1 where a run had errors, never for a goal that is not met.

mod backend;
mod cases;
mod handshake;
mod idle;
mod measure;
mod output;
mod peers;
mod request;
mod table;
mod tls;
mod turns;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use benches::edge::Identity;
use benches::report::{self, Machine, first_line};
use benches::server::command;
use benches::{Result, net};
use clap::{Parser, Subcommand};

use cases::{Case, Load};
use measure::{Sample, Settings};
use peers::{Binaries, Peer};
use table::{Row, Table};

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, about = "CPU per request against other proxies")]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    run: Run,
}

/// The parts that run as processes of their own.
#[derive(Subcommand)]
enum Part {
    /// The backend of all peers; ends with its standard input
    Backend {
        #[arg(long)]
        port_file: PathBuf,
    },
    /// TLS handshakes in a closed loop; prints JSON
    Handshake(handshake::Args),
}

#[derive(clap::Args)]
struct Run {
    #[command(flatten)]
    binaries: Binaries,
    /// In the order of a repetition; the ratios divide by nginx-full, else by the first
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "nginx-full,nginx,edge",
        default_value_if("policies", "true", "nginx-full,edge")
    )]
    peers: Vec<Peer>,
    /// Also: an, al, c2, dn, eh2, k64, k64t
    #[arg(long, default_value = "a,a2,b,c,d,dr,ep,et,idle")]
    cases: String,
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    reps: u16,
    /// Length of one run
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    #[arg(long, default_value_t = 3000)]
    idle_connections: usize,
    /// Where the report goes
    #[arg(long, default_value = "benches/load/results")]
    out: PathBuf,
    /// Its file name without ending
    #[arg(long, default_value = "load", default_value_if("policies", "true", "load-turns"))]
    name: String,
    #[command(flatten)]
    turns: turns::Args,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.part {
        Some(Part::Backend { port_file }) => backend::run(port_file).map(|()| 0),
        Some(Part::Handshake(args)) => handshake::run(args).and_then(|outcome| {
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(0)
        }),
        None if cli.run.turns.policies => turns::run(&cli.run).map(|()| 0),
        None => run(&cli.run),
    };
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(errors) => {
            eprintln!("load: {errors} errors; the rows that have them are not valid");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("load: {e}");
            ExitCode::FAILURE
        }
    }
}

/// The whole benchmark; the number of errors of all runs.
fn run(run: &Run) -> Result<u64> {
    let cases = cases::select(&run.cases)?;
    let versions = versions(run, &cases)?;
    let [peer_core, load_core] = cores()?;
    let files = net::raise_open_files()?;
    let needed = run.idle_connections as u64 + 1000;
    if cases.iter().any(|case| matches!(case.load, Load::Idle { .. })) && files < needed {
        return Err(format!("{files} open files allowed, {needed} needed: ulimit -Hn").into());
    }
    let dir = tempfile::tempdir()?;
    let identity = Identity::make(dir.path())?;
    let own = std::env::current_exe()?.display().to_string();
    let backend = Backend::start(&own, load_core, dir.path())?;
    let settings = Settings {
        own: &own,
        core: load_core,
        seconds: run.seconds,
        idle_connections: run.idle_connections,
    };
    let mut samples = Samples::new();
    let bench = Bench { run, cases: &cases, identity, backend: backend.port, peer_core, settings };
    for rep in 1..=run.reps {
        for peer in &run.peers {
            bench.repetition(rep, *peer, &mut samples)?;
        }
    }
    drop(backend);
    let table = tabulate(run, &cases, versions, &mut samples)?;
    let markdown = table.markdown();
    report::write(&run.out, &run.name, &markdown, &table)?;
    println!("{markdown}");
    Ok(table.errors())
}

/// By case and peer, in the order of the repetitions.
type Samples = BTreeMap<(&'static str, &'static str), Vec<Sample>>;

struct Bench<'a> {
    run: &'a Run,
    cases: &'a [Case],
    identity: Identity,
    backend: u16,
    peer_core: usize,
    settings: Settings<'a>,
}

impl Bench<'_> {
    /// All cases of one peer: those of CPU on one fresh pinned process, each idle case on a fresh
    /// unpinned one.
    fn repetition(&self, rep: u16, peer: Peer, samples: &mut Samples) -> Result<()> {
        let start = Instant::now();
        let (idle, cpu): (Vec<_>, Vec<_>) =
            self.cases.iter().partition(|case| matches!(case.load, Load::Idle { .. }));
        if !cpu.is_empty() {
            self.on_fresh(peer, Some(self.peer_core), &cpu, samples)?;
        }
        for case in idle {
            self.on_fresh(peer, None, &[case], samples)?;
        }
        let took = start.elapsed().as_secs_f64();
        eprintln!("repetition {rep}/{}: {} ({took:.0} s)", self.run.reps, peer.name());
        Ok(())
    }

    fn on_fresh(
        &self,
        peer: Peer,
        core: Option<usize>,
        cases: &[&Case],
        samples: &mut Samples,
    ) -> Result<()> {
        let dir = tempfile::tempdir()?;
        let binaries = &self.run.binaries;
        let backend = (self.backend, cases.iter().any(|case| case.all_on()) && peer.has_all());
        let mut running = peer.start(binaries, &self.identity, backend, core, dir.path())?;
        for case in cases.iter().filter(|case| !case.all_on() || peer.has_all()) {
            let sample = measure::run(case, &mut running, &self.settings);
            samples.entry((case.id, peer.name())).or_default().push(sample);
        }
        running.server.stop()
    }
}

fn tabulate(
    run: &Run,
    cases: &[Case],
    versions: Vec<(String, String)>,
    samples: &mut Samples,
) -> Result<Table> {
    let full = run.peers.iter().find(|peer| **peer == Peer::NginxFull);
    let reference = full.or(run.peers.first()).map_or("", |peer| peer.name());
    let mut row = |case: &Case| {
        let of = |peer: &Peer| (peer.name(), samples.remove(&(case.id, peer.name())));
        let of_all = run.peers.iter().map(of).map(|(name, s)| (name, s.unwrap_or_default()));
        Row::new(case, run.seconds, reference, of_all.collect())
    };
    Ok(Table {
        machine: Machine::read()?,
        versions,
        repetitions: usize::from(run.reps),
        seconds: run.seconds,
        idle_connections: run.idle_connections,
        reference,
        rows: cases.iter().map(&mut row).collect(),
    })
}

/// Versions of all programs of this run; an error that names all that are missing.
fn versions(run: &Run, cases: &[Case]) -> Result<Vec<(String, String)>> {
    let uses = |wanted: fn(&Load) -> bool| cases.iter().any(|case| wanted(&case.load));
    let mut programs = vec![
        ("taskset".to_owned(), "-V", Some("util-linux")),
        ("setpriv".into(), "-V", Some("util-linux")),
    ];
    if uses(|load| matches!(load, Load::Wrk { .. })) {
        programs.push(("wrk".into(), "-v", Some("wrk")));
    }
    if uses(|load| matches!(load, Load::H2load { .. })) {
        programs.push(("h2load".into(), "--version", Some("nghttp2-client")));
    }
    for peer in &run.peers {
        let (path, package) = peer.program(&run.binaries)?;
        let flag = if *peer == Peer::Edge { "version" } else { "-v" };
        let program = (path.display().to_string(), flag, package);
        if !programs.contains(&program) {
            programs.push(program);
        }
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (program, flag, package) in programs {
        match (first_line(&program, &[flag]), package) {
            (Some(version), _) => {
                let name =
                    Path::new(&program).file_name().map(|n| n.to_string_lossy().into_owned());
                found.push((name.unwrap_or(program), version));
            }
            (None, Some(package)) => missing.push(format!("{program} (apt-get install {package})")),
            (None, None) => missing.push(format!("{program} (cargo build --release -p proxy)")),
        }
    }
    if missing.is_empty() {
        Ok(found)
    } else {
        Err(format!("missing: {}", missing.join(", ")).into())
    }
}

/// One core for the peer, one for load and backend.
fn cores() -> Result<[usize; 2]> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    match (cores.next(), cores.next()) {
        (Some(peer), Some(load)) => Ok([peer, load]),
        _ => Err("two cores are needed: one for the proxy, one for the load".into()),
    }
}

/// The backend as a child on the core of the load.
struct Backend {
    child: Child,
    port: u16,
}

impl Backend {
    fn start(own: &str, core: usize, dir: &Path) -> Result<Self> {
        let file = dir.join("backend.port");
        let words = [own, "backend", "--port-file"].map(str::to_owned);
        let argv: Vec<String> = words.into_iter().chain([file.display().to_string()]).collect();
        let child = command(&argv, Some(core)).stdin(Stdio::piped()).spawn()?;
        let mut backend = Self { child, port: 0 };
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if let Ok(port) = fs::read_to_string(&file) {
                backend.port = port.parse()?;
                return Ok(backend);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err("the backend did not start".into())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // Its standard input ends, and so does it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
