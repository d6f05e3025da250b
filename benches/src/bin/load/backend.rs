//! The backend of every measurement: one thread, raw level-triggered epoll, prebuilt answers.
//!
//! It must cost so little that the proxy in front of it is what limits the run. It lives through
//! the whole run and ends when its standard input does, that is, with its parent.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;

use benches::Result;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::request::{Request, Requests};

const LISTENER: u64 = 0;
const STDIN: u64 = 1;
const FIRST_CONNECTION: u64 = 2;

/// Serves until standard input ends. The port is written to `port_file` (whole or not at all).
pub fn run(port_file: &Path) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    // Accepted sockets inherit it.
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    rustix::net::listen(&listener, 4096)?;
    let part = port_file.with_extension("part");
    fs::write(&part, listener.local_addr()?.port().to_string())?;
    fs::rename(&part, port_file)?;
    Backend::new(listener)?.serve()
}

struct Backend {
    epoll: rustix::fd::OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    answers: Answers,
}

struct Connection {
    stream: TcpStream,
    requests: Requests,
    /// Answer and how much of it is sent, while the socket takes no more.
    unsent: Option<(Request, usize)>,
}

impl Backend {
    fn new(listener: TcpListener) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, io::stdin(), EventData::new_u64(STDIN), EventFlags::IN)?;
        let answers = Answers::new();
        Ok(Self { epoll, listener, connections: Vec::new(), free: Vec::new(), answers })
    }

    fn serve(&mut self) -> Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(512);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            for event in &events {
                let (flags, token) = (event.flags, event.data.u64());
                match token {
                    LISTENER => self.accept()?,
                    STDIN => {
                        if io::stdin().read(&mut buffer)? == 0 {
                            return Ok(());
                        }
                    }
                    token => self.drive(token, flags, &mut buffer)?,
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e.into()),
            };
            stream.set_nonblocking(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let token = EventData::new_u64(slot as u64 + FIRST_CONNECTION);
            epoll::add(&self.epoll, &stream, token, EventFlags::IN)?;
            let connection = Connection { stream, requests: Requests::default(), unsent: None };
            if let Some(place) = self.connections.get_mut(slot) {
                *place = Some(connection);
            }
        }
    }

    fn drive(&mut self, token: u64, flags: EventFlags, buffer: &mut [u8]) -> Result<()> {
        let slot = usize::try_from(token - FIRST_CONNECTION)?;
        let Some(place) = self.connections.get_mut(slot) else { return Ok(()) };
        let Some(connection) = place else { return Ok(()) };
        let waited = connection.unsent.is_some();
        let alive = if flags.contains(EventFlags::OUT) {
            connection.write(&self.answers)
        } else {
            connection.read(&self.answers, buffer)
        };
        if alive.is_err() {
            // Closing the socket takes it out of the epoll set.
            *place = None;
            self.free.push(slot);
            return Ok(());
        }
        let waits = connection.unsent.is_some();
        if waits != waited {
            // Not read while an answer waits: a client that only sends must not fill memory.
            let interest = if waits { EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(&self.epoll, &connection.stream, EventData::new_u64(token), interest)?;
        }
        Ok(())
    }
}

impl Connection {
    fn read(&mut self, answers: &Answers, buffer: &mut [u8]) -> io::Result<()> {
        let n = match self.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        self.requests.push(buffer.get(..n).unwrap_or_default());
        self.answer(answers)
    }

    fn write(&mut self, answers: &Answers) -> io::Result<()> {
        if let Some((request, sent)) = self.unsent.take() {
            self.send(answers, request, sent)?;
        }
        self.answer(answers)
    }

    fn answer(&mut self, answers: &Answers) -> io::Result<()> {
        while self.unsent.is_none() {
            let Some(request) = self.requests.next()? else { break };
            self.send(answers, request, 0)?;
        }
        Ok(())
    }

    fn send(&mut self, answers: &Answers, request: Request, mut sent: usize) -> io::Result<()> {
        let answer = answers.of(request);
        while let Some(rest) = answer.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.unsent = Some((request, sent));
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Head and body of each size in one byte string.
struct Answers([Answer; 4]);

struct Answer {
    bytes: Vec<u8>,
    head: usize,
}

impl Answers {
    fn new() -> Self {
        Self(Size::ALL.map(|size| {
            let mut bytes = head(size.bytes()).into_bytes();
            let head = bytes.len();
            bytes.resize(head + size.bytes(), b'x');
            Answer { bytes, head }
        }))
    }

    fn of(&self, request: Request) -> &[u8] {
        let Some(answer) = self.0.get(request.size as usize) else { return &[] };
        let end = if request.head_only { answer.head } else { answer.bytes.len() };
        answer.bytes.get(..end).unwrap_or_default()
    }
}

/// Which body a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Small,
    K1,
    K64,
    M1,
}

impl Size {
    const ALL: [Self; 4] = [Self::Small, Self::K1, Self::K64, Self::M1];

    pub fn of_path(path: &str) -> Self {
        match path.split('?').next() {
            Some("/1k") => Self::K1,
            Some("/64k") => Self::K64,
            Some("/1m") => Self::M1,
            _ => Self::Small,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Small => 128,
            Self::K1 => 1024,
            Self::K64 => 64 * 1024,
            Self::M1 => 1024 * 1024,
        }
    }
}

/// 254 bytes and 8 fields for the 128-byte body, as a usual application server sends.
fn head(length: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nServer: backend.openclaw/1\r\nDate: Sun, 01 Nov 2026 12:00:00 GMT\r\n\
         Content-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\n\
         Cache-Control: private, max-age=0\r\nVary: Accept-Encoding\r\nETag: \"5f3a-61d0c7e2b4a80\"\r\n\
         X-Frame-Options: DENY\r\n\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_answer_is_as_the_method_says() {
        let answers = Answers::new();
        let whole = answers.of(Request { size: Size::Small, head_only: false });
        let head = answers.of(Request { size: Size::Small, head_only: true });
        assert_eq!((head.len(), whole.len()), (254, 254 + 128));
        assert_eq!(head.windows(2).filter(|w| w == b"\r\n").count(), 1 + 8 + 1);
    }

    #[test]
    fn paths_name_sizes() {
        assert_eq!(Size::of_path("/1m?x=1").bytes(), 1 << 20);
        assert_eq!(Size::of_path("/64k").bytes(), 65_536);
        assert_eq!(Size::of_path("/anything").bytes(), 128);
        let answers = Answers::new();
        assert!(answers.of(Request { size: Size::M1, head_only: false }).len() > 1 << 20);
    }
}
