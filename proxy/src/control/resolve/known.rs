//! What is known of one name or service, and when to ask again. Pure: time is handed in.
//!
//! The last good answer stays through every failure, NXDOMAIN included: DNS that is broken or
//! half-way through a change takes no traffic away. A valid answer without records is different, a
//! service scaled to zero says just that; it is believed after [`EMPTY_MS`], or at once where
//! nothing is known that it could contradict.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::lookup::{ByName, Found, Outcome};
use crate::upstream::endpoint::Resolved;

#[derive(Default)]
pub struct Known {
    /// Sorted, each once; `None`: never resolved.
    pub addresses: Option<Arc<[Resolved]>>,
    /// The last good answer, by name.
    pub by_name: Arc<ByName>,
    /// Why the last answer was none, or not whole.
    pub error: Option<String>,
    /// Of the last good answer, as DNS gave it.
    pub ttl: Duration,
    /// Failed questions in a row.
    failures: u32,
    /// Process milliseconds of the first valid answer without records since the last one with.
    empty_since: Option<u64>,
    /// Refused addresses that were logged.
    refused: Vec<IpAddr>,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Next {
    /// The addresses are other ones now.
    pub changed: bool,
    /// Ask again after this time.
    pub after: Duration,
}

impl Known {
    /// Nothing has been heard of it, neither good nor bad.
    pub fn is_unasked(&self) -> bool {
        self.addresses.is_none() && self.error.is_none()
    }

    pub fn take(&mut self, name: &str, outcome: Outcome, now_ms: u64) -> Next {
        match outcome {
            Outcome::Found(found) => self.found(name, found),
            Outcome::Empty => self.empty(name, now_ms),
            Outcome::Failed(why) => self.failed(name, &why),
        }
    }

    fn found(&mut self, name: &str, found: Found) -> Next {
        let addresses = self.admit(name, found.addresses);
        if addresses.is_empty() {
            return self.failed(name, "no address that may be used");
        }
        if self.failures > 0 || self.empty_since.is_some() {
            tracing::info!("{name} resolves again");
        }
        self.failures = 0;
        self.empty_since = None;
        self.by_name = Arc::new(found.by_name);
        self.ttl = found.ttl;
        let most = if found.doubt.is_some() { MAX_RETRY } else { MAX_TTL };
        self.error = found.doubt;
        let after = found.ttl.clamp(MIN_TTL, most);
        Next { changed: self.replace(addresses), after }
    }

    fn empty(&mut self, name: &str, now_ms: u64) -> Next {
        let since = *self.empty_since.get_or_insert(now_ms);
        let mut next = self.failed(name, "DNS has no address for it");
        if self.addresses.is_none() || now_ms.saturating_sub(since) >= EMPTY_MS {
            self.by_name = Arc::default();
            next.changed = self.replace(Vec::new());
        }
        next
    }

    fn failed(&mut self, name: &str, why: &str) -> Next {
        if self.failures == 0 {
            let kept = if self.addresses.is_some() { "; the last good answer stays" } else { "" };
            tracing::warn!("{name} does not resolve: {why}{kept}");
        }
        let after = Duration::from_secs(1 << self.failures.min(8)).min(MAX_RETRY);
        self.failures = self.failures.saturating_add(1);
        self.error = Some(why.to_owned());
        Next { changed: false, after }
    }

    fn replace(&mut self, addresses: Vec<Resolved>) -> bool {
        let changed = self.addresses.as_deref() != Some(&addresses[..]);
        if changed {
            self.addresses = Some(addresses.into());
        }
        changed
    }

    /// Sorted, once each, and without addresses that DNS must not lead to.
    fn admit(&mut self, name: &str, mut found: Vec<Resolved>) -> Vec<Resolved> {
        found.sort_unstable();
        found.dedup_by_key(|one| one.address);
        let mut refused: Vec<IpAddr> = found.iter().map(|one| one.address.ip()).collect();
        refused.retain(|ip| is_forbidden(*ip));
        found.retain(|one| !is_forbidden(one.address.ip()));
        if refused != self.refused {
            for address in refused.iter().take(LOGGED) {
                tracing::warn!(
                    "{name} resolves to {address}: link-local and metadata addresses are \
                     used only where the configuration writes them as such"
                );
            }
            self.refused = refused;
        }
        found
    }
}

/// Addresses that serve credentials to whoever asks from this machine, and their like.
fn is_forbidden(address: IpAddr) -> bool {
    /// The metadata service of EC2 over IPv6.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == METADATA,
    }
}

