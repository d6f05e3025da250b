//! One exchange on a shared connection as an HTTP/1.1 byte stream: what is written is a request in
//! HTTP/1.1 framing, what is read is its answer in the same. A stream that is dropped before its
//! exchange is complete is reset at once (CANCEL).

use std::io::{self, ErrorKind};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::link::Place;
use super::request::{self, Converted};
use super::response::{self, Framing};
use crate::buffers::Charge;
use crate::http1::body::BodyDecoder;
use crate::http1::chunked::{self, Decoder, Step, write_size};

/// A request head is ours; longer than this it cannot be.
const MAX_HEAD: usize = 256 * 1024;
/// Largest DATA that is handed to h2 at once.
const FRAME_BYTES: usize = 32 * 1024;

/// See the module.
pub struct H2Stream {
    sending: Sending,
    receiving: Receiving,
    staged: Staged,
    head_request: bool,
    /// Of a WebSocket request: what its 101 says.
    accept: Option<String>,
    unprocessed: bool,
    /// Who reads before the head was written.
    reader: Option<Waker>,
    /// Of `staged`.
    charge: Charge,
    /// Last: it is free only when the handles above are gone.
    place: Place,
}

enum Sending {
    /// The head as far as it was written.
    Head(Vec<u8>),
    Body(BodyDecoder, SendStream<Bytes>),
    /// A WebSocket: bytes as they are.
    Raw(SendStream<Bytes>),
    Ended,
}

enum Receiving {
    /// The head was not sent.
    Nothing,
    Head(ResponseFuture),
    Body(RecvStream, Framing),
    /// The data has ended, trailers may come.
    Trailers(RecvStream, Framing),
    Raw(RecvStream),
    Ended(#[expect(dead_code, reason = "held so that the stream is not reset")] Option<RecvStream>),
    Failed,
}

impl H2Stream {
    pub fn new(place: Place) -> H2Stream {
        H2Stream {
            sending: Sending::Head(Vec::new()),
            receiving: Receiving::Nothing,
            staged: Staged::default(),
            head_request: false,
            accept: None,
            unprocessed: false,
            reader: None,
            charge: Charge::new(&place.link.shared),
            place,
        }
    }

    /// The endpoint has said that it did not process the request (RFC 9113 §8.7), or it was never
    /// sent.
    pub fn unprocessed(&self) -> bool {
        self.unprocessed
    }

    /// Whether a request can still be sent on the connection.
    pub fn usable(&self) -> bool {
        matches!(self.receiving, Receiving::Nothing) && self.place.link.open()
    }

    pub fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.sending {
            Sending::Head(_) => Poll::Ready(self.write_head(buf)),
            Sending::Body(decoder, stream) => {
                let used = ready!(poll_body(cx, decoder, stream, &self.place, buf))?;
                if decoder.is_done() {
                    self.sending = Sending::Ended;
                }
                Poll::Ready(Ok(used))
            }
            Sending::Raw(stream) => {
                let n = ready!(poll_room(cx, stream, buf.len()))?;
                send(stream, &self.place, &buf[..n], false)?;
                Poll::Ready(Ok(n))
            }
            Sending::Ended => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
        }
    }

    /// Takes head bytes; with the last of them the request is sent.
    fn write_head(&mut self, buf: &[u8]) -> io::Result<usize> {
        let Sending::Head(held) = &mut self.sending else { return Ok(0) };
        let before = held.len();
        let converted = if before == 0 {
            request::convert(buf, &self.place.link.transport.scheme())
        } else {
            held.extend_from_slice(buf);
            request::convert(held, &self.place.link.transport.scheme())
        };
        match converted {
            Ok(Some(converted)) => {
                let used = converted.len.saturating_sub(before);
                self.send_head(converted)?;
                Ok(used)
            }
            Ok(None) if before + buf.len() <= MAX_HEAD => {
                if before == 0 {
                    held.extend_from_slice(buf);
                }
                Ok(buf.len())
            }
            _ => {
                self.sending = Sending::Ended;
                self.receiving = Receiving::Failed;
                Err(ErrorKind::InvalidInput.into())
            }
        }
    }

    fn send_head(&mut self, converted: Converted) -> io::Result<()> {
        let raw = converted.accept.is_some();
        let decoder = BodyDecoder::new(converted.body);
        let ends = decoder.is_done() && !raw;
        self.head_request = converted.head_request;
        self.accept = converted.accept;
        let sent = self
            .place
            .link
            .sender()
            .and_then(|mut sender| sender.send_request(converted.request, ends).ok());
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        let Some((response, stream)) = sent else {
            // The connection has ended, or is about to: nothing of the request has left.
            self.unprocessed = true;
            self.sending = Sending::Ended;
            self.receiving = Receiving::Failed;
            return Err(ErrorKind::ConnectionReset.into());
        };
        self.receiving = Receiving::Head(response);
        self.sending = match (raw, ends) {
            (true, _) => Sending::Raw(stream),
            (false, true) => Sending::Ended,
            (false, false) => Sending::Body(decoder, stream),
        };
        Ok(())
    }

