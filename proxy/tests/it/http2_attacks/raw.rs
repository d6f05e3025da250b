//! HTTP/2 as frames: a client that sends whatever a test wants and reads only when told to.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::harness::wire::Wire;
use crate::harness::{Edge, End, PATIENCE, Tls};

use super::HOST;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// SETTINGS identifiers (RFC 9113 §6.5.2).
pub const HEADER_TABLE_SIZE: u16 = 1;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;

#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in pairs {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, payload)
}

pub fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, by.to_be_bytes())
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, code.to_be_bytes())
}

/// A field list: names and values as they go onto the wire.
pub type Fields<'a> = Vec<(&'a str, &'a [u8])>;

pub fn request<'a>(method: &'a str, path: &'a str) -> Fields<'a> {
    vec![
        (":method", method.as_bytes()),
        (":scheme", b"https"),
        (":authority", HOST.as_bytes()),
        (":path", path.as_bytes()),
    ]
}

/// HPACK (RFC 7541) of literals only.
pub fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        literal(&mut out, 0x00, name, value);
    }
    out
}

/// One literal field: `kind` 0x00 leaves the dynamic table alone, 0x40 adds to it.
pub fn literal(out: &mut Vec<u8>, kind: u8, name: &str, value: &[u8]) {
    out.push(kind);
    for text in [name.as_bytes(), value] {
        integer(out, text.len());
        out.extend(text);
    }
}

/// An integer with a prefix of 7 bits.
fn integer(out: &mut Vec<u8>, n: usize) {
    if n < 127 {
        return out.push(u8::try_from(n).unwrap());
    }
    out.push(127);
    let mut left = n - 127;
    while left >= 128 {
        out.push(0x80 | u8::try_from(left & 127).unwrap());
        left >>= 7;
    }
    out.push(u8::try_from(left).unwrap());
}

/// The status of a response block, which comes first. The dynamic table is switched off by our
/// SETTINGS, so that it is in the static table or a literal.
fn status(block: &[u8]) -> u16 {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    let mut at = 0;
    while block[at] & 0xe0 == 0x20 {
        at += 1 + usize::from(block[at] & 0x1f == 0x1f);
    }
    if block[at] & 0x80 != 0 {
        return STATIC[usize::from(block[at] & 0x7f) - 8];
    }
    let text = &block[at + 2..at + 2 + usize::from(block[at + 1] & 0x7f)];
    let digits = if block[at + 1] & 0x80 != 0 { huffman_digits(text) } else { text.to_vec() };
    String::from_utf8(digits).unwrap().parse().unwrap()
}

/// Digits in the code of RFC 7541 appendix B.
fn huffman_digits(text: &[u8]) -> Vec<u8> {
    let bits: Vec<bool> =
        text.iter().flat_map(|b| (0..8).rev().map(move |n| b >> n & 1 == 1)).collect();
    let number = |bits: &[bool]| bits.iter().fold(0u8, |n, bit| n << 1 | u8::from(*bit));
    let mut at = 0;
    let mut digits = Vec::new();
    while at + 5 <= bits.len() {
        match number(&bits[at..at + 5]) {
            n @ 0..=2 => {
                digits.push(b'0' + n);
                at += 5;
            }
            _ if at + 6 > bits.len() => break,
            _ => match number(&bits[at..at + 6]) {
                n @ 0x19..=0x1f => {
                    digits.push(b'3' + n - 0x19);
                    at += 6;
                }
                _ => break,
            },
        }
    }
    digits
}

/// How a stream ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Complete,
    Reset(u32),
    GoAway(u32),
    Lost(End),
}

#[derive(Debug)]
pub struct Answer {
    /// 0: there was none.
    pub status: u16,
    pub body: Vec<u8>,
    pub outcome: Outcome,
    pub trailers: bool,
}

impl Answer {
    /// Refused without an answer: the stream or the connection was ended.
    pub fn refused(&self) -> bool {
        match self.outcome {
            Outcome::Complete => false,
            Outcome::Reset(_) | Outcome::GoAway(_) => true,
            Outcome::Lost(end) => end != End::Timeout,
        }
    }
}

