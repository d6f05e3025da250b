//! What a config file may reach outside itself: environment variables and small files.

use std::fs::File;
use std::io::{self, Read, Take};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::defaults::REGISTRY_BYTES;

/// Where `${env:X}`, `${file:/p}` and `${cred:name}` come from. A trait, so that tests and `check`
/// on another machine need no process environment.
pub trait Environment {
    /// `None`: not set, or not UTF-8.
    fn var(&self, name: &str) -> Option<String>;

    /// The whole file as UTF-8. At most [`MAX_FILE_BYTES`] are used; a longer file is an error
    /// of the scalar that names it.
    ///
    /// # Errors
    /// As of the file system; `InvalidData` when it is not UTF-8.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The whole registry of tenants. At most [`REGISTRY_BYTES`] are used; a longer file is an
    /// error of the registry.
    ///
    /// # Errors
    /// As of the file system.
    fn read_registry(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read(path).map(String::into_bytes)
    }
}

/// Largest file that `${file:}` and `${cred:}` take.
pub const MAX_FILE_BYTES: usize = 64 * 1024;

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        open(path, MAX_FILE_BYTES)?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn read_registry(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        open(path, REGISTRY_BYTES)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// One byte more than allowed, so that the caller sees that it is too long.
fn open(path: &Path, most: usize) -> io::Result<Take<File>> {
    Ok(open_regular(path)?.take(most as u64 + 1))
}

/// Opens a regular file, or a link to one, and nothing else.
///
/// # Errors
/// As of the file system; a pipe, a socket, a device or a directory.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let refused = || io::Error::other("not a regular file");
    // Asked first: to open a device may do something.
    if !std::fs::metadata(path)?.is_file() {
        return Err(refused());
    }
    // It may be exchanged in between, and to open a pipe is to wait for its writer, for ever. The
    // flag means nothing to a regular file (open(2)).
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused()) }
}

/// Nothing is set, no file exists.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEnvironment;

impl Environment for NoEnvironment {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    type Reader = fn(&Path) -> io::Result<usize>;

    /// How each of the readers fails; a reader that waits fails the test, and is left waiting.
    fn refusals(path: &Path) -> Vec<String> {
        let readers: [Reader; 2] = [
            |path| SystemEnvironment.read(path).map(|text| text.len()),
            |path| SystemEnvironment.read_registry(path).map(|bytes| bytes.len()),
        ];
        let refusal = |reader: Reader| {
            let (sender, receiver) = mpsc::channel();
            let path = path.to_path_buf();
            thread::spawn(move || sender.send(reader(&path)));
            let read = receiver.recv_timeout(Duration::from_secs(10)).expect("an end");
            read.unwrap_err().to_string()
        };
        readers.into_iter().map(refusal).collect()
    }

    fn pipe(dir: &Path) -> PathBuf {
        let path = dir.join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = pipe(dir.path());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for path in [pipe.as_path(), &link, dir.path(), Path::new("/dev/zero")] {
            assert_eq!(refusals(path), ["not a regular file"; 2], "{}", path.display());
        }
    }

    #[test]
    fn a_link_to_a_file_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "text").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("file", &link).unwrap();
        assert_eq!(SystemEnvironment.read(&link).unwrap(), "text");
        assert_eq!(SystemEnvironment.read_registry(&link).unwrap(), b"text");
    }
}
