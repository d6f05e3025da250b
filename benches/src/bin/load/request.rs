//! What the backend understands of a request: which body it wants, and where it ends.

use std::io::{Error, ErrorKind, Result};

use httparse::{EMPTY_HEADER, Status};

use crate::backend::Size;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub size: Size,
    pub head_only: bool,
}

/// The requests of one connection, with bodies skipped. Holds only what is not yet understood.
#[derive(Default)]
pub struct Requests {
    bytes: Vec<u8>,
    state: State,
    /// The request whose body is being skipped: it is answered after the body.
    waiting: Option<Request>,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Head,
    /// Bytes of a body with Content-Length still to come.
    Length(u64),
    ChunkSize,
    /// Bytes of a chunk and its line end still to come.
    Chunk(u64),
    Trailer,
}

impl Requests {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next request that has come in whole.
    pub fn next(&mut self) -> Result<Option<Request>> {
        loop {
            let progress = match self.state {
                State::Head => self.head()?,
                State::Length(left) => {
                    let left = self.skip(left);
                    self.state = State::Length(left);
                    if left == 0 {
                        self.state = State::Head;
                    }
                    left == 0
                }
                State::ChunkSize => self.chunk_size()?,
                State::Chunk(left) => {
                    let left = self.skip(left);
                    self.state = if left == 0 { State::ChunkSize } else { State::Chunk(left) };
                    left == 0
                }
                State::Trailer => self.trailer(),
            };
            if !progress {
                return Ok(None);
            }
            if matches!(self.state, State::Head)
                && let Some(request) = self.waiting.take()
            {
                return Ok(Some(request));
            }
        }
    }

    fn head(&mut self) -> Result<bool> {
        let mut fields = [EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        let Status::Complete(end) = request.parse(&self.bytes).map_err(invalid)? else {
            return Ok(false);
        };
        self.waiting = Some(Request {
            size: Size::of_path(request.path.unwrap_or_default()),
            head_only: request.method == Some("HEAD"),
        });
        for field in request.headers.iter() {
            if field.name.eq_ignore_ascii_case("transfer-encoding") {
                self.state = State::ChunkSize;
            } else if field.name.eq_ignore_ascii_case("content-length") {
                let text = std::str::from_utf8(field.value).map_err(invalid)?;
                self.state = State::Length(text.trim().parse().map_err(invalid)?);
            }
        }
        self.bytes.drain(..end);
        Ok(true)
    }

    fn chunk_size(&mut self) -> Result<bool> {
        let parsed = httparse::parse_chunk_size(&self.bytes);
        let parsed = parsed.map_err(|_| Error::new(ErrorKind::InvalidData, "chunk size"))?;
        let Status::Complete((end, size)) = parsed else { return Ok(false) };
        self.bytes.drain(..end);
        self.state = if size == 0 { State::Trailer } else { State::Chunk(size + 2) };
        Ok(true)
    }

    fn trailer(&mut self) -> bool {
        let Some(end) = self.bytes.windows(2).position(|w| w == b"\r\n") else { return false };
        self.bytes.drain(..end + 2);
        if end == 0 {
            self.state = State::Head;
        }
        true
    }

    /// Throws away up to `left` bytes; how many are still to come.
    fn skip(&mut self, left: u64) -> u64 {
        let here = self.bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.bytes.drain(..here);
        left - here as u64
    }
}

fn invalid(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::InvalidData, e)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: &str = "GET /1k HTTP/1.1\r\nHost: x\r\n\r\n\
        POST /64k HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /\
        POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nabcd\r\n0\r\nT: 1\r\n\r\n\
        HEAD /1m HTTP/1.1\r\n\r\n";

    #[test]
    fn bodies_are_skipped_however_the_bytes_arrive() {
        let expected =
            [(Size::K1, false), (Size::K64, false), (Size::Small, false), (Size::M1, true)];
        let expected = expected.map(|(size, head_only)| Request { size, head_only });
        for step in 1..=INPUT.len() {
            let mut requests = Requests::default();
            let mut found = Vec::new();
            for part in INPUT.as_bytes().chunks(step) {
                requests.push(part);
                while let Some(request) = requests.next().unwrap() {
                    found.push(request);
                }
            }
            assert_eq!(found, expected, "step {step}");
            assert!(requests.bytes.is_empty());
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let mut requests = Requests::default();
        requests.push(b"\x00\x01 nonsense\r\n\r\n");
        assert!(requests.next().is_err());
    }
}
