//! HTTP/2 client (crate h2), HTTP/1.1 endpoint (our codec): the part up to the head of the answer.
//! What follows is [`super::h2_body`].

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::HeaderValue;

use super::answer::is_event_stream;
use super::attempt::{Attempt, Attempts};
use super::download::{MAX_HEAD, closed};
use super::h2_body::Relay;
use super::h2_head::{self, Head};
use super::h2_tunnel::Tunnel;
use super::h2_upload::{Source, poll_upload};
use super::paced::Pace;
use super::tunnel::cut;
use super::upload::Upload;
use crate::downstream::h2_streams::{MODEST_STREAMS, Watch};
use crate::http1::body::BodyDecoder;
use crate::http1::framing::BodyLength;
use crate::http1::head::{FieldSlots, ResponseHead, parse_response};
use crate::io::Stream;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::request::plan::Plan;
use crate::request::record::Record;
use crate::route::table::ListenerPolicy;
use crate::timer::Fired;

/// A stream reads this much with its answer's head, before it knows whether the client has room for
/// a body. Less where a connection has many streams: all of them may wait for room.
const HEAD_READ: usize = 8 * 1024;
const CROWDED_HEAD_READ: usize = 2 * 1024;
/// Interim responses (1xx) before the final one; they end here.
const MAX_INTERIM: usize = 16;
/// The connection has more streams under way than it may have now.
pub const TOO_MANY_STREAMS: Rejection = Rejection { cause: Cause::OverCapacity, detail: "streams" };

/// A request to forward, as the downstream driver has prepared it.
pub struct Job {
    pub local: Rc<Local>,
    pub plan: Plan,
    pub record: Record,
    pub upload: Upload,
    /// The request body, or the client's end of a tunnel (RFC 8441).
    pub source: Option<Source>,
    /// HSTS may be sent.
    pub hsts: bool,
}

/// What comes after the head of an answer.
pub enum Step {
    Relay(Box<Relay>),
    Tunnel(Box<Tunnel>),
}

/// Forwards one request up to the head of its answer.
pub async fn run(
    mut job: Box<Job>,
    respond: &mut SendResponse<Bytes>,
    watch: &Rc<Watch>,
    policy: &ListenerPolicy,
) -> Result<Step, Box<(Rejection, Record)>> {
    let mut attempts = Attempts::new(&job.local, &job.plan);
    watch.timer.follow(Some(job.plan.route.life.clone()));
    if !watch.begin()
        && let Err(rejection) = turn(&mut job, attempts.deadline_ms(), watch, respond).await
    {
        return Err(Box::new((rejection, job.record)));
    }
    loop {
        let attempt = match acquire(&mut job, &mut attempts, watch, respond).await {
            Ok(attempt) => attempt,
            Err(rejection) => return Err(Box::new((rejection, job.record))),
        };
        job.record.endpoint(&attempt.connection.endpoint.text);
        let now_ms = watch.timer.now_ms();
        job.upload.progress_ms = now_ms;
        let mut waiting = Waiting {
            attempt,
            head: Vec::new(),
            interim: 0,
            touched: false,
            progress_ms: now_ms,
            pace: Pace::download(&job.plan),
            held: false,
        };
        let found = poll_fn(|cx| match respond.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(Err(Cause::ClientGone.into())),
            Poll::Pending => waiting.poll(cx, &mut job, watch, policy, &attempts),
        })
        .await;
        let rejection = match found {
            Ok(Found::Replaced) if attempts.replace(&waiting.attempt, &mut job.upload) => continue,
            Ok(found) => return next(job, waiting, watch, policy, attempts.deadline_ms(), found),
            Err(rejection) => rejection,
        };
        let Waiting { attempt, touched, .. } = &mut waiting;
        let again = attempts.again(attempt, rejection, *touched, &mut job.upload).await;
        attempt.failed(&job.local, rejection, false);
        if !again {
            job.record.bytes_in += job.upload.received;
            return Err(Box::new((rejection, job.record)));
        }
    }
}

