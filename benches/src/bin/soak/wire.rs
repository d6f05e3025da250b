//! HTTP/1.1 as both ends of the soak read it: blocking, lenient, over any stream.

use std::io::{BufRead, Error, ErrorKind, Read, Result};

/// Head of a request or an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Request or status line.
    pub first: String,
    fields: Vec<(String, String)>,
}

impl Head {
    /// `None`: the peer closed before the first byte.
    pub fn read(stream: &mut impl BufRead) -> Result<Option<Self>> {
        let Some(first) = line(stream)? else { return Ok(None) };
        let mut fields = Vec::new();
        loop {
            let line = line(stream)?.ok_or(ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(Some(Self { first, fields }));
            }
            let (name, value) = line.split_once(':').ok_or(ErrorKind::InvalidData)?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Its first value; `name` in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Of an answer; 0 for anything else.
    pub fn status(&self) -> u16 {
        let word = self.first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        word.and_then(|word| word.parse().ok()).unwrap_or_default()
    }

    /// Of a request: method, path and query.
    pub fn request(&self) -> (&str, &str, &str) {
        let (method, rest) = self.first.split_once(' ').unwrap_or_default();
        let target = rest.split(' ').next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        (method, path, query)
    }

    /// Every field as it came, for a backend that tells what it got.
    pub fn text(&self) -> String {
        let fields = self.fields.iter().map(|(name, value)| format!("{name}: {value}\n"));
        std::iter::once(format!("{}\n", self.first)).chain(fields).collect()
    }

    /// The body that follows this head; an answer without length or chunks has none here.
    pub fn body<'a, S: BufRead>(&self, stream: &'a mut S) -> Result<Body<'a, S>> {
        let chunked = self.field("transfer-encoding") == Some("chunked");
        let length = match self.field("content-length") {
            Some(length) if !chunked => length.parse().map_err(|_| ErrorKind::InvalidData)?,
            _ => 0,
        };
        Ok(Body { stream, left: length, chunked, ended: !chunked })
    }
}

/// The content, without its framing.
pub struct Body<'a, S> {
    stream: &'a mut S,
    /// Of the body, or of the current chunk.
    left: u64,
    chunked: bool,
    /// The last chunk has been read.
    ended: bool,
}

impl<S: BufRead> Read for Body<'_, S> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if self.left == 0 && !self.ended {
            self.next_chunk()?;
        }
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        if limit == 0 {
            return Ok(0);
        }
        let n = self.stream.read(out.get_mut(..limit).unwrap_or_default())?;
        if n == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "closed within a body"));
        }
        self.left -= n as u64;
        if self.left == 0 && self.chunked {
            line(self.stream)?;
        }
        Ok(n)
    }
}

impl<S: BufRead> Body<'_, S> {
    fn next_chunk(&mut self) -> Result<()> {
        let size = line(self.stream)?.ok_or(ErrorKind::UnexpectedEof)?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        self.left = u64::from_str_radix(digits, 16).map_err(|_| ErrorKind::InvalidData)?;
        if self.left == 0 {
            self.ended = true;
            while line(self.stream)?.is_some_and(|trailer| !trailer.is_empty()) {}
        }
        Ok(())
    }
}

/// Without its end; `None` at the end of the stream.
fn line(stream: &mut impl BufRead) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    let read = stream.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes)?;
    if read == 0 {
        return Ok(None);
    }
    if bytes.pop() != Some(b'\n') {
        return Err(Error::new(ErrorKind::UnexpectedEof, "closed within a line"));
    }
    let text = String::from_utf8(bytes).map_err(|_| ErrorKind::InvalidData)?;
    Ok(Some(text.trim_end_matches('\r').to_owned()))
}

const LONGEST_LINE: u64 = 64 * 1024;

/// The number that `name` has in a query; `None` without it.
pub fn parameter(query: &str, name: &str) -> Option<u64> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(n, _)| *n == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_ends_where_it_ends() {
        let mut stream = b"POST /up?slow=5&x=1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
            3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\nT: 1\r\n\r\nNEXT\r\n"
            .as_slice();
        let head = Head::read(&mut stream).unwrap().unwrap();
        assert_eq!(head.request(), ("POST", "/up", "slow=5&x=1"));
        let mut body = String::new();
        head.body(&mut stream).unwrap().read_to_string(&mut body).unwrap();
        assert_eq!((body.as_str(), stream), ("abc0123456789", b"NEXT\r\n".as_slice()));
    }

    #[test]
    fn a_body_with_a_length_that_is_cut_is_an_error() {
        let mut stream = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc".as_slice();
        let head = Head::read(&mut stream).unwrap().unwrap();
        assert_eq!((head.status(), head.field("content-length")), (200, Some("4")));
        assert!(head.body(&mut stream).unwrap().read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn nothing_is_no_head_and_half_is_an_error() {
        assert_eq!(Head::read(&mut b"".as_slice()).unwrap(), None);
        assert!(Head::read(&mut b"GET / HTTP/1.1\r\nHo".as_slice()).is_err());
    }

    #[test]
    fn parameters_are_numbers_by_name() {
        assert_eq!(parameter("bytes=10&slow=2", "slow"), Some(2));
        assert_eq!(parameter("bytes=x", "bytes"), None);
        assert_eq!(parameter("", "bytes"), None);
    }
}