pub struct Raw {
    pub wire: Wire,
    /// PING and SETTINGS are acknowledged.
    pub acknowledges: bool,
    next: u32,
    /// Frames that came while the test waited for others.
    later: VecDeque<Frame>,
}

impl Raw {
    /// Preface and SETTINGS sent.
    pub fn connect(edge: &Edge) -> Raw {
        Raw::connect_with(edge, &[])
    }

    pub fn connect_with(edge: &Edge, pairs: &[(u16, u32)]) -> Raw {
        Raw::connect_tls(&edge.tls(), pairs)
    }

    pub fn connect_tls(tls: &Tls, pairs: &[(u16, u32)]) -> Raw {
        let mut raw = Raw::silent(tls);
        let all: Vec<_> = [(HEADER_TABLE_SIZE, 0)].iter().chain(pairs).copied().collect();
        raw.send([PREFACE, &settings(&all)].concat());
        raw
    }

    /// Only the TLS handshake is done.
    pub fn silent(tls: &Tls) -> Raw {
        let client = tls.clone().alpn(&["h2"]).connect(HOST);
        assert_eq!(client.tls().alpn_protocol(), Some(&b"h2"[..]));
        Raw { wire: client.wire, acknowledges: true, next: 1, later: VecDeque::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes);
    }

