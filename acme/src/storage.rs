//! Where certificates and keys live between runs: few verbs, each atomic.
//!
//! Keys are `name` or `folder/name`. [`FileStorage`] is a directory that one user owns; several
//! processes of that user may share it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::error::Error;

/// The store behind every issuer.
pub trait Storage: Send + Sync {
    /// The entry, or `None` where there is none. More than [`MAX_ENTRY`] bytes are `Corrupt`.
    fn load(&self, key: &str) -> Result<Option<Vec<u8>>, Error>;
    /// Replaces the entry. After `Ok` it survives a power cut; after a crash the former entry or
    /// the new one is there, whole.
    fn store(&self, key: &str, bytes: &[u8]) -> Result<(), Error>;
    /// Moves an unusable entry out of the way without losing it; returns its new key.
    fn set_aside(&self, key: &str) -> Result<String, Error>;
    /// Removes an entry; one that is not there is fine.
    fn remove(&self, key: &str) -> Result<(), Error>;
    /// Entries of a folder with the time of their last change, in no order.
    fn list(&self, folder: &str) -> Result<Vec<(String, SystemTime)>, Error>;
    /// Waits for the exclusive right to write, at most [`LOCK_WAIT`]. Guards writing, never
    /// reading. Look again at what is stored once you have it. A dead process holds nothing.
    fn lock(&self) -> Result<Lock, Error>;
    /// The same without waiting; `None`: another process has it.
    fn try_lock(&self) -> Result<Option<Lock>, Error>;
}

/// Bytes of one entry, at most. A chain with its key is about 10 KiB; a full ledger of orders
/// with one name each is 20 MiB.
pub const MAX_ENTRY: u64 = 32 << 20;
/// After this time another holder of the lock is an error.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// A directory (0700) of files (0600).
#[derive(Debug)]
pub struct FileStorage {
    dir: PathBuf,
    warnings: Vec<String>,
}

impl FileStorage {
    /// Opens or creates the directory and clears what a killed process left half-written.
    pub fn open(dir: &Path) -> Result<FileStorage, Error> {
        make_dir(dir)?;
        let mut storage = FileStorage { dir: dir.to_owned(), warnings: Vec::new() };
        let mode = fs::metadata(dir).map_err(io_error("inspect", dir))?.permissions().mode();
        if mode & 0o077 != 0 {
            storage.warnings.push(format!(
                "{} is open to other users (mode {:o}): chmod 700 it",
                dir.display(),
                mode & 0o777
            ));
        }
        storage.clear_leftovers(dir);
        Ok(storage)
    }

    /// A directory as it is: nothing is made, inspected or cleared.
    pub fn existing(dir: &Path) -> FileStorage {
        FileStorage { dir: dir.to_owned(), warnings: Vec::new() }
    }

    /// Things that work but should be put right.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Where an entry is.
    pub fn path(&self, key: &str) -> Result<PathBuf, Error> {
        let segments: Vec<&str> = key.split('/').collect();
        if segments.len() > 2 || !segments.iter().all(|segment| is_segment(segment)) {
            return Err(Error::corrupt(format!("storage key {key:?}"), "not a storable name"));
        }
        Ok(self.dir.join(key))
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Temporary files hold private keys: those that nobody can still be writing go.
    fn clear_leftovers(&self, dir: &Path) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let old = meta.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > STALE));
            let is_temporary = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
            if meta.is_dir() && dir == self.dir {
                self.clear_leftovers(&entry.path());
            } else if meta.is_file() && is_temporary && old {
                // Best effort: it is tidied at the next start otherwise.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Storage for FileStorage {
    fn load(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(key)?;
        // Asked first, because opening a FIFO would wait for its writer.
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => {}
            Ok(_) => return Err(Error::corrupt(path.display().to_string(), "not a file")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("read", &path)(e)),
        }
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(io_error("read", &path))?;
        file.take(MAX_ENTRY + 1).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
        if bytes.len() as u64 > MAX_ENTRY {
            return Err(Error::corrupt(path.display().to_string(), "larger than 32 MiB"));
        }
        Ok(Some(bytes))
    }

    fn store(&self, key: &str, bytes: &[u8]) -> Result<(), Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = self.path(key)?;
        let parent = path.parent().unwrap_or(&self.dir);
        make_dir(parent)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = parent.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        // Left by a killed process that had our id (containers count from 1).
        let _ = fs::remove_file(&temporary);
        let written = self
            .write_new(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| File::open(parent)?.sync_all());
        written.map_err(|e| {
            let _ = fs::remove_file(&temporary);
            io_error("write", &path)(e)
        })
    }

    fn set_aside(&self, key: &str) -> Result<String, Error> {
        let path = self.path(key)?;
        for number in 1..=MAX_ASIDE {
            let aside = format!("{key}.corrupt-{number}");
            let to = self.path(&aside)?;
            if fs::symlink_metadata(&to).is_ok() && number < MAX_ASIDE {
                continue;
            }
            fs::rename(&path, &to).map_err(io_error("set aside", &path))?;
            return Ok(aside);
        }
        Err(Error::corrupt(path.display().to_string(), "cannot be set aside"))
    }

    fn remove(&self, key: &str) -> Result<(), Error> {
        let path = self.path(key)?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<(String, SystemTime)>, Error> {
        let path = self.path(folder)?;
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io_error("list", &path)(e)),
        };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Another process may remove it meanwhile.
            let Ok(modified) = entry.metadata().and_then(|meta| meta.modified()) else { continue };
            if is_segment(&name) {
                found.push((format!("{folder}/{name}"), modified));
            }
        }
        Ok(found)
    }

    fn lock(&self) -> Result<Lock, Error> {
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(Error::Locked { path: self.dir.join(LOCK_FILE) });
            }
            std::thread::sleep(LOCK_POLL);
        }
    }

    fn try_lock(&self) -> Result<Option<Lock>, Error> {
        let path = self.dir.join(LOCK_FILE);
        let mut open = OpenOptions::new();
        let file = open.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(io_error("lock", &path)(e)),
        }
    }
}

