//! Whether an endpoint can be used, and why not: what health checks say, what requests met, what
//! the operator wants. Atomics, because the control thread and every worker write.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// The condition of one endpoint.
pub struct Condition {
    health: AtomicU8,
    drained: AtomicBool,
    gone: AtomicBool,
    /// Process milliseconds since which it takes traffic (again): slow start runs from here.
    since_ms: AtomicU64,
}

/// What health checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Nobody asks.
    Unchecked = 0,
    /// No verdict yet: used only while nothing better is there.
    Starting = 1,
    Healthy = 2,
    Unhealthy = 3,
}

impl Condition {
    pub fn new(now_ms: u64) -> Condition {
        Condition {
            health: AtomicU8::new(Health::Unchecked as u8),
            drained: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            since_ms: AtomicU64::new(now_ms),
        }
    }

    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            1 => Health::Starting,
            2 => Health::Healthy,
            3 => Health::Unhealthy,
            _ => Health::Unchecked,
        }
    }

    /// The control thread's verdict; an endpoint that recovers starts slowly.
    pub fn set_health(&self, health: Health, now_ms: u64) {
        let former = self.health.swap(health as u8, Ordering::Relaxed);
        if health == Health::Healthy && former != Health::Healthy as u8 {
            self.restart(now_ms);
        }
    }

    /// The operator takes it out, or back in.
    pub fn set_drained(&self, drained: bool, now_ms: u64) {
        if self.drained.swap(drained, Ordering::Relaxed) && !drained {
            self.restart(now_ms);
        }
    }

    pub fn drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// It is no member of its upstream any more (or is again): idle connections are closed.
    pub fn set_gone(&self, gone: bool, now_ms: u64) {
        if self.gone.swap(gone, Ordering::Relaxed) && !gone {
            self.restart(now_ms);
        }
    }

    pub fn gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Slow start begins anew.
    pub fn restart(&self, now_ms: u64) {
        self.since_ms.store(now_ms, Ordering::Relaxed);
    }

    pub fn since_ms(&self) -> u64 {
        self.since_ms.load(Ordering::Relaxed)
    }
}
