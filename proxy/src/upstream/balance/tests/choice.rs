//! Who may be picked at all, whatever the policy: compared with a plain statement of the rules.

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::upstream::balance::Rng;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Healthy,
    Unchecked,
    Starting,
    Unhealthy,
    Ejected,
    Trial,
    Trying,
    Drained,
    Gone,
}

#[derive(Clone, Debug)]
struct One {
    state: State,
    tried: bool,
    full: bool,
    weight: u32,
    slow: bool,
}

fn one() -> impl Strategy<Value = One> {
    use State::*;
    let states =
        vec![Healthy, Unchecked, Starting, Unhealthy, Ejected, Trial, Trying, Drained, Gone];
    let state = prop::sample::select(states);
    (state, prop::bool::weighted(0.2), prop::bool::weighted(0.2), 1u32..5, any::<bool>())
        .prop_map(|(state, tried, full, weight, slow)| One { state, tried, full, weight, slow })
}

fn policy() -> impl Strategy<Value = Balance> {
    use Balance::*;
    prop::sample::select(vec![RoundRobin, LeastRequest, PeakEwma, Hash(HashKey::Path)])
}

fn prepare(member: &Member, one: &One) {
    let condition = &member.endpoint.condition;
    match one.state {
        State::Unchecked => {}
        State::Healthy => condition.set_health(Health::Healthy, 0),
        State::Starting => condition.set_health(Health::Starting, 0),
        State::Unhealthy => condition.set_health(Health::Unhealthy, 0),
        State::Ejected => eject(condition, NOW - 1_000),
        State::Trial => eject(condition, NOW - 10_000),
        State::Trying => {
            eject(condition, NOW - 20_000);
            assert!(condition.claim_trial(NOW - 1));
        }
        State::Drained => condition.set_drained(true, 0),
        State::Gone => condition.set_gone(true, 0),
    }
    if one.slow {
        condition.restart(NOW);
    }
    member.endpoint.load.requests.store(if one.full { 9 } else { 1 }, Ordering::Relaxed);
}

/// Answer and, if it is an endpoint, the positions it may be of.
fn expected(all: &[One]) -> (&'static str, Vec<usize>) {
    use State::*;
    let classes = [&[Healthy, Unchecked, Trial][..], &[Starting], &[Unhealthy, Ejected, Trying]];
    let mut anybody = false;
    for (class, answer) in classes.into_iter().zip(["endpoint", "endpoint", "panic"]) {
        let of_class = |one: &One| class.contains(&one.state);
        if answer == "panic" && anybody {
            return ("none", Vec::new());
        }
        anybody |= all.iter().any(of_class);
        let free = |one: &One| of_class(one) && !one.tried && !one.full;
        let free: Vec<usize> = (0..all.len()).filter(|at| free(&all[*at])).collect();
        if !free.is_empty() {
            return (answer, free);
        }
        if all.iter().any(|one| of_class(one) && !one.tried) {
            return ("at limit", Vec::new());
        }
    }
    ("none", Vec::new())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_rules_hold(
        all in prop::collection::vec(one(), 0..8), balance in policy(), key: Option<u64>,
        turn: usize, seed: u64, slow_start_ms in prop::sample::select(vec![0, 10_000])
    ) {
        let members = members(&all.iter().map(|one| one.weight).collect::<Vec<_>>());
        members.iter().zip(&all).for_each(|(member, one)| prepare(member, one));
        let tried: Vec<u32> =
            (1..).zip(&all).filter(|(_, one)| one.tried).map(|(id, _)| id).collect();
        let (table, rng) = (Table::new(&balance, None, &members), Rng::new(seed));
        let pick = Pick {
            slow_start_ms, key, turn, tried: &tried, limit: Some(5),
            ..ask(&members, &table, &rng)
        };
        let picked = pick.pick();
        let (answer, allowed) = expected(&all);
        let (given, trial) = match picked {
            Picked::Endpoint(_) => ("endpoint", false),
            Picked::Trial(_) => ("endpoint", true),
            Picked::Panic(_) => ("panic", false),
            Picked::AtLimit => ("at limit", false),
            Picked::None => ("none", false),
        };
        prop_assert_eq!(given, answer);
        if picked.endpoint().is_some() {
            prop_assert!(allowed.contains(&position(picked)));
            prop_assert_eq!(trial, all[position(picked)].state == State::Trial);
        }
    }
}

#[test]
fn an_ended_ejection_lets_one_request_at_a_time_through() {
    let members = members(&[1]);
    let condition = &members[0].endpoint.condition;
    eject(condition, NOW - 10_000);
    let (table, rng) = (Table::new(&Balance::RoundRobin, None, &members), Rng::new(1));
    let pick = ask(&members, &table, &rng);
    assert!(matches!(pick.pick(), Picked::Trial(_)));
    assert!(matches!(pick.pick(), Picked::Panic(_)), "the trial is under way");
    condition.abandon(NOW);
    assert!(matches!(pick.pick(), Picked::Trial(_)));
    assert!(condition.success(NOW));
    assert!(matches!(pick.pick(), Picked::Endpoint(_)));
}

#[test]
fn panic_uses_all_but_drained_ones_by_weight() {
    let members = members(&[1, 2, 1, 4]);
    members.iter().for_each(fail_check);
    members[2].endpoint.condition.set_drained(true, NOW);
    for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::PeakEwma, by_hash()] {
        let (table, rng) = (Table::new(&balance, None, &members), Rng::new(1));
        let mut pick = ask(&members, &table, &rng);
        assert!(matches!(pick.pick(), Picked::Panic(_)));
        let counts = counts(&mut pick, 0..14_000);
        assert_eq!(counts[2], 0);
        for (count, share) in counts.iter().zip([1.0, 2.0, 0.0, 4.0]).filter(|(_, one)| *one > 0.0)
        {
            assert!(near(*count, 14_000, share / 7.0), "{counts:?}");
        }
    }
}

#[test]
fn a_slow_start_gets_its_growing_share() {
    let members = members(&[1, 1, 2, 1]);
    members[2].endpoint.condition.restart(NOW);
    for balance in [Balance::RoundRobin, Balance::LeastRequest] {
        let (table, rng) = (Table::new(&balance, None, &members), Rng::new(1));
        for age in [0, 1_000, 5_000, 9_000, 10_000, 20_000] {
            let mut pick = ask(&members, &table, &rng);
            (pick.slow_start_ms, pick.now_ms) = (10_000, NOW + age);
            let counts = counts(&mut pick, 0..20_000);
            let scaled = 2.0 * (0.1 + 0.9 * age as f64 / 10_000.0).min(1.0);
            assert!(near(counts[2], 20_000, scaled / (3.0 + scaled)), "{counts:?} after {age} ms");
        }
    }
}

#[test]
fn slow_starts_are_used_when_there_is_nobody_else() {
    for count in [1, 3, 200] {
        let members = members(&vec![1; count]);
        members.iter().for_each(|one| one.endpoint.condition.restart(NOW));
        let (table, rng) = (Table::new(&Balance::RoundRobin, None, &members), Rng::new(1));
        let mut pick = ask(&members, &table, &rng);
        pick.slow_start_ms = 10_000;
        let counts = counts(&mut pick, 0..count * 200);
        assert!(counts.iter().all(|one| near(*one, count * 200, 1.0 / count as f64)));
    }
}
