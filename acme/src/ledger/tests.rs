//! Limits, windows that slide, a clock that jumps, and the plan of a first issuance.

use proptest::prelude::*;

use super::windows::registered_domain;
use super::*;

const NOW: i64 = 1_800_000_000;

fn set(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn request(set: &[String]) -> Request<'_> {
    Request { account: "ca", set, renewal: false, forced: false }
}

fn event(at: i64, kind: Kind, names: &[String], renewal: bool) -> Event {
    Event { at, kind, account: "ca".into(), set: names.to_vec(), renewal, hosts: names.to_vec() }
}

#[test]
fn who_comes_first() {
    let [tenant, route] = [Priority::Tenant, Priority::Route];
    let mut all = [tenant, tenant.renewing(), route, route.renewing()];
    all.sort();
    assert_eq!(all, [route.renewing(), route, tenant.renewing(), tenant]);
}

/// A week's budget of the domain is gone for tenants, and the platform's next host is ordered.
#[test]
fn tenants_leave_a_part_of_the_budget() {
    let (limits, mut ledger) = (Limits::default(), Ledger::default());
    let host = |n: u32| set(&[&format!("t{n}.gw.openclaw.example")]);
    let share = Priority::Tenant.share(&limits);
    assert_eq!((share.per_domain_week, share.orders_3h), (40, 240));
    for n in 0..40 {
        assert_eq!(ledger.allowed_at(NOW, &share, &request(&host(n))).at, NOW, "{n}");
        ledger.record(event(NOW, Kind::Issued, &host(n), false));
    }
    assert_eq!(ledger.allowed_at(NOW, &share, &request(&host(40))).at, NOW + WEEK);
    let own = set(&["app.openclaw.example"]);
    let platform = Priority::Route.share(&limits);
    assert_eq!(ledger.allowed_at(NOW, &platform, &request(&own)).at, NOW);
    let narrow = Limits { per_domain_week: 1, orders_3h: 0, ..limits };
    let share = Priority::TenantRenewal.share(&narrow);
    assert_eq!((share.per_domain_week, share.orders_3h), (1, 1));
}

