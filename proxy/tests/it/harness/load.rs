//! Steady load: GET and POST in turn, over h1 and h2 at once, each request with an `x-id` of its
//! own. What is not 200 is an error.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Client, Tls};
use super::h2c::{H2, exchange};
use super::{Edge, wait_until};

pub struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub sent: usize,
    pub errors: Vec<String>,
    pub slowest: Duration,
    /// Answers by their body.
    pub answers: BTreeMap<String, usize>,
    /// Ids of the POSTs that were answered with 200.
    pub posts: Vec<String>,
}

/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(4);
const BODY: &str = "once";

impl Load {
    /// Two clients over h1 and two over h2, one request each at a time.
    pub fn start(edge: &Edge, host: &'static str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let (http, tls) = (edge.http, edge.tls());
        let threads = (0..4).map(|client| {
            let (stop, tally, tls) = (stop.clone(), tally.clone(), tls.clone());
            thread::spawn(move || {
                let next = || (!stop.load(Ordering::SeqCst)).then(next_request);
                match client % 2 {
                    0 => h1(|| Client::plain(http), host, next, &tally),
                    _ => h2(&tls, host, next, &tally),
                }
            })
        });
        let load = Load { threads: threads.collect(), stop, tally };
        load.wait_more(8);
        load
    }

    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Waits for so many further answers.
    pub fn wait_more(&self, answers: usize) {
        let wanted = self.tally().sent + answers;
        wait_until("answers under load", || self.tally().sent >= wanted);
    }

    /// Goes on for a while.
    pub fn run_for(&self, time: Duration) {
        thread::sleep(time);
    }

    /// What was answered since the last look.
    pub fn take(&self) -> Tally {
        std::mem::take(&mut *self.tally.lock().unwrap())
    }

    pub fn finish(mut self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.tally()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Tally {
    /// No error, and so many requests that this says something.
    #[track_caller]
    pub fn assert_clean(&self, at_least: usize) {
        let first: Vec<_> = self.errors.iter().take(5).collect();
        assert!(self.errors.is_empty(), "{} of {}: {first:#?}", self.errors.len(), self.sent);
        assert!(self.sent >= at_least, "only {} requests", self.sent);
    }

    /// The part of the answers that came with this body.
    pub fn share(&self, body: &str) -> f64 {
        let all: usize = self.answers.values().sum();
        let its = self.answers.get(body).copied().unwrap_or_default();
        f64::from(u32::try_from(its).unwrap()) / f64::from(u32::try_from(all.max(1)).unwrap())
    }

    fn add(&mut self, id: &str, start: Instant, outcome: Result<(u16, String), String>) {
        self.sent += 1;
        self.slowest = self.slowest.max(start.elapsed());
        match outcome {
            Ok((200, body)) => {
                *self.answers.entry(body).or_default() += 1;
                if id.starts_with("POST") {
                    self.posts.push(id.to_owned());
                }
            }
            Ok((status, told)) => self.errors.push(format!("{id}: {status} {told}")),
            Err(error) => self.errors.push(format!("{id}: {error}")),
        }
    }
}

/// Method and id.
fn next_request() -> (&'static str, String) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    // Not by the number's parity: the clients take turns.
    let method = if number % 8 < 4 { "GET" } else { "POST" };
    (method, format!("{method}-{number}"))
}

fn h1(
    connect: impl Fn() -> Client,
    host: &str,
    next: impl Fn() -> Option<(&'static str, String)>,
    tally: &Mutex<Tally>,
) {
    let mut client = connect();
    while let Some((method, id)) = next() {
        let body = if method == "POST" { BODY } else { "" };
        let start = Instant::now();
        let sent = client.wire.try_send(format!(
            "{method} /{id} HTTP/1.1\r\nHost: {host}\r\nx-id: {id}\r\nContent-Length: {}\r\n\r\n\
             {body}",
            body.len()
        ));
        let answer = match sent {
            Ok(()) => client.response_to(method).map_err(|end| format!("{end:?}")),
            Err(error) => Err(error.to_string()),
        };
        let gone = answer.as_ref().map_or(true, |a| a.header("connection") == Some("close"));
        let outcome = answer.map(|answer| match answer.status {
            200 => (200, answer.text()),
            status => (status, answer.header("proxy-status").unwrap_or_default().to_owned()),
        });
        tally.lock().unwrap().add(&id, start, outcome);
        if gone {
            client = connect();
        }
        thread::sleep(PAUSE);
    }
}

fn h2(
    tls: &Tls,
    host: &str,
    next: impl Fn() -> Option<(&'static str, String)>,
    tally: &Mutex<Tally>,
) {
    let client = H2::connect(tls, host);
    while let Some((method, id)) = next() {
        let body = if method == "POST" { BODY } else { "" };
        let url = format!("https://{host}/{id}");
        let request = http::Request::builder().method(method).uri(url).header("x-id", &id);
        let start = Instant::now();
        let send = client.send.clone();
        let answer = client.block(exchange(send, request.body(()).unwrap(), body.as_bytes()));
        let outcome = match answer {
            Ok(answer) if answer.error.is_some() => Err(format!("{answer:?}")),
            Ok(answer) if answer.status == 200 => Ok((200, answer.text())),
            Ok(answer) => Ok((answer.status, answer.header("proxy-status").to_owned())),
            Err(error) => Err(error.to_string()),
        };
        tally.lock().unwrap().add(&id, start, outcome);
        client.run_for(PAUSE);
    }
}
