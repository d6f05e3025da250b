//! One HTTP/1.1 client connection: heads in, answers out, in order.
//!
//! An idle connection holds no buffer: bytes are read through the worker's scratch buffer and
//! parsed in the same poll; only what belongs to a further request is kept (`carry`).

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::h1_begin::{Begun, Forward, OwnAnswer, begin};
use crate::exchange::gate::pass;
use crate::exchange::h1_h1::{self, End, Job};
use crate::http1::head::terminator;
use crate::io::Stream;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::request::client::Client;
use crate::request::plan::AnswerKind;
use crate::request::respond::{Reply, write_h1};
use crate::timer::Timer;

/// A connection accepted during a drain may still send its first request.
const DRAIN_FIRST_REQUEST: Duration = Duration::from_millis(500);
/// After a last answer we read on until the client closes, for so long and so much at most: a close
/// with unread bytes is a reset that can overtake the answer (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Serves the connection until it ends.
pub async fn serve<S: Stream>(local: Rc<Local>, client: Client, io: S) {
    let timer = local.timers.timer();
    let mut connection = Connection { local, client, io, timer, carry: Vec::new() };
    let mut first = true;
    loop {
        let next = match connection.next(first).await {
            // Boxed: an idle connection does not carry the room for a request.
            Begun::Forward(forward) => Box::pin(connection.forward(*forward)).await,
            Begun::Answer(own) => Box::pin(connection.answer(*own)).await,
            Begun::Closed => Next::Close,
        };
        first = false;
        match next {
            Next::Request => {}
            Next::Close => break,
            Next::Linger => {
                connection.linger().await;
                break;
            }
        }
    }
}

/// What follows an answer.
enum Next {
    Request,
    Close,
    /// Close, but read what the client still sends.
    Linger,
}

struct Connection<S> {
    local: Rc<Local>,
    client: Client,
    io: S,
    timer: Timer,
    /// Bytes read beyond the last request.
    carry: Vec<u8>,
}

impl<S: Stream> Connection<S> {
    /// Waits for the next complete head and decides what to do with it.
    async fn next(&mut self, first: bool) -> Begun {
        let (head, keep_alive) = self.wait_limits();
        self.timer.follow(None);
        self.timer.set(if first { head } else { keep_alive });
        let mut waiting = Waiting { first, head, scanned: 0, begun: !self.carry.is_empty() };
        if waiting.begun {
            self.timer.set(head);
            let bytes = std::mem::take(&mut self.carry);
            if let Some(begun) = self.begin(&bytes) {
                return begun;
            }
            waiting.scanned = bytes.len();
            self.carry = bytes;
        }
        poll_fn(|cx| self.poll_next(cx, &mut waiting)).await
    }

    fn wait_limits(&self) -> (Duration, Duration) {
        let snapshot = self.local.snapshot();
        let policy = snapshot.listeners.get(self.client.listener);
        policy.map_or((Duration::ZERO, Duration::ZERO), |policy| {
            (policy.timeouts.head, policy.timeouts.keep_alive)
        })
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, waiting: &mut Waiting) -> Poll<Begun> {
        loop {
            let local = self.local.clone();
            let read = local.buffers.with_scratch(|scratch| match self.io.poll_read(cx, scratch) {
                Poll::Pending => None,
                Poll::Ready(Ok(0) | Err(_)) => Some(Some(Begun::Closed)),
                Poll::Ready(Ok(n)) => Some(self.take(&scratch[..n], waiting)),
            });
            match read {
                Some(Some(begun)) => return Poll::Ready(begun),
                Some(None) => {}
                None => return self.poll_idle(cx, waiting),
            }
        }
    }

    /// Takes freshly read bytes; `Some` when a head is complete (or hopeless).
    fn take(&mut self, fresh: &[u8], waiting: &mut Waiting) -> Option<Begun> {
        if !waiting.begun {
            waiting.begun = true;
            self.timer.set(waiting.head);
        }
        if self.carry.is_empty() {
            let begun = self.begin(fresh);
            if begun.is_none() {
                self.carry.extend_from_slice(fresh);
                waiting.scanned = fresh.len();
            }
            return begun;
        }
        self.carry.extend_from_slice(fresh);
        // Parsing starts over each time, so it must wait for a reason: slow heads are cheap.
        let complete = terminator(&self.carry, waiting.scanned);
        waiting.scanned = self.carry.len();
        if !complete && !self.too_long() {
            return None;
        }
        let bytes = std::mem::take(&mut self.carry);
        let begun = self.begin(&bytes);
        if begun.is_none() {
            self.carry = bytes;
        }
        begun
    }

    fn too_long(&self) -> bool {
        let snapshot = self.local.snapshot();
        let Some(policy) = snapshot.listeners.get(self.client.listener) else { return true };
        let line_open = memchr::memchr(b'\n', &self.carry).is_none();
        self.carry.len() >= policy.limits.head_bytes
            || (line_open && self.carry.len() > policy.limits.target_bytes)
    }

    /// Parses and decides; keeps what follows the head in `carry`.
    fn begin(&mut self, bytes: &[u8]) -> Option<Begun> {
        let (begun, used) = begin(&self.local, &self.client, bytes)?;
        let rest = bytes.get(used..).unwrap_or(&[]);
        if !rest.is_empty() {
            self.carry.extend_from_slice(rest);
        }
        Some(begun)
    }

