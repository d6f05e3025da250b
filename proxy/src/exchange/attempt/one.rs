//! One attempt, and what its end tells of the endpoint.

use std::os::fd::BorrowedFd;

use crate::clock;
use crate::http1::field::FieldId;
use crate::http1::head::ResponseHead;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::request::plan::Plan;
use crate::upstream::balance::sticky::sticky_id;
use crate::upstream::endpoint::Upstream;
use crate::upstream::place::Place;
use crate::upstream::pool::UpstreamConnection;
use crate::upstream::tcp_info::bytes_acked;

/// One attempt: a connection to an endpoint, and what is known of it.
pub struct Attempt {
    pub connection: UpstreamConnection,
    pub(super) place: Place,
    /// Since when the endpoint is waited for, where balancing wants to know: process microseconds.
    pub(super) since_us: Option<u64>,
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
        if let Some(since) = &mut self.since_us {
            *since = clock::process_us();
        }
    }

    fn observe(&self) {
        if let Some(since) = self.since_us {
            let elapsed = clock::process_us().saturating_sub(since);
            self.place.endpoint.load.latency.observe(elapsed, clock::process_ms());
        }
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
        count_failed(local, self.place.upstream(), cause);
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
        let labels = [self.place.upstream().name.as_str(), "replaced"];
        local.shared.metrics.upstream_requests.with_label_values(&labels).inc();
    }

    /// The answer is complete and the connection may carry another request.
    pub fn keep(self, local: &Local) {
        let Attempt { connection, place, .. } = self;
        let keep_alive = place.upstream().spec.timeouts.keep_alive;
        drop(place);
        local.pools.give(connection, local.timers.now_ms(), keep_alive);
    }

    /// The endpoint's kernel has acknowledged nothing since the request went out. Together with a
    /// close in order this proves that the endpoint had closed before the request came: what ends
    /// a connection in order acknowledges everything that had arrived. Alone it is no proof, a
    /// reset takes pending acknowledgements with it.
    pub(super) fn never_arrived(&mut self) -> bool {
        self.acked.is_some() && acked(&mut self.connection) == self.acked
    }
}

pub(super) fn acked(connection: &mut UpstreamConnection) -> Option<u64> {
    let socket: BorrowedFd<'_> = connection.io.socket()?;
    bytes_acked(socket).ok()
}

/// Counts an attempt that did not end well.
fn count_failed(local: &Local, upstream: &Upstream, cause: Cause) {
    let metrics = &local.shared.metrics;
    let name = upstream.name.as_str();
    metrics.upstream_requests.with_label_values(&[name, cause.code()]).inc();
    if cause == Cause::ClientGone {
        metrics.upstream_cancelled.with_label_values(&[name]).inc();
    }
}