fn make_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("create", dir))
}

/// One part of a key: no separators, nothing hidden, nothing that a shell would read.
pub fn is_segment(segment: &str) -> bool {
    (1..=255).contains(&segment.len())
        && !segment.starts_with(['.', '-'])
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

const TEMPORARY: &str = ".tmp-";
const LOCK_FILE: &str = ".lock";
const LOCK_POLL: Duration = Duration::from_millis(10);
/// A write takes milliseconds; nobody is still at one that is an hour old.
const STALE: Duration = Duration::from_secs(3600);
/// Damaged files kept per entry; the last place is used again and again.
const MAX_ASIDE: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn storage() -> (tempfile::TempDir, FileStorage) {
        let dir = tempfile::tempdir().unwrap();
        let storage = FileStorage::open(&dir.path().join("state/acme")).unwrap();
        (dir, storage)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn an_entry_comes_back_as_stored() {
        let (_dir, storage) = storage();
        assert_eq!(storage.load("issued/a.pem").unwrap(), None);
        storage.store("issued/a.pem", b"one").unwrap();
        storage.store("issued/a.pem", b"two").unwrap();
        assert_eq!(storage.load("issued/a.pem").unwrap().unwrap(), b"two");
        let keys: Vec<String> =
            storage.list("issued").unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["issued/a.pem"]);
        storage.remove("issued/a.pem").unwrap();
        storage.remove("issued/a.pem").unwrap();
        assert_eq!(storage.load("issued/a.pem").unwrap(), None);
    }

    #[test]
    fn only_the_owner_can_read() {
        let (dir, storage) = storage();
        storage.store("issued/a.pem", b"key").unwrap();
        drop(storage.lock().unwrap());
        for folder in ["state", "state/acme", "state/acme/issued"] {
            assert_eq!(mode(&dir.path().join(folder)), 0o700, "{folder}");
        }
        for file in ["state/acme/issued/a.pem", "state/acme/.lock"] {
            assert_eq!(mode(&dir.path().join(file)), 0o600, "{file}");
        }
        assert!(storage.warnings().is_empty());
    }

    #[test]
    fn an_open_directory_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let storage = FileStorage::open(dir.path()).unwrap();
        assert!(storage.warnings()[0].contains("755"));
    }

    #[test]
    fn a_store_leaves_no_temporary_file() {
        let (dir, storage) = storage();
        storage.store("a.pem", b"x").unwrap();
        // A folder in its place: the rename fails, the temporary file goes.
        fs::create_dir_all(storage.path("b.pem").unwrap().join("full")).unwrap();
        assert!(storage.store("b.pem", b"x").is_err());
        let names: Vec<String> = fs::read_dir(dir.path().join("state/acme"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.iter().all(|name| !name.starts_with(TEMPORARY)), "{names:?}");
    }

    #[test]
    fn old_temporary_files_are_cleared_and_young_ones_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("issued");
        fs::create_dir(&folder).unwrap();
        let (old, young) = (folder.join(".tmp-7-0"), folder.join(".tmp-7-1"));
        for path in [&old, &young] {
            fs::write(path, b"half").unwrap();
        }
        let file = File::options().write(true).open(&old).unwrap();
        file.set_modified(SystemTime::now() - STALE * 2).unwrap();
        FileStorage::open(dir.path()).unwrap();
        assert!(!old.exists() && young.exists());
    }

    #[test]
    fn damaged_entries_are_kept_aside() {
        let (_dir, storage) = storage();
        for number in 1..=MAX_ASIDE + 2 {
            let text = format!("bad {number}");
            storage.store("ca.pem", text.as_bytes()).unwrap();
            let aside = storage.set_aside("ca.pem").unwrap();
            assert_eq!(aside, format!("ca.pem.corrupt-{}", number.min(MAX_ASIDE)));
            assert_eq!(storage.load(&aside).unwrap().unwrap(), text.as_bytes());
            assert_eq!(storage.load("ca.pem").unwrap(), None);
        }
    }

    #[test]
    fn keys_cannot_leave_the_directory() {
        let (_dir, storage) = storage();
        for key in ["", "..", "../x", "a/../b", "/etc/x", "a/b/c", ".hidden", "a//b", "a\0b", "a b"]
        {
            assert!(storage.store(key, b"x").is_err(), "{key:?}");
        }
    }

    #[test]
    fn what_is_no_file_or_too_large_is_corrupt() {
        let (_dir, storage) = storage();
        fs::create_dir(storage.path("folder").unwrap()).unwrap();
        assert!(storage.load("folder").is_err_and(|e| e.is_corrupt()));
        storage.store("full", &vec![0; MAX_ENTRY as usize]).unwrap();
        assert!(storage.load("full").is_ok());
        storage.store("over", &vec![0; MAX_ENTRY as usize + 1]).unwrap();
        assert!(storage.load("over").is_err_and(|e| e.is_corrupt()));
    }

    #[test]
    fn the_lock_excludes_and_is_released() {
        let (_dir, storage) = storage();
        let held = storage.lock().unwrap();
        assert!(storage.try_lock().unwrap().is_none());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| storage.lock().map(drop));
            drop(held);
            second.join().unwrap().unwrap();
        });
        storage.lock().unwrap();
    }
}
