//! The mechanism of rate limits (GCRA by governor): who asked how often, in bounded memory, shared
//! by all workers. Knows no routes, no request heads and no sockets: a caller makes the key of a
//! request ([`Limit::key`]), asks ([`Limit::check`]), and holds the [`StreamGuard`] until the
//! request is over.
//!
//! No lock outlives a call, nothing here waits.

mod address_rate;
mod clock;
mod counter;
mod key;
mod rate;
mod registry;
mod slot;
mod streams;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use config::model::{KeyPart, LimitKey, Rate, RateLimit};

pub use address_rate::AddressRate;
pub use clock::{LimitClock, Moment, ProcessClock};
pub use counter::Counter;
pub use key::{Asked, Client, Key, KeyHasher, Origin, Values};
pub use rate::Left;
pub use registry::{LimitRegistry, Owner};
pub use streams::StreamGuard;
pub use table::HotKey;

use key::Clients;
use rate::{Answer, Store, Tiers};
use streams::Streams;
use table::{Buckets, KeyTable, Place, TENANT_BUCKETS};

use crate::http1::field::{FieldId, classify};

/// One limit of one route, as workers ask it.
pub struct Limit<C: LimitClock = ProcessClock> {
    /// As configured.
    pub spec: RateLimit,
    /// Its key's alternatives, each a list of parts.
    pub alternatives: Box<[Box<[Part]>]>,
    clients: Clients,
    state: Arc<State<C>>,
    /// Gives keys their places, also where there is no rate to keep.
    rate: Tiers<C>,
    /// There is nothing to say of a request within the rate, and nothing else to ask.
    only_rate: bool,
}

/// The limits of a route in the order in which they are asked: what depends on claims of the
/// client comes after its password.
#[derive(Default)]
pub struct RouteLimits {
    pub by_address: Box<[Arc<Limit>]>,
    pub by_identity: Box<[Arc<Limit>]>,
}

impl RouteLimits {
    pub fn of(limits: impl Iterator<Item = Limit>) -> RouteLimits {
        let (by_identity, by_address): (Vec<_>, Vec<_>) =
            limits.map(Arc::new).partition(|limit| limit.spec.key.is_identity());
        RouteLimits { by_address: by_address.into(), by_identity: by_identity.into() }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.by_address.iter().chain(&self.by_identity)
    }

    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty() && self.by_identity.is_empty()
    }
}

/// [`KeyPart`] with what is known before any request comes.
pub enum Part {
    ClientIp,
    /// A field by its lower-case name.
    Header(Box<str>, FieldId, Values),
    Cookie(Box<str>, Values),
    Host,
    Route,
    Tenant,
}

impl Part {
    fn compile(part: &KeyPart, hasher: &KeyHasher) -> Part {
        match part {
            KeyPart::ClientIp => Part::ClientIp,
            KeyPart::Header(name) => {
                let id = classify(name.as_bytes());
                Part::Header(name.as_str().into(), id, hasher.header_values(name))
            }
            KeyPart::Cookie(name) => Part::Cookie(name.as_str().into(), hasher.cookie_values(name)),
            KeyPart::Host => Part::Host,
            KeyPart::Route => Part::Route,
            KeyPart::Tenant => Part::Tenant,
        }
    }
}

/// The part of a limit that outlives reloads.
struct State<C: LimitClock> {
    clock: C,
    /// What its keys are made of: those of another kind mean nothing to it.
    kind: LimitKey,
    table: Arc<KeyTable<C>>,
    /// New keys by client, where clients may draw keys.
    creators: OnceLock<Creators<C>>,
    /// By tenant, where tenants share the table: a flood of one uses up nothing of another.
    buckets: Mutex<HashMap<u64, Weak<Buckets>>>,
    streams: Arc<Streams>,
    decisions: Decisions,
}

struct Creators<C: LimitClock> {
    table: Arc<KeyTable<C>>,
    tiers: Arc<Tiers<C>>,
}

/// Requests by what became of them.
#[derive(Debug, Default)]
pub struct Decisions {
    pub passed: Counter,
    pub refused: Counter,
    /// Passed, and would have been refused.
    pub dry_run: Counter,
    /// Not asked about, by their address.
    pub exempt: Counter,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    Pass(Pass),
    Refuse(Refuse),
}

