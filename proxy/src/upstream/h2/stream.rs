//! One exchange on a shared connection as an HTTP/1.1 byte stream: what is written is a request in
//! HTTP/1.1 framing, what is read is its answer in the same. A stream that is dropped before its
//! exchange is complete is reset at once (CANCEL).

use std::io::{self, ErrorKind};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::Response;

use super::link::Place;
use super::request::{self, Converted};
use super::response::{self, Framing};
use super::sending::{poll_body, poll_room, send};
use super::staged::Staged;
use crate::buffers::Charge;
use crate::http1::body::BodyDecoder;

/// A request head is ours; longer than this it cannot be.
const MAX_HEAD: usize = 256 * 1024;

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
    /// Gone with the request.
    sender: Option<SendRequest<Bytes>>,
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
    pub fn new(place: Place, sender: SendRequest<Bytes>) -> H2Stream {
        H2Stream {
            sending: Sending::Head(Vec::new()),
            receiving: Receiving::Nothing,
            staged: Staged::default(),
            head_request: false,
            accept: None,
            unprocessed: false,
            reader: None,
            sender: Some(sender),
            charge: Charge::new(&place.link.shared),
            place,
        }
    }

    /// The endpoint has said that it did not process the request (RFC 9113 §8.7), or it was never
    /// sent.
    pub fn unprocessed(&self) -> bool {
        self.unprocessed
    }

    /// Whether the request can still be sent.
    pub fn usable(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let sender = self.sender.clone();
        sender.is_some_and(|mut sender| !matches!(sender.poll_ready(&mut cx), Poll::Ready(Err(_))))
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
                send(stream, &self.place, buf[..n].to_vec(), false)?;
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
        let sender = self.sender.take();
        let sent = sender.and_then(|mut to| to.send_request(converted.request, ends).ok());
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
