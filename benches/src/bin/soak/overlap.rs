//! `soak overlap`: a second process joins on the same ports, the first is drained; what new
//! connections notice. Measured, not judged: issue 5 brings it to 0.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use benches::{HOST, Result, edge, net};

use crate::namespace::Namespace;
use crate::newcomers::{Fate, Newcomers, Numbers, wait_answer};
use crate::outcome::Outcome;
use crate::process::Edge;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    edge: PathBuf,
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Clients that send at once, and as many that send 5 ms after connecting
    #[arg(long, default_value_t = 8)]
    clients: usize,
}

/// Everything happens in a thread that has entered the namespace, and lives until its children are
/// gone: they end with the thread that started them.
pub fn run(args: &Args) -> Result<Outcome> {
    let namespace = Namespace::make()?;
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            namespace.enter()?;
            both(args, &namespace)
        });
        inside.join().unwrap_or_else(|_| Err("the thread panicked".into()))
    })
}

fn both(args: &Args, namespace: &Namespace) -> Result<Outcome> {
    let mut outcome = Outcome::new("Two processes on the same ports, the first drained")?;
    outcome.measured("clients", format!("{0} at once, {0} after 5 ms", args.clients));
    for migrate in ["0", "1"] {
        namespace.set("net.ipv4.tcp_migrate_req", migrate)?;
        let rounds = rounds(args, args.rounds, Edge::stop)?;
        report(&mut outcome, migrate, &rounds);
    }
    let control = rounds(args, 1, |mut edge| {
        edge.kill()?;
        Ok(Duration::ZERO)
    })?;
    let lost: u64 =
        control.iter().flat_map(|round| round.leaving).map(|numbers| numbers.lost()).sum();
    outcome.require("control: the first killed by kill -9 instead", lost, "loses some", lost > 0);
    Ok(outcome)
}

struct Round {
    /// While the second process joined, while the first left.
    joining: [Numbers; 2],
    leaving: [Numbers; 2],
    drain: Duration,
}

/// The process that stays in one round is the first of the next. `end` takes the first away.
fn rounds(args: &Args, count: usize, end: fn(Edge) -> Result<Duration>) -> Result<Vec<Round>> {
    let dir = tempfile::tempdir()?;
    let [port] = net::free_ports()?;
    let seats = [Seat::new(dir.path(), "a", port)?, Seat::new(dir.path(), "b", port)?];
    let mut seats = seats.iter().cycle();
    let mut next = || seats.next().ok_or("no seat");
    let mut first = next()?.start(&args.edge)?;
    wait_answer(port, READY)?;
    let newcomers = Newcomers::start(port, args.clients, Duration::from_millis(5))?;
    let mut rounds = Vec::new();
    for _ in 0..count {
        thread::sleep(PART);
        let start = newcomers.numbers();
        let second = next()?.start(&args.edge)?;
        thread::sleep(PART);
        let joined = newcomers.numbers();
        let drain = end(first)?;
        thread::sleep(PART);
        let left = newcomers.numbers();
        let since = |now: [Numbers; 2], then: [Numbers; 2]| {
            let [quick, slow] = then;
            let [now_quick, now_slow] = now;
            [now_quick.since(quick), now_slow.since(slow)]
        };
        rounds.push(Round { joining: since(joined, start), leaving: since(left, joined), drain });
        first = second;
    }
    newcomers.finish();
    first.stop()?;
    Ok(rounds)
}

/// One of two places for a process: same listener, own admin server and log.
struct Seat {
    config: PathBuf,
    admin: u16,
    log: PathBuf,
}

impl Seat {
    fn new(dir: &Path, name: &str, port: u16) -> Result<Self> {
        let [admin] = net::free_ports()?;
        let config = dir.join(format!("{name}.yaml"));
        let (state, socket) = (dir.join("state"), dir.join(format!("{name}.sock")));
        let text = format!(
            "version: 1\nworkers: 2\nstate_dir: {}\n\
             admin: {{ listen: \"127.0.0.1:{admin}\", socket: {} }}\n\
             listeners:\n  plain: {{ bind: [\"127.0.0.1:{port}\"] }}\n\
             routes:\n  app: {{ hosts: [{HOST}], respond: {{ status: 200, body: ok }} }}\n",
            state.display(),
            socket.display()
        );
        fs::write(&config, text)?;
        Ok(Self { config, admin, log: dir.join(format!("{name}.log")) })
    }

    fn start(&self, binary: &Path) -> Result<Edge> {
        let mut argv = edge::argv(binary, &self.config);
        argv.push("--share-ports".to_owned());
        let mut edge = Edge::spawn(&argv, self.admin, &self.log)?;
        edge.wait_ready(READY)?;
        Ok(edge)
    }
}

fn report(outcome: &mut Outcome, migrate: &str, rounds: &[Round]) {
    let what = |text: &str| format!("tcp_migrate_req={migrate}: {text}");
    let list = |pick: &dyn Fn(&Round) -> u64| -> String {
        rounds.iter().map(|round| pick(round).to_string()).collect::<Vec<_>>().join(" ")
    };
    let total = |pick: &dyn Fn(&Round) -> Numbers| -> Numbers {
        rounds.iter().map(pick).fold(Numbers::default(), Numbers::plus)
    };
    for (kind, at) in [("sent at once", 0_usize), ("sent after 5 ms", 1)] {
        let of = |numbers: &[Numbers; 2]| numbers.get(at).copied().unwrap_or_default();
        outcome.measured(
            what(&format!("{kind}: lost per round while the first left")),
            list(&|round| of(&round.leaving).lost()),
        );
        let (joining, leaving) =
            (total(&|round| of(&round.joining)), total(&|round| of(&round.leaving)));
        outcome.measured(
            what(&format!("{kind}: all rounds")),
            format!("leaving: {}; joining: {}", words(&leaving), words(&joining)),
        );
    }
    let slowest = rounds.iter().map(|round| round.drain).max().unwrap_or_default();
    outcome.measured(what("longest drain"), format!("{slowest:.2?}"));
}

fn words(numbers: &Numbers) -> String {
    let lost = [
        ("refused", Fate::Refused),
        ("reset", Fate::Reset),
        ("closed", Fate::Closed),
        ("other status", Fate::Status),
        ("other", Fate::Other),
    ];
    let lost: Vec<String> = lost
        .into_iter()
        .filter(|(_, fate)| numbers.of(*fate) > 0)
        .map(|(word, fate)| format!("{} {word}", numbers.of(fate)))
        .collect();
    let lost = if lost.is_empty() { "none lost".to_owned() } else { lost.join(", ") };
    format!("{lost} of {}", numbers.of(Fate::Answered) + numbers.lost())
}

const READY: Duration = Duration::from_secs(10);
const PART: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_what_was_lost() {
        assert_eq!(words(&Numbers([10, 0, 0, 0, 0, 0])), "none lost of 10");
        assert_eq!(words(&Numbers([10, 1, 0, 2, 0, 0])), "1 refused, 2 closed of 13");
    }
}