#[derive(Debug)]
pub struct Pass {
    /// `None`: the limit has no rate, or does not announce what is left.
    pub left: Option<Left>,
    /// To be held until the request is over; `None`: the limit does not count streams.
    pub stream: Option<StreamGuard>,
    /// A dry run: what it would have been refused for.
    pub would_refuse: Option<Why>,
}

#[derive(Debug)]
pub struct Refuse {
    pub why: Why,
    /// The earliest time at which it may pass; 1 s where nobody can know (streams).
    pub retry_after: Duration,
    /// `None`: the limit has no rate. Nothing remains when `why` is [`Why::Rate`].
    pub left: Option<Left>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Too many requests in time.
    Rate,
    /// Too many requests under way.
    Streams,
}

impl<C: LimitClock> Limit<C> {
    fn new(
        spec: RateLimit,
        hasher: Arc<KeyHasher>,
        tenant: u64,
        state: Arc<State<C>>,
        keys: usize,
    ) -> Self {
        state.table.set_capacity(keys);
        let drawn = may_be_drawn(&spec.key);
        let clients = Clients::new(hasher, spec.prefix, tenant);
        let creators = drawn.then(|| state.creators(keys, &clients).tiers.clone());
        let (rate, burst) = spec.rate.map_or((ANY, ANY.count), |rate| (rate, spec.burst));
        let (table, buckets) = (state.table.clone(), state.buckets_of(tenant));
        let rate =
            Tiers::new(rate, burst, &Store { table, buckets, creators, clients: clients.clone() });
        let part = |part| Part::compile(part, &clients.hasher);
        let alternatives = spec.key.0.iter().map(|parts| parts.iter().map(part).collect());
        Limit {
            only_rate: spec.rate.is_some() && spec.concurrent.is_none() && !spec.announce,
            alternatives: alternatives.collect(),
            spec,
            clients,
            state,
            rate,
        }
    }

    /// The time that tests have set.
    #[cfg(test)]
    fn now(&self) -> Moment {
        self.state.clock.now()
    }

    /// Whether this address is not counted; counts the request as such then.
    #[inline(always)]
    pub fn exempts(&self, address: &IpAddr) -> bool {
        !self.spec.exempt.is_empty() && self.is_exempt(address)
    }

    #[inline(never)]
    fn is_exempt(&self, address: &IpAddr) -> bool {
        let address = address.to_canonical();
        let exempt = self.spec.exempt.iter().any(|net| net.contains(&address));
        if exempt {
            self.state.decisions.exempt.inc();
        }
        exempt
    }

    /// The client here, cut to the configured prefixes.
    #[inline(always)]
    pub fn client(&self, origin: &Origin) -> Client {
        self.clients.at(origin)
    }

