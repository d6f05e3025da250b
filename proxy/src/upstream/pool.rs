//! Idle connections of one worker to endpoints, last in first out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus::IntGauge;

use super::endpoint::{Endpoint, Upstream, UpstreamState};
use super::io::UpstreamIo;
use crate::metrics::UpstreamCounts;
use crate::state::Shared;

/// Idle connections kept per endpoint and worker; more are closed.
const MAX_IDLE: usize = 256;

/// The limit that is reached, as a rejection's detail: that of one endpoint alone.
pub const ENDPOINT_CONNECTIONS: &str = "endpoint_connections";

/// The idle connections of one worker.
#[derive(Default)]
pub struct Pools {
    idle: RefCell<HashMap<u32, Vec<Idle>>>,
}

struct Idle {
    connection: UpstreamConnection,
    /// Worker milliseconds since which nothing was asked of it.
    since_ms: u64,
    /// Worker milliseconds after which it is closed.
    until_ms: u64,
}

/// One connection to an endpoint, or one stream of a connection that others share.
pub struct UpstreamConnection {
    pub io: UpstreamIo,
    pub endpoint: Arc<Endpoint>,
    /// It has carried a request before: the endpoint may have closed it meanwhile.
    pub reused: bool,
    /// `None`: the connection is counted by whoever shares it out.
    books: Option<Books>,
}

/// What counts a connection while it lives.
pub struct Books {
    slot: Slot,
    gauges: ConnectionGauges,
    pooled: bool,
}

/// `edge_upstream_connections` of one upstream.
pub struct ConnectionGauges {
    active: IntGauge,
    idle: IntGauge,
}

impl ConnectionGauges {
    pub fn new(counts: &UpstreamCounts) -> ConnectionGauges {
        ConnectionGauges { active: counts.active.clone(), idle: counts.idle.clone() }
    }
}

/// A place among the connections of the process, of the upstream and of the endpoint.
pub struct Slot {
    shared: Arc<Shared>,
    upstream: Arc<UpstreamState>,
    endpoint: Arc<Endpoint>,
    /// The upstream or the endpoint has a limit.
    limited: bool,
}

impl Slot {
    /// An error names the limit that is reached; `most` is that of the process.
    pub fn take(
        shared: &Arc<Shared>,
        upstream: &Upstream,
        endpoint: &Arc<Endpoint>,
        most: usize,
    ) -> Result<Slot, &'static str> {
        let limits = &upstream.spec.limits;
        let counts = [
            (&shared.gauges.upstream_connections, most, "upstream_connections"),
            (&upstream.state.connections, limit(limits.connections), "connections"),
            (&endpoint.load.connections, limit(limits.endpoint_connections), ENDPOINT_CONNECTIONS),
        ];
        for (at, (count, most, name)) in counts.iter().enumerate() {
            if count.fetch_add(1, Ordering::Relaxed) >= *most {
                for (count, ..) in counts.iter().take(at + 1) {
                    count.fetch_sub(1, Ordering::Relaxed);
                }
                return Err(name);
            }
        }
        let limited = limits.connections.or(limits.endpoint_connections).is_some();
        let (upstream, endpoint) = (upstream.state.clone(), endpoint.clone());
        Ok(Slot { shared: shared.clone(), upstream, endpoint, limited })
    }

    /// Whether requests, of any worker, may be waiting for this place.
    fn wanted(&self) -> bool {
        self.limited && !self.upstream.queue.is_empty()
    }
}

fn limit(configured: Option<usize>) -> usize {
    configured.unwrap_or(usize::MAX)
}

impl Drop for Slot {
    fn drop(&mut self) {
        for count in [
            &self.shared.gauges.upstream_connections,
            &self.upstream.connections,
            &self.endpoint.load.connections,
        ] {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Books {
    /// A connection that is in use from now on.
    pub fn open(slot: Slot, gauges: ConnectionGauges) -> Books {
        gauges.active.inc();
        Books { slot, gauges, pooled: false }
    }

    /// Moves the connection between the counts of active and idle ones.
    pub fn set_pooled(&mut self, pooled: bool) {
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

impl Drop for Books {
    fn drop(&mut self) {
        if self.pooled { self.gauges.idle.dec() } else { self.gauges.active.dec() }
    }
}

impl UpstreamConnection {
    pub fn new(io: UpstreamIo, endpoint: Arc<Endpoint>, books: Books) -> UpstreamConnection {
        UpstreamConnection { io, endpoint, reused: false, books: Some(books) }
    }

    /// One stream of a connection that is counted elsewhere.
    pub fn shared(io: UpstreamIo, endpoint: Arc<Endpoint>, reused: bool) -> UpstreamConnection {
        UpstreamConnection { io, endpoint, reused, books: None }
    }

    fn set_pooled(&mut self, pooled: bool) {
        if let Some(books) = &mut self.books {
            books.set_pooled(pooled);
        }
    }
}

impl Pools {
    /// An idle connection that is still open, as far as its events tell; `sure`: as far as the
    /// kernel knows.
    pub fn take(&self, endpoint: &Endpoint, now_ms: u64, sure: bool) -> Option<UpstreamConnection> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&endpoint.id)?;
        while let Some(Idle { mut connection, since_ms, .. }) = list.pop() {
            let open = connection.io.quiet() && (!sure || connection.io.surely_quiet());
            if open {
                connection.set_pooled(false);
                return Some(connection);
            }
            endpoint.keep_alive.closed(now_ms.saturating_sub(since_ms), now_ms);
        }
        None
    }

    /// Keeps a connection whose response is complete.
    pub fn give(&self, mut connection: UpstreamConnection, now_ms: u64, keep_alive: Duration) {
        let lasting = connection.books.is_some() && connection.io.poolable();
        if !lasting || connection.endpoint.condition.gone() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(connection.endpoint.id).or_default();
        if list.len() < MAX_IDLE {
            connection.reused = true;
            connection.set_pooled(true);
            let keep_alive = connection.endpoint.keep_alive.limit(keep_alive);
            let keep_ms = u64::try_from(keep_alive.as_millis()).unwrap_or(u64::MAX);
            let until_ms = now_ms.saturating_add(keep_ms);
            list.push(Idle { connection, since_ms: now_ms, until_ms });
        }
    }

    /// Closes what has been idle for too long, was closed by the endpoint, leads to an endpoint
    /// that is gone, or keeps requests of another worker waiting: those of this one would have
    /// taken it.
    pub fn sweep(&self, now_ms: u64) {
        self.idle.borrow_mut().retain(|_, list| {
            list.retain(|idle| {
                let endpoint = &idle.connection.endpoint;
                if !idle.connection.io.quiet() {
                    endpoint.keep_alive.closed(now_ms.saturating_sub(idle.since_ms), now_ms);
                    return false;
                }
                if idle.until_ms <= now_ms {
                    endpoint.keep_alive.outlasted(now_ms);
                    return false;
                }
                let wanted = idle.connection.books.as_ref().is_some_and(|b| b.slot.wanted());
                !wanted && !endpoint.condition.gone()
            });
            !list.is_empty()
        });
    }

    /// Closes the longest idle connection among those of endpoints (ids) that `may` go, to make
    /// room under a limit.
    pub fn evict_one(&self, may: impl Fn(u32) -> bool) -> bool {
        let mut idle = self.idle.borrow_mut();
        let oldest = idle
            .iter_mut()
            .filter(|(id, list)| !list.is_empty() && may(**id))
            .map(|(_, list)| list)
            .min_by_key(|list| list.first().map_or(u64::MAX, |idle| idle.until_ms));
        oldest.map(|list| list.remove(0)).is_some()
    }

    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}
