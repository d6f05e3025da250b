//! A connection to one endpoint, pooled or new, within the limits of process, upstream and endpoint.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::dial::dial;
use super::endpoint::{Endpoint, Upstream};
use super::pool::{Books, ConnectionGauges, Slot, UpstreamConnection};
use super::proxy_protocol::ProxySource;
use crate::clock;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::timer::Timer;

/// Connects within `limit`; no longer than the timer's other reasons to end a wait allow.
pub async fn connect(
    local: &Rc<Local>,
    upstream: &Upstream,
    endpoint: &Arc<Endpoint>,
    source: Option<&ProxySource>,
    limit: Duration,
    timer: &Timer,
) -> Result<UpstreamConnection, Rejection> {
    let slot = slot(local, upstream, endpoint)?;
    let started = clock::process_us();
    timer.set(limit);
    let outcome = dial(&local.shared, endpoint, &upstream.transport, source, timer).await;
    timer.clear();
    let (metrics, name) = (&local.shared.metrics, upstream.name.as_str());
    match outcome {
        Ok(io) => {
            let seconds = (clock::process_us() - started) as f64 / 1e6;
            metrics.upstream_connect_duration.with_label_values(&[name]).observe(seconds);
            let books = Books::open(slot, ConnectionGauges::new(metrics, name));
            Ok(UpstreamConnection::new(io, endpoint.clone(), Some(books)))
        }
        Err(rejection) => {
            let reason =
                if rejection.detail.is_empty() { rejection.cause.code() } else { rejection.detail };
            metrics.upstream_connection_errors.with_label_values(&[name, reason]).inc();
            Err(rejection)
        }
    }
}

/// Idle connections of this worker are given up where they keep a new one from being made.
fn slot(
    local: &Rc<Local>,
    upstream: &Upstream,
    endpoint: &Arc<Endpoint>,
) -> Result<Slot, Rejection> {
    let most = local.snapshot().limits.upstream_connections;
    let take = || Slot::take(&local.shared, upstream, endpoint, most);
    let slot = match take() {
        Err("upstream_connections") if local.pools.evict_one(|_| true) => take(),
        Err("connections") if evict_of(local, upstream) => take(),
        other => other,
    };
    slot.map_err(|detail| Rejection { cause: Cause::OverCapacity, detail })
}

fn evict_of(local: &Rc<Local>, upstream: &Upstream) -> bool {
    let set = upstream.state.endpoints.load();
    local.pools.evict_one(|id| set.members.iter().any(|member| member.endpoint.id == id))
}
