//! How long the machine kept everybody waiting: a wait that is no longer than that says nothing
//! about the edge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use benches::Result;

use crate::backend::spawn;

/// Two threads that only sleep, and note when they are late.
pub struct Stall {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Duration>>,
}

impl Stall {
    pub fn watch() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let one = |_| {
            let stop = stop.clone();
            Ok(spawn(move || late(&stop))?)
        };
        let threads = (0..2).map(one).collect::<Result<_>>()?;
        Ok(Self { stop, threads })
    }

    /// The longest since the start.
    pub fn finish(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().filter_map(|t| t.join().ok()).max().unwrap_or_default()
    }
}

fn late(stop: &AtomicBool) -> Duration {
    let mut most = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        thread::sleep(STEP);
        most = most.max(start.elapsed().saturating_sub(STEP));
    }
    most
}

const STEP: Duration = Duration::from_millis(10);
