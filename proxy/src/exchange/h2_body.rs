//! Bodies of answers on HTTP/2 streams. Room in the client's window comes first, then the read from
//! the endpoint: a client that takes nothing costs no buffer. What h2 holds for a client is counted
//! against the process-wide cap until it is written.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Response};

use super::attempt::Attempt;
use super::h1_h1::NOT_READING;
use super::h2_h1::deadline;
use super::h2_head::trailer_map;
use super::h2_send::{Gone, charged, poll_room};
use super::h2_upload::{Source, poll_upload};
use super::paced::Pace;
use super::tunnel::cut;
use super::upload::Upload;
use crate::downstream::h2_streams::Watch;
use crate::http1::body::{self, BodyDecoder, BodyEncoder};
use crate::http1::chunked::Step;
use crate::io::Stream;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::request::plan::Plan;
use crate::request::record::Record;
use crate::timer::Fired;

/// Largest DATA that is handed to h2 at once.
const FRAME_BYTES: usize = 32 * 1024;
/// Finished answers that a connection may leave in h2 without anybody waiting for the client to
/// take them: waiting costs every small answer a turn of its task.
const UNWATCHED_BYTES: usize = 8 * 1024;
/// A client that took this much has made progress; less, while more waits, is a drip.
const PROGRESS_BYTES: usize = 16 * 1024;

/// An answer of an endpoint.
pub struct Relay {
    pub local: Rc<Local>,
    pub plan: Plan,
    pub record: Record,
    pub head: Response<()>,
    pub upload: Upload,
    pub source: Option<Source>,
    pub attempt: Option<Attempt>,
    pub decoder: BodyDecoder,
    pub keep_upstream: bool,
    /// Body bytes that are read and not sent.
    pub first: Bytes,
    pub trailers: Option<HeaderMap>,
    pub watch: Rc<Watch>,
    /// Worker milliseconds when the answer must be complete; `u64::MAX`: never.
    pub deadline_ms: u64,
    /// Longest silence of the endpoint.
    pub idle: Duration,
    pub event_stream: bool,
    pub write_progress: Duration,
    pub body_progress: Duration,
    pub body_min_rate: u64,
    pub progress_ms: u64,
    /// Since when the client is waited for, and what it took meanwhile.
    pub waiting: Option<u64>,
    pub taken: usize,
    /// Shared with every piece that h2 holds.
    pub given: Arc<()>,
    pub pace: Pace,
    /// What was wrong with the first bytes of the body.
    pub broken: Option<Rejection>,
}

impl Relay {
    /// Takes the body bytes that came with the head.
    pub fn take_first(&mut self, bytes: &[u8]) {
        self.pace.passed(bytes.len());
        match self.decode(bytes) {
            Ok(data) => self.first = data,
            Err(rejection) => self.broken = Some(rejection),
        }
        self.release_endpoint();
    }

    /// Sends the answer to its end.
    pub async fn run(mut self: Box<Self>, mut respond: SendResponse<Bytes>) {
        let head = std::mem::replace(&mut self.head, Response::new(()));
        let end = self.over();
        let Ok(mut stream) = respond.send_response(head, end) else { return };
        drop(respond);
        self.watch.answered();
        if end {
            return self.finish();
        }
        match poll_fn(|cx| self.poll(cx, &mut stream)).await {
            Ok(()) => {
                self.finish();
                if self.watch.held() > UNWATCHED_BYTES {
                    self.taken_by_client(&mut stream).await;
                }
            }
            Err(rejection) => {
                // Its end would look like the end of the answer.
                let stalled = rejection == NOT_READING;
                stream.send_reset(if stalled { Reason::CANCEL } else { Reason::INTERNAL_ERROR });
                self.fail(rejection);
            }
        }
    }

