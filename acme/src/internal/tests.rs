//! Kept apart from the code for their length.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|&name| name.to_owned()).collect()
}

/// With the mode that [`FileStorage`] wants, so that it has nothing to warn of.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn issued_file(dir: &Path, list: &[&str]) -> PathBuf {
    dir.join(storage_key(&name::canonical_set(&names(list)).unwrap()))
}

/// What a TLS client thinks of it.
fn accepts(ca_pem: &str, issued: &Issued, server: &str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let leaf = CertificateDer::from_pem_slice(issued.chain_pem.as_bytes()).unwrap();
    let server = ServerName::try_from(server.to_owned()).unwrap();
    use rustls::client::danger::ServerCertVerifier;
    verifier.verify_server_cert(&leaf, &[], &server, &[], UnixTime::now()).map(drop)
}

#[test]
fn clients_that_trust_the_authority_accept_every_name() {
    let dir = folder();
    let ca = InternalCa::open(dir.path()).unwrap();
    let issued = ca
        .load_or_issue(&names(&[
            "App.openclaw.example",
            "*.gw.openclaw.example",
            "127.0.0.1",
            "[::1]",
        ]))
        .unwrap();
    for server in ["app.openclaw.example", "t1.gw.openclaw.example", "127.0.0.1", "::1"] {
        assert_eq!(accepts(ca.ca_pem(), &issued, server), Ok(()), "{server}");
    }
    for server in ["api.openclaw.example", "a.b.gw.openclaw.example", "127.0.0.2"] {
        assert!(accepts(ca.ca_pem(), &issued, server).is_err(), "{server}");
    }
    assert_eq!(fs::read_to_string(ca.ca_path()).unwrap(), ca.ca_pem());
    let days = (issued.not_after - now().unix_timestamp()) / DAY.as_secs() as i64;
    assert!((89..=90).contains(&days), "{days}");
    assert_eq!(issued.warning, None);
}

#[test]
fn the_authority_and_its_certificates_survive_a_restart() {
    let dir = folder();
    let first = InternalCa::open(dir.path()).unwrap();
    let issued = first.load_or_issue(&names(&["a.example", "b.example"])).unwrap();
    let second = InternalCa::open(dir.path()).unwrap();
    assert_eq!(first.ca_pem(), second.ca_pem());
    let again = second.load_or_issue(&names(&["b.example.", "A.example"])).unwrap();
    assert_eq!(issued.chain_pem, again.chain_pem);
    assert_eq!(issued.key_pem, again.key_pem);
    assert_eq!((issued.not_before, issued.not_after), (again.not_before, again.not_after));
}

#[test]
fn other_names_get_another_certificate() {
    let dir = folder();
    let ca = InternalCa::open(dir.path()).unwrap();
    let both = ca.load_or_issue(&names(&["a.example", "b.example"])).unwrap();
    let one = ca.load_or_issue(&names(&["a.example"])).unwrap();
    assert_ne!(both.chain_pem, one.chain_pem);
    // A file that holds other names than its own is not served.
    fs::copy(
        issued_file(dir.path(), &["a.example", "b.example"]),
        issued_file(dir.path(), &["a.example"]),
    )
    .unwrap();
    let fresh = ca.load_or_issue(&names(&["a.example"])).unwrap();
    assert!(fresh.chain_pem != both.chain_pem && fresh.chain_pem != one.chain_pem);
    assert!(ca.load_or_issue(&[]).is_err());
    assert!(ca.load_or_issue(&names(&["not a name"])).is_err());
}

#[test]
fn renewed_when_a_third_of_the_life_is_left() {
    let dir = folder();
    let ca = InternalCa::open(dir.path()).unwrap();
    let list = names(&["a.example"]);
    let first = ca.load_or_issue_at(&list, now()).unwrap();
    let life = LEAF_LIFE + CLOCK_SKEW;
    let due = now() - CLOCK_SKEW + life * 2 / 3;
    let before = ca.load_or_issue_at(&list, due - Duration::from_secs(60)).unwrap();
    assert_eq!(before.chain_pem, first.chain_pem);
    let after = ca.load_or_issue_at(&list, due + Duration::from_secs(60)).unwrap();
    assert_ne!(after.chain_pem, first.chain_pem);
    assert!(after.not_after > first.not_after);
    // The clock was wrong when it was issued: it is not valid yet.
    let earlier = ca.load_or_issue_at(&list, now()).unwrap();
    assert!(earlier.not_before <= now().unix_timestamp());
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let dir = folder();
    let ca = InternalCa::open(dir.path()).unwrap();
    let late = now() + CA_LIFE - DAY;
    let issued = ca.load_or_issue_at(&names(&["a.example"]), late).unwrap();
    assert_eq!(issued.not_after, ca.authority.cert.not_after);
}

