//! What `backup` writes and removes.

use super::*;
use crate::harness::acme::SmallDisk;

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The name that a backup of this host has at this time.
fn name_at(dir: &Path, stamp: &str) -> String {
    let made = names_in(dir).pop().unwrap();
    let start = made.rsplit_once('-').unwrap().0;
    format!("{start}-{stamp}.tar")
}

#[test]
fn keep_removes_the_oldest_and_never_the_new_one() {
    let lab = Lab::new();
    let (state, dir) = (state(&lab, "state", 2026), lab.path().join("kept/here"));
    let out = format!("{}/", dir.display());
    let told = backup(&state, Path::new(&out), &["--keep", "3"]).ends(0);
    let first = names_in(&dir).pop().unwrap();
    assert_eq!(told.out.trim(), format!("{out}{first}"));
    fs::remove_file(dir.join(&first)).unwrap();
    lab.write("kept/here/zzz", "");
    let others = ["edge.yaml", "openclaw-edge-x-20200101T000000Z.tar"];
    // The last one is from a clock that ran ahead.
    let stamps = ["20200101T000000Z", "20210101T000000Z", "20220101T000000Z", "29990101T000000Z"];
    fs::write(dir.join(&first), "").unwrap();
    fs::remove_file(dir.join("zzz")).unwrap();
    let old: Vec<String> = stamps.iter().map(|stamp| name_at(&dir, stamp)).collect();
    fs::remove_file(dir.join(&first)).unwrap();
    for name in others.iter().map(|name| (*name).to_owned()).chain(old.clone()) {
        fs::write(dir.join(name), "older").unwrap();
    }
    let told = backup(&state, &dir, &["--keep", "3"]).ends(0).complains(&old[0]);
    let new = told.out.trim().rsplit('/').next().unwrap().to_owned();
    let mut expected: Vec<String> = others.iter().map(|name| (*name).to_owned()).collect();
    expected.extend([old[2].clone(), old[3].clone(), new.clone()]);
    expected.sort();
    assert_eq!(names_in(&dir), expected);
    // One is kept: the one just written, whatever the others' names say.
    let told = backup(&state, &dir, &["--keep", "1"]).ends(0);
    let newest = told.out.trim().rsplit('/').next().unwrap().to_owned();
    let mut expected: Vec<String> = others.iter().map(|name| (*name).to_owned()).collect();
    expected.push(newest.clone());
    expected.sort();
    assert_eq!(names_in(&dir), expected);
    restore(&dir.join(newest), &lab.path().join("to"), &[]).ends(0);
}

#[test]
fn keep_needs_a_directory_and_a_number() {
    let lab = Lab::new();
    let state = state(&lab, "state", 2026);
    let file = lab.path().join("edge.tar");
    backup(&state, &file, &["--keep", "3"]).ends(2).complains("--keep needs --out DIR");
    backup(&state, lab.path(), &["--keep", "0"]).ends(2);
    assert!(!file.exists());
}

#[test]
fn a_file_is_replaced_as_a_whole_and_for_nobody_else() {
    let lab = Lab::new();
    let state = state(&lab, "state", 2026);
    let file = lab.write("edge.tar", "former");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    backup(&state, &file, &[]).ends(0);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    restore(&file, &lab.path().join("to"), &[]).ends(0);
    let left: Vec<_> = names_in(lab.path()).into_iter().filter(|n| n.starts_with('.')).collect();
    assert_eq!(left, Vec::<String>::new());
    // What is no file stays.
    std::os::unix::fs::symlink("edge.tar", lab.path().join("link")).unwrap();
    backup(&state, &lab.path().join("link"), &[]).ends(1).complains("something else than a file");
}

#[test]
fn a_full_disk_leaves_the_former_backup() {
    let lab = Lab::new();
    let state = state(&lab, "state", 2026);
    let disk = SmallDisk::mount(&lab.path().join("small"), 64);
    backup(&state, &disk.path.join("edge.tar"), &[]).ends(0);
    let former = fs::read(disk.path.join("edge.tar")).unwrap();
    disk.fill();
    for (out, more) in
        [(disk.path.join("edge.tar"), &[][..]), (disk.path.clone(), &["--keep", "1"])]
    {
        let failed = backup(&state, &out, more).ends(1);
        failed.complains(text(&disk.path)).complains("No space left").complains("untouched");
        assert_eq!(names_in(&disk.path), [".filler", "edge.tar"]);
    }
    assert_eq!(fs::read(disk.path.join("edge.tar")).unwrap(), former);
}

#[test]
fn nothing_to_back_up_is_no_backup() {
    let lab = Lab::new();
    let file = lab.path().join("edge.tar");
    for dir in [lab.path().join("absent"), lab.path().to_owned()] {
        backup(&dir, &file, &[]).ends(1).complains("nothing to back up").complains("--state-dir");
    }
    let config = lab.path().join("absent.yaml");
    told(&["backup", "--config", text(&config)]).ends(1).complains("--state-dir DIR");
    assert!(!file.exists());
}

/// What no process could use is told and left out; the rest is a backup.
#[test]
fn damaged_files_are_left_out() {
    let lab = Lab::new();
    let state = state(&lab, "state", 2026);
    let whole = tree(&state);
    fs::write(state.join("acme/certs/half.pem"), &certificate(&state)[..600]).unwrap();
    fs::write(state.join("acme/ledger.json"), "{\"entries\": [").unwrap();
    let file = lab.path().join("edge.tar");
    let told = backup(&state, &file, &[]).ends(0);
    told.complains("certs/half.pem is damaged").complains("ledger.json is damaged");
    restore(&file, &lab.path().join("to"), &[]).ends(0);
    assert_eq!(tree(&lab.path().join("to")), whole);
    // What cannot be read may be whole: that is no backup.
    fs::remove_file(state.join("acme/ledger.json")).unwrap();
    fs::create_dir(state.join("acme/ledger.json")).unwrap();
    backup(&state, &file, &[]).ends(1).complains("acme/ledger.json: it is no regular file");
}
