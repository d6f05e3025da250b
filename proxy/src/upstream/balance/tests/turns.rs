//! Round robin: exact shares, evenly interleaved, and who inherits the turns of the unusable.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::upstream::balance::Rng;
use crate::upstream::balance::schedule::{schedule, turns};

fn weights() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(1u32..=100, 1..20)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What everybody gets in one period, and its length.
fn shares(weights: &[u32]) -> (Vec<usize>, usize) {
    let divisor = weights.iter().copied().fold(0, gcd);
    let shares: Vec<usize> = weights.iter().map(|one| (one / divisor) as usize).collect();
    let period = shares.iter().sum();
    (shares, period)
}

proptest! {
    #[test]
    fn shares_are_exact_over_a_period_from_any_turn(weights in weights(), start in 0usize..100_000) {
        let members = members(&weights);
        let (table, rng) = (Table::new(&Balance::RoundRobin, None, &members), Rng::new(1));
        let (shares, period) = shares(&weights);
        let counts = counts(&mut ask(&members, &table, &rng), start..start + period);
        prop_assert_eq!(counts, shares);
    }

    /// Whatever part of the period has passed, nobody is far from its share.
    #[test]
    fn turns_are_evenly_interleaved(weights in weights()) {
        let members = members(&weights);
        let turns = turns(&members);
        let (shares, period) = shares(&weights);
        let mut counts = vec![0usize; weights.len()];
        for (passed, at) in (1..).zip(&turns) {
            counts[*at as usize] += 1;
            for (count, share) in counts.iter().zip(&shares) {
                let share = *share as f64 / period as f64;
                let due = f64::from(passed) * share;
                let slack = 1.0 + weights.len() as f64 * share;
                prop_assert!((*count as f64 - due).abs() <= slack, "{counts:?} of {shares:?}");
            }
        }
    }

    /// Workers draw turns from one cursor in any order: together they are as fair as one.
    #[test]
    fn two_workers_share_one_cursor(weights in weights(), first in prop::collection::vec(any::<bool>(), 1..200), start in 0usize..1_000_000) {
        let members = members(&weights);
        let table = Table::new(&Balance::RoundRobin, None, &members);
        let rngs = [Rng::new(1), Rng::new(2)];
        let (shares, period) = shares(&weights);
        let cursor = AtomicUsize::new(start);
        let mut counts = vec![0usize; weights.len()];
        for first in first.iter().cycle().take(period * 3) {
            let mut pick = ask(&members, &table, &rngs[usize::from(*first)]);
            pick.turn = cursor.fetch_add(1, Ordering::Relaxed);
            counts[position(pick.pick())] += 1;
        }
        let expected: Vec<usize> = shares.iter().map(|share| share * 3).collect();
        prop_assert_eq!(counts, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Any weights at all: the period is bounded, everybody has a turn, shares are right to one
    /// in 65,536 turns each.
    #[test]
    fn huge_weights_are_scaled_down(weights in prop::collection::vec(1u32..=65_535_000, 2..50)) {
        let members = members(&weights);
        let turns = turns(&members);
        prop_assert!(turns.len() <= 65_536 + members.len());
        let mut counts = vec![0usize; weights.len()];
        turns.iter().for_each(|at| counts[*at as usize] += 1);
        let sum: f64 = weights.iter().copied().map(f64::from).sum();
        for (count, weight) in counts.into_iter().zip(&weights) {
            let due = f64::from(*weight) / sum * 65_536.0;
            let exact = turns.len() < 65_000;
            prop_assert!(count >= 1 && (exact || (count as f64 - due).abs() <= 1.0));
        }
    }
}

#[test]
fn equal_weights_go_in_the_order_of_the_members_whatever_their_number() {
    let members = members(&[7; 10_000]);
    assert!(schedule(&members).is_empty());
    let (table, rng) = (Table::new(&Balance::RoundRobin, None, &members), Rng::new(1));
    let mut pick = ask(&members, &table, &rng);
    for turn in [0, 1, 9_999, 10_000, 10_001] {
        pick.turn = turn;
        assert_eq!(position(pick.pick()), turn % 10_000);
    }
}

#[test]
fn the_order_of_those_who_stay_is_kept_when_somebody_leaves() {
    let members = members(&[5, 3, 1, 4, 2]);
    let ids = |members: &[Member]| -> Vec<u32> {
        turns(members).iter().map(|at| members[*at as usize].endpoint.id).collect()
    };
    let mut before = ids(&members);
    before.retain(|id| *id != 3);
    let left: Vec<Member> = members.into_iter().filter(|one| one.endpoint.id != 3).collect();
    assert_eq!(before, ids(&left));
}

/// The next in turn must not get the share of both.
#[test]
fn the_turns_of_an_unusable_one_go_to_all_others() {
    let members = members(&[1, 1, 1, 3]);
    fail_check(&members[0]);
    let (table, rng) = (Table::new(&Balance::RoundRobin, None, &members), Rng::new(1));
    let counts = counts(&mut ask(&members, &table, &rng), 0..30_000);
    assert_eq!(counts[0], 0);
    for (count, share) in counts.iter().zip([0.0, 0.2, 0.2, 0.6]).skip(1) {
        assert!(near(*count, 30_000, share), "{counts:?}");
    }
}
