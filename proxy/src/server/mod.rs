//! The order in which a process starts and ends.
//!
//! Start: signals, configuration (the file, else what was last accepted), file limit, addresses
//! taken, admin, certificates loaded, first table live, names resolved, listeners open, workers.
//! Nothing waits for a certificate authority, and for DNS a second at most. End: see [`Control::run`].

mod assign;
mod bind;
mod boot;
mod holder;
mod inherit;
pub mod notify;
pub mod watchdog;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use config::merge::Accepted;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::crypto::aws_lc_rs::Ticketer;

use crate::control::certs::{self, CertKeeper};
use crate::control::command;
use crate::control::gather::Gather;
use crate::control::health::Checker;
use crate::control::last_good::LastGood;
use crate::control::resolve::Resolver;
use crate::control::status::Status;
use crate::control::{Control, End, Publisher, Signals, note};
use crate::log::{FLUSH, LogFormat, Sink, init_tracing};
use crate::state::Shared;
use crate::worker::Worker;
use crate::{admin, worker};
use bind::{Reserved, reserve};
use boot::Boot;
use inherit::Inherited;
use notify::Notifier;
use watchdog::Watchdog;

/// What `run` is told.
#[derive(Clone, Debug)]
pub struct Options {
    pub config: PathBuf,
    /// Serve beside another process on the same addresses.
    pub share_ports: bool,
    pub log_format: LogFormat,
}

/// Why the process did not start, as one text for people.
type Refusal = String;

