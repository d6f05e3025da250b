//! `soak rollout`: the load under which deploy/tests/replace.sh replaces one process by the next, on
//! their ports, until it says that it is done. Every kind of client that a replacement could hurt:
//! new connections, h2, WebSockets. None of them
//! asks twice, but on h2 what the server says it has not begun with.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use benches::{HOST, Result};
use rustls::ClientConfig;

use crate::backend::{self, spawn};
use crate::client::{Stream, tls_config};
use crate::outcome::Outcome;
use crate::pattern::Random;
use crate::steady::{Answer, h2_exchange, h2_open};
use crate::websocket;
use crate::wire::Head;

#[derive(clap::Args)]
pub struct Args {
    /// Redirects to https
    #[arg(long, default_value_t = 80)]
    plain: u16,
    #[arg(long, default_value_t = 443)]
    tls: u16,
    /// Where the backend listens, on loopback
    #[arg(long)]
    backend: u16,
    /// PEM file with the certificate that the edge shows
    #[arg(long)]
    trusted: PathBuf,
    /// The file that ends the run
    #[arg(long)]
    until: PathBuf,
    /// Made when every kind of client has been answered
    #[arg(long)]
    begun: PathBuf,
    /// At the end all the same
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Of each kind
    #[arg(long, default_value_t = 4)]
    clients: u64,
    /// Something has to be lost: a control that this load notices
    #[arg(long)]
    control: bool,
}

pub fn run(args: &Args) -> Result<Outcome> {
    backend::start_at((Ipv4Addr::LOCALHOST, args.backend).into(), BACKEND)?;
    let target = Target { plain: args.plain, tls: args.tls, trusted: tls_config(&args.trusted)? };
    let load = Load::start(&target, args.clients)?;
    let start = Instant::now();
    let over = || args.until.exists() || start.elapsed() > Duration::from_secs(args.seconds);
    while !load.all_answered() && start.elapsed() < OPEN_LIMIT {
        thread::sleep(TICK);
    }
    if load.all_answered() {
        std::fs::write(&args.begun, "")?;
        while !over() {
            thread::sleep(TICK);
        }
    }
    let in_time = args.until.exists();
    let kinds = load.finish();
    let title =
        if args.control { "A process killed (control)" } else { "One process after the other" };
    let mut outcome = Outcome::new(title)?;
    outcome.measured("clients of each kind", args.clients);
    outcome.require("ended", if in_time { "when told" } else { "by itself" }, "when told", in_time);
    judge(&mut outcome, &kinds, args.control);
    Ok(outcome)
}

#[derive(Clone)]
struct Target {
    plain: u16,
    tls: u16,
    trusted: Arc<ClientConfig>,
}

/// What became of the requests of one kind of client: `Ok`, or what was said instead.
#[derive(Default)]
struct Told {
    answered: AtomicU64,
    /// Of these, sent a second time.
    again: AtomicU64,
    failed: Mutex<BTreeMap<String, u64>>,
}

