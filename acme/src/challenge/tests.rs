//! Tests of [`Challenges`](super::Challenges).

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const HOST: &str = "app.openclaw.example";
const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";

fn certificate(host: &str) -> Arc<CertifiedKey> {
    Arc::new(alpn_certificate(host, [1; 32]).unwrap())
}

#[test]
fn only_the_host_that_a_token_is_for_answers_it() {
    let challenges = Challenges::default();
    challenges.offer("App.OpenClaw.example.", TOKEN, "token.thumb").unwrap();
    assert_eq!(challenges.answer(HOST, TOKEN).as_deref(), Some("token.thumb"));
    for (host, token) in [
        ("api.openclaw.example", TOKEN),
        ("openclaw.example", TOKEN),
        ("", TOKEN),
        (HOST, ""),
        (HOST, &TOKEN[1..]),
        (HOST, &format!("{TOKEN}/")),
        (HOST, &TOKEN.to_ascii_lowercase()),
    ] {
        assert_eq!(challenges.answer(host, token), None, "{host} {token}");
    }
}

#[test]
fn an_address_may_come_in_brackets_and_any_spelling() {
    let challenges = Challenges::default();
    challenges.offer("2001:db8::1", TOKEN, "k").unwrap();
    assert!(challenges.answer("[2001:DB8:0::1]", TOKEN).is_some());
    assert!(challenges.answer("[2001:db8::2]", TOKEN).is_none());
}

#[test]
fn malformed_tokens_and_hosts_are_refused() {
    let challenges = Challenges::default();
    let (short, long) = ("a".repeat(15), "a".repeat(257));
    for token in ["", &short, &long, "aaaaaaaaaaaaaaaa/", "aaaaaaaaaaaaaaaa.", "aaaaaaaaaaaaaaaä"]
    {
        assert_eq!(challenges.offer(HOST, token, "k"), Err(Refused::Token), "{token}");
    }
    assert_eq!(challenges.offer("a b", TOKEN, "k"), Err(Refused::Host));
    assert_eq!(challenges.offer(HOST, &short.repeat(2), "k"), Ok(()));
    assert_eq!(challenges.offer(HOST, &long[1..], "k"), Ok(()));
}

#[test]
fn a_token_is_kept_for_ten_minutes_after_it_is_done() {
    let challenges = Challenges::default();
    challenges.offer(HOST, TOKEN, "k").unwrap();
    challenges.sweep(1_000_000);
    assert!(challenges.answer(HOST, TOKEN).is_some(), "pending tokens stay");
    challenges.done(HOST, TOKEN);
    challenges.sweep(1_000_000);
    challenges.sweep(1_000_000 + KEEP_DONE - 1);
    assert!(challenges.answer(HOST, TOKEN).is_some());
    challenges.sweep(1_000_000 + KEEP_DONE);
    assert!(challenges.answer(HOST, TOKEN).is_none());
    // Offered anew it is pending again.
    challenges.offer(HOST, TOKEN, "k2").unwrap();
    challenges.sweep(i64::MAX);
    assert_eq!(challenges.answer(HOST, TOKEN).as_deref(), Some("k2"));
}

#[test]
fn a_clock_set_back_does_not_keep_a_token() {
    let challenges = Challenges::default();
    challenges.offer(HOST, TOKEN, "k").unwrap();
    challenges.done(HOST, TOKEN);
    challenges.sweep(2_000_000_000);
    challenges.sweep(1_000_000_000);
    challenges.sweep(1_000_000_000 + KEEP_DONE);
    assert!(challenges.answer(HOST, TOKEN).is_none());
}

#[test]
fn a_full_table_refuses_until_something_is_done() {
    let challenges = Challenges::default();
    // Filled from inside: ten thousand copies of a growing table would only take time.
    let token = |n: usize| format!("{n:032}");
    let mut of_host = Host::default();
    for n in 0..MAX_PENDING {
        let entry = Token { key_authorization: "k".into(), state: State::Pending };
        of_host.tokens.insert(token(n).into(), entry);
    }
    let hosts = HashMap::from([(HOST.into(), of_host)]);
    challenges.tokens.store(Arc::new(Tokens { hosts, count: MAX_PENDING }));

    assert_eq!(challenges.offer(HOST, TOKEN, "k"), Err(Refused::Full));
    assert_eq!(challenges.offer(HOST, &token(3), "again"), Ok(()), "no further one");
    challenges.done(HOST, &token(5));
    challenges.sweep(0);
    challenges.done(HOST, &token(4));
    assert_eq!(challenges.offer(HOST, TOKEN, "k"), Ok(()));
    assert!(challenges.answer(HOST, &token(5)).is_none(), "done for longest");
    assert!(challenges.answer(HOST, &token(4)).is_some());
    assert_eq!(challenges.offer("b.example", TOKEN, "k"), Ok(()));
    assert_eq!(challenges.offer("c.example", TOKEN, "k"), Err(Refused::Full));
}

#[test]
fn stateless_hosts_answer_any_token_with_their_accounts_thumbprint() {
    let challenges = Challenges::default();
    challenges.offer(HOST, TOKEN, "own").unwrap();
    let hosts = [("App.openclaw.example", "T1"), ("b.example", "T2"), ("a b", "T3")];
    challenges.set_stateless(hosts.map(|(h, t)| (h.to_owned(), t.to_owned())).into());
    assert_eq!(challenges.answer(HOST, TOKEN).as_deref(), Some("own"), "known tokens first");
    let other = TOKEN.replace('-', "_");
    assert_eq!(challenges.answer(HOST, &other), Some(format!("{other}.T1")));
    assert_eq!(challenges.answer("b.example", TOKEN), Some(format!("{TOKEN}.T2")));
    assert_eq!(challenges.answer("b.example", "short"), None);
    assert_eq!(challenges.answer("a b", TOKEN), None);
    assert_eq!(challenges.answer("c.example", TOKEN), None);
    challenges.set_stateless(HashMap::new());
    assert_eq!(challenges.answer("b.example", TOKEN), None);
}

