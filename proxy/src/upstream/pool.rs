//! Idle connections of one worker to endpoints, last in first out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus::IntGauge;

use super::endpoint::Endpoint;
use super::io::UpstreamIo;
use crate::metrics::Metrics;
use crate::state::Shared;

/// Idle connections kept per endpoint and worker; more are closed.
const MAX_IDLE: usize = 256;

/// The idle connections of one worker.
#[derive(Default)]
pub struct Pools {
    idle: RefCell<HashMap<u32, Vec<Idle>>>,
}

struct Idle {
    connection: UpstreamConnection,
    /// Worker milliseconds after which it is closed.
    until_ms: u64,
}

/// One connection to an endpoint, counted while it lives.
pub struct UpstreamConnection {
    pub io: UpstreamIo,
    pub endpoint: Arc<Endpoint>,
    /// It has carried a request before: the endpoint may have closed it meanwhile.
    pub reused: bool,
    _slot: Slot,
    gauges: ConnectionGauges,
    pooled: bool,
}

/// `edge_upstream_connections` of one upstream; looked up once per connection.
pub struct ConnectionGauges {
    active: IntGauge,
    idle: IntGauge,
}

impl ConnectionGauges {
    pub fn new(metrics: &Metrics, upstream: &str) -> ConnectionGauges {
        let gauge = |state| metrics.upstream_connections.with_label_values(&[upstream, state]);
        ConnectionGauges { active: gauge("active"), idle: gauge("idle") }
    }
}

/// A place among the process-wide upstream connections.
pub struct Slot(Arc<Shared>);

impl Slot {
    /// `None`: the limit is reached.
    pub fn take(shared: &Arc<Shared>, limit: usize) -> Option<Slot> {
        let count = &shared.gauges.upstream_connections;
        if count.fetch_add(1, Ordering::Relaxed) >= limit {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Slot(shared.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.gauges.upstream_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl UpstreamConnection {
    pub fn new(
        io: UpstreamIo,
        endpoint: Arc<Endpoint>,
        slot: Slot,
        gauges: ConnectionGauges,
    ) -> UpstreamConnection {
        gauges.active.inc();
        UpstreamConnection { io, endpoint, reused: false, _slot: slot, gauges, pooled: false }
    }

    /// Moves the connection between the counts of active and idle ones.
    fn set_pooled(&mut self, pooled: bool) {
        if std::mem::replace(&mut self.pooled, pooled) != pooled {
            let (to, from) = match pooled {
                true => (&self.gauges.idle, &self.gauges.active),
                false => (&self.gauges.active, &self.gauges.idle),
            };
            to.inc();
            from.dec();
        }
    }
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        if self.pooled { self.gauges.idle.dec() } else { self.gauges.active.dec() }
    }
}

impl Pools {
    /// An idle connection that is still open, as far as its events tell.
    pub fn take(&self, endpoint: &Endpoint) -> Option<UpstreamConnection> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&endpoint.id)?;
        while let Some(Idle { mut connection, .. }) = list.pop() {
            if connection.io.quiet() {
                connection.set_pooled(false);
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose response is complete.
    pub fn give(&self, mut connection: UpstreamConnection, now_ms: u64, keep_alive: Duration) {
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(connection.endpoint.id).or_default();
        if list.len() < MAX_IDLE {
            connection.reused = true;
            connection.set_pooled(true);
            let keep_ms = u64::try_from(keep_alive.as_millis()).unwrap_or(u64::MAX);
            list.push(Idle { connection, until_ms: now_ms.saturating_add(keep_ms) });
        }
    }

    /// Closes what has been idle for too long or was closed by the endpoint.
    pub fn sweep(&self, now_ms: u64) {
        self.idle.borrow_mut().retain(|_, list| {
            list.retain(|idle| idle.until_ms > now_ms && idle.connection.io.quiet());
            !list.is_empty()
        });
    }

    /// Closes the longest idle connection, to make room under the process-wide limit.
    pub fn evict_one(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        let oldest = idle
            .values_mut()
            .filter(|list| !list.is_empty())
            .min_by_key(|list| list.first().map_or(u64::MAX, |idle| idle.until_ms));
        oldest.map(|list| list.remove(0)).is_some()
    }

    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}