#[test]
fn registered_domains() {
    for (name, domain) in [
        ("app.openclaw.example", "openclaw.example"),
        ("a.b.c.openclaw.example", "openclaw.example"),
        ("openclaw.example", "openclaw.example"),
        ("localhost", "localhost"),
        ("shop.co.uk", "co.uk"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        assert_eq!(registered_domain(name), domain);
    }
}

#[test]
fn sets_by_hour_and_week_unless_forced() {
    let (app, limits) = (set(&["app.openclaw.example"]), Limits::default());
    let mut ledger = Ledger::default();
    for n in 0..4 {
        let at = NOW + n * HOUR;
        assert_eq!(ledger.allowed_at(at, &limits, &request(&app)), Allowance { at, why: None });
        ledger.record(event(at, Kind::Issued, &app, n > 0));
        let next = ledger.allowed_at(at, &limits, &request(&app));
        assert_eq!(next.at, if n < 3 { at + HOUR } else { NOW + WEEK });
        assert!(next.why.unwrap().contains("certificates for these names"));
    }
    let at = NOW + 3 * HOUR;
    let forced = Request { forced: true, ..request(&app) };
    assert_eq!(ledger.allowed_at(at, &limits, &forced).at, at);
    let more = set(&["app.openclaw.example", "api.openclaw.example"]);
    assert_eq!(ledger.allowed_at(at, &limits, &request(&more)).at, at);
    let other = Request { account: "other", ..request(&app) };
    assert_eq!(ledger.allowed_at(at, &limits, &other).at, at);
}

#[test]
fn the_order_of_names_does_not_matter() {
    let limits = Limits::default();
    let mut ledger = Ledger::default();
    ledger.record(event(NOW, Kind::Issued, &set(&["b.x", "a.x"]), false));
    assert_eq!(ledger.allowed_at(NOW, &limits, &request(&set(&["a.x", "b.x"]))).at, NOW + HOUR);
}

#[test]
fn an_order_that_was_not_placed_is_taken_back() {
    let (app, limits) =
        (set(&["app.openclaw.example"]), Limits { orders_3h: 2, ..Limits::default() });
    let mut ledger = Ledger::default();
    for at in [NOW - 20, NOW - 10] {
        ledger.record(event(at, Kind::Order, &app, false));
    }
    ledger.take_back_order("other");
    assert_eq!(ledger.allowed_at(NOW, &limits, &request(&app)).at, NOW - 20 + 3 * HOUR);
    ledger.take_back_order("ca");
    assert_eq!(ledger.allowed_at(NOW, &limits, &request(&app)).at, NOW);
    ledger.record(event(NOW, Kind::Order, &app, false));
    assert_eq!(ledger.allowed_at(NOW, &limits, &request(&app)).at, NOW - 20 + 3 * HOUR);
}

#[test]
fn domains_count_new_certificates_only() {
    let limits = Limits { per_domain_week: 2, ..Limits::default() };
    let mut ledger = Ledger::default();
    for (n, renewal) in [(0, false), (1, true), (2, false)] {
        let names = set(&[&format!("h{n}.openclaw.example")]);
        ledger.record(event(NOW + n, Kind::Issued, &names, renewal));
    }
    let new = set(&["new.openclaw.example"]);
    let allowed = ledger.allowed_at(NOW + 9, &limits, &request(&new));
    assert_eq!(allowed.at, NOW + WEEK);
    assert!(allowed.why.unwrap().contains("openclaw.example"));
    let renewal = Request { renewal: true, ..request(&new) };
    assert_eq!(ledger.allowed_at(NOW + 9, &limits, &renewal).at, NOW + 9);
    let elsewhere = set(&["new.other.example"]);
    assert_eq!(ledger.allowed_at(NOW + 9, &limits, &request(&elsewhere)).at, NOW + 9);
}

#[test]
fn accounts_and_hosts() {
    let limits = Limits { orders_3h: 2, failures_per_host_hour: 1, ..Limits::default() };
    let (app, api) = (set(&["app.x"]), set(&["api.x"]));
    let mut ledger = Ledger::default();
    ledger.record(event(NOW, Kind::Order, &app, false));
    ledger.record(event(NOW, Kind::Failed, &app, false));
    let forced = Request { forced: true, ..request(&app) };
    assert_eq!(ledger.allowed_at(NOW, &limits, &forced).at, NOW + HOUR);
    assert_eq!(ledger.allowed_at(NOW, &limits, &request(&api)).at, NOW);
    ledger.record(event(NOW + 1, Kind::Order, &api, false));
    assert_eq!(ledger.allowed_at(NOW + 2, &limits, &request(&api)).at, NOW + THREE_HOURS);
}

#[test]
fn a_clock_set_back_blocks_no_longer_than_the_window() {
    let (app, limits) = (set(&["app.x"]), Limits::default());
    let mut ledger = Ledger::default();
    ledger.record(event(NOW + 365 * 24 * HOUR, Kind::Issued, &app, false));
    assert_eq!(ledger.allowed_at(NOW, &limits, &request(&app)).at, NOW + HOUR);
    ledger.settle(NOW);
    assert_eq!(ledger.allowed_at(NOW + HOUR, &limits, &request(&app)).at, NOW + HOUR);
    // And one that jumps ahead forgets.
    ledger.settle(NOW + 2 * WEEK);
    assert_eq!(ledger.entries(), []);
}

#[test]
fn a_full_ledger_waits_instead_of_forgetting() {
    let limits = Limits { orders_3h: u32::MAX, ..Limits::default() };
    let mut ledger = Ledger::default();
    let order = event(NOW, Kind::Order, &[], false);
    ledger.entries = vec![order; MAX_ENTRIES];
    let app = set(&["app.x"]);
    let allowed = ledger.allowed_at(NOW, &limits, &request(&app));
    assert_eq!(allowed.at, NOW + THREE_HOURS);
    assert!(allowed.why.unwrap().contains("entries"));
    ledger.settle(NOW + THREE_HOURS);
    assert!(ledger.entries().is_empty());
}

#[test]
fn stored_and_restored() {
    let mut ledger = Ledger::default();
    for kind in [Kind::Order, Kind::Issued, Kind::Failed] {
        ledger.record(event(NOW, kind, &set(&["app.x"]), kind == Kind::Issued));
    }
    let text = serde_json::to_string(&ledger).unwrap();
    assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
    assert_eq!(serde_json::from_str::<Ledger>("{}").unwrap(), Ledger::default());
}

#[test]
fn copies_that_went_apart_count_what_both_have_once() {
    let app = set(&["app.x"]);
    let mut common = Ledger::default();
    // Two that look the same are two.
    for _ in 0..2 {
        common.record(event(NOW, Kind::Issued, &app, false));
    }
    let (mut one, mut other) = (common.clone(), common.clone());
    one.record(event(NOW + 9, Kind::Issued, &app, true));
    other.record(event(NOW + 5, Kind::Order, &app, false));
    one.absorb(other);
    let times: Vec<i64> = one.entries().iter().map(|entry| entry.at).collect();
    assert_eq!(times, [NOW, NOW, NOW + 5, NOW + 9]);
    let mut empty = Ledger::default();
    empty.absorb(common.clone());
    assert_eq!(empty, common);
}

#[test]
fn plans() {
    let limits = Limits::default();
    let plan = |count: usize, domains: usize, limits: &Limits| {
        let sets: Vec<Vec<String>> =
            (0..count).map(|n| vec![format!("h{n}.d{}.example", n % domains)]).collect();
        let requests: Vec<Request<'_>> = sets.iter().map(|set| request(set)).collect();
        estimate(NOW, &Ledger::default(), limits, &requests)
    };
    assert_eq!(plan(4, 1, &limits), Plan { seconds: 0, why: None });
    assert_eq!(plan(50, 1, &limits).seconds, 0);
    let domain = plan(101, 1, &limits);
    assert_eq!(domain.seconds, 2 * WEEK);
    assert!(domain.why.unwrap().contains("d0.example"));
    let orders = plan(700, 100, &limits);
    assert_eq!(orders.seconds, 2 * THREE_HOURS);
    assert!(orders.why.unwrap().contains("orders"));
    // A blocked domain does not hold up the others.
    let other = Limits { per_domain_week: 1, ..limits };
    assert_eq!(plan(3, 2, &other).seconds, WEEK);
}

#[test]
fn what_is_left_is_told() {
    let (app, limits) = (set(&["app.openclaw.example"]), Limits::default());
    let mut ledger = Ledger::default();
    ledger.record(event(NOW - 2 * HOUR, Kind::Order, &app, false));
    ledger.record(event(NOW - 2 * HOUR, Kind::Issued, &app, false));
    ledger.record(event(NOW, Kind::Failed, &app, false));
    let told: Vec<String> =
        Usage::of(&ledger, NOW).left(&limits, &request(&app)).iter().map(Left::to_string).collect();
    let expected = [
        "299 of 300 orders in 3 hours",
        "1 of 1 certificates for these names in an hour",
        "3 of 4 certificates for these names in 7 days",
        "49 of 50 new certificates under openclaw.example in 7 days",
        "3 of 4 failed validations of app.openclaw.example in an hour",
    ];
    assert_eq!(told, expected);
}

proptest! {
    /// Nothing is left of a limit just when the ledger makes the request wait.
    #[test]
    fn nothing_left_means_wait(
        events in proptest::collection::vec((0i64..4, 0u8..3, 0u8..3, any::<bool>()), 0..12),
        (host, renewal, forced) in (0u8..3, any::<bool>(), any::<bool>()),
    ) {
        let limits = Limits { per_domain_week: 2, orders_3h: 3, ..Limits::default() };
        let mut ledger = Ledger::default();
        for (hours, kind, host, renewal) in events {
            let kind = [Kind::Order, Kind::Issued, Kind::Failed][usize::from(kind)];
            let name = format!("h{host}.openclaw.example");
            ledger.record(event(NOW - hours * HOUR, kind, &[name], renewal));
        }
        ledger.settle(NOW);
        let names = [format!("h{host}.openclaw.example")];
        let request = Request { account: "ca", set: &names, renewal, forced };
        let waits = ledger.allowed_at(NOW, &limits, &request).at > NOW;
        let left = Usage::of(&ledger, NOW).left(&limits, &request);
        prop_assert_eq!(waits, left.iter().any(|limit| limit.left == 0), "{:?}", left);
    }

    /// What `allowed_at` says is free, and nothing sooner is.
    #[test]
    fn free_means_free(
        mut times in proptest::collection::vec(0i64..10_000, 0..40), limit in 1u32..6,
    ) {
        times.sort_unstable();
        let span = 1000;
        let now = times.last().copied().unwrap_or(0);
        let counted = |at: i64| times.iter().filter(|t| **t > at - span && **t <= at).count();
        // As the ledger keeps them: within the limit.
        let at = windows::free_at(&times, span, limit, now);
        prop_assert!(counted(at) < limit as usize);
        if at > now {
            prop_assert!(counted(at - 1) >= limit as usize);
        }
    }

    /// The plan is what one gets by asking the ledger each time.
    #[test]
    fn plans_agree_with_the_ledger(hosts in proptest::collection::vec((0u8..4, 0u8..3), 1..25)) {
        let limits = Limits { per_domain_week: 2, orders_3h: 3, ..Limits::default() };
        let sets: Vec<Vec<String>> =
            hosts.iter().map(|(host, domain)| vec![format!("h{host}.d{domain}.example")]).collect();
        let requests: Vec<Request<'_>> = sets.iter().map(|set| request(set)).collect();
        let plan = estimate(NOW, &Ledger::default(), &limits, &requests);
        let mut ledger = Ledger::default();
        let (mut waiting, mut now) = (requests, NOW);
        let mut last = NOW;
        while !waiting.is_empty() {
            ledger.settle(now);
            let free = waiting.iter().position(|r| ledger.allowed_at(now, &limits, r).at <= now);
            if let Some(index) = free {
                let request = waiting.remove(index);
                ledger.record(event(now, Kind::Order, request.set, false));
                ledger.record(event(now, Kind::Issued, request.set, false));
                last = now;
            } else {
                let next = waiting.iter().map(|r| ledger.allowed_at(now, &limits, r).at).min();
                now = next.unwrap();
            }
        }
        prop_assert_eq!(plan.seconds, last - NOW);
    }
}
