//! What the loop does between two conversations with a CA; no network.

use std::fs;
use std::path::Path;

use super::*;
use crate::ca::{CaConfig, ChallengeKind, Class, Failure, Step, SubProblem};
use crate::keeper::slot::Task;
use crate::keeper::wanted::{Issuer, KeyKind, WantedCertificate};
use crate::ledger::{Limits, Priority};
use crate::placeholder::self_signed;
use crate::schedule::Wait;
use crate::store::bundle;

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
        clock: || NOW,
    };
    Run::new(settings, queue, Arc::default())
}

fn wanted(issuers: &[&str], sets: &[&[&str]]) -> Wanted {
    let issuer = |number: usize, name: &&str| Issuer {
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

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

fn key_and_bundle(host: &str) -> (String, String) {
    let made = self_signed(host, NOW).unwrap();
    let key = pem("PRIVATE KEY", made.key.secret_der());
    let chain = pem("CERTIFICATE", &made.chain[0]);
    let text = bundle(Some((&directory("one"), NOW)), &chain, &key);
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
    run.failed(&stem, "one", vec![failure(Class::Unavailable, Step::NewOrder)], false);
    assert!(!run.slots[&stem].running);
    assert!(matches!(plan(&run, &stem), Task::Order { issuer, .. } if issuer == "two"));
}

#[test]
fn an_operators_word_passes_the_pause_after_a_failure_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = keeper(dir.path());
    run.want(wanted(&["one"], &[&[HOST]]));
    let stem = stem(&[HOST]);
    for (class, step) in [(Class::Unavailable, Step::NewOrder), (Class::Validation, Step::Validate)]
    {
        run.failed(&stem, "one", vec![failure(class, step)], false);
        assert!(matches!(plan(&run, &stem), Task::Nothing { why: Wait::BackOff, .. }));
        let (reply, _) = tokio::sync::oneshot::channel();
        run.command(Command::Renew { which: HOST.to_owned(), force: true, reply });
        assert!(matches!(plan(&run, &stem), Task::Order { .. }), "{class:?}");
        run.failed(&stem, "one", vec![failure(class, step)], false);
        assert!(matches!(plan(&run, &stem), Task::Nothing { why: Wait::BackOff, .. }), "{class:?}");
    }
}

#[test]
fn what_serves_outlives_its_file_and_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = keeper(dir.path());
    run.want(wanted(&["one"], &[&[HOST]]));
    run.issued(&stem(&[HOST]), "one", stored(HOST));
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
    run.issued(&stem, "one", stored(HOST));
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
        run.failed(&stem, "one", vec![failure(Class::Unavailable, Step::Resume)], true);
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
    run.failed(&stem, "one", vec![failure(Class::Local, Step::Download)], true);
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
        run.failed(&stem(&names), "one", vec![refused], false);
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
    run.issued(&stem, "one", stored(HOST));
    run.ledger = Ledger::default();
    assert!(matches!(plan(&run, &stem), Task::Nothing { why: Wait::Fresh, .. }));
}
