//! governor over [`KeyTable`]: one quota for each key, and 16 times as much for each wider prefix.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use config::model::Rate;
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{NotUntil, Quota, RateLimiter};

use super::clock::{AskedAt, LimitClock, Moment};
use super::key::{Asked, Client, Clients};
use super::table::{Buckets, By, KeyTable, Place, Visit};

/// A wider prefix may have so many times as much.
pub const WIDER: u32 = 16;

/// What is left of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Requests that may come now.
    pub remaining: u32,
    /// Until the whole burst may come again.
    pub reset: Duration,
}

/// The answer to one request.
#[derive(Debug)]
pub struct Answer {
    /// `Err`: refused, and nanoseconds until the earliest time to come again.
    outcome: Result<StateSnapshot, u64>,
    burst: u32,
    interval: u64,
    /// Where the key was counted.
    pub place: Place,
}

impl Answer {
    pub fn passes(&self) -> bool {
        self.outcome.is_ok()
    }

    /// Refused: the earliest time to come again.
    pub fn wait(&self) -> Option<Duration> {
        self.outcome.as_ref().err().map(|wait| Duration::from_nanos(*wait))
    }

    /// Divides, so it is asked only where somebody is told.
    pub fn left(&self) -> Left {
        match &self.outcome {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let used = u64::from(self.burst.saturating_sub(remaining));
                let reset = Duration::from_nanos(used.saturating_mul(self.interval));
                Left { remaining, reset }
            }
            Err(wait) => {
                let tolerance = self.interval.saturating_mul(u64::from(self.burst - 1));
                let reset = Duration::from_nanos(wait.saturating_add(tolerance));
                Left { remaining: 0, reset }
            }
        }
    }
}

/// A rate for keys and, 16 times as high, for their aggregates.
pub struct Tiers<C: LimitClock> {
    narrow: Limiter<C>,
    wide: Limiter<C>,
}

impl<C: LimitClock> Tiers<C> {
    pub fn new(rate: Rate, burst: NonZeroU32, store: &Store<C>) -> Tiers<C> {
        let limiter = |times: u32| Limiter::new(rate, burst, times, store.clone());
        Tiers { narrow: limiter(1), wide: limiter(WIDER) }
    }

    /// A refused key does not use up what its neighbours share. In an overflow bucket they share
    /// the narrow rate already.
    #[inline(always)]
    pub fn ask(&self, asked: &Asked, now: Moment) -> Answer {
        let visit = self.narrow.visit(asked.key, By::Origin(asked.origin, asked.drawn), now);
        let outcome = self.narrow.governor.check_key(&visit);
        self.with_wider(self.narrow.answer(outcome, &visit), asked.aggregate, now)
    }

    /// The same for who need not know what is left: `None`, it passes.
    #[inline(always)]
    pub fn refuses(&self, asked: &Asked, now: Moment) -> Option<Answer> {
        let visit = self.narrow.visit(asked.key, By::Origin(asked.origin, asked.drawn), now);
        let outcome = self.narrow.governor.check_key(&visit);
        if outcome.is_ok() && asked.aggregate.is_none() {
            return None;
        }
        let answer = self.with_wider(self.narrow.answer(outcome, &visit), asked.aggregate, now);
        (!answer.passes()).then_some(answer)
    }

    fn with_wider(&self, own: Answer, aggregate: Option<u64>, now: Moment) -> Answer {
        match aggregate {
            Some(aggregate) if own.outcome.is_ok() && own.place == Place::Own => {
                let visit = self.wide.visit(aggregate, By::Parts, now);
                let outcome = self.wide.governor.check_key(&visit);
                let shared = self.wide.answer(outcome, &visit);
                let tighter =
                    shared.outcome.is_err() || shared.left().remaining < own.left().remaining;
                if tighter { shared } else { own }
            }
            _ => own,
        }
    }