/// Waits for the connection's first answer, or for a place among those who began before it.
async fn turn(
    job: &mut Job,
    deadline_ms: u64,
    watch: &Watch,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), Rejection> {
    // As long as one that has begun may take to its answer.
    let timeouts = &job.plan.target.timeouts;
    let limit = timeouts.connect.saturating_add(timeouts.first_byte);
    watch.timer.set_at(deadline(watch.timer.now_ms(), limit).min(deadline_ms));
    poll_fn(|cx| {
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Cause::ClientGone.into()));
        }
        let bytes = job.source.as_mut().map_or(0, |source| source.hold(cx));
        if watch.poll_begin(cx, bytes).is_ready() {
            watch.timer.clear();
            return Poll::Ready(Ok(()));
        }
        match watch.timer.check(cx) {
            None => Poll::Pending,
            Some(Fired::Deadline) if watch.timer.now_ms() >= deadline_ms => {
                Poll::Ready(Err(Cause::DeadlineExceeded.into()))
            }
            Some(Fired::Deadline) => Poll::Ready(Err(TOO_MANY_STREAMS)),
            Some(fired) => Poll::Ready(Err(cut(fired))),
        }
    })
    .await
}

async fn acquire(
    job: &mut Job,
    attempts: &mut Attempts,
    watch: &Watch,
    respond: &mut SendResponse<Bytes>,
) -> Result<Attempt, Rejection> {
    // A stream that was reset before its first poll must not cost a pooled connection.
    if poll_fn(|cx| Poll::Ready(respond.poll_reset(cx).is_ready())).await {
        return Err(Cause::ClientGone.into());
    }
    if let Some(attempt) = attempts.ready() {
        return Ok(attempt);
    }
    let source = &mut job.source;
    let mut connect = std::pin::pin!(attempts.acquire(&watch.timer));
    poll_fn(|cx| match respond.poll_reset(cx) {
        Poll::Ready(_) => Poll::Ready(Err(Cause::ClientGone.into())),
        Poll::Pending => {
            if let Some(source) = source {
                source.hold(cx);
            }
            connect.as_mut().poll(cx)
        }
    })
    .await
}

/// A complete answer head, with the bytes after it.
enum Found {
    Final(Head, Vec<u8>),
    /// 101 to our upgrade.
    Switch(Head, Vec<u8>),
    /// The request goes to another endpoint instead.
    Replaced,
}

/// The wait for the head of an answer, while the request body still goes up.
struct Waiting {
    attempt: Attempt,
    head: Vec<u8>,
    interim: usize,
    touched: bool,
    progress_ms: u64,
    pace: Pace,
    /// Pacing holds the answer back.
    held: bool,
}

impl Waiting {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut Job,
        watch: &Watch,
        policy: &ListenerPolicy,
        attempts: &Attempts,
    ) -> Poll<Result<Found, Rejection>> {
        let now_ms = watch.timer.now_ms();
        poll_upload(
            cx,
            &mut job.upload,
            &mut job.source,
            &mut self.attempt,
            now_ms,
            policy.timeouts.body_min_rate,
        )?;
        self.held = false;
        let crowded = watch.open_streams() > MODEST_STREAMS;
        let room = if crowded { CROWDED_HEAD_READ } else { HEAD_READ };
        if let Poll::Ready(outcome) = self.poll_head(cx, job, attempts, now_ms, room) {
            return Poll::Ready(outcome);
        }
        if job.upload.held || self.held {
            job.upload.excuse(now_ms);
            watch.timer.poll_at_tick();
        }
        let (since, limit, cause) = if job.upload.refused || job.upload.done() {
            let since = self.progress_ms.max(job.upload.progress_ms);
            (since, job.plan.target.timeouts.first_byte, Cause::FirstByteTimeout)
        } else if job.upload.blocked() {
            (job.upload.progress_ms, job.plan.target.timeouts.idle, Cause::FirstByteTimeout)
        } else {
            (job.upload.progress_ms, policy.timeouts.body_progress, Cause::BodyTimeout)
        };
        watch.timer.set_at(deadline(since, limit).min(attempts.deadline_ms()));
        match watch.timer.check(cx) {
            None => Poll::Pending,
            Some(Fired::Deadline) if now_ms >= attempts.deadline_ms() => {
                Poll::Ready(Err(Cause::DeadlineExceeded.into()))
            }
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
        attempts: &Attempts,
        now_ms: u64,
        room: usize,
    ) -> Poll<Result<Found, Rejection>> {
        let local = job.local.clone();
        loop {
            let io = &mut self.attempt.connection.io;
            let room = ready!(self.pace.poll_head_room(cx, io, now_ms, room));
            self.held = room == 0;
            if self.held {
                return Poll::Pending;
            }
            let read = local.buffers.with_scratch(|scratch| {
                let room = room.min(scratch.len());
                let io = &mut self.attempt.connection.io;
                let polled = Stream::poll_read(io, cx, &mut scratch[..room]);
                polled.map_ok(|n| {
                    self.head.extend_from_slice(&scratch[..n]);
                    n
                })
            });
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(ended) => {
                    return Poll::Ready(Err(closed(ended.err(), &job.upload)));
                }
            }
            self.touched = true;
            self.progress_ms = now_ms;
            job.record.first_byte();
            if let Some(found) = self.take_head(job, attempts)? {
                return Poll::Ready(Ok(found));
            }
        }
    }

    fn take_head(&mut self, job: &Job, attempts: &Attempts) -> Result<Option<Found>, Rejection> {
        let protocol = |detail| Rejection { cause: Cause::UpstreamProtocol, detail };
        loop {
            let mut slots = FieldSlots::new();
            let parsed = parse_response(&self.head, MAX_HEAD, &mut slots).map_err(protocol)?;
            let Some(head) = parsed else { return Ok(None) };
            let (len, status) = (head.len, head.status);
            match status {
                101 if job.plan.websocket && job.source.is_some() => {
                    let compiled = self.compile(&head, job)?;
                    self.attempt.answered(&head);
                    return Ok(Some(Found::Switch(compiled, self.head.split_off(len))));
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
                    if attempts.replaces(status, &job.upload) {
                        self.attempt.answered(&head);
                        return Ok(Some(Found::Replaced));
                    }
                    let compiled = self.compile(&head, job)?;
                    self.attempt.answered(&head);
                    return Ok(Some(Found::Final(compiled, self.head.split_off(len))));
                }
            }
        }
    }

    fn compile(&self, head: &ResponseHead<'_, '_>, job: &Job) -> Result<Head, Rejection> {
        let mut compiled = h2_head::compile(head, &self.head, &job.plan, job.hsts)?;
        let cookie = self.attempt.cookie(&job.plan);
        if let Some(value) = cookie.and_then(|text| HeaderValue::try_from(text).ok()) {
            compiled.response.headers_mut().append(http::header::SET_COOKIE, value);
        }
        Ok(compiled)
    }
}

