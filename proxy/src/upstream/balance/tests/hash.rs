//! Consistent hashing and sticky cookies: keys stay where they are.

use proptest::prelude::*;

use super::*;
use crate::upstream::balance::rng::mix;
use crate::upstream::balance::{Rng, key, maglev, sticky_id};

/// Who owns each place, by id.
fn owners(members: &[Member]) -> Vec<u32> {
    maglev::table(members).iter().map(|at| members[*at as usize].endpoint.id).collect()
}

fn pick_key<'a>(mut pick: Pick<'a>, number: u64) -> Picked<'a> {
    pick.key = Some(key(&number.to_le_bytes()));
    pick.pick()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Everybody has its share of the table, to a few places.
    #[test]
    fn places_are_by_weight(weights in prop::collection::vec(1u32..=1000, 1..100)) {
        let members = members(&weights);
        let owners = owners(&members);
        let sum: f64 = weights.iter().copied().map(f64::from).sum();
        for (id, weight) in (1..).zip(&weights) {
            let share = f64::from(*weight) / sum;
            let count = owners.iter().filter(|owner| **owner == id).count() as f64;
            let slack = 3.0 + members.len() as f64 * share;
            prop_assert!((count - share * owners.len() as f64).abs() <= slack, "{count} of {share}");
        }
    }

    /// One leaves: few places of the others change hands. The order of members does not matter.
    #[test]
    fn few_keys_move_when_one_leaves(
        weights in prop::collection::vec(1u32..=10, 2..60), leaver: prop::sample::Index, equal: bool
    ) {
        let weights = if equal { vec![1; weights.len()] } else { weights };
        let mut members = members(&weights);
        let before = owners(&members);
        members.reverse();
        prop_assert_eq!(&before, &owners(&members));
        let gone = members.swap_remove(leaver.index(members.len())).endpoint.id;
        let after = owners(&members);
        let moved = before.iter().zip(&after).filter(|(a, b)| **a != gone && a != b).count();
        prop_assert!(moved * 100 <= before.len() * MOVED_PERCENT, "{moved} of {}", before.len());
    }

    /// Unusable ones lose their keys, to all others; nobody else's keys move.
    #[test]
    fn keys_of_usable_endpoints_stay(out in prop::collection::vec(any::<bool>(), 2..12), seed: u64) {
        prop_assume!(out.iter().any(|out| !out));
        let members = members(&vec![1; out.len()]);
        let (table, rng) = (Table::new(&by_hash(), None, &members), Rng::new(seed));
        let before: Vec<usize> =
            (0..500).map(|number| position(pick_key(ask(&members, &table, &rng), number))).collect();
        for (member, _) in members.iter().zip(&out).filter(|(_, out)| **out) {
            fail_check(member);
        }
        for (number, before) in (0..).zip(before) {
            let after = position(pick_key(ask(&members, &table, &rng), number));
            prop_assert!(!out[after]);
            prop_assert!(out[before] || before == after);
            // Another worker, with other random numbers, finds the same.
            let other = Rng::new(mix(seed));
            prop_assert_eq!(after, position(pick_key(ask(&members, &table, &other), number)));
        }
    }
}

/// Of the places of those who stay, in percent of all.
const MOVED_PERCENT: usize = 2;

#[test]
fn many_endpoints_have_places_and_tables_of_fixed_sizes() {
    for (count, size) in [(1, 65_537), (6_553, 65_537), (6_554, 262_147), (10_000, 262_147)] {
        let members = members(&vec![1; count]);
        let owners = owners(&members);
        assert_eq!(owners.len(), size);
        let mut places = vec![0usize; count];
        owners.iter().for_each(|id| places[*id as usize - 1] += 1);
        let least = size / count;
        assert!(places.iter().all(|places| (least..=least + 1).contains(places)));
    }
}

#[test]
fn keys_of_an_unusable_endpoint_go_to_all_others() {
    let members = members(&[1; 4]);
    fail_check(&members[2]);
    let (table, rng) = (Table::new(&by_hash(), None, &members), Rng::new(1));
    let mut counts = [0usize; 4];
    for number in 0..30_000 {
        counts[position(pick_key(ask(&members, &table, &rng), number))] += 1;
    }
    assert_eq!(counts[2], 0);
    assert!(counts.iter().filter(|count| near(**count, 30_000, 1.0 / 3.0)).count() == 3);
}

