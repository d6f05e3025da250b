//! Steady load in which each request has an id of its own, over h1 and h2 at once, counted request
//! by request: wrk and h2load know neither ids nor pauses.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use benches::stats::percentile;
use benches::{HOST, Result, net};
use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::backend::spawn;
use crate::client::Stream;
use crate::wire::Head;

/// Where, how much, in which rhythm.
#[derive(Clone)]
pub struct Plan {
    pub plain: u16,
    pub tls: u16,
    pub trusted: Arc<ClientConfig>,
    /// Clients over each of h1 and h2, with a connection each.
    pub clients: usize,
    /// One of them for each client in turn.
    pub paths: Vec<&'static str>,
    /// POST only; else GET and POST in turn.
    pub posts_only: bool,
    /// Before the request of this number, of this client.
    pub pause: fn(u64) -> Duration,
}

pub struct Steady {
    stop: Arc<AtomicBool>,
    window: Arc<Mutex<Window>>,
    threads: Vec<JoinHandle<()>>,
}

/// What was answered since the last look.
#[derive(Default)]
pub struct Window {
    /// Requests by their outcome: `200`, `502 upstream_closed`, text of an error.
    pub outcomes: BTreeMap<String, u64>,
    /// 200s by their body.
    pub bodies: BTreeMap<String, u64>,
    /// Of all requests, ms.
    pub latencies: Vec<f64>,
    /// Ids of the requests that were answered with 200.
    pub answered: Vec<String>,
}

impl Steady {
    pub fn start(plan: &Plan) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let window: Arc<Mutex<Window>> = Arc::default();
        let mut threads = Vec::new();
        for number in 0..2 * plan.clients {
            let client = Client {
                plan: plan.clone(),
                path: plan.paths.get(number / 2 % plan.paths.len().max(1)).ok_or("no path")?,
                stop: stop.clone(),
                window: window.clone(),
                sent: number as u64,
            };
            let run = if number % 2 == 0 { Client::h1 } else { Client::h2 };
            threads.push(spawn(move || run(client))?);
        }
        Ok(Self { stop, window, threads })
    }

    /// Goes on for `time`, and says what was answered in it.
    pub fn run(&self, time: Duration) -> Window {
        thread::sleep(time);
        self.take()
    }

    pub fn take(&self) -> Window {
        std::mem::take(&mut *lock(&self.window))
    }

    pub fn finish(self) -> Window {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            let _ = thread.join();
        }
        std::mem::take(&mut *lock(&self.window))
    }
}

impl Window {
    pub fn sent(&self) -> u64 {
        self.outcomes.values().sum()
    }

    pub fn errors(&self) -> u64 {
        self.sent() - self.outcomes.get("200").copied().unwrap_or_default()
    }

    /// Errors by kind.
    pub fn told(&self) -> String {
        let bad = self.outcomes.iter().filter(|(outcome, _)| *outcome != "200");
        let list: Vec<String> = bad.map(|(outcome, n)| format!("{n} × {outcome}")).collect();
        list.join(", ")
    }

    /// Percent of the 200s that came with this body.
    pub fn share(&self, body: &str) -> u64 {
        let all: u64 = self.bodies.values().sum();
        self.bodies.get(body).copied().unwrap_or_default() * 100 / all.max(1)
    }

    /// In ms; 0 without requests.
    pub fn latency(&mut self, share: f64) -> f64 {
        self.latencies.sort_by(f64::total_cmp);
        percentile(&self.latencies, share).unwrap_or_default()
    }

    pub fn add(&mut self, other: Self) {
        for (outcome, n) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += n;
        }
        for (body, n) in other.bodies {
            *self.bodies.entry(body).or_default() += n;
        }
        self.latencies.extend(other.latencies);
        self.answered.extend(other.answered);
    }
}

struct Client {
    plan: Plan,
    path: &'static str,
    stop: Arc<AtomicBool>,
    window: Arc<Mutex<Window>>,
    /// Requests of this client, from its own number.
    sent: u64,
}

/// Status, cause and body of an answer.
pub struct Answer {
    pub status: u16,
    pub cause: String,
    pub body: String,
}

impl Client {
    /// Method and id of the next request, after its pause; `None`: it is over.
    fn next(&mut self) -> Option<(&'static str, String)> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        thread::sleep((self.plan.pause)(self.sent));
        if self.stop.load(Ordering::SeqCst) {
            return None;
        }
        self.sent += 1;
        let post = self.plan.posts_only || self.sent.is_multiple_of(2);
        let method = if post { "POST" } else { "GET" };
        Some((method, format!("{method}-{}", IDS.fetch_add(1, Ordering::SeqCst))))
    }

