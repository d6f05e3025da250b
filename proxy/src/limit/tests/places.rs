//! Who gets a place in the table, and what those without one get.

use super::*;
use crate::limit::Why;

#[test]
fn a_full_table_shares_buckets_by_network() {
    let mut lab = Lab::new(4);
    let limit = lab.limit(&by_address(spec(1, HOUR, 3)));
    for client in 1..=4 {
        passed(ask_address(&limit, v4(client)));
    }
    assert_eq!((limit.keys(), limit.overflow().total()), (4, 0));
    // A newcomer gets no more than a known one would.
    let newcomer: Vec<bool> = (0..5).map(|_| passes(&ask_address(&limit, v4(5)))).collect();
    assert_eq!(newcomer, [true, true, true, false, false]);
    assert_eq!((limit.keys(), limit.overflow().total()), (4, 5));
    // Known ones have what is theirs.
    (0..2).for_each(|_| drop(passed(ask_address(&limit, v4(1)))));
    refused(ask_address(&limit, v4(1)));
}

/// One network cannot reach every bucket.
#[test]
fn a_network_shares_one_bucket() {
    let mut lab = Lab::new(1);
    let limit = lab.limit(&by_address(spec(1, HOUR, 3)));
    passed(ask_address(&limit, v4(1)));
    let got = (0..1000).filter(|n| passes(&ask_address(&limit, v6(*n)))).count();
    assert_eq!(got, 3);
    // Of ten others hardly all share it.
    assert!((1..=10).any(|network| passes(&ask_address(&limit, v6(network << 16)))));
}

#[test]
fn a_raised_rate_reaches_shared_buckets_too() {
    let mut lab = Lab::new(1);
    let strict = lab.limit(&by_address(spec(1, HOUR, 1)));
    passed(ask_address(&strict, v4(1)));
    passed(ask_address(&strict, v4(2)));
    refused(ask_address(&strict, v4(2)));
    let generous = lab.limit(&by_address(spec(10, SECOND, 1)));
    refused(ask_address(&generous, v4(2)));
    lab.clock.advance(Duration::from_millis(100));
    passed(ask_address(&generous, v4(2)));
}

#[test]
fn one_client_draws_32_new_keys_a_minute() {
    let mut lab = Lab::new(1000);
    let limit = lab.limit(&spec(1, HOUR, 5));
    let got = (0..500).filter(|n| passes(&ask(&limit, v4(1), *n))).count();
    // 32 keys, and the bucket of the rest.
    assert_eq!((got, limit.keys()), (32 + 5, 32));
    assert_eq!(limit.overflow().total(), 500 - 32);
    // Its known keys and other clients' new ones are as before.
    (0..32).for_each(|n| drop(passed(ask(&limit, v4(1), n))));
    passed(ask(&limit, v4(2), 1000));
    assert_eq!(limit.keys(), 33);
    lab.clock.advance(MINUTE);
    (2000..2100).for_each(|n| drop(ask(&limit, v4(1), n)));
    assert_eq!(limit.keys(), 33 + 32);
}

#[test]
fn an_aggregate_draws_16_times_as_many() {
    let mut lab = Lab::new(100_000);
    let limit = lab.limit(&spec(1, HOUR, 5));
    for network in 0..100u64 {
        (0..40).for_each(|n| drop(ask(&limit, v6(network), network * 100 + n)));
    }
    assert_eq!(limit.keys(), 32 * 16);
    passed(ask(&limit, v6(1 << 16), u64::MAX));
    assert_eq!(limit.keys(), 32 * 16 + 1);
}

/// Under a wildcard a client may make up as many hosts as it likes.
#[test]
fn one_client_draws_32_new_hosts_a_minute() {
    let mut lab = Lab::new(1000);
    let key = LimitKey(vec![vec![KeyPart::Host]]);
    let limit = lab.limit(&RateLimit { key, ..spec(1, HOUR, 5) });
    let ask = |address, host: u32| {
        check(&limit, limit.key().host(&format!("{host}.gw.openclaw.example")), address)
    };
    (0..500).for_each(|n| drop(ask(v4(1), n)));
    assert_eq!((limit.keys(), limit.overflow().total()), (32, 500 - 32));
    passed(ask(v4(2), 1000));
    assert_eq!(limit.keys(), 33);
}

#[test]
fn addresses_are_not_drawn_at_will() {
    let mut lab = Lab::new(1000);
    let limit = lab.limit(&by_address(spec(1, HOUR, 1)));
    (0..200).for_each(|last| drop(passed(ask_address(&limit, v4(last)))));
    assert_eq!((limit.keys(), limit.overflow().total()), (200, 0));
}

#[test]
fn an_aggregate_has_16_times_as_much() {
    let mut lab = Lab::new(1000);
    let limit = lab.limit(&by_address(spec(1, SECOND, 2)));
    // A loud neighbour that is refused leaves the rest to the others.
    let loud = (0..100).filter(|_| passes(&ask_address(&limit, v6(0)))).count();
    assert_eq!(loud, 2);
    let others = (1..100).filter(|n| passes(&ask_address(&limit, v6(*n)))).count();
    assert_eq!(others, 30, "32 of the /48");
    passed(ask_address(&limit, v6(1 << 16)));
    lab.clock.advance(SECOND);
    let more = (100..200).filter(|n| passes(&ask_address(&limit, v6(*n)))).count();
    assert_eq!(more, 16);
    let alone = AddressPrefix { v6_aggregate: None, ..AddressPrefix::default() };
    let limit = lab.limit(&RateLimit { prefix: alone, ..by_address(spec(1, SECOND, 2)) });
    (300..400).for_each(|n| drop(passed(ask_address(&limit, v6(n)))));
}

