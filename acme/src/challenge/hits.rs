//! Who asked for a host's challenges: what a person needs to see when a CA says that it could not.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Addresses remembered for one host: a CA looks from about half a dozen places.
pub const MAX_PEERS: usize = 16;

/// Answered questions for one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    pub count: u64,
    /// The addresses that asked, the newest last; 16 at most for each kind of challenge.
    pub peers: Vec<IpAddr>,
}

/// Counts on the workers' side without ever waiting.
#[derive(Default)]
pub struct Counter {
    count: AtomicU64,
    peers: Mutex<Vec<IpAddr>>,
}

impl Counter {
    pub fn count(&self, peer: IpAddr) {
        self.count.fetch_add(1, Ordering::Relaxed);
        // Another worker is at it: an address less in a diagnosis.
        let Ok(mut peers) = self.peers.try_lock() else { return };
        peers.retain(|known| *known != peer);
        if peers.len() >= MAX_PEERS {
            peers.remove(0);
        }
        peers.push(peer);
    }

    pub fn add_to(&self, hits: &mut Hits) {
        hits.count += self.count.load(Ordering::Relaxed);
        if let Ok(peers) = self.peers.lock() {
            hits.peers.retain(|known| !peers.contains(known));
            hits.peers.extend(peers.iter());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_addresses_are_kept_once_each() {
        let counter = Counter::default();
        let peer = |n: usize| IpAddr::from([192, 0, 2, n as u8]);
        for n in 0..MAX_PEERS + 3 {
            counter.count(peer(n));
        }
        counter.count(peer(5));
        let mut hits = Hits { count: 1, peers: vec![peer(200), peer(7)] };
        counter.add_to(&mut hits);
        assert_eq!(hits.count, MAX_PEERS as u64 + 5);
        let kept = [200, 3, 4].into_iter().chain(6..MAX_PEERS + 3).chain([5]).map(peer);
        assert_eq!(hits.peers, kept.collect::<Vec<_>>());
    }
}
