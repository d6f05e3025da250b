//! What limits, access, CORS and header edits cost, by short turns on one running process.
//!
//! Runs of a second, one after the other, differ by several per cent for reasons that have nothing
//! to do with the cases. Here a turn is a few thousand requests on connections that stay, and the
//! two cases follow each other within a fifth of a second, so both meet the same machine; hundreds
//! of such pairs are compared. A control, the same case against itself, is measured in between by
//! the same steps: it shows what the method adds of its own.

mod generator;
mod report;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use benches::edge::Identity;
use benches::random::Random;
use benches::report::Machine;
use benches::{Result, http, net};
use rustix::thread::CpuSet;
use tempfile::TempDir;

use crate::cases;
use crate::peers::{Binaries, Peer, Running};
use crate::{Backend, Run, cores, versions};
use generator::Generator;
use report::{Report, Row};

const CONNECTIONS: usize = 64;
/// Requests that are not counted, when a peer's turn comes after another peer's.
const LEAD_IN: u64 = 500;
/// How long a peer may go on working after its last answer, in steps of a millisecond.
const REST_STEPS: u32 = 50;

#[derive(clap::Args)]
pub struct Args {
    /// Only what limits, access, CORS and header edits cost: al against an, in short turns
    #[arg(long, conflicts_with_all = ["cases", "seconds", "idle_connections"])]
    pub policies: bool,
    /// Pairs of turns per peer and comparison, over all repetitions
    #[arg(
        long, default_value_t = 400, requires = "policies",
        value_parser = clap::value_parser!(u32).range(6..=100_000)
    )]
    pairs: u32,
    #[arg(
        long, default_value_t = 5000, requires = "policies",
        value_parser = clap::value_parser!(u64).range(1000..=1_000_000)
    )]
    turn_requests: u64,
    /// Of the order within the pairs
    #[arg(long, default_value_t = 1, requires = "policies")]
    seed: u64,
}

/// CPU µs per request of two turns that followed each other: an's, and that of al or of an again.
type Pair = [f64; 2];

/// The bytes of the two cases.
struct Requests {
    an: String,
    al: String,
}

/// What was measured of one peer; pairs in the order of the repetitions, as many in each.
struct Measured {
    peer: Peer,
    policies: Vec<Pair>,
    control: Vec<Pair>,
    /// CPU seconds of the peer per second, of every turn.
    cpu_in_use: Vec<f64>,
}

/// The whole measurement. A wrong answer, a closed connection or a peer that ends is an error of
/// the run: it then has no report.
pub fn run(run: &Run) -> Result<()> {
    if let Some(peer) = run.peers.iter().find(|peer| !peer.has_all()) {
        return Err(format!("{} has no configuration with policies", peer.name()).into());
    }
    let requests = Requests::of_cases()?;
    let versions = versions(run, &[])?;
    let [peer_core, load_core] = cores()?;
    net::raise_open_files()?;
    let dir = tempfile::tempdir()?;
    let identity = Identity::make(dir.path())?;
    let own = std::env::current_exe()?.display().to_string();
    let backend = Backend::start(&own, load_core, dir.path())?;
    // Before this thread has one core only.
    let machine = Machine::read()?;
    pin(load_core)?;
    let stand = Stand { binaries: &run.binaries, identity, backend: backend.port, peer_core };

    let rounds = run.turns.pairs.div_ceil(2 * u32::from(run.reps));
    let mut random = Random::new(run.turns.seed);
    let mut measured: Vec<Measured> = run.peers.iter().map(|peer| Measured::new(*peer)).collect();
    for rep in 1..=run.reps {
        let start = Instant::now();
        repetition(&stand, rounds, run.turns.turn_requests, &requests, &mut random, &mut measured)?;
        eprintln!("repetition {rep}/{} ({:.0} s)", run.reps, start.elapsed().as_secs_f64());
    }
    let report = Report {
        machine,
        versions,
        repetitions: run.reps,
        pairs: rounds * 2 * u32::from(run.reps),
        turn_requests: run.turns.turn_requests,
        connections: CONNECTIONS,
        seed: run.turns.seed,
        requests: [("an", requests.an), ("al", requests.al)],
        rows: measured.iter().map(|of_peer| Row::new(of_peer, run.reps)).collect(),
    };
    let markdown = report.markdown();
    benches::report::write(&run.out, &run.name, &markdown, &report)?;
    println!("{markdown}");
    Ok(())
}

