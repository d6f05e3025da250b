//! `soak faults`: of three replicas in a network namespace one is cut off (every packet to and from
//! it is dropped), one answers 500, one is slow. What clients see before and after the ejection,
//! and the recovery.

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use benches::Result;

use crate::backend::spawn;
use crate::namespace::Namespace;
use crate::outcome::Outcome;
use crate::stand::{Stand, one_upstream};
use crate::steady::{Steady, Window};
use crate::wire::Head;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    edge: PathBuf,
    /// Of each fault
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    #[arg(long, default_value_t = 8)]
    clients: usize,
}

/// Everything happens in a thread that has entered the edge's namespace: children end with it.
pub fn run(args: &Args) -> Result<Outcome> {
    let net = Network::make()?;
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            net.edge.enter()?;
            measure(args, &net)
        });
        inside.join().unwrap_or_else(|_| Err("the thread panicked".into()))
    })
}

/// The edge's namespace, the replicas', and a router between them that can drop.
struct Network {
    edge: Namespace,
    router: Namespace,
    replicas: Namespace,
}

impl Network {
    fn make() -> Result<Self> {
        let edge = Namespace::named("edge")?;
        let router = Namespace::named("router")?;
        let replicas = Namespace::named("replicas")?;
        for (end, device, outer, inner) in [
            (&edge, "to-edge", "10.77.0.1/24", "10.77.0.2/24"),
            (&replicas, "to-replicas", "10.77.1.1/24", "10.77.1.2/24"),
        ] {
            router.ip(&["link", "add", device, "type", "veth", "peer", "name", "up0"])?;
            router.ip(&["link", "set", "up0", "netns", end.name()])?;
            router.ip(&["addr", "add", outer, "dev", device])?;
            router.ip(&["link", "set", device, "up"])?;
            end.ip(&["addr", "add", inner, "dev", "up0"])?;
            end.ip(&["link", "set", "up0", "up"])?;
            let gateway = outer.trim_end_matches("/24");
            end.ip(&["route", "add", "default", "via", gateway])?;
        }
        router.set("net.ipv4.ip_forward", "1")?;
        for replica in 0..NAMES.len() {
            replicas.ip(&["addr", "add", &format!("{}/24", address(replica)), "dev", "up0"])?;
        }
        Ok(Self { edge, router, replicas })
    }

    /// Drops every packet to and from a replica, without a word to anybody.
    fn cut(&self, replica: usize, cut: bool) -> Result<()> {
        let verb = if cut { "add" } else { "del" };
        let host = format!("{}/32", address(replica));
        self.router.ip(&["route", verb, "blackhole", &host])?;
        self.router.ip(&["rule", verb, "from", &host, "blackhole"])
    }
}

const NAMES: [&str; 3] = ["one", "two", "three"];

fn address(replica: usize) -> String {
    format!("10.77.1.{}", 11 + replica)
}

const GOOD: u8 = 0;
const ERRORS: u8 = 1;
const SLOW: u8 = 2;

#[derive(Clone, Copy)]
enum Fault {
    CutOff,
    Errors,
    Slow,
}

impl Fault {
    /// One for each replica.
    const ALL: [Self; 3] = [Self::CutOff, Self::Errors, Self::Slow];

    fn name(self) -> &'static str {
        match self {
            Self::CutOff => "cut off",
            Self::Errors => "answers 500",
            Self::Slow => "slow (2 s)",
        }
    }

    fn set(self, on: bool, net: &Network, replica: usize, mood: &AtomicU8) -> Result<()> {
        let bad = match self {
            Self::CutOff => return net.cut(replica, on),
            Self::Errors => ERRORS,
            Self::Slow => SLOW,
        };
        mood.store(if on { bad } else { GOOD }, Ordering::SeqCst);
        Ok(())
    }
}

/// A replica whose mood changes while it runs; lives as long as this process.
fn replica(net: &Network, number: usize, name: &'static str) -> Result<Arc<AtomicU8>> {
    let mood = Arc::new(AtomicU8::new(GOOD));
    let own = mood.clone();
    let listener = thread::scope(|scope| {
        let bind = scope.spawn(|| {
            net.replicas.enter()?;
            Ok::<_, benches::Error>(TcpListener::bind((address(number), PORT))?)
        });
        bind.join().unwrap_or_else(|_| Err("the thread panicked".into()))
    })?;
    spawn(move || {
        for stream in listener.incoming().flatten() {
            let mood = own.clone();
            let _ = spawn(move || drop(serve(stream, name, &mood)));
        }
    })?;
    Ok(mood)
}

