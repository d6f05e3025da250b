//! A closed loop that costs little: one thread, raw level-triggered epoll, kept HTTP/1.1
//! connections with one request under way on each, the request's bytes made before.
//!
//! It sends a fixed number of requests and returns when all are answered, so that between two turns
//! nothing is under way and the peer's CPU time belongs to whole requests.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use benches::{Result, http};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// A peer that answers nothing at all for so long has failed.
const SILENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

pub struct Generator {
    epoll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    events: Vec<Event>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// What has come of an answer that came in pieces.
    partial: Vec<u8>,
}

impl Generator {
    /// Opens `count` connections, which all later turns use.
    pub fn connect(to: SocketAddr, count: usize) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(count);
        for slot in 0..count {
            let stream = http::connect(to)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(slot as u64), EventFlags::IN)?;
            connections.push(Connection { stream, partial: Vec::new() });
        }
        let events = Vec::with_capacity(count);
        Ok(Self { epoll, connections, events, buffer: vec![0; 64 * 1024] })
    }

    /// Sends `request` `count` times and waits for all answers; the time it took. Any answer but a
    /// 200 is an error, and so is a connection that the peer closes.
    pub fn turn(&mut self, request: &[u8], count: u64) -> Result<Duration> {
        let start = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        for connection in &mut self.connections {
            if sent < count {
                connection.send(request)?;
                sent += 1;
            }
        }
        while answered < count {
            self.events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&SILENCE)) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(0) => return Err(format!("no answer for {} s", SILENCE.tv_sec).into()),
                other => other?,
            };
            for event in &self.events {
                let slot = usize::try_from(event.data.u64())?;
                let Some(connection) = self.connections.get_mut(slot) else { continue };
                if connection.receive(&mut self.buffer)? {
                    answered += 1;
                    if sent < count {
                        connection.send(request)?;
                        sent += 1;
                    }
                }
            }
        }
        Ok(start.elapsed())
    }
}

impl Connection {
    /// One small request on a connection with nothing under way always fits into the socket.
    fn send(&mut self, request: &[u8]) -> Result<()> {
        match self.stream.write(request)? {
            n if n == request.len() => Ok(()),
            n => Err(format!("the socket took {n} of {} bytes of a request", request.len()).into()),
        }
    }

    /// Reads what has come; whether the answer is whole.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<bool> {
        let n = match self.stream.read(buffer) {
            Ok(0) => return Err("the peer closed a kept connection".into()),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        let come = buffer.get(..n).unwrap_or_default();
        if self.partial.is_empty() && is_whole(come)? {
            return Ok(true);
        }
        self.partial.extend_from_slice(come);
        let whole = is_whole(&self.partial)?;
        if whole {
            self.partial.clear();
        }
        Ok(whole)
    }
}

/// Whether `bytes` are one whole answer with status 200.
fn is_whole(bytes: &[u8]) -> Result<bool> {
    let Some(head) = http::parse_head(bytes)? else { return Ok(false) };
    let end = head.bytes + head.content_length;
    match head.status {
        200 if bytes.len() <= end => Ok(bytes.len() == end),
        200 => Err(format!("{} bytes after an answer", bytes.len() - end).into()),
        status => Err(format!("answered {status}").into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x.openclaw.example\r\n\r\n";
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";

    /// Answers with `pieces`, each in a write of its own after a pause that lets it arrive alone;
    /// closes where there are none. The count is of all requests seen.
    fn server(pieces: &'static [&'static str]) -> (SocketAddr, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, count) = (stream.unwrap(), Arc::clone(&count));
                thread::spawn(move || serve(&stream, pieces, &count));
            }
        });
        (address, seen)
    }

    fn serve(mut stream: &TcpStream, pieces: &[&str], count: &AtomicU64) {
        stream.set_nodelay(true).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for line in lines.map_while(std::result::Result::ok).filter(|line| line.is_empty()) {
            assert!(line.is_empty());
            count.fetch_add(1, Ordering::Relaxed);
            for piece in pieces {
                stream.write_all(piece.as_bytes()).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
            if pieces.is_empty() {
                return;
            }
        }
    }

    #[test]
    fn a_turn_is_exactly_its_number_of_requests() {
        let (address, seen) = server(&[ANSWER]);
        let mut generator = Generator::connect(address, 4).unwrap();
        for (count, total) in [(10, 10), (3, 13), (4, 17)] {
            generator.turn(REQUEST, count).unwrap();
            assert_eq!(seen.load(Ordering::Relaxed), total);
        }
    }

    #[test]
    fn answers_in_pieces_are_put_together() {
        let (address, seen) =
            server(&["HTTP/1.1 200 OK\r\nContent-", "Length: 3\r\n\r\n", "a", "bc"]);
        let mut generator = Generator::connect(address, 2).unwrap();
        generator.turn(REQUEST, 6).unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), 6);
    }

    #[test]
    fn wrong_answers_and_closed_connections_are_errors() {
        const LIMITED: &str = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n";
        const MORE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore";
        let error = |pieces| {
            let mut generator = Generator::connect(server(pieces).0, 2).unwrap();
            generator.turn(REQUEST, 2).unwrap_err().to_string()
        };
        assert_eq!(error(&[LIMITED]), "answered 429");
        assert_eq!(error(&[]), "the peer closed a kept connection");
        assert!(error(&["HTTP/1.1 200 OK\r\n\r\n"]).contains("Content-Length"));
        assert_eq!(error(&[MORE]), "4 bytes after an answer");
    }
}