/// Fresh processes of all peers, side by side on one core; they work in turn, two pairs of each
/// comparison at a time.
fn repetition(
    stand: &Stand<'_>,
    rounds: u32,
    count: u64,
    requests: &Requests,
    random: &mut Random,
    measured: &mut [Measured],
) -> Result<()> {
    let start = |of_peer: &mut Measured| stand.start(of_peer.peer, requests, count);
    let mut targets: Vec<Target> = measured.iter_mut().map(start).collect::<Result<_>>()?;
    for round in 0..rounds {
        let mut both: Vec<_> = targets.iter_mut().zip(measured.iter_mut()).collect();
        if round % 2 == 1 {
            both.reverse();
        }
        for (target, of_peer) in both {
            let visit = visit(target, requests, count, random, of_peer);
            visit.map_err(|e| format!("{}: {e}", of_peer.peer.name()))?;
        }
    }
    targets.into_iter().try_for_each(|target| target.running.server.stop())
}

/// Two pairs of policies and two of the control. In one of the two an comes first, in the other
/// last, so that what only follows from the order cancels out; chance says which, so that no
/// rhythm of the machine can keep step.
fn visit(
    target: &mut Target,
    requests: &Requests,
    count: u64,
    random: &mut Random,
    into: &mut Measured,
) -> Result<()> {
    target.generator.turn(requests.an.as_bytes(), LEAD_IN)?;
    target.rested_cpu_ns();
    let mut comparisons = [(&requests.al, &mut into.policies), (&requests.an, &mut into.control)];
    if random.one_in(2) {
        comparisons.reverse();
    }
    for (other, pairs) in comparisons {
        let an_first = random.one_in(2);
        for an_first in [an_first, !an_first] {
            let mut turn = |request: &String| -> Result<f64> {
                let turn = target.turn(request.as_bytes(), count)?;
                into.cpu_in_use.push(turn.cpu_in_use);
                Ok(turn.cpu_us)
            };
            let pair = if an_first {
                let an = turn(&requests.an)?;
                [an, turn(other)?]
            } else {
                let other = turn(other)?;
                [turn(&requests.an)?, other]
            };
            pairs.push(pair);
        }
    }
    Ok(())
}

impl Requests {
    fn of_cases() -> Result<Self> {
        let of = |id: &str| -> Result<String> {
            let case = cases::select(id)?.pop();
            let request = case.and_then(|case| case.request());
            Ok(request.ok_or_else(|| format!("case {id} has no request"))?)
        };
        Ok(Self { an: of("an")?, al: of("al")? })
    }
}

impl Measured {
    fn new(peer: Peer) -> Self {
        Self { peer, policies: Vec::new(), control: Vec::new(), cpu_in_use: Vec::new() }
    }
}

/// What every repetition starts its peers with.
struct Stand<'a> {
    binaries: &'a Binaries,
    identity: Identity,
    backend: u16,
    peer_core: usize,
}

impl Stand<'_> {
    /// A fresh process that has answered one turn of each case.
    fn start(&self, peer: Peer, requests: &Requests, count: u64) -> Result<Target> {
        let dir = tempfile::tempdir()?;
        let backend = (self.backend, true);
        let core = Some(self.peer_core);
        let running = peer.start(self.binaries, &self.identity, backend, core, dir.path())?;
        let address = net::loopback(running.ports.plain);
        check_answers(address, requests).map_err(|e| format!("{}: {e}", peer.name()))?;
        let generator = Generator::connect(address, CONNECTIONS)?;
        let mut target = Target { running, generator, _dir: dir };
        for request in [&requests.an, &requests.al] {
            target.turn(request.as_bytes(), count)?;
        }
        Ok(target)
    }
}

