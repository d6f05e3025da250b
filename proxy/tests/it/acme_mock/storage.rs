//! Disks that are full, directories that cannot be written to, files that are broken.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::harness::acme::SmallDisk;
use crate::harness::acme::mock_ca::Fault;

/// On a disk of its own.
fn small(ca: &MockCa) -> (SmallDisk, Sim) {
    let mut sim = Sim::idle(ca);
    let disk = SmallDisk::mount(&sim.lab.path().join("state"), 512);
    sim.wanted.certificates.push(sim::certificate(APP));
    (disk, sim)
}

#[test]
fn nothing_is_ordered_that_could_not_be_stored() {
    let ca = MockCa::start();
    let (disk, mut sim) = small(&ca);
    disk.fill();
    sim.run();
    sim.pass(DAY);
    assert_eq!((ca.count(Endpoint::NewAccount), ca.count(Endpoint::NewOrder)), (0, 0));
    let told = match &sim.view().role {
        acme::keeper::Role::Broken(why) => why.clone(),
        _ => told(&sim.row(APP)),
    };
    assert!(told.contains("No space left"), "{told}");
    disk.release();
    crate::harness::wait_until("the certificate", || {
        sim.pass(HOUR);
        ca.issued().len() == 1
    });
    sim.stop();
}

/// It serves from memory, and is written when there is room; nothing is ordered twice, whether
/// the process lives on or not.
#[test]
fn a_disk_that_fills_up_during_the_order() {
    for restarts in [false, true] {
        let ca = MockCa::start();
        let (disk, mut sim) = small(&ca);
        ca.next(Endpoint::Finalize, 1, &Fault::internal());
        sim.run();
        sim.settle();
        assert_eq!((ca.orders().len(), ca.issued().len()), (1, 0), "{}", told(&sim.row(APP)));
        disk.fill();
        sim.renew(APP, false);
        sim.pass(HOUR);
        // Nothing is finalized that could not be kept.
        assert!(told(&sim.row(APP)).contains("No space left"), "{}", told(&sim.row(APP)));
        assert!(ca.issued().is_empty());
        if restarts {
            sim.restart();
            sim.pass(HOUR);
        }
        disk.release();
        sim.pass(2 * HOUR);
        assert!(!sim.row(APP).unsaved);
        assert_eq!((ca.orders().len(), ca.issued().len()), (1, 1));
        sim.restart();
        sim.pass(DAY);
        assert!(sim.serial(APP).is_some());
        assert_eq!((ca.orders().len(), ca.issued().len()), (1, 1));
        sim.stop();
    }
}

/// Full between the probe and the certificate.
#[test]
fn a_certificate_that_finds_no_room_serves_from_memory() {
    for restarts in [false, true] {
        let ca = MockCa::start();
        let (disk, mut sim) = small(&ca);
        ca.set(|knobs| knobs.processing_polls = 1_000_000);
        sim.issuer("main").ca.limits.issuance = crate::harness::PATIENCE;
        sim.run();
        ca.wait_count(Endpoint::Finalize, 1);
        disk.fill();
        ca.set(|knobs| knobs.processing_polls = 0);
        ca.finish_processing();
        crate::harness::wait_until("the certificate to serve", || sim.serial(APP).is_some());
        sim.settle();
        assert!(sim.row(APP).unsaved);
        if restarts {
            // Not lost: the order with its key is on disk, and the CA has the certificate.
            sim.stop();
            disk.release();
            sim.restart();
        }
        sim.pass(HOUR);
        assert!(sim.serial(APP).is_some());
        if !restarts {
            assert!(sim.row(APP).unsaved, "there is still no room");
            disk.release();
            sim.poke();
        }
        assert!(!sim.row(APP).unsaved && sim.state_file("certs").exists());
        sim.restart();
        sim.pass(DAY);
        assert!(sim.serial(APP).is_some());
        assert_eq!((ca.orders().len(), ca.issued().len()), (1, 1), "restarts: {restarts}");
        sim.stop();
    }
}

