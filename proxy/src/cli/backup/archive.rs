//! The file of a backup: a tar archive that any `tar` lists and unpacks.
//!
//! First `manifest.json` (form, program, time, host, size and SHA-256 of each file), then
//! `manifest.sha256` in the form of sha256sum(1), then the files of the state directory under
//! their paths there. Nothing is compressed: it is kilobytes.

use std::collections::BTreeMap;
use std::io::{self, Read};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

use super::layout;

/// Bytes by path in the state directory.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Bytes of a backup, at most: of 30,000 certificates it is about 400 MiB.
pub const MAX_BACKUP: u64 = 1 << 30;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this form; a reader refuses a higher one.
    pub format: u32,
    /// Version of openclaw-edge.
    pub version: String,
    /// RFC 3339.
    pub taken_at: String,
    pub host: String,
    files: BTreeMap<String, Sum>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    bytes: u64,
    /// Hexadecimal.
    sha256: String,
}

impl Manifest {
    pub fn new(files: &Files, taken_at: String, host: String) -> Manifest {
        let sum = |(path, bytes): (&String, &Vec<u8>)| (path.clone(), Sum::of(bytes));
        Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            taken_at,
            host,
            files: files.iter().map(sum).collect(),
        }
    }
}

impl Sum {
    fn of(bytes: &[u8]) -> Sum {
        Sum { bytes: bytes.len() as u64, sha256: sha256(bytes) }
    }
}

/// The archive's bytes.
///
/// # Errors
/// A path that no archive can hold.
pub fn pack(manifest: &Manifest, files: &Files, unix_seconds: i64) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    let mut put = |path: &str, bytes: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(unix_seconds).unwrap_or(0));
        archive.append_data(&mut header, path, bytes)
    };
    let text = serde_json::to_vec_pretty(manifest)?;
    put(MANIFEST, &text)?;
    put(MANIFEST_SUM, format!("{}  {MANIFEST}\n", sha256(&text)).as_bytes())?;
    files.iter().try_for_each(|(path, bytes)| put(path, bytes))?;
    archive.into_inner()
}

/// The files of an archive, each as the manifest says.
///
/// # Errors
/// What is wrong with the archive: then nothing of it is to be used.
pub fn unpack(archive: &[u8]) -> Result<(Manifest, Files), String> {
    let mut entries = read(archive)?;
    let text = entries.remove(MANIFEST).ok_or("it has no manifest: it is no backup")?;
    let sum = entries.remove(MANIFEST_SUM).ok_or("its manifest has no checksum")?;
    if sum != format!("{}  {MANIFEST}\n", sha256(&text)).as_bytes() {
        return Err("its manifest is damaged: the checksum differs".to_owned());
    }
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|why| format!("its manifest: {why}"))?;
    if manifest.format > FORMAT {
        return Err(format!(
            "it is of form {}, from openclaw-edge {}; this one reads up to {FORMAT}",
            manifest.format, manifest.version
        ));
    }
    if let Some(path) = entries.keys().find(|path| !manifest.files.contains_key(*path)) {
        return Err(format!("{path} is not in its manifest"));
    }
    for (path, sum) in &manifest.files {
        let bytes = entries.get(path).ok_or_else(|| format!("{path} is missing in it"))?;
        if Sum::of(bytes) != *sum {
            return Err(format!("{path} is damaged in it: the checksum differs"));
        }
    }
    Ok((manifest, entries))
}

