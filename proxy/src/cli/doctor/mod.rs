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

#[cfg(test)]
mod tests {
    use config::NoEnvironment;
    use config::merge::merge;
    use proptest::prelude::*;

    use super::*;

    /// Everything that is read of a machine.
    const FILES: [&str; 16] = [
        "/proc/self/net/tcp",
        "/proc/self/net/tcp6",
        "/proc/self/status",
        "/proc/self/limits",
        "/proc/self/cgroup",
        "/proc/self/mountinfo",
        "/proc/7/comm",
        "/proc/7/cmdline",
        "/proc/7/cgroup",
        "/proc/meminfo",
        "/proc/locks",
        "/proc/sys/net/ipv4/tcp_migrate_req",
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "/sys/fs/cgroup/memory.max",
        "/run/systemd/system/x",
        "/etc/systemd/system/openclaw-edge.service",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// An odd kernel or container makes lines, never a panic and never silence.
        #[test]
        fn any_machine_is_told_of(
            texts in proptest::collection::vec(
                proptest::option::of(
                    "([0-9A-F:. =/-]|Max open files|Uid:|CapEff:|CapBnd:|MemTotal:|LimitNOFILE=|0::|\\PC|\n){0,40}"
                ),
                FILES.len(),
            )
        ) {
            let files: Vec<(&str, &str)> = FILES
                .iter()
                .zip(&texts)
                .filter_map(|(path, text)| Some((*path, text.as_deref()?)))
                .collect();
            let (_dir, machine) = machine::of_files(&files);
            let text = "version: 1\nstate_dir: /nonexistent/x\n\
                listeners: { web: { bind: ['[::]:80'] }, tls: { bind: ['[::]:443'], tls: {} } }\n";
            let accepted = merge(None, config::parse("edge.yaml", text, &NoEnvironment).unwrap());
            let (global, running) = (&accepted.global, Running::default());
            let mut report = Report::default();
            home::look(std::path::Path::new("/edge.yaml"), &machine, &mut report);
            let table = ports::table(&machine);
            ports::look(global, &running, &machine, &table, &mut report);
            rights::look(global, &running, &machine, &mut report);
            limits::descriptors(global, &running, &machine, &mut report);
            limits::memory(global, &running, &machine, &mut report);
            kernel::look(global, &machine, &mut report);
            exposure::look(&accepted, &table, &mut report);
            for check in ["home", "others", "ports", "rights", "descriptors", "memory", "kernel"] {
                prop_assert!(report.lines.iter().any(|line| line.check == check), "{}", check);
            }
            for line in &report.lines {
                let told = line.fix.as_ref().is_some_and(|fix| !fix.is_empty());
                prop_assert_eq!(told, line.level != Level::Ok, "{:?}", line);
            }
        }
    }
}
