//! `soak`: what must hold over time, with real clients against the release binary. Each part writes
//! a report and exits with 1 where a criterion is not met. Loopback only; `overlap`, `faults` and
//! `endpoints` make network namespaces of their own.

mod backend;
mod bodies;
mod caller;
mod churn;
mod client;
mod curl;
mod dns;
mod endpoints;
mod faults;
mod flood;
mod idle_close;
mod kill;
mod limits;
mod namespace;
mod newcomers;
mod outcome;
mod overlap;
mod pattern;
mod platform;
mod process;
mod reload;
mod restart;
mod rollout;
mod service;
mod stall;
mod stand;
mod steady;
mod streams;
mod tenants;
mod websocket;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use benches::{Result, net};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "What must hold over time")]
struct Cli {
    #[command(subcommand)]
    part: Part,
    /// Where the reports go
    #[arg(long, global = true, default_value = "benches/load/results")]
    out: PathBuf,
    /// File name of the report without ending; default: `soak-PART`
    #[arg(long, global = true)]
    name: Option<String>,
}

#[derive(Subcommand)]
enum Part {
    /// The config rewritten a thousand times under load, with 400 streams open
    Reload(reload::Args),
    /// Bodies of 2 GiB both ways with flat memory
    Bodies(bodies::Args),
    /// Two processes on the same ports, the first drained: what new connections notice
    Overlap(overlap::Args),
    /// The load of deploy/tests/replace.sh, which replaces the processes itself
    Rollout(rollout::Args),
    /// kill -9 at any time, start again: serves as before
    Kill(kill::Args),
    /// The example of the platform with real clients
    Platform(platform::Args),
    /// Rolling restart of three real backends under GET and POST over h1 and h2
    Restart(restart::Args),
    /// POSTs with pauses around the time at which the backends close idle connections
    IdleClose(idle_close::Args),
    /// The only backend away for 1.5 s, again and again
    Outage(restart::Args),
    /// One of three replicas cut off, one failing, one slow, in network namespaces (root)
    Faults(faults::Args),
    /// 10,000 endpoints behind DNS names, changing every second, in a network namespace (root)
    Endpoints(endpoints::Args),
    /// Rate limits: an exact count over both workers; a flood of addresses and credentials
    Limits(limits::Args),
    /// 10,000 tenants, one of which changes every second, while 50 others are in use
    Tenants(tenants::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("soak: a criterion is not met");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("soak: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<bool> {
    net::raise_open_files()?;
    let start = Instant::now();
    let (name, outcome) = match &cli.part {
        Part::Reload(args) => ("reload", reload::run(args)?),
        Part::Bodies(args) => ("bodies", bodies::run(args)?),
        Part::Overlap(args) => ("overlap", overlap::run(args)?),
        Part::Rollout(args) => ("rollout", rollout::run(args)?),
        Part::Kill(args) => ("kill", kill::run(args)?),
        Part::Platform(args) => ("platform", platform::run(args)?),
        Part::Restart(args) => ("restart", restart::run(args)?),
        Part::IdleClose(args) => ("idle-close", idle_close::run(args)?),
        Part::Outage(args) => ("outage", restart::outage(args)?),
        Part::Faults(args) => ("faults", faults::run(args)?),
        Part::Endpoints(args) => ("endpoints", endpoints::run(args)?),
        Part::Limits(args) => ("limits", limits::run(args)?),
        Part::Tenants(args) => ("tenants", tenants::run(args)?),
    };
    let name = cli.name.clone().unwrap_or_else(|| format!("soak-{name}"));
    outcome.finish(&cli.out, &name, start.elapsed().as_secs())
}