    /// A key to add parts to.
    pub fn key(&self) -> Key<'_> {
        self.clients.key()
    }

    /// Counts this request, unless it is refused. `now`: not before anything that was answered, and
    /// at most a moment ago. `None`: it passes, and there is nothing to say or to hold.
    #[inline(always)]
    pub fn check(&self, asked: &Asked, now: Moment) -> Option<Verdict> {
        if !self.only_rate {
            return Some(self.judge(asked, &self.rate.ask(asked, now)));
        }
        match self.rate.refuses(asked, now) {
            None => {
                self.state.decisions.passed.inc();
                None
            }
            Some(answer) => Some(self.judge(asked, &answer)),
        }
    }

    #[inline(never)]
    fn judge(&self, asked: &Asked, answer: &Answer) -> Verdict {
        let has_rate = self.spec.rate.is_some();
        let mut refusal = answer.wait().filter(|_| has_rate).map(|wait| (Why::Rate, wait));
        let mut stream = None;
        if let Some(most) = self.spec.concurrent
            && (refusal.is_none() || self.spec.dry_run)
        {
            stream = self.enter(asked, answer.place, most);
            if stream.is_none() {
                refusal = refusal.or(Some((Why::Streams, RETRY_STREAM)));
            }
        }
        let decisions = &self.state.decisions;
        match refusal {
            Some((why, retry_after)) if !self.spec.dry_run => {
                decisions.refused.inc();
                let left = has_rate.then(|| answer.left());
                Verdict::Refuse(Refuse { why, retry_after, left })
            }
            refusal => {
                if refusal.is_some() { &decisions.dry_run } else { &decisions.passed }.inc();
                let left = (has_rate && self.spec.announce).then(|| answer.left());
                let would_refuse = refusal.map(|(why, _)| why);
                Verdict::Pass(Pass { left, stream, would_refuse })
            }
        }
    }

    /// Counts a request that has no key to count on, which is refused but for a dry run: true.
    pub fn passes_uncounted(&self) -> bool {
        let decisions = &self.state.decisions;
        if self.spec.dry_run { &decisions.dry_run } else { &decisions.refused }.inc();
        self.spec.dry_run
    }

    /// Keys without a place of their own share streams as they share the rate.
    fn enter(&self, asked: &Asked, place: Place, most: NonZeroU32) -> Option<StreamGuard> {
        let key = match place {
            Place::Shared(bucket) => self.clients.bucket(bucket),
            Place::Own => asked.key,
        };
        self.state.streams.enter(key, asked.aggregate, most.get())
    }

    pub fn decisions(&self) -> &Decisions {
        &self.state.decisions
    }

    /// The same for limits that count as one; unique while this one is there.
    pub fn state_id(&self) -> usize {
        Arc::as_ptr(&self.state).addr()
    }

    /// Keys that have a place of their own.
    pub fn keys(&self) -> usize {
        self.state.table.entries()
    }

    /// Keys that were removed because they were idle.
    pub fn evicted(&self) -> &Counter {
        self.state.table.evicted()
    }

    /// Requests that were counted in shared buckets.
    pub fn overflow(&self) -> &Counter {
        self.state.table.overflow()
    }

    /// Requests under way, where they are counted.
    pub fn streams(&self) -> usize {
        self.state.streams.open()
    }

    /// The ten busiest keys. Looks at every key: for the control plane.
    pub fn hottest(&self) -> Vec<HotKey> {
        self.state.table.hottest(HOTTEST)
    }
}

impl<C: LimitClock> State<C> {
    fn new(clock: C, kind: LimitKey, keys: usize) -> State<C> {
        State {
            table: Arc::new(KeyTable::new(clock.clone(), keys)),
            clock,
            kind,
            creators: OnceLock::new(),
            buckets: Mutex::default(),
            streams: Arc::default(),
            decisions: Decisions::default(),
        }
    }

    fn creators(&self, keys: usize, clients: &Clients) -> &Creators<C> {
        let creators = self.creators.get_or_init(|| {
            let table = Arc::new(KeyTable::new(self.clock.clone(), keys));
            let rate = Rate { count: NEW_KEYS, per: Duration::from_secs(60) };
            let tiers = Tiers::new(rate, NEW_KEYS, &Store::of(&table, clients.clone()));
            Creators { table, tiers: Arc::new(tiers) }
        });
        creators.table.set_capacity(keys);
        creators
    }

    /// For the control plane.
    fn buckets_of(&self, tenant: u64) -> Arc<Buckets> {
        if tenant == 0 {
            return self.table.buckets().clone();
        }
        let mut all = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&tenant).and_then(Weak::upgrade).unwrap_or_else(|| {
            let buckets = Arc::new(Buckets::new(TENANT_BUCKETS));
            all.insert(tenant, Arc::downgrade(&buckets));
            buckets
        })
    }

    fn sweep(&self) -> usize {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.retain(|_, buckets| buckets.strong_count() > 0);
        drop(buckets);
        if let Some(creators) = self.creators.get() {
            creators.table.sweep();
        }
        self.streams.sweep();
        self.table.sweep()
    }
}

/// Whether clients choose their keys: by what they claim, or as a host under a wildcard.
fn may_be_drawn(key: &LimitKey) -> bool {
    key.is_identity() || key.0.iter().flatten().any(|part| *part == KeyPart::Host)
}

/// New keys of one client per minute, where clients may draw keys.
const NEW_KEYS: NonZeroU32 = NonZeroU32::MIN.saturating_add(31);
/// Refuses nobody: of a limit that counts streams only, it says which keys have a place of their
/// own, or whoever draws a key for each request could have any number under way.
const ANY: Rate =
    Rate { count: NonZeroU32::MIN.saturating_add(999_999), per: Duration::from_secs(1) };
const RETRY_STREAM: Duration = Duration::from_secs(1);
const HOTTEST: usize = 10;