fn serve(stream: TcpStream, name: &str, mood: &AtomicU8) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(head) = Head::read(&mut stream)? {
        head.body(&mut stream)?.read_to_end(&mut Vec::new())?;
        let mood = mood.load(Ordering::SeqCst);
        if mood == SLOW {
            thread::sleep(SLOWNESS);
        }
        let status = if mood == ERRORS { "500 Internal Server Error" } else { "200 OK" };
        let length = name.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{name}");
        stream.get_mut().write_all(answer.as_bytes())?;
    }
    Ok(())
}

fn measure(args: &Args, net: &Network) -> Result<Outcome> {
    let mut outcome = Outcome::new("One of three replicas cut off, failing, slow")?;
    let dir = tempfile::tempdir()?;
    let mut moods = Vec::new();
    for (number, name) in NAMES.into_iter().enumerate() {
        moods.push(replica(net, number, name)?);
    }
    let endpoints: Vec<String> =
        (0..NAMES.len()).map(|n| format!("{}:{PORT}", address(n))).collect();
    let keys = ", ejection: { failures: 5, time: 5s }, \
                timeouts: { connect: 500ms, first_byte: 1s }";
    let stand = Stand::start(&args.edge, &dir, &one_upstream(&endpoints, keys), &[])?;
    let load = Steady::start(&stand.plan(args.clients))?;
    let half = Duration::from_secs(args.seconds) / 2;
    report(&mut outcome, "all well", load.run(half), Some(Promise { errors: 0, p99: 50.0 }));

    for (number, (name, fault)) in NAMES.into_iter().zip(Fault::ALL).enumerate() {
        let what = fault.name();
        let mood = moods.get(number).ok_or("no replica")?;
        fault.set(true, net, number, mood)?;
        // Until its failures in a row are reached, on every connection that was under way.
        report(&mut outcome, &format!("{what}: first 4 s"), load.run(Duration::from_secs(4)), None);
        let ejected = load.run(half);
        let share = ejected.share(name);
        outcome.require(format!("{what}: its share of answers, percent"), share, "≤ 2", share <= 2);
        // A trial for each term, with what comes at the same moment.
        let trials = 2 + half.as_secs() / 5;
        let promise = Promise { errors: trials, p99: 100.0 };
        report(&mut outcome, &format!("{what}: ejected"), ejected, Some(promise));
        fault.set(false, net, number, mood)?;
        // The longest term so far: 5 s, doubled with each trial that failed.
        let _ = load.run(Duration::from_secs(12) + half);
        let well = load.run(half);
        let share = well.share(name);
        let met = (20..=47).contains(&share);
        outcome.require(format!("{what}: share after recovery, percent"), share, "20–47", met);
        let promise = Promise { errors: 0, p99: 50.0 };
        report(&mut outcome, &format!("{what}: recovered"), well, Some(promise));
    }
    let _ = load.finish();
    stand.finish(&mut outcome);
    Ok(outcome)
}

/// At most so many errors, and this p99 in ms.
struct Promise {
    errors: u64,
    p99: f64,
}

fn report(outcome: &mut Outcome, what: &str, mut window: Window, promise: Option<Promise>) {
    let (sent, errors, p99) = (window.sent(), window.errors(), window.latency(0.99));
    let value = format!("{errors} of {sent}, {p99:.1} ms");
    let what = format!("{what}: errors, p99");
    match promise {
        None => outcome.measured(what, value),
        Some(promise) => {
            let met = sent > 0 && errors <= promise.errors && p99 <= promise.p99;
            let criterion = format!("≤ {}, ≤ {:.0} ms", promise.errors, promise.p99);
            outcome.require(what, value, criterion, met);
        }
    }
    if errors > 0 {
        outcome.note(window.told());
    }
}

const PORT: u16 = 8080;
const SLOWNESS: Duration = Duration::from_secs(2);
