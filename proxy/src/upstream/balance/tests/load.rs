//! Least request and peak EWMA.

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::upstream::balance::Rng;
use crate::upstream::balance::two::{faster, less_busy};

fn busy(member: &Member, requests: usize) {
    member.endpoint.load.requests.store(requests, Ordering::Relaxed);
}

proptest! {
    /// Of two distinct ones drawn it is never the busier: so never the one that is busier than
    /// all, and with two always the less busy one.
    #[test]
    fn the_busiest_is_never_picked(loads in prop::collection::vec(0usize..1000, 2..20), seed: u64) {
        let members = members(&vec![1; loads.len()]);
        for (member, load) in members.iter().zip(&loads) {
            busy(member, *load);
        }
        let (table, rng) = (Table::new(&Balance::LeastRequest, None, &members), Rng::new(seed));
        let most = *loads.iter().max().unwrap_or(&0);
        prop_assume!(loads.iter().filter(|load| **load == most).count() == 1);
        for _ in 0..50 {
            prop_assert_ne!(loads[position(ask(&members, &table, &rng).pick())], most);
        }
    }

    #[test]
    fn the_comparison_is_by_requests_per_weight(
        weights in (1u32..=65_535_000, 1u32..=65_535_000), loads in (0usize..1_000_000, 0usize..1_000_000)
    ) {
        let members = members(&[weights.0, weights.1]);
        let (a, b) = (&members[0], &members[1]);
        busy(a, loads.0);
        busy(b, loads.1);
        let per = |load: usize, weight: u32| load as u64 * 1_000_000_000 / u64::from(weight);
        if per(loads.1, weights.1) < per(loads.0, weights.0) {
            prop_assert!(less_busy(a, b));
        }
        prop_assert!(!(less_busy(a, b) && less_busy(b, a)));
    }
}

#[test]
fn idle_endpoints_get_requests_by_weight() {
    let members = members(&[1, 2, 5]);
    for balance in [Balance::LeastRequest, Balance::PeakEwma] {
        let (table, rng) = (Table::new(&balance, None, &members), Rng::new(3));
        let counts = counts(&mut ask(&members, &table, &rng), 0..40_000);
        for (count, weight) in counts.iter().zip([1.0, 2.0, 5.0]) {
            assert!(near(*count, 40_000, weight / 8.0), "{counts:?}");
        }
    }
}

/// Requests that pile up at a stalled endpoint keep others away from it.
#[test]
fn a_stalled_endpoint_gets_few_requests() {
    let members = members(&[1, 1, 1]);
    let (table, rng) = (Table::new(&Balance::LeastRequest, None, &members), Rng::new(5));
    let mut stalled = 0;
    for _ in 0..1_000 {
        // The others answer at once; the first never does.
        if position(ask(&members, &table, &rng).pick()) == 0 {
            stalled += 1;
            busy(&members[0], stalled);
        }
    }
    assert_eq!(stalled, 1);
}

#[test]
fn slow_endpoints_are_avoided_and_tried_again_later() {
    let members = members(&[1, 1]);
    let (slow, fast) = (&members[0].endpoint.load.latency, &members[1].endpoint.load.latency);
    slow.observe(100_000, NOW);
    fast.observe(10_000, NOW);
    let (table, rng) = (Table::new(&Balance::PeakEwma, None, &members), Rng::new(1));
    let mut pick = ask(&members, &table, &rng);
    assert_eq!(counts(&mut pick, 0..100), [0, 100]);
    busy(&members[1], 20);
    assert_eq!(counts(&mut pick, 0..100), [100, 0], "20 requests wait for the fast one");
    busy(&members[1], 0);
    pick.now_ms = NOW + 60_000;
    fast.observe(10_000, pick.now_ms);
    assert_eq!(counts(&mut pick, 0..100), [100, 0], "unasked for a minute");
}

#[test]
fn an_unknown_endpoint_gets_one_request_and_then_waits_for_the_answer() {
    let members = members(&[1, 1]);
    let (known, unknown) = (&members[0], &members[1]);
    known.endpoint.load.latency.observe(10_000, NOW);
    assert!(faster(known, unknown, NOW));
    busy(unknown, 1);
    assert!(faster(unknown, known, NOW));
    unknown.endpoint.load.latency.observe(4_000, NOW);
    assert!(faster(known, unknown, NOW));
}
