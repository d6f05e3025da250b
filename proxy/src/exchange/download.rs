//! The endpoint's answer on its way to an HTTP/1.1 client.

use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::answer::{framing, is_event_stream};
use super::attempt::{Attempt, Attempts, CLOSED, RESET};
use super::outbox::Outbox;
use super::paced::Pace;
use super::splice::Splice;
use super::upload::Upload;
use crate::buffers::REWRITE_BYTES;
use crate::http1::body::{self, BodyDecoder, BodyEncoder};
use crate::http1::field::FieldId;
use crate::http1::framing::BodyLength;
use crate::http1::head::{FieldSlots, ResponseHead, parse_response};
use crate::io::Stream;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::request::headers::{ResponseContext, ResponseFraming, write_interim, write_response};
use crate::request::plan::Plan;
use crate::request::record::Record;
use crate::upstream::io::UpstreamIo;

/// Largest response head (design.md §4).
pub const MAX_HEAD: usize = 64 * 1024;
/// Interim responses (1xx) before the final one.
const MAX_INTERIM: usize = 16;

pub struct Download {
    local: Rc<Local>,
    state: State,
    /// An incomplete response head.
    head: Vec<u8>,
    /// Bytes for the client.
    pub out: Outbox,
    interim: usize,
    pub decoder: BodyDecoder,
    encoder: BodyEncoder,
    splice: Splice,
    /// Any byte of the endpoint has come.
    pub touched: bool,
    /// The client connection can carry another request.
    pub keep_client: bool,
    /// The endpoint's connection can carry another request.
    pub keep_upstream: bool,
    /// Its silence limit is that of a stream.
    pub event_stream: bool,
    /// Nothing waits inside the client's stream (TLS records).
    flushed: bool,
    flush_waited: bool,
    pub progress_ms: u64,
    pace: Pace,
    /// Pacing holds the answer back: nobody is waited for.
    pub held: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body,
    /// Everything is read; `out` may still hold bytes.
    Ended,
    Tunnel,
    Replaced,
}

/// What the driver must do next.
#[derive(PartialEq, Eq)]
pub enum Step {
    Done,
    /// 101: both sides are raw bytes from here on.
    Tunnel,
    /// The answer is not passed on: the request goes to another endpoint.
    Replace,
}

/// Facts of the request that shape the answer.
pub struct Shape<'a> {
    pub plan: &'a Plan,
    /// The client keeps its connection, if the answer allows.
    pub keep_alive: bool,
    /// HSTS may be sent.
    pub hsts: bool,
    pub upload: &'a Upload,
    pub attempts: &'a Attempts,
}

impl Download {
    pub fn new(local: &Rc<Local>, plan: &Plan) -> Download {
        Download {
            local: local.clone(),
            state: State::Head,
            head: Vec::new(),
            out: Outbox::new(local),
            interim: 0,
            decoder: BodyDecoder::Done,
            encoder: BodyEncoder::Plain,
            splice: Splice::default(),
            touched: false,
            keep_client: false,
            keep_upstream: false,
            event_stream: false,
            flushed: true,
            flush_waited: false,
            progress_ms: local.timers.now_ms(),
            pace: Pace::download(plan),
            held: false,
        }
    }

    /// The head of the final answer has been written towards the client.
    pub fn begun(&self) -> bool {
        !matches!(self.state, State::Head | State::Replaced)
    }

    /// Whether the client is what the answer waits for.
    pub fn blocked(&self) -> bool {
        !self.out.is_empty() || !self.flushed || self.splice.holds_bytes()
    }

