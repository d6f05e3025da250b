//! Reads a state directory beside the process that writes it, without its lock: every file is
//! replaced as a whole, so each is read whole, and the order of [`layout::FOLDERS`] does the rest.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use acme::Certificate;
use acme::storage::MAX_ENTRY;
use serde::de::IgnoredAny;

use super::archive::Files;
use super::layout::{self, Content};

/// What is to be kept, and what is damaged and therefore left out, one sentence each.
///
/// # Errors
/// Something is there and cannot be read.
pub fn collect(state_dir: &Path) -> Result<(Files, Vec<String>), String> {
    collect_while(state_dir, || ())
}

/// `meanwhile` is what others do after each folder.
fn collect_while(
    state_dir: &Path,
    mut meanwhile: impl FnMut(),
) -> Result<(Files, Vec<String>), String> {
    let mut paths = Vec::new();
    let mut taken = (Files::new(), Vec::new());
    for (folder, _) in layout::FOLDERS {
        paths.clear();
        list(state_dir, folder, &mut paths)?;
        paths.iter().try_for_each(|path| take(state_dir, path, &mut taken))?;
        meanwhile();
    }
    layout::FILES.iter().try_for_each(|path| take(state_dir, path, &mut taken))?;
    Ok(taken)
}

fn list(state_dir: &Path, folder: &str, paths: &mut Vec<String>) -> Result<(), String> {
    let dir = state_dir.join(folder);
    let told = |why: io::Error| format!("cannot list {}: {why}", dir.display());
    let entries = match fs::read_dir(&dir) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(told)?,
    };
    for entry in entries {
        let name = entry.map_err(told)?.file_name().to_string_lossy().into_owned();
        let path = format!("{folder}/{name}");
        if layout::content(&path).is_some() {
            paths.push(path);
        }
    }
    Ok(())
}

fn take(
    state_dir: &Path,
    path: &str,
    (files, damaged): &mut (Files, Vec<String>),
) -> Result<(), String> {
    let full = state_dir.join(path);
    let bytes = match read(&full) {
        // Replaced or dropped since it was listed, or never there.
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|why| format!("cannot read {}: {why}", full.display()))?,
    };
    match usable(path, &bytes) {
        Ok(()) => drop(files.insert(path.to_owned(), bytes)),
        Err(why) => damaged.push(format!("{} is damaged and left out: {why}", full.display())),
    }
    Ok(())
}

/// A file as it is at one moment: once open, what replaces it is another.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_ENTRY + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_ENTRY {
        return Err(io::Error::other("it is larger than 32 MiB"));
    }
    Ok(bytes)
}

/// Whether a process could use it.
pub fn usable(path: &str, bytes: &[u8]) -> Result<(), String> {
    match layout::content(path) {
        Some(Content::Pair) => {
            Certificate::from_bundle(path, bytes).map(drop).map_err(|why| why.to_string())
        }
        Some(Content::Json) => {
            serde_json::from_slice::<IgnoredAny>(bytes).map(drop).map_err(|why| why.to_string())
        }
        Some(Content::Text) => std::str::from_utf8(bytes).map(drop).map_err(|why| why.to_string()),
        None => Err("no backup holds it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use acme::store::Store;

    use super::*;

    /// Wherever an order comes home while the directory is read: its key is in the copy, in the
    /// order or with the certificate, and the ledger is no older.
    #[test]
    fn a_renewal_between_any_two_folders() {
        let names = [String::from("app.openclaw.example")];
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        let pair = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
        for moment in 0..layout::FOLDERS.len() {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            let order = dir.path().join("acme/orders/a.json");
            fs::create_dir(order.parent().unwrap()).unwrap();
            fs::write(&order, "{}").unwrap();
            let mut folder = 0;
            let (files, _) = collect_while(dir.path(), || {
                if folder == moment {
                    fs::write(dir.path().join(layout::LEDGER), "{}").unwrap();
                    store.put_certificate(&names, &pair).unwrap();
                    fs::remove_file(&order).unwrap();
                }
                folder += 1;
            })
            .unwrap();
            let has = |start: &str| files.keys().any(|path| path.starts_with(start));
            assert!(has("acme/orders/") || has("acme/certs/"), "{moment}: {:?}", files.keys());
            assert!(has(layout::LEDGER), "{moment}");
        }
    }
}
