//! HTTP/1.1 client, HTTP/1.1 endpoint: the hot path. One task drives both sides; every poll moves
//! bytes in both directions until each has to wait, then sets the one deadline that is next.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use config::model::{ListenerTimeouts, UpstreamTimeouts};

use super::attempt::{Attempt, Attempts};
use super::download::{Download, Shape, Step};
use super::tunnel::{self, First, Limits};
use super::upload::Upload;
use crate::buffers::{REWRITE_BYTES, SCRATCH_BYTES};
use crate::http1::body::BodyDecoder;
use crate::io::Stream;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::request::plan::Plan;
use crate::request::record::Record;
use crate::timer::{Fired, Timer};

/// Bytes of further requests (pipelining) read while one is under way.
const MAX_CARRY: usize = 32 * 1024;

/// The client is there but does not take its response.
pub const NOT_READING: Rejection = Rejection { cause: Cause::ClientGone, detail: "not_reading" };

/// A request to forward, as the downstream driver has prepared it.
pub struct Job<'a, S> {
    pub local: &'a Rc<Local>,
    pub io: &'a mut S,
    pub timer: &'a Timer,
    /// Client bytes after what was used of them.
    pub carry: &'a mut Vec<u8>,
    pub record: &'a mut Record,
    pub plan: &'a Plan,
    pub timeouts: &'a ListenerTimeouts,
    pub keep_alive: bool,
    /// HSTS may be sent.
    pub hsts: bool,
}

/// How an exchange ended.
pub enum End {
    /// The answer is complete; the client connection goes on, or not.
    Done { keep_client: bool },
    /// Nothing has been sent to the client: it can be told. `body_read`: the request was received
    /// whole, so the connection can go on.
    Refused { rejection: Rejection, body_read: bool },
    /// The answer had begun and cannot be completed: the client must see that.
    Cut(Rejection),
    /// The client is gone, or the connection became a tunnel that has ended.
    Closed,
}

/// Forwards one request.
pub async fn run<S: Stream>(job: Job<'_, S>, mut upload: Upload) -> End {
    let mut job = job;
    let mut attempts = Attempts::new(job.local, job.plan);
    job.timer.follow(Some(job.plan.route.life.clone()));
    loop {
        let attempt = match attempt(&mut job, &mut attempts).await {
            Ok(attempt) => attempt,
            Err(Failure::Gone) => return gone(&mut job),
            Err(Failure::Rejected(rejection)) => {
                job.record.bytes_in += upload.received;
                return refused(rejection, &upload);
            }
        };
        job.record.endpoint(&attempt.connection.endpoint.text);
        if let Err(end) = say_continue(&mut job, &upload).await {
            return end;
        }
        let now_ms = job.timer.now_ms();
        upload.progress_ms = now_ms;
        let mut exchange = Exchange { download: Download::new(job.local, job.plan), attempt };
        let outcome = poll_fn(|cx| exchange.poll(cx, &mut job, &mut upload, &attempts)).await;
        match outcome {
            Ok(Step::Done) => return exchange.finish(&mut job, &upload),
            Ok(Step::Tunnel) => {
                upload.release(job.local);
                return exchange.tunnel(&mut job, attempts.deadline_ms()).await;
            }
            Ok(Step::Replace) => {
                if !attempts.replace(&exchange.attempt, &mut upload) {
                    return exchange.fail(&mut job, Cause::Internal.into(), &upload);
                }
            }
            Err(rejection) => {
                let Exchange { attempt, download } = &mut exchange;
                if !attempts.again(attempt, rejection, download.touched, &mut upload).await {
                    return exchange.fail(&mut job, rejection, &upload);
                }
                attempt.failed(job.local, rejection, false);
            }
        }
    }
}

fn refused(rejection: Rejection, upload: &Upload) -> End {
    End::Refused { rejection, body_read: upload.decoder.is_done() }
}

fn gone<S>(job: &mut Job<'_, S>) -> End {
    job.record.reject(Cause::ClientGone.into());
    End::Closed
}

enum Failure {
    Gone,
    Rejected(Rejection),
}

/// The next attempt's connection, while the client is watched.
async fn attempt<S: Stream>(
    job: &mut Job<'_, S>,
    attempts: &mut Attempts,
) -> Result<Attempt, Failure> {
    if let Some(attempt) = attempts.ready() {
        return Ok(attempt);
    }
    let mut acquiring = std::pin::pin!(attempts.acquire(job.timer));
    let (local, io, carry, timer) = (job.local, &mut *job.io, &mut *job.carry, job.timer);
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = acquiring.as_mut().poll(cx) {
            return Poll::Ready(outcome.map_err(Failure::Rejected));
        }
        match watch(cx, local, io, carry, timer) {
            true => Poll::Ready(Err(Failure::Gone)),
            false => Poll::Pending,
        }
    })
    .await
}

