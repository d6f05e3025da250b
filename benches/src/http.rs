//! The smallest HTTP/1.1 client that can check an answer: Content-Length only, no chunked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

/// One GET on a connection of its own.
pub fn get(to: SocketAddr, host: &str, path: &str) -> crate::Result<Reply> {
    let mut stream = connect(to)?;
    exchange(&mut stream, host, path, "close")
}

/// A connection with limits on every wait. Closing it resets it: thousands of TIME_WAIT sockets
/// would change what is measured next.
pub fn connect(to: SocketAddr) -> crate::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(stream)
}

/// Sends one GET and reads its whole answer. `connection` is `keep-alive` or `close`.
pub fn exchange(
    stream: &mut (impl Read + Write),
    host: &str,
    path: &str,
    connection: &str,
) -> crate::Result<Reply> {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    let mut wanted = None;
    loop {
        if wanted.is_none() {
            wanted = parse_head(&bytes)?;
        }
        if let Some(head) = wanted
            && bytes.len() >= head.bytes + head.content_length
        {
            bytes.truncate(head.bytes + head.content_length);
            return Ok(Reply { status: head.status, body: bytes.split_off(head.bytes) });
        }
        match stream.read(&mut chunk)? {
            0 => return Err(format!("closed after {} bytes of the answer", bytes.len()).into()),
            n => bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
        }
    }
}

#[derive(Clone, Copy)]
pub struct Head {
    pub status: u16,
    pub bytes: usize,
    pub content_length: usize,
}

/// The head of an answer once it is whole; an error without Content-Length.
pub fn parse_head(bytes: &[u8]) -> crate::Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes)? else { return Ok(None) };
    let length = response.headers.iter().find(|f| f.name.eq_ignore_ascii_case("content-length"));
    let length = length.ok_or("an answer without Content-Length")?;
    Ok(Some(Head {
        status: response.code.unwrap_or_default(),
        bytes: head,
        content_length: std::str::from_utf8(length.value)?.trim().parse()?,
    }))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Gives its bytes one at a time.
    struct Drip(Vec<u8>, usize);

    impl Read for Drip {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let Some(byte) = self.0.get(self.1) else { return Ok(0) };
            buf[0] = *byte;
            self.1 += 1;
            Ok(1)
        }
    }

    impl Write for Drip {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_answer_in_pieces_is_read_to_its_end() {
        let answer = b"HTTP/1.1 404 No\r\ncontent-length: 3\r\n\r\nabcBEYOND".to_vec();
        let reply = exchange(&mut Drip(answer, 0), "h", "/", "keep-alive").unwrap();
        assert_eq!((reply.status, reply.body.as_slice()), (404, b"abc".as_slice()));
    }

    #[test]
    fn a_truncated_answer_is_an_error() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc".to_vec();
        assert!(exchange(&mut Drip(answer, 0), "h", "/", "close").is_err());
    }
}
