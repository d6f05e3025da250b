//! The order of turns by weight: everybody as often as its weight says, evenly interleaved.

use super::rng::mix;
use super::siphash::key;
use crate::upstream::endpoint::Member;

/// Turns of one period, before the least turn of everybody is added. Weights whose sum is above
/// are scaled down: the error of a share is below 1 / 65,536 then.
const MAX_TURNS: u64 = 65_536;

/// One period of turns as positions in `members`; empty when all weights are equal (the order is
/// that of the members then). At most `MAX_TURNS` + number of members long.
pub fn schedule(members: &[Member]) -> Box<[u32]> {
    if equal(members) { Box::default() } else { turns(members).into() }
}

pub fn equal(members: &[Member]) -> bool {
    members.windows(2).all(|pair| matches!(pair, [a, b] if a.weight == b.weight))
}

/// One period of turns. Turn k of somebody with weight w is at (k + phase) / w of the period. The
/// phase is taken from the endpoint's text, so that the others keep their order when one leaves.
pub fn turns(members: &[Member]) -> Vec<u32> {
    let counts = counts(members);
    let mut placed = Vec::with_capacity(counts.iter().map(|count| *count as usize).sum());
    for (at, (member, count)) in members.iter().zip(&counts).enumerate() {
        let phase = mix(key(member.endpoint.text.as_bytes())) >> 32;
        for turn in 0..*count {
            // Fixed point, 32 bits of fraction: exact enough for 2^32 turns.
            placed.push(((((turn << 32) + phase) / count), at as u32));
        }
    }
    placed.sort_unstable();
    placed.into_iter().map(|(_, at)| at).collect()
}

/// How many turns everybody has in a period: weights by their greatest common divisor, scaled
/// down to `MAX_TURNS` when they are too many, at least one.
fn counts(members: &[Member]) -> Vec<u64> {
    let weights = || members.iter().map(|member| u64::from(member.weight.max(1)));
    let divisor = weights().fold(0, gcd).max(1);
    let sum: u64 = weights().sum::<u64>() / divisor;
    let scaled = |weight: u64| match weight / divisor {
        weight if sum <= MAX_TURNS => weight,
        weight => ((weight * MAX_TURNS + sum / 2) / sum).max(1),
    };
    weights().map(scaled).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