    fn count(&self, id: String, start: Instant, answer: Result<Answer>) {
        let mut window = lock(&self.window);
        window.latencies.push(start.elapsed().as_secs_f64() * 1000.0);
        let outcome = match answer {
            Ok(answer) if answer.status == 200 => {
                window.answered.push(id);
                *window.bodies.entry(answer.body).or_default() += 1;
                "200".to_owned()
            }
            Ok(Answer { status, cause, .. }) => format!("{status} {cause}"),
            Err(error) => error.to_string(),
        };
        *window.outcomes.entry(outcome).or_default() += 1;
    }

    fn h1(mut self) {
        let mut stream = None;
        while let Some((method, id)) = self.next() {
            let start = Instant::now();
            let open = match stream.take() {
                Some(open) => Ok(open),
                None => Stream::open(self.plan.plain, None, HOST, PATIENCE).map(BufReader::new),
            };
            let answer = open.and_then(|mut open| {
                let (answer, keep) = h1_exchange(&mut open, method, self.path, &id)?;
                stream = keep.then_some(open);
                Ok(answer)
            });
            self.count(id, start, answer);
        }
    }

    fn h2(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        let mut open = None;
        while let Some((method, id)) = self.next() {
            let start = Instant::now();
            let answer = runtime.block_on(async {
                let exchange = async {
                    let send = match open.take() {
                        Some(send) => send,
                        None => h2_open(self.plan.tls, &self.plan.trusted).await?,
                    };
                    let answer = h2_exchange(&send, method, self.path, &id).await?;
                    open = Some(send);
                    Ok(answer)
                };
                tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| "timed out")?
            });
            self.count(id, start, answer);
        }
    }
}

/// And whether the connection is good for more.
fn h1_exchange(
    stream: &mut BufReader<Stream>,
    method: &str,
    path: &str,
    id: &str,
) -> Result<(Answer, bool)> {
    let body = if method == "POST" { BODY } else { "" };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nx-id: {id}\r\nContent-Length: {length}\r\n\r\n\
         {body}"
    );
    stream.get_mut().write_all(request.as_bytes())?;
    stream.get_mut().flush()?;
    let head = Head::read(stream)?.ok_or("closed before an answer")?;
    let mut body = String::new();
    head.body(stream)?.read_to_string(&mut body)?;
    let cause = head.field("proxy-status").unwrap_or_default().to_owned();
    let keep = head.field("connection") != Some("close");
    Ok((Answer { status: head.status(), cause, body }, keep))
}

/// A connection over TLS on which `trusted` is believed.
pub async fn h2_open(port: u16, trusted: &ClientConfig) -> Result<h2::client::SendRequest<Bytes>> {
    let tcp = tokio::net::TcpStream::connect(net::loopback(port)).await?;
    tcp.set_nodelay(true)?;
    let mut config = trusted.clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tls = connector.connect(ServerName::try_from(HOST)?, tcp).await?;
    let (send, connection) = h2::client::handshake(tls).await?;
    tokio::spawn(connection);
    Ok(send)
}

/// A GET, or a POST with a small body.
pub async fn h2_exchange(
    send: &h2::client::SendRequest<Bytes>,
    method: &str,
    path: &str,
    id: &str,
) -> Result<Answer> {
    let url = format!("https://{HOST}{path}");
    let request = http::Request::builder().method(method).uri(url).header("x-id", id).body(())?;
    let mut send = send.clone().ready().await?;
    let post = method == "POST";
    let (response, mut stream) = send.send_request(request, !post)?;
    if post {
        stream.send_data(Bytes::from_static(BODY.as_bytes()), true)?;
    }
    let (head, mut body) = response.await?.into_parts();
    let mut text = String::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        text.push_str(std::str::from_utf8(&data)?);
    }
    let cause = head.headers.get("proxy-status").map_or("", |v| v.to_str().unwrap_or_default());
    Ok(Answer { status: head.status.as_u16(), cause: cause.to_owned(), body: text })
}

fn lock(window: &Mutex<Window>) -> MutexGuard<'_, Window> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

const BODY: &str = "once";
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_shares_are_of_what_was_sent() {
        let mut window = Window::default();
        window.outcomes.insert("200".into(), 8);
        window.outcomes.insert("502 upstream_closed".into(), 2);
        window.bodies.insert("one".into(), 6);
        window.bodies.insert("two".into(), 2);
        let mut sum = Window::default();
        sum.add(window);
        assert_eq!((sum.sent(), sum.errors(), sum.share("one")), (10, 2, 75));
        assert_eq!(sum.told(), "2 × 502 upstream_closed");
        assert!(sum.latency(0.99).abs() < f64::EPSILON);
    }
}