/// Bounds of the time that an answer is taken for true.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(60);
/// After failures: 1 s, 2 s, 4 s, then this.
const MAX_RETRY: Duration = Duration::from_secs(5);
/// An answer without records takes addresses away when it has held for this long.
pub const EMPTY_MS: u64 = 30_000;
const LOGGED: usize = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn says(addresses: &[&str], ttl: u64) -> Outcome {
        let resolved = |text: &&str| {
            let ip: IpAddr = text.parse().unwrap();
            Resolved { address: (ip, 0).into(), weight: 1 }
        };
        let addresses = addresses.iter().map(resolved).collect();
        Outcome::Found(Found { addresses, ttl: Duration::from_secs(ttl), ..Found::default() })
    }

    fn fails() -> Outcome {
        Outcome::Failed("SERVFAIL".to_owned())
    }

    fn shown(known: &Known) -> Option<Vec<String>> {
        let addresses = known.addresses.as_ref()?;
        Some(addresses.iter().map(|one| one.address.ip().to_string()).collect())
    }

    #[test]
    fn the_last_good_answer_is_kept() {
        let mut known = Known::default();
        assert!(!known.take("api", fails(), 0).changed);
        assert_eq!(shown(&known), None);
        assert!(known.take("api", says(&["192.0.2.2", "192.0.2.1"], 30), 0).changed);
        let both = Some(vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()]);
        assert_eq!(shown(&known), both);
        assert_eq!(known.error, None);
        // The order of an answer means nothing.
        let again = says(&["192.0.2.1", "192.0.2.2", "192.0.2.1"], 30);
        assert!(!known.take("api", again, 0).changed);
        for now in (0..3_600_000).step_by(5_000) {
            assert!(!known.take("api", fails(), now).changed);
        }
        assert_eq!(shown(&known), both);
        assert_eq!(known.error.as_deref(), Some("SERVFAIL"));
        assert!(known.take("api", says(&["192.0.2.3"], 30), 0).changed);
        assert_eq!(known.error, None);
    }

    #[test]
    fn names_do_not_lead_to_metadata() {
        let mut known = Known::default();
        let forbidden = ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254"];
        assert!(!known.take("evil", says(&forbidden, 5), 0).changed);
        assert_eq!(shown(&known), None);
        assert!(known.take("evil", says(&["169.254.1.1", "192.0.2.1"], 5), 0).changed);
        assert_eq!(shown(&known), Some(vec!["192.0.2.1".to_owned()]));
    }

    #[test]
    fn failures_back_off_and_good_answers_last_for_their_ttl() {
        let mut known = Known::default();
        let after = |known: &mut Known, outcome| known.take("api", outcome, 0).after.as_secs();
        let waits: Vec<u64> = (0..6).map(|_| after(&mut known, fails())).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5, 5]);
        for (ttl, waited) in [(0, 1), (1, 1), (7, 7), (60, 60), (86_400, 60)] {
            assert_eq!(after(&mut known, says(&["192.0.2.1"], ttl)), waited);
        }
        assert_eq!(after(&mut known, fails()), 1);
        let doubtful = Outcome::Found(Found {
            doubt: Some("AAAA: SERVFAIL".to_owned()),
            ttl: MAX_TTL,
            addresses: vec![Resolved { address: "192.0.2.1:0".parse().unwrap(), weight: 1 }],
            ..Found::default()
        });
        assert_eq!(after(&mut known, doubtful), 5);
    }

    #[test]
    fn an_empty_answer_is_believed_when_it_has_held_for_thirty_seconds() {
        let mut known = Known::default();
        known.take("api", says(&["192.0.2.1"], 5), 0);
        assert!(!known.take("api", Outcome::Empty, 10_000).changed);
        assert!(!known.take("api", fails(), 20_000).changed);
        assert!(!known.take("api", Outcome::Empty, 39_999).changed);
        assert_eq!(shown(&known), Some(vec!["192.0.2.1".to_owned()]));
        assert!(known.take("api", Outcome::Empty, 40_000).changed);
        assert_eq!(shown(&known), Some(Vec::new()));
        assert!(!known.take("api", Outcome::Empty, 45_000).changed);
        assert!(known.take("api", says(&["192.0.2.1"], 5), 50_000).changed);
        // Counted from the first empty answer after a good one.
        assert!(!known.take("api", Outcome::Empty, 90_000).changed);
        // Nothing is known that it could contradict.
        let mut new = Known::default();
        assert!(new.take("api", Outcome::Empty, 0).changed);
        assert_eq!(shown(&new), Some(Vec::new()));
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            (proptest::collection::vec(0u8..4, 1..4), 0u64..100).prop_map(|(ends, ttl)| {
                let texts: Vec<String> = ends.iter().map(|end| format!("192.0.2.{end}")).collect();
                says(&texts.iter().map(String::as_str).collect::<Vec<_>>(), ttl)
            }),
            Just(Outcome::Empty),
            Just(Outcome::Failed("no answer".to_owned())),
        ]
    }

    proptest! {
        /// Whatever comes: once resolved is resolved for good, only an empty answer empties, a
        /// change is told exactly when there is one, and the next question comes in 1 s to 60 s.
        #[test]
        fn invariants(outcomes in proptest::collection::vec((outcome(), 0u64..20_000), 0..60)) {
            let (mut known, mut now) = (Known::default(), 0);
            for (outcome, pause) in outcomes {
                now += pause;
                let before = shown(&known);
                let was_empty = outcome == Outcome::Empty;
                let next = known.take("api", outcome, now);
                let after = shown(&known);
                prop_assert_eq!(next.changed, before != after);
                prop_assert!(before.is_none() || after.is_some());
                prop_assert!(after.as_ref().is_none_or(|now| !now.is_empty())
                    || was_empty || before == after);
                prop_assert!(next.after >= MIN_TTL && next.after <= MAX_TTL);
            }
        }
    }
}
