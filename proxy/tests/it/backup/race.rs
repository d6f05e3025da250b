//! Backups beside a process that renews, and the round trip through a real CA.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use acme::ledger::{Event, Kind};
use acme::store::PendingOrder;

use super::*;
use crate::harness::acme::{Pebble, Port};
use crate::harness::wait_until;

const CA: &str = "https://ca.openclaw.example/dir";

/// Ends the renewals, also where the test fails: their thread is waited for.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One renewal, in the order in which a process writes.
fn renew(store: &Store, round: i64, pairs: &[String], placed: &AtomicI64) {
    let _lock = store.own().unwrap();
    let mut ledger = store.ledger().unwrap();
    ledger.record(Event {
        at: 1_800_000_000,
        kind: Kind::Order,
        account: CA.to_owned(),
        set: Vec::new(),
        renewal: true,
        hosts: Vec::new(),
    });
    store.put_ledger(&ledger).unwrap();
    let order = PendingOrder {
        url: format!("{CA}/{round}"),
        directory: CA.to_owned(),
        names: names(),
        key_pem: String::new(),
        csr: String::new(),
        placed_at: round,
        renewal: true,
        ordered_as: String::new(),
    };
    store.put_order(&names(), &order).unwrap();
    placed.store(round, Ordering::Release);
    let pair = pairs[usize::try_from(round).unwrap() % pairs.len()].split_once("-----").unwrap().1;
    let text = format!("Issued by: {CA}\nIssued at: {round}\n-----{pair}");
    store.put_certificate(&names(), &text).unwrap();
    store.drop_order(&names()).unwrap();
}

/// Of each moment there is a whole pair, nothing that was ordered before it is lost, and the ledger
/// knows of every order that the copy holds.
#[test]
fn renewals_meanwhile() {
    let lab = Lab::new();
    let dir = lab.path().join("state");
    let store = Store::open(&dir).unwrap();
    let pairs: Vec<String> = (2020..2024).map(|year| pair(APP, year)).collect();
    // Some to read, so that renewals end between one folder and the next.
    for folder in ["orders", "certs"] {
        fs::create_dir_all(dir.join("acme").join(folder)).unwrap();
    }
    for number in 0..300 {
        fs::write(dir.join(format!("acme/orders/other-{number}.json")), "{}").unwrap();
        fs::write(dir.join(format!("acme/certs/other-{number}.json")), "{}").unwrap();
    }
    let (placed, ended) = (AtomicI64::new(0), AtomicBool::new(false));
    renew(&store, 1, &pairs, &placed);
    let rounds = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 1;
            while !ended.load(Ordering::Relaxed) {
                round += 1;
                renew(&store, round, &pairs, &placed);
            }
        });
        let _end = End(&ended);
        for number in 0..25 {
            let before = placed.load(Ordering::Acquire);
            let file = lab.path().join(format!("{number}.tar"));
            backup(&dir, &file, &[]).ends(0);
            let copy = lab.path().join(format!("copy-{number}"));
            restore(&file, &copy, &[]).ends(0);
            let copied = Store::look(&copy).unwrap();
            let mut problems = Vec::new();
            let found = copied.certificates(&mut problems);
            assert_eq!(problems, Vec::<String>::new());
            let issued = found.iter().filter_map(|one| one.issued_at).max().unwrap();
            let pending = copied.order(&names()).map_or(0, |order| order.placed_at);
            assert!(issued.max(pending) >= before, "{issued} {pending} of {before}");
            let noted = copied.ledger().unwrap().entries().len();
            assert!(i64::try_from(noted).unwrap() >= issued.max(pending), "{noted}");
        }
        placed.load(Ordering::Acquire)
    });
    assert!(rounds > 25, "only {rounds} renewals: nothing was raced");
}

/// The whole way: a certificate of a real CA, a machine that is lost, and no second order.
#[test]
fn a_lost_machine_orders_nothing() {
    let ports = (Port::reserve(), Port::reserve());
    let pebble = Pebble::start(ports.0.number(), ports.1.number());
    let entries =
        format!("routes:\n  app: {{ hosts: [{APP}], respond: {{ status: 200, body: ok }} }}\n");
    let conf = Conf::new(entries).bind(&ports.0.bind(), &ports.1.bind()).acme(
        &pebble.directory(),
        Some(&pebble.roots()),
        "",
    );
    let lab = Lab::new();
    let mut edge = Edge::start_in(&lab, &conf);
    let row = |edge: &Edge| edge.admin("/api/v1/certificates").json()["certificates"][0].clone();
    wait_until("a certificate", || row(&edge)["state"] == "valid");
    let serial = row(&edge)["serial"].clone();
    let (config, file) = (edge.config_path(), lab.path().join("edge.tar"));
    told(&["backup", "--config", text(&config), "--out", text(&file)]).ends(0);
    let (state, lost) = (lab.path().join("state"), lab.path().join("lost"));
    let restored = || told(&["restore", text(&file), "--state-dir", text(&state)]);
    // Its lock is enough, where its socket is not asked.
    restored().ends(1).complains("another process holds").complains("stop it");
    edge.sigterm();
    assert!(edge.wait_exit().success());
    fs::rename(&state, &lost).unwrap();

    restored().ends(0);
    for path in tree(&state).keys() {
        assert!(tree(&lost).contains_key(path), "{path}");
    }
    assert!(tree(&state).keys().any(|path| path.starts_with("acme/accounts/")));
    let edge = Edge::start_in(&lab, &conf);
    wait_until("a certificate", || row(&edge)["state"] == "valid");
    assert_eq!(row(&edge)["serial"], serial);
    assert_eq!((pebble.issued(), pebble.orders()), (1, 1));
    // The account came along: another order is no registration.
    told(&["certs", "renew", APP, "--force", "--config", text(&config)]).ends(0).says("renewed");
    assert_eq!(pebble.issued(), 2);
    let accounts = tree(&state).into_iter().filter(|(path, _)| path.starts_with("acme/accounts/"));
    let before = tree(&lost).into_iter().filter(|(path, _)| path.starts_with("acme/accounts/"));
    assert_eq!(accounts.collect::<Vec<_>>(), before.collect::<Vec<_>>());
}