/// As a Secret mounted at the wrong place; root may write anywhere, so it is a file in the way.
#[test]
fn a_state_directory_that_cannot_be_used() {
    let ca = MockCa::start();
    let mut sim = Sim::idle(&ca);
    sim.wanted.certificates.push(sim::certificate(APP));
    let state = sim.lab.path().join("state");
    std::fs::write(&state, "in the way").unwrap();
    sim.run();
    sim.poke();
    assert!(matches!(sim.view().role, acme::keeper::Role::Broken(_)), "{:?}", sim.view().role);
    sim.skip(DAY);
    sim.poke();
    assert_eq!(ca.log().len(), 0);
    std::fs::remove_file(&state).unwrap();
    crate::harness::wait_until("the certificate", || {
        sim.poke();
        ca.issued().len() == 1
    });
}

#[test]
fn a_read_only_disk_takes_nothing_away() {
    let ca = MockCa::start();
    let (disk, mut sim) = small(&ca);
    sim.run();
    sim.settle();
    let serial = sim.serial(APP);
    sim.stop();
    crate::harness::wait_until("nobody to write", || remount(&disk, "ro"));
    sim.restart();
    sim.skip(100 * DAY);
    sim.poke();
    assert_eq!((sim.serial(APP), ca.orders().len()), (serial.clone(), 1), "expired, and serves");
    let role = sim.view().role.clone();
    let told = matches!(&role, acme::keeper::Role::Broken(why) if why.contains("Read-only"));
    assert!(told, "{role:?}");
    assert!(remount(&disk, "rw"));
    crate::harness::wait_until("the renewal", || {
        sim.poke();
        sim.serial(APP) != serial
    });
    sim.settle();
    assert_eq!(ca.orders().len(), 2);
    sim.stop();
}

/// False: somebody has a file open for writing.
fn remount(disk: &SmallDisk, mode: &str) -> bool {
    let mut mount = std::process::Command::new("mount");
    mount.args(["-o", &format!("remount,{mode}")]).arg(&disk.path);
    mount.output().unwrap().status.success()
}

/// Every file of the state, broken in every way: it starts, tells, and orders only what nothing
/// serves.
#[test]
fn broken_files() {
    let junk: [&[u8]; 4] = [b"", b"{\"half\":", b"\0\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAA"];
    let ca = MockCa::start();
    let mut sim = Sim::start(&ca, &[APP]);
    sim.settle();
    sim.renew(APP, true);
    sim.settle();
    assert_eq!((ca.orders().len(), ca.accounts()), (2, 1), "two generations");
    for (number, junk) in junk.iter().enumerate() {
        sim.stop();
        for file in files(&sim, |name| name.ends_with(".json") || name.ends_with(".pem")) {
            if !file.to_string_lossy().ends_with(".former.pem") {
                std::fs::write(&file, junk).unwrap();
            }
        }
        std::fs::create_dir_all(sim.state_file("orders")).unwrap();
        for name in ["ledger.json", "orders/x.json", "certs/y.pem", "certs/z.json"] {
            std::fs::write(sim.state_file(name), junk).unwrap();
        }
        sim.restart();
        sim.pass(DAY);
        assert!(sim.serial(APP).is_some(), "the former generation serves");
        let problems = sim.view().problems.clone();
        assert!(problems.iter().any(|problem| problem.contains("y.pem")), "{problems:?}");
        assert_eq!(ca.orders().len(), 2, "{number}: {problems:?}");
    }
    // Damaged, not lost: what cannot be read is kept for people.
    assert!(!files(&sim, |name| name.contains(".corrupt-")).is_empty());
    // It is renewed in time by a new account, of which there is one for each that was lost.
    sim.pass(65 * DAY);
    assert_eq!((ca.orders().len(), ca.accounts()), (3, 1 + junk.len()));
}

/// An order whose file is broken is an order less, not an error for ever.
#[test]
fn a_broken_order_is_placed_again() {
    let ca = MockCa::start();
    ca.always(Endpoint::Finalize, &Fault::internal());
    let mut sim = Sim::start(&ca, &[APP]);
    sim.settle();
    sim.stop();
    let orders = files(&sim, |name| name.contains("/orders/"));
    assert_eq!(orders.len(), 1);
    let mode = std::fs::metadata(&orders[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds a key");
    std::fs::write(&orders[0], "{").unwrap();
    ca.heal();
    sim.restart();
    sim.pass(HOUR);
    assert_eq!((ca.orders().len(), ca.issued().len()), (2, 1));
}

fn files(sim: &Sim, wanted: impl Fn(&str) -> bool) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![sim.state_file("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if wanted(&path.to_string_lossy()) {
                found.push(path);
            }
        }
    }
    found
}
