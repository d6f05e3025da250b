//! Attempts to have a request answered: which endpoint, over which connection, when to wait for
//! one, when to send the request again. Both drivers run it; neither decides such things itself.

mod again;
mod one;
mod wait;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use self::one::Attempt;
use self::one::acked;
use self::wait::{Queued, absent};
use crate::clock;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::request::plan::{Affinity, Plan};
use crate::route::table::RouteTarget;
use crate::timer::Timer;
use crate::upstream::balance::{Pick, Picked};
use crate::upstream::connect::Wanted;
use crate::upstream::endpoint::Upstream;
use crate::upstream::place::Place;
use crate::upstream::pool::{ENDPOINT_CONNECTIONS, UpstreamConnection};
use crate::upstream::proxy_protocol::ProxySource;

/// Endpoints remembered as tried for one request; with more the request gives up on connecting.
const MAX_TRIED: usize = 16;

/// The way a connection ended, as a rejection's detail: the endpoint closed it in order.
pub const CLOSED: Rejection = Rejection { cause: Cause::UpstreamClosed, detail: "eof" };
/// It was torn down: nothing is known of what the endpoint did.
pub const RESET: Rejection = Rejection { cause: Cause::UpstreamClosed, detail: "reset" };

/// All attempts of one request.
pub struct Attempts {
    local: Rc<Local>,
    target: Arc<RouteTarget>,
    rules: Rules,
    affinity: Affinity,
    source: Option<ProxySource>,
    websocket: bool,
    /// Whose turn it is: drawn once per request.
    turn: usize,
    /// Ids of endpoints that have failed this request.
    tried: Vec<u32>,
    /// One of those was reached: with nobody else left it gets another chance.
    met: bool,
    /// A pooled connection had died: only a new one will do.
    fresh: bool,
    /// Times that the request was sent again.
    again: u32,
    /// A place that was taken and has no connection yet.
    reserved: Option<Place>,
    queued: Option<Queued>,
    /// Why the last endpoint could not be reached.
    unreached: Option<Rejection>,
    /// Worker milliseconds when the request must be over.
    deadline_ms: u64,
}

/// What may be sent again.
#[derive(Clone, Copy)]
struct Rules {
    idempotent: bool,
    /// Also where the endpoint may have acted on it: the route says so, or it does no harm.
    repeatable: bool,
}

impl Attempts {
    pub fn new(local: &Rc<Local>, plan: &Plan) -> Attempts {
        let target = plan.target.clone();
        let state = &target.upstream.state;
        let now_ms = local.timers.now_ms();
        state.budget.request(now_ms);
        let rules = Rules {
            idempotent: plan.idempotent,
            repeatable: plan.idempotent || target.retry.non_idempotent,
        };
        let deadline_ms = plan.deadline.map_or(u64::MAX, |limit| after(now_ms, limit));
        Attempts {
            turn: state.cursor.fetch_add(1, Ordering::Relaxed),
            local: local.clone(),
            rules,
            affinity: plan.affinity,
            source: plan.source,
            websocket: plan.websocket,
            target,
            tried: Vec::new(),
            met: false,
            fresh: false,
            again: 0,
            reserved: None,
            queued: None,
            unreached: None,
            deadline_ms,
        }
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.target.upstream
    }

    /// Worker milliseconds when the request must be over; `u64::MAX`: never.
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// A pooled connection to the endpoint whose turn it is, without waiting.
    pub fn ready(&mut self) -> Option<Attempt> {
        let place = self.place().ok()?;
        match self.open(&place) {
            Some(connection) => Some(self.begin(connection, place)),
            None => {
                self.reserved = Some(place);
                None
            }
        }
    }

    /// A connection to an endpoint: another one at once where one cannot be reached, after a wait
    /// where none can. The wait ends with the timer, too.
    pub async fn acquire(&mut self, timer: &Timer) -> Result<Attempt, Rejection> {
        loop {
            let place = match self.reserved.take().map_or_else(|| self.place(), Ok) {
                Ok(place) => place,
                Err(why) => {
                    self.wait(why, timer).await?;
                    continue;
                }
            };
            if let Some(connection) = self.open(&place) {
                return Ok(self.begin(connection, place));
            }
            match self.connect(&place, timer).await {
                Ok(connection) => {
                    self.upstream().state.queue.recovered();
                    return Ok(self.begin(connection, place));
                }
                Err(why) if why.detail == ENDPOINT_CONNECTIONS => {
                    // Others may have room.
                    self.tried.push(place.endpoint.id);
                    self.unreached = Some(why);
                    place.give_up();
                }
                Err(why) if why.cause == Cause::OverCapacity => {
                    place.give_up();
                    self.wait(why, timer).await?;
                }
                Err(why) => self.unreached(place, why)?,
            }
        }
    }

