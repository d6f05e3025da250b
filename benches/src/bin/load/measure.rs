//! One case against one running peer: CPU time of its process tree over the requests completed.

use std::time::{Duration, Instant};

use benches::Result;
use benches::generators::{self, Said};
use serde::Serialize;

use crate::cases::{Case, Load};
use crate::idle;
use crate::output;
use crate::peers::Running;

/// How a generator may overrun before it is ended and the sample counts as failed.
const OVERRUN: Duration = Duration::from_secs(15);

/// One repetition of one case for one peer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// In the unit of the case: µs CPU per request, or KiB per connection. `None`: failed.
    pub value: Option<f64>,
    pub requests_per_second: Option<f64>,
    /// CPU seconds of the peer per second: 1 is one full core.
    pub cpu_in_use: Option<f64>,
    /// MiB of the peer before any load (idle cases).
    pub rest_mib: Option<f64>,
    /// KiB per connection that remain after all are closed (idle cases).
    pub kept_kib: Option<f64>,
    #[serde(flatten)]
    pub said: Said,
}

pub struct Settings<'a> {
    /// Path of this program, for the handshake generator.
    pub own: &'a str,
    /// Core of the load generator.
    pub core: usize,
    pub seconds: u64,
    pub idle_connections: usize,
}

/// A run that fails is a sample with its error: the other peers go on.
pub fn run(case: &Case, peer: &mut Running, settings: &Settings<'_>) -> Sample {
    let outcome = match case.load {
        Load::Idle { tls } => idle_sample(peer, tls, settings.idle_connections),
        _ => cpu_sample(case, peer, settings),
    };
    let mut sample = outcome.unwrap_or_else(|e| {
        let said = Said { errors: 1, error_text: Some(e.to_string()), ..Said::default() };
        Sample { said, ..Sample::default() }
    });
    if !peer.server.is_alive() {
        sample.said.errors += 1;
        sample.said.error_text = Some("the peer has ended".into());
    }
    sample
}

fn cpu_sample(case: &Case, peer: &Running, settings: &Settings<'_>) -> Result<Sample> {
    let (plain, tls) = (peer.ports.plain.to_string(), peer.ports.tls.to_string());
    let argv = case.argv(settings.own, &plain, &tls, settings.seconds);
    let limit = Duration::from_secs(settings.seconds) + OVERRUN;
    let start = Instant::now();
    let before = peer.server.cpu_ns();
    let printed = generators::output_of(&argv, Some(settings.core), limit);
    let after = peer.server.cpu_ns();
    let seconds = start.elapsed().as_secs_f64();
    let printed = printed?;
    let said = match case.load {
        Load::Wrk { .. } => generators::wrk(&printed),
        Load::H2load { .. } => generators::h2load(&printed),
        Load::Handshake(_) | Load::Idle { .. } => output::handshake(&printed),
    };
    let said = said.ok_or_else(|| format!("{} printed: {}", argv.join(" "), printed.trim()))?;
    if said.requests == 0 {
        return Err(format!("no request completed: {:?}", said.error_text).into());
    }
    #[allow(clippy::cast_precision_loss)]
    let (cpu_ns, requests) = (after.saturating_sub(before) as f64, said.requests as f64);
    Ok(Sample {
        value: Some(cpu_ns / 1e3 / requests),
        requests_per_second: Some(requests / seconds),
        cpu_in_use: Some(cpu_ns / 1e9 / seconds),
        said,
        ..Sample::default()
    })
}

fn idle_sample(peer: &Running, tls: bool, count: usize) -> Result<Sample> {
    let port = if tls { peer.ports.tls } else { peer.ports.plain };
    let idle = idle::measure(&peer.server, port, tls, count)?;
    Ok(Sample {
        value: Some(idle.each_kib),
        rest_mib: Some(idle.rest_mib),
        kept_kib: Some(idle.kept_kib),
        ..Sample::default()
    })
}