/// A known key is not refused because its aggregate found no place.
#[test]
fn an_aggregate_without_a_place_refuses_nobody() {
    let mut lab = Lab::new(1);
    let limit = lab.limit(&by_address(spec(10, SECOND, 10)));
    for _ in 0..200 {
        passed(ask_address(&limit, v6(0)));
        (1..20).for_each(|n| drop(ask_address(&limit, v6(n))));
        lab.clock.advance(Duration::from_millis(100));
    }
}

#[test]
fn a_lower_capacity_holds_for_new_keys() {
    let mut lab = Lab::new(100);
    let spec = by_address(spec(10, SECOND, 10));
    let limit = lab.limit(&spec);
    (0..50).for_each(|last| drop(passed(ask_address(&limit, v4(last)))));
    lab.keys = 10;
    let limit = lab.limit(&spec);
    passed(ask_address(&limit, v4(100)));
    assert_eq!((limit.keys(), limit.overflow().total()), (50, 1));
    lab.clock.advance(SECOND);
    assert_eq!(lab.registry.sweep(), 50);
    passed(ask_address(&limit, v4(100)));
    assert_eq!(limit.keys(), 1);
}

/// Tenants have one limit and nothing in common there.
#[test]
fn tenants_count_apart_in_one_limit() {
    let mut lab = Lab::new(1000);
    let spec = RateLimit { concurrent: NonZeroU32::new(1), ..by_address(spec(1, HOUR, 2)) };
    let mut limit = |tenant: &str| {
        let owner = Owner::Template(name("gateway"));
        lab.registry.limit(owner, Some(&name(tenant)), &spec, 1000)
    };
    let [a, b, again] = ["a", "b", "a"].map(&mut limit);
    let held = passed(ask_address(&a, v4(1))).stream.unwrap();
    assert_eq!(refused(ask_address(&a, v4(1))).why, Why::Streams);
    passed(ask_address(&b, v4(1)));
    drop(held);
    assert_eq!(refused(ask_address(&again, v4(1))).why, Why::Rate);
    passed(ask_address(&b, v4(1)));
    assert_eq!((a.keys(), b.keys()), (2, 2));
    assert_eq!(b.decisions().refused.total(), 2);
}

fn of_tenant(lab: &mut Lab, tenant: &str, spec: &RateLimit) -> Limit<HandClock> {
    lab.registry.limit(Owner::Template(name("gateway")), Some(&name(tenant)), spec, lab.keys)
}

/// Whatever networks a flood of one tenant comes from, newcomers of another have buckets of theirs.
#[test]
fn a_flood_of_a_tenant_uses_up_no_bucket_of_another() {
    let mut lab = Lab::new(4);
    let spec = RateLimit { concurrent: NonZeroU32::new(2), ..by_address(spec(1, HOUR, 2)) };
    let [flooded, other] = ["a", "b"].map(|tenant| of_tenant(&mut lab, tenant, &spec));
    let mut held = Vec::new();
    for network in 0..30_000_u64 {
        if let Verdict::Pass(pass) = ask_address(&flooded, v6(network << 16)) {
            held.extend(pass.stream);
        }
    }
    refused(ask_address(&flooded, v6(30_000 << 16)));
    // From the very network of the flood, too.
    let first = passed(ask_address(&other, v6(0)));
    passed(ask_address(&other, v6(0)));
    assert_eq!(refused(ask_address(&other, v6(0))).why, Why::Rate);
    drop(first);
    // All of it is bounded: two networks with their aggregates, and the buckets. A new generation
    // has what the former one used up.
    assert_eq!(other.keys(), 4);
    assert_eq!(held.len(), 2 + 2 * crate::limit::table::TENANT_BUCKETS);
    let again = of_tenant(&mut lab, "a", &spec);
    drop(flooded);
    refused(ask_address(&again, v6(30_001 << 16)));
}

#[test]
fn a_client_draws_32_new_keys_of_each_tenant() {
    let mut lab = Lab::new(1000);
    let spec = spec(1, HOUR, 1);
    let [a, b] = ["a", "b"].map(|tenant| of_tenant(&mut lab, tenant, &spec));
    (0..500).for_each(|n| drop(ask(&a, v4(1), n)));
    assert_eq!(a.keys(), 32);
    (0..32).for_each(|n| drop(passed(ask(&b, v4(1), n))));
    assert_eq!((b.keys(), b.overflow().total()), (64, 500 - 32));
    for network in 0..100 {
        (0..40).for_each(|n| drop(ask(&a, v6(network), network * 100 + n)));
    }
    let before = b.keys();
    // The /48 has drawn what it may with all tenants; others may still.
    (0..32).for_each(|n| drop(ask(&b, v6(0), 10_000 + n)));
    assert_eq!(b.keys(), before);
    (0..32).for_each(|n| drop(passed(ask(&b, v6(1 << 16), 10_000 + n))));
    assert_eq!(b.keys(), before + 32);
}

#[test]
fn a_client_draws_512_new_keys_of_all_tenants_together() {
    let mut lab = Lab::new(10_000);
    let spec = spec(1, HOUR, 1);
    let tenants: Vec<_> = (0..40).map(|n| of_tenant(&mut lab, &format!("t{n}"), &spec)).collect();
    for tenant in &tenants {
        (0..40).for_each(|n| drop(ask(tenant, v4(1), n)));
    }
    assert_eq!(tenants[0].keys(), 512);
    passed(ask(&tenants[39], v4(2), 1000));
    assert_eq!(tenants[0].keys(), 513);
}