    /// Whether this client may have one more key of this tenant (0: of none). With all tenants it
    /// may have 16 times as many as with one: they share a table, which nobody is to fill alone.
    fn may_create(&self, client: &Client, tenant: u64, now: Moment) -> bool {
        let together = match tenant {
            0 => client.wide,
            _ => Some(client.network()),
        };
        // Both are keyed hashes, which nobody can choose.
        let key = client.narrow ^ tenant;
        let visit = self.narrow.visit(key, By::Network(client.network() ^ tenant), now);
        let outcome = self.narrow.governor.check_key(&visit);
        self.with_wider(self.narrow.answer(outcome, &visit), together, now).passes()
    }
}

/// One quota.
struct Limiter<C: LimitClock> {
    governor: RateLimiter<Visit, Store<C>, AskedAt, StateInformationMiddleware>,
    burst: u32,
    /// Nanoseconds in which one request becomes free.
    interval: u64,
    /// How far ahead of now an arrival time can be, in nanoseconds.
    reach: u64,
}

impl<C: LimitClock> Limiter<C> {
    fn new(rate: Rate, burst: NonZeroU32, times: u32, store: Store<C>) -> Limiter<C> {
        let count = u64::from(rate.count.get()).saturating_mul(u64::from(times));
        let per = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        let interval = (per / count).max(1);
        // The longest wait stays far within 64 bits.
        let most = u32::try_from(LONGEST_NS / interval).unwrap_or(u32::MAX).max(1);
        let burst = burst.get().saturating_mul(times).min(most);
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(Duration::from_nanos(interval))
            .unwrap_or_else(|| Quota::per_second(rate.count))
            .allow_burst(burst);
        let governor = RateLimiter::new(quota, store, AskedAt);
        let burst = burst.get();
        Limiter { governor, burst, interval, reach: interval.saturating_mul(u64::from(burst)) }
    }

    #[inline(always)]
    fn visit(&self, key: u64, by: By, now: Moment) -> Visit {
        AskedAt::set(now);
        Visit { key, by, now: now.0, reach: self.reach, place: Cell::new(Place::Own) }
    }

    fn answer(&self, outcome: Outcome, visit: &Visit) -> Answer {
        let outcome =
            outcome.map_err(|refusal| refusal.earliest_possible().0.saturating_sub(visit.now));
        Answer { outcome, burst: self.burst, interval: self.interval, place: visit.place.get() }
    }
}

/// What governor says.
type Outcome = Result<StateSnapshot, NotUntil<Moment>>;

/// 100 years.
const LONGEST_NS: u64 = 100 * 365 * 24 * 3600 * 1_000_000_000;

/// The table behind a quota, and what is a tenant's own of it.
#[derive(Clone)]
pub struct Store<C: LimitClock> {
    pub table: Arc<KeyTable<C>>,
    /// Of keys that have no place in the table.
    pub buckets: Arc<Buckets>,
    /// Bounds the new keys of each client, where clients may draw keys.
    pub creators: Option<Arc<Tiers<C>>>,
    pub clients: Clients,
}

impl<C: LimitClock> Store<C> {
    /// Of keys that clients cannot draw, and no tenant's in particular.
    pub fn of(table: &Arc<KeyTable<C>>, clients: Clients) -> Store<C> {
        let buckets = table.buckets().clone();
        Store { table: table.clone(), buckets, creators: None, clients }
    }
}

impl<C: LimitClock> StateStore for Store<C> {
    type Key = Visit;

    fn measure_and_replace<T, F, E>(&self, visit: &Visit, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let may_create = || match (&self.creators, visit.by) {
            (Some(creators), By::Origin(origin, true)) => {
                let client = self.clients.at(&origin);
                creators.may_create(&client, self.clients.tenant, Moment(visit.now))
            }
            _ => true,
        };
        let elsewhere = || {
            let network = match visit.by {
                By::Origin(origin, _) => self.clients.at(&origin).network(),
                By::Network(network) => network,
                By::Parts => return None,
            };
            Some((&*self.buckets, network))
        };
        self.table.visit(visit, may_create, elsewhere, decide)
    }
}