#[test]
fn an_expired_authority_is_replaced_and_said_so() {
    let dir = folder();
    let old = InternalCa::open(dir.path()).unwrap();
    let later = now() + CA_LIFE + DAY;
    let new = InternalCa::open_at(dir.path(), later).unwrap();
    assert_ne!(old.ca_pem(), new.ca_pem());
    assert!(new.warnings()[0].contains("expired"), "{:?}", new.warnings());
}

#[test]
fn a_clock_that_is_behind_replaces_nothing() {
    let dir = folder();
    let ca = InternalCa::open(dir.path()).unwrap();
    let early = InternalCa::open_at(dir.path(), OffsetDateTime::UNIX_EPOCH).unwrap();
    assert_eq!(ca.ca_pem(), early.ca_pem());
    assert!(early.warnings()[0].contains("clock"), "{:?}", early.warnings());
}

#[test]
fn a_damaged_authority_is_moved_aside_never_overwritten() {
    let whole = folder();
    InternalCa::open(whole.path()).unwrap();
    let bytes = fs::read(whole.path().join(CA_AND_KEY)).unwrap();
    // Without its last byte, a line end, it is still whole.
    let cuts = (0..bytes.len() - 1).step_by(37).chain([bytes.len() - 2]);
    for cut in cuts {
        let dir = folder();
        fs::write(dir.path().join(CA_AND_KEY), &bytes[..cut]).unwrap();
        let ca = InternalCa::open(dir.path()).unwrap();
        assert!(ca.warnings()[0].contains("corrupt-1"), "cut at {cut}: {:?}", ca.warnings());
        assert_eq!(fs::read(dir.path().join("ca-and-key.pem.corrupt-1")).unwrap(), &bytes[..cut]);
        assert_eq!(InternalCa::open(dir.path()).unwrap().ca_pem(), ca.ca_pem());
    }
}

#[test]
fn a_changed_byte_is_never_served() {
    let dir = folder();
    let ca = InternalCa::open(dir.path()).unwrap();
    let list = ["a.example"];
    let good = ca.load_or_issue(&names(&list)).unwrap();
    let path = issued_file(dir.path(), &list);
    let bytes = fs::read(&path).unwrap();
    for at in (0..bytes.len()).step_by(29) {
        let mut changed = bytes.clone();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        fs::write(&path, &changed).unwrap();
        let served = ca.load_or_issue(&names(&list)).unwrap();
        assert_eq!(accepts(ca.ca_pem(), &served, "a.example"), Ok(()), "byte {at}");
        let pair =
            Certificate::from_pem("t", served.chain_pem.as_bytes(), served.key_pem.as_bytes());
        assert!(pair.is_ok(), "byte {at}");
        // Text around the PEM blocks is comment; a change there harms nothing.
        assert!(served.warning.is_some() || served.chain_pem != good.chain_pem, "byte {at}");
    }
}

#[test]
fn a_truncated_certificate_is_issued_anew() {
    let dir = folder();
    let ca = InternalCa::open(dir.path()).unwrap();
    let list = ["a.example"];
    ca.load_or_issue(&names(&list)).unwrap();
    let path = issued_file(dir.path(), &list);
    let bytes = fs::read(&path).unwrap();
    for cut in (0..bytes.len() - 1).step_by(41) {
        fs::write(&path, &bytes[..cut]).unwrap();
        let served = ca.load_or_issue(&names(&list)).unwrap();
        assert!(served.warning.as_deref().is_some_and(|w| w.starts_with("replaced")), "{cut}");
        assert_eq!(accepts(ca.ca_pem(), &served, "a.example"), Ok(()), "cut at {cut}");
    }
}

#[test]
fn certificates_of_a_former_authority_are_issued_anew() {
    let dir = folder();
    let old = InternalCa::open(dir.path()).unwrap();
    old.load_or_issue(&names(&["a.example"])).unwrap();
    fs::remove_file(dir.path().join(CA_AND_KEY)).unwrap();
    let new = InternalCa::open(dir.path()).unwrap();
    let served = new.load_or_issue(&names(&["a.example"])).unwrap();
    assert_eq!(accepts(new.ca_pem(), &served, "a.example"), Ok(()));
    assert!(accepts(old.ca_pem(), &served, "a.example").is_err());
}