/// A peer under measurement and the connections to it.
struct Target {
    running: Running,
    generator: Generator,
    _dir: TempDir,
}

struct Turn {
    /// Per request.
    cpu_us: f64,
    cpu_in_use: f64,
}

impl Target {
    #[allow(clippy::cast_precision_loss)]
    fn turn(&mut self, request: &[u8], count: u64) -> Result<Turn> {
        let before = self.running.server.cpu_ns();
        let took = self.generator.turn(request, count)?;
        let cpu_ns = self.rested_cpu_ns().saturating_sub(before) as f64;
        if cpu_ns == 0.0 {
            return Err("no CPU time: the peer has ended, or the kernel does not count it".into());
        }
        let cpu_in_use = cpu_ns / 1e9 / took.as_secs_f64();
        Ok(Turn { cpu_us: cpu_ns / 1e3 / count as f64, cpu_in_use })
    }

    /// CPU time so far, once the peer does nothing any more. The kernel writes the time of a thread
    /// down when it leaves the core, up to a tick late while it runs; and after the last answer
    /// there is still a log to write.
    fn rested_cpu_ns(&self) -> u64 {
        let mut last = self.running.server.cpu_ns();
        for _ in 0..REST_STEPS {
            thread::sleep(Duration::from_millis(1));
            let now = self.running.server.cpu_ns();
            if now == last {
                break;
            }
            last = now;
        }
        last
    }
}

/// Policies that are not there would cost nothing.
fn check_answers(to: SocketAddr, requests: &Requests) -> Result<()> {
    for (case, request, expected) in [("an", &requests.an, false), ("al", &requests.al, true)] {
        let head = head_of(to, request)?;
        for field in ["\r\nx-edge: measured\r\n", "\r\naccess-control-allow-origin: https://"] {
            if head.contains(field) != expected {
                let not = if expected { "lacks" } else { "has" };
                return Err(format!("the answer of {case} {not} {:?}: {head}", field.trim()).into());
            }
        }
    }
    Ok(())
}

/// The head of the answer to `request`, in lower case.
fn head_of(to: SocketAddr, request: &str) -> Result<String> {
    let mut stream = http::connect(to)?;
    stream.write_all(request.as_bytes())?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Err("closed before an answer".into()),
            n => bytes.extend_from_slice(buffer.get(..n).unwrap_or_default()),
        }
        if let Some(head) = http::parse_head(&bytes)? {
            let head = bytes.get(..head.bytes).unwrap_or_default();
            return Ok(String::from_utf8_lossy(head).to_lowercase());
        }
    }
}

/// This thread to `core`. Programs it starts for another core say so themselves.
fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &cores)?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const POLICIES: &str = "Access-Control-Allow-Origin: https://app.openclaw.example\r\n\
        X-Edge: measured\r\n";

    /// Answers the first connection with `an`'s fields, the second with `al`'s.
    fn checked(an: &'static str, al: &'static str) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for fields in [an, al] {
                let (mut stream, _) = listener.accept().unwrap();
                assert_ne!(stream.read(&mut [0; 1024]).unwrap(), 0);
                let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        check_answers(address, &Requests::of_cases()?)
    }

    #[test]
    fn a_case_without_its_policies_is_found() {
        checked("", POLICIES).unwrap();
        let error = |an, al| checked(an, al).unwrap_err().to_string();
        assert!(error("", "").starts_with("the answer of al lacks \"x-edge: measured\""));
        assert!(error("", "X-Edge: measured\r\n").starts_with("the answer of al lacks \"access"));
        assert!(error(POLICIES, POLICIES).starts_with("the answer of an has \"x-edge"));
    }
}
