//! Attempts to have a request answered: which endpoint, over which connection, when to wait for
//! one, when to send the request again. Both drivers run it; neither decides such things itself.

use std::future::poll_fn;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::tunnel::cut;
use super::upload::Upload;
use crate::clock;
use crate::http1::field::FieldId;
use crate::http1::head::ResponseHead;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::request::plan::{Affinity, Plan};
use crate::route::table::RouteTarget;
use crate::timer::{Fired, Timer};
use crate::upstream::balance::sticky::sticky_id;
use crate::upstream::balance::{Pick, Picked};
use crate::upstream::connect::connect;
use crate::upstream::endpoint::Upstream;
use crate::upstream::place::Place;
use crate::upstream::pool::UpstreamConnection;
use crate::upstream::proxy_protocol::ProxySource;
use crate::upstream::queue::Waiting;
use crate::upstream::tcp_info::bytes_acked;

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
    /// Whose turn it is: drawn once per request.
    turn: usize,
    /// Ids of endpoints that have failed this request.
    tried: Vec<u32>,
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

/// A wait in the upstream's queue.
struct Queued {
    _place: Waiting,
    until_ms: u64,
    recoveries: u64,
}

/// One attempt: a connection to an endpoint, and what is known of it.
pub struct Attempt {
    pub connection: UpstreamConnection,
    upstream: Arc<Upstream>,
    place: Place,
    started_us: u64,
    /// Acknowledged bytes before the request, where a proof may be needed that it never arrived.
    acked: Option<u64>,
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
        let deadline_ms =
            plan.deadline.map_or(u64::MAX, |limit| now_ms.saturating_add(millis(limit)));
        Attempts {
            turn: state.cursor.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            local: local.clone(),
            rules,
            affinity: plan.affinity,
            source: plan.source.clone(),
            target,
            tried: Vec::new(),
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
        match self.pooled(&place) {
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
            if let Some(connection) = self.pooled(&place) {
                return Ok(self.begin(connection, place));
            }
            match self.connect(&place, timer).await {
                Ok(connection) => {
                    self.upstream().state.queue.recovered();
                    return Ok(self.begin(connection, place));
                }
                Err(why) if why.cause == Cause::OverCapacity => {
                    drop(place);
                    self.wait(why, timer).await?;
                }
                Err(why) => self.unreached(place, why)?,
            }
        }
    }

