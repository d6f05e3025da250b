//! Reading and walking foreign directories, with a limit on everything.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Collected;
use crate::error::Error;

/// A file of one certificate.
pub(super) const MAX_FILE: u64 = 1 << 20;
/// A file of many: Traefik's `acme.json`, a List of Secrets.
pub(super) const MAX_COLLECTION: u64 = 16 << 20;
/// Directories below the source.
pub(super) const MAX_DEPTH: usize = 6;
/// Files and directories looked at.
pub(super) const MAX_COUNT: usize = 10_000;

/// A whole file of at most `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    // Asked first, because opening a FIFO would wait for its writer.
    let meta = fs::metadata(path).map_err(io_error("read", path))?;
    if !meta.is_file() {
        return Err(Error::corrupt(path.display().to_string(), "not a file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io_error("read", path))?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > limit {
        let why = format_args!("larger than {} MiB", limit >> 20);
        return Err(Error::corrupt(path.display().to_string(), why));
    }
    Ok(bytes)
}

/// One directory: its files by name.
pub(super) struct Folder {
    pub path: PathBuf,
    /// Sorted. Links to files count as files.
    pub files: Vec<String>,
}

impl Folder {
    pub fn has(&self, name: &str) -> bool {
        self.files.binary_search_by(|file| file.as_str().cmp(name)).is_ok()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// `root` and the directories below it, sorted. Hidden entries are skipped (a mounted Secret has
/// its true files in a hidden directory), linked directories not followed: both only show the same
/// files again. A directory below that cannot be listed is reported in `collected`.
pub(super) fn walk(root: &Path, collected: &mut Collected) -> Result<Vec<Folder>, Error> {
    let mut walk = Walk { left: MAX_COUNT, folders: Vec::new(), collected };
    let below = walk.list(root)?;
    walk.descend(below, 1)?;
    Ok(walk.folders)
}

struct Walk<'a> {
    /// Entries that may still be looked at.
    left: usize,
    folders: Vec<Folder>,
    collected: &'a mut Collected,
}

impl Walk<'_> {
    fn descend(&mut self, dirs: Vec<PathBuf>, depth: usize) -> Result<(), Error> {
        for dir in dirs {
            if depth > MAX_DEPTH {
                let why = format_args!("deeper than {MAX_DEPTH} directories, not looked at");
                self.collected.refuse(dir.display().to_string(), why);
                continue;
            }
            match self.list(&dir) {
                Ok(below) => self.descend(below, depth + 1)?,
                Err(e @ Error::Io { .. }) => {
                    self.collected.refuse(dir.display().to_string(), e);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Notes the files of one directory; returns the directories in it.
    fn list(&mut self, dir: &Path) -> Result<Vec<PathBuf>, Error> {
        let (mut files, mut below) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
            let entry = entry.map_err(io_error("list", dir))?;
            self.left = self.left.checked_sub(1).ok_or_else(|| too_many(dir))?;
            // Names that are no text cannot be one of those that are looked for.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                below.push(entry.path());
            } else if entry.path().is_file() {
                files.push(name);
            }
        }
        files.sort();
        below.sort();
        self.folders.push(Folder { path: dir.to_owned(), files });
        Ok(below)
    }
}

fn too_many(dir: &Path) -> Error {
    let why = format_args!("more than {MAX_COUNT} files and directories");
    Error::corrupt(dir.display().to_string(), why)
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_limited() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, vec![0; 100]).unwrap();
        assert_eq!(read(&path, 100).unwrap().len(), 100);
        assert!(read(&path, 99).is_err_and(|e| e.is_corrupt()));
        assert!(read(dir.path(), 99).is_err_and(|e| e.is_corrupt()));
        assert!(matches!(read(&dir.path().join("none"), 9), Err(Error::Io { .. })));
    }

    fn walked(root: &Path) -> (Result<Vec<Folder>, Error>, Collected) {
        let mut collected = Collected::default();
        (walk(root, &mut collected), collected)
    }

    #[test]
    fn depth_and_count_are_limited() {
        let dir = tempfile::tempdir().unwrap();
        let mut path = dir.path().to_owned();
        for _ in 0..MAX_DEPTH {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        let (folders, collected) = walked(dir.path());
        assert_eq!((folders.unwrap().len(), collected.refused.len()), (MAX_DEPTH + 1, 0));
        fs::create_dir(path.join("e")).unwrap();
        let (folders, collected) = walked(dir.path());
        assert_eq!(folders.unwrap().len(), MAX_DEPTH + 1);
        assert!(collected.refused[0].origin.ends_with("/e"));

        let dir = tempfile::tempdir().unwrap();
        for number in 0..MAX_COUNT {
            File::create(dir.path().join(number.to_string())).unwrap();
        }
        assert_eq!(walked(dir.path()).0.unwrap()[0].files.len(), MAX_COUNT);
        File::create(dir.path().join("more")).unwrap();
        assert!(walked(dir.path()).0.is_err());
    }

    #[test]
    fn a_circle_of_links_ends() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
        assert_eq!(walked(dir.path()).0.unwrap().len(), 1);
    }
}