pub fn deadline(since_ms: u64, limit: Duration) -> u64 {
    let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    since_ms.saturating_add(ms).saturating_add(50)
}

/// Goes on with an answer's head, and whatever of its body is here already.
fn next(
    job: Box<Job>,
    waiting: Waiting,
    watch: &Rc<Watch>,
    policy: &ListenerPolicy,
    deadline_ms: u64,
    found: Found,
) -> Result<Step, Box<(Rejection, Record)>> {
    let Job { local, plan, mut record, mut upload, source, .. } = *job;
    let (head, rest) = match found {
        Found::Final(head, rest) => (head, rest),
        Found::Replaced => return Err(Box::new((Cause::Internal.into(), record))),
        Found::Switch(head, early) => {
            let Some(client) = source else {
                return Err(Box::new((Cause::Internal.into(), record)));
            };
            let (head, attempt) = (head.response, waiting.attempt);
            let tunnel = Tunnel { local, plan, record, attempt, deadline_ms, head, early, client };
            return Ok(Step::Tunnel(Box::new(tunnel)));
        }
    };
    record.status = head.response.status().as_u16();
    upload.release(&local);
    let content_type = head.response.headers().get(http::header::CONTENT_TYPE);
    let event_stream = is_event_stream(content_type.map(http::HeaderValue::as_bytes));
    let timeouts = &plan.target.timeouts;
    let idle = if event_stream { timeouts.stream_idle } else { timeouts.idle };
    let mut relay = Box::new(Relay {
        pace: waiting.pace,
        local,
        plan,
        record,
        upload,
        source,
        attempt: Some(waiting.attempt),
        decoder: BodyDecoder::new(head.length),
        keep_upstream: head.keeps_alive && head.length != BodyLength::UntilClose,
        head: head.response,
        first: Bytes::new(),
        trailers: None,
        watch: watch.clone(),
        deadline_ms,
        idle,
        event_stream,
        write_progress: policy.timeouts.write_progress,
        body_progress: policy.timeouts.body_progress,
        body_min_rate: policy.timeouts.body_min_rate,
        progress_ms: watch.timer.now_ms(),
        waiting: None,
        taken: 0,
        given: Arc::default(),
        broken: None,
    });
    relay.take_first(&rest);
    Ok(Step::Relay(relay))
}
