//! HTTP/2 client (hyper's streams), HTTP/1.1 endpoint (our codec): the part up to the head of the
//! answer. What follows is [`super::h2_body`].

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::download::{MAX_HEAD, is_event_stream};
use super::h2_body::{H2Body, Relay};
use super::h2_head::{self, Head};
use super::h2_tunnel;
use super::tunnel::cut;
use super::upload::Upload;
use crate::downstream::h2::Watch;
use crate::http1::body::BodyDecoder;
use crate::http1::framing::BodyLength;
use crate::http1::head::{FieldSlots, parse_response};
use crate::io::Stream;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::request::plan::Plan;
use crate::request::record::Record;
use crate::route::table::ListenerPolicy;
use crate::timer::Fired;
use crate::upstream::connect::{self, Turn, Want};
use crate::upstream::endpoint::Upstream;
use crate::upstream::pool::UpstreamConnection;

/// A stream waits for its answer's head with this much read at a time: many may wait.
const HEAD_READ: usize = 8 * 1024;
/// Interim responses (1xx) before the final one; hyper sends none, so they end here.
const MAX_INTERIM: usize = 16;

/// A request to forward, as the downstream driver has prepared it.
pub struct Job {
    pub local: Rc<Local>,
    pub plan: Plan,
    pub record: Record,
    pub upload: Upload,
    pub source: Option<Incoming>,
    pub tls: bool,
    /// RFC 8441: the stream becomes a tunnel.
    pub on_upgrade: Option<OnUpgrade>,
}

/// Forwards one request up to the head of its answer.
pub async fn run(
    mut job: Job,
    watch: &Rc<Watch>,
    policy: &ListenerPolicy,
) -> Result<Response<H2Body>, (Rejection, Record)> {
    let Some(upstream) = job.plan.upstream().cloned() else {
        return Err((Cause::Internal.into(), job.record));
    };
    watch.timer.follow(Some(job.plan.route.life.clone()));
    let mut want = Want::Any { sure: !job.plan.idempotent };
    loop {
        let connection = match acquire(&job.local, &upstream, want, watch).await {
            Ok(connection) => connection,
            Err(rejection) => return Err((rejection, job.record)),
        };
        job.record.endpoint(connection.endpoint.address);
        let now_ms = watch.timer.now_ms();
        job.upload.progress_ms = now_ms;
        let mut waiting = Waiting {
            connection,
            head: Vec::new(),
            interim: 0,
            touched: false,
            progress_ms: now_ms,
        };
        let found = poll_fn(|cx| waiting.poll(cx, &mut job, watch, policy, &upstream)).await;
        let rejection = match found {
            Ok(Found::Final(head, rest)) => {
                return Ok(answer(job, waiting, watch, policy, upstream, head, &rest));
            }
            Ok(Found::Switch(rest)) => {
                return h2_tunnel::start(job, waiting.connection, rest, watch, &upstream);
            }
            Err(rejection) => rejection,
        };
        let stale = waiting.connection.reused && !waiting.touched;
        if stale
            && rejection.cause == Cause::UpstreamClosed
            && job.plan.idempotent
            && job.upload.rewind()
        {
            let labels = [upstream.name.as_str(), "stale_connection"];
            job.local.shared.metrics.upstream_retries.with_label_values(&labels).inc();
            want = Want::New;
            continue;
        }
        let labels = [upstream.name.as_str(), rejection.cause.code()];
        job.local.shared.metrics.upstream_requests.with_label_values(&labels).inc();
        job.record.bytes_in += job.upload.received;
        return Err((rejection, job.record));
    }
}

async fn acquire(
    local: &Rc<Local>,
    upstream: &Upstream,
    want: Want,
    watch: &Watch,
) -> Result<UpstreamConnection, Rejection> {
    let turn = Turn::next(upstream);
    if let Want::Any { sure } = want
        && let Some(connection) = connect::pooled(local, upstream, turn, sure)
    {
        return Ok(connection);
    }
    connect::acquire(local, upstream, turn, want, &watch.timer).await
}

/// A complete answer head.
enum Found {
    Final(Head, Vec<u8>),
    /// 101 to our upgrade, with the bytes after it.
    Switch(Vec<u8>),
}

/// The wait for the head of an answer, while the request body still goes up.
struct Waiting {
    connection: UpstreamConnection,
    head: Vec<u8>,
    interim: usize,
    touched: bool,
    progress_ms: u64,
}

