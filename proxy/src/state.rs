//! What threads share. [`Shared`] is everything that crosses threads: immutable snapshots behind
//! `ArcSwap`, atomics, one sharded map; nothing else (design.md #1). A worker's own things are in
//! `local::Local`, which is `!Send`, so the compiler proves the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use acme::challenge::Challenges;
use arc_swap::ArcSwap;

use crate::access::passwords::Passwords;
use crate::downstream::address_table::AddressTable;
use crate::downstream::cert_table::CertTable;
use crate::limit::KeyHasher;
use crate::log::Sink;
use crate::metrics::Metrics;
use crate::route::compile::empty;
use crate::route::table::Snapshot;

/// Everything that crosses threads.
pub struct Shared {
    /// Routes, upstreams, listener policies. Only `control` stores into it.
    pub snapshot: ArcSwap<Snapshot>,
    /// Certificates. Only `control` stores into it.
    pub certs: Arc<CertTable>,
    /// What validating CAs are answered. Only `control` offers and ends challenges.
    pub challenges: Arc<Challenges>,
    pub gauges: Gauges,
    /// Open connections per client address.
    pub addresses: AddressTable,
    /// Verifies the passwords of all routes.
    pub passwords: Passwords,
    /// Tells clients apart for `passwords`.
    pub hasher: KeyHasher,
    pub metrics: Metrics,
    pub drain: Drain,
    pub access_log: Sink,
}

impl Shared {
    /// Before the first configuration: no routes, no certificates, everything counted from 0.
    pub fn new(access_log: Sink) -> Shared {
        Shared {
            snapshot: ArcSwap::from_pointee(empty()),
            certs: Arc::default(),
            challenges: Arc::default(),
            gauges: Gauges::default(),
            addresses: AddressTable::default(),
            passwords: Passwords::new(),
            hasher: KeyHasher::random(),
            metrics: Metrics::new(),
            drain: Drain::default(),
            access_log,
        }
    }
}

/// Listeners counted one by one.
pub const MAX_LISTENERS: usize = 64;

/// Process-wide counts that limits are checked against.
pub struct Gauges {
    /// Open client connections by listener id; ids beyond the last share the last.
    pub connections: [AtomicUsize; MAX_LISTENERS],
    /// Open connections to endpoints, idle ones too.
    pub upstream_connections: AtomicUsize,
    /// Pipes for splicing, in use and idle.
    pub pipes: AtomicUsize,
    /// Bytes held in buffers for a peer that does not take them (design.md #17).
    pub buffered: AtomicUsize,
}

impl Default for Gauges {
    fn default() -> Self {
        Gauges {
            connections: [const { AtomicUsize::new(0) }; MAX_LISTENERS],
            upstream_connections: AtomicUsize::new(0),
            pipes: AtomicUsize::new(0),
            buffered: AtomicUsize::new(0),
        }
    }
}

/// Where the process stands on its way out.
#[derive(Default)]
pub struct Drain(AtomicU8);

impl Drain {
    const DRAINING: u8 = 1;
    const FORCED: u8 = 2;

    /// Stop accepting, finish what is under way.
    pub fn begin(&self) {
        let _ = self.0.compare_exchange(0, Self::DRAINING, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The deadline has passed or a second signal came: end everything now.
    pub fn force(&self) {
        self.0.store(Self::FORCED, Ordering::Release);
    }

    pub fn draining(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    pub fn forced(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::FORCED
    }
}
