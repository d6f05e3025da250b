//! What one worker owns. `!Send` (it holds `Rc`s and `Cell`s), so the compiler proves that pools,
//! buffers and counters are not shared.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::{ArcSwap, Cache};

use crate::buffers::Buffers;
use crate::exchange::splice::Pipes;
use crate::limit::Moment;
use crate::meters::Meters;
use crate::request::decide::Tables;
use crate::request::record::LogBuffer;
use crate::route::table::Snapshot;
use crate::state::Shared;
use crate::timer::Timers;
use crate::upstream::balance::Rng;
use crate::upstream::h2::Links;
use crate::upstream::pool::Pools;
use crate::upstream::queue::Waiters;
use crate::wall::Wall;

type SnapshotCache = Cache<SharedSnapshot, Arc<Snapshot>>;

/// Gives the cache a handle on `Shared::snapshot`.
struct SharedSnapshot(Arc<Shared>);

impl std::ops::Deref for SharedSnapshot {
    type Target = ArcSwap<Snapshot>;

    fn deref(&self) -> &ArcSwap<Snapshot> {
        &self.0.snapshot
    }
}

/// One read at the cap of buffered bytes.
const SMALL_READ: usize = 2 * 1024;

/// A snapshot that this worker holds; shared within the worker without atomics.
pub struct PinnedSnapshot(Arc<Snapshot>);

impl std::ops::Deref for PinnedSnapshot {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// One worker's own things.
pub struct Local {
    pub shared: Arc<Shared>,
    newest: RefCell<SnapshotCache>,
    pinned: RefCell<Rc<PinnedSnapshot>>,
    pub timers: Rc<Timers>,
    pub buffers: Buffers,
    pub pools: Pools,
    /// HTTP/2 connections to endpoints.
    pub h2: Links,
    pub pipes: Pipes,
    pub meters: Meters,
    pub log: LogBuffer,
    pub wall: Wall,
    pub ids: RequestIds,
    /// Draws endpoints.
    pub rng: Rng,
    /// Requests of this worker that wait for an endpoint.
    pub waiters: Waiters,
    /// Client connections of this worker.
    pub connections: Cell<usize>,
    /// TLS handshakes under way on this worker.
    pub handshakes: Cell<usize>,
}

impl Local {
    pub fn new(shared: Arc<Shared>) -> Local {
        Local {
            newest: RefCell::new(Cache::new(SharedSnapshot(shared.clone()))),
            pinned: RefCell::new(Rc::new(PinnedSnapshot(shared.snapshot.load_full()))),
            timers: Rc::default(),
            buffers: Buffers::default(),
            pools: Pools::default(),
            h2: Links::default(),
            pipes: Pipes::default(),
            meters: Meters::default(),
            log: LogBuffer::default(),
            wall: Wall::default(),
            ids: RequestIds::default(),
            rng: Rng::new(seed()),
            waiters: Waiters::default(),
            connections: Cell::new(0),
            handshakes: Cell::new(0),
            shared,
        }
    }

    /// The newest snapshot. One atomic load and a plain count: workers do not contend.
    pub fn snapshot(&self) -> Rc<PinnedSnapshot> {
        let mut newest = self.newest.borrow_mut();
        let newest = newest.load();
        let mut pinned = self.pinned.borrow_mut();
        if !Arc::ptr_eq(newest, &pinned.0) {
            *pinned = Rc::new(PinnedSnapshot(newest.clone()));
        }
        pinned.clone()
    }

    /// What requests are decided by, with this snapshot.
    pub fn tables<'s>(&'s self, snapshot: &'s Snapshot, now: Moment) -> Tables<'s> {
        let shared = &self.shared;
        Tables {
            snapshot,
            challenges: &shared.challenges,
            certs: &shared.certs,
            hasher: &shared.hasher,
            passwords: &shared.passwords,
            now,
            metrics: Some(&shared.metrics),
        }
    }

    pub fn draining(&self) -> bool {
        self.shared.drain.draining()
    }

    /// How much one read may take. At the process-wide cap of buffered bytes new requests are
    /// refused, and those under way go on in small pieces: nobody starves, and what a client does
    /// not take stays small.
    pub fn read_room(&self, room: usize) -> usize {
        if self.over_buffered() { room.min(SMALL_READ) } else { room }
    }

    /// Whether buffered bytes have reached the process-wide cap.
    pub fn over_buffered(&self) -> bool {
        let buffered = self.shared.gauges.buffered.load(Ordering::Relaxed);
        buffered > 0 && buffered >= self.snapshot().limits.buffered_bytes
    }
}

/// Workers draw differently; without entropy they draw alike, which is no harm.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// Random request ids: 128 bits, drawn in batches.
pub struct RequestIds {
    pool: RefCell<(Box<[u8; RequestIds::BATCH]>, usize)>,
}

impl Default for RequestIds {
    fn default() -> Self {
        RequestIds { pool: RefCell::new((Box::new([0; Self::BATCH]), Self::BATCH)) }
    }
}

impl RequestIds {
    const BATCH: usize = 4096;

    /// 32 lower-case hex digits.
    pub fn next(&self) -> [u8; 32] {
        let (bytes, at) = &mut *self.pool.borrow_mut();
        if *at >= Self::BATCH {
            // Without entropy ids repeat; nothing else depends on them.
            let _ = aws_lc_rs::rand::fill(bytes.as_mut_slice());
            *at = 0;
        }
        let mut id = [0u8; 32];
        for (pair, byte) in id.chunks_exact_mut(2).zip(&bytes[*at..]) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        *at += 16;
        id
    }
}
