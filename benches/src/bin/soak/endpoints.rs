//! `soak endpoints`: 10,000 endpoints behind DNS names, some of which change every second.

use std::collections::HashMap;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use benches::Result;

use crate::backend::spawn;
use crate::dns::{self, Zone};
use crate::namespace::Namespace;
use crate::outcome::Outcome;
use crate::stand::{Stand, one_upstream};
use crate::steady::{Steady, Window};
use crate::wire::Head;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    edge: PathBuf,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[arg(long, default_value_t = 100)]
    names: u8,
    /// Addresses of each name
    #[arg(long, default_value_t = 100)]
    each: u8,
    #[arg(long, default_value_t = 4)]
    clients: usize,
}

/// In a namespace with its own `resolv.conf` (ip-netns(8)): port 53 is nobody else's there.
pub fn run(args: &Args) -> Result<Outcome> {
    let namespace = Namespace::make()?;
    let _resolver = Resolver::make(&namespace)?;
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            namespace.enter()?;
            measure(args, &namespace)
        });
        inside.join().unwrap_or_else(|_| Err("the thread panicked".into()))
    })
}

/// `/etc/netns/NAME/resolv.conf`; goes with this value.
struct Resolver(PathBuf);

impl Resolver {
    fn make(namespace: &Namespace) -> Result<Self> {
        let dir = Path::new("/etc/netns").join(namespace.name());
        fs::create_dir_all(&dir)?;
        let made = Self(dir);
        fs::write(made.0.join("resolv.conf"), "nameserver 127.0.0.1\noptions ndots:1\n")?;
        Ok(made)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        // Only if it was ours alone.
        let _ = fs::remove_dir("/etc/netns");
    }
}

/// What the names point to, and since when an address is gone.
struct Fleet {
    zone: Arc<Zone>,
    names: u8,
    each: u8,
    gone: Mutex<HashMap<Ipv4Addr, Instant>>,
    stale: AtomicU64,
    requests: AtomicU64,
}

impl Fleet {
    /// The addresses of a name in this second: a window that moves by one.
    fn publish(&self, second: u16) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        for name in 0..self.names {
            let at = |offset: u16| {
                let [high, low] = offset.to_be_bytes();
                Ipv4Addr::new(127, 1 + name, high, low)
            };
            let first = second + 1;
            let all: Vec<Ipv4Addr> = (0..u16::from(self.each)).map(|n| at(first + n)).collect();
            self.zone.put(&format!("p{name}.openclaw.example"), all);
            if second > 0 {
                gone.insert(at(second), Instant::now());
            }
        }
    }

    fn is_stale(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return true };
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.get(&address).is_some_and(|since| since.elapsed() > GRACE)
    }
}

/// All addresses at once: a listener on any of them.
fn backend(fleet: &Arc<Fleet>) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    rustix::net::listen(&listener, 4096)?;
    let fleet = fleet.clone();
    spawn(move || {
        for stream in listener.incoming().flatten() {
            let fleet = fleet.clone();
            let _ = spawn(move || drop(serve(stream, &fleet)));
        }
    })?;
    Ok(())
}

fn serve(stream: TcpStream, fleet: &Fleet) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let address = stream.local_addr()?.ip();
    let mut stream = BufReader::with_capacity(2048, stream);
    while let Some(head) = Head::read(&mut stream)? {
        head.body(&mut stream)?.read_to_end(&mut Vec::new())?;
        fleet.requests.fetch_add(1, Ordering::Relaxed);
        fleet.stale.fetch_add(u64::from(fleet.is_stale(address)), Ordering::Relaxed);
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    }
    Ok(())
}

