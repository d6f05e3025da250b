//! Recent time to first byte of an endpoint: a moving average that jumps up at once and comes
//! down slowly (peak EWMA, as in Finagle), in one atomic.

use std::sync::atomic::{AtomicU64, Ordering};

/// After this time without requests 1/e is left, so that an endpoint that was slow once is tried
/// again.
const DECAY_MS: f32 = 10_000.0;

/// Microseconds as `f32` above, the low 32 bits of the process milliseconds they are from below.
/// Zero: nothing known. A float, because thousands of tiny steps per second must not round to
/// none.
#[derive(Default)]
pub struct Latency(AtomicU64);

impl Latency {
    /// A request got its first byte after `first_byte_us`, or gave up waiting for it after so
    /// long. Times of several threads may be a little out of order.
    pub fn observe(&self, first_byte_us: u64, now_ms: u64) {
        // No more than an hour, at least something: zero means unknown.
        let sample = first_byte_us.clamp(1, 3_600_000_000) as f32;
        let update = |former| {
            let value = match unpack(former) {
                Some((value, since)) if value > sample => {
                    sample + (value - sample) * left(since, now_ms)
                }
                _ => sample,
            };
            Some(pack(value, now_ms))
        };
        // The closure always has a new value.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// Microseconds, less for every moment without requests; `None`: nothing known.
    pub fn recent_us(&self, now_ms: u64) -> Option<f32> {
        let (value, since) = unpack(self.0.load(Ordering::Relaxed))?;
        Some(value * left(since, now_ms))
    }
}

/// What is left of a value from `since`: 1 to 0.
fn left(since: u32, now_ms: u64) -> f32 {
    let age = (now_ms as u32).wrapping_sub(since);
    // Another thread's clock may be ahead by a little.
    if age > u32::MAX / 2 { 1.0 } else { (-(age as f32) / DECAY_MS).exp() }
}

fn pack(value: f32, now_ms: u64) -> u64 {
    u64::from(value.to_bits()) << 32 | u64::from(now_ms as u32)
}

fn unpack(packed: u64) -> Option<(f32, u32)> {
    (packed != 0).then_some((f32::from_bits((packed >> 32) as u32), packed as u32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recent(latency: &Latency, now_ms: u64) -> f32 {
        latency.recent_us(now_ms).expect("observed")
    }

    #[test]
    fn it_jumps_up_and_comes_down_slowly() {
        let latency = Latency::default();
        assert_eq!(latency.recent_us(0), None);
        latency.observe(1_000, 0);
        latency.observe(50_000, 1);
        assert_eq!(recent(&latency, 1), 50_000.0);
        latency.observe(1_000, 10_001);
        // 1,000 + 49,000 / e.
        assert!((recent(&latency, 10_001) - 19_026.0).abs() < 1.0);
        assert!((recent(&latency, 20_001) - 6_999.3).abs() < 1.0, "less while idle");
    }

    /// A thousand answers per second bring it down as far as one.
    #[test]
    fn tiny_steps_do_not_round_to_none() {
        let latency = Latency::default();
        latency.observe(1_000, 0);
        for now_ms in 1..=30_000 {
            latency.observe(900, now_ms);
        }
        assert!((recent(&latency, 30_000) - 905.0).abs() < 1.0);
    }

    #[test]
    fn a_clock_that_is_behind_changes_nothing() {
        let latency = Latency::default();
        latency.observe(1_000, 5_000);
        latency.observe(500, 4_990);
        assert_eq!(recent(&latency, 4_980), 1_000.0);
    }

    proptest! {
        #[test]
        fn it_stays_among_what_was_seen(seen in prop::collection::vec((1u64..10_000_000, 0u64..60_000), 1..50)) {
            let latency = Latency::default();
            let mut now_ms = 0;
            for (sample, pause) in &seen {
                now_ms += pause;
                latency.observe(*sample, now_ms);
                prop_assert!(recent(&latency, now_ms) >= *sample as f32);
            }
            let most = seen.iter().map(|(sample, _)| *sample).max().unwrap_or(0);
            prop_assert!(recent(&latency, now_ms) <= most as f32);
        }
    }
}