    /// Waits until h2 has written what it was given. A client may shrink its windows afterwards
    /// and so pin a finished answer in memory: it has `write_progress` to take it.
    async fn taken_by_client(&self, stream: &mut SendStream<Bytes>) {
        // The connection's task writes in the meantime, nearly always everything.
        tokio::task::yield_now().await;
        let timer = &self.watch.timer;
        timer.follow(None);
        timer.set(self.write_progress);
        poll_fn(|cx| {
            if Arc::strong_count(&self.given) == 1 || stream.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            timer.poll_at_tick();
            if timer.check(cx).is_some() {
                stream.send_reset(Reason::CANCEL);
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    /// Everything was handed out.
    fn over(&self) -> bool {
        let sent = self.first.is_empty() && self.trailers.is_none();
        sent && self.decoder.is_done() && self.broken.is_none()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
    ) -> Poll<Result<(), Rejection>> {
        if stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Cause::ClientGone.into()));
        }
        if let Some(rejection) = self.broken {
            return Poll::Ready(Err(rejection));
        }
        self.drive_upload(cx)?;
        loop {
            if !self.first.is_empty() {
                let Poll::Ready(room) = poll_room(cx, stream, self.first.len()) else {
                    return self.poll_client(cx);
                };
                if self.send_first(stream, room?)? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(stream.send_trailers(trailers).map_err(|_| Gone.into()));
            }
            if self.decoder.is_done() {
                let end = stream.send_data(Bytes::new(), true);
                return Poll::Ready(end.map_err(|_| Gone.into()));
            }
            // No room is claimed while the endpoint is silent: it is the whole connection's.
            if self.poll_readable(cx)?.is_pending() {
                stream.reserve_capacity(0);
                return if self.over_share() {
                    self.poll_client(cx)
                } else {
                    self.poll_endpoint(cx)
                };
            }
            let wanted = self.pace.room(self.watch.timer.now_ms(), FRAME_BYTES);
            if wanted == 0 {
                stream.reserve_capacity(0);
                return self.poll_held(cx);
            }
            let Poll::Ready(room) = poll_room(cx, stream, wanted) else {
                return self.poll_client(cx);
            };
            if self.poll_read(cx, room?)?.is_pending() {
                stream.reserve_capacity(0);
                return self.poll_endpoint(cx);
            }
        }
    }

    /// Sends as much of `first` as there is room for. `true`: that was all.
    fn send_first(
        &mut self,
        stream: &mut SendStream<Bytes>,
        room: usize,
    ) -> Result<bool, Rejection> {
        let piece = self.first.split_to(room.min(self.first.len()));
        self.taken += piece.len();
        if self.taken >= PROGRESS_BYTES {
            (self.waiting, self.taken) = (None, 0);
        }
        let end = self.over();
        stream.send_data(piece, end).map_err(|_| Gone)?;
        Ok(end)
    }

    /// The request goes on, whether or not the client takes its answer: it may wait for that
    /// itself.
    fn drive_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Rejection> {
        let Some(attempt) = &mut self.attempt else { return Ok(()) };
        if self.upload.replayable() {
            self.upload.release(&self.local);
        }
        let now_ms = self.watch.timer.now_ms();
        let min_rate = if self.event_stream { 0 } else { self.body_min_rate };
        poll_upload(cx, &mut self.upload, &mut self.source, attempt, now_ms, min_rate)?;
        if self.upload.held {
            self.excuse();
        }
        self.release_endpoint();
        Ok(())
    }

    /// Whether the endpoint has something to read, and we may read it.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Rejection> {
        let over_share = self.over_share();
        let Some(attempt) = &mut self.attempt else {
            return Err(Cause::UpstreamClosed.into());
        };
        if over_share {
            // It is the client that has to take what it was given.
            self.watch.timer.poll_at_tick();
            return Ok(Poll::Pending);
        }
        Ok(attempt.connection.io.poll_read_ready(cx).map(drop))
    }

