//! An endpoint that fails requests is left alone for a while, and comes back without a flap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::harness::backend::ok;
use crate::harness::behave::{Executions, Switch};
use crate::harness::load::Load;
use crate::harness::{Backend, Conf, Edge, wait_until};

const HOST: &str = "app.openclaw.example";
const EJECTED: &str = "edge_upstream_endpoints{upstream=\"app\",state=\"ejected\"}";
const EJECTIONS: &str = "edge_upstream_ejections_total{upstream=\"app\"}";

/// What a backend does with requests, changed while it runs.
#[derive(Clone, Default)]
struct Mood(Arc<AtomicU8>);

const GOOD: u8 = 0;
const ERRORS: u8 = 1;
const SLOW: u8 = 2;

impl Mood {
    fn set(&self, mood: u8) {
        self.0.store(mood, Ordering::SeqCst);
    }

    fn backend(&self, name: &str) -> Backend {
        let (mood, good) = (self.clone(), ok(name));
        Backend::script(move |peer| {
            while peer.request().is_some() {
                match mood.0.load(Ordering::SeqCst) {
                    ERRORS => {
                        peer.send(
                            "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
                        );
                    }
                    SLOW => {
                        // Until the edge has had enough.
                        let _ = peer.wire.peek(Duration::from_secs(5));
                    }
                    _ => peer.send(&good),
                }
            }
        })
    }
}

/// Three backends, the first with a mood.
fn three(mood: &Mood) -> [Backend; 3] {
    [mood.backend("moody"), Backend::named("two"), Backend::named("three")]
}

fn edge(backends: &[Backend], upstream: &str) -> Edge {
    let addresses: Vec<_> = backends.iter().map(|b| b.addr).collect();
    Edge::start(&Conf::app_with(&addresses, upstream, "").workers(2))
}

/// A third each, before; then `ill` makes the first fail: it is ejected after about `failures`
/// errors, has no share, and gets it back after it has recovered.
fn ejected_and_back(upstream: &str, ill: u8, most_errors: usize) {
    let mood = Mood::default();
    let backends = three(&mood);
    let edge = edge(&backends, upstream);
    let load = Load::start(&edge, HOST);
    load.wait_more(300);
    let before = load.take();
    before.assert_clean(300);
    assert!((0.2..0.5).contains(&before.share("moody")), "{:?}", before.answers);

    mood.set(ill);
    wait_until("the ejection", || edge.metric(EJECTED) == 1.0);
    let errors = load.take().errors;
    // The policy's failures in a row, and what was under way meanwhile.
    assert!(!errors.is_empty() && errors.len() <= most_errors, "{errors:#?}");
    mood.set(GOOD);
    let ejections = edge.metric(EJECTIONS);
    let during = Instant::now();
    load.wait_more(60);
    let tally = load.take();
    tally.assert_clean(60);
    if during.elapsed() < Duration::from_millis(500) {
        assert_eq!(tally.answers.get("moody"), None, "{:?}", tally.answers);
    }

    wait_until("the recovery", || edge.metric(EJECTED) == 0.0);
    let _ = load.take();
    load.wait_more(600);
    let after = load.finish();
    after.assert_clean(600);
    assert!((0.2..0.5).contains(&after.share("moody")), "{:?}", after.answers);
    assert!((edge.metric(EJECTIONS) - ejections).abs() < 0.5, "it flaps");
}

#[test]
fn one_that_answers_500() {
    ejected_and_back("ejection: { failures: 4, time: 1s }", ERRORS, 10);
}

#[test]
fn one_that_does_not_answer() {
    let policy = "ejection: { failures: 3, time: 1s }, timeouts: { first_byte: 200ms }";
    ejected_and_back(policy, SLOW, 10);
}

#[test]
fn one_that_stays_bad_costs_one_trial_for_each_term() {
    let mood = Mood::default();
    mood.set(ERRORS);
    let backends = three(&mood);
    let edge = edge(&backends, "ejection: { failures: 3, time: 500ms, max_time: 60s }");
    let load = Load::start(&edge, HOST);
    // 0.5, 1, 2 and 4 s: each after the first begins with a trial that fails.
    wait_until("four terms", || edge.metric(EJECTIONS) >= 4.0);
    let tally = load.finish();
    // Three, what was under way with the last of them, and the trials.
    assert!((6..=12).contains(&tally.errors.len()), "{:#?}", tally.errors);
    assert!(tally.sent > 300, "{}", tally.sent);
}

#[test]
fn one_that_refuses_is_never_seen_and_ejected() {
    let executions = Executions::default();
    let mut refusing = Switch::named("moody", &executions);
    let good = [Backend::named("two"), Backend::named("three")];
    let conf = Conf::app_with(
        &[refusing.addr, good[0].addr, good[1].addr],
        "ejection: { failures: 3, time: 1s }",
        "",
    );
    let edge = Edge::start(&conf.workers(2));
    let load = Load::start(&edge, HOST);
    refusing.stop();
    wait_until("the ejection", || edge.metric(EJECTED) == 1.0);
    refusing.start();
    wait_until("the recovery", || edge.metric(EJECTED) == 0.0);
    let during = load.take();
    during.assert_clean(50);
    load.wait_more(300);
    let after = load.finish();
    after.assert_clean(300);
    assert!((0.2..0.5).contains(&after.share("moody")), "{:?}", after.answers);
}

#[test]
fn at_most_half_of_them() {
    let mood = Mood::default();
    mood.set(ERRORS);
    let backends = [mood.backend("a"), mood.backend("b"), Backend::named("good")];
    let edge = edge(&backends, "ejection: { failures: 2, time: 30s }");
    let load = Load::start(&edge, HOST);
    wait_until("the ejection", || edge.metric(EJECTED) >= 1.0);
    load.wait_more(400);
    // Half of three, rounded down.
    assert!((edge.metric(EJECTED) - 1.0).abs() < 0.1, "{}", edge.metric(EJECTED));
    assert!((edge.metric(EJECTIONS) - 1.0).abs() < 0.1, "{}", edge.metric(EJECTIONS));
    drop(load);
}

#[test]
fn off_means_off() {
    let mood = Mood::default();
    mood.set(ERRORS);
    let backends = three(&mood);
    let edge = edge(&backends, "ejection: off");
    let mut client = edge.client();
    let bad = (0..90).filter(|_| client.get(HOST, "/").status == 500).count();
    assert_eq!(bad, 30);
    assert!(edge.metric(EJECTED) < 0.5);
}
