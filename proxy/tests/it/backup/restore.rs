//! What `restore` does to a directory that is not empty.

use std::os::unix::fs::MetadataExt as _;

use acme::ledger::{Event, Kind, Ledger};

use super::*;
use crate::harness::acme::SmallDisk;

fn order(at: i64) -> Event {
    Event {
        at,
        kind: Kind::Order,
        account: "https://ca.openclaw.example/dir".to_owned(),
        set: Vec::new(),
        renewal: false,
        hosts: Vec::new(),
    }
}

/// Going back needs a word; then nothing is lost, neither what was replaced nor the budget.
#[test]
fn newer_certificates_stay_unless_forced() {
    let lab = Lab::new();
    let old = state(&lab, "old", 2020);
    let noted = |dir: &Path, times: &[i64]| {
        let mut ledger = Ledger::default();
        times.iter().for_each(|at| ledger.record(order(*at)));
        Store::open(dir).unwrap().put_ledger(&ledger).unwrap();
    };
    noted(&old, &[1_800_000_000, 1_800_000_001]);
    let file = lab.path().join("edge.tar");
    backup(&old, &file, &[]).ends(0);

    let dir = state(&lab, "state", 2024);
    // A further renewal, so that a former one is newer than the backup's too.
    Store::open(&dir).unwrap().put_certificate(&names(), &pair(APP, 2025)).unwrap();
    noted(&dir, &[1_800_000_001, 1_800_000_007]);
    fs::write(dir.join("acme/certs/other.json"), "{}").unwrap();
    let before = tree(&dir);
    let refused = restore(&file, &dir, &[]).ends(1);
    refused.complains(&format!("{}/acme/certs/", dir.display())).complains("--force");
    assert_eq!(tree(&dir), before);

    let told = restore(&file, &dir, &["--force"]).ends(0);
    let aside = told.out.lines().last().unwrap().split(" is kept in ").nth(1).unwrap();
    let aside = PathBuf::from(aside.split(':').next().unwrap());
    assert_eq!(certificate(&dir), certificate(&old));
    let mut problems = Vec::new();
    assert_eq!(Store::look(&dir).unwrap().certificates(&mut problems).len(), 1, "a newer one");
    assert_eq!(fs::read(dir.join("last-good.yaml")).unwrap(), b"# of 2020\n");
    let kept = tree(&aside);
    assert_eq!(kept.len(), 4, "{:?}", kept.keys());
    for (path, bytes) in &kept {
        assert_eq!(before.get(path), Some(bytes), "{path}");
    }
    assert!(dir.join("acme/certs/other.json").exists(), "what no backup knows stays");
    let ledger = Store::look(&dir).unwrap().ledger().unwrap();
    let times: Vec<i64> = ledger.entries().iter().map(|entry| entry.at).collect();
    assert_eq!(times, [1_800_000_000, 1_800_000_001, 1_800_000_007]);
    assert_eq!(open_to_others(&aside), Vec::<PathBuf>::new());
    // Again: nothing to do, nothing more aside; what others could read is closed.
    let path = dir.join("last-good.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let again = restore(&file, &dir, &[]).ends(0).says("0 files written");
    assert!(!again.out.contains("is kept in"), "{}", again.out);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// An older certificate and a damaged one give way by themselves.
#[test]
fn older_and_damaged_ones_are_replaced() {
    let lab = Lab::new();
    let (file, _) = sample(&lab, 2026);
    let dir = state(&lab, "state", 2020);
    restore(&file, &dir, &[]).ends(0);
    assert_eq!(certificate(&dir), certificate(&lab.path().join("sample-2026")));
    let damaged = tree(&dir).into_keys().find(|path| path.starts_with("acme/certs/")).unwrap();
    fs::write(dir.join(&damaged), "half").unwrap();
    restore(&file, &dir, &[]).ends(0).says("1 files written").says("replaced-2");
    assert_eq!(certificate(&dir), certificate(&lab.path().join("sample-2026")));
    assert_eq!(fs::read(dir.join("replaced-2").join(&damaged)).unwrap(), b"half");
}

#[test]
fn a_lock_that_is_held_is_respected() {
    let lab = Lab::new();
    let (file, _) = sample(&lab, 2026);
    let dir = state(&lab, "state", 2020);
    let before = tree(&dir);
    let lock = Store::open(&dir).unwrap().try_own().unwrap().unwrap();
    let refused = restore(&file, &dir, &["--force"]).ends(1);
    refused.complains(&format!("another process holds {}/acme", dir.display()));
    assert_eq!(tree(&dir), before);
    // A backup asks for no lock.
    backup(&dir, &lab.path().join("beside.tar"), &[]).ends(0);
    drop(lock);
    restore(&file, &dir, &[]).ends(0);
}

#[test]
fn a_full_disk_changes_nothing() {
    let lab = Lab::new();
    let (file, _) = sample(&lab, 2026);
    let disk = SmallDisk::mount(&lab.path().join("state"), 128);
    let dir = state(&lab, "state", 2020);
    // As after a first start: these take a page each, which is not there later.
    restore(&file, &lab.path().join("elsewhere"), &[]).ends(0);
    for folder in ["acme", "internal"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
        fs::write(dir.join(folder).join(".lock"), "").unwrap();
    }
    let before = tree(&dir);
    disk.fill();
    let failed = restore(&file, &dir, &[]).ends(1);
    failed.complains("No space left").complains("nothing is changed").complains(text(&dir));
    disk.release();
    assert_eq!(tree(&dir), before);
    restore(&file, &dir, &[]).ends(0);
    assert_eq!(certificate(&dir), certificate(&lab.path().join("sample-2026")));
}

/// Root restores for the user whose directory it is, with the modes of a state directory. Needs
/// root, as CI has.
#[test]
fn owner_and_modes_are_those_of_the_directory() {
    const SERVICE: u32 = 65532;
    let lab = Lab::new();
    fs::set_permissions(lab.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (file, _) = sample(&lab, 2026);
    let dir = lab.path().join("state");
    fs::create_dir(&dir).unwrap();
    fs::create_dir_all(dir.join("acme/certs")).unwrap();
    for path in ["", "acme", "acme/certs"] {
        let path = dir.join(path);
        std::os::unix::fs::chown(&path, Some(SERVICE), Some(SERVICE)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    restore(&file, &dir, &[]).ends(0);
    assert_eq!(open_to_others(&dir), Vec::<PathBuf>::new());
    let mut all = vec![dir.clone()];
    while let Some(one) = all.pop() {
        let meta = fs::symlink_metadata(&one).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (SERVICE, SERVICE), "{}", one.display());
        if meta.is_dir() {
            all.extend(fs::read_dir(&one).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    // Its owner's links lead no further than its owner could go.
    let outside = lab.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir_all(dir.join("acme")).unwrap();
    std::os::unix::fs::symlink(&outside, dir.join("acme")).unwrap();
    restore(&file, &dir, &[]).ends(1).complains("Permission denied");
    assert_eq!(tree(&outside).len(), 0);
}
