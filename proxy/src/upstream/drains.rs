//! Addresses that the operator has taken out, by upstream. A mark outlives its endpoint for a
//! while: names that resolve now to this address and now to that one must not put it back.

use std::collections::HashMap;

use config::value::Name;

use super::endpoint::Target;

/// Owned by the control thread, applied to every endpoint that is made.
#[derive(Default)]
pub struct Drains(HashMap<(Name, Target), LastSeen>);

/// Process milliseconds at which it was an endpoint last.
type LastSeen = u64;

/// Later, whoever gets the address is somebody else.
const KEPT_MS: u64 = 10 * 60 * 1000;

impl Drains {
    /// False: it was drained already.
    pub fn insert(&mut self, upstream: &Name, target: &Target, now_ms: u64) -> bool {
        self.0.insert((upstream.clone(), target.clone()), now_ms).is_none()
    }

    /// False: it was not drained.
    pub fn remove(&mut self, upstream: &Name, target: &Target) -> bool {
        self.0.remove(&(upstream.clone(), target.clone())).is_some()
    }

    pub fn contains(&self, upstream: &Name, target: &Target) -> bool {
        // Asked for each of many endpoints that appear; cloned only in the rare case.
        !self.0.is_empty() && self.0.contains_key(&(upstream.clone(), target.clone()))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Target)> {
        self.0.keys().map(|(upstream, target)| (upstream, target))
    }

    /// Forgets, and returns, what has been no endpoint for ten minutes.
    pub fn sweep(
        &mut self,
        now_ms: u64,
        is_endpoint: impl Fn(&Name, &Target) -> bool,
    ) -> Vec<(Name, Target)> {
        let mut forgotten = Vec::new();
        self.0.retain(|(upstream, target), seen| {
            if is_endpoint(upstream, target) {
                *seen = now_ms;
            }
            let kept = now_ms.saturating_sub(*seen) < KEPT_MS;
            if !kept {
                forgotten.push((upstream.clone(), target.clone()));
            }
            kept
        });
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_lasts_while_there_is_an_endpoint_and_ten_minutes_more() {
        let mut drains = Drains::default();
        let (u, v) = (Name::new("u").unwrap(), Name::new("v").unwrap());
        let one = Target::parse("192.0.2.1:80").unwrap();
        assert!(drains.insert(&u, &one, 0) && !drains.insert(&u, &one, 0));
        assert!(drains.contains(&u, &one) && !drains.contains(&v, &one));
        let late = 7 * KEPT_MS;
        assert_eq!(drains.sweep(late, |_, _| true), []);
        assert_eq!(drains.sweep(late + KEPT_MS - 1, |_, _| false), []);
        assert_eq!(drains.sweep(late + KEPT_MS, |_, _| false), [(u.clone(), one.clone())]);
        assert!(!drains.contains(&u, &one) && !drains.remove(&u, &one));
    }
}