/// The last one among many unusable is found, and always the same of two.
#[test]
fn a_walk_beyond_the_draws_finds_those_who_are_left() {
    let members = members(&vec![1; 2_000]);
    members.iter().filter(|one| one.endpoint.id > 2).for_each(fail_check);
    let (table, rng) = (Table::new(&by_hash(), None, &members), Rng::new(1));
    let mut counts = [0usize; 2];
    for number in 0..400 {
        let at = position(pick_key(ask(&members, &table, &rng), number));
        assert_eq!(at, position(pick_key(ask(&members, &table, &Rng::new(9)), number)));
        counts[at] += 1;
    }
    assert!(near(counts[0], 400, 0.5), "{counts:?}");
}

#[test]
fn without_a_key_it_is_round_robin() {
    let members = members(&[1; 3]);
    let (table, rng) = (Table::new(&by_hash(), None, &members), Rng::new(1));
    assert_eq!(counts(&mut ask(&members, &table, &rng), 0..9), [3, 3, 3]);
}

/// A slow start takes keys over one by one and never gives one back.
#[test]
fn keys_come_slowly_and_stay() {
    let members = members(&[1; 3]);
    members[0].endpoint.condition.restart(NOW);
    let (table, rng) = (Table::new(&by_hash(), None, &members), Rng::new(1));
    let mut former = 0;
    let mut had = vec![false; 3_000];
    for age in [0, 2_500, 5_000, 10_000] {
        for (number, had) in (0..).zip(&mut had) {
            let mut pick = ask(&members, &table, &rng);
            (pick.slow_start_ms, pick.now_ms) = (10_000, NOW + age);
            let has = position(pick_key(pick, number)) == 0;
            assert!(has || !*had);
            *had = has;
        }
        let count = had.iter().filter(|had| **had).count();
        assert!(count > former);
        let share = 0.1 + 0.9 * age as f64 / 10_000.0;
        assert!(near(count, 3_000, share / 3.0), "{count} after {age} ms");
        former = count;
    }
}

#[test]
fn sticky_ids_name_endpoints() {
    let members = members(&[1; 50]);
    // printf 'token-proxy\000192.0.2.1:8080' | sha256sum
    assert_eq!(&sticky_id("token-proxy", &members[0].endpoint), b"6039548e4446f5b1");
    assert_ne!(sticky_id("a", &members[0].endpoint), sticky_id("b", &members[0].endpoint));
    let table = Table::new(&Balance::RoundRobin, Some("web"), &members);
    for (at, member) in members.iter().enumerate() {
        assert_eq!(table.by_sticky(&sticky_id("web", &member.endpoint)), Some(at));
    }
    for wrong in [&b""[..], b"0123456789abcdef", b"0123456789abcdef0"] {
        assert_eq!(table.by_sticky(wrong), None);
    }
    let none = Table::new(&Balance::RoundRobin, None, &members);
    assert_eq!(none.by_sticky(&sticky_id("web", &members[0].endpoint)), None);
}

#[test]
fn sticky_clients_stay_while_their_endpoint_can_be_used() {
    let members = members(&[1; 3]);
    let (table, rng) = (Table::new(&Balance::RoundRobin, Some("web"), &members), Rng::new(1));
    let mut pick = ask(&members, &table, &rng);
    pick.sticky = Some(1);
    assert_eq!(counts(&mut pick, 0..10), [0, 10, 0]);
    pick.limit = Some(1);
    members[1].endpoint.load.requests.store(1, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(pick.pick(), Picked::AtLimit));
    pick.limit = None;
    pick.tried = &[2];
    assert_ne!(position(pick.pick()), 1);
    pick.tried = &[];
    members[1].endpoint.condition.set_drained(true, NOW);
    assert_ne!(position(pick.pick()), 1);
    pick.sticky = Some(7);
    assert_ne!(position(pick.pick()), 1);
}