fn measure(args: &Args, namespace: &Namespace) -> Result<Outcome> {
    let mut outcome = Outcome::new("Endpoints behind DNS names that change every second")?;
    let dir = tempfile::tempdir()?;
    let fleet = Arc::new(Fleet {
        zone: Arc::default(),
        names: args.names,
        each: args.each,
        gone: Mutex::default(),
        stale: AtomicU64::new(0),
        requests: AtomicU64::new(0),
    });
    fleet.publish(0);
    dns::serve(&fleet.zone)?;
    backend(&fleet)?;
    let endpoints: Vec<String> =
        (0..args.names).map(|name| format!("p{name}.openclaw.example:{PORT}")).collect();
    let prefix = ["ip", "netns", "exec", namespace.name()];
    let entries = one_upstream(&endpoints, ", balance: least_request");
    let stand = Stand::start(&args.edge, &dir, &entries, &prefix)?;
    let wanted = u64::from(args.names) * u64::from(args.each);
    outcome.measured("endpoints", wanted);

    let over = AtomicBool::new(false);
    let (mut all, cpu, idle) = thread::scope(|scope| -> Result<_> {
        // Everything is resolved, and the names stand still.
        thread::sleep(SETTLE);
        let pid = stand.edge.pid();
        let load = Steady::start(&stand.plan(args.clients))?;
        let idle = control_share(pid, Duration::from_secs(10))?;
        let mut all = load.take();
        scope.spawn(|| {
            let start = Instant::now();
            for second in 1.. {
                let next = start + Duration::from_secs(u64::from(second));
                thread::sleep(next.saturating_duration_since(Instant::now()));
                if over.load(Ordering::Relaxed) {
                    return;
                }
                fleet.publish(second);
            }
        });
        let cpu = control_share(pid, Duration::from_secs(args.seconds));
        over.store(true, Ordering::Relaxed);
        all.add(load.finish());
        Ok((all, cpu?, idle))
    })?;
    let asked = fleet.zone.asked();
    outcome.measured("questions to the name server", asked);
    report(&mut outcome, &mut all, &fleet);
    outcome.measured(
        "CPU of the control plane, names stand still, percent of a core",
        format!("{idle:.2}"),
    );
    let changed = u64::from(args.names);
    outcome.require(
        format!("CPU of the control plane, {changed} addresses changing per second"),
        format!("{cpu:.2} %"),
        "< 5 % of a core",
        cpu < 5.0,
    );
    outcome.measured("RSS at the end, MiB", stand.edge.rss_kib() / 1024);
    stand.finish(&mut outcome);
    Ok(outcome)
}

fn report(outcome: &mut Outcome, all: &mut Window, fleet: &Fleet) {
    outcome.require("requests", all.sent(), "> 1000", all.sent() > 1000);
    outcome.require_none("failed requests", all.errors());
    if all.errors() > 0 {
        outcome.note(all.told());
    }
    let p99 = all.latency(0.99);
    outcome.measured("p99, ms", format!("{p99:.1}"));
    let stale = fleet.stale.load(Ordering::Relaxed);
    outcome.require_none("requests to addresses gone for more than 5 s", stale);
}

/// CPU of all threads but the workers over `time`, percent of a core.
fn control_share(pid: u32, time: Duration) -> Result<f64> {
    let (before, start) = (control_ticks(pid)?, Instant::now());
    thread::sleep(time);
    let ticks = control_ticks(pid)?.saturating_sub(before);
    #[allow(clippy::cast_precision_loss)]
    let seconds = ticks as f64 / TICKS_PER_SECOND;
    Ok(seconds / start.elapsed().as_secs_f64() * 100.0)
}

/// User and system time of the threads that are no workers, in ticks (proc(5)).
fn control_ticks(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
        sum += ticks(&stat).ok_or_else(|| format!("unreadable: {stat}"))?;
    }
    Ok(sum)
}

/// 0 for a worker.
fn ticks(stat: &str) -> Option<u64> {
    let (name, rest) = stat.rsplit_once(") ")?;
    if name.split_once('(')?.1.starts_with("worker-") {
        return Some(0);
    }
    let mut fields = rest.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

const PORT: u16 = 8080;
const SETTLE: Duration = Duration::from_secs(5);
/// TTL, question, publication, and requests under way.
const GRACE: Duration = Duration::from_secs(5);
/// `USER_HZ`, the same on every Linux that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_do_not_count() {
        let stat = |name: &str| format!("7 ({name}) S 1 7 7 0 -1 4194304 1 2 3 4 30 12 0 0 20 0");
        assert_eq!(ticks(&stat("openclaw-edge")), Some(42));
        assert_eq!(ticks(&stat("worker-0")), Some(0));
        assert_eq!(ticks(&stat("odd) name")), Some(42));
        assert_eq!(ticks("7"), None);
    }
}
