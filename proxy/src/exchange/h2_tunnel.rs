//! WebSocket over HTTP/2 (RFC 8441): the stream is one end of the tunnel, an upgraded HTTP/1.1
//! connection the other.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::Response;
use hyper::rt::{Read, ReadBuf, Write};
use hyper::upgrade::Upgraded;
use tokio::net::TcpStream;

use super::h2_body::H2Body;
use super::h2_h1::Job;
use super::tunnel::{self, First};
use crate::downstream::h2::Watch;
use crate::io::Stream;
use crate::request::cause::{Cause, Rejection};
use crate::request::record::Record;
use crate::upstream::endpoint::Upstream;
use crate::upstream::pool::UpstreamConnection;

/// The endpoint has agreed: answers 200 (RFC 8441 §5) and runs the tunnel in a task of its own.
pub fn start(
    job: Job,
    mut connection: UpstreamConnection,
    early: Vec<u8>,
    watch: &Rc<Watch>,
    upstream: &Upstream,
) -> Result<Response<H2Body>, (Rejection, Record)> {
    let Job { local, plan, mut record, on_upgrade, .. } = job;
    let Some(on_upgrade) = on_upgrade else {
        return Err((Cause::Internal.into(), record));
    };
    record.status = 200;
    let idle = upstream.timeouts.stream_idle;
    let life = plan.route.life.clone();
    watch.timer.follow(None);
    tokio::task::spawn_local(async move {
        let Ok(upgraded) = on_upgrade.await else { return };
        let metrics = &local.shared.metrics;
        let route = [plan.route.name.as_str()];
        metrics.http_upgrades.with_label_values(&route).inc();
        let open = metrics.websocket_connections.with_label_values(&route);
        open.inc();
        let timer = local.timers.timer();
        timer.follow(Some(life));
        let first = First { from_client: &[], from_upstream: &early };
        let mut stream = TunnelStream(upgraded);
        let io = &mut connection.io;
        tunnel::run(&local, &mut stream, io, first, idle, &timer, &mut record).await;
        open.dec();
        record.upstream_ok();
        record.close();
    });
    Ok(Response::new(H2Body::empty()))
}

/// hyper's upgraded stream as a [`Stream`].
struct TunnelStream(Upgraded);

impl Stream for TunnelStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(Pin::new(&mut self.0).poll_read(cx, buf.unfilled()))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    fn read_closed(&self) -> bool {
        false
    }

    fn abort_on_close(&self) {}
}
