//! What the loop does between two conversations with a CA; no network.

use std::fs;
use std::path::Path;

use super::*;
use crate::ca::{CaConfig, ChallengeKind, Class, Failure, Step, SubProblem};
use crate::keeper::POLL;
use crate::keeper::slot::Task;
use crate::keeper::wanted::{Issuer, KeyKind, WantedCertificate, ordered_as};
use crate::ledger::{Limits, Priority};
use crate::placeholder::self_signed;
use crate::schedule::Wait;
use crate::store::{Issuance, bundle};

const NOW: i64 = 1_800_000_000;
const HOST: &str = "app.openclaw.example";

fn directory(issuer: &str) -> String {
    format!("https://{issuer}.openclaw.example/dir")
}

fn keeper(dir: &Path) -> Run {
    let (_, queue) = mpsc::unbounded_channel();
    let settings = Settings {
        state_dir: dir.to_owned(),
        challenges: Arc::default(),
        changed: Box::new(|| {}),
        asked: Arc::new(|_, _| {}),
        clock: Box::new(|| NOW),
        uptime: Arc::new(|| Duration::ZERO),
        poll: POLL,
    };
    Run::new(settings, queue, Arc::default())
}

fn wanted(issuers: &[&str], sets: &[&[&str]]) -> Wanted {
    let issuer = |number: usize, name: &&str| Issuer {
        name: (*name).to_owned(),
        ca: CaConfig::new(directory(name)),
        contact: None,
        eab: None,
        challenge: ChallengeKind::Http01,
        fallback: issuers.get(number + 1).map(|next| (*next).to_owned()),
        staging: None,
        limits: Limits::default(),
    };
    let certificate = |names: &&[&str]| WantedCertificate {
        label: names[0].to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        issuer: issuers[0].to_owned(),
        profile: None,
        key: KeyKind::P256,
        priority: Priority::Route,
    };
    let issuers = issuers.iter().enumerate();
    Wanted {
        issuers: issuers.map(|(n, name)| ((*name).to_owned(), issuer(n, name))).collect(),
        certificates: sets.iter().map(certificate).collect(),
    }
}

fn stem(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    name::file_stem(&names)
}

fn key_and_bundle(host: &str) -> (String, String) {
    let made = self_signed(host, NOW).unwrap();
    let key = made.key_pem().unwrap();
    let chain = made.chain_pem();
    let by = directory("one");
    let ordered_as = ordered_as(KeyKind::P256, None);
    let issuance = Issuance { by: &by, at: NOW, ordered_as: &ordered_as };
    let text = bundle(Some(&issuance), &chain, &key);
    (key, text)
}

fn stored(host: &str) -> Stored {
    let (_, text) = key_and_bundle(host);
    Stored::parse("made", text.into_bytes(), &stem(&[host])).unwrap()
}

fn failure(class: Class, step: Step) -> Failure {
    Failure::new(class, step, "no")
}

fn plan(run: &Run, stem: &str) -> Task {
    run.slots[stem].plan(&run.known(NOW))
}

fn order_on_disk(store: &Store, issuer: &str, key_pem: String) {
    let names = vec![HOST.to_owned()];
    let order = PendingOrder {
        url: "https://one.openclaw.example/order/1".to_owned(),
        directory: directory(issuer),
        names: names.clone(),
        key_pem,
        csr: String::new(),
        placed_at: NOW,
        renewal: false,
        ordered_as: ordered_as(KeyKind::P256, None),
    };
    store.put_order(&names, &order).unwrap();
}

#[test]
fn a_failure_at_an_issuer_that_has_gone_ends_the_task() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = keeper(dir.path());
    run.want(wanted(&["one"], &[&[HOST]]));
    let stem = stem(&[HOST]);
    run.slots.get_mut(&stem).unwrap().running = true;
    run.want(wanted(&["two"], &[&[HOST]]));
    run.failed(
        &stem,
        ("one", &directory("one")),
        vec![failure(Class::Unavailable, Step::NewOrder)],
        false,
    );
    assert!(!run.slots[&stem].running);
    assert!(matches!(plan(&run, &stem), Task::Order { issuer, .. } if issuer == "two"));
}

