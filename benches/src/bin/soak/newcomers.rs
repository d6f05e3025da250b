//! Clients that make a new connection for every request, and count how each one ends.

use std::io::{BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use benches::{HOST, Result, http, net};

use crate::backend::spawn;
use crate::wire::Head;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Answered,
    /// Nobody listens.
    Refused,
    /// ECONNRESET or EPIPE before the whole answer.
    Reset,
    /// The end of the stream before the whole answer.
    Closed,
    /// An answer other than 200.
    Status,
    /// Timeouts and whatever else.
    Other,
}

#[derive(Default)]
struct Counts([AtomicU64; 6]);

/// Numbers by [`Fate`], in its order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers(pub [u64; 6]);

impl Numbers {
    pub fn of(&self, fate: Fate) -> u64 {
        self.0.get(fate as usize).copied().unwrap_or_default()
    }

    pub fn lost(&self) -> u64 {
        self.0.iter().skip(1).sum()
    }

    pub fn since(self, former: Self) -> Self {
        let mut out = self;
        for (number, former) in out.0.iter_mut().zip(former.0) {
            *number -= former;
        }
        out
    }

    pub fn plus(self, other: Self) -> Self {
        let mut out = self;
        for (number, other) in out.0.iter_mut().zip(other.0) {
            *number += other;
        }
        out
    }
}

pub struct Newcomers {
    stop: Arc<AtomicBool>,
    quick: Arc<Counts>,
    slow: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

impl Newcomers {
    /// `each` clients that send at once, and as many that wait `pause` before they do.
    pub fn start(port: u16, each: usize, pause: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (quick, slow) = (Arc::<Counts>::default(), Arc::<Counts>::default());
        let mut threads = Vec::new();
        for (counts, pause) in [(&quick, Duration::ZERO), (&slow, pause)] {
            for _ in 0..each {
                let (stop, counts) = (stop.clone(), counts.clone());
                threads.push(spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let fate = one(port, pause);
                        if let Some(count) = counts.0.get(fate as usize) {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        if fate == Fate::Refused {
                            // Where nobody listens a tight loop would only count itself.
                            thread::sleep(Duration::from_millis(1));
                        }
                    }
                })?);
            }
        }
        Ok(Self { stop, quick, slow, threads })
    }

    /// So far: those that send at once, and those that wait.
    pub fn numbers(&self) -> [Numbers; 2] {
        [&self.quick, &self.slow].map(|counts| {
            let mut out = Numbers::default();
            for (number, count) in out.0.iter_mut().zip(&counts.0) {
                *number = count.load(Ordering::Relaxed);
            }
            out
        })
    }

    pub fn finish(self) -> [Numbers; 2] {
        self.stop.store(true, Ordering::Relaxed);
        let Self { quick, slow, threads, stop } = self;
        for thread in threads {
            let _ = thread.join();
        }
        Self { quick, slow, threads: Vec::new(), stop }.numbers()
    }
}

fn one(port: u16, pause: Duration) -> Fate {
    match exchange(port, pause) {
        Ok(fate) => fate,
        Err(e) => match e.kind() {
            ErrorKind::ConnectionRefused => Fate::Refused,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Fate::Reset,
            ErrorKind::UnexpectedEof => Fate::Closed,
            _ => Fate::Other,
        },
    }
}

fn exchange(port: u16, pause: Duration) -> std::io::Result<Fate> {
    let stream = TcpStream::connect(net::loopback(port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // No TIME_WAIT: ports would run out.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    if !pause.is_zero() {
        thread::sleep(pause);
    }
    let mut stream = BufReader::with_capacity(2048, stream);
    stream.get_mut().write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())?;
    let Some(head) = Head::read(&mut stream)? else { return Ok(Fate::Closed) };
    std::io::copy(&mut head.body(&mut stream)?, &mut std::io::sink())?;
    Ok(if head.status() == 200 { Fate::Answered } else { Fate::Status })
}

/// Waits until the port answers 200.
pub fn wait_answer(port: u16, limit: Duration) -> Result<()> {
    let start = std::time::Instant::now();
    while !http::get(net::loopback(port), HOST, "/").is_ok_and(|reply| reply.status == 200) {
        if start.elapsed() > limit {
            return Err(format!("port {port} does not answer after {limit:?}").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// A server that reads the request, or leaves it unread, answers this and closes.
    fn serve(text: &'static str, read: bool) -> Fate {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut some = [0; 512];
            let _ = if read { stream.read(&mut some) } else { stream.peek(&mut some) }.unwrap();
            stream.write_all(text.as_bytes()).unwrap();
        });
        let fate = one(port, Duration::ZERO);
        server.join().unwrap();
        fate
    }

    #[test]
    fn every_end_is_told_apart() {
        let of = |text| serve(text, true);
        assert_eq!(of("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), Fate::Answered);
        assert_eq!(of("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"), Fate::Closed);
        assert_eq!(of("HTTP/1.1 200 OK\r\nContent-"), Fate::Closed);
        assert_eq!(of(""), Fate::Closed);
        assert_eq!(of("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), Fate::Status);
        // Closed with unread bytes: a reset.
        assert_eq!(serve("", false), Fate::Reset);
        let [port] = net::free_ports().unwrap();
        assert_eq!(one(port, Duration::ZERO), Fate::Refused);
    }

    #[test]
    fn numbers_add_and_subtract() {
        let (a, b) = (Numbers([9, 1, 2, 3, 0, 1]), Numbers([4, 0, 2, 1, 0, 0]));
        let since = a.since(b);
        assert_eq!((since.of(Fate::Answered), since.of(Fate::Closed), since.lost()), (5, 2, 4));
        assert_eq!(since.plus(b), a);
    }
}
