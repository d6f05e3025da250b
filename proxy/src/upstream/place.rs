//! A place among the requests under way at an endpoint, taken before a connection is looked for.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use config::value::show_duration;

use super::endpoint::{Endpoint, Upstream};
use crate::local::Local;

/// One request under way at one endpoint, for as long as it lives.
pub struct Place {
    local: Rc<Local>,
    upstream: Arc<Upstream>,
    pub endpoint: Arc<Endpoint>,
    /// Counted against the upstream's own limit.
    counted: bool,
    /// The request that shows whether an ejected endpoint is well again.
    trial: bool,
    /// What became of the request is known to the endpoint's condition.
    settled: bool,
    /// A limit kept it from being used: it makes no room for others.
    unused: bool,
}

impl Place {
    /// `None`: the upstream or the endpoint has reached its limit of requests.
    pub fn take(
        local: &Rc<Local>,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        trial: bool,
    ) -> Option<Place> {
        let limits = &upstream.spec.limits;
        let mut place = Place {
            local: local.clone(),
            upstream: upstream.clone(),
            endpoint: endpoint.clone(),
            counted: limits.requests.is_some(),
            trial,
            settled: false,
            unused: false,
        };
        let before = endpoint.load.requests.fetch_add(1, Ordering::Relaxed);
        let mut granted = limits.endpoint_requests.is_none_or(|limit| before < limit);
        if let Some(limit) = limits.requests {
            granted &= upstream.state.requests.fetch_add(1, Ordering::Relaxed) < limit;
        }
        // Its drop gives back what was counted.
        place.unused = !granted;
        granted.then_some(place)
    }

    /// Another limit is reached. Who waits for room must not be woken by this: they would meet the
    /// same limit and wake each other for ever.
    pub fn give_up(mut self) {
        self.unused = true;
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// The endpoint has done its part: its answer has begun and is no 5xx.
    pub fn succeeded(&mut self) {
        self.settled = true;
        if self.endpoint.condition.success(self.local.timers.now_ms()) {
            let (upstream, endpoint) = (&self.upstream.name, &self.endpoint.text);
            tracing::info!("upstream {upstream}: {endpoint} is back: its trial went well");
        }
    }

    /// The endpoint has failed: it could not be reached, gave no answer, a broken one or a 5xx.
    pub fn failed(&mut self) {
        self.settled = true;
        let Some(policy) = &self.upstream.spec.ejection else { return };
        let set = self.upstream.state.endpoints.load();
        let (now_ms, gate) = (self.local.timers.now_ms(), &self.upstream.state.gate);
        let condition = &self.endpoint.condition;
        if let Some(time) = condition.failure(policy, now_ms, gate, &set.members) {
            self.upstream.counts.ejections.inc();
            tracing::warn!(
                "upstream {}: {} is ejected for {}: {} requests in a row failed",
                self.upstream.name,
                self.endpoint.text,
                show_duration(time),
                policy.failures,
            );
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Neither good nor bad: another request may try.
        if !self.settled && self.trial {
            self.endpoint.condition.abandon(self.local.timers.now_ms());
        }
        self.endpoint.load.requests.fetch_sub(1, Ordering::Relaxed);
        if self.counted {
            self.upstream.state.requests.fetch_sub(1, Ordering::Relaxed);
        }
        if !self.unused && !self.upstream.state.queue.is_empty() {
            self.local.waiters.wake(&self.upstream.state);
        }
    }
}
