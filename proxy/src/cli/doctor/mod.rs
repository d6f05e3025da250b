//! `openclaw-edge doctor`: what about this machine keeps the edge from serving, and what to type.
//! Only looks; needs no running process. What cannot be seen from here is said to be unknown.

mod clock;
mod exposure;
mod home;
mod kernel;
mod limits;
mod line;
mod machine;
mod names;
mod ports;
mod process;
mod rights;
mod running;
mod settings;
mod state;
mod status;
mod tcp;
mod unit;

use std::process::ExitCode;

use clap::Args;
use config::merge::Accepted;

use self::line::{Level, Report};
use self::machine::Machine;
use self::running::Running;
use super::certs::Output;
use super::place::{End, Place, finish};
use super::run;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    place: Place,
    /// Ask neither DNS nor a CA
    #[arg(long)]
    offline: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub fn main(args: &DoctorArgs) -> ExitCode {
    finish(run(async {
        let report = examine(args).await;
        report.print(args.output).map_err(|why| End::No(why.to_string()))?;
        match report.count(Level::Error) {
            0 => Ok(()),
            _ => Err(End::No(String::new())),
        }
    }))
}

async fn examine(args: &DoctorArgs) -> Report {
    let machine = Machine::default();
    let mut report = Report::default();
    home::look(&args.place.config, &machine, &mut report);
    match args.place.accepted_or("another one with OPENCLAW_EDGE_CONFIG") {
        Ok(accepted) => {
            configured(args, &accepted, &machine, &mut report).await;
        }
        Err(why) => {
            let first = why.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason");
            let fix = format!("openclaw-edge check --config {}", args.place.config.display());
            report.error(settings::CHECK, format!("{first}; nothing else can be looked at"), fix);
        }
    }
    report
}

/// What depends on the configuration.
async fn configured(
    args: &DoctorArgs,
    accepted: &Accepted,
    machine: &Machine,
    report: &mut Report,
) {
    let global = &accepted.global;
    let socket = args.place.socket.clone().or_else(|| global.admin.socket.clone());
    let shown = socket.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let running = Running::find(socket).await;
    running.tell(machine, &shown, report);
    settings::look(&args.place.config, accepted, &running, report);
    let table = ports::table(machine);
    ports::look(global, &running, machine, &table, report);
    rights::look(global, &running, machine, report);
    limits::descriptors(global, &running, machine, report);
    limits::memory(global, &running, machine, report);
    kernel::look(global, machine, report);
    state::look(global, &running, machine, report);
    state::socket(global, &running, machine, report);
    exposure::look(accepted, &table, report);
    clock::look(accepted, machine, args.offline, report).await;
    if !args.offline {
        names::look(accepted, report).await;
    }
}
