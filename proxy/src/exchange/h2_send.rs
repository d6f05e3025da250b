//! Sending on HTTP/2 streams: room in the client's window, bytes that count while h2 holds them, and
//! answers of our own.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::Response;

use crate::buffers::Charge;
use crate::downstream::h2_streams::Watch;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};

/// An answer of our own: everything is here.
pub struct OwnAnswer {
    pub response: Response<()>,
    pub body: Bytes,
}

impl OwnAnswer {
    /// Sends it within `limit`; an error means that the client has left.
    pub async fn send(
        self: Box<Self>,
        mut respond: SendResponse<Bytes>,
        watch: &Watch,
        limit: Duration,
    ) {
        let OwnAnswer { response, mut body } = *self;
        watch.timer.follow(None);
        watch.timer.set(limit);
        let Ok(mut stream) = respond.send_response(response, body.is_empty()) else { return };
        drop(respond);
        watch.answered();
        if body.is_empty() {
            return;
        }
        poll_fn(|cx| {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            while !body.is_empty() {
                let Ok(room) = ready!(poll_room(cx, &mut stream, body.len())) else { break };
                let piece = body.split_to(room.min(body.len()));
                if stream.send_data(piece, body.is_empty()).is_err() {
                    break;
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// The client has left: its stream is closed.
pub struct Gone;

impl From<Gone> for Rejection {
    fn from(_: Gone) -> Self {
        Cause::ClientGone.into()
    }
}

/// Bytes that may be sent now, up to `wanted`.
pub fn poll_room(
    cx: &mut Context<'_>,
    stream: &mut SendStream<Bytes>,
    wanted: usize,
) -> Poll<Result<usize, Gone>> {
    stream.reserve_capacity(wanted);
    loop {
        let room = stream.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room.min(wanted)));
        }
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
        }
    }
}

/// Bytes that count as buffered while h2 holds them.
struct Charged {
    data: Vec<u8>,
    held: Arc<AtomicUsize>,
    _charge: Charge,
    _given: Arc<()>,
}

/// Counts `data` as buffered for the process and for the client of `watch` until h2 drops it.
pub fn charged(local: &Local, watch: &Watch, data: Vec<u8>, given: Arc<()>) -> Bytes {
    let mut charge = Charge::new(&local.shared);
    charge.set(data.capacity());
    let held = watch.held_counter();
    held.fetch_add(data.capacity(), Ordering::Relaxed);
    Bytes::from_owner(Charged { data, held, _charge: charge, _given: given })
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.held.fetch_sub(self.data.capacity(), Ordering::Relaxed);
    }
}
