//! `soak restart`: a rolling restart of three real backends under load; `soak outage`: the only
//! backend is away for a moment.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use benches::Result;

use crate::outcome::Outcome;
use crate::service::{Kind, Service};
use crate::stand::{Stand, one_upstream, require_clean};
use crate::steady::{Steady, Window};

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    edge: PathBuf,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Clients over each of h1 and h2
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// `retry: { non_idempotent: true }`: a POST is sent again also after a reset, when nobody can
    /// know whether it was executed
    #[arg(long)]
    replay_posts: bool,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let (title, route) = match args.replay_posts {
        false => ("Rolling restart of three real backends", ""),
        true => (
            "Rolling restart of three real backends, POSTs sent again after a reset",
            ", retry: { non_idempotent: true }",
        ),
    };
    let mut outcome = Outcome::new(title)?;
    let dir = tempfile::tempdir()?;
    let kinds = [(Kind::Uvicorn, "uvicorn-1"), (Kind::Node, "node"), (Kind::Uvicorn, "uvicorn-2")];
    let mut services = Vec::new();
    for ((kind, name), number) in kinds.into_iter().zip(1..) {
        services.push(Service::start(dir.path(), kind, name, number)?);
    }
    let endpoints: Vec<String> = services.iter().map(|s| s.addr.to_string()).collect();
    let entries = one_upstream(&endpoints, "");
    let routed = format!("upstream: app{route} }}");
    let entries = entries.replace("upstream: app }", &routed);
    let stand = Stand::start(&args.edge, &dir, &entries, &[])?;
    let load = Steady::start(&stand.plan(args.clients))?;
    thread::sleep(Duration::from_secs(1));
    let (start, mut restarts) = (Instant::now(), 0);
    let end = Duration::from_secs(args.seconds);
    'all: loop {
        for service in &mut services {
            service.down()?;
            thread::sleep(GAP);
            service.up()?;
            restarts += 1;
            thread::sleep(Duration::from_secs(2));
            if start.elapsed() > end {
                break 'all;
            }
        }
    }
    let mut all = load.finish();
    outcome.measured("restarts: SIGTERM, 2 s, start", restarts);
    for service in &services {
        // Who was restarted is ejected for a while: the shares differ.
        let answers = all.bodies.get(service.name).copied().unwrap_or_default();
        outcome.require(format!("answers of {}", service.name), answers, "> 0", answers > 0);
    }
    require_clean(&mut outcome, &services, &mut all, 100 * args.seconds);
    stand.measure_retries(&mut outcome)?;
    stand.finish(&mut outcome);
    Ok(outcome)
}

pub fn outage(args: &Args) -> Result<Outcome> {
    let mut outcome = Outcome::new("The only backend away for 1.5 s")?;
    let dir = tempfile::tempdir()?;
    let mut sum = Window::default();
    let mut services = vec![Service::start(dir.path(), Kind::Node, "node", 1)?];
    let endpoint = services.iter().map(|s| s.addr.to_string()).collect::<Vec<_>>();
    let stand = Stand::start(&args.edge, &dir, &one_upstream(&endpoint, ""), &[])?;
    let load = Steady::start(&stand.plan(args.clients))?;
    let (start, mut outages) = (Instant::now(), 0);
    let (mut quiet, mut away) = (0.0_f64, Vec::new());
    while start.elapsed() < Duration::from_secs(args.seconds) {
        let mut before = load.run(Duration::from_secs(2));
        quiet = quiet.max(before.latency(0.99));
        sum.add(before);
        for service in &mut services {
            let gone = Instant::now();
            service.down()?;
            // Its start is part of the time.
            thread::sleep(AWAY.saturating_sub(gone.elapsed()).saturating_sub(BOOT));
            service.up()?;
            away.push(gone.elapsed().as_millis());
        }
        outages += 1;
        sum.add(load.run(Duration::from_secs(1)));
    }
    sum.add(load.finish());
    outcome.measured("outages", outages);
    outcome.measured("from SIGTERM to listening again, ms", format!("{away:?}"));
    outcome.measured("worst p99 while it is there, ms", format!("{quiet:.1}"));
    require_clean(&mut outcome, &services, &mut sum, 20 * args.seconds);
    let slowest = sum.latency(1.0);
    outcome.require("slowest request, ms", format!("{slowest:.0}"), "≤ 2500", slowest <= 2500.0);
    stand.measure_retries(&mut outcome)?;
    stand.finish(&mut outcome);
    Ok(outcome)
}

const GAP: Duration = Duration::from_secs(2);
const AWAY: Duration = Duration::from_millis(1500);
/// About what Node takes to listen.
const BOOT: Duration = Duration::from_millis(80);