/// Serves until a signal ends it.
pub fn run(options: &Options) -> ExitCode {
    // First of all: see there.
    let inherited = inherit::take();
    let tracing = init_tracing(options.log_format);
    let code = match runtime() {
        Ok(runtime) => {
            let ended = runtime.block_on(serve(options, inherited));
            match ended {
                Ok(End::Drained) => ExitCode::SUCCESS,
                Ok(End::WorkerLost) => ExitCode::FAILURE,
                Err(refusal) => {
                    tracing::error!("{refusal}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(why) => {
            tracing::error!("no runtime: {why}");
            ExitCode::FAILURE
        }
    };
    tracing.finish();
    code
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn serve(
    options: &Options,
    inherited: Result<Vec<Inherited>, Refusal>,
) -> Result<End, Refusal> {
    let signals = Signals::install().map_err(|why| format!("signals: {why}"))?;
    let booted = boot::load(&options.config)?;
    let accepted = booted.accepted.clone();
    let nofile = raise_file_limit();
    let reserved = reserve(accepted.global.listeners.values(), options.share_ports, inherited?)?;

    let (sink, log_thread) = Sink::start(accepted.global.log.queue_bytes);
    let shared = Arc::new(Shared::new(sink.clone()));
    count_panics(&shared);
    let status = Arc::new(Status::default());
    booted.note(&options.config, &status);
    admin::start(&accepted.global.admin, shared.clone(), status.clone());

    let publisher = publisher(&shared, &reserved, nofile)?;
    let mut control = control(booted, options, signals, publisher, shared, status).await?;
    control.first_names(FIRST_NAMES).await;
    let ended = match open(control, reserved, &accepted) {
        Ok(control) => Ok(control.run().await),
        Err(refusal) => Err(refusal),
    };
    sink.finish(log_thread, FLUSH);
    if ended == Ok(End::Drained) {
        tracing::info!("drained");
    }
    ended
}

/// A panic ends one task, never the process; it is counted and logged.
fn count_panics(shared: &Shared) {
    let count = shared.metrics.request_panics.clone();
    std::panic::set_hook(Box::new(move |what| {
        count.inc();
        tracing::error!("panic: {what}");
    }));
}

fn publisher(shared: &Arc<Shared>, reserved: &Reserved, nofile: u64) -> Result<Publisher, Refusal> {
    let ticketer = Ticketer::new().map_err(|why| format!("session tickets: {why}"))?;
    Ok(Publisher::new(shared.clone(), ticketer, reserved.addresses(), nofile))
}

/// Certificates, then the first table.
async fn control(
    booted: Boot,
    options: &Options,
    signals: Signals,
    mut publisher: Publisher,
    shared: Arc<Shared>,
    status: Arc<Status>,
) -> Result<Control, Refusal> {
    let Boot { accepted, mut watch, outcome, hash, files } = booted;
    let state_dir = &accepted.global.state_dir;
    let counted = shared.clone();
    let asked = Arc::new(move |issuer: &str, asked| counted.metrics.acme_asked(issuer, asked));
    let (table, challenges) = (shared.certs.clone(), shared.challenges.clone());
    let certs = CertKeeper::start(state_dir, table, challenges, asked);
    let mut certs = certs.map_err(|why| format!("the certificate threads: {why}"))?;
    let _ = status.acme.set(certs.acme().clone());
    let wanted = certs::wanted(&accepted);
    let pairs = wanted.files.clone();
    watch.set_others(files, pairs.into_iter().flat_map(|pair| [pair.chain, pair.key]));
    certs.submit(wanted);
    let report = certs.settled(FIRST_CERTIFICATES).await;
    let mut resolver = Resolver::new();
    let mut checker = Checker::new(shared.clone());
    publisher.publish(&accepted, &mut resolver, &mut checker);
    note(&shared, &status, &outcome, hash, Some(&accepted));
    let last_good = LastGood::start(&accepted.global.state_dir);
    last_good.keep(&accepted);
    last_good.settle(Duration::from_secs(1));
    let (commands, inbox) = command::channel();
    let _ = status.commands.set(commands);
    let mut control = Control {
        shared,
        status,
        file: options.config.clone(),
        watch,
        accepted,
        publisher,
        certs,
        resolver,
        checker,
        gather: Gather::default(),
        last_good,
        signals,
        commands: inbox,
        workers: Vec::new(),
        problems: Vec::new(),
        notifier: Notifier::of_environment(),
        watchdog: Watchdog::default(),
    };
    match report {
        Some(report) => control.certified(report),
        None => {
            tracing::warn!("not every certificate is there yet; the others follow");
            control.status.set_certificates_loaded();
        }
    }
    Ok(control)
}

/// Opens the listeners and starts the workers.
fn open(mut control: Control, reserved: Reserved, accepted: &Accepted) -> Result<Control, Refusal> {
    let workers = worker_count(accepted);
    let (sockets, bound) = reserved.listen(workers).map_err(|why| why.to_string())?;
    for bound in &bound {
        let protocol = if bound.tls { "https" } else { "http" };
        tracing::info!("listener {}: {protocol} on {}", bound.listener, bound.address);
    }
    let _ = control.status.listeners.set(bound);
    let start = |(index, sockets)| worker::start(index, control.shared.clone(), sockets);
    let started: std::io::Result<Vec<Worker>> =
        sockets.into_iter().enumerate().map(start).collect();
    control.workers = started.map_err(|why| {
        control.shared.drain.force();
        format!("a worker cannot be started: {why}")
    })?;
    control.status.set_serving();
    if control.notifier.is_there() {
        control.watchdog = Watchdog::of_environment();
    }
    control.tell_ready();
    tracing::info!(
        "openclaw-edge {} serves {} routes and {} upstreams from {} with {workers} workers",
        env!("CARGO_PKG_VERSION"),
        accepted.routes.len(),
        accepted.upstreams.len(),
        control.file.display(),
    );
    Ok(control)
}

fn worker_count(accepted: &Accepted) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    accepted.global.workers.map_or_else(cores, usize::from)
}

/// Lifts the soft limit of open files to the hard one and tells what holds.
fn raise_file_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: maximum, maximum };
    if current != maximum
        && let Err(why) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::warn!("the limit of open files stays as it is: {why}");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Certificates that are not there by then follow while serving.
const FIRST_CERTIFICATES: Duration = Duration::from_secs(10);
/// Names that DNS has not answered by then follow while serving. Without this time a process that
/// joins another one on its ports would answer its first requests 503 `dns_failed`.
const FIRST_NAMES: Duration = Duration::from_secs(1);