impl Told {
    fn count(&self, result: Result<()>) {
        match result {
            Ok(()) => drop(self.answered.fetch_add(1, Ordering::Relaxed)),
            Err(error) => *self.failures().entry(error.to_string()).or_default() += 1,
        }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Failures whose text has this word.
    fn lost(&self, word: &str) -> u64 {
        self.failures().iter().filter(|(text, _)| text.contains(word)).map(|(_, n)| n).sum()
    }
}

type Kind = (&'static str, Arc<Told>);

struct Load {
    stop: Arc<AtomicBool>,
    kinds: Vec<Kind>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Load {
    fn start(target: &Target, clients: u64) -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let mut load = Self { stop, kinds: Vec::new(), threads: Vec::new() };
        let works: [(&'static str, Work); 5] = [
            ("new connections, plain", redirected),
            ("new connections, TLS", over_tls),
            ("new connections, h2", over_new_h2),
            ("h2 on connections that stay", over_h2),
            ("WebSockets", over_websocket),
        ];
        for (kind, work) in works {
            let told = Arc::<Told>::default();
            for number in 0..clients {
                let client = Client {
                    target: target.clone(),
                    stop: load.stop.clone(),
                    told: told.clone(),
                    random: Random::new(number + 1),
                };
                load.threads.push(spawn(move || work(client))?);
            }
            load.kinds.push((kind, told));
        }
        Ok(load)
    }

    fn all_answered(&self) -> bool {
        self.kinds.iter().all(|(_, told)| told.answered.load(Ordering::Relaxed) > 0)
    }

    fn finish(self) -> Vec<Kind> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        self.kinds
    }
}

type Work = fn(Client);

struct Client {
    target: Target,
    stop: Arc<AtomicBool>,
    told: Arc<Told>,
    random: Random,
}

impl Client {
    /// Until the end, with a pause after each, so that no kind takes the machine from the others.
    fn each(mut self, mut one: impl FnMut(&mut Self) -> Result<()>) {
        while !self.stopped() {
            let result = one(&mut self);
            self.told.count(result);
            thread::sleep(PAUSE);
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Port 80: half of them say nothing for a moment, and wait accepted or in the kernel's queue.
fn redirected(client: Client) {
    client.each(|client| {
        let stream = Stream::open(client.target.plain, None, HOST, PATIENCE)?;
        if client.random.one_in(2) {
            thread::sleep(Duration::from_millis(5));
        }
        get(stream, 308).map(drop)
    });
}

fn over_tls(client: Client) {
    client.each(|client| {
        let Target { tls, trusted, .. } = &client.target;
        let body = get(Stream::open(*tls, Some(trusted), HOST, PATIENCE)?, 200)?;
        expect_backend(&body)
    });
}

/// One request on a connection that the client closes.
fn get(stream: Stream, status: u16) -> Result<String> {
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())?;
    stream.get_mut().flush()?;
    let head = Head::read(&mut stream)?.ok_or("closed before an answer")?;
    let mut body = String::new();
    head.body(&mut stream)?.read_to_string(&mut body)?;
    if head.status() != status {
        return Err(format!("answered {}", head.status()).into());
    }
    Ok(body)
}

fn over_new_h2(client: Client) {
    h2_clients(client, |_| false);
}

/// A connection that is told to go (GOAWAY) is exchanged between two requests, which is no failure.
fn over_h2(client: Client) {
    h2_clients(client, |_| true);
}

fn h2_clients(client: Client, keeps: fn(&Client) -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        return client.told.count(Err("no runtime".into()));
    };
    let mut open = None;
    client.each(|client| {
        let exchange = async {
            let kept = match open.take() {
                Some(sender) => usable(sender).await,
                None => None,
            };
            let (answer, sender) = match h2_request(client, kept).await {
                Err(error) if is_unprocessed(&error) => {
                    client.told.again.fetch_add(1, Ordering::Relaxed);
                    h2_request(client, None).await?
                }
                other => other?,
            };
            open = keeps(client).then_some(sender);
            match answer.status {
                200 => expect_backend(&answer.body),
                status => Err(format!("answered {status} {}", answer.cause).into()),
            }
        };
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| "timed out")?
        })
    });
}

/// On this connection, or on a new one.
async fn h2_request(client: &Client, kept: Option<Sender>) -> Result<(Answer, Sender)> {
    let sender = match kept {
        Some(sender) => sender,
        None => h2_open(client.target.tls, &client.target.trusted).await?,
    };
    Ok((h2_exchange(&sender, "GET", "/", "rollout").await?, sender))
}

/// The server says that it has not begun with it: RFC 9113 §6.8 has the client send it again on a
/// new connection. It happens to a request that is written behind the answer to the ping that comes
/// with a first GOAWAY.
fn is_unprocessed(error: &benches::Error) -> bool {
    error.downcast_ref::<h2::Error>().is_some_and(|error| {
        error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
    })
}

