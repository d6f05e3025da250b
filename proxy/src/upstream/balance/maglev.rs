//! Which endpoint a key belongs to: a Maglev table (Eisenbud et al., NSDI 2016, §3.4). Everybody
//! gets its share of the table to one place, and few places change hands when somebody comes or
//! leaves. Made from the endpoints' texts only: all workers, processes and nodes agree.

use super::schedule::turns;
use super::siphash::{key, second};
use crate::upstream::endpoint::Member;

/// Primes. The size must not follow the number of members closely, or keys would move each time;
/// the first serves 6,553 of them at ten places each (655 at a hundred).
const SIZES: [usize; 3] = [65_537, 262_147, 1_048_583];
const LEAST_PLACES: usize = 10;

const FREE: u32 = u32::MAX;

/// Positions in `members` by key; empty without members.
pub fn table(members: &[Member]) -> Box<[u32]> {
    if members.is_empty() {
        return Box::default();
    }
    let size = size(members.len());
    let mut walks: Vec<Walk> = members.iter().map(|member| Walk::new(member, size)).collect();
    let mut table = vec![FREE; size];
    let order = turns(members);
    for at in order.iter().cycle().take(size) {
        let Some(walk) = walks.get_mut(*at as usize) else { continue };
        walk.settle(&mut table, *at);
    }
    table.into()
}

fn size(members: usize) -> usize {
    let [_, _, largest] = SIZES;
    let wanted = members.saturating_mul(LEAST_PLACES);
    SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(largest)
}

/// An endpoint's own order of all places: `place`, then every `step`th.
struct Walk {
    place: usize,
    step: usize,
}

impl Walk {
    fn new(member: &Member, size: usize) -> Walk {
        let text = member.endpoint.text.as_bytes();
        let (place, step) = (key(text) % size as u64, second(text) % (size as u64 - 1) + 1);
        Walk { place: place as usize, step: step as usize }
    }

    /// Takes the next free place of its order; the size is prime, so all places are met.
    fn settle(&mut self, table: &mut [u32], at: u32) {
        for _ in 0..table.len() {
            let place = self.place;
            self.place = place + self.step;
            if self.place >= table.len() {
                self.place -= table.len();
            }
            if let Some(free) = table.get_mut(place).filter(|taken| **taken == FREE) {
                *free = at;
                return;
            }
        }
    }
}
