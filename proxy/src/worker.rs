//! One data-plane thread: its runtime, its accept loops, its tick, its end.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::JoinSet;

use crate::downstream::listener::{self, Listening};
use crate::local::Local;
use crate::state::Shared;
use crate::timer::TICK;

/// How long a forced end may take: every timer has fired, tasks only have to close.
const FORCED_END: Duration = Duration::from_millis(500);

/// A worker as the control thread sees it.
pub struct Worker {
    thread: JoinHandle<()>,
    ticks: Arc<AtomicU64>,
}

impl Worker {
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// How often it has ticked; it does so every [`TICK`] unless it hangs. `None`: it has ended.
    pub fn ticks(&self) -> Option<u64> {
        (!self.is_finished()).then(|| self.ticks.load(Ordering::Relaxed))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It has panicked.
    pub fn join(self) -> std::thread::Result<()> {
        self.thread.join()
    }
}

/// Starts worker `index` on its listening sockets. The thread ends when a drain has begun and its connections are gone, or when it is forced.
pub fn start(index: usize, shared: Arc<Shared>, sockets: Vec<Listening>) -> io::Result<Worker> {
    let runtime = Builder::new_current_thread();
    let ticks = Arc::new(AtomicU64::new(0));
    let counted = ticks.clone();
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let mut builder = runtime;
        match builder.enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime.block_on(run(Rc::new(Local::new(shared)), sockets, &counted)),
            Err(error) => tracing::error!(%error, "worker runtime could not be made"),
        }
    })?;
    Ok(Worker { thread, ticks })
}

async fn run(local: Rc<Local>, sockets: Vec<Listening>, ticks: &AtomicU64) {
    let mut accepting = JoinSet::new();
    local.wall.tick();
    local.timers.tick(false, false);
    for Listening { id, socket, after } in sockets {
        match TcpListener::from_std(socket) {
            Ok(socket) => {
                accepting.spawn_local(listener::accept_loop(local.clone(), id, socket, after));
            }
            Err(error) => tracing::error!(%error, "listening socket could not be used"),
        }
    }
    tick_until_drained(&local, &mut accepting, ticks).await;
    end(&local).await;
}

async fn tick_until_drained(local: &Local, accepting: &mut JoinSet<()>, count: &AtomicU64) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut draining, mut generation) = (false, 0);
    while !local.shared.drain.forced() {
        ticks.tick().await;
        count.fetch_add(1, Ordering::Relaxed);
        let begins = local.draining() && !draining;
        draining |= begins;
        tick(local, begins);
        let now = local.snapshot().generation;
        if std::mem::replace(&mut generation, now) != now {
            local.meters.forget();
        }
        if begins {
            local.pools.clear();
        }
        while accepting.try_join_next().is_some() {}
        if draining && accepting.is_empty() && local.connections.get() == 0 {
            return;
        }
    }
}

fn tick(local: &Local, all: bool) {
    local.wall.tick();
    local.waiters.clear();
    local.timers.tick(all, local.shared.drain.forced());
    local.pools.sweep(local.timers.now_ms());
    // Near the process-wide limit idle connections are given up, so that another worker may dial.
    let open = local.shared.gauges.upstream_connections.load(Ordering::Relaxed);
    if open >= local.snapshot().limits.upstream_connections.saturating_mul(15) / 16 {
        local.pools.clear();
        local.h2.close_idle();
    }
    local.meters.flush();
    local.log.flush(local);
}

/// Lets tasks see that everything is over, then writes the last books.
async fn end(local: &Local) {
    let steps = FORCED_END.as_millis() / TICK.as_millis();
    for _ in 0..steps {
        tick(local, true);
        if local.connections.get() == 0 {
            break;
        }
        tokio::time::sleep(TICK).await;
    }
    tick(local, true);
}
