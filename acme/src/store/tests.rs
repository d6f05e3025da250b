use std::fs;
use std::path::PathBuf;

use super::*;
use crate::placeholder::self_signed;

const DIRECTORY: &str = "https://ca.openclaw.example/dir";

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn set(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn made(name: &str, now: i64) -> String {
    let made = self_signed(name, now).unwrap();
    bundle(
        Some(&Issuance { by: DIRECTORY, at: now, ordered_as: "p256" }),
        &made.chain_pem(),
        &made.key_pem().unwrap(),
    )
}

fn file(dir: &tempfile::TempDir, names: &[String], end: &str) -> PathBuf {
    dir.path().join("acme/certs").join(format!("{}{end}", name::file_stem(names)))
}

#[test]
fn a_certificate_comes_back_with_who_issued_it() {
    let (_dir, store) = open();
    let names = set(&["app.openclaw.example"]);
    let text = made("app.openclaw.example", 1_800_000_000);
    store.put_certificate(&names, &text).unwrap();
    let mut problems = Vec::new();
    let found = store.certificates(&mut problems);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].issuer.as_deref(), Some(DIRECTORY));
    assert_eq!(found[0].issued_at, Some(1_800_000_000));
    assert_eq!(found[0].ordered_as.as_deref(), Some("p256"));
    assert_eq!(found[0].names, names);
    assert_eq!(found[0].stem, name::file_stem(&names));
    assert!(found[0].covers("app.openclaw.example"));
    assert!(!found[0].covers("b.app.openclaw.example"));
}

#[test]
fn two_generations_are_kept_and_a_repeated_write_changes_nothing() {
    let (dir, store) = open();
    let names = set(&["app.openclaw.example"]);
    let all: Vec<String> =
        (0..3).map(|n| made("app.openclaw.example", 1_800_000_000 + n)).collect();
    for text in &all {
        store.put_certificate(&names, text).unwrap();
        store.put_certificate(&names, text).unwrap();
    }
    assert_eq!(fs::read_to_string(file(&dir, &names, ".pem")).unwrap(), all[2]);
    assert_eq!(fs::read_to_string(file(&dir, &names, ".former.pem")).unwrap(), all[1]);
    assert_eq!(store.certificates(&mut Vec::new()).len(), 2);
}

#[test]
fn damaged_files_are_skipped_and_reported() {
    let (dir, store) = open();
    let (one, other) = (set(&["a.openclaw.example"]), set(&["b.openclaw.example"]));
    for names in [&one, &other] {
        store.put_certificate(names, &made(&names[0], 1_800_000_000)).unwrap();
    }
    let path = file(&dir, &one, ".pem");
    let whole = fs::read(&path).unwrap();
    for broken in [&b""[..], &b"\0\xff\0"[..], &whole[..whole.len() / 2]] {
        fs::write(&path, broken).unwrap();
        let mut problems = Vec::new();
        let found = store.certificates(&mut problems);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].names, other);
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
    // A new one takes the place of the damaged one, which is not lost.
    store.put_certificate(&one, &made(&one[0], 1_800_000_000)).unwrap();
    assert_eq!(store.certificates(&mut Vec::new()).len(), 2);
}

#[test]
fn records_survive_and_damaged_ones_start_anew() {
    let (dir, store) = open();
    let names = set(&["a.openclaw.example", "b.openclaw.example"]);
    let mut record = store.record(&names);
    assert_eq!(record.names, names);
    record.failing.insert("b.openclaw.example".into(), Retry { failures: 2, ..Retry::default() });
    store.put_record(&record).unwrap();
    assert_eq!(store.record(&names).failing["b.openclaw.example"].failures, 2);
    // Another set under the same stem cannot be: names are compared.
    assert!(store.record(&set(&["a.openclaw.example"])).failing.is_empty());
    for broken in ["", "{", "[]", "{\"names\": 7}"] {
        fs::write(file(&dir, &names, ".json"), broken).unwrap();
        assert!(store.record(&names).failing.is_empty(), "{broken}");
    }
}

#[test]
fn an_order_keeps_its_key_to_itself() {
    let (_dir, store) = open();
    let names = set(&["a.openclaw.example"]);
    assert!(store.order(&names).is_none());
    let order = PendingOrder {
        url: "https://ca.openclaw.example/order/1".into(),
        directory: DIRECTORY.into(),
        names: names.clone(),
        key_pem: "s3cret".into(),
        csr: "csr".into(),
        placed_at: 1_800_000_000,
        ordered_as: String::new(),
        renewal: false,
    };
    store.put_order(&names, &order).unwrap();
    let found = store.order(&names).unwrap();
    assert_eq!((found.url.as_str(), found.key_pem.as_str()), (order.url.as_str(), "s3cret"));
    assert!(!format!("{found:?}").contains("s3cret"));
    store.drop_order(&names).unwrap();
    assert!(store.order(&names).is_none());
}

