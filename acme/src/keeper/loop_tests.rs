//! The keeper's loop from inside: what cannot be provoked from outside.

use std::collections::BTreeMap;

use super::run::Run;
use super::*;
use crate::ca::{CaConfig, ChallengeKind};
use crate::ledger::{Limits, Priority};
use crate::schedule::Wait;

const NOW: i64 = 1_900_000_000;
const APP: &str = "app.openclaw.example";

fn run(dir: &tempfile::TempDir) -> Run {
    let (_, queue) = mpsc::unbounded_channel();
    let settings = Settings {
        state_dir: dir.path().to_owned(),
        challenges: Arc::default(),
        changed: Box::new(|| ()),
        asked: Arc::new(|_, _| ()),
        clock: Box::new(|| NOW),
        uptime: Arc::new(|| Duration::ZERO),
        poll: POLL,
    };
    let mut run = Run::new(settings, queue, Arc::default());
    run.want(wanted());
    run
}

fn wanted() -> Wanted {
    let issuer = Issuer {
        name: "main".to_owned(),
        // Nobody is there.
        ca: CaConfig::new("http://127.0.0.1:1/directory"),
        contact: None,
        eab: None,
        challenge: ChallengeKind::Http01,
        fallback: None,
        staging: None,
        limits: Limits::default(),
    };
    let certificate = WantedCertificate {
        label: APP.to_owned(),
        names: vec![APP.to_owned()],
        issuer: "main".to_owned(),
        profile: None,
        key: KeyKind::P256,
        priority: Priority::Route,
    };
    Wanted {
        issuers: BTreeMap::from([("main".to_owned(), issuer)]),
        certificates: vec![certificate],
    }
}

#[tokio::test]
async fn a_panic_in_an_order_ends_that_order_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = run(&dir);
    let stem = run.slots.keys().next().unwrap().clone();
    let task = run.tasks.spawn(async { panic!("as a defect in a library would") });
    run.running.insert(task.id(), stem.clone());
    let slot = run.slots.get_mut(&stem).unwrap();
    slot.running = true;

    // A question of the same slot ends first and leaves the order its slot.
    let question = run.tasks.spawn(std::future::pending());
    run.running.insert(question.id(), stem.clone());
    question.abort();
    let mut seen = Vec::new();
    while let Some(done) = run.tasks.join_next_with_id().await {
        let last = run.tasks.is_empty();
        run.finished(done);
        seen.push((last, run.slots[&stem].running));
    }
    assert_eq!(seen, [(false, true), (true, false)]);
    assert_eq!(run.slots[&stem].due_at, NOW + 3600, "an hour later, not at once");
    assert!(run.running.is_empty() && run.stale);

    // It goes on: the next attempt is a usual one.
    run.slots.get_mut(&stem).unwrap().due_at = 0;
    run.start_due();
    assert!(run.slots[&stem].running);
    let done = run.tasks.join_next_with_id().await.unwrap();
    run.finished(done);
    assert_eq!(run.slots[&stem].failures(), 1);
    run.publish();
    assert_eq!(run.view.load().rows[0].last_failure.as_ref().unwrap().at, NOW);
}

/// With a slot that waits for the budget, and a failed order that would have used it up.
#[tokio::test]
async fn a_budget_that_was_kept_for_a_failed_order_is_free_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = run(&dir);
    let mut wanted = wanted();
    let other = "api.openclaw.example".to_owned();
    let certificate = &wanted.certificates[0];
    let second =
        WantedCertificate { label: other.clone(), names: vec![other], ..certificate.clone() };
    wanted.certificates.push(second);
    wanted.issuers.get_mut("main").unwrap().limits.per_domain_week = 1;
    run.want(wanted);
    run.start_due();
    assert_eq!(run.tasks.len(), 1, "the second has to wait for what becomes of the first");
    let waits =
        |run: &Run| run.slots.values().filter(|slot| matches!(slot.waits, Wait::Budget(_))).count();
    assert_eq!(waits(&run), 1);
    let done = run.tasks.join_next_with_id().await.unwrap();
    run.finished(done);
    run.start_due();
    assert_eq!(run.tasks.len(), 1, "its turn");
}
