//! A connection for a request: pooled or new, on the next endpoint in turn, on another one at once
//! when a connect fails.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::dial::dial;
use super::endpoint::{Endpoint, EndpointSet, Upstream};
use super::pool::{ConnectionGauges, Slot, UpstreamConnection};
use crate::clock;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::timer::Timer;

/// Endpoints tried for one request at most.
const MAX_TRIES: usize = 3;

/// How a connection may be had.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Pooled or new. `sure`: a pooled one must have been checked with the kernel.
    Any { sure: bool },
    /// After a pooled connection had died.
    New,
}

/// Whose turn it is: drawn once per request.
#[derive(Clone, Copy)]
pub struct Turn(usize);

impl Turn {
    pub fn next(upstream: &Upstream) -> Turn {
        Turn(upstream.state.cursor.fetch_add(1, Ordering::Relaxed))
    }
}

/// A pooled connection of the endpoint in turn, without waiting.
pub fn pooled(
    local: &Local,
    upstream: &Upstream,
    turn: Turn,
    sure: bool,
) -> Option<UpstreamConnection> {
    let set = upstream.state.endpoints.load();
    let endpoint = nth(&set, turn.0)?;
    loop {
        let connection = local.pools.take(endpoint)?;
        if !sure || connection.io.surely_quiet() {
            return Some(connection);
        }
    }
}

/// A connection to one of the upstream's endpoints. The wait ends with the timer, too.
pub async fn acquire(
    local: &Rc<Local>,
    upstream: &Upstream,
    turn: Turn,
    want: Want,
    timer: &Timer,
) -> Result<UpstreamConnection, Rejection> {
    let set = upstream.state.endpoints.load_full();
    if set.members.is_empty() {
        let unresolved = !set.unresolved.is_empty();
        let cause = if unresolved { Cause::DnsFailed } else { Cause::NoEndpoint };
        return Err(cause.into());
    }
    let mut last = Rejection::new(Cause::NoEndpoint);
    for attempt in 0..set.members.len().min(MAX_TRIES) {
        let Some(endpoint) = nth(&set, turn.0.wrapping_add(attempt)) else { break };
        if attempt > 0 {
            let labels = [upstream.name.as_str(), last.cause.code()];
            local.shared.metrics.upstream_retries.with_label_values(&labels).inc();
        }
        if let Want::Any { sure } = want
            && let Some(connection) = local.pools.take(endpoint)
            && (!sure || connection.io.surely_quiet())
        {
            return Ok(connection);
        }
        match connect(local, upstream, endpoint, timer).await {
            Ok(connection) => return Ok(connection),
            Err(rejection) if rejection.cause == Cause::OverCapacity => return Err(rejection),
            Err(rejection) => last = rejection,
        }
    }
    Err(last)
}

fn nth(set: &EndpointSet, at: usize) -> Option<&Arc<Endpoint>> {
    set.members.get(at.checked_rem(set.members.len())?).map(|member| &member.endpoint)
}

async fn connect(
    local: &Rc<Local>,
    upstream: &Upstream,
    endpoint: &Arc<Endpoint>,
    timer: &Timer,
) -> Result<UpstreamConnection, Rejection> {
    let limit = local.snapshot().limits.upstream_connections;
    let mut slot = Slot::take(&local.shared, limit);
    if slot.is_none() && local.pools.evict_one() {
        slot = Slot::take(&local.shared, limit);
    }
    let slot =
        slot.ok_or(Rejection { cause: Cause::OverCapacity, detail: "upstream_connections" })?;
    let started = clock::process_us();
    timer.set(upstream.spec.timeouts.connect);
    let outcome = dial(&local.shared, endpoint, &upstream.transport, None, timer).await;
    timer.clear();
    match outcome {
        Ok(io) => {
            let seconds = (clock::process_us() - started) as f64 / 1e6;
            let name = [upstream.name.as_str()];
            local
                .shared
                .metrics
                .upstream_connect_duration
                .with_label_values(&name)
                .observe(seconds);
            let gauges = ConnectionGauges::new(&local.shared.metrics, upstream.name.as_str());
            Ok(UpstreamConnection::new(io, endpoint.clone(), slot, gauges))
        }
        Err(rejection) => {
            let reason =
                if rejection.detail.is_empty() { rejection.cause.code() } else { rejection.detail };
            let labels = [upstream.name.as_str(), reason];
            local.shared.metrics.upstream_connection_errors.with_label_values(&labels).inc();
            Err(rejection)
        }
    }
}
