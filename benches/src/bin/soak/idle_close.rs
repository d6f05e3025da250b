//! `soak idle-close`: backends that close idle connections after 5 s (uvicorn without a word, Node
//! with its `Keep-Alive` field) under POSTs with pauses around that time.

use std::path::PathBuf;
use std::time::Duration;

use benches::{HOST, Result};

use crate::outcome::Outcome;
use crate::service::{Kind, Service};
use crate::stand::{Stand, require_clean};
use crate::steady::Steady;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    edge: PathBuf,
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Clients over each of h1 and h2, for four paths
    #[arg(long, default_value_t = 64)]
    clients: usize,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let mut outcome = Outcome::new("Backends that close idle connections after 5 s")?;
    let dir = tempfile::tempdir()?;
    let services = [
        Service::start(dir.path(), Kind::Uvicorn, "uvicorn", 1)?,
        Service::start(dir.path(), Kind::Node, "node", 2)?,
    ];
    let mut entries = "upstreams:\n".to_owned();
    let mut routes = "routes:\n".to_owned();
    for service in &services {
        // As it is by default, and with nothing but what is learnt and seen of the endpoint.
        for (suffix, keys) in [("", ""), ("-patient", ", timeouts: { keep_alive: 60s }")] {
            let (name, addr) = (format!("{}{suffix}", service.name), service.addr);
            entries += &format!("  {name}: {{ endpoints: [\"{addr}\"]{keys} }}\n");
            routes +=
                &format!("  {name}: {{ hosts: [{HOST}], path: /{name}, upstream: {name} }}\n");
        }
    }
    let stand = Stand::start(&args.edge, &dir, &(entries + &routes), &[])?;
    let mut plan = stand.plan(args.clients);
    plan.paths = vec!["/uvicorn", "/uvicorn-patient", "/node", "/node-patient"];
    plan.posts_only = true;
    // Mostly around 5 s, sometimes around the edge's own 4 s, sometimes at once.
    plan.pause = |number| {
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        Duration::from_millis(match number % 8 {
            0 | 1 => spread % 20,
            2 => 3950 + spread % 100,
            _ => 4960 + spread % 80,
        })
    };
    let load = Steady::start(&plan)?;
    let mut all = load.run(Duration::from_secs(args.seconds));
    all.add(load.finish());
    outcome.measured("clients, half over h1, half over h2", 2 * args.clients);
    require_clean(&mut outcome, &services, &mut all, 10 * args.seconds);
    stand.measure_retries(&mut outcome)?;
    stand.finish(&mut outcome);
    Ok(outcome)
}
