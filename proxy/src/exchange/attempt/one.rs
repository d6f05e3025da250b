//! One attempt, and what its end tells of the endpoint.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::clock;
use crate::http1::field::FieldId;
use crate::http1::head::ResponseHead;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::request::plan::Plan;
use crate::upstream::balance::sticky::sticky_id;
use crate::upstream::place::Place;
use crate::upstream::pool::UpstreamConnection;
use crate::upstream::tcp_info::{self, TcpInfo};

/// One attempt: a connection to an endpoint, and what is known of it.
pub struct Attempt {
    pub connection: UpstreamConnection,
    pub(super) place: Place,
    pub(super) started_us: u64,
    /// Since when the endpoint is waited for: process microseconds.
    pub(super) since_us: u64,
    /// Acknowledged bytes before the request, where a proof may be needed that it never arrived.
    pub(super) acked: Option<u64>,
}

impl Attempt {
    /// The head of the answer is here.
    pub fn answered(&mut self, head: &ResponseHead<'_, '_>) {
        if head.fields.get(FieldId::HopByHop).is_some()
            && let Some(value) = head.fields.find("keep-alive")
        {
            self.place.endpoint.keep_alive.announced(value);
        }
        self.observe();
        match head.status {
            501 | 0..=499 => self.place.succeeded(),
            _ => self.place.failed(),
        }
    }

    /// More of the body has come: what went before was the client's time.
    pub fn body_came(&mut self) {
        self.since_us = clock::process_us();
    }

    fn observe(&self) {
        let now_us = clock::process_us();
        let elapsed_us = now_us.saturating_sub(self.since_us);
        self.place.endpoint.load.latency.observe(elapsed_us, now_us / 1000);
    }

    /// The cookie that binds the client to this endpoint, where it is not bound to it yet
    /// (RFC 6265 §4.1).
    pub fn cookie(&self, plan: &Plan) -> Option<String> {
        let upstream = self.place.upstream();
        let sticky = upstream.spec.sticky.as_ref()?;
        let id = sticky_id(upstream.name.as_str(), &self.place.endpoint);
        if plan.affinity.sticky == Some(id) {
            return None;
        }
        let mut cookie = format!("{}={}", sticky.name, String::from_utf8_lossy(&id));
        cookie.push_str("; Path=/; HttpOnly; SameSite=Lax");
        if let Some(age) = sticky.max_age {
            cookie.push_str(&format!("; Max-Age={}", age.as_secs()));
        }
        if plan.secure {
            cookie.push_str("; Secure");
        }
        Some(cookie)
    }

    /// The attempt has ended without a complete answer; `begun`: its head had come.
    pub fn failed(&mut self, local: &Local, rejection: Rejection, begun: bool) {
        let cause = rejection.cause;
        let elapsed_us = clock::process_us() - self.started_us;
        self.place.upstream().counts.failed(&local.shared.metrics, cause, elapsed_us);
        let own_fault = matches!(
            cause,
            Cause::UpstreamClosed | Cause::UpstreamProtocol | Cause::FirstByteTimeout
        );
        if cause == Cause::FirstByteTimeout && !begun {
            self.observe();
        }
        if own_fault && !begun {
            self.place.failed();
        }
    }

    /// The answer is dropped in favour of another endpoint's.
    pub(super) fn replaced(&self, local: &Local) {
        self.place.upstream().counts.replaced(&local.shared.metrics);
    }

    /// The answer is complete; `reuse`: the connection may carry another request.
    pub fn finish(self, local: &Local, reuse: bool) {
        let Attempt { connection, place, started_us, .. } = self;
        let upstream = place.upstream();
        upstream.counts.duration.observe(seconds(clock::process_us() - started_us));
        let keep_alive = upstream.spec.timeouts.keep_alive;
        drop(place);
        if reuse {
            local.pools.give(connection, local.timers.now_ms(), keep_alive);
        }
    }

    /// Whether the request, sent on a connection that has ended in order since, never arrived: the
    /// endpoint's kernel has acknowledged nothing of it, and answered it by a reset because nobody
    /// had the connection open any more. Neither is a proof alone: an acknowledgement may be under
    /// way, and a reset takes it along; an endpoint may have closed only its own direction, and go
    /// on reading. The reset takes one round trip, so it is waited for a moment.
    pub(super) async fn never_arrived(&mut self) -> bool {
        for wait_ms in RESET_WAITS_MS {
            if wait_ms > 0 {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
            let Some(info) = look(&mut self.connection) else { return false };
            if Some(info.bytes_acked) != self.acked {
                return false;
            }
            if info.over {
                return true;
            }
        }
        false
    }
}

/// Longer than a delayed acknowledgement, which proves the contrary.
const RESET_WAITS_MS: [u64; 8] = [0, 1, 2, 5, 10, 20, 40, 160];

pub(super) fn acked(connection: &mut UpstreamConnection) -> Option<u64> {
    look(connection).map(|info| info.bytes_acked)
}

fn look(connection: &mut UpstreamConnection) -> Option<TcpInfo> {
    let socket: BorrowedFd<'_> = connection.io.socket()?;
    tcp_info::look(socket).ok()
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
