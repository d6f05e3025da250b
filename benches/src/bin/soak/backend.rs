//! What stands behind the edge: a thread per connection, streams and bodies of known content.
//!
//! | path | answer |
//! |---|---|
//! | `/ws` with Upgrade | WebSocket echo |
//! | `/sse?ms=1000` | an event with the next number every `ms` |
//! | `/down?bytes=N[&chunked=1]` | `N` bytes of the pattern |
//! | `/up[?slow=RATE]` | how much of the pattern came, read at `RATE` bytes per second |
//! | `/head` | the head as it came |
//! | other | the name of the backend |

use std::io::{BufRead, BufReader, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::pattern::{self, Checker};
use crate::websocket;
use crate::wire::{Head, parameter};

/// Serves as long as this process lives; its port.
pub fn start(name: &'static str) -> benches::Result<u16> {
    start_at((Ipv4Addr::LOCALHOST, 0).into(), name)
}

/// The same, on this address.
pub fn start_at(address: SocketAddr, name: &'static str) -> benches::Result<u16> {
    let listener = TcpListener::bind(address)?;
    rustix::net::listen(&listener, 4096)?;
    let port = listener.local_addr()?.port();
    spawn(move || {
        for stream in listener.incoming().flatten() {
            // A thread that cannot be had closes the connection: the edge answers 502, the run
            // fails by its own criterion.
            let _ = spawn(move || drop(serve(stream, name)));
        }
    })?;
    Ok(port)
}

/// With a small stack: there are hundreds.
pub fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>> {
    thread::Builder::new().stack_size(256 * 1024).spawn(work)
}

fn serve(stream: TcpStream, name: &str) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(BLOCK, stream);
    while let Some(head) = Head::read(&mut stream)? {
        let (method, path, query) = head.request();
        match path {
            "/ws" | "/_next/hmr" => return websocket::serve(&mut stream, &head),
            "/sse" => return events(stream.get_mut(), parameter(query, "ms").unwrap_or(1000)),
            "/down" => {
                let bytes = parameter(query, "bytes").unwrap_or(0);
                let chunked = parameter(query, "chunked").is_some();
                down(stream.get_mut(), bytes, chunked)?;
            }
            "/up" => up(&mut stream, &head, parameter(query, "slow"))?,
            _ => {
                std::io::copy(&mut head.body(&mut stream)?, &mut std::io::sink())?;
                let body = if path == "/head" { head.text() } else { format!("{name}\n") };
                answer(stream.get_mut(), &body, method == "HEAD")?;
            }
        }
    }
    Ok(())
}

fn answer(stream: &mut impl Write, body: &str, head_only: bool) -> Result<()> {
    let length = body.len();
    let mut text =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n");
    if !head_only {
        text.push_str(body);
    }
    stream.write_all(text.as_bytes())
}

/// Events at fixed times, numbered from 1.
fn events(stream: &mut impl Write, every_ms: u64) -> Result<()> {
    let start = Instant::now();
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
          Transfer-Encoding: chunked\r\n\r\n",
    )?;
    for number in 1_u64.. {
        let event = format!("id: {number}\ndata: event {number}\n\n");
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
        let next = start + Duration::from_millis(every_ms.saturating_mul(number));
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn down(stream: &mut impl Write, bytes: u64, chunked: bool) -> Result<()> {
    let framing = if chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {bytes}")
    };
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{framing}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut block = vec![0; BLOCK];
    let mut sent = 0;
    while sent < bytes {
        let n = usize::try_from(bytes - sent).unwrap_or(BLOCK).min(BLOCK);
        let piece = block.get_mut(..n).unwrap_or_default();
        pattern::fill(sent, piece);
        if chunked {
            write!(stream, "{n:x}\r\n")?;
        }
        stream.write_all(piece)?;
        if chunked {
            stream.write_all(b"\r\n")?;
        }
        sent += n as u64;
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}

fn up<S: Read + Write>(
    stream: &mut BufReader<S>,
    head: &Head,
    bytes_per_second: Option<u64>,
) -> Result<()> {
    let checker = read_at(&mut head.body(stream)?, bytes_per_second)?;
    let wrong = checker.wrong().map_or("none".to_owned(), |at| at.to_string());
    let length = if head.field("transfer-encoding").is_some() { "chunked" } else { "length" };
    let body = format!("bytes {} wrong {wrong} framing {length}\n", checker.bytes());
    answer(stream.get_mut(), &body, false)
}

/// Reads to the end, not faster than the rate in the long run.
pub fn read_at(from: &mut impl Read, bytes_per_second: Option<u64>) -> Result<Checker> {
    let mut checker = Checker::default();
    let mut block = vec![0; BLOCK];
    let start = Instant::now();
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok(checker),
            Ok(n) => checker.push(block.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if let Some(rate) = bytes_per_second {
            let due = start + Duration::from_millis(checker.bytes() * 1000 / rate.max(1));
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}

/// The number of the next event of a stream, checked against its data; `None` at its end.
pub fn next_event(lines: &mut impl BufRead) -> benches::Result<Option<u64>> {
    let (mut id, mut data) = (None, None::<u64>);
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if let Some(number) = line.strip_prefix("id: ") {
            id = Some(number.parse()?);
        } else if let Some(text) = line.strip_prefix("data: event ") {
            data = Some(text.parse()?);
        } else if line.is_empty() {
            return match (id, data) {
                (Some(id), Some(data)) if id == data => Ok(Some(id)),
                other => Err(format!("an event that is not whole: {other:?}").into()),
            };
        }
    }
}

const BLOCK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_framings_carry_the_pattern() {
        for chunked in [false, true] {
            let mut sent = Vec::new();
            down(&mut sent, 200_001, chunked).unwrap();
            let mut stream = sent.as_slice();
            let head = Head::read(&mut stream).unwrap().unwrap();
            let checker = read_at(&mut head.body(&mut stream).unwrap(), None).unwrap();
            assert_eq!((checker.bytes(), checker.wrong()), (200_001, None), "{chunked}");
            assert!(stream.is_empty());
        }
    }

    #[test]
    fn events_are_read_whole() {
        let mut text = b"id: 1\ndata: event 1\n\nid: 2\ndata: event 3\n\n".as_slice();
        assert_eq!(next_event(&mut text).unwrap(), Some(1));
        assert!(next_event(&mut text).is_err());
        assert_eq!(next_event(&mut b"".as_slice()).unwrap(), None);
    }

    #[test]
    fn it_answers_over_a_socket_and_keeps_the_connection() {
        let port = start("this").unwrap();
        let mut stream = BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap());
        for (request, expected) in [
            (
                "PUT /up HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
                "bytes 3 wrong 0 framing length\n",
            ),
            ("GET / HTTP/1.1\r\n\r\n", "this\n"),
        ] {
            stream.get_mut().write_all(request.as_bytes()).unwrap();
            let head = Head::read(&mut stream).unwrap().unwrap();
            let mut body = String::new();
            head.body(&mut stream).unwrap().read_to_string(&mut body).unwrap();
            assert_eq!(body, expected);
        }
    }
}