    /// Ends the sending half; only a WebSocket has one to end.
    pub fn poll_shutdown(&mut self) -> Poll<io::Result<()>> {
        if let Sending::Raw(stream) = &mut self.sending {
            let ended = stream.send_data(Bytes::new(), true);
            self.sending = Sending::Ended;
            ended.map_err(|_| io::Error::from(ErrorKind::ConnectionReset))?;
        }
        Poll::Ready(Ok(()))
    }

    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        let outcome = loop {
            filled += self.staged.take(&mut buf[filled..]);
            if filled == buf.len() {
                break Poll::Ready(Ok(filled));
            }
            match self.poll_stage(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => break Poll::Ready(Ok(filled)),
                // An error comes again with the next read.
                Poll::Ready(Err(_)) | Poll::Pending if filled > 0 => break Poll::Ready(Ok(filled)),
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.charge.set(self.staged.len());
        outcome
    }

    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.staged.len() == 0 {
            match ready!(self.poll_stage(cx)) {
                Ok(true) => {}
                // The next read tells which it is.
                Ok(false) | Err(_) => break,
            }
        }
        self.charge.set(self.staged.len());
        Poll::Ready(Ok(()))
    }

    /// Gets the next bytes for the driver. `false`: there will be none.
    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let staged = match &mut self.receiving {
            Receiving::Nothing => {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Receiving::Head(response) => {
                match ready!(poll_response(cx, response, &mut self.staged)) {
                    Ok(Some(response)) => self.begin(response),
                    Ok(None) => Ok(true),
                    Err(error) => Err(error),
                }
            }
            Receiving::Body(stream, framing) => match ready!(stream.poll_data(cx)) {
                Some(Ok(data)) => Ok(self.staged.data(stream, data, *framing == Framing::Chunked)),
                Some(Err(error)) => Err(Some(error)),
                None => {
                    let framing = *framing;
                    let receiving = std::mem::replace(&mut self.receiving, Receiving::Failed);
                    if let Receiving::Body(stream, _) = receiving {
                        self.receiving = Receiving::Trailers(stream, framing);
                    }
                    Ok(true)
                }
            },
            Receiving::Trailers(stream, framing) => match ready!(stream.poll_trailers(cx)) {
                Ok(trailers) => {
                    if *framing == Framing::Chunked {
                        response::write_last_chunk(&mut self.staged.head, trailers.as_ref());
                    }
                    self.receiving = Receiving::Ended(None);
                    Ok(true)
                }
                Err(error) => Err(Some(error)),
            },
            Receiving::Raw(stream) => match ready!(stream.poll_data(cx)) {
                Some(Ok(data)) => Ok(self.staged.data(stream, data, false)),
                Some(Err(error)) => Err(Some(error)),
                None => {
                    self.receiving = Receiving::Ended(None);
                    Ok(true)
                }
            },
            Receiving::Ended(_) => return Poll::Ready(Ok(false)),
            Receiving::Failed => Err(None),
        };
        Poll::Ready(staged.map_err(|error| self.failed(error.as_ref())))
    }

    /// The final answer.
    fn begin(&mut self, response: Response<RecvStream>) -> Result<bool, Option<h2::Error>> {
        let (parts, mut stream) = response.into_parts();
        self.place.watch(stream.flow_control().clone());
        let out = &mut self.staged.head;
        if let Some(accept) = self.accept.as_deref().filter(|_| parts.status.is_success()) {
            response::write_switch(out, &parts.headers, accept);
            self.receiving = Receiving::Raw(stream);
            return Ok(true);
        }
        let ended = stream.is_end_stream();
        let framing = response::write_head(out, &parts, self.head_request, ended);
        self.receiving = match framing {
            Framing::None => Receiving::Ended(Some(stream)),
            framing => Receiving::Body(stream, framing),
        };
        Ok(true)
    }

    /// Whatever its code, a reset is never the end of an answer.
    fn failed(&mut self, error: Option<&h2::Error>) -> io::Error {
        if let Some(error) = error {
            let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
            // Such an error has every stream above the last one that the endpoint names in GOAWAY.
            let above = error.is_go_away();
            let answered = !matches!(self.receiving, Receiving::Head(_));
            self.unprocessed = error.is_remote() && (refused || above) && !answered;
            self.receiving = Receiving::Failed;
        }
        ErrorKind::ConnectionReset.into()
    }
}

/// Waits for the head. `Ok(None)`: an interim one was staged, or dropped.
fn poll_response(
    cx: &mut Context<'_>,
    response: &mut ResponseFuture,
    staged: &mut Staged,
) -> Poll<Result<Option<Response<RecvStream>>, Option<h2::Error>>> {
    match response.poll_informational(cx) {
        Poll::Ready(Some(Ok(interim))) => {
            // 100 is ours to say; 101 does not exist here (RFC 9113 §8.6).
            if !matches!(interim.status().as_u16(), 100 | 101) {
                response::write_interim(&mut staged.head, interim.status(), interim.headers());
            }
            return Poll::Ready(Ok(None));
        }
        Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Some(error))),
        Poll::Ready(None) | Poll::Pending => {}
    }
    let answer = ready!(std::future::Future::poll(std::pin::Pin::new(response), cx));
    Poll::Ready(answer.map(Some).map_err(Some))
}