#[test]
fn keys_are_for_the_owner_alone() {
    let dir = folder();
    let state = dir.path().join("internal");
    let ca = InternalCa::open(&state).unwrap();
    ca.load_or_issue(&names(&["a.example"])).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join(ISSUED)), 0o700);
    assert_eq!(mode(&state.join(CA_AND_KEY)), 0o600);
    assert_eq!(mode(&issued_file(&state, &["a.example"])), 0o600);
    assert!(!format!("{ca:?} {:?}", ca.issue(&names(&["a.example"]))).contains("BEGIN"));
}

#[test]
fn what_cannot_be_stored_still_serves() {
    let dir = folder();
    let ca = InternalCa::open(dir.path()).unwrap();
    // A file where the folder should be: root is not stopped by permissions.
    fs::write(dir.path().join(ISSUED), b"").unwrap();
    let served = ca.load_or_issue(&names(&["a.example"])).unwrap();
    assert_eq!(accepts(ca.ca_pem(), &served, "a.example"), Ok(()));
    assert!(served.warning.is_some_and(|w| w.starts_with("not kept")));
}

#[test]
fn long_expired_files_are_cleared() {
    let dir = folder();
    let ca = InternalCa::open(dir.path()).unwrap();
    for host in ["old.example", "new.example"] {
        ca.load_or_issue(&names(&[host])).unwrap();
    }
    let (old, new) =
        (issued_file(dir.path(), &["old.example"]), issued_file(dir.path(), &["new.example"]));
    let file = fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(SystemTime::now() - LEAF_LIFE - PRUNE_GRACE - DAY).unwrap();
    InternalCa::open(dir.path()).unwrap();
    assert!(!old.exists() && new.exists());
}

#[test]
fn parallel_opens_agree_on_one_authority() {
    for round in 0..8 {
        let dir = folder();
        if round % 2 == 1 {
            fs::write(dir.path().join(CA_AND_KEY), b"damaged").unwrap();
        }
        let found: Vec<(String, String)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let ca = InternalCa::open(dir.path()).unwrap();
                        let issued = ca.load_or_issue(&names(&["a.example"])).unwrap();
                        (ca.ca_pem().to_owned(), issued.chain_pem)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 1, "round {round}");
        let aside = dir.path().join("ca-and-key.pem.corrupt-1").exists();
        assert_eq!(aside, round % 2 == 1);
        assert!(!dir.path().join("ca-and-key.pem.corrupt-2").exists());
    }
}

/// A child process makes authorities and certificates until it is killed; whatever it left must
/// open without a word.
#[test]
fn killed_at_any_time_leaves_whole_pairs() {
    let base = folder();
    for round in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "internal::tests::child_of_the_kill_test"])
            .env(CHILD_DIR, base.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = base.path().join("started");
        while !started.exists() {
            assert_eq!(child.try_wait().unwrap(), None, "the child ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Not a wait for a condition: the moment of the kill is what varies.
        std::thread::sleep(Duration::from_micros(731 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(started).unwrap();
        let mut seen = 0;
        for entry in fs::read_dir(base.path()).unwrap() {
            let dir = entry.unwrap().path();
            let ca = InternalCa::open(&dir).unwrap();
            assert!(ca.warnings().is_empty(), "{:?}", ca.warnings());
            let served = ca.load_or_issue(&names(&["a.example"])).unwrap();
            assert_eq!(served.warning, None);
            seen += 1;
            fs::remove_dir_all(dir).unwrap();
        }
        assert!(seen > 0, "the child did nothing in round {round}");
    }
}

/// Does nothing but as the child of the test above.
#[test]
fn child_of_the_kill_test() {
    let Some(base) = std::env::var_os(CHILD_DIR).map(PathBuf::from) else { return };
    for number in 0.. {
        let ca = InternalCa::open(&base.join(format!("ca-{number}"))).unwrap();
        if number == 0 {
            fs::write(base.join("started"), b"").unwrap();
        }
        for _ in 0..5 {
            ca.issue(&names(&["a.example"])).unwrap();
        }
    }
}

const CHILD_DIR: &str = "OPENCLAW_EDGE_TEST_CHILD_DIR";
