//! governor over [`KeyTable`]: one quota for each key, and 16 times as much for each wider prefix.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use config::model::Rate;
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};

use super::clock::{AskedAt, LimitClock, Moment};
use super::key::{Asked, Client};
use super::table::{Buckets, KeyTable, Place, Visit};

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
        let drawn = asked.drawn.then_some(asked.client);
        let own = self.narrow.ask(asked.key, Some(asked.client.network()), drawn, now);
        match asked.aggregate {
            Some(aggregate) if own.outcome.is_ok() && own.place == Place::Own => {
                let shared = self.wide.ask(aggregate, None, None, now);
                let tighter =
                    shared.outcome.is_err() || shared.left().remaining < own.left().remaining;
                if tighter { shared } else { own }
            }
            _ => own,
        }
    }

    /// Whether this client may have one more key of this tenant (0: of none).
    fn may_create(&self, client: &Client, tenant: u64, now: Moment) -> bool {
        // Both are keyed hashes, which nobody can choose.
        let of_tenant = |hash: u64| hash ^ tenant;
        let (key, aggregate) = (of_tenant(client.narrow), client.wide.map(of_tenant));
        let client = Client { narrow: key, wide: aggregate };
        let asked = Asked { key, aggregate, client, drawn: false };
        self.ask(&asked, now).outcome.is_ok()
    }
}

/// One quota.
struct Limiter<C: LimitClock> {
    governor: RateLimiter<Visit, Store<C>, AskedAt, StateInformationMiddleware>,
    burst: u32,
    /// Nanoseconds in which one request becomes free.
    interval: u64,
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
        Limiter { governor: RateLimiter::new(quota, store, AskedAt), burst: burst.get(), interval }
    }

    #[inline(always)]
    fn ask(&self, key: u64, network: Option<u64>, drawn: Option<Client>, now: Moment) -> Answer {
        AskedAt::set(now);
        let visit = Visit {
            key,
            network,
            drawn,
            now: now.0,
            reach: self.interval.saturating_mul(u64::from(self.burst)),
            place: Cell::new(Place::Own),
        };
        let outcome = self.governor.check_key(&visit);
        let outcome =
            outcome.map_err(|refusal| refusal.earliest_possible().0.saturating_sub(now.0));
        let place = visit.place.get();
        Answer { outcome, burst: self.burst, interval: self.interval, place }
    }
}

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
    /// Whose keys these are; 0: no tenant's.
    pub tenant: u64,
}

impl<C: LimitClock> Store<C> {
    /// Nobody's in particular, of keys that clients cannot draw.
    pub fn of(table: &Arc<KeyTable<C>>) -> Store<C> {
        let buckets = table.buckets().clone();
        Store { table: table.clone(), buckets, creators: None, tenant: 0 }
    }
}

impl<C: LimitClock> StateStore for Store<C> {
    type Key = Visit;

    fn measure_and_replace<T, F, E>(&self, visit: &Visit, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let may_create = || match (&self.creators, &visit.drawn) {
            (Some(creators), Some(client)) => {
                creators.may_create(client, self.tenant, Moment(visit.now))
            }
            _ => true,
        };
        self.table.visit(visit, &self.buckets, may_create, decide)
    }
}
