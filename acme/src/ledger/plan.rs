//! How long the first issuance of many certificates takes under the limits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::windows::{self, Of, Window, free_at};
use super::{Ledger, Limits, Request};

/// The answer of [`estimate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// From now until the last order may be placed, in seconds. What the CA itself takes is not
    /// in it.
    pub seconds: i64,
    /// The limit that the last one waits for; `None`: nothing is in the way.
    pub why: Option<String>,
}

/// When the last of these orders may be placed if every one succeeds at once and each is placed
/// as early as its limits allow, in the order given where several may.
pub fn estimate(now: i64, ledger: &Ledger, limits: &Limits, requests: &[Request<'_>]) -> Plan {
    let mut known: HashMap<(&str, Of<'_>), Vec<i64>> = HashMap::new();
    let windows: Vec<Vec<Window<'_>>> =
        requests.iter().map(|request| windows::of(limits, request)).collect();
    for (request, windows) in requests.iter().zip(&windows) {
        for window in windows {
            let key = (request.account, window.of.clone());
            let times = || ledger.times(now, request.account, window);
            known.entry(key).or_insert_with(times);
        }
    }
    let mut waiting: BinaryHeap<Reverse<(i64, usize)>> =
        (0..requests.len()).map(|index| Reverse((now, index))).collect();
    let mut plan = Plan { seconds: 0, why: None };
    let mut reasons: Vec<Option<String>> = vec![None; requests.len()];
    while let Some(Reverse((at, index))) = waiting.pop() {
        let (Some(request), Some(windows)) = (requests.get(index), windows.get(index)) else {
            continue;
        };
        let blocked = windows.iter().find_map(|window| {
            let times = known.get(&(request.account, window.of.clone()))?;
            let free = free_at(times, window.span, window.limit, at);
            (free > at).then(|| (free, window.to_string()))
        });
        if let Some((free, why)) = blocked {
            if let Some(reason) = reasons.get_mut(index) {
                *reason = Some(why);
            }
            waiting.push(Reverse((free, index)));
            continue;
        }
        let mut noted: Vec<&Of<'_>> = Vec::new();
        for window in windows {
            // A set has two windows over the same events; failures are not expected.
            if matches!(window.of, Of::Host(_)) || noted.contains(&&window.of) {
                continue;
            }
            noted.push(&window.of);
            if let Some(times) = known.get_mut(&(request.account, window.of.clone())) {
                times.push(at);
            }
        }
        let seconds = at.saturating_sub(now);
        if seconds > plan.seconds {
            plan = Plan { seconds, why: reasons.get_mut(index).and_then(Option::take) };
        }
    }
    plan
}
