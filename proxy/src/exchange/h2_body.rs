//! The body of an answer on an HTTP/2 stream. hyper asks for a frame when the client can take one,
//! so back-pressure reaches the endpoint; every frame is bounded and counted against the
//! process-wide cap until hyper has written it.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use hyper::body::Incoming;

use super::h1_h1::NOT_READING;
use super::h2_h1::{deadline, poll_upload};
use super::h2_head::trailer_map;
use super::tunnel::cut;
use super::upload::Upload;
use crate::buffers::Charge;
use crate::downstream::h2::Watch;
use crate::http1::body::{self, BodyDecoder, BodyEncoder};
use crate::http1::chunked::Step;
use crate::io::Stream;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::request::plan::Plan;
use crate::request::record::Record;
use crate::timer::Fired;
use crate::upstream::endpoint::Upstream;
use crate::upstream::pool::UpstreamConnection;

/// Largest DATA that is handed to hyper at once.
const FRAME_BYTES: usize = 32 * 1024;

/// The body of a response on an HTTP/2 stream.
pub enum H2Body {
    /// Nothing more comes.
    Ended,
    /// All of it is here.
    Full(Bytes),
    Relay(Box<Relay>),
}

/// The stream must be reset: its end would look like the end of the answer.
#[derive(Debug)]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer could not be completed")
    }
}

impl std::error::Error for Cut {}

impl From<Infallible> for Cut {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl H2Body {
    pub fn empty() -> H2Body {
        H2Body::Ended
    }

    pub fn full(bytes: Bytes) -> H2Body {
        if bytes.is_empty() { H2Body::Ended } else { H2Body::Full(bytes) }
    }
}

impl Body for H2Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            H2Body::Ended => Poll::Ready(None),
            H2Body::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = H2Body::Ended;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            H2Body::Relay(relay) => {
                let frame = ready!(relay.poll_next(cx));
                match &frame {
                    Some(Ok(_)) if !relay.over() => {
                        relay.watch.wait_for_client(relay.write_progress);
                    }
                    // The books close with the last frame, or with the cut.
                    _ => {
                        relay.watch.wait_for_client(relay.write_progress);
                        relay.finish();
                        *self = H2Body::Ended;
                    }
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, H2Body::Ended)
    }
}

/// An answer whose body is still coming.
pub struct Relay {
    pub local: Rc<Local>,
    pub plan: Plan,
    pub record: Record,
    pub upload: Upload,
    pub source: Option<Incoming>,
    pub connection: Option<UpstreamConnection>,
    pub decoder: BodyDecoder,
    pub keep_upstream: bool,
    /// Body bytes that came with the head.
    pub first: Bytes,
    pub trailers: Option<HeaderMap>,
    pub watch: Rc<Watch>,
    pub upstream: Arc<Upstream>,
    /// Longest silence of the endpoint.
    pub idle: Duration,
    pub write_progress: Duration,
    pub body_progress: Duration,
    pub body_min_rate: u64,
    pub progress_ms: u64,
    pub failed: bool,
}

impl Relay {
    /// Takes the body bytes that came with the head.
    pub fn take_first(&mut self, bytes: &[u8]) -> Result<(), Rejection> {
        self.first = self.decode(bytes)?;
        Ok(())
    }

    /// The answer cannot be completed.
    pub fn fail(&mut self, rejection: Rejection) {
        self.failed = true;
        self.connection = None;
        self.record.reject(rejection);
    }

    /// The body in its simplest form: a complete answer needs no relay.
    pub fn into_body(mut self) -> H2Body {
        if self.failed || self.trailers.is_some() || !self.decoder.is_done() {
            return H2Body::Relay(Box::new(self));
        }
        let first = std::mem::take(&mut self.first);
        self.finish();
        H2Body::full(first)
    }

