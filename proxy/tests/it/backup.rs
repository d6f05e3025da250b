//! `backup` and `restore`: round trips, archives that are damaged or hostile, full disks, renewals
//! meanwhile, what is newer, who owns what.

mod archive;
mod race;
mod restore;
mod save;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use acme::store::{Issuance, Store, bundle};

use crate::certs_cli::Told;
use crate::harness::edge::command;
use crate::harness::{Conf, Edge, Lab};

const APP: &str = "app.openclaw.example";

fn told(arguments: &[&str]) -> Told {
    Told::of(command(arguments))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Backs `state` up into `out`.
fn backup(state: &Path, out: &Path, more: &[&str]) -> Told {
    told(&[&["backup", "--state-dir", text(state), "--out", text(out)], more].concat())
}

fn restore(file: &Path, state: &Path, more: &[&str]) -> Told {
    told(&[&["restore", text(file), "--state-dir", text(state)], more].concat())
}

/// All files below, by path, without locks.
fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(one) = dirs.pop() {
        for entry in fs::read_dir(one).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.file_name().unwrap() != ".lock" {
                let name = text(path.strip_prefix(dir).unwrap()).to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Mode bits of everything below that others may use; empty as it should be.
fn open_to_others(dir: &Path) -> Vec<PathBuf> {
    let mut open = Vec::new();
    let mut all = vec![dir.to_owned()];
    while let Some(one) = all.pop() {
        let meta = fs::symlink_metadata(&one).unwrap();
        if meta.permissions().mode() & 0o077 != 0 {
            open.push(one.clone());
        }
        if meta.is_dir() {
            all.extend(fs::read_dir(&one).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    open
}

/// A self-signed pair as it is stored, valid from this year on.
fn pair(name: &str, year: i32) -> String {
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(year, 1, 1);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    let issuance = Issuance { by: "https://ca.openclaw.example/dir", at: 0, ordered_as: "" };
    bundle(Some(&issuance), &made.pem(), &key.serialize_pem())
}

fn names() -> Vec<String> {
    vec![APP.to_owned()]
}

/// A state directory with the certificate of [`APP`] from this year, and a last good config.
fn state(lab: &Lab, folder: &str, year: i32) -> PathBuf {
    let dir = lab.path().join(folder);
    let store = Store::open(&dir).unwrap();
    store.put_certificate(&names(), &pair(APP, year)).unwrap();
    fs::write(dir.join("last-good.yaml"), format!("# of {year}\n")).unwrap();
    dir
}

/// The one `.pem` of [`APP`] that serves.
fn certificate(state: &Path) -> String {
    let dir = state.join("acme/certs");
    let mut files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let serves =
        |path: &PathBuf| text(path).ends_with(".pem") && !text(path).ends_with(".former.pem");
    fs::read_to_string(files.find(serves).unwrap()).unwrap()
}

/// One host, with a certificate of the internal CA.
fn internal_conf() -> Conf {
    Conf::new(format!(
        "routes:\n  app: {{ hosts: [{APP}], respond: {{ status: 200, body: ok }} }}\n"
    ))
}

/// The internal CA, its certificates and the last accepted configuration move to another machine:
/// clients that trust the CA notice nothing, and a broken file finds what was accepted.
#[test]
fn a_node_moves_with_its_internal_ca() {
    let (old, new) = (Lab::new(), Lab::new());
    let edge = Edge::start_in(&old, &internal_conf());
    let (trusted, leaf) = (fs::read(edge.ca()).unwrap(), edge.tls().connect(APP).leaf());
    let config = edge.config_path();
    let file = old.path().join("edge.tar");
    let made = told(&["backup", "--config", text(&config), "--out", text(&file)]);
    made.ends(0).says(text(&file));
    assert_eq!(open_to_others(&file), Vec::<PathBuf>::new());

    // What any tar sees.
    let listed = Command::new("tar").arg("tf").arg(&file).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.starts_with("manifest.json\nmanifest.sha256\n"), "{listed}");
    for path in tree(&old.path().join("state")).keys() {
        assert!(listed.lines().any(|line| line == path), "no {path} in {listed}");
    }

    let next = new.write("edge.yaml", internal_conf().render(new.path()));
    told(&["restore", text(&file), "--config", text(&next)]).ends(0).says("files written");
    let moved = new.path().join("state");
    assert_eq!(tree(&moved), tree(&old.path().join("state")));
    assert_eq!(open_to_others(&moved), Vec::<PathBuf>::new());
    // The document names the directory that it was accepted with; the file's own line wins.
    fs::write(&next, internal_conf().render(new.path()).replace("body: ok", "bdoy: ok")).unwrap();
    drop(edge);
    let mut edge = Edge::spawn(&new, &next, &[]);
    edge.wait_ready();
    assert_eq!(fs::read(edge.ca()).unwrap(), trusted);
    let mut client = edge.tls().connect(APP);
    assert_eq!(client.leaf(), leaf);
    client.get(APP, "/").assert_ok("ok");
}

#[test]
fn a_running_process_is_not_restored_under() {
    let lab = Lab::new();
    let edge = Edge::start_in(&lab, &internal_conf());
    let (config, file) = (edge.config_path(), lab.path().join("edge.tar"));
    told(&["backup", "--config", text(&config), "--out", text(&file)]).ends(0);
    let before = tree(&lab.path().join("state"));
    let refused = || told(&["restore", text(&file), "--config", text(&config), "--force"]);
    refused().ends(1).complains("admin.sock").complains("stop it, restore, start it again");
    assert_eq!(tree(&lab.path().join("state")), before);
    drop(edge);
    refused().ends(0).says("0 files written");
}

/// Feeds a command, and what it said.
fn fed(arguments: &[&str], input: &[u8]) -> Told {
    let mut child = Command::new(env!("CARGO_BIN_EXE_openclaw-edge"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Told::of(child.wait_with_output().unwrap())
}

#[test]
fn from_stdout_to_stdin() {
    let lab = Lab::new();
    let from = state(&lab, "from", 2026);
    let output = command(&["backup", "--state-dir", text(&from), "--out", "-"]);
    assert_eq!(output.status.code(), Some(0));
    let to = lab.path().join("to");
    fed(&["restore", "-", "--state-dir", text(&to)], &output.stdout).ends(0);
    assert_eq!(tree(&to), tree(&from));
}

/// Where there is no openclaw-edge, as deploy/README.md has it.
#[test]
fn tar_alone_restores_it() {
    let lab = Lab::new();
    let (file, _) = sample(&lab, 2026);
    let to = lab.path().join("to");
    fs::create_dir(&to).unwrap();
    let script = "umask 077; tar -C $0 --no-same-owner --exclude 'manifest.*' -xf $1";
    let done = Command::new("sh").args(["-c", script, text(&to), text(&file)]).status();
    assert!(done.unwrap().success());
    assert_eq!(tree(&to), tree(&lab.path().join("sample-2026")));
    fs::set_permissions(&to, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(open_to_others(&to), Vec::<PathBuf>::new());
}

/// For a test that needs a backup and cares for nothing else.
fn sample(lab: &Arc<Lab>, year: i32) -> (PathBuf, Vec<u8>) {
    let file = lab.path().join(format!("{year}.tar"));
    backup(&state(lab, &format!("sample-{year}"), year), &file, &[]).ends(0);
    let bytes = fs::read(&file).unwrap();
    (file, bytes)
}
