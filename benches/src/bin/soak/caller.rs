//! Clients with an address and a credential of their own, as the edge sees them behind a proxy that
//! it trusts; and a backend that counts by credential what arrives.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use benches::stats::percentile;
use benches::{HOST, Result};

use crate::backend::spawn;
use crate::client::Stream;
use crate::wire::Head;

/// One keep-alive connection.
pub struct Caller {
    port: u16,
    stream: Option<BufReader<Stream>>,
}

/// What became of the requests of one or more clients.
#[derive(Debug, Default)]
pub struct Tally {
    pub sent: u64,
    pub passed: u64,
    pub refused: u64,
    /// Refusals that do not say when to come back.
    pub silent: u64,
    /// Other answers, and none.
    pub failed: u64,
    /// The first of those.
    pub told: Option<String>,
    /// Of the requests that passed, milliseconds.
    latencies: Vec<f64>,
}

impl Caller {
    pub fn new(port: u16) -> Self {
        Self { port, stream: None }
    }

    /// One GET from `address` with `credential`, counted.
    pub fn ask(&mut self, address: IpAddr, credential: &str, tally: &mut Tally) {
        tally.sent += 1;
        let start = Instant::now();
        match self.exchange(address, credential) {
            Ok(head) => tally.add(&head, start.elapsed()),
            Err(e) => tally.fail(e.to_string()),
        }
    }

    fn exchange(&mut self, address: IpAddr, credential: &str) -> Result<Head> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(Stream::open(self.port, None, HOST, PATIENCE)?),
        };
        let request = request(address, credential);
        stream.get_mut().write_all(request.as_bytes())?;
        let head = Head::read(&mut stream)?.ok_or("closed before an answer")?;
        std::io::copy(&mut head.body(&mut stream)?, &mut std::io::sink())?;
        let closes = head.field("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        self.stream = (!closes).then_some(stream);
        Ok(head)
    }
}

pub fn request(address: IpAddr, credential: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: {address}\r\n\
         Authorization: Bearer {credential}\r\n\r\n"
    )
}

impl Tally {
    fn add(&mut self, head: &Head, took: Duration) {
        match head.status() {
            200 => {
                self.passed += 1;
                self.latencies.push(took.as_secs_f64() * 1e3);
            }
            429 => {
                self.refused += 1;
                let wait = head.field("retry-after").and_then(|v| v.parse::<u64>().ok());
                self.silent += u64::from(wait.is_none_or(|seconds| seconds == 0));
            }
            _ => self.fail(head.first.clone()),
        }
    }

    fn fail(&mut self, told: String) {
        self.failed += 1;
        self.told.get_or_insert(told);
    }

    pub fn merge(&mut self, other: Self) {
        self.sent += other.sent;
        self.passed += other.passed;
        self.refused += other.refused;
        self.silent += other.silent;
        self.failed += other.failed;
        self.told = self.told.take().or(other.told);
        self.latencies.extend(other.latencies);
    }

    /// Milliseconds; 0 where nothing passed.
    pub fn latency(&mut self, share: f64) -> f64 {
        self.latencies.sort_by(f64::total_cmp);
        percentile(&self.latencies, share).unwrap_or_default()
    }
}

/// Calls `each` every so often while it says true. Who was held up for longer than a second goes on
/// from now: nobody sends a minute's requests at once.
pub fn paced(every: Duration, mut each: impl FnMut(u64) -> bool) {
    let mut due = Instant::now();
    for number in 0.. {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if !each(number) {
            return;
        }
        due += every;
        if due.elapsed() > Duration::from_secs(1) {
            due = Instant::now();
        }
    }
}

/// Answers 200 to everything.
pub struct Counting {
    pub port: u16,
    by_credential: Arc<Mutex<HashMap<String, u64>>>,
}

impl Counting {
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let by_credential = Arc::<Mutex<HashMap<String, u64>>>::default();
        let counts = by_credential.clone();
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = counts.clone();
                let _ = spawn(move || drop(count(stream, &counts)));
            }
        })?;
        Ok(Self { port, by_credential })
    }

    /// Requests that arrived with this credential.
    pub fn arrived(&self, credential: &str) -> u64 {
        let counts = self.by_credential.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&format!("Bearer {credential}")).copied().unwrap_or_default()
    }
}

fn count(stream: TcpStream, counts: &Mutex<HashMap<String, u64>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(head) = Head::read(&mut stream)? {
        let credential = head.field("authorization").unwrap_or_default().to_owned();
        *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(credential).or_default() += 1;
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")?;
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_counted_by_credential() {
        let backend = Counting::start().unwrap();
        let (mut caller, mut tally) = (Caller::new(backend.port), Tally::default());
        for credential in ["a", "b", "a"] {
            caller.ask(IpAddr::from([192, 0, 2, 1]), credential, &mut tally);
        }
        assert_eq!((tally.sent, tally.passed, tally.failed), (3, 3, 0), "{:?}", tally.told);
        assert_eq!(["a", "b", "c"].map(|key| backend.arrived(key)), [2, 1, 0]);
        assert!(tally.latency(0.99) > 0.0);
    }

    #[test]
    fn refusals_must_say_when_to_come_back() {
        let mut tally = Tally::default();
        for fields in ["", "Retry-After: 0\r\n", "Retry-After: 2\r\n"] {
            let text = format!("HTTP/1.1 429 Too Many Requests\r\n{fields}\r\n");
            let head = Head::read(&mut text.as_bytes()).unwrap().unwrap();
            tally.add(&head, Duration::ZERO);
        }
        let head = Head::read(&mut b"HTTP/1.1 503 No\r\n\r\n".as_slice()).unwrap().unwrap();
        tally.add(&head, Duration::ZERO);
        assert_eq!((tally.refused, tally.silent, tally.failed), (3, 2, 1));
        assert_eq!(tally.told.as_deref(), Some("HTTP/1.1 503 No"));
    }
}
