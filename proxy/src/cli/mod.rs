//! The command line. Data goes to stdout, talk to stderr.
//!
//! Exit codes: 0 ok, 1 negative result, 2 usage, 3 admin server not reachable, 4 reload refused,
//! 5 timed out.

mod acme_check;
mod backup;
mod certs;
mod doctor;
mod drain;
mod export;
mod healthcheck;
mod import;
mod limits;
pub mod orders;
pub mod out;
mod pages;
mod place;
mod shift;
mod socket;
mod table;
mod tenants;
mod upstreams;

use out::tell;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::log::LogFormat;
use crate::{check, demo, server};
use place::End;

/// Edge reverse proxy and TLS terminator
#[derive(Debug, Parser)]
#[command(
    name = "openclaw-edge",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 ok, 1 negative result, 2 usage, 3 admin server not reachable, \
                  4 reload refused, 5 timed out.\n\
                  Environment: OPENCLAW_EDGE_CONFIG (config file), OPENCLAW_EDGE_LOG (off, error, \
                  warn, info, debug, trace)."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; the config file is watched, SIGHUP reads it again
    Run(RunArgs),
    /// Check a config file: every error with its place, the file's own tests, and how long a first
    /// issuance of its certificates takes
    Check(ConfigArg),
    /// Ask whether a running process is ready, or whether a URL answers as it should
    ///
    /// Exit code 0: it is; 1: it answers something else; 3: nobody answers; 5: no answer in time.
    Healthcheck(Box<healthcheck::HealthcheckArgs>),
    /// Certificates of a running process: list, show, renew, revoke, import, export
    Certs(certs::CertsArgs),
    /// Endpoints of a running process: state and why, weight, requests, connections, latency;
    /// exit code 1 where an upstream has none that can be used
    Upstreams(upstreams::UpstreamsArgs),
    /// Rate limits of a running process: decisions, keys, the busiest (hashed) keys of a route
    Limits(limits::LimitsArgs),
    /// Tenants of a running process: hosts, endpoint, certificate, and why an entry was refused;
    /// exit code 1 where one was
    Tenants(tenants::TenantsArgs),
    /// Take an endpoint out: it gets no new requests, those under way end by themselves
    Drain(drain::DrainArgs),
    /// Put a drained endpoint back
    Undrain(drain::UndrainArgs),
    /// Give the split of a route other weights for a while, without touching the file
    Shift(shift::ShiftArgs),
    /// Give the split of a route its configured weights back
    Unshift(shift::UnshiftArgs),
    /// Ask why a CA would refuse, before it is asked
    Acme(acme_check::AcmeArgs),
    /// Look at the machine: ports and who has them, descriptors, clock, DNS of all hosts, state
    /// directory, capabilities, kernel options, memory; each line ok, warning or error with the fix
    ///
    /// Changes nothing, and needs no running process. Exit code 0: ok, warnings included; 1: an error
    /// at least.
    Doctor(doctor::DoctorArgs),
    /// Copy accounts, certificates, keys and the last accepted configuration into one file
    Backup(backup::BackupArgs),
    /// Put a backup back into the state directory of a process that is stopped
    Restore(backup::RestoreArgs),
    /// Serve an example on 127.0.0.1 with built-in backends, and print what to try
    Demo(demo::DemoArgs),
    /// Print the completions of a shell
    Completions(pages::CompletionsArgs),
    /// Write the man pages
    Man(pages::ManArgs),
    /// Print what every metric means, as Markdown
    Metrics,
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
struct ConfigArg {
    /// Configuration, YAML or JSON
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "OPENCLAW_EDGE_CONFIG",
        default_value = "/etc/openclaw-edge/edge.yaml"
    )]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Serve beside another openclaw-edge on the same addresses, for a hand-over
    #[arg(long)]
    share_ports: bool,
    /// Form of the log on stderr; the access log on stdout has its own setting
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    log_format: LogFormat,
}

/// Does what the arguments say.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => server::run(&server::Options {
            config: args.config.config,
            share_ports: args.share_ports,
            log_format: args.log_format,
        }),
        Command::Check(args) => check::run(&args.config),
        Command::Healthcheck(args) => healthcheck::main(*args),
        Command::Certs(args) => certs::main(args),
        Command::Upstreams(args) => upstreams::main(args),
        Command::Limits(args) => limits::main(args),
        Command::Tenants(args) => tenants::main(args),
        Command::Drain(args) => drain::drain(args),
        Command::Undrain(args) => drain::undrain(args),
        Command::Shift(args) => shift::shift(args),
        Command::Unshift(args) => shift::unshift(args),
        Command::Acme(args) => acme_check::main(args),
        Command::Doctor(args) => doctor::main(&args),
        Command::Backup(args) => backup::backup(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Demo(args) => demo::run_with(&args, |config| {
            let log_format = LogFormat::default();
            server::run(&server::Options { config, share_ports: false, log_format })
        }),
        Command::Completions(args) => pages::completions(&args, Cli::command()),
        Command::Man(args) => pages::man(&args, Cli::command()),
        Command::Metrics => {
            out::text(&crate::metrics::document());
            ExitCode::SUCCESS
        }
        Command::Version => {
            tell!("openclaw-edge {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}

/// Runs a command that waits for others.
fn run(command: impl Future<Output = Result<(), End>>) -> Result<(), End> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| End::No(format!("no runtime: {why}")))?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mistakes_are_usage_errors() {
        for args in
            [&["openclaw-edge", "serve"][..], &["openclaw-edge", "run", "--share-port", "x"]]
        {
            let error = Cli::try_parse_from(args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
        let help = Cli::try_parse_from(["openclaw-edge", "--help"]).unwrap_err();
        assert_eq!(help.kind(), ErrorKind::DisplayHelp);
    }

    #[test]
    fn run_takes_its_options() {
        let cli =
            Cli::parse_from(["openclaw-edge", "run", "--config", "/x", "--log-format", "json"]);
        let Command::Run(args) = cli.command else { panic!() };
        assert_eq!(args.config.config, PathBuf::from("/x"));
        assert_eq!(args.log_format, LogFormat::Json);
        assert!(!args.share_ports);
    }
}