#[test]
fn answers_are_counted_with_who_asked() {
    let challenges = Challenges::default();
    challenges.offer(HOST, TOKEN, "k").unwrap();
    challenges.offer_alpn(HOST, certificate(HOST)).unwrap();
    let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
    assert!(challenges.answer_to(HOST, TOKEN, Some(a)).is_some());
    assert!(challenges.answer_to(HOST, &TOKEN.replace('-', "_"), Some(b)).is_none());
    assert!(challenges.answer(HOST, TOKEN).is_some(), "not counted");
    assert_eq!(challenges.hits(HOST), Hits { count: 1, peers: vec![a] });
    challenges.count_alpn(HOST, b);
    assert_eq!(challenges.hits("APP.openclaw.example"), Hits { count: 2, peers: vec![a, b] });
    assert_eq!(challenges.hits("b.example"), Hits::default());
    // Another offer goes on with the same count.
    challenges.offer(HOST, &"x".repeat(20), "k").unwrap();
    assert_eq!(challenges.hits(HOST).count, 2);
}

#[test]
fn certificates_are_shown_while_their_challenge_lasts() {
    let challenges = Challenges::default();
    assert!(!challenges.alpn_pending());
    let (one, two) = (certificate(HOST), certificate("192.0.2.1"));
    challenges.offer_alpn("App.openclaw.example", one.clone()).unwrap();
    challenges.offer_alpn("192.0.2.1", two.clone()).unwrap();
    assert!(challenges.alpn_pending());
    assert!(Arc::ptr_eq(&challenges.alpn_certificate(HOST).unwrap(), &one));
    let reverse = "1.2.0.192.in-addr.arpa";
    assert!(Arc::ptr_eq(&challenges.alpn_certificate(reverse).unwrap(), &two));
    assert!(challenges.alpn_certificate("api.openclaw.example").is_none());
    challenges.done_alpn(HOST);
    assert!(challenges.alpn_certificate(HOST).is_none() && challenges.alpn_pending());
    challenges.done_alpn("192.0.2.1");
    challenges.done_alpn("192.0.2.1");
    assert!(!challenges.alpn_pending());
}

#[test]
fn debug_shows_no_token() {
    let challenges = Challenges::default();
    challenges.offer(HOST, TOKEN, "secret.thumb").unwrap();
    let shown = format!("{challenges:?}");
    assert!(shown.contains("tokens: 1"), "{shown}");
    assert!(!shown.contains("thumb") && !shown.contains(TOKEN), "{shown}");
}

#[derive(Clone, Debug)]
enum Step {
    Offer(u8, u8),
    Done(u8, u8),
    Sweep(i64),
    Stateless(BTreeSet<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4u8, 0..4u8).prop_map(|(h, t)| Step::Offer(h, t)),
        3 => (0..4u8, 0..4u8).prop_map(|(h, t)| Step::Done(h, t)),
        3 => (0..700i64).prop_map(Step::Sweep),
        1 => prop::collection::btree_set(0..4u8, 0..3).prop_map(Step::Stateless),
    ]
}

proptest! {
    /// Against a plain list: a pair is answered if and only if it was offered and not swept since,
    /// or its host is stateless.
    #[test]
    fn answers_what_was_offered_and_not_swept(steps in prop::collection::vec(step(), 1..60)) {
        let name = |h: u8| format!("h{h}.openclaw.example");
        let token = |t: u8| format!("{t}").repeat(16);
        let challenges = Challenges::default();
        let mut now = 1_000_000;
        // `None`: pending; `Some(None)`: done; `Some(Some(until))`: done and seen by a sweep.
        let mut model: BTreeMap<(u8, u8), Option<Option<i64>>> = BTreeMap::new();
        let mut stateless = BTreeSet::new();
        for step in steps {
            match step {
                Step::Offer(h, t) => {
                    let key = format!("{}.{h}", token(t));
                    challenges.offer(&name(h), &token(t), &key).unwrap();
                    model.insert((h, t), None);
                }
                Step::Done(h, t) => {
                    challenges.done(&name(h), &token(t));
                    model.entry((h, t)).and_modify(|state| { state.get_or_insert(None); });
                }
                Step::Sweep(later) => {
                    now += later;
                    challenges.sweep(now);
                    for state in model.values_mut().flatten() {
                        state.get_or_insert(now + KEEP_DONE);
                    }
                    model.retain(|_, state| !matches!(state, Some(Some(until)) if *until <= now));
                }
                Step::Stateless(hosts) => {
                    let given = hosts.iter().map(|h| (name(*h), "T".to_owned()));
                    challenges.set_stateless(given.collect());
                    stateless = hosts;
                }
            }
            for (h, t) in (0..4).flat_map(|h| (0..4).map(move |t| (h, t))) {
                let expected = match (model.contains_key(&(h, t)), stateless.contains(&h)) {
                    (true, _) => Some(format!("{}.{h}", token(t))),
                    (false, true) => Some(format!("{}.T", token(t))),
                    (false, false) => None,
                };
                prop_assert_eq!(challenges.answer(&name(h), &token(t)), expected);
            }
            prop_assert_eq!(challenges.tokens.load().count, model.len());
        }
    }
}
