//! Reading and walking foreign directories, with a limit on everything.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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
/// files again.
pub(super) fn walk(root: &Path) -> Result<Vec<Folder>, Error> {
    let mut folders = Vec::new();
    let mut left = MAX_COUNT;
    visit(root, 0, &mut left, &mut folders)?;
    Ok(folders)
}

fn visit(
    dir: &Path,
    depth: usize,
    left: &mut usize,
    folders: &mut Vec<Folder>,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        let why = format_args!("nested deeper than {MAX_DEPTH} directories");
        return Err(Error::corrupt(dir.display().to_string(), why));
    }
    let (mut files, mut below) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let entry = entry.map_err(io_error("list", dir))?;
        *left = left.checked_sub(1).ok_or_else(|| too_many(dir))?;
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
    folders.push(Folder { path: dir.to_owned(), files });
    below.iter().try_for_each(|dir| visit(dir, depth + 1, left, folders))
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

    #[test]
    fn depth_and_count_are_limited() {
        let dir = tempfile::tempdir().unwrap();
        let mut path = dir.path().to_owned();
        for _ in 0..MAX_DEPTH {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        assert_eq!(walk(dir.path()).unwrap().len(), MAX_DEPTH + 1);
        fs::create_dir(path.join("d")).unwrap();
        assert!(walk(dir.path()).is_err());

        let dir = tempfile::tempdir().unwrap();
        for number in 0..MAX_COUNT {
            File::create(dir.path().join(number.to_string())).unwrap();
        }
        assert_eq!(walk(dir.path()).unwrap()[0].files.len(), MAX_COUNT);
        File::create(dir.path().join("more")).unwrap();
        assert!(walk(dir.path()).is_err());
    }

    #[test]
    fn a_circle_of_links_ends() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
        assert_eq!(walk(dir.path()).unwrap().len(), 1);
    }
}
