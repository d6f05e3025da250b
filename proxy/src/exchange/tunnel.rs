//! Raw bytes both ways after a 101: WebSocket. The only place with half-close.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::outbox::Outbox;
use super::paced::Pace;
use crate::buffers::SCRATCH_BYTES;
use crate::io::Stream;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::request::plan::Plan;
use crate::request::record::Record;
use crate::timer::{Fired, Timer};

/// One direction of a tunnel.
struct Lane {
    out: Outbox,
    state: LaneState,
    bytes: u64,
    /// First bytes that pacing has not let pass.
    early: Vec<u8>,
    pace: Pace,
    /// Pacing holds the source's bytes back.
    held: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LaneState {
    Open,
    /// The source has ended; its end is to be passed on.
    Ending,
    Closed,
}

impl Lane {
    fn new(local: &Rc<Local>, first: &[u8], pace: Pace) -> Lane {
        let (mut out, mut early) = (Outbox::new(local), Vec::new());
        if !pace.is_off() {
            early = first.to_vec();
        } else if !first.is_empty() {
            out.buffer().extend_from_slice(first);
        }
        let (state, bytes) = (LaneState::Open, first.len() as u64);
        Lane { out, state, bytes, early, pace, held: false }
    }

    /// Moves bytes until one side must be waited for. `moved` tells of any progress.
    fn poll<A: Stream, B: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        local: &Local,
        from: &mut A,
        to: &mut B,
        moved: &mut bool,
    ) -> Poll<Result<(), Broken>> {
        let at_end = |_| Broken::To;
        self.held = false;
        loop {
            if ready!(self.out.poll_drain(cx, to)).map_err(at_end)? {
                *moved = true;
            }
            match self.state {
                LaneState::Closed => return Poll::Ready(Ok(())),
                LaneState::Ending => {
                    ready!(to.poll_flush(cx)).map_err(at_end)?;
                    ready!(to.poll_shutdown(cx)).map_err(at_end)?;
                    self.state = LaneState::Closed;
                    continue;
                }
                LaneState::Open => {}
            }
            let room = self.pace.room(local.timers.now_ms(), SCRATCH_BYTES);
            self.held = room == 0;
            if !self.early.is_empty() && !self.held {
                let n = room.min(self.early.len());
                self.out.write_through(cx, to, &self.early[..n]).map_err(at_end)?;
                self.early.drain(..n);
                self.pace.passed(n);
                *moved = true;
                continue;
            }
            let n = local.buffers.with_scratch(|scratch| {
                if self.held {
                    return Poll::Pending;
                }
                let n = match from.poll_read(cx, &mut scratch[..room]) {
                    Poll::Ready(outcome) => outcome.map_err(|_| Broken::From)?,
                    Poll::Pending => return Poll::Pending,
                };
                self.out.write_through(cx, to, &scratch[..n]).map_err(at_end)?;
                Poll::Ready(Ok::<usize, Broken>(n))
            });
            match n {
                Poll::Pending => {
                    // Nothing more to read now: what was written must not wait in the stream.
                    return match to.poll_flush(cx) {
                        Poll::Ready(Err(_)) => Poll::Ready(Err(Broken::To)),
                        _ => Poll::Pending,
                    };
                }
                Poll::Ready(n) => match n? {
                    0 => self.state = LaneState::Ending,
                    n => {
                        self.bytes += n as u64;
                        self.pace.passed(n);
                        *moved = true;
                    }
                },
            }
        }
    }
}

/// Which end of a lane has failed.
enum Broken {
    From,
    To,
}

/// First bytes of each direction, already read.
pub struct First<'a> {
    pub from_client: &'a [u8],
    pub from_upstream: &'a [u8],
}

/// When a tunnel that both sides keep open ends all the same, and how fast it may be.
pub struct Limits {
    /// Silence in both directions.
    idle: Duration,
    /// Worker milliseconds; `u64::MAX`: never.
    deadline_ms: u64,
    up: Pace,
    down: Pace,
}

impl Limits {
    pub fn new(plan: &Plan, deadline_ms: u64) -> Limits {
        let idle = plan.target.timeouts.stream_idle;
        Limits { idle, deadline_ms, up: Pace::upload(plan), down: Pace::download(plan) }
    }

    fn arm(&self, timer: &Timer) {
        let idle_ms = u64::try_from(self.idle.as_millis()).unwrap_or(u64::MAX);
        let silent_ms = timer.now_ms().saturating_add(idle_ms).saturating_add(50);
        timer.set_at(silent_ms.min(self.deadline_ms));
    }
}

/// Runs until both directions have ended, a limit is met, or the timer fires otherwise. An
/// error says why it did not end well; it is in `record` too.
pub async fn run<A: Stream, B: Stream>(
    local: &Rc<Local>,
    client: &mut A,
    upstream: &mut B,
    first: First<'_>,
    mut limits: Limits,
    timer: &Timer,
    record: &mut Record,
) -> Result<(), Rejection> {
    let mut up = Lane::new(local, first.from_client, std::mem::take(&mut limits.up));
    let mut down = Lane::new(local, first.from_upstream, std::mem::take(&mut limits.down));
    limits.arm(timer);
    let outcome = poll_fn(|cx| {
        let mut moved = false;
        let up_done = up.poll(cx, local, client, upstream, &mut moved);
        let down_done = down.poll(cx, local, upstream, client, &mut moved);
        let held = up.held || down.held;
        if held {
            timer.poll_at_tick();
        }
        if moved || held {
            limits.arm(timer);
        }
        match (up_done, down_done) {
            (Poll::Ready(Err(Broken::From)), _) | (_, Poll::Ready(Err(Broken::To))) => {
                return Poll::Ready(Err(Cause::ClientGone.into()));
            }
            (Poll::Ready(Err(Broken::To)), _) | (_, Poll::Ready(Err(Broken::From))) => {
                return Poll::Ready(Err(Cause::UpstreamClosed.into()));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            _ => {}
        }
        match timer.check(cx) {
            Some(Fired::Deadline) if timer.now_ms() >= limits.deadline_ms => {
                Poll::Ready(Err(Cause::DeadlineExceeded.into()))
            }
            Some(fired) => Poll::Ready(Err(cut(fired))),
            None => Poll::Pending,
        }
    })
    .await;
    record.bytes_in += up.bytes;
    record.bytes_out += down.bytes;
    if let Err(rejection) = outcome {
        record.reject(rejection);
    }
    outcome
}

/// Why a stream was ended by us.
pub fn cut(fired: Fired) -> Rejection {
    match fired {
        Fired::Deadline => Cause::StreamIdle.into(),
        Fired::RouteRemoved => Rejection { cause: Cause::Draining, detail: "route_removed" },
        Fired::Forced => Cause::Draining.into(),
    }
}