    /// A place at the endpoint whose turn it is; an error says why there is none.
    fn place(&mut self) -> Result<Place, Rejection> {
        if let Some(place) = self.pick()? {
            return Ok(place);
        }
        if std::mem::take(&mut self.met) {
            self.tried.clear();
            if let Some(place) = self.pick()? {
                return Ok(place);
            }
        }
        Err(self.nobody())
    }

    /// Why there is nobody left to try.
    fn nobody(&self) -> Rejection {
        self.unreached.unwrap_or(Cause::NoEndpoint.into())
    }

    /// `None`: there is nobody left to try.
    fn pick(&self) -> Result<Option<Place>, Rejection> {
        let upstream = &self.target.upstream;
        let set = upstream.state.endpoints.load();
        if set.members.is_empty() {
            let unresolved = !set.unresolved.is_empty();
            return Err(if unresolved { Cause::DnsFailed } else { Cause::NoEndpoint }.into());
        }
        if self.tried.len() >= MAX_TRIED {
            return Err(self.nobody());
        }
        let picked = Pick {
            members: &set.members,
            table: &set.table,
            now_ms: self.local.timers.now_ms(),
            slow_start_ms: millis(upstream.spec.slow_start),
            key: self.affinity.key,
            sticky: self.affinity.sticky.and_then(|id| set.table.by_sticky(&id)),
            turn: self.turn,
            rng: &self.local.rng,
            tried: &self.tried,
            limit: upstream.spec.limits.endpoint_requests,
        }
        .pick();
        let full = Rejection { cause: Cause::OverCapacity, detail: "requests" };
        match picked {
            Picked::Endpoint(endpoint) | Picked::Panic(endpoint) => {
                Place::take(&self.local, upstream, endpoint, false).ok_or(full).map(Some)
            }
            Picked::Trial(endpoint) => {
                Place::take(&self.local, upstream, endpoint, true).ok_or(full).map(Some)
            }
            Picked::AtLimit => Err(full),
            Picked::None => Ok(None),
        }
    }

    fn open(&self, place: &Place) -> Option<UpstreamConnection> {
        self.wanted(place).open(!self.rules.idempotent, self.fresh)
    }

    fn wanted<'a>(&'a self, place: &'a Place) -> Wanted<'a> {
        Wanted {
            local: &self.local,
            upstream: &self.target.upstream,
            endpoint: &place.endpoint,
            source: self.source.as_ref(),
            websocket: self.websocket,
        }
    }

    fn begin(&mut self, mut connection: UpstreamConnection, place: Place) -> Attempt {
        self.queued = None;
        let proof = connection.reused && !self.rules.idempotent;
        let acked = if proof { acked(&mut connection) } else { None };
        let started_us = clock::process_us();
        Attempt { connection, place, started_us, since_us: started_us, acked }
    }

    async fn connect(&self, place: &Place, timer: &Timer) -> Result<UpstreamConnection, Rejection> {
        let left = Duration::from_millis(self.deadline_ms.saturating_sub(timer.now_ms()));
        let limit = self.target.timeouts.connect.min(left);
        self.wanted(place).connect(limit, timer).await.map_err(|why| match why.cause {
            Cause::ConnectTimeout if timer.now_ms() >= self.deadline_ms => {
                Cause::DeadlineExceeded.into()
            }
            _ => why,
        })
    }

    /// An endpoint could not be reached: nothing was sent, so another one may have the request.
    fn unreached(&mut self, mut place: Place, why: Rejection) -> Result<(), Rejection> {
        if !matches!(
            why.cause,
            Cause::ConnectFailed | Cause::ConnectTimeout | Cause::UpstreamTlsFailed
        ) {
            return Err(why);
        }
        if why.cause == Cause::ConnectTimeout {
            let waited_us = millis(self.target.timeouts.connect).saturating_mul(1000);
            place.endpoint.load.latency.observe(waited_us, clock::process_ms());
        }
        place.failed();
        self.tried.push(place.endpoint.id);
        self.unreached = Some(why);
        // A refusal costs nothing, and who waits for a restart has the time; each of the others
        // costs some.
        let bridged = self.queued.is_some() && absent(why);
        if !bridged && !matches!(why.detail, "refused" | "no_socket" | "backlog") {
            self.again += 1;
            if self.again > self.upstream().spec.retries.attempts {
                return Err(why);
            }
        }
        self.count_retry(why.cause.code());
        Ok(())
    }

    fn count_retry(&self, reason: &'static str) {
        self.upstream().counts.retry(&self.local.shared.metrics, reason);
    }
}

/// Never early: worker time is up to a tick old.
fn after(now_ms: u64, limit: Duration) -> u64 {
    let tick_ms = millis(crate::timer::TICK);
    now_ms.saturating_add(millis(limit)).saturating_add(tick_ms)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