    /// Whether what this connection's client has not taken must not grow: memory is scarce, and it
    /// holds its share (design.md #17).
    fn over_share(&self) -> bool {
        let buffered = self.local.shared.gauges.buffered.load(Ordering::Relaxed);
        self.watch.held() >= FRAME_BYTES
            && buffered >= self.local.snapshot().limits.buffered_bytes / 4 * 3
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, room: usize) -> Result<Poll<()>, Rejection> {
        let local = self.local.clone();
        let read = local.buffers.with_scratch(|scratch| {
            let room = local.read_room(room.min(scratch.len()));
            let io = self.attempt.as_mut().map(|attempt| &mut attempt.connection.io);
            let read = io.map(|io| Stream::poll_read(io, cx, &mut scratch[..room]));
            match read.unwrap_or(Poll::Ready(Ok(0))) {
                Poll::Pending => Ok(Poll::Pending),
                Poll::Ready(Ok(n)) => {
                    self.pace.passed(n);
                    self.take(&scratch[..n]).map(Poll::Ready)
                }
                Poll::Ready(Err(_)) => Err(Cause::UpstreamClosed.into()),
            }
        });
        let Poll::Ready(bytes) = read? else { return Ok(Poll::Pending) };
        self.first = bytes;
        self.progress_ms = self.watch.timer.now_ms();
        self.release_endpoint();
        Ok(Poll::Ready(()))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Bytes, Rejection> {
        if bytes.is_empty() {
            let whole =
                body::finish_at_close(&mut self.decoder, BodyEncoder::Plain, &mut Vec::new());
            return if whole { Ok(Bytes::new()) } else { Err(Cause::UpstreamClosed.into()) };
        }
        self.decode(bytes)
    }

    /// Body data among `bytes`, counted until h2 has written it.
    fn decode(&mut self, bytes: &[u8]) -> Result<Bytes, Rejection> {
        let mut data = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while !rest.is_empty() && !self.decoder.is_done() {
            let used = self.decode_step(rest, &mut data)?;
            rest = rest.get(used..).unwrap_or(&[]);
        }
        if !rest.is_empty() {
            self.keep_upstream = false;
        }
        self.record.bytes_out += data.len() as u64;
        if data.is_empty() {
            return Ok(Bytes::new());
        }
        Ok(charged(&self.local, &self.watch, data, self.given.clone()))
    }

    fn decode_step(&mut self, rest: &[u8], data: &mut Vec<u8>) -> Result<usize, Rejection> {
        let BodyDecoder::Chunked(chunks) = &mut self.decoder else {
            // Plain lengths never fail.
            return body::transfer(&mut self.decoder, BodyEncoder::Plain, rest, data)
                .map(|taken| taken.consumed)
                .map_err(|_| Cause::Internal.into());
        };
        let step = chunks.step(rest).map_err(|error| Rejection {
            cause: Cause::UpstreamProtocol,
            detail: error.reason(),
        })?;
        let used = match step {
            Step::Skip(n) => n,
            Step::Data(n) => {
                data.extend_from_slice(rest.get(..n).unwrap_or(&[]));
                n
            }
            Step::Done => 0,
        };
        if chunks.is_done() {
            self.trailers = trailer_map(chunks);
            self.decoder = BodyDecoder::Done;
        }
        Ok(used)
    }

    /// Pacing holds the answer back.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        (self.waiting, self.taken) = (None, 0);
        self.excuse();
        self.poll_until(cx, u64::MAX, Cause::Internal.into())
    }

    /// While we hold bytes back nobody is late (design.md #11).
    fn excuse(&mut self) {
        let now_ms = self.watch.timer.now_ms();
        self.upload.excuse(now_ms);
        self.progress_ms = now_ms;
        self.waiting = self.waiting.map(|_| now_ms);
        self.watch.timer.poll_at_tick();
    }

    /// There is something to send and no room for it.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        if self.waiting.is_none() {
            self.waiting = Some(self.watch.timer.now_ms());
            self.record.compact();
        }
        let since = self.waiting.unwrap_or_default();
        self.poll_until(cx, deadline(since, self.write_progress), NOT_READING)
    }

    /// There is room, and nothing to send.
    fn poll_endpoint(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        (self.waiting, self.taken) = (None, 0);
        let endpoint = (deadline(self.progress_ms, self.idle), Cause::StreamIdle);
        // A stream that answers may wait for its client as long as it likes.
        let client = (self.upload.wants_body() && !self.upload.refused && !self.event_stream)
            .then(|| (deadline(self.upload.progress_ms, self.body_progress), Cause::BodyTimeout));
        let (at_ms, cause) = match client {
            Some(client) if client.0 < endpoint.0 => client,
            _ => endpoint,
        };
        self.poll_until(cx, at_ms, cause.into())
    }

    fn poll_until(
        &mut self,
        cx: &mut Context<'_>,
        at_ms: u64,
        late: Rejection,
    ) -> Poll<Result<(), Rejection>> {
        self.watch.timer.set_at(at_ms.min(self.deadline_ms));
        match self.watch.timer.check(cx) {
            None => Poll::Pending,
            Some(Fired::Deadline) if self.watch.timer.now_ms() >= self.deadline_ms => {
                Poll::Ready(Err(Cause::DeadlineExceeded.into()))
            }
            Some(Fired::Deadline) => Poll::Ready(Err(late)),
            Some(fired) => Poll::Ready(Err(cut(fired))),
        }
    }

    /// An endpoint that has said everything is free for others, however slow our client is.
    fn release_endpoint(&mut self) {
        let done = self.decoder.is_done() && self.keep_upstream && self.upload.done();
        if let Some(attempt) = self.attempt.take_if(|_| done) {
            attempt.finish(&self.local, true);
        }
    }

    /// The books close with a complete answer.
    fn finish(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            attempt.finish(&self.local, false);
        }
        self.record.bytes_in = self.upload.received;
        self.record.upstream_ok();
        self.record.end();
    }

    fn fail(&mut self, rejection: Rejection) {
        self.record.bytes_in = self.upload.received;
        if let Some(mut attempt) = self.attempt.take() {
            attempt.failed(&self.local, rejection, true);
        } else {
            // The endpoint has done its part.
            self.record.upstream_ok();
        }
        self.record.reject(rejection);
        self.record.end();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.record.is_open() {
            self.fail(Cause::ClientGone.into());
        }
    }
}