    /// Everything was handed out.
    fn over(&self) -> bool {
        !self.failed && self.decoder.is_done() && self.first.is_empty() && self.trailers.is_none()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.watch.stalled.set(false);
        match ready!(self.poll_data(cx)) {
            Ok(Some(frame)) => Poll::Ready(Some(Ok(frame))),
            Ok(None) => Poll::Ready(None),
            Err(rejection) => {
                self.fail(rejection);
                Poll::Ready(Some(Err(Cut)))
            }
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Rejection>> {
        loop {
            if self.failed {
                return Poll::Ready(Err(Cause::UpstreamClosed.into()));
            }
            if !self.first.is_empty() {
                return Poll::Ready(Ok(Some(Frame::data(std::mem::take(&mut self.first)))));
            }
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Ok(Some(Frame::trailers(trailers))));
            }
            if self.decoder.is_done() {
                return Poll::Ready(Ok(None));
            }
            match self.poll_read(cx) {
                Poll::Ready(outcome) => outcome?,
                Poll::Pending => return self.poll_deadline(cx),
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(Err(Cause::UpstreamClosed.into()));
        };
        let now_ms = self.watch.timer.now_ms();
        let min_rate = self.body_min_rate;
        poll_upload(cx, &mut self.upload, &mut self.source, connection, now_ms, min_rate)?;
        if self.local.over_buffered() {
            self.watch.timer.poll_at_tick();
            return Poll::Pending;
        }
        let local = self.local.clone();
        let bytes = local.buffers.with_scratch(|scratch| {
            let room = FRAME_BYTES.min(scratch.len());
            let io = self.connection.as_mut().map(|connection| &mut connection.io);
            let read = io.map(|io| Stream::poll_read(io, cx, &mut scratch[..room]));
            match read.unwrap_or(Poll::Ready(Ok(0))) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(n)) => Poll::Ready(self.take(&scratch[..n])),
                Poll::Ready(Err(_)) => Poll::Ready(Err(Cause::UpstreamClosed.into())),
            }
        });
        self.first = ready!(bytes)?;
        self.progress_ms = now_ms;
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Bytes, Rejection> {
        if bytes.is_empty() {
            let whole =
                body::finish_at_close(&mut self.decoder, BodyEncoder::Plain, &mut Vec::new());
            return if whole { Ok(Bytes::new()) } else { Err(Cause::UpstreamClosed.into()) };
        }
        self.decode(bytes)
    }

    /// Body data among `bytes`, counted until hyper has written it.
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
        let mut charge = Charge::new(&self.local.shared);
        charge.set(data.capacity());
        Ok(Bytes::from_owner(Charged { data, _charge: charge }))
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

    fn poll_deadline(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, Rejection>> {
        let endpoint = (deadline(self.progress_ms, self.idle), Cause::StreamIdle);
        let client = (self.upload.wants_body() && !self.upload.refused)
            .then(|| (deadline(self.upload.progress_ms, self.body_progress), Cause::BodyTimeout));
        let (at_ms, cause) = match client {
            Some(client) if client.0 < endpoint.0 => client,
            _ => endpoint,
        };
        self.watch.timer.set_at(at_ms);
        match self.watch.timer.check(cx) {
            None => Poll::Pending,
            Some(Fired::Deadline) => Poll::Ready(Err(cause.into())),
            Some(fired) => Poll::Ready(Err(cut(fired))),
        }
    }

    /// The books close; a connection in order goes back to the pool.
    fn finish(&mut self) {
        self.record.bytes_in = self.upload.received;
        let Some(connection) = self.connection.take() else { return };
        if self.failed || !self.decoder.is_done() {
            return;
        }
        self.record.upstream_ok();
        self.record.end();
        if self.keep_upstream && self.upload.done() {
            let keep_alive = self.upstream.timeouts.keep_alive;
            self.local.pools.give(connection, self.watch.timer.now_ms(), keep_alive);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.record.bytes_in = self.upload.received;
        if self.record.is_open() {
            let stalled = self.watch.stalled.get() && self.watch.timer.fired().is_some();
            let rejection = if stalled { NOT_READING } else { Cause::ClientGone.into() };
            if self.connection.is_some() {
                let name = [self.upstream.name.as_str()];
                self.local.shared.metrics.upstream_cancelled.with_label_values(&name).inc();
            }
            self.record.reject(rejection);
            self.record.end();
        }
    }
}

/// Bytes that count as buffered while hyper holds them.
struct Charged {
    data: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}
