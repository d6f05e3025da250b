//! What a config file may reach outside itself: environment variables and small files.

use std::fs::File;
use std::io::{self, Read, Take};
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
    let file = File::open(path)?;
    // A pipe or a terminal would make a reload wait for ever.
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file.take(most as u64 + 1))
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