    /// A place at the endpoint whose turn it is; an error says why there is none.
    fn place(&mut self) -> Result<Place, Rejection> {
        let upstream = &self.target.upstream;
        let set = upstream.state.endpoints.load();
        if set.members.is_empty() {
            let unresolved = !set.unresolved.is_empty();
            return Err(if unresolved { Cause::DnsFailed } else { Cause::NoEndpoint }.into());
        }
        if self.tried.len() >= MAX_TRIED {
            return Err(self.unreached.unwrap_or(Cause::NoEndpoint.into()));
        }
        let picked = Pick {
            members: &set.members,
            table: &set.table,
            now_ms: clock::process_ms(),
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
                Place::take(&self.local, upstream, endpoint, false).ok_or(full)
            }
            Picked::Trial(endpoint) => {
                Place::take(&self.local, upstream, endpoint, true).ok_or(full)
            }
            Picked::AtLimit => Err(full),
            Picked::None => Err(self.unreached.unwrap_or(Cause::NoEndpoint.into())),
        }
    }

    fn pooled(&self, place: &Place) -> Option<UpstreamConnection> {
        if self.fresh {
            return None;
        }
        let now_ms = self.local.timers.now_ms();
        self.local.pools.take(&place.endpoint, now_ms, !self.rules.idempotent)
    }

    fn begin(&mut self, mut connection: UpstreamConnection, place: Place) -> Attempt {
        self.queued = None;
        let proof = connection.reused && !self.rules.idempotent;
        let acked = if proof { acked(&mut connection) } else { None };
        let upstream = self.target.upstream.clone();
        Attempt { connection, upstream, place, started_us: clock::process_us(), acked }
    }

    async fn connect(&self, place: &Place, timer: &Timer) -> Result<UpstreamConnection, Rejection> {
        let left = Duration::from_millis(self.deadline_ms.saturating_sub(timer.now_ms()));
        let limit = self.target.timeouts.connect.min(left);
        let (upstream, source) = (&self.target.upstream, self.source.as_ref());
        let outcome = connect(&self.local, upstream, &place.endpoint, source, limit, timer).await;
        outcome.map_err(|why| match why.cause {
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
        place.failed();
        self.tried.push(place.endpoint.id);
        self.unreached = Some(why);
        // A refusal costs nothing; each of the others costs its time.
        if why.detail != "refused" {
            self.again += 1;
            if self.again > self.upstream().spec.retries.attempts {
                return Err(why);
            }
        }
        self.count_retry(why.cause.code());
        Ok(())
    }

    /// Waits in the queue until it is worth another try. An error: there is no room, or no time
    /// left, or waiting would not help.
    async fn wait(&mut self, why: Rejection, timer: &Timer) -> Result<(), Rejection> {
        let crowded = why.cause == Cause::OverCapacity;
        let own_limit =
            !matches!(why.detail, "upstream_connections" | "file_descriptors" | "local_ports");
        let bridged = matches!(why.cause, Cause::ConnectFailed | Cause::NoEndpoint);
        if !bridged && !(crowded && own_limit) {
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
            let until_ms = now_ms.saturating_add(millis(queue.timeout)).min(self.deadline_ms);
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
        if !crowded {
            self.tried.clear();
        }
        over
    }

    /// Whether an answer with this status is to be replaced by that of another endpoint
    /// (`routes.NAME.retry`). It counts against the budget when it says so.
    pub fn replaces(&self, status: u16, upload: &Upload) -> bool {
        self.target.retry.statuses.contains(&status)
            && self.rules.repeatable
            && upload.replayable()
            && self.may_send_again()
    }

    /// Whether the request is sent again after this end of an attempt, `touched` telling whether
    /// any byte of an answer had come. If so everything is ready for [`Attempts::acquire`].
    pub fn again(
        &mut self,
        attempt: &mut Attempt,
        rejection: Rejection,
        touched: bool,
        upload: &mut Upload,
    ) -> bool {
        let Some(reason) = self.reason(attempt, rejection, touched, upload) else { return false };
        if !upload.rewind() {
            return false;
        }
        self.next(attempt, reason);
        true
    }

    /// The same for an answer that is to be replaced; it was decided by [`Attempts::replaces`].
    pub fn replace(&mut self, attempt: &Attempt, upload: &mut Upload) -> bool {
        let possible = upload.rewind();
        if possible {
            self.next(attempt, "status");
        }
        possible
    }

    fn next(&mut self, attempt: &Attempt, reason: &'static str) {
        self.count_retry(reason);
        self.again += 1;
        self.fresh = true;
        if reason != "stale_connection" {
            self.tried.push(attempt.connection.endpoint.id);
            // With nobody else left the same one gets another chance.
            if self.tried.len() >= self.upstream().state.endpoints.load().members.len() {
                self.tried.clear();
            }
        }
    }

    /// Why it is safe, and allowed, to send the request once more.
    fn reason(
        &self,
        attempt: &mut Attempt,
        rejection: Rejection,
        touched: bool,
        upload: &Upload,
    ) -> Option<&'static str> {
        if touched || !upload.replayable() {
            return None;
        }
        match rejection.cause {
            Cause::UpstreamClosed if attempt.connection.io.unprocessed() => {
                (self.again < self.most()).then_some("refused_stream")
            }
            Cause::UpstreamClosed if attempt.connection.reused && !self.fresh => {
                let unseen = upload.untouched()
                    || self.rules.idempotent
                    || (rejection == CLOSED && attempt.never_arrived());
                unseen.then_some("stale_connection")
            }
            Cause::UpstreamClosed => {
                (self.rules.repeatable && self.may_send_again()).then_some("closed")
            }
            Cause::FirstByteTimeout if self.target.retry.timeout => {
                (self.rules.repeatable && self.may_send_again()).then_some("timeout")
            }
            _ => None,
        }
    }

    fn most(&self) -> u32 {
        self.upstream().spec.retries.attempts
    }

    /// Within the attempts of the request and the upstream's budget.
    fn may_send_again(&self) -> bool {
        let upstream = self.upstream();
        self.again < self.most()
            && upstream
                .state
                .budget
                .try_retry(upstream.spec.retries.budget, self.local.timers.now_ms())
    }

    fn count_retry(&self, reason: &'static str) {
        let labels = [self.upstream().name.as_str(), reason];
        self.local.shared.metrics.upstream_retries.with_label_values(&labels).inc();
    }
}

impl Attempt {
    /// The head of the answer is here.
    pub fn answered(&mut self, head: &ResponseHead<'_, '_>) {
        if head.fields.get(FieldId::HopByHop).is_some()
            && let Some(value) = head.fields.find("keep-alive")
        {
            self.place.endpoint.keep_alive.announced(value);
        }
        let elapsed = clock::process_us() - self.started_us;
        self.place.endpoint.load.latency.observe(elapsed, clock::process_ms());
        match head.status {
            501 | 0..=499 => self.place.succeeded(),
            _ => self.place.failed(),
        }
    }

    /// The cookie that binds the client to this endpoint, where it is not bound to it yet
    /// (RFC 6265 §4.1).
    pub fn cookie(&self, plan: &Plan) -> Option<String> {
        let sticky = self.upstream.spec.sticky.as_ref()?;
        let id = sticky_id(self.upstream.name.as_str(), &self.place.endpoint);
        if plan.affinity.sticky == Some(id) {
            return None;
        }
        let mut cookie = format!("{}={}", sticky.name, String::from_utf8_lossy(&id));
        cookie.push_str("; Path=/; HttpOnly; SameSite=Lax");
        if let Some(age) = sticky.max_age {
            cookie.push_str(&format!("; Max-Age={}", age.as_secs()));
        }
        Some(cookie)
    }

    /// The attempt has ended without a complete answer; `begun`: its head had come.
    pub fn failed(&mut self, local: &Local, rejection: Rejection, begun: bool) {
        let cause = rejection.cause;
        count_failed(local, &self.upstream, cause);
        let own_fault = matches!(
            cause,
            Cause::UpstreamClosed | Cause::UpstreamProtocol | Cause::FirstByteTimeout
        );
        if own_fault && !begun {
            self.place.failed();
        }
    }

    /// The answer is complete and the connection may carry another request.
    pub fn keep(self, local: &Local) {
        let Attempt { connection, upstream, place, .. } = self;
        drop(place);
        let keep_alive = upstream.spec.timeouts.keep_alive;
        local.pools.give(connection, local.timers.now_ms(), keep_alive);
    }

    /// The endpoint's kernel has acknowledged nothing since the request went out. Together with a
    /// close in order this proves that the endpoint had closed before the request came: what ends
    /// a connection in order acknowledges everything that had arrived. Alone it is no proof, a
    /// reset takes pending acknowledgements with it.
    fn never_arrived(&mut self) -> bool {
        self.acked.is_some() && acked(&mut self.connection) == self.acked
    }
}

fn acked(connection: &mut UpstreamConnection) -> Option<u64> {
    let socket: BorrowedFd<'_> = connection.io.socket()?;
    bytes_acked(socket).ok()
}

/// Counts an attempt that did not end well.
pub fn count_failed(local: &Local, upstream: &Upstream, cause: Cause) {
    let metrics = &local.shared.metrics;
    let name = upstream.name.as_str();
    metrics.upstream_requests.with_label_values(&[name, cause.code()]).inc();
    if cause == Cause::ClientGone {
        metrics.upstream_cancelled.with_label_values(&[name]).inc();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