#[test]
fn what_was_refused_is_tried_at_once_with_another_account() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = keeper(dir.path());
    let want = |run: &mut Run, contact: Option<&str>, eab: Option<&str>| {
        let mut wanted = wanted(&["one"], &[&[HOST]]);
        let one = wanted.issuers.get_mut("one").unwrap();
        one.contact = contact.map(str::to_owned);
        one.eab = eab.map(|id| crate::ca::Eab { key_id: id.to_owned(), hmac_key: vec![1] });
        let (reply, _seen) = std::sync::mpsc::channel();
        run.command(Command::Want(wanted, reply));
    };
    let stem = stem(&[HOST]);
    let fail = |run: &mut Run, class| {
        let failures = vec![failure(class, Step::Register)];
        run.failed(&stem, ("one", &directory("one")), failures, false);
    };
    let waits = |run: &Run| matches!(plan(run, &stem), Task::Nothing { why: Wait::BackOff, .. });
    want(&mut run, None, None);
    fail(&mut run, Class::Refused);
    want(&mut run, None, None);
    assert!(waits(&run), "nothing was corrected");
    for (contact, eab) in [(None, Some("kid-1")), (None, Some("kid-2")), (Some("a@b.c"), None)] {
        want(&mut run, contact, eab);
        assert!(!waits(&run), "{contact:?} {eab:?}");
        fail(&mut run, Class::Refused);
        want(&mut run, contact, eab);
        assert!(waits(&run), "once");
    }
    // A limit has nothing to do with it.
    fail(&mut run, Class::RateLimited);
    want(&mut run, None, None);
    assert!(waits(&run));
}

#[test]
fn an_entry_is_found_by_its_name_as_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = keeper(dir.path());
    let mut wanted = wanted(&["one"], &[&[HOST]]);
    wanted.certificates[0].label = "OpenClaw-TLS".to_owned();
    run.want(wanted);
    for which in ["OpenClaw-TLS", HOST, "App.OpenClaw.example."] {
        assert_eq!(run.find(which).as_ref(), Ok(&stem(&[HOST])), "{which}");
    }
    assert!(run.find("other").is_err());
}

#[test]
fn an_operators_word_passes_the_pause_after_a_failure_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = keeper(dir.path());
    run.want(wanted(&["one"], &[&[HOST]]));
    let stem = stem(&[HOST]);
    for (class, step) in [(Class::Unavailable, Step::NewOrder), (Class::Validation, Step::Validate)]
    {
        run.failed(&stem, ("one", &directory("one")), vec![failure(class, step)], false);
        assert!(matches!(plan(&run, &stem), Task::Nothing { why: Wait::BackOff, .. }));
        let (reply, _) = tokio::sync::oneshot::channel();
        run.command(Command::Renew { which: HOST.to_owned(), force: true, reply });
        assert!(matches!(plan(&run, &stem), Task::Order { .. }), "{class:?}");
        run.failed(&stem, ("one", &directory("one")), vec![failure(class, step)], false);
        assert!(matches!(plan(&run, &stem), Task::Nothing { why: Wait::BackOff, .. }), "{class:?}");
    }
}

#[test]
fn what_serves_outlives_its_file_and_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = keeper(dir.path());
    run.want(wanted(&["one"], &[&[HOST]]));
    run.issued(&stem(&[HOST]), ("one", &directory("one")), stored(HOST));
    run.publish();
    let certs = dir.path().join("acme/certs");
    fs::remove_dir_all(&certs).unwrap();
    fs::write(&certs, "in the way").unwrap();
    for _ in 0..2 {
        run.read();
        run.publish();
        assert_eq!(run.view.load().rows[0].serving.len(), 1);
    }
    assert!(!run.problems.is_empty());
    fs::remove_file(&certs).unwrap();
    run.read();
    assert_eq!(run.store.as_ref().unwrap().certificates(&mut Vec::new()).len(), 1);
    run.read();
    assert_eq!(run.problems, Vec::<String>::new());
}

