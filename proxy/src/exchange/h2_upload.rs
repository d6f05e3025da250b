//! The body of an HTTP/2 request on its way to an HTTP/1.1 endpoint.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

use super::h2_head::trailer_lines;
use super::upload::Upload;
use crate::buffers::Charge;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::upstream::pool::UpstreamConnection;

/// Where body bytes come from.
pub struct Source {
    stream: RecvStream,
    data_ended: bool,
    /// The end, if it was met while nobody read.
    end: Option<Result<Option<HeaderMap>, h2::Error>>,
    /// Told when the body has been received whole.
    ended: Rc<Cell<bool>>,
    /// What waits in the stream's window.
    charge: Charge,
}

pub enum Piece {
    Data(Bytes),
    End(Option<HeaderMap>),
}

impl Source {
    pub fn new(local: &Local, stream: RecvStream, ended: Rc<Cell<bool>>) -> Source {
        let charge = Charge::new(&local.shared);
        Source { stream, data_ended: false, end: None, ended, charge }
    }

    /// While nobody reads: the bytes in the stream's window, which count as buffered from now on
    /// until somebody reads. The task is woken when more come.
    pub fn hold(&mut self, cx: &mut Context<'_>) -> usize {
        // Takes no data, and is woken by it all the same.
        if self.end.is_none()
            && let Poll::Ready(end) = self.stream.poll_trailers(cx)
        {
            self.end = Some(end);
        }
        let bytes = self.stream.flow_control().used_capacity();
        self.charge.set(bytes);
        bytes
    }

    /// A reset is an error, whatever its code: only END_STREAM ends a body.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, h2::Error>> {
        self.charge.set(0);
        if let Some(end) = self.end.take() {
            return Poll::Ready(end.map(Piece::End));
        }
        if !self.data_ended {
            if let Some(data) = ready!(self.stream.poll_data(cx)) {
                let data = data?;
                self.stream.flow_control().release_capacity(data.len())?;
                return Poll::Ready(Ok(Piece::Data(data)));
            }
            self.data_ended = true;
        }
        let trailers = ready!(self.stream.poll_trailers(cx))?;
        Poll::Ready(Ok(Piece::End(trailers)))
    }
}

/// Moves request body from the stream to the endpoint until one of them has to be waited for.
pub fn poll_upload(
    cx: &mut Context<'_>,
    upload: &mut Upload,
    source: &mut Option<Source>,
    connection: &mut UpstreamConnection,
    now_ms: u64,
    min_rate: u64,
) -> Result<(), Rejection> {
    loop {
        let flushed = upload.poll_flush(cx, &mut connection.io);
        if std::mem::take(&mut upload.moved) {
            upload.progress_ms = now_ms;
        }
        if upload.refused && upload.wants_body() {
            // What h2 has of it is freed.
            *source = None;
        }
        let Some(body) = source else { return Ok(()) };
        if flushed.is_pending() || !upload.wants_body() {
            body.hold(cx);
            return Ok(());
        }
        match body.poll(cx) {
            Poll::Pending => {
                upload.waiting(now_ms);
                return Ok(());
            }
            Poll::Ready(Ok(Piece::Data(data))) => {
                let last = body.stream.is_end_stream();
                upload.progress_ms = now_ms;
                upload.take_data(&data)?;
                if last {
                    end(upload, source, &[])?;
                }
                if !upload.fast_enough(now_ms, min_rate) {
                    return Err(Rejection { cause: Cause::BodyTimeout, detail: "rate" });
                }
            }
            Poll::Ready(Ok(Piece::End(trailers))) => {
                let lines = trailers.map_or_else(Vec::new, |trailers| trailer_lines(&trailers));
                end(upload, source, &lines)?;
            }
            Poll::Ready(Err(_)) => return Err(Cause::ClientGone.into()),
        }
    }
}

fn end(
    upload: &mut Upload,
    source: &mut Option<Source>,
    trailer_lines: &[u8],
) -> Result<(), Rejection> {
    if let Some(source) = source.take() {
        source.ended.set(true);
    }
    match upload.end_data(trailer_lines) {
        true => Ok(()),
        false => Err(Rejection::bad("body_too_short")),
    }
}