    /// Moves bytes until one side has to be waited for.
    pub fn poll<S: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        attempt: &mut Attempt,
        client: &mut S,
        shape: &Shape<'_>,
        record: &mut Record,
    ) -> Poll<Result<Step, Rejection>> {
        self.held = false;
        loop {
            if !self.out.is_empty() {
                let drained = self.out.poll_drain(cx, client);
                self.flushed = false;
                if self.out.take_progress() {
                    self.progress();
                }
                ready!(drained).map_err(|_| Cause::ClientGone)?;
            }
            // What was written must not wait inside the stream while the endpoint is silent.
            if !self.flushed {
                let flushed = client.poll_flush(cx);
                if flushed.is_pending() {
                    self.flush_waited = true;
                } else if std::mem::take(&mut self.flush_waited) {
                    // The client took its time; the endpoint's begins now.
                    self.progress();
                }
                ready!(flushed).map_err(|_| Cause::ClientGone)?;
                self.flushed = true;
            }
            match self.state {
                State::Tunnel => return Poll::Ready(Ok(Step::Tunnel)),
                State::Ended => return Poll::Ready(Ok(Step::Done)),
                State::Replaced => return Poll::Ready(Ok(Step::Replace)),
                State::Body => {
                    let io = &mut attempt.connection.io;
                    ready!(self.poll_body(cx, io, client, record))?;
                }
                State::Head => ready!(self.poll_head(cx, attempt, shape, record))?,
            }
        }
    }

    /// Pending: nothing may be read, because pacing holds it back.
    fn hold(&mut self, room: usize) -> Poll<()> {
        self.held = room == 0;
        if self.held { Poll::Pending } else { Poll::Ready(()) }
    }

    fn progress(&mut self) {
        self.progress_ms = self.local.timers.now_ms();
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        attempt: &mut Attempt,
        shape: &Shape<'_>,
        record: &mut Record,
    ) -> Poll<Result<(), Rejection>> {
        let local = self.local.clone();
        local.buffers.with_scratch(|scratch| {
            let (io, now_ms) = (&mut attempt.connection.io, local.timers.now_ms());
            let room = local.read_room(REWRITE_BYTES);
            let room = ready!(self.pace.poll_head_room(cx, io, now_ms, room));
            ready!(self.hold(room));
            let n = match ready!(Stream::poll_read(io, cx, &mut scratch[..room])) {
                Ok(n) if n > 0 => n,
                ended => return Poll::Ready(Err(closed(ended.err(), shape.upload))),
            };
            self.touched = true;
            self.progress();
            record.first_byte();
            let fresh = &scratch[..n];
            if self.head.is_empty() {
                return Poll::Ready(self.read_heads(fresh, attempt, shape, record));
            }
            let mut bytes = std::mem::take(&mut self.head);
            bytes.extend_from_slice(fresh);
            Poll::Ready(self.read_heads(&bytes, attempt, shape, record))
        })
    }

    /// Reads heads from `bytes`: any interim ones, then the final one with its first body bytes.
    fn read_heads(
        &mut self,
        mut bytes: &[u8],
        attempt: &mut Attempt,
        shape: &Shape<'_>,
        record: &mut Record,
    ) -> Result<(), Rejection> {
        let protocol = |detail| Rejection { cause: Cause::UpstreamProtocol, detail };
        while self.state == State::Head && !bytes.is_empty() {
            let mut slots = FieldSlots::new();
            let Some(head) = parse_response(bytes, MAX_HEAD, &mut slots).map_err(protocol)? else {
                self.head.extend_from_slice(bytes);
                return Ok(());
            };
            let len = head.len;
            match head.status {
                101 => {
                    self.switch(&head, attempt, shape, record)?;
                    attempt.answered(&head);
                }
                100..=199 => self.interim(&head, shape)?,
                status => {
                    // Interim responses that the client has seen are no harm.
                    if shape.attempts.replaces(status, shape.upload) {
                        attempt.answered(&head);
                        self.state = State::Replaced;
                        return Ok(());
                    }
                    self.begin(&head, attempt, shape, record)?;
                    attempt.answered(&head);
                }
            }
            bytes = bytes.get(len..).unwrap_or(&[]);
        }
        self.pace.passed(bytes.len());
        if self.state == State::Tunnel {
            self.out.buffer().extend_from_slice(bytes);
            return Ok(());
        }
        self.take_body(bytes, record)
    }

    /// 101 is an answer to an upgrade that we passed on, or an attack on the next request.
    fn switch(
        &mut self,
        head: &ResponseHead<'_, '_>,
        attempt: &Attempt,
        shape: &Shape<'_>,
        record: &mut Record,
    ) -> Result<(), Rejection> {
        let websocket = head.fields.get(FieldId::Upgrade);
        let agreed = websocket.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
        if !shape.plan.websocket || !agreed {
            return Err(Rejection { cause: Cause::UpstreamProtocol, detail: "unsolicited_101" });
        }
        record.status = 101;
        self.write_head(head, attempt, shape, ResponseFraming::None, false, true);
        self.state = State::Tunnel;
        Ok(())
    }

    fn interim(&mut self, head: &ResponseHead<'_, '_>, shape: &Shape<'_>) -> Result<(), Rejection> {
        self.interim += 1;
        if self.interim > MAX_INTERIM {
            return Err(Rejection { cause: Cause::UpstreamProtocol, detail: "interim_responses" });
        }
        // 100 is ours to say, and has been said; HTTP/1.0 knows no interim responses.
        if head.status != 100 && !shape.plan.http10 {
            write_interim(self.out.buffer(), head);
        }
        Ok(())
    }

    fn begin(
        &mut self,
        head: &ResponseHead<'_, '_>,
        attempt: &Attempt,
        shape: &Shape<'_>,
        record: &mut Record,
    ) -> Result<(), Rejection> {
        let length = head.body(shape.plan.head_request).map_err(|error| Rejection {
            cause: Cause::UpstreamProtocol,
            detail: error.reason(),
        })?;
        let framing = framing(head.status, length, shape.plan);
        self.encoder = match framing {
            ResponseFraming::Chunked => BodyEncoder::Chunked,
            _ => BodyEncoder::Plain,
        };
        self.keep_client =
            shape.keep_alive && shape.upload.done() && framing != ResponseFraming::Close;
        self.keep_upstream = head.keeps_alive() && length != BodyLength::UntilClose;
        self.event_stream = is_event_stream(head.fields.get(FieldId::ContentType));
        self.decoder = BodyDecoder::new(length);
        record.status = head.status;
        self.write_head(head, attempt, shape, framing, !self.keep_client, false);
        self.state = State::Body;
        Ok(())
    }

    fn write_head(
        &mut self,
        head: &ResponseHead<'_, '_>,
        attempt: &Attempt,
        shape: &Shape<'_>,
        framing: ResponseFraming,
        close: bool,
        websocket: bool,
    ) {
        let route = &shape.plan.route;
        let cookie = attempt.cookie(shape.plan);
        let cx = ResponseContext {
            framing,
            close,
            confirm_keep_alive: shape.plan.http10 && !close,
            websocket,
            edits: &route.response_edits,
            own: shape.plan.terms.edits.as_deref(),
            hsts: route.hsts.as_ref().filter(|_| shape.hsts).map(|hsts| &*hsts.line),
            cookie: cookie.as_deref(),
        };
        write_response(self.out.buffer(), head, &cx);
    }

    /// Takes body bytes that arrived together with the head.
    fn take_body(&mut self, bytes: &[u8], record: &mut Record) -> Result<(), Rejection> {
        if self.state != State::Body {
            return Ok(());
        }
        if !bytes.is_empty() || self.decoder.is_done() {
            let taken =
                body::transfer(&mut self.decoder, self.encoder, bytes, self.out.buffer()).map_err(
                    |error| Rejection { cause: Cause::UpstreamProtocol, detail: error.reason() },
                )?;
            record.bytes_out += taken.data;
            self.surplus(taken.consumed < bytes.len());
        }
        self.end_if_done(record);
        Ok(())
    }

    /// Bytes after the end of an answer: the connection cannot be trusted with another request.
    fn surplus(&mut self, any: bool) {
        if any {
            self.keep_upstream = false;
        }
    }

    fn end_if_done(&mut self, record: &mut Record) {
        if self.decoder.is_done() {
            record.give_back();
            self.state = State::Ended;
        }
    }

    fn poll_body<S: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut UpstreamIo,
        client: &mut S,
        record: &mut Record,
    ) -> Poll<Result<(), Rejection>> {
        if let (BodyDecoder::Sized(left), Some(socket), Some(upstream)) =
            (&mut self.decoder, client.plain(), upstream.plain())
            && self.pace.is_off()
            && self.splice.applies(&self.local.shared, &self.local.pipes, *left)
        {
            let before = *left;
            let outcome = self.splice.poll(cx, &self.local.pipes, upstream, socket, left);
            record.bytes_out += before - *left;
            if before != *left {
                self.progress();
            }
            ready!(outcome)?;
            self.decoder = BodyDecoder::Done;
            self.end_if_done(record);
            return Poll::Ready(Ok(()));
        }
        let local = self.local.clone();
        local.buffers.with_scratch(|scratch| {
            let rewritten = matches!(self.decoder, BodyDecoder::Chunked(_))
                || self.encoder == BodyEncoder::Chunked;
            let room = if rewritten { REWRITE_BYTES } else { scratch.len() };
            let (now_ms, room) = (local.timers.now_ms(), local.read_room(room));
            let room = ready!(self.pace.poll_room(cx, upstream, now_ms, room));
            ready!(self.hold(room));
            let n = match ready!(Stream::poll_read(upstream, cx, &mut scratch[..room])) {
                Ok(n) => n,
                Err(_) => return Poll::Ready(Err(Cause::UpstreamClosed.into())),
            };
            self.progress();
            self.pace.passed(n);
            Poll::Ready(self.pass_body(cx, &scratch[..n], client, record))
        })
    }

    fn pass_body<S: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        client: &mut S,
        record: &mut Record,
    ) -> Result<(), Rejection> {
        if bytes.is_empty() {
            let out = self.out.buffer();
            if !body::finish_at_close(&mut self.decoder, self.encoder, out) {
                return Err(Cause::UpstreamClosed.into());
            }
            self.end_if_done(record);
            return Ok(());
        }
        let straight = match (&mut self.decoder, self.encoder) {
            (BodyDecoder::Sized(left), BodyEncoder::Plain) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= n as u64;
                if *left == 0 {
                    self.decoder = BodyDecoder::Done;
                    record.give_back();
                }
                n
            }
            (BodyDecoder::UntilClose, BodyEncoder::Plain) => bytes.len(),
            _ => return self.take_body(bytes, record),
        };
        record.bytes_out += straight as u64;
        self.surplus(straight < bytes.len());
        self.out.write_through(cx, client, &bytes[..straight]).map_err(|_| Cause::ClientGone)?;
        self.flushed = false;
        self.end_if_done(record);
        Ok(())
    }

    /// How long the endpoint may be silent now.
    pub fn idle_limit(&self, idle: Duration, stream_idle: Duration) -> Duration {
        if self.event_stream { stream_idle } else { idle }
    }
}

/// How the endpoint's connection ended before an answer. A write may have met the reset first.
pub fn closed(error: Option<io::Error>, upload: &Upload) -> Rejection {
    let in_order = error.is_none_or(|error| {
        matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
    });
    if in_order && !upload.reset() { CLOSED } else { RESET }
}
