//! `soak bodies`: bodies of gigabytes pass in both directions, whole, without being kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use benches::edge::{self, Identity, Ports};
use benches::{HOST, Result, net};

use crate::backend;
use crate::curl::{Curl, Protocol, Said, write_pattern};
use crate::outcome::Outcome;
use crate::process::Edge;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    edge: PathBuf,
    #[arg(long, default_value_t = 2048)]
    mib: u64,
    /// Of the transfers with a slow end, at 16 MiB per second
    #[arg(long, default_value_t = 160)]
    slow_mib: u64,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let mut outcome = Outcome::new("Large bodies")?;
    let dir = tempfile::tempdir()?;
    let [plain, tls, admin] = net::free_ports()?;
    let identity = Identity::make(dir.path())?;
    let config = edge::config(
        &Ports { plain, tls, admin },
        &identity,
        backend::start("backend")?,
        2,
        dir.path(),
    );
    let file = dir.path().join("edge.yaml");
    fs::write(
        &file,
        config.replace("upstream: backend }", "upstream: backend, body_limit: unlimited }"),
    )?;
    let body = dir.path().join("body");
    write_pattern(&mut File::create(&body)?, args.mib << 20)?;
    let mut edge =
        Edge::spawn(&edge::argv(&args.edge, &file), admin, &dir.path().join("edge.log"))?;
    edge.wait_ready(Duration::from_secs(10))?;

    let run = Run { edge: &edge, plain, tls, trusted: &identity.chain, body: &body, args };
    for protocol in Protocol::ALL {
        // What a first connection costs is no growth.
        run.curl(protocol, "/head").text()?;
    }
    let rest = edge.rss_kib();
    let mut most = 0;
    for case in cases() {
        most = most.max(run.case(case, &mut outcome)?);
    }
    let growth = most.saturating_sub(rest);
    outcome.require(
        "most RSS of all transfers over RSS at rest, MiB",
        format!("{} over {}", mib(growth), mib(rest)),
        "< 16",
        growth < 16 * 1024,
    );
    outcome.measured("RSS after all, MiB", mib(edge.rss_kib()));
    if !outcome.met() {
        outcome.note(edge.log_tail());
    }
    edge.stop()?;
    Ok(outcome)
}

#[derive(Clone, Copy)]
struct Case {
    protocol: Protocol,
    way: Way,
    /// The receiving end reads slowly.
    slow: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    UpLength,
    UpChunked,
    DownLength,
    DownChunked,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::UpLength => "upload, length",
            Self::UpChunked => "upload, no length",
            Self::DownLength => "download, length",
            Self::DownChunked => "download, chunked by the backend",
        }
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for protocol in Protocol::ALL {
        for way in [Way::UpLength, Way::UpChunked, Way::DownLength, Way::DownChunked] {
            cases.push(Case { protocol, way, slow: false });
        }
        for way in [Way::UpChunked, Way::DownLength] {
            cases.push(Case { protocol, way, slow: true });
        }
    }
    cases
}

struct Run<'a> {
    edge: &'a Edge,
    plain: u16,
    tls: u16,
    trusted: &'a Path,
    body: &'a Path,
    args: &'a Args,
}

impl Run<'_> {
    /// The most memory it took, KiB.
    fn case(&self, case: Case, outcome: &mut Outcome) -> Result<u64> {
        let bytes = if case.slow { self.args.slow_mib } else { self.args.mib } << 20;
        let before = self.edge.rss_kib();
        self.edge.reset_peak()?;
        let start = Instant::now();
        let moved = self.transfer(case, bytes);
        let seconds = start.elapsed().as_secs_f64();
        let peak = self.edge.peak_kib();
        let slow = if case.slow { ", slow reader" } else { "" };
        let what =
            format!("{} {}{slow}, {} MiB", case.protocol.name(), case.way.name(), bytes >> 20);
        let (text, met) = match moved {
            Ok(()) => {
                #[allow(clippy::cast_precision_loss)]
                let rate = bytes as f64 / seconds / f64::from(1 << 20);
                let grown = mib(peak.saturating_sub(before));
                (format!("whole; {rate:.0} MiB/s; RSS grew by {grown} MiB"), true)
            }
            Err(e) => {
                outcome.note(format!("{what}: {e}"));
                (format!("failed after {seconds:.0} s"), false)
            }
        };
        outcome.require(what, text, "every byte right", met);
        Ok(peak)
    }

    fn transfer(&self, case: Case, bytes: u64) -> Result<()> {
        let rate = case.slow.then_some(RATE);
        let curl = |path: &str| self.curl(case.protocol, path);
        match case.way {
            Way::UpLength | Way::UpChunked => {
                let path = rate.map_or("/up".to_owned(), |rate| format!("/up?slow={rate}"));
                let (said, text) = if case.way == Way::UpLength {
                    curl(&path).upload(self.body).text()?
                } else {
                    curl(&path).upload_pipe(bytes).text()?
                };
                let framing = if case.way == Way::UpLength { "length" } else { "chunked" };
                let wanted = format!("bytes {bytes} wrong none framing {framing}\n");
                expect(&said, case.protocol)?;
                if text != wanted {
                    return Err(format!("the backend got: {text}").into());
                }
            }
            Way::DownLength | Way::DownChunked => {
                let chunked = if case.way == Way::DownChunked { "&chunked=1" } else { "" };
                let path = format!("/down?bytes={bytes}{chunked}");
                let (said, checker) = curl(&path).checked(rate)?;
                expect(&said, case.protocol)?;
                if checker.bytes() != bytes || checker.wrong().is_some() {
                    let (came, wrong) = (checker.bytes(), checker.wrong());
                    return Err(format!("{came} bytes came, first wrong: {wrong:?}").into());
                }
            }
        }
        Ok(())
    }

    fn curl(&self, protocol: Protocol, path: &str) -> Curl {
        let port = if protocol == Protocol::H1 { self.plain } else { self.tls };
        Curl::new(protocol, HOST, path, port, self.trusted)
    }
}

fn expect(said: &Said, protocol: Protocol) -> Result<()> {
    let version = if protocol == Protocol::H2 { "2" } else { "1.1" };
    if said.status != 200 || said.version != version {
        return Err(format!("answered {} over HTTP/{}", said.status, said.version).into());
    }
    Ok(())
}

fn mib(kib: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let mib = kib as f64 / 1024.0;
    format!("{mib:.1}")
}

const RATE: u64 = 16 << 20;
