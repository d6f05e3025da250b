//! How long an endpoint keeps idle connections: learnt from its `Keep-Alive` field and from closes
//! that were seen, and undercut, so that no request meets a connection that is about to close.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Idle connections are given up this long before the endpoint would close them.
const MARGIN_MS: u32 = 1_000;
/// No less is ever learnt: endpoints that close earlier get fresh connections nearly always.
const LEAST_MS: u32 = 250;
/// No more is ever believed.
const MOST_MS: u32 = 60_000;
/// A connection that was closed younger than this tells of a restart, not of a habit.
const HABIT_MS: u64 = 1_000;
/// What was observed is put to the test no more often: each close that is met may meet a request.
const TRUSTED_MS: u64 = 60_000;

/// What is known of one endpoint, in milliseconds; 0: nothing.
#[derive(Debug, Default)]
pub struct KeepAlive {
    /// From `Keep-Alive: timeout=N`, less the margin.
    announced: AtomicU32,
    /// From closes, less the margin.
    observed: AtomicU32,
    /// When `observed` was last put to the test, on the process's clock.
    tested: AtomicU64,
}

impl KeepAlive {
    /// For how long a connection may stay idle: `configured`, less where less was learnt.
    pub fn limit(&self, configured: Duration) -> Duration {
        let configured = u32::try_from(configured.as_millis()).unwrap_or(u32::MAX);
        let announced = self.announced.load(Ordering::Relaxed);
        let observed = self.observed.load(Ordering::Relaxed);
        let learnt = [announced, observed].into_iter().filter(|ms| *ms > 0);
        Duration::from_millis(learnt.fold(configured, u32::min).into())
    }

    /// The endpoint has sent `Keep-Alive` with this value (RFC 2068 §19.7.1.1; Node and Apache do).
    pub fn announced(&self, value: &[u8]) {
        let Some(seconds) = timeout(value) else { return };
        let ms = seconds.saturating_mul(1000).saturating_sub(MARGIN_MS).clamp(LEAST_MS, MOST_MS);
        if self.announced.load(Ordering::Relaxed) != ms {
            self.announced.store(ms, Ordering::Relaxed);
        }
    }

    /// The endpoint has closed a connection that had been idle for this long.
    pub fn closed(&self, idle_ms: u64, now_ms: u64) {
        if idle_ms < HABIT_MS {
            return;
        }
        let idle = u32::try_from(idle_ms).unwrap_or(u32::MAX);
        let ms = idle.saturating_sub(MARGIN_MS).clamp(LEAST_MS, MOST_MS);
        let observed = self.observed.load(Ordering::Relaxed);
        if observed == 0 || ms < observed {
            self.observed.store(ms, Ordering::Relaxed);
            self.tested.store(now_ms, Ordering::Relaxed);
        }
    }

    /// The endpoint has kept a connection for all of [`KeepAlive::limit`]: a single early close
    /// does not hold for ever, a habit is met again and learnt again. One step a minute, however
    /// many connections say so: from 2 s to 3 s takes 7 minutes, from the least to 4 s 46.
    pub fn outlasted(&self, now_ms: u64) {
        let observed = self.observed.load(Ordering::Relaxed);
        let tested = self.tested.load(Ordering::Relaxed);
        if observed == 0 || now_ms.saturating_sub(tested) < TRUSTED_MS {
            return;
        }
        // One of the workers does it, and none undoes a close that another saw meanwhile.
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.tested.compare_exchange(tested, now_ms, set, get).is_ok() {
            let more = observed.saturating_add(observed / 16 + 1);
            let _ = self.observed.compare_exchange(observed, more, set, get);
        }
    }
}

/// `timeout=5, max=100`, in seconds.
fn timeout(value: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(value).ok()?;
    text.split(',').find_map(|part| {
        let (name, seconds) = part.trim().split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("timeout") {
            return None;
        }
        seconds.trim().trim_matches('"').parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 5_000;
    const CONFIGURED: Duration = Duration::from_secs(4);

    fn limit_ms(learnt: &KeepAlive) -> u128 {
        learnt.limit(CONFIGURED).as_millis()
    }

    #[test]
    fn the_announced_time_is_undercut() {
        for (value, ms) in [
            ("timeout=5", 4000),
            ("timeout=5, max=100", 4000),
            ("max=3,Timeout = 75", 4000),
            ("max=3,Timeout = 4", 3000),
            ("timeout=2", 1000),
            ("timeout=1", 250),
            ("timeout=0", 250),
            ("timeout=99999999999", 4000),
            ("max=5", 4000),
            ("", 4000),
        ] {
            let learnt = KeepAlive::default();
            learnt.announced(value.as_bytes());
            assert_eq!(limit_ms(&learnt), ms, "{value}");
        }
    }

    #[test]
    fn closes_only_shorten_and_are_forgotten_slowly() {
        let learnt = KeepAlive::default();
        learnt.closed(999, NOW);
        assert_eq!(limit_ms(&learnt), 4000, "a restart is no habit");
        learnt.closed(9_000, NOW);
        assert_eq!(limit_ms(&learnt), 4000);
        learnt.closed(3_000, NOW);
        assert_eq!(limit_ms(&learnt), 2000);
        learnt.closed(3_500, NOW);
        assert_eq!(limit_ms(&learnt), 2000);
        learnt.announced(b"timeout=30");
        assert_eq!(limit_ms(&learnt), 2000, "what was seen counts more than what was said");
        assert_eq!(learnt.limit(Duration::from_millis(500)).as_millis(), 500);
        for ms in [0, 1, TRUSTED_MS - 1] {
            learnt.outlasted(NOW + ms);
            assert_eq!(limit_ms(&learnt), 2000, "hundreds may say so at once");
        }
        learnt.outlasted(NOW + TRUSTED_MS);
        learnt.outlasted(NOW + TRUSTED_MS);
        assert_eq!(limit_ms(&learnt), 2126);
        learnt.closed(3_000, NOW + TRUSTED_MS);
        assert_eq!(limit_ms(&learnt), 2000);
    }
}
