//! The body of an HTTP/2 request on its way to an HTTP/1.1 endpoint.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

use super::attempt::Attempt;
use super::h2_head::trailer_lines;
use super::upload::Upload;
use crate::buffers::Charge;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};

/// Where body bytes come from.
pub struct Source {
    stream: RecvStream,
    /// Of a frame that was taken in part: it stays in the stream's window.
    rest: Bytes,
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
        Source { stream, rest: Bytes::new(), data_ended: false, end: None, ended, charge }
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

    /// The next piece, of at most so many bytes. A reset is an error, whatever its code: only
    /// END_STREAM ends a body.
    pub fn poll(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Result<Piece, h2::Error>> {
        self.charge.set(0);
        if !self.rest.is_empty() {
            return Poll::Ready(self.piece(most));
        }
        if let Some(end) = self.end.take() {
            return Poll::Ready(end.map(Piece::End));
        }
        if !self.data_ended {
            if let Some(data) = ready!(self.stream.poll_data(cx)) {
                self.rest = data?;
                return Poll::Ready(self.piece(most));
            }
            self.data_ended = true;
        }
        let trailers = ready!(self.stream.poll_trailers(cx))?;
        Poll::Ready(Ok(Piece::End(trailers)))
    }

    fn piece(&mut self, most: usize) -> Result<Piece, h2::Error> {
        let data = self.rest.split_to(self.rest.len().min(most));
        self.stream.flow_control().release_capacity(data.len())?;
        Ok(Piece::Data(data))
    }

    /// Nothing follows what was taken, not even trailers.
    fn is_over(&self) -> bool {
        self.rest.is_empty() && self.stream.is_end_stream()
    }
}

impl Drop for Source {
    /// Nobody reads on: whether all of it is here shows only now.
    fn drop(&mut self) {
        // It fails only with the stream.
        let _ = self.stream.flow_control().release_capacity(self.rest.len());
        let whole = self.ended.get() || self.end.is_some() || discard(&mut self.stream);
        self.ended.set(whole);
    }
}

/// Drops what is here of a body. `true`: nothing more will come.
fn discard(stream: &mut RecvStream) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match stream.poll_data(&mut cx) {
            Poll::Ready(Some(Ok(data))) => {
                // It fails only with the stream.
                let _ = stream.flow_control().release_capacity(data.len());
            }
            Poll::Ready(_) => return true,
            Poll::Pending => return false,
        }
    }
}

/// Moves request body from the stream to the endpoint until one of them has to be waited for.
pub fn poll_upload(
    cx: &mut Context<'_>,
    upload: &mut Upload,
    source: &mut Option<Source>,
    attempt: &mut Attempt,
    now_ms: u64,
    min_rate: u64,
) -> Result<(), Rejection> {
    upload.held = false;
    loop {
        let flushed = upload.poll_flush(cx, &mut attempt.connection.io);
        if std::mem::take(&mut upload.moved) {
            upload.progress_ms = now_ms;
        }
        if upload.refused && upload.wants_body() && !upload.replayable() {
            // What h2 has of it is freed.
            *source = None;
        }
        let Some(body) = source else { return Ok(()) };
        // Another endpoint may want the rest of what this one refused.
        if flushed.is_pending() || !upload.wants_body() || upload.refused {
            body.hold(cx);
            return Ok(());
        }
        let room = upload.room(now_ms, usize::MAX);
        if upload.held {
            body.hold(cx);
            return Ok(());
        }
        match body.poll(cx, room) {
            Poll::Pending => {
                upload.waiting(now_ms);
                return Ok(());
            }
            Poll::Ready(Ok(Piece::Data(data))) => {
                let last = body.is_over();
                upload.progress_ms = now_ms;
                attempt.body_came();
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use h2::SendStream;
    use http::Request;

    use super::*;

    /// What [`discard`] says of a body that has been sent in this way, once all of it is here.
    async fn discarded(send: impl FnOnce(&mut SendStream<Bytes>)) -> bool {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (client, server) =
            tokio::join!(h2::client::handshake(near), h2::server::handshake(far));
        let (mut client, connection) = client.unwrap();
        let mut server = server.unwrap();
        tokio::spawn(connection);
        let request = Request::post("https://app.openclaw.example/").body(()).unwrap();
        let (_response, mut stream) = client.send_request(request, false).unwrap();
        let (request, _respond) = server.accept().await.unwrap().unwrap();
        let mut body = request.into_body();
        send(&mut stream);
        // Both ends are polled far more often than they need to be.
        for _ in 0..100 {
            let quiet = poll_fn(|cx| Poll::Ready(server.poll_accept(cx).is_pending())).await;
            assert!(quiet);
            tokio::task::yield_now().await;
        }
        discard(&mut body)
    }

    #[tokio::test]
    async fn knows_whether_more_may_come() {
        let data = Bytes::from_static(b"some");
        assert!(!discarded(|_| {}).await);
        assert!(!discarded(|s| s.send_data(data.clone(), false).unwrap()).await);
        assert!(discarded(|s| s.send_data(data.clone(), true).unwrap()).await);
        assert!(discarded(|s| s.send_reset(h2::Reason::CANCEL)).await);
        let trailers = |s: &mut SendStream<Bytes>| {
            s.send_data(data.clone(), false).unwrap();
            s.send_trailers(HeaderMap::new()).unwrap();
        };
        assert!(discarded(trailers).await);
    }
}