#[test]
fn what_is_ordered_for_a_name_that_is_wanted_no_more_is_not_lost_nor_ordered_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = keeper(dir.path());
    let stem = stem(&[HOST]);
    run.want(wanted(&["one"], &[&[HOST]]));
    run.slots.get_mut(&stem).unwrap().running = true;
    run.want(wanted(&["one"], &[&["other.openclaw.example"]]));
    run.want(wanted(&["one"], &[&[HOST]]));
    assert!(run.slots[&stem].running);
    run.want(wanted(&["one"], &[&["other.openclaw.example"]]));
    run.issued(&stem, ("one", &directory("one")), stored(HOST));
    assert!(run.leaving.is_empty());
    run.want(wanted(&["one"], &[&[HOST]]));
    run.publish();
    assert_eq!(run.view.load().rows[0].serving.len(), 1);
    assert_eq!(run.ledger.entries().len(), 1);
    assert!(matches!(plan(&run, &stem), Task::Nothing { why: Wait::Fresh, .. }));
}

#[test]
fn an_order_at_a_ca_that_has_gone_does_not_keep_from_asking_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let stem = stem(&[HOST]);
    let mut run = keeper(dir.path());
    order_on_disk(&Store::open(dir.path()).unwrap(), "one", "key".to_owned());
    run.want(wanted(&["one", "two"], &[&[HOST]]));
    assert!(matches!(plan(&run, &stem), Task::Resume { issuer } if issuer == "one"));
    for _ in 0..3 {
        run.failed(
            &stem,
            ("one", &directory("one")),
            vec![failure(Class::Unavailable, Step::Resume)],
            true,
        );
    }
    assert!(run.slots[&stem].pending.is_some());
    assert!(matches!(plan(&run, &stem), Task::Order { issuer, .. } if issuer == "two"));
}

#[test]
fn a_crash_between_storing_and_dropping_the_order_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (key, text) = key_and_bundle(HOST);
    store.put_certificate(&[HOST.to_owned()], &text).unwrap();
    order_on_disk(&store, "one", key);
    let mut run = keeper(dir.path());
    run.want(wanted(&["one"], &[&[HOST]]));
    assert!(matches!(plan(&run, &stem(&[HOST])), Task::Nothing { why: Wait::Fresh, .. }));
}

#[test]
fn a_certificate_that_is_of_no_use_ends_its_order_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let stem = stem(&[HOST]);
    let mut run = keeper(dir.path());
    order_on_disk(&Store::open(dir.path()).unwrap(), "one", "key".to_owned());
    run.want(wanted(&["one"], &[&[HOST]]));
    run.failed(
        &stem,
        ("one", &directory("one")),
        vec![failure(Class::Local, Step::Download)],
        true,
    );
    assert!(run.slots[&stem].pending.is_none());
    assert_eq!(run.ledger.entries().len(), 1);
    assert!(matches!(plan(&run, &stem), Task::Nothing { why: Wait::Budget(_), .. }));
}

