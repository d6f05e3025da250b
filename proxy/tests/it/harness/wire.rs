//! HTTP/1.1 as bytes over one blocking stream, for both the client's and the backend's end. Strict:
//! what is not exactly framed is an error here, so that a sloppy edge cannot pass.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

/// Every wait of a test ends after this time.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN (over TLS with or without close_notify).
    Closed,
    Reset,
    /// Nothing for [`PATIENCE`].
    Timeout,
    /// Bytes that are not HTTP/1.1.
    Garbage,
}

pub enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.read(buf),
            Stream::Tls(tls) => tls.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.write(buf),
            Stream::Tls(tls) => tls.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(tcp) => tcp.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

/// First line and fields of a message, names as received.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    pub first: String,
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The values of a field, name compared without case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = |n: &str| n.eq_ignore_ascii_case(name);
        self.fields.iter().filter(|(n, _)| same(n)).map(|(_, v)| v.as_str()).collect()
    }

    /// The value of a field that occurs at most once.
    pub fn get(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} occurs {} times: {self:?}", values.len());
        values.first().copied()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// CRLF lines, visible ASCII and blanks only, names are tokens.
    pub fn parse(text: &[u8]) -> Result<Head, String> {
        let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
        let mut lines = text.strip_suffix("\r\n\r\n").ok_or("no blank line")?.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(format!("no colon in {line:?}"))?;
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(token) {
                return Err(format!("bad field name {name:?}"));
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
        let clean = |s: &str| s.bytes().all(|b| b == b'\t' || (b >= 0x20 && b != 0x7f));
        if !clean(&first) || !fields.iter().all(|(_, v)| clean(v)) {
            return Err(format!("control bytes in {text:?}"));
        }
        Ok(Head { first, fields })
    }

    pub fn status(&self) -> u16 {
        let code = self.first.split(' ').nth(1).unwrap_or_default();
        code.parse().unwrap_or_else(|_| panic!("no status in {:?}", self.first))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    /// `None`: contradictory or malformed framing fields.
    pub fn of(head: &Head, absent: Framing) -> Option<Framing> {
        match (head.all("content-length").as_slice(), head.all("transfer-encoding").as_slice()) {
            ([], []) => Some(absent),
            ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => {
                length.parse().ok().map(Framing::Length)
            }
            ([], ["chunked"]) => Some(Framing::Chunked),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// How it ended before its framing said so; `None`: complete.
    pub cut: Option<End>,
}

pub struct Wire {
    pub stream: Stream,
    buf: Vec<u8>,
    /// Gets a copy of every byte read.
    tap: Option<Arc<Mutex<Vec<u8>>>>,
}

impl Wire {
    pub fn new(stream: Stream) -> Wire {
        stream.tcp().set_read_timeout(Some(PATIENCE)).unwrap();
        stream.tcp().set_write_timeout(Some(PATIENCE)).unwrap();
        stream.tcp().set_nodelay(true).unwrap();
        Wire { stream, buf: Vec::new(), tap: None }
    }

    pub fn tapped(stream: Stream, tap: Arc<Mutex<Vec<u8>>>) -> Wire {
        Wire { tap: Some(tap), ..Wire::new(stream) }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap_or_else(|e| panic!("peer does not take bytes: {e}"));
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// FIN; reading goes on.
    pub fn finish(&mut self) {
        if let Stream::Tls(tls) = &mut self.stream {
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
        let _ = self.stream.tcp().shutdown(Shutdown::Write);
    }

    /// Its end will be RST, not FIN.
    pub fn reset_on_close(&mut self) {
        let tcp = self.stream.tcp();
        socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Waits for more bytes.
    fn fill(&mut self) -> Result<(), End> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(End::Closed),
            Ok(n) => {
                self.buf.extend_from_slice(&chunk[..n]);
                if let Some(tap) = &self.tap {
                    tap.lock().unwrap().extend_from_slice(&chunk[..n]);
                }
                Ok(())
            }
            Err(e) => Err(match e.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => End::Timeout,
                io::ErrorKind::UnexpectedEof => End::Closed,
                _ => End::Reset,
            }),
        }
    }

    /// Bytes that are here or come within `wait`.
    pub fn peek(&mut self, wait: Duration) -> &[u8] {
        self.stream.tcp().set_read_timeout(Some(wait)).unwrap();
        if self.buf.is_empty() {
            let _ = self.fill();
        }
        self.stream.tcp().set_read_timeout(Some(PATIENCE)).unwrap();
        &self.buf
    }

    pub fn exact(&mut self, n: usize) -> Result<Vec<u8>, End> {
        while self.buf.len() < n {
            self.fill()?;
        }
        Ok(self.buf.drain(..n).collect())
    }

    /// Up to and with `mark`.
    pub fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>, End> {
        loop {
            if let Some(at) = self.buf.windows(mark.len()).position(|w| w == mark) {
                return Ok(self.buf.drain(..at + mark.len()).collect());
            }
            self.fill()?;
        }
    }

    pub fn head(&mut self) -> Result<Head, End> {
        let text = self.until(b"\r\n\r\n")?;
        Head::parse(&text).map_err(|reason| {
            eprintln!("garbage on the wire: {reason}: {:?}", String::from_utf8_lossy(&text));
            End::Garbage
        })
    }

    pub fn body(&mut self, framing: Framing) -> Body {
        let mut body = Body { bytes: Vec::new(), trailers: Vec::new(), cut: None };
        let result = match framing {
            Framing::Length(n) => self.fill_up_to(usize::try_from(n).unwrap(), &mut body.bytes),
            Framing::Chunked => self.chunked(&mut body),
            Framing::UntilClose => loop {
                body.bytes.append(&mut self.buf);
                match self.fill() {
                    Ok(()) => {}
                    Err(End::Closed) => break Ok(()),
                    Err(end) => break Err(end),
                }
            },
        };
        body.cut = result.err();
        body
    }

    /// Moves bytes into `into` until it holds `n`.
    fn fill_up_to(&mut self, n: usize, into: &mut Vec<u8>) -> Result<(), End> {
        while into.len() < n {
            if self.buf.is_empty() {
                self.fill()?;
            }
            let take = self.buf.len().min(n - into.len());
            into.extend(self.buf.drain(..take));
        }
        Ok(())
    }

    fn chunked(&mut self, body: &mut Body) -> Result<(), End> {
        loop {
            let line = self.until(b"\r\n")?;
            let size = std::str::from_utf8(&line[..line.len() - 2]).map_err(|_| End::Garbage)?;
            if size.is_empty() || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(End::Garbage);
            }
            let size = usize::from_str_radix(size, 16).map_err(|_| End::Garbage)?;
            if size == 0 {
                break;
            }
            self.fill_up_to(body.bytes.len() + size, &mut body.bytes)?;
            if self.exact(2)? != b"\r\n" {
                return Err(End::Garbage);
            }
        }
        let mut text = b"trailers\r\n".to_vec();
        while !text.ends_with(b"\r\n\r\n") {
            text.extend(self.until(b"\r\n")?);
        }
        body.trailers = Head::parse(&text).map_err(|_| End::Garbage)?.fields;
        Ok(())
    }

    /// Everything until the peer ends, and how it ended.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.fill() {
                return (std::mem::take(&mut self.buf), end);
            }
        }
    }

    /// Reads `n` bytes away without keeping them.
    pub fn skip(&mut self, n: u64) -> Result<(), End> {
        let mut left = n;
        loop {
            let here = (self.buf.len() as u64).min(left);
            self.buf.drain(..usize::try_from(here).unwrap());
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.fill()?;
        }
    }
}
