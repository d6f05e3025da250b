//! Archives that no restore may follow. Each leaves the directory as it was.

use aws_lc_rs::digest;

use super::*;

/// Neither into an empty place nor over a directory.
#[track_caller]
fn refused(lab: &Arc<Lab>, bytes: &[u8], why: &str) {
    let file = lab.write("bad.tar", bytes);
    let nowhere = lab.path().join("nowhere");
    restore(&file, &nowhere, &["--force"]).ends(1).complains("bad.tar").complains(why);
    assert!(!nowhere.exists());
    let dir = lab.path().join("state");
    let before = if dir.exists() { tree(&dir) } else { tree(&state(lab, "state", 2020)) };
    restore(&file, &dir, &["--force"]).ends(1).complains("nothing is changed");
    assert_eq!(tree(&dir), before);
}

#[test]
fn a_wrong_byte() {
    let lab = Lab::new();
    let (_, whole) = sample(&lab, 2026);
    let find = |what: &[u8]| whole.windows(what.len()).position(|bytes| bytes == what).unwrap();
    let at = [
        (find(b"BEGIN PRIVATE KEY") + 60, "damaged"),
        (find(b"BEGIN CERTIFICATE") + 90, "damaged"),
        (find(b"\"host\"") + 10, "manifest"),
        (find(b"\"taken_at\"") + 15, "manifest"),
        (find(b"  manifest.json\n") - 5, "manifest"),
        (find(b"acme/certs/") + 2, ""),
        (whole.len() - 1, "cut short"),
    ];
    for (at, why) in at {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        refused(&lab, &bytes, why);
    }
}

#[test]
fn a_file_cut_short() {
    let lab = Lab::new();
    let (_, whole) = sample(&lab, 2026);
    for length in [0, 1, 511, 512, 1024, 2048, whole.len() / 2, whole.len() - 512, whole.len() - 1]
    {
        refused(&lab, &whole[..length], "cut short");
    }
    // Cut between two files, and ended as archives end.
    let at = whole.windows(14).rposition(|bytes| bytes == b"last-good.yaml").unwrap();
    assert_eq!(at % 512, 0);
    refused(&lab, &[&whole[..at], &[0; 1024][..]].concat(), "last-good.yaml is missing");
}

fn sha256(bytes: &[u8]) -> String {
    let sum = digest::digest(&digest::SHA256, bytes);
    sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn names_that_lead_elsewhere() {
    let lab = Lab::new();
    let outside = lab.write("outside", "mine");
    let absolute = text(&outside).to_owned();
    for name in ["../outside", "acme/certs/../../../outside", &absolute, "acme/.lock", "bin/sh"] {
        // All is true: the manifest names it, the checksums are right.
        let manifest = format!(
            "{{\"format\":1,\"version\":\"0\",\"taken_at\":\"\",\"host\":\"\",\
             \"files\":{{\"{name}\":{{\"bytes\":4,\"sha256\":\"{}\"}}}}}}",
            sha256(b"evil")
        );
        let dir = lab.path().join("pack");
        fs::create_dir_all(&dir).unwrap();
        let sum = format!("{}  manifest.json\n", sha256(manifest.as_bytes()));
        fs::write(dir.join("manifest.sha256"), sum).unwrap();
        fs::write(dir.join("manifest.json"), manifest).unwrap();
        fs::write(dir.join("evil"), "evil").unwrap();
        let file = lab.path().join("evil.tar");
        let packed = Command::new("tar")
            .args(["-P", "--transform", &format!("s|^evil$|{name}|"), "-cf", text(&file), "-C"])
            .args([text(&dir), "manifest.json", "manifest.sha256", "evil"])
            .status();
        assert!(packed.unwrap().success());
        refused(&lab, &fs::read(&file).unwrap(), "no backup holds");
        assert_eq!(fs::read(&outside).unwrap(), b"mine");
    }
}

#[test]
fn what_is_no_backup() {
    let lab = Lab::new();
    refused(&lab, b"version: 1\n", "no tar archive");
    refused(&lab, &[0; 1024], "no manifest");
    refused(&lab, &[b"junk".repeat(256), vec![0; 1024]].concat(), "no tar archive");
    let absent = lab.path().join("absent.tar");
    restore(&absent, &lab.path().join("to"), &[]).ends(1).complains("absent.tar");
    restore(lab.path(), &lab.path().join("to"), &[]).ends(1).complains("cannot read");
}
