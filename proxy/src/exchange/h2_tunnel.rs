//! WebSocket over HTTP/2 (RFC 8441): the stream is one end of the tunnel, an upgraded HTTP/1.1
//! connection the other.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::SendStream;
use h2::server::SendResponse;
use http::{Response, StatusCode, header};
use tokio::net::TcpStream;

use super::attempt::Attempt;
use super::h2_send::charged;
use super::h2_upload::{Piece, Source};
use super::tunnel::{self, First, Limits};
use crate::downstream::h2_streams::Watch;
use crate::io::Stream;
use crate::local::Local;
use crate::request::plan::Plan;
use crate::request::record::Record;

/// Largest DATA that is handed to h2 at once.
const FRAME_BYTES: usize = 16 * 1024;

/// A WebSocket that the endpoint has agreed to.
pub struct Tunnel {
    pub local: Rc<Local>,
    pub plan: Plan,
    pub record: Record,
    pub attempt: Attempt,
    /// Worker milliseconds when it must be over; `u64::MAX`: never.
    pub deadline_ms: u64,
    /// The endpoint's 101 with the head rules applied.
    pub head: Response<()>,
    /// What the endpoint sent after its 101.
    pub early: Vec<u8>,
    pub client: Source,
}

impl Tunnel {
    /// Answers 200 (RFC 8441 §5) and runs until both directions have ended.
    pub async fn run(self: Box<Self>, mut respond: SendResponse<Bytes>, watch: &Watch) {
        let Tunnel { local, plan, mut record, mut attempt, deadline_ms, mut head, early, client } =
            *self;
        record.status = 200;
        *head.status_mut() = StatusCode::OK;
        for name in [header::CONTENT_LENGTH, header::SEC_WEBSOCKET_ACCEPT] {
            head.headers_mut().remove(name);
        }
        let Ok(send) = respond.send_response(head, false) else { return };
        drop(respond);
        watch.answered();
        let _open = record.tunnel();
        let first = First { from_client: &[], from_upstream: &early };
        let mut stream = TunnelStream { local: local.clone(), watch, send, client, ended: false };
        let limits = Limits::new(&plan, deadline_ms);
        let io = &mut attempt.connection.io;
        match tunnel::run(&local, &mut stream, io, first, limits, &watch.timer, &mut record).await {
            Ok(()) => record.upstream_ok(),
            Err(rejection) => attempt.failed(&local, rejection, true),
        }
        record.close();
    }
}

/// A stream as a [`Stream`].
struct TunnelStream<'w> {
    local: Rc<Local>,
    watch: &'w Watch,
    send: SendStream<Bytes>,
    client: Source,
    /// END_STREAM was sent.
    ended: bool,
}

fn broken(_: h2::Error) -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Stream for TunnelStream<'_> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match ready!(self.client.poll(cx, buf.len())).map_err(broken)? {
                // An empty frame is not the end.
                Piece::Data(data) if data.is_empty() => {}
                Piece::Data(mut data) => {
                    let n = data.len();
                    data.copy_to_slice(&mut buf[..n]);
                    return Poll::Ready(Ok(n));
                }
                Piece::End(_) => return Poll::Ready(Ok(0)),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.client.hold(cx);
        let wanted = buf.len().min(FRAME_BYTES);
        self.send.reserve_capacity(wanted);
        while self.send.capacity() == 0 {
            if self.send.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(room) => drop(room.map_err(broken)?),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let n = self.send.capacity().min(wanted);
        let data = charged(&self.local, self.watch, buf[..n].to_vec(), Arc::default());
        self.send.send_data(data, false).map_err(broken)?;
        Poll::Ready(Ok(n))
    }

    /// h2 sends by itself; here we learn of a reset while there is nothing to write. What the
    /// client sends meanwhile counts, also while the endpoint does not take it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.client.hold(cx);
        if !self.ended && self.send.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.ended, true) {
            self.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }

    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    fn read_closed(&self) -> bool {
        false
    }

    fn abort_on_close(&self) {}
}
