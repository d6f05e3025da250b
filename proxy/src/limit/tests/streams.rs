//! Requests under way: a place is given back exactly once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::limit::Why;
use crate::limit::streams::Streams;

fn at_once(most: u32) -> RateLimit {
    RateLimit { rate: None, concurrent: Some(count(most)), ..spec(1, SECOND, 1) }
}

#[test]
fn so_many_at_once_and_no_more() {
    let mut lab = Lab::new(100);
    let limit = lab.limit(&at_once(2));
    let first = passed(ask(&limit, v4(1), 1));
    let second = passed(ask(&limit, v4(1), 1));
    let refusal = refused(ask(&limit, v4(2), 1));
    assert_eq!((refusal.why, refusal.retry_after), (Why::Streams, SECOND));
    assert_eq!((refusal.left, limit.streams()), (None, 2));
    let other = passed(ask(&limit, v4(1), 2));
    drop(first);
    let third = passed(ask(&limit, v4(1), 1));
    refused(ask(&limit, v4(1), 1));
    // A raised number applies at once, a lowered one to those who come.
    let more = lab.limit(&at_once(3));
    let fourth = passed(ask(&more, v4(1), 1));
    let less = lab.limit(&at_once(1));
    drop((second, third));
    refused(ask(&less, v4(1), 1));
    drop((fourth, other));
    passed(ask(&less, v4(1), 1));
    assert_eq!((limit.streams(), limit.state.streams.keys()), (0, 0));
}

/// A client that draws its credentials has as many places as those of its own that it may have.
#[test]
fn invented_credentials_share_places_without_a_rate_as_well() {
    let mut lab = Lab::new(100);
    let limit = lab.limit(&at_once(1));
    let own: Vec<Pass> = (0..32).map(|n| passed(ask(&limit, v4(1), n))).collect();
    let shared = passed(ask(&limit, v4(1), 100));
    assert_eq!(refused(ask(&limit, v4(1), 101)).why, Why::Streams);
    passed(ask(&limit, v4(2), 102));
    drop(shared);
    passed(ask(&limit, v4(1), 103));
    assert_eq!((own.len(), limit.keys()), (32, 33));
}

#[test]
fn a_refused_rate_takes_no_place() {
    let mut lab = Lab::new(100);
    let limit = lab.limit(&RateLimit { concurrent: Some(count(5)), ..spec(1, HOUR, 1) });
    let pass = passed(ask(&limit, v4(1), 1));
    assert_eq!(refused(ask(&limit, v4(1), 1)).why, Why::Rate);
    assert_eq!(limit.streams(), 1);
    drop(pass);
    assert_eq!(limit.streams(), 0);
}

#[test]
fn a_dry_run_counts_what_is_under_way() {
    let mut lab = Lab::new(100);
    let limit = lab.limit(&RateLimit { dry_run: true, ..at_once(1) });
    let first = passed(ask(&limit, v4(1), 1));
    assert_eq!(first.would_refuse, None);
    assert_eq!(passed(ask(&limit, v4(1), 1)).would_refuse, Some(Why::Streams));
    drop(first);
    assert_eq!(passed(ask(&limit, v4(1), 1)).would_refuse, None);
    assert_eq!(limit.streams(), 0);
}

#[test]
fn an_aggregate_has_16_times_as_many() {
    let mut lab = Lab::new(1000);
    let limit = lab.limit(&by_address(at_once(1)));
    let held: Vec<Verdict> = (0..40).map(|n| ask_address(&limit, v6(n))).collect();
    assert_eq!(held.iter().filter(|verdict| passes(verdict)).count(), 16);
    assert_eq!((limit.streams(), limit.state.streams.keys()), (16, 17));
    drop(held);
    assert_eq!((limit.streams(), limit.state.streams.keys()), (0, 0));
}

/// Keys that are drawn at will beyond what a client may have share their places too.
#[test]
fn keys_without_a_place_share_streams() {
    let mut lab = Lab::new(1000);
    let limit = lab.limit(&RateLimit { concurrent: Some(count(2)), ..spec(1000, SECOND, 1000) });
    let held: Vec<Verdict> = (0..100).map(|n| ask(&limit, v4(1), n)).collect();
    assert_eq!(held.iter().filter(|verdict| passes(verdict)).count(), 32 + 2);
    drop(held);
    assert_eq!((limit.streams(), limit.state.streams.keys()), (0, 0));
}

#[test]
fn a_panic_gives_the_place_back() {
    let mut lab = Lab::new(100);
    let limit = lab.limit(&at_once(1));
    for _ in 0..3 {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let _pass = passed(ask(&limit, v4(1), 1));
            std::panic::resume_unwind(Box::new("a bug"));
        }));
        assert!(ended.is_err());
        assert_eq!((limit.streams(), limit.state.streams.keys()), (0, 0));
    }
}

#[test]
fn threads_give_back_what_they_took() {
    let streams = Arc::new(Streams::default());
    let under_way = AtomicUsize::new(0);
    thread::scope(|scope| {
        for worker in 0..4u64 {
            let (streams, under_way) = (&streams, &under_way);
            scope.spawn(move || {
                for turn in 0..5_000u64 {
                    let held = streams.enter(1, Some(2), 3);
                    if held.is_some() {
                        assert!(under_way.fetch_add(1, Ordering::SeqCst) < 3);
                        under_way.fetch_sub(1, Ordering::SeqCst);
                    }
                    let other = streams.enter(10 + worker, Some(2), 2).unwrap();
                    if (turn + worker) % 2 == 0 {
                        drop(held);
                        drop(other);
                    }
                }
            });
        }
    });
    assert_eq!((streams.open(), streams.keys()), (0, 0));
}
