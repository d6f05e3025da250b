//! When the service manager hears that all is well: at half of `WATCHDOG_USEC`, and only while the
//! control loop runs (it is who looks here) and every worker ticks. Whoever hangs ends the
//! messages, and the manager ends the process.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Looks after the workers, where the service manager wants that.
#[derive(Default)]
pub struct Watchdog(Option<Watched>);

struct Watched {
    half: Duration,
    next: Instant,
    /// Each worker's ticks when all was well last.
    seen: Vec<u64>,
    /// A stuck worker has been told of.
    told: bool,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// All workers have ticked since the last time that they all had.
    Well,
    /// This one has not. `news`: nobody has been told yet.
    Stuck { worker: usize, news: bool },
}

impl Watchdog {
    /// As `WATCHDOG_USEC` and `WATCHDOG_PID` say.
    pub fn of_environment() -> Watchdog {
        let get = |name: &str| std::env::var(name).ok();
        let (time, whose) = (get("WATCHDOG_USEC"), get("WATCHDOG_PID"));
        let half = half(time.as_deref(), whose.as_deref(), std::process::id());
        Watchdog(half.map(|half| Watched {
            half,
            next: Instant::now() + half,
            seen: Vec::new(),
            told: false,
        }))
    }

    /// Waits until it is time to look; for ever where nobody wants to know.
    pub async fn due(&self) {
        match &self.0 {
            Some(watched) => sleep_until(watched.next).await,
            None => std::future::pending().await,
        }
    }

    /// Looks at how often each worker has ticked; `None`: it has ended.
    pub fn look(&mut self, ticks: impl IntoIterator<Item = Option<u64>>) -> Look {
        let Some(watched) = &mut self.0 else { return Look::Well };
        let ticks: Vec<Option<u64>> = ticks.into_iter().collect();
        let stuck = |(worker, now): (usize, &Option<u64>)| {
            now.is_some() && *now == watched.seen.get(worker).copied()
        };
        if let Some(worker) = ticks.iter().enumerate().position(stuck) {
            watched.next = Instant::now() + watched.half.min(AGAIN);
            let news = !std::mem::replace(&mut watched.told, true);
            return Look::Stuck { worker, news };
        }
        watched.next = Instant::now() + watched.half;
        watched.seen = ticks.into_iter().map(Option::unwrap_or_default).collect();
        watched.told = false;
        Look::Well
    }
}

/// Half of the time; `None`: nobody watches, or not this process.
fn half(time: Option<&str>, whose: Option<&str>, own: u32) -> Option<Duration> {
    if whose.is_some_and(|whose| whose.parse() != Ok(own)) {
        return None;
    }
    let micros: u64 = time?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros / 2).max(SHORTEST))
}

/// A stuck worker is looked at so often: once it goes on, the manager must hear it in time.
const AGAIN: Duration = Duration::from_millis(250);
/// Some ticks of the workers.
const SHORTEST: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_time_for_this_process_only() {
        let ten = Some("10000000");
        assert_eq!(half(ten, None, 7), Some(Duration::from_secs(5)));
        assert_eq!(half(ten, Some("7"), 7), Some(Duration::from_secs(5)));
        assert_eq!(half(ten, Some("8"), 7), None);
        assert_eq!(half(ten, Some(""), 7), None);
        assert_eq!(half(None, Some("7"), 7), None);
        assert_eq!(half(Some("0"), None, 7), None);
        assert_eq!(half(Some("soon"), None, 7), None);
        assert_eq!(half(Some("1"), None, 7), Some(SHORTEST));
    }

    #[test]
    fn all_must_tick() {
        let half = Duration::from_secs(5);
        let watched = Watched { half, next: Instant::now(), seen: Vec::new(), told: false };
        let mut watchdog = Watchdog(Some(watched));
        for (ticks, expected) in [
            ([Some(0), Some(9)], Look::Well),
            ([Some(1), Some(9)], Look::Stuck { worker: 1, news: true }),
            ([Some(7), Some(9)], Look::Stuck { worker: 1, news: false }),
            ([Some(8), Some(10)], Look::Well),
            ([Some(8), None], Look::Stuck { worker: 0, news: true }),
            ([Some(9), None], Look::Well),
            ([Some(10), None], Look::Well),
            ([None, None], Look::Well),
        ] {
            let before = Instant::now();
            assert_eq!(watchdog.look(ticks), expected, "{ticks:?}");
            let wait = if expected == Look::Well { half } else { AGAIN };
            let next = watchdog.0.as_ref().unwrap().next;
            assert!(next >= before + wait && next <= Instant::now() + wait, "{ticks:?}");
        }
    }
}
