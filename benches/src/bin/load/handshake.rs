//! The handshake generator (cases d, dr, dn): blocking threads in a closed loop, one connection
//! per turn: connect, handshake, one request (not dn), close by reset.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use benches::stats::percentile;
use benches::{HOST, Result, http};
use clap::ValueEnum;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, Stream};
use serde::{Deserialize, Serialize};

use crate::tls;

/// A thread gives up after this many failed turns.
const MAX_ERRORS: u64 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Full,
    Resumed,
    /// Full, without a request.
    Bare,
}

#[derive(clap::Args)]
pub struct Args {
    address: SocketAddr,
    #[arg(long)]
    mode: Mode,
    #[arg(long)]
    seconds: u64,
    #[arg(long, default_value_t = 8)]
    threads: usize,
}

/// Printed as one line of JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub turns: u64,
    pub resumed: u64,
    pub errors: u64,
    pub first_error: Option<String>,
    /// Connect to last byte, microseconds.
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let threads: Vec<_> = (0..args.threads)
        .map(|_| {
            let client = tls::client(args.mode == Mode::Resumed)?;
            let (address, mode) = (args.address, args.mode);
            Ok(thread::spawn(move || turns(address, mode, &client, end)))
        })
        .collect::<Result<_>>()?;
    let mut total = Outcome::default();
    let mut times = Vec::new();
    for thread in threads {
        let (one, took) = thread.join().map_err(|_| "a generator thread panicked")?;
        total.turns += one.turns;
        total.resumed += one.resumed;
        total.errors += one.errors;
        total.first_error = total.first_error.or(one.first_error);
        times.extend(took);
    }
    times.sort_by(f64::total_cmp);
    total.p50_us = percentile(&times, 0.50);
    total.p99_us = percentile(&times, 0.99);
    Ok(total)
}

fn turns(
    address: SocketAddr,
    mode: Mode,
    client: &Arc<ClientConfig>,
    end: Instant,
) -> (Outcome, Vec<f64>) {
    let mut outcome = Outcome::default();
    let mut times = Vec::new();
    while Instant::now() < end && outcome.errors < MAX_ERRORS {
        let start = Instant::now();
        match turn(address, mode, client) {
            Ok(kind) => {
                outcome.turns += 1;
                outcome.resumed += u64::from(kind == Some(HandshakeKind::Resumed));
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            Err(e) => {
                outcome.errors += 1;
                outcome.first_error.get_or_insert_with(|| e.to_string());
            }
        }
    }
    (outcome, times)
}

fn turn(
    address: SocketAddr,
    mode: Mode,
    client: &Arc<ClientConfig>,
) -> Result<Option<HandshakeKind>> {
    let mut socket = http::connect(address)?;
    let mut session = ClientConnection::new(Arc::clone(client), tls::server_name()?)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    if mode != Mode::Bare {
        let mut stream = Stream::new(&mut session, &mut socket);
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = [0; 4096];
        let n = stream.read(&mut answer)?;
        let answer = answer.get(..n).unwrap_or_default();
        if !answer.starts_with(b"HTTP/1.1 200") {
            let shown = answer.get(..answer.len().min(40)).unwrap_or_default();
            return Err(format!("answered {:?}", String::from_utf8_lossy(shown)).into());
        }
    }
    Ok(session.handshake_kind())
}