/// Reads ahead to notice a client that leaves. `true`: it has left.
fn watch<S: Stream>(
    cx: &mut Context<'_>,
    local: &Local,
    io: &mut S,
    carry: &mut Vec<u8>,
    timer: &Timer,
) -> bool {
    while carry.len() < MAX_CARRY {
        let read = local.buffers.with_scratch(|scratch| {
            let room = (MAX_CARRY - carry.len()).min(scratch.len());
            io.poll_read(cx, &mut scratch[..room]).map_ok(|n| {
                carry.extend_from_slice(&scratch[..n]);
                n
            })
        });
        match read {
            Poll::Pending => return false,
            Poll::Ready(Ok(0) | Err(_)) => return true,
            Poll::Ready(Ok(_)) => {}
        }
    }
    // Behind more than that, the end of the stream is visible but makes no event of its own.
    timer.poll_at_tick();
    io.read_closed()
}

/// `100 Continue`, once an endpoint is there to take the body (design.md §4).
async fn say_continue<S: Stream>(job: &mut Job<'_, S>, upload: &Upload) -> Result<(), End> {
    if !job.plan.expect_continue || upload.decoder.is_done() || upload.received > 0 {
        return Ok(());
    }
    let (mut rest, io) = (&b"HTTP/1.1 100 Continue\r\n\r\n"[..], &mut *job.io);
    let timer = job.timer;
    timer.set(job.timeouts.write_progress);
    let sent = poll_fn(|cx| {
        while !rest.is_empty() {
            match io.poll_write(cx, rest) {
                Poll::Ready(Ok(n)) if n > 0 => rest = &rest[n..],
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending if timer.check(cx).is_some() => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
        match io.poll_flush(cx) {
            Poll::Pending if timer.check(cx).is_some() => Poll::Ready(false),
            other => other.map(|flushed| flushed.is_ok()),
        }
    })
    .await;
    if sent { Ok(()) } else { Err(gone(job)) }
}

struct Exchange {
    download: Download,
    attempt: Attempt,
}

impl Exchange {
    fn poll<S: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut Job<'_, S>,
        upload: &mut Upload,
        attempts: &Attempts,
    ) -> Poll<Result<Step, Rejection>> {
        upload.held = false;
        self.poll_upload(cx, job, upload)?;
        let shape = Shape {
            plan: job.plan,
            keep_alive: job.keep_alive && !job.local.draining(),
            hsts: job.hsts,
            upload,
            attempts,
        };
        match self.download.poll(cx, &mut self.attempt, job.io, &shape, job.record) {
            Poll::Ready(outcome) => return Poll::Ready(outcome),
            Poll::Pending if self.download.begun() => upload.release(job.local),
            Poll::Pending => {}
        }
        let gone = if upload.decoder.is_done() {
            watch(cx, job.local, job.io, job.carry, job.timer)
        } else if upload.blocked() || upload.refused || upload.held {
            // The rest of the body is not read now, so the end behind it makes no event.
            job.timer.poll_at_tick();
            job.io.read_closed()
        } else {
            false
        };
        if gone {
            return Poll::Ready(Err(Cause::ClientGone.into()));
        }
        if upload.held || self.download.held {
            let now_ms = job.timer.now_ms();
            upload.excuse(now_ms);
            self.download.progress_ms = now_ms;
            job.timer.poll_at_tick();
        }
        self.poll_deadline(cx, job, upload, attempts.deadline_ms())
    }

    /// Moves request bytes until the client or the endpoint has to be waited for.
    fn poll_upload<S: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut Job<'_, S>,
        upload: &mut Upload,
    ) -> Result<(), Rejection> {
        loop {
            let flushed = upload.poll_flush(cx, &mut self.attempt.connection.io);
            if std::mem::take(&mut upload.moved) {
                upload.progress_ms = job.timer.now_ms();
            }
            if flushed.is_pending() {
                return Ok(());
            }
            if !upload.wants_body() || upload.refused {
                return Ok(());
            }
            let room = upload.room(job.timer.now_ms(), SCRATCH_BYTES);
            if upload.held {
                return Ok(());
            }
            if !job.carry.is_empty() {
                let here = job.carry.get(..room).unwrap_or(job.carry);
                let used = upload.take(cx, &mut self.attempt.connection.io, here)?;
                job.carry.drain(..used);
                continue;
            }
            if !self.read_body(cx, job, upload, room)? {
                return Ok(());
            }
        }
    }

    /// Reads from the client. `false`: there is nothing to read now.
    fn read_body<S: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut Job<'_, S>,
        upload: &mut Upload,
        room: usize,
    ) -> Result<bool, Rejection> {
        let (local, now_ms) = (job.local, job.timer.now_ms());
        let chunked = matches!(upload.decoder, BodyDecoder::Chunked(_));
        let room = if chunked { room.min(REWRITE_BYTES) } else { room };
        let min_rate = if self.streaming() { 0 } else { job.timeouts.body_min_rate };
        local.buffers.with_scratch(|scratch| match job.io.poll_read(cx, &mut scratch[..room]) {
            Poll::Pending => {
                upload.waiting(now_ms);
                Ok(false)
            }
            Poll::Ready(Ok(0) | Err(_)) => Err(Cause::ClientGone.into()),
            Poll::Ready(Ok(n)) => {
                upload.progress_ms = now_ms;
                self.attempt.body_came();
                let used = upload.take(cx, &mut self.attempt.connection.io, &scratch[..n])?;
                job.carry.extend_from_slice(&scratch[used..n]);
                match upload.fast_enough(now_ms, min_rate) {
                    true => Ok(true),
                    false => Err(Rejection { cause: Cause::BodyTimeout, detail: "rate" }),
                }
            }
        })
    }

    fn poll_deadline<S>(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut Job<'_, S>,
        upload: &Upload,
        total_ms: u64,
    ) -> Poll<Result<Step, Rejection>> {
        let waits = self.waits(job.timeouts, &job.plan.target.timeouts, upload);
        let at = |(since_ms, limit, _): &(u64, Duration, Rejection)| {
            since_ms.saturating_add(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
        };
        let next = waits.iter().flatten().min_by_key(|wait| at(wait));
        let next_ms = next.map_or(u64::MAX, |wait| at(wait).saturating_add(50));
        job.timer.set_at(next_ms.min(total_ms));
        match job.timer.check(cx) {
            None => Poll::Pending,
            Some(Fired::Deadline) if job.timer.now_ms() >= total_ms => {
                Poll::Ready(Err(Cause::DeadlineExceeded.into()))
            }
            Some(Fired::Deadline) => {
                let late = next.map(|(_, _, rejection)| *rejection);
                Poll::Ready(Err(late.unwrap_or(Cause::Internal.into())))
            }
            Some(fired) => Poll::Ready(Err(tunnel::cut(fired))),
        }
    }

    /// What is waited for in each direction: since when, how long at most, and what it means when
    /// that has passed. Only the side that we wait for is held to a limit (design.md #11).
    fn waits(
        &self,
        client: &ListenerTimeouts,
        endpoint: &UpstreamTimeouts,
        upload: &Upload,
    ) -> [Option<(u64, Duration, Rejection)>; 2] {
        let up = if upload.refused || upload.done() || (self.streaming() && !upload.blocked()) {
            None
        } else if upload.blocked() {
            Some((upload.progress_ms, endpoint.idle, Cause::FirstByteTimeout.into()))
        } else {
            Some((upload.progress_ms, client.body_progress, Cause::BodyTimeout.into()))
        };
        let since = self.download.progress_ms;
        let down = if self.download.blocked() {
            Some((since, client.write_progress, NOT_READING))
        } else if self.download.begun() {
            let limit = self.download.idle_limit(endpoint.idle, endpoint.stream_idle);
            Some((since, limit, Cause::StreamIdle.into()))
        } else if up.is_none() {
            Some((
                since.max(upload.progress_ms),
                endpoint.first_byte,
                Cause::FirstByteTimeout.into(),
            ))
        } else {
            None
        };
        [up, down]
    }

    /// A stream that answers may wait for its client as long as it likes.
    fn streaming(&self) -> bool {
        self.download.begun() && self.download.event_stream
    }

    fn finish<S: Stream>(self, job: &mut Job<'_, S>, upload: &Upload) -> End {
        job.record.bytes_in += upload.received;
        let keep_client = self.download.keep_client && upload.done();
        job.record.upstream_ok();
        self.attempt.finish(job.local, self.download.keep_upstream && upload.done());
        End::Done { keep_client }
    }

    async fn tunnel<S: Stream>(mut self, job: &mut Job<'_, S>, deadline_ms: u64) -> End {
        let _open = job.record.tunnel();
        let early = std::mem::take(job.carry);
        let first = First { from_client: &early, from_upstream: &[] };
        let limits = Limits::new(job.plan, deadline_ms);
        let io = &mut self.attempt.connection.io;
        match tunnel::run(job.local, job.io, io, first, limits, job.timer, job.record).await {
            Ok(()) => job.record.upstream_ok(),
            Err(rejection) => self.attempt.failed(job.local, rejection, true),
        }
        End::Closed
    }

    fn fail<S: Stream>(
        mut self,
        job: &mut Job<'_, S>,
        rejection: Rejection,
        upload: &Upload,
    ) -> End {
        job.record.bytes_in += upload.received;
        self.attempt.failed(job.local, rejection, self.download.begun());
        match rejection.cause {
            Cause::ClientGone => {
                job.record.reject(rejection);
                // Unsent bytes are dropped: the client must not take what it has for complete.
                job.io.abort_on_close();
                End::Closed
            }
            // Also with half an interim response on its way: an answer must not land inside it.
            _ if self.download.begun() || self.download.blocked() => {
                job.record.reject(rejection);
                End::Cut(rejection)
            }
            _ => refused(rejection, upload),
        }
    }
}