    /// `false`: the edge takes no more, because it has ended the connection or does not read.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.try_send(bytes).is_ok()
    }

    /// Writes give up after this time.
    pub fn write_timeout(&mut self, time: Duration) {
        self.wire.stream.tcp().set_write_timeout(Some(time)).unwrap();
    }

    /// The next free stream id.
    pub fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    pub fn send_request(&mut self, fields: &[(&str, &[u8])], end: bool) -> u32 {
        let stream = self.stream();
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.try_send(frame(HEADERS, flags, stream, block(fields)));
        stream
    }

    /// A head of any size, in CONTINUATION frames where it must be.
    pub fn send_block(&mut self, block: &[u8], end: bool) -> u32 {
        let stream = self.stream();
        let pieces: Vec<&[u8]> = block.chunks(16_000).collect();
        let mut bytes = Vec::new();
        for (n, piece) in pieces.iter().enumerate() {
            let last = if n + 1 == pieces.len() { END_HEADERS } else { 0 };
            let (kind, end) =
                if n == 0 { (HEADERS, u8::from(end) * END_STREAM) } else { (CONTINUATION, 0) };
            bytes.extend(frame(kind, last | end, stream, piece));
        }
        self.try_send(bytes);
        stream
    }

    pub fn get(&mut self, path: &str) -> u32 {
        self.send_request(&request("GET", path), true)
    }

    pub fn data(&mut self, stream: u32, bytes: impl AsRef<[u8]>, end: bool) {
        self.send(frame(DATA, u8::from(end) * END_STREAM, stream, bytes));
    }

    /// The next frame; PING and SETTINGS are acknowledged.
    pub fn frame(&mut self) -> Result<Frame, End> {
        match self.later.pop_front() {
            Some(frame) => Ok(frame),
            None => self.fresh(),
        }
    }

    fn fresh(&mut self) -> Result<Frame, End> {
        let head = self.wire.exact(9)?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let payload = self.wire.exact(len.try_into().unwrap())?;
        let got = Frame { kind: head[3], flags: head[4], stream, payload };
        if self.acknowledges && matches!(got.kind, PING | SETTINGS) && got.flags & ACK == 0 {
            let echo = if got.kind == PING { &got.payload[..] } else { &[] };
            self.try_send(frame(got.kind, ACK, 0, echo));
        }
        Ok(got)
    }

    /// Waits for a frame of this kind on this stream; others are kept.
    pub fn wait(&mut self, kind: u8, stream: u32) -> Result<Frame, End> {
        let is = |frame: &Frame| frame.kind == kind && frame.stream == stream;
        if let Some(at) = self.later.iter().position(is) {
            return Ok(self.later.remove(at).unwrap());
        }
        loop {
            let frame = self.fresh()?;
            if is(&frame) {
                return Ok(frame);
            }
            self.later.push_back(frame);
        }
    }

    /// Reads one stream to its end, opening the windows for what was read.
    pub fn answer(&mut self, stream: u32) -> Answer {
        let outcome = Outcome::Lost(End::Timeout);
        let mut answer = Answer { status: 0, body: Vec::new(), outcome, trailers: false };
        let mut skipped = VecDeque::new();
        answer.outcome = loop {
            let frame = match self.frame() {
                Ok(frame) => frame,
                Err(end) => break Outcome::Lost(end),
            };
            match frame.kind {
                GOAWAY if frame.code() != NO_ERROR => break Outcome::GoAway(frame.code()),
                _ if frame.stream != stream => {
                    skipped.push_back(frame);
                    continue;
                }
                RST_STREAM => break Outcome::Reset(frame.code()),
                HEADERS if answer.status != 0 => answer.trailers = true,
                HEADERS => answer.status = status(&frame.payload),
                DATA => {
                    let n = u32::try_from(frame.payload.len()).unwrap();
                    answer.body.extend(&frame.payload);
                    if n > 0 {
                        self.try_send([window_update(0, n), window_update(stream, n)].concat());
                    }
                }
                _ => {}
            }
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                break Outcome::Complete;
            }
        };
        skipped.append(&mut self.later);
        self.later = skipped;
        answer
    }

    /// Waits for a frame of this kind on any stream.
    pub fn wait_kind(&mut self, kind: u8) -> Result<Frame, End> {
        if let Some(at) = self.later.iter().position(|frame| frame.kind == kind) {
            return Ok(self.later.remove(at).unwrap());
        }
        loop {
            let frame = self.fresh()?;
            if frame.kind == kind {
                return Ok(frame);
            }
            self.later.push_back(frame);
        }
    }

    /// Whether a reset of this stream was among what has been read.
    pub fn has_reset(&self, stream: u32) -> bool {
        self.later.iter().any(|frame| frame.kind == RST_STREAM && frame.stream == stream)
    }

    /// Reads what is here. `false`: the connection has ended.
    fn read_on(&mut self) -> bool {
        while !self.wire.peek(Duration::from_millis(1)).is_empty() {
            match self.fresh() {
                Ok(frame) => self.later.push_back(frame),
                Err(_) => return false,
            }
        }
        true
    }

    /// What has been added to the window of this stream since the last question.
    pub fn granted(&mut self, stream: u32) -> usize {
        self.read_on();
        let is = |frame: &Frame| frame.kind == WINDOW_UPDATE && frame.stream == stream;
        let (updates, others) = self.later.drain(..).partition::<VecDeque<_>, _>(is);
        self.later = others;
        let by = |frame: &Frame| u32::from_be_bytes(frame.payload[..].try_into().unwrap());
        updates.iter().map(|frame| usize::try_from(by(frame)).unwrap()).sum()
    }

    /// Reads what is here; `true` when the stream was reset or the connection ended.
    pub fn poll_reset(&mut self, stream: u32) -> bool {
        if !self.read_on() {
            return true;
        }
        self.has_reset(stream) || self.later.iter().any(|frame| frame.kind == GOAWAY)
    }

    /// How a stream ends whose head was read already.
    pub fn answer_tail(&mut self, stream: u32) -> Outcome {
        loop {
            let frame = match self.frame() {
                Ok(frame) => frame,
                Err(end) => return Outcome::Lost(end),
            };
            match frame.kind {
                RST_STREAM if frame.stream == stream => return Outcome::Reset(frame.code()),
                DATA if frame.stream == stream && frame.flags & END_STREAM != 0 => {
                    return Outcome::Complete;
                }
                GOAWAY if frame.code() != NO_ERROR => return Outcome::GoAway(frame.code()),
                _ => {}
            }
        }
    }

    /// Reads until the edge ends the connection: how long that took and the GOAWAY codes before.
    #[track_caller]
    pub fn wait_closed(&mut self) -> (Duration, Vec<u32>) {
        let start = Instant::now();
        let mut codes = Vec::new();
        loop {
            match self.frame() {
                Ok(frame) if frame.kind == GOAWAY => codes.push(frame.code()),
                Ok(_) => {}
                Err(End::Timeout) => panic!("open after {PATIENCE:?}"),
                Err(_) => return (start.elapsed(), codes),
            }
            assert!(start.elapsed() < PATIENCE, "still open");
        }
    }
}