#[test]
fn a_refused_name_does_not_block_the_others_of_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["app.openclaw.example", "blocked.openclaw.example"];
    let problem = Some("urn:ietf:params:acme:error:rejectedIdentifier".to_owned());
    let sub = SubProblem { name: Some(names[1].to_owned()), problem: None, detail: String::new() };
    let by_part = Failure {
        problem: problem.clone(),
        subproblems: vec![sub],
        ..failure(Class::Refused, Step::NewOrder)
    };
    let detail = "policy forbids issuance for \"blocked.openclaw.example\"";
    let by_text = Failure { problem, ..Failure::new(Class::Refused, Step::NewOrder, detail) };
    for refused in [by_part, by_text] {
        let mut run = keeper(&dir.path().join(refused.subproblems.len().to_string()));
        run.want(wanted(&["one"], &[&names]));
        run.failed(&stem(&names), ("one", &directory("one")), vec![refused], false);
        match plan(&run, &stem(&names)) {
            Task::Order { names: ordered, .. } => assert_eq!(ordered, [names[0]]),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_revoked_certificate_is_replaced_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let stem = stem(&[HOST]);
    {
        let store = Store::open(dir.path()).unwrap();
        let stored = stored(HOST);
        store.put_certificate(&stored.names, &stored.bundle).unwrap();
        let mut record = store.record(&stored.names);
        record.revoked = stored.certificate.serial();
        store.put_record(&record).unwrap();
    }
    let mut run = keeper(dir.path());
    run.want(wanted(&["one"], &[&[HOST]]));
    assert!(matches!(plan(&run, &stem), Task::Order { .. }));
    run.issued(&stem, ("one", &directory("one")), stored(HOST));
    run.ledger = Ledger::default();
    assert!(matches!(plan(&run, &stem), Task::Nothing { why: Wait::Fresh, .. }));
}

#[test]
fn a_ca_that_wants_to_be_left_alone_is_left_alone_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = keeper(dir.path());
    run.want(wanted(&["one"], &[&[HOST], &["other.openclaw.example"]]));
    let told = failure(Class::Unavailable, Step::NewOrder);
    let told = Failure { retry_at: Some(NOW + 600), ..told };
    run.failed(&stem(&[HOST]), ("one", &directory("one")), vec![told], false);
    match plan(&run, &stem(&["other.openclaw.example"])) {
        Task::Nothing { until, .. } => assert!(until >= NOW + 600),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_order_that_was_taken_over_is_answered_before_its_tokens_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let account = serde_json::json!({ "directory": directory("one"), "contact": null,
        "thumbprint": "thumb", "registered_at": NOW, "credentials": {} });
    store.put_account(&serde_json::from_value(account).unwrap()).unwrap();
    order_on_disk(&store, "one", "key".to_owned());
    let mut run = keeper(dir.path());
    run.want(wanted(&["one"], &[&[HOST], &["other.openclaw.example"]]));
    let token = "abcdefghijklmnop";
    let answer = |run: &Run, host| run.settings.challenges.answer(host, token);
    assert_eq!(answer(&run, HOST).unwrap(), "abcdefghijklmnop.thumb");
    assert_eq!(answer(&run, "other.openclaw.example"), None);
    run.slots.get_mut(&stem(&[HOST])).unwrap().pending = None;
    run.answer_statelessly();
    assert_eq!(answer(&run, HOST), None);
}

#[tokio::test]
async fn a_clock_that_jumps_empties_no_ledger_before_a_ca_was_asked() {
    use std::sync::atomic::{AtomicI64, Ordering};
    static CLOCK: AtomicI64 = AtomicI64::new(NOW);
    let dir = tempfile::tempdir().unwrap();
    let mut run = keeper(dir.path());
    run.settings.clock = Box::new(|| CLOCK.load(Ordering::Relaxed));
    // Nobody listens there.
    let mut wanted = wanted(&["one"], &[&[HOST]]);
    let issuer = wanted.issuers.get_mut("one").unwrap();
    issuer.ca.directory = "https://127.0.0.1:1/dir".to_owned();
    run.want(wanted.clone());
    run.issued(&stem(&[HOST]), ("one", &directory("one")), stored(HOST));
    run.look_at_clock().await;
    assert!(!run.doubts_clock(), "no account, no doubt");
    let account = serde_json::json!({ "directory": "https://127.0.0.1:1/dir", "contact": null,
        "thumbprint": "thumb", "registered_at": NOW, "credentials": {} });
    let store = run.store.clone().unwrap();
    store.put_account(&serde_json::from_value(account).unwrap()).unwrap();
    drop((run, store));

    CLOCK.store(NOW + 400 * 24 * 3600, Ordering::Relaxed);
    let mut run = keeper(dir.path());
    run.settings.clock = Box::new(|| CLOCK.load(Ordering::Relaxed));
    run.want(wanted);
    run.look_at_clock().await;
    assert!(run.doubts_clock());
    assert_eq!(run.ledger.entries().len(), 1);
    CLOCK.store(NOW, Ordering::Relaxed);
    let asked = run.tasks.join_next_with_id().await.unwrap();
    run.finished(asked);
    run.look_at_clock().await;
    assert!(!run.doubts_clock());
    assert_eq!(run.ledger.entries().len(), 1);
}
