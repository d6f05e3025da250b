//! A connection to one endpoint, pooled or new, within the limits of process, upstream and endpoint.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::model::UpstreamProtocol;

use super::dial::dial;
use super::endpoint::{Endpoint, Upstream};
use super::h2::{self, Acquired};
use super::pool::{Books, ConnectionGauges, Slot, UpstreamConnection};
use super::proxy_protocol::ProxySource;
use crate::clock;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::timer::Timer;

/// A connection that is looked for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub local: &'a Rc<Local>,
    pub upstream: &'a Upstream,
    pub endpoint: &'a Arc<Endpoint>,
    /// Who the client is, where endpoints get a PROXY header.
    pub source: Option<&'a ProxySource>,
    pub websocket: bool,
}

impl<'a> Wanted<'a> {
    /// An open connection, without waiting. `sure`: asked of the kernel; `fresh`: no pooled one.
    pub fn open(self, sure: bool, fresh: bool) -> Option<UpstreamConnection> {
        if self.http2()
            && let Some(Acquired::Stream { io, reused }) = h2::open(&self.stream())
        {
            return Some(UpstreamConnection::shared(io, self.endpoint.clone(), reused));
        }
        if fresh || (self.http2() && !self.websocket) {
            return None;
        }
        self.local.pools.take(self.endpoint, self.local.timers.now_ms(), sure)
    }

    /// Connects within `limit`; no longer than the timer's other reasons to end a wait allow.
    pub async fn connect(
        self,
        limit: Duration,
        timer: &Timer,
    ) -> Result<UpstreamConnection, Rejection> {
        timer.set(limit);
        let outcome = match self.http2() {
            true => self.connect_http2(timer).await,
            false => self.connect_http1(timer).await,
        };
        timer.clear();
        if let Err(rejection) = outcome
            && rejection.cause != Cause::OverCapacity
        {
            let reason =
                if rejection.detail.is_empty() { rejection.cause.code() } else { rejection.detail };
            self.upstream.counts.connection_error(&self.local.shared.metrics, reason);
        }
        outcome
    }

    async fn connect_http1(self, timer: &Timer) -> Result<UpstreamConnection, Rejection> {
        let Wanted { local, upstream, endpoint, source, .. } = self;
        let slot = slot(local, upstream, endpoint)?;
        let started = clock::process_us();
        let io = dial(&local.shared, endpoint, &upstream.transport, source, timer).await?;
        self.observe(started);
        let books = Books::open(slot, self.gauges());
        Ok(UpstreamConnection::new(io, endpoint.clone(), books))
    }

    async fn connect_http2(self, timer: &Timer) -> Result<UpstreamConnection, Rejection> {
        let Wanted { local, upstream, endpoint, .. } = self;
        let started = clock::process_us();
        let books = || {
            let slot = slot(local, upstream, endpoint)?;
            let books: Box<dyn Any> = Box::new(Books::open(slot, self.gauges()));
            Ok(books)
        };
        match h2::acquire(&self.stream(), timer, books).await? {
            Acquired::Stream { io, reused } => {
                if !reused {
                    self.observe(started);
                }
                Ok(UpstreamConnection::shared(io, endpoint.clone(), reused))
            }
            Acquired::Http1 => self.connect_http1(timer).await,
        }
    }

    fn http2(self) -> bool {
        self.upstream.transport.protocol == UpstreamProtocol::Http2
    }

    fn stream(self) -> h2::Wanted<'a> {
        let Wanted { local, upstream, endpoint, source, websocket } = self;
        h2::Wanted { local, endpoint, transport: &upstream.transport, source, websocket }
    }

    fn gauges(self) -> ConnectionGauges {
        ConnectionGauges::new(&self.upstream.counts)
    }

    fn observe(self, started_us: u64) {
        let seconds = (clock::process_us() - started_us) as f64 / 1e6;
        self.upstream.counts.connect_duration.observe(seconds);
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
        Err("upstream_connections") if local.h2.close_idle() => take(),
        Err("connections") if evict_of(local, upstream) => take(),
        other => other,
    };
    slot.map_err(|detail| Rejection { cause: Cause::OverCapacity, detail })
}

fn evict_of(local: &Rc<Local>, upstream: &Upstream) -> bool {
    let set = upstream.state.endpoints.load();
    local.pools.evict_one(|id| set.members.iter().any(|member| member.endpoint.id == id))
}