impl Waiting {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut Job,
        watch: &Watch,
        policy: &ListenerPolicy,
        upstream: &Upstream,
    ) -> Poll<Result<Found, Rejection>> {
        let now_ms = watch.timer.now_ms();
        poll_upload(
            cx,
            &mut job.upload,
            &mut job.source,
            &mut self.connection,
            now_ms,
            policy.timeouts.body_min_rate,
        )?;
        if let Poll::Ready(outcome) = self.poll_head(cx, job, now_ms) {
            return Poll::Ready(outcome);
        }
        let (since, limit, cause) = if job.upload.refused || job.upload.done() {
            let since = self.progress_ms.max(job.upload.progress_ms);
            (since, upstream.timeouts.first_byte, Cause::FirstByteTimeout)
        } else if job.upload.blocked() {
            (job.upload.progress_ms, upstream.timeouts.idle, Cause::FirstByteTimeout)
        } else {
            (job.upload.progress_ms, policy.timeouts.body_progress, Cause::BodyTimeout)
        };
        watch.timer.set_at(deadline(since, limit));
        match watch.timer.check(cx) {
            None => Poll::Pending,
            Some(fired) => {
                watch.timer.clear();
                let rejection = if fired == Fired::Deadline { cause.into() } else { cut(fired) };
                Poll::Ready(Err(rejection))
            }
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut Job,
        now_ms: u64,
    ) -> Poll<Result<Found, Rejection>> {
        let local = job.local.clone();
        loop {
            let read = local.buffers.with_scratch(|scratch| {
                let room = HEAD_READ.min(scratch.len());
                let polled = Stream::poll_read(&mut self.connection.io, cx, &mut scratch[..room]);
                polled.map_ok(|n| {
                    self.head.extend_from_slice(&scratch[..n]);
                    n
                })
            });
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => {
                    return Poll::Ready(Err(Cause::UpstreamClosed.into()));
                }
                Poll::Ready(Ok(_)) => {}
            }
            self.touched = true;
            self.progress_ms = now_ms;
            job.record.first_byte();
            if let Some(found) = self.take_head(job)? {
                return Poll::Ready(Ok(found));
            }
        }
    }

    fn take_head(&mut self, job: &Job) -> Result<Option<Found>, Rejection> {
        let protocol = |detail| Rejection { cause: Cause::UpstreamProtocol, detail };
        loop {
            let mut slots = FieldSlots::new();
            let parsed = parse_response(&self.head, MAX_HEAD, &mut slots).map_err(protocol)?;
            let Some(head) = parsed else { return Ok(None) };
            let (len, status) = (head.len, head.status);
            match status {
                101 if job.plan.websocket && job.on_upgrade.is_some() => {
                    return Ok(Some(Found::Switch(self.head.split_off(len))));
                }
                101 => return Err(protocol("unsolicited_101")),
                100..=199 => {
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        return Err(protocol("interim_responses"));
                    }
                    self.head.drain(..len);
                }
                _ => {
                    let compiled = h2_head::compile(&head, &self.head, &job.plan, job.tls)?;
                    return Ok(Some(Found::Final(compiled, self.head.split_off(len))));
                }
            }
        }
    }
}

pub fn deadline(since_ms: u64, limit: Duration) -> u64 {
    let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    since_ms.saturating_add(ms).saturating_add(50)
}

/// Moves request body from the stream to the endpoint until one of them has to be waited for.
pub fn poll_upload(
    cx: &mut Context<'_>,
    upload: &mut Upload,
    source: &mut Option<Incoming>,
    connection: &mut UpstreamConnection,
    now_ms: u64,
    min_rate: u64,
) -> Result<(), Rejection> {
    loop {
        let blocked = upload.blocked();
        if upload.poll_flush(cx, &mut connection.io).is_pending() {
            return Ok(());
        }
        if blocked {
            upload.progress_ms = now_ms;
        }
        let Some(body) = source.as_mut().filter(|_| upload.wants_body() && !upload.refused) else {
            return Ok(());
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Pending => {
                upload.waiting(now_ms);
                return Ok(());
            }
            Poll::Ready(Some(Ok(frame))) => {
                upload.progress_ms = now_ms;
                take_frame(upload, source, frame)?;
                if !upload.fast_enough(now_ms, min_rate) {
                    return Err(Rejection { cause: Cause::BodyTimeout, detail: "rate" });
                }
            }
            Poll::Ready(Some(Err(_))) => return Err(Cause::ClientGone.into()),
            Poll::Ready(None) => end_upload(upload, source, &[])?,
        }
    }
}

fn take_frame(
    upload: &mut Upload,
    source: &mut Option<Incoming>,
    frame: http_body::Frame<Bytes>,
) -> Result<(), Rejection> {
    match frame.into_data() {
        Ok(data) => {
            upload.take_data(&data)?;
            if source.as_ref().is_some_and(Body::is_end_stream) {
                end_upload(upload, source, &[])?;
            }
            Ok(())
        }
        Err(frame) => {
            let trailers = frame.into_trailers().unwrap_or_default();
            end_upload(upload, source, &h2_head::trailer_lines(&trailers))
        }
    }
}

fn end_upload(
    upload: &mut Upload,
    source: &mut Option<Incoming>,
    trailer_lines: &[u8],
) -> Result<(), Rejection> {
    *source = None;
    match upload.end_data(trailer_lines) {
        true => Ok(()),
        false => Err(Rejection::bad("body_too_short")),
    }
}

/// The answer, with whatever of its body is here already.
fn answer(
    job: Job,
    waiting: Waiting,
    watch: &Rc<Watch>,
    policy: &ListenerPolicy,
    upstream: std::sync::Arc<Upstream>,
    head: Head,
    rest: &[u8],
) -> Response<H2Body> {
    let Job { local, plan, mut record, mut upload, source, .. } = job;
    record.status = head.response.status().as_u16();
    upload.release(&local);
    let content_type = head.response.headers().get(http::header::CONTENT_TYPE);
    let event_stream = is_event_stream(content_type.map(http::HeaderValue::as_bytes));
    let idle = if event_stream { upstream.timeouts.stream_idle } else { upstream.timeouts.idle };
    let mut relay = Relay {
        local,
        plan,
        record,
        upload,
        source,
        connection: Some(waiting.connection),
        decoder: BodyDecoder::new(head.length),
        keep_upstream: head.keeps_alive && head.length != BodyLength::UntilClose,
        first: Bytes::new(),
        trailers: None,
        watch: watch.clone(),
        upstream,
        idle,
        write_progress: policy.timeouts.write_progress,
        body_progress: policy.timeouts.body_progress,
        body_min_rate: policy.timeouts.body_min_rate,
        progress_ms: watch.timer.now_ms(),
        failed: false,
    };
    if let Err(rejection) = relay.take_first(rest) {
        relay.fail(rejection);
    }
    head.response.map(|()| relay.into_body())
}