    /// Nothing to read: is the wait over?
    fn poll_idle(&mut self, cx: &mut Context<'_>, waiting: &mut Waiting) -> Poll<Begun> {
        if self.local.draining() && !waiting.begun {
            if !waiting.first {
                return Poll::Ready(Begun::Closed);
            }
            waiting.first = false;
            waiting.begun = true;
            self.timer.set(DRAIN_FIRST_REQUEST);
        }
        if self.timer.check(cx).is_none() {
            return Poll::Pending;
        }
        if self.carry.is_empty() {
            return Poll::Ready(Begun::Closed);
        }
        self.carry.clear();
        Poll::Ready(Begun::failed(&self.local, &self.client, Cause::HeadTimeout.into()))
    }

    async fn forward(&mut self, forward: Forward) -> Next {
        let Forward { mut plan, mut record, upload, keep_alive, policy } = forward;
        if let Err(kind) = pass(&mut plan.terms, &mut record, &self.timer).await {
            let answer = plan.refuse(kind);
            let body_read = upload.decoder.is_done();
            let own = OwnAnswer::to(&plan, answer, record, keep_alive && !plan.http10, body_read);
            return self.answer(own).await;
        }
        let job = Job {
            local: &self.local,
            io: &mut self.io,
            timer: &self.timer,
            carry: &mut self.carry,
            record: &mut record,
            plan: &plan,
            timeouts: &policy.timeouts,
            keep_alive,
            hsts: self.client.hsts_allowed(),
        };
        match h1_h1::run(job, upload).await {
            End::Done { keep_client } => {
                record.close();
                if keep_client { Next::Request } else { Next::Linger }
            }
            End::Refused { rejection, body_read } => {
                let keep_alive = keep_alive && may_go_on(rejection) && !plan.http10;
                let answer = plan.refuse(AnswerKind::Reject(rejection));
                self.answer(OwnAnswer::to(&plan, answer, record, keep_alive, body_read)).await
            }
            End::Cut(_) => {
                record.close();
                // The end must not look like the end of the answer (P46).
                self.io.abort_on_close();
                Next::Close
            }
            End::Closed => {
                record.close();
                Next::Close
            }
        }
    }

    /// Writes an answer of our own.
    async fn answer(&mut self, own: OwnAnswer) -> Next {
        let OwnAnswer { mut answer, mut record, head_request, form, keep_alive, body_read } = own;
        if let Err(kind) = pass(&mut answer.terms, &mut record, &self.timer).await {
            answer.kind = kind;
        }
        record.answered(&answer);
        let close = !keep_alive || !body_read || self.local.draining();
        let mut out = self.local.buffers.take();
        let reply = Reply::of(&answer, record.request_id.as_bytes(), form);
        record.status = reply.status;
        if let Some(rejection) = reply.cause {
            record.reject(rejection);
        }
        let edits = answer.own_lines(self.client.hsts_allowed());
        let date = |out: &mut Vec<u8>| self.local.wall.write_http_date(out);
        let body = write_h1(&mut out, &reply, date, head_request, close, &edits);
        record.bytes_out += body as u64;
        record.give_back();
        let sent = self.send(&out).await;
        self.local.buffers.give(out);
        record.close();
        match (sent, close) {
            (false, _) => Next::Close,
            (true, false) => Next::Request,
            (true, true) => Next::Linger,
        }
    }

    async fn send(&mut self, mut bytes: &[u8]) -> bool {
        self.timer.follow(None);
        self.timer.set(Duration::from_secs(10));
        poll_fn(|cx| {
            while !bytes.is_empty() {
                match self.io.poll_write(cx, bytes) {
                    Poll::Ready(Ok(n)) if n > 0 => bytes = &bytes[n..],
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending if self.timer.check(cx).is_some() => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
            }
            match self.io.poll_flush(cx) {
                Poll::Pending if self.timer.check(cx).is_some() => Poll::Ready(false),
                other => other.map(|flushed| flushed.is_ok()),
            }
        })
        .await
    }

    /// Ends the sending half properly (TLS close_notify).
    async fn shut_down(&mut self) {
        self.timer.follow(None);
        self.timer.set(LINGER);
        poll_fn(|cx| match self.io.poll_shutdown(cx) {
            Poll::Pending if self.timer.check(cx).is_some() => Poll::Ready(()),
            other => other.map(|_| ()),
        })
        .await;
    }

    async fn linger(&mut self) {
        self.shut_down().await;
        self.timer.set(LINGER);
        let mut left = LINGER_BYTES;
        poll_fn(|cx| {
            while left > 0 {
                let local = &self.local;
                match local.buffers.with_scratch(|scratch| self.io.poll_read(cx, scratch)) {
                    Poll::Ready(Ok(n)) if n > 0 => left = left.saturating_sub(n),
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending if self.timer.check(cx).is_some() => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// State of a wait for a head.
struct Waiting {
    /// No request has come on this connection yet.
    first: bool,
    head: Duration,
    /// Bytes of `carry` known not to end a head.
    scanned: usize,
    /// A byte of the head is here: the head deadline runs.
    begun: bool,
}

/// Whether the connection survives this refusal: framing errors and timeouts end it.
fn may_go_on(rejection: Rejection) -> bool {
    !matches!(
        rejection.cause,
        Cause::BadRequest | Cause::BodyTimeout | Cause::BodyTooLarge | Cause::Draining
    )
}