type Sender = h2::client::SendRequest<bytes::Bytes>;

/// The connection, unless it takes no further requests. What has come meanwhile is read first.
async fn usable(sender: Sender) -> Option<Sender> {
    tokio::task::yield_now().await;
    sender.ready().await.ok()
}

fn expect_backend(body: &str) -> Result<()> {
    if body.trim_end() == BACKEND { Ok(()) } else { Err(format!("the body was {body}").into()) }
}

/// Lives for up to 3 s, also through the drain of its process, says something 20 times a second, and
/// ends in good order (RFC 6455 §7.1).
fn over_websocket(client: Client) {
    client.each(|client| {
        let Target { tls, trusted, .. } = &client.target;
        let stream = Stream::open(*tls, Some(trusted), HOST, PATIENCE)?;
        let mut socket = websocket::Client::open(stream, HOST, "/ws", client.random.next())?;
        let life = Duration::from_millis(500 + client.random.below(2500));
        let start = Instant::now();
        while start.elapsed() < life && !client.stopped() {
            socket.echo("still there").map_err(|e| format!("a WebSocket was cut: {e}"))?;
            thread::sleep(Duration::from_millis(50));
        }
        socket.close().map_err(|e| format!("a WebSocket did not close: {e}").into())
    });
}

fn judge(outcome: &mut Outcome, kinds: &[Kind], control: bool) {
    let mut all = 0;
    for (kind, told) in kinds {
        let answered = told.answered.load(Ordering::Relaxed);
        outcome.require(format!("{kind}: answered"), answered, "> 0", answered > 0);
        let again = told.again.load(Ordering::Relaxed);
        if again > 0 {
            outcome.measured(format!("{kind}: sent again after GOAWAY"), again);
        }
        for (told, number) in &*told.failures() {
            outcome.note(format!("{kind}: {number} × {told}"));
        }
        let (refused, reset, lost) = (told.lost("refused"), told.lost("reset"), told.lost(""));
        all += lost;
        let text = format!("{refused}, {reset}, {}", lost - refused - reset);
        let what = format!("{kind}: refused, reset, failed in another way");
        match control {
            true => outcome.measured(what, text),
            false => outcome.require(what, text, "0, 0, 0", lost == 0),
        }
    }
    if control {
        outcome.require("lost, of all kinds", all, "> 0", all > 0);
    }
}

const BACKEND: &str = "web";
const TICK: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(2);
/// For the first answer of every kind; without one it fails, and says which.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn told(failed: &[&str]) -> Kind {
        let told = Told::default();
        told.count(Ok(()));
        failed.iter().for_each(|&text| told.count(Err(text.into())));
        ("some", Arc::new(told))
    }

    fn met(failed: &[&str], control: bool) -> bool {
        let mut outcome = Outcome::new("Rollout").unwrap();
        judge(&mut outcome, &[told(&[]), told(failed)], control);
        outcome.met()
    }

    #[test]
    fn failures_are_told_apart() {
        let (_, told) = told(&[
            "Connection refused (os error 111)",
            "Connection reset by peer (os error 104)",
            "a WebSocket was cut: Connection reset by peer (os error 104)",
            "answered 503",
        ]);
        assert_eq!((told.lost("refused"), told.lost("reset"), told.lost("")), (1, 2, 4));
    }

    #[test]
    fn one_failure_is_one_too_many_and_a_control_needs_one() {
        assert!(met(&[], false));
        assert!(!met(&["answered 503"], false));
        assert!(met(&["answered 503"], true));
        assert!(!met(&[], true));
    }

    #[test]
    fn a_kind_of_client_that_was_never_answered_is_no_success() {
        let mut outcome = Outcome::new("Rollout").unwrap();
        judge(&mut outcome, &[("some", Arc::default())], false);
        assert!(!outcome.met());
    }
}