/// Sends as much of a framed body as the endpoint's windows take.
fn poll_body(
    cx: &mut Context<'_>,
    decoder: &mut BodyDecoder,
    stream: &mut SendStream<Bytes>,
    place: &Place,
    buf: &[u8],
) -> Poll<io::Result<usize>> {
    let mut used = 0;
    while used < buf.len() && !decoder.is_done() {
        let rest = &buf[used..];
        let left = match decoder {
            BodyDecoder::Sized(left) => *left,
            BodyDecoder::Chunked(chunks) => chunks.data_left(),
            BodyDecoder::UntilClose | BodyDecoder::Done => break,
        };
        if left == 0 {
            used += framing(decoder, stream, rest)?;
            continue;
        }
        let wanted = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = match poll_room(cx, stream, wanted) {
            Poll::Ready(room) => room?,
            Poll::Pending if used > 0 => break,
            Poll::Pending => return Poll::Pending,
        };
        let mut last = false;
        match decoder {
            BodyDecoder::Sized(left) => {
                *left -= n as u64;
                last = *left == 0;
            }
            BodyDecoder::Chunked(chunks) => {
                chunks.step(&rest[..n]).map_err(invalid)?;
            }
            BodyDecoder::UntilClose | BodyDecoder::Done => {}
        }
        send(stream, place, &rest[..n], last)?;
        used += n;
        if last {
            *decoder = BodyDecoder::Done;
        }
    }
    Poll::Ready(Ok(used))
}

/// Takes chunk framing; with the last of it the body ends.
fn framing(
    decoder: &mut BodyDecoder,
    stream: &mut SendStream<Bytes>,
    rest: &[u8],
) -> io::Result<usize> {
    let BodyDecoder::Chunked(chunks) = decoder else { return Ok(0) };
    let Step::Skip(n) = chunks.step(rest).map_err(invalid)? else { return Ok(0) };
    if chunks.is_done() {
        let ended = match trailers(chunks) {
            Some(trailers) => stream.send_trailers(trailers),
            None => stream.send_data(Bytes::new(), true),
        };
        *decoder = BodyDecoder::Done;
        ended.map_err(|_| io::Error::from(ErrorKind::ConnectionReset))?;
    }
    Ok(n)
}

fn invalid(_: chunked::ChunkError) -> io::Error {
    ErrorKind::InvalidInput.into()
}

fn trailers(decoder: &Decoder) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    decoder.passable_trailers(|name, value| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok();
        if let Some((name, value)) = name.zip(HeaderValue::from_bytes(value).ok()) {
            map.append(name, value);
        }
    });
    (!map.is_empty()).then_some(map)
}

/// Bytes that may be sent now, up to `wanted`.
fn poll_room(
    cx: &mut Context<'_>,
    stream: &mut SendStream<Bytes>,
    wanted: usize,
) -> Poll<io::Result<usize>> {
    let wanted = wanted.min(FRAME_BYTES);
    stream.reserve_capacity(wanted);
    loop {
        let room = stream.capacity();
        if room > 0 || wanted == 0 {
            return Poll::Ready(Ok(room.min(wanted)));
        }
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
        }
    }
}

fn send(stream: &mut SendStream<Bytes>, place: &Place, data: &[u8], last: bool) -> io::Result<()> {
    let mut charge = Charge::new(&place.link.shared);
    charge.set(data.len());
    let data = Bytes::from_owner(Charged { data: data.to_vec(), _charge: charge });
    stream.send_data(data, last).map_err(|_| ErrorKind::ConnectionReset.into())
}

/// Bytes that count as buffered while h2 holds them.
struct Charged {
    data: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Bytes for the driver: what we write, then a piece of body, then the end of its chunk.
#[derive(Default)]
struct Staged {
    head: Vec<u8>,
    at: usize,
    data: Bytes,
    tail: &'static [u8],
}

impl Staged {
    fn len(&self) -> usize {
        self.head.len() - self.at + self.data.len() + self.tail.len()
    }

    /// A piece of body; its room in the windows is given back.
    fn data(&mut self, stream: &mut RecvStream, data: Bytes, chunk: bool) -> bool {
        // It fails only with the stream.
        let _ = stream.flow_control().release_capacity(data.len());
        if chunk && !data.is_empty() {
            write_size(&mut self.head, data.len());
            self.tail = b"\r\n";
        }
        self.data = data;
        true
    }

    /// Moves bytes to `buf`.
    fn take(&mut self, buf: &mut [u8]) -> usize {
        let mut filled = 0;
        let mut copy = |from: &[u8]| {
            let n = from.len().min(buf.len() - filled);
            buf[filled..filled + n].copy_from_slice(&from[..n]);
            filled += n;
            n
        };
        self.at += copy(&self.head[self.at..]);
        if self.at < self.head.len() {
            return filled;
        }
        self.head.clear();
        self.at = 0;
        let n = copy(&self.data);
        let _ = self.data.split_to(n);
        if self.data.is_empty() {
            let n = copy(self.tail);
            self.tail = &self.tail[n..];
        }
        filled
    }
}