#[test]
fn one_process_owns() {
    let (dir, store) = open();
    let held = store.try_own().unwrap().unwrap();
    let second = Store::open(dir.path()).unwrap();
    assert!(second.try_own().unwrap().is_none());
    drop(held);
    assert!(second.try_own().unwrap().is_some());
}

#[test]
fn only_what_nobody_wants_and_has_long_ended_is_cleared_away() {
    let (_dir, store) = open();
    let day = 24 * 3600;
    let now = 1_800_000_000;
    for (name, at) in [("old", now - 800 * day), ("wanted", now - 800 * day), ("young", now)] {
        let host = format!("{name}.openclaw.example");
        store.put_certificate(&set(&[&host]), &made(&host, at)).unwrap();
    }
    let wanted = HashSet::from([name::file_stem(&set(&["wanted.openclaw.example"]))]);
    store.prune(&wanted, now).unwrap();
    let mut left: Vec<String> =
        store.certificates(&mut Vec::new()).iter().flat_map(|found| found.names.clone()).collect();
    left.sort();
    assert_eq!(left, ["wanted.openclaw.example", "young.openclaw.example"]);
}

#[test]
fn an_ended_generation_does_not_take_the_other_with_it() {
    let (_dir, store) = open();
    let names = set(&["app.openclaw.example"]);
    let now = 1_800_000_000;
    store.put_certificate(&names, &made(&names[0], now - 800 * 24 * 3600)).unwrap();
    store.put_certificate(&names, &made(&names[0], now)).unwrap();
    store.prune(&HashSet::new(), now).unwrap();
    assert_eq!(store.certificates(&mut Vec::new()).len(), 2);
}

#[test]
fn a_ledger_of_many_entries_comes_back() {
    use crate::ledger::{Event, Kind};
    let (_dir, store) = open();
    let mut ledger = Ledger::default();
    for number in 0..2000 {
        let set = (0..20).map(|n| format!("host-{n}-{number}.openclaw.example")).collect();
        let (at, kind, account) = (1_800_000_000, Kind::Issued, DIRECTORY.to_owned());
        ledger.record(Event { at, kind, account, set, renewal: false, hosts: Vec::new() });
    }
    store.put_ledger(&ledger).unwrap();
    assert!(store.ledger().unwrap() == ledger);
}

#[test]
fn what_cannot_be_read_now_is_not_taken_for_absent() {
    let (dir, store) = open();
    fs::write(dir.path().join("acme/accounts"), "in the way").unwrap();
    assert!(store.account(DIRECTORY).is_err());
}

#[test]
fn old_orders_that_nobody_wants_go_with_their_keys() {
    let (_dir, store) = open();
    let now = 1_800_000_000;
    for (name, placed_at) in [("old", now - 10), ("wanted", now - 10), ("young", now)] {
        let names = set(&[name]);
        let (url, directory) = (String::new(), DIRECTORY.to_owned());
        let (key_pem, csr, ordered_as) = Default::default();
        let (names_of, renewal) = (names.clone(), false);
        let order = PendingOrder {
            url,
            directory,
            names: names_of,
            key_pem,
            csr,
            ordered_as,
            placed_at,
            renewal,
        };
        store.put_order(&names, &order).unwrap();
    }
    store.prune(&HashSet::from([name::file_stem(&set(&["wanted"]))]), now).unwrap();
    let left = ["old", "wanted", "young"].map(|name| store.order(&set(&[name])).is_some());
    assert_eq!(left, [false, true, true]);
}

#[test]
fn the_probe_leaves_nothing() {
    let (dir, store) = open();
    store.probe().unwrap();
    let left: Vec<_> = fs::read_dir(dir.path().join("acme")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn looking_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Store::look(dir.path()).is_none());
    assert!(!dir.path().join(FOLDER).exists());
    let names = set(&["a.example"]);
    Store::open(dir.path()).unwrap().put_certificate(&names, &made("a.example", 1000)).unwrap();
    let ledger = dir.path().join(FOLDER).join(LEDGER);
    fs::write(&ledger, "half a led").unwrap();
    let store = Store::look(dir.path()).unwrap();
    assert_eq!(store.certificates(&mut Vec::new()).len(), 1);
    assert_eq!(store.ledger().unwrap(), Ledger::default());
    assert_eq!(fs::read(&ledger).unwrap(), b"half a led");
}

#[test]
fn the_newest_valid_one_of_a_wanted_ca_ranks_first() {
    let day = 86_400;
    let stored = |at: i64| Stored::parse("t", made("a.example", at).into_bytes(), "").unwrap();
    let (old, new) = (stored(0), stored(day));
    let both = [DIRECTORY];
    assert!(new.rank(&both, day + 1) > old.rank(&both, day + 1));
    assert!(new.rank(&[], day + 1) < Stored { issuer: None, ..stored(day) }.rank(&[], day + 1));
    // Before it begins, the newer one is of no use.
    assert!(old.rank(&both, -day / 2) > new.rank(&both, -day / 2));
}
