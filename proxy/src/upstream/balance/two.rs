//! The better of two: least request and peak EWMA. Drawing two and taking the better one is
//! nearly as good as knowing the best of all, and no worker herds with the others (Mitzenmacher,
//! 2001).

use std::sync::atomic::Ordering;

use crate::upstream::endpoint::Member;

/// Expected of an endpoint that has not answered yet but has requests under way: others come
/// first until it does. Microseconds.
const UNKNOWN_US: f32 = 1_000_000.0;

/// Whether `b` has fewer requests under way than `a`, by weight.
pub fn less_busy(a: &Member, b: &Member) -> bool {
    let requests = |member: &Member| member.endpoint.load.requests.load(Ordering::Relaxed) as u128;
    requests(b) * u128::from(a.weight) < requests(a) * u128::from(b.weight)
}

/// Whether `b` is expected to answer earlier than `a`.
pub fn faster(a: &Member, b: &Member, now_ms: u64) -> bool {
    cost(b, now_ms) < cost(a, now_ms)
}

/// Recent time to first byte times requests; nothing for an endpoint that is unknown and idle.
fn cost(member: &Member, now_ms: u64) -> f32 {
    let load = &member.endpoint.load;
    let requests = load.requests.load(Ordering::Relaxed) as f32;
    match load.latency.recent_us(now_ms) {
        Some(latency) => latency * (requests + 1.0),
        None => UNKNOWN_US * requests,
    }
}
