//! WebSockets and event streams that stay open from start to end and miss nothing.

use std::io::{BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use benches::{HOST, Result};
use rustls::ClientConfig;

use crate::backend::{next_event, spawn};
use crate::client::Stream;
use crate::websocket;
use crate::wire::Head;

/// A listener of the edge.
#[derive(Clone)]
pub struct Target {
    pub port: u16,
    pub tls: Option<Arc<ClientConfig>>,
}

pub struct Streams {
    stop: Arc<AtomicBool>,
    threads: Vec<(String, JoinHandle<Result<Told>>)>,
}

/// What one stream saw.
struct Told {
    messages: u64,
    /// Longest wait for an echo or between two events.
    slowest: Duration,
}

#[derive(Default)]
pub struct Tally {
    pub websockets: u64,
    pub events: u64,
    pub messages: u64,
    pub slowest: Duration,
    pub failures: Vec<String>,
}

impl Streams {
    /// Opens `each` WebSockets and `each` event streams, spread over `targets`, and waits until all
    /// have had their first message.
    pub fn open(targets: &[Target], each: usize) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let opened = Arc::new(AtomicUsize::new(0));
        let mut threads = Vec::new();
        for (number, target) in (0..each * 2).zip(targets.iter().cycle().cloned()) {
            // Pairs: both kinds on both listeners.
            let websocket = number % (targets.len() * 2) < targets.len();
            let kind = if websocket { WEBSOCKET } else { EVENTS };
            let tls = if target.tls.is_some() { "TLS" } else { "plain" };
            let (stop, opened) = (stop.clone(), opened.clone());
            let work = move || {
                let holder = Holder { target, stop, opened, number };
                if websocket { holder.websocket() } else { holder.events() }
            };
            threads.push((format!("{kind} {number} ({tls})"), spawn(work)?));
        }
        let start = Instant::now();
        while opened.load(Ordering::Relaxed) < threads.len() {
            if start.elapsed() > OPEN_LIMIT || threads.iter().any(|(_, t)| t.is_finished()) {
                let tally = Self { stop, threads }.finish();
                return Err(format!("streams do not open: {:?}", tally.failures.first()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { stop, threads })
    }

    /// Those that have ended before their time.
    pub fn ended(&self) -> usize {
        self.threads.iter().filter(|(_, thread)| thread.is_finished()).count()
    }

    /// One more message on each, then the close.
    pub fn finish(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        for (name, thread) in self.threads {
            match thread.join() {
                Ok(Ok(told)) => {
                    let websocket = name.starts_with(WEBSOCKET);
                    tally.websockets += u64::from(websocket);
                    tally.events += u64::from(!websocket);
                    tally.messages += told.messages;
                    tally.slowest = tally.slowest.max(told.slowest);
                }
                Ok(Err(e)) => tally.failures.push(format!("{name}: {e}")),
                Err(_) => tally.failures.push(format!("{name}: panicked")),
            }
        }
        tally
    }
}

struct Holder {
    target: Target,
    stop: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
    number: usize,
}

impl Holder {
    fn websocket(&self) -> Result<Told> {
        let mut client = websocket::Client::open(self.stream()?, HOST, "/ws", self.number as u64)?;
        let start = Instant::now();
        let mut told = Told { messages: 0, slowest: Duration::ZERO };
        loop {
            // Read first: the last echo is after the stop.
            let stopped = self.stop.load(Ordering::Relaxed);
            let sent = Instant::now();
            let text = format!("message {} of {}", told.messages, self.number);
            client.echo(&text).map_err(|e| at(start, told.messages, &*e))?;
            told.slowest = told.slowest.max(sent.elapsed());
            self.count(&mut told);
            if stopped {
                client.close().map_err(|e| format!("the closing handshake: {e}"))?;
                return Ok(told);
            }
            thread::sleep(Duration::from_secs(1));
        }
    }

    fn events(&self) -> Result<Told> {
        let mut stream = BufReader::new(self.stream()?);
        let request =
            format!("GET /sse HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes())?;
        stream.get_mut().flush()?;
        let head = Head::read(&mut stream)?.ok_or("closed before an answer")?;
        if head.field("content-type") != Some("text/event-stream") {
            return Err(format!("answered by: {}", head.text()).into());
        }
        let mut lines = BufReader::new(head.body(&mut stream)?);
        let start = Instant::now();
        let mut last = start;
        let mut told = Told { messages: 0, slowest: Duration::ZERO };
        loop {
            let stopped = self.stop.load(Ordering::Relaxed);
            match next_event(&mut lines).map_err(|e| at(start, told.messages, &*e))? {
                Some(id) if id == told.messages + 1 => {}
                Some(id) => return Err(format!("{id} after {}", told.messages).into()),
                None => return Err(at(start, told.messages, "the stream ended")),
            }
            told.slowest = told.slowest.max(last.elapsed());
            last = Instant::now();
            self.count(&mut told);
            if stopped {
                return Ok(told);
            }
        }
    }

    fn stream(&self) -> Result<Stream> {
        Stream::open(self.target.port, self.target.tls.as_ref(), HOST, PATIENCE)
    }

    fn count(&self, told: &mut Told) {
        told.messages += 1;
        if told.messages == 1 {
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn at(start: Instant, messages: u64, why: impl ToString) -> benches::Error {
    let (seconds, why) = (start.elapsed().as_secs(), why.to_string());
    format!("after {seconds} s and {messages} messages: {why}").into()
}

const WEBSOCKET: &str = "WebSocket";
const EVENTS: &str = "event stream";
/// For every read and write: a message every second means that 10 s is a lost one.
const PATIENCE: Duration = Duration::from_secs(10);
const OPEN_LIMIT: Duration = Duration::from_secs(30);
