//! A flood: as many addresses and credentials as there is time for, pipelined over a few keep-alive
//! connections.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use benches::{HOST, Result};

use crate::backend::spawn;
use crate::caller::request;
use crate::client::Stream;
use crate::pattern::Random;

/// Requests that are answered before the next ones are sent.
const BATCH: u64 = 64;
const PATIENCE: Duration = Duration::from_secs(30);

/// Who sends number `n` of a connection: three of four come from a botnet, each address in a /48 of
/// its own, one of four from the few addresses of one /48.
#[derive(Clone, Copy)]
pub struct Sources {
    pub many: u64,
    pub few: u64,
    /// Connections, which share the addresses.
    pub connections: u64,
}

impl Sources {
    fn address(self, connection: u64, n: u64) -> IpAddr {
        let number = if n % 4 == 3 {
            FEW + (n / 4 + connection) % self.few.max(1)
        } else {
            // Connections take turns, so that together they use every address equally often.
            let turn = (n - n / 4) * self.connections + connection;
            (turn % self.many.max(1)) << 16
        };
        IpAddr::V6(Ipv6Addr::from_bits(PREFIX | u128::from(number) << 64 | 1))
    }
}

/// 3fff::/20 is for documentation (RFC 9637): 2^28 prefixes of /48.
const PREFIX: u128 = 0x3fff << 112;
/// /64s of 3fff:fff:ffff::/48.
const FEW: u64 = 0x0fff_ffff << 16;

pub struct Flood {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Counts {
    passed: AtomicU64,
    refused: AtomicU64,
    other: AtomicU64,
}

/// Answers by what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    pub passed: u64,
    pub refused: u64,
    pub other: u64,
}

impl Answers {
    pub fn all(self) -> u64 {
        self.passed + self.refused + self.other
    }
}

impl Flood {
    /// Goes on until it is stopped. Every credential is a new random one.
    pub fn start(port: u16, sources: Sources, seed: u64) -> Result<Self> {
        let (stop, counts) = (Arc::<AtomicBool>::default(), Arc::<Counts>::default());
        let one = |connection| {
            let (stop, counts) = (stop.clone(), counts.clone());
            let random = Random::new(seed << 56 ^ connection << 48);
            Ok(spawn(move || {
                let mut sender = Sender { port, sources, connection, random, sent: 0 };
                while !stop.load(Ordering::Relaxed) {
                    sender.connection(&stop, &counts)?;
                }
                Ok(())
            })?)
        };
        let threads = (0..sources.connections).map(one).collect::<Result<_>>()?;
        Ok(Self { stop, counts, threads })
    }

    pub fn answers(&self) -> Answers {
        let Counts { passed, refused, other } = &*self.counts;
        let [passed, refused, other] =
            [passed, refused, other].map(|count| count.load(Ordering::Relaxed));
        Answers { passed, refused, other }
    }

    /// A connection that failed fails it all.
    pub fn is_running(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    pub fn finish(self) -> Result<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        let answers = self.answers();
        for thread in self.threads {
            thread.join().unwrap_or_else(|_| Err("the thread panicked".into()))?;
        }
        Ok(answers)
    }
}

struct Sender {
    port: u16,
    sources: Sources,
    connection: u64,
    random: Random,
    sent: u64,
}

impl Sender {
    /// Until it is stopped or the edge closes in between.
    fn connection(&mut self, stop: &AtomicBool, counts: &Counts) -> Result<()> {
        let mut stream = Stream::open(self.port, None, HOST, PATIENCE)?;
        let mut reader = Reader::default();
        let mut batch = String::new();
        while !stop.load(Ordering::Relaxed) {
            batch.clear();
            for _ in 0..BATCH {
                let address = self.sources.address(self.connection, self.sent);
                self.sent += 1;
                batch += &request(address, &format!("{:016x}", self.random.next()));
            }
            stream.write_all(batch.as_bytes())?;
            for _ in 0..BATCH {
                let answer = reader.next(&mut stream)?;
                let count = match answer.status {
                    200 => &counts.passed,
                    429 => &counts.refused,
                    _ => &counts.other,
                };
                count.fetch_add(1, Ordering::Relaxed);
                if answer.closes {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Answers with `Content-Length`, one after the other.
#[derive(Default)]
struct Reader {
    bytes: Vec<u8>,
    at: usize,
}

struct Answer {
    status: u16,
    closes: bool,
}

impl Reader {
    fn next(&mut self, stream: &mut impl Read) -> Result<Answer> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            if let Some((answer, length)) = parse(rest)?
                && rest.len() >= length
            {
                self.at += length;
                return Ok(answer);
            }
            self.bytes.drain(..self.at);
            self.at = 0;
            let mut chunk = [0; 32 * 1024];
            let n = stream.read(&mut chunk)?;
            if n == 0 {
                return Err("closed before an answer".into());
            }
            self.bytes.extend_from_slice(chunk.get(..n).unwrap_or_default());
        }
    }
}

/// An answer and its length with body.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes)? else { return Ok(None) };
    let (mut body, mut closes) = (None, false);
    for field in &*response.headers {
        if field.name.eq_ignore_ascii_case("content-length") {
            body = Some(std::str::from_utf8(field.value)?.trim().parse::<usize>()?);
        } else if field.name.eq_ignore_ascii_case("connection") {
            closes |= field.value.eq_ignore_ascii_case(b"close");
        }
    }
    let body = body.ok_or("an answer without Content-Length")?;
    Ok(Some((Answer { status: response.code.unwrap_or_default(), closes }, head + body)))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use super::*;

    /// One piece for each read.
    struct Pieces<'a>(VecDeque<&'a [u8]>);

    impl Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let Some(piece) = self.0.pop_front() else { return Ok(0) };
            out[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    /// 64 bits of an address that its prefix is made of.
    fn network(address: IpAddr) -> u64 {
        let IpAddr::V6(address) = address else { panic!("{address}") };
        u64::try_from(address.to_bits() >> 64).unwrap()
    }

    #[test]
    fn connections_together_use_every_address_equally_often() {
        let sources = Sources { many: 1000, few: 5, connections: 4 };
        let mut seen = HashMap::<u64, u32>::new();
        for connection in 0..4 {
            for n in 0..2000 {
                *seen.entry(network(sources.address(connection, n))).or_default() += 1;
            }
        }
        let (few, many): (Vec<_>, Vec<_>) =
            seen.iter().partition(|(network, _)| **network >> 16 & 0xfff_ffff == 0xfff_ffff);
        assert_eq!((many.len(), few.len()), (1000, 5));
        assert!(many.iter().all(|(_, times)| **times == 6), "6,000 requests from 1,000");
        assert!(few.iter().all(|(_, times)| **times == 400), "2,000 requests from 5");
        let mut sites: Vec<u64> = many.iter().map(|(network, _)| **network >> 16).collect();
        sites.sort_unstable();
        sites.dedup();
        assert_eq!(sites.len(), 1000, "each in a /48 of its own");
        assert!(sites.iter().all(|site| site >> 28 == 0x3fff << 4), "in 3fff::/20");
    }

    #[test]
    fn answers_come_in_any_pieces() {
        let text = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\nno\
            HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: close\r\n\r\n";
        let (mut reader, mut stream) = (Reader::default(), Pieces(text.chunks(7).collect()));
        let first = reader.next(&mut stream).unwrap();
        assert_eq!((first.status, first.closes), (429, false));
        let second = reader.next(&mut stream).unwrap();
        assert_eq!((second.status, second.closes), (200, true));
        assert!(reader.next(&mut stream).is_err());
    }
}