fn read(archive: &[u8]) -> Result<Files, String> {
    // Two empty blocks end an archive; without them a cut between two files would be an end too.
    if !archive.len().is_multiple_of(BLOCK) || !archive.ends_with(&[0; 2 * BLOCK]) {
        return Err("it is no tar archive, or cut short".to_owned());
    }
    let told = |why: io::Error| format!("it is no tar archive, or damaged: {why}");
    let mut files = Files::new();
    for entry in Archive::new(archive).entries().map_err(told)? {
        let mut entry = entry.map_err(told)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let known = [MANIFEST, MANIFEST_SUM].contains(&&*path) || layout::content(&path).is_some();
        if !known || entry.header().entry_type() != EntryType::Regular {
            return Err(format!("it holds {path:?}, which no backup holds"));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(told)?;
        if files.insert(path.clone(), bytes).is_some() {
            return Err(format!("it holds {path} twice"));
        }
    }
    Ok(files)
}

fn sha256(bytes: &[u8]) -> String {
    let sum = digest::digest(&digest::SHA256, bytes);
    sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const MANIFEST_SUM: &str = "manifest.sha256";
const BLOCK: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files() -> Files {
        let long = format!("acme/certs/{}.former.pem", "a".repeat(180));
        let file = |path: &str, size: usize| (path.to_owned(), vec![b'k'; size]);
        [file("last-good.yaml", 0), file(&long, 700), file("acme/ledger.json", 512)].into()
    }

    fn packed(files: &Files) -> Vec<u8> {
        let manifest = Manifest::new(files, "2026-11-22T11:00:00Z".into(), "node-1".into());
        pack(&manifest, files, 1_800_000_000).unwrap()
    }

    #[test]
    fn what_was_packed_comes_back() {
        let files = files();
        let (manifest, found) = unpack(&packed(&files)).unwrap();
        assert_eq!(found, files);
        assert_eq!((manifest.host.as_str(), manifest.format), ("node-1", FORMAT));
    }

    /// Cut anywhere and filled up with anything that could pass for the end.
    #[test]
    fn a_cut_is_found() {
        let whole = packed(&files());
        for at in (0..whole.len()).step_by(64) {
            assert!(unpack(&whole[..at]).is_err(), "cut at {at}");
            if at < whole.len() - 3 * BLOCK {
                let end = vec![0; at.next_multiple_of(BLOCK) - at + 2 * BLOCK];
                assert!(unpack(&[&whole[..at], &end].concat()).is_err(), "ended at {at}");
            }
        }
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        let raw = |name: &str, kind: EntryType| {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(kind);
            header.set_size(4);
            header.set_cksum();
            let mut block = vec![0; BLOCK];
            block[..4].copy_from_slice(b"evil");
            [header.as_bytes().as_slice(), &block, &[0; 2 * BLOCK]].concat()
        };
        for name in ["../../etc/cron.d/x", "/etc/cron.d/x", "acme/certs/../../x.pem", "x"] {
            let why = unpack(&raw(name, EntryType::Regular)).unwrap_err();
            assert!(why.contains(name) && why.contains("no backup holds"), "{why}");
        }
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::Char] {
            let why = unpack(&raw("last-good.yaml", kind)).unwrap_err();
            assert!(why.contains("no backup holds"), "{kind:?}: {why}");
        }
    }

    #[test]
    fn files_and_manifest_agree() {
        let mut files = files();
        let manifest = Manifest::new(&files, String::new(), String::new());
        files.insert("internal/ca.pem".into(), Vec::new());
        let why = unpack(&pack(&manifest, &files, 0).unwrap()).unwrap_err();
        assert!(why.contains("internal/ca.pem is not in its manifest"), "{why}");
        files.remove("internal/ca.pem");
        files.remove("acme/ledger.json");
        let why = unpack(&pack(&manifest, &files, 0).unwrap()).unwrap_err();
        assert!(why.contains("acme/ledger.json is missing"), "{why}");
        let newer = Manifest { format: FORMAT + 1, ..Manifest::new(&files, "".into(), "".into()) };
        let why = unpack(&pack(&newer, &files, 0).unwrap()).unwrap_err();
        assert!(why.contains("form 2"), "{why}");
    }

    proptest! {
        /// One wrong byte is found, or is in padding, which says nothing.
        #[test]
        fn a_wrong_byte_is_found(at: prop::sample::Index, flip in 1_u8..) {
            let mut archive = packed(&files());
            let at = at.index(archive.len());
            archive[at] ^= flip;
            if let Ok((_, found)) = unpack(&archive) {
                prop_assert_eq!(found, files());
            }
        }

        #[test]
        fn junk_is_refused(mut junk in prop::collection::vec(any::<u8>(), 0..2000)) {
            junk.resize(junk.len().next_multiple_of(BLOCK), 0);
            junk.extend([0; 2 * BLOCK]);
            prop_assert!(unpack(&junk).is_err());
        }
    }
}
