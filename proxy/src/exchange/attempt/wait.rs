//! The wait for an endpoint: none can be reached (a restart is bridged), or all are at their limits.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Attempts, after};
use crate::clock;
use crate::exchange::tunnel::cut;
use crate::request::cause::{Cause, Rejection};
use crate::timer::{Fired, Timer};
use crate::upstream::pool::ENDPOINT_CONNECTIONS;
use crate::upstream::queue::Waiting;

/// A wait in the upstream's queue.
pub(super) struct Queued {
    _place: Waiting,
    until_ms: u64,
    recoveries: u64,
}

impl Attempts {
    /// Waits in the queue until it is worth another try. An error: there is no room, or no time
    /// left, or waiting would not help.
    pub(super) async fn wait(&mut self, why: Rejection, timer: &Timer) -> Result<(), Rejection> {
        let crowded = why.cause == Cause::OverCapacity;
        let own_limit =
            !matches!(why.detail, "upstream_connections" | "file_descriptors" | "local_ports");
        if !(absent(why) || crowded && own_limit) {
            return Err(why);
        }
        let state = self.target.upstream.state.clone();
        let queue = &self.target.upstream.spec.queue;
        let now_ms = timer.now_ms();
        if self.queued.is_none() {
            let full = || Rejection { cause: Cause::OverCapacity, detail: "queue" };
            let place = match queue.size {
                0 => return Err(why),
                size => Waiting::enter(&state, size).ok_or_else(full)?,
            };
            let until_ms = after(now_ms, queue.timeout).min(self.deadline_ms);
            let recoveries = state.queue.recoveries();
            self.queued = Some(Queued { _place: place, until_ms, recoveries });
        }
        let Some(queued) = &mut self.queued else { return Err(why) };
        let endpoints = state.endpoints.load_full();
        let mut asked = false;
        timer.set_at(queued.until_ms);
        let (waiters, local) = (&self.local.waiters, &self.local);
        let over = poll_fn(|cx: &mut Context<'_>| {
            let recovered = state.queue.recoveries() != queued.recoveries;
            let changed = !Arc::ptr_eq(&endpoints, &state.endpoints.load());
            // Room is looked for whenever somebody has left; an endpoint is asked by one at a time.
            let probe = asked && (crowded || state.queue.may_probe(clock::process_ms()));
            if recovered || changed || probe {
                return Poll::Ready(Ok(()));
            }
            asked = true;
            waiters.add(&state, cx.waker());
            timer.poll_at_tick();
            match timer.check(cx) {
                None => Poll::Pending,
                Some(Fired::Deadline) if local.timers.now_ms() >= self.deadline_ms => {
                    Poll::Ready(Err(Cause::DeadlineExceeded.into()))
                }
                Some(Fired::Deadline) => Poll::Ready(Err(why)),
                Some(fired) => Poll::Ready(Err(cut(fired))),
            }
        })
        .await;
        timer.clear();
        queued.recoveries = state.queue.recoveries();
        if !crowded || why.detail == ENDPOINT_CONNECTIONS {
            self.tried.clear();
        }
        over
    }
}

/// Nobody is there, as in a restart: a listener that goes takes along what it has not accepted,
/// which TLS notices in its handshake.
pub(super) fn absent(why: Rejection) -> bool {
    matches!(why.cause, Cause::ConnectFailed | Cause::NoEndpoint)
        || (why.cause == Cause::UpstreamTlsFailed && why.detail == "closed")
}
