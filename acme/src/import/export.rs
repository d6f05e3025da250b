//! A certificate as two PEM files, for programs that want them so.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::files::io_error;
use crate::certificate::Certificate;
use crate::error::Error;

/// Where the two files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Leaf first; readable by everyone.
    pub chain: PathBuf,
    /// PKCS#8; readable by the owner alone.
    pub key: PathBuf,
}

/// Writes `STEM.crt` (0644) and `STEM.key` (0600) into `dir`, which is made (0700) where missing.
/// Each file is replaced whole, both only after both are on disk; the key comes first, so that a
/// reader who watches the chain finds its key there. A `*` in the stem becomes `_`.
///
/// # Errors
/// Where the stem is no plain file name, or the disk says no; then nothing is changed, but where
/// the second rename fails the key is new already.
pub fn export(certificate: &Certificate, dir: &Path, stem: &str) -> Result<Exported, Error> {
    let stem = stem.replace('*', "_");
    let plain = stem.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if !plain || !(1..=200).contains(&stem.len()) || stem.starts_with(['.', '-']) {
        return Err(Error::corrupt(format!("file name {stem:?}"), "not a plain file name"));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("create", dir))?;
    let exported =
        Exported { chain: dir.join(format!("{stem}.crt")), key: dir.join(format!("{stem}.key")) };
    let key = Temporary::write(dir, certificate.key_pem()?.as_bytes(), 0o600)?;
    let chain = Temporary::write(dir, certificate.chain_pem().as_bytes(), 0o644)?;
    key.rename(&exported.key)?;
    chain.rename(&exported.chain)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("write", dir))?;
    Ok(exported)
}

/// Removed unless renamed: it may hold a key.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn write(dir: &Path, bytes: &[u8], mode: u32) -> Result<Temporary, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!(".tmp-{}-export-{number}", std::process::id()));
        // Left by a killed process that had our id (containers count from 1).
        let _ = fs::remove_file(&path);
        let temporary = Temporary { path };
        let written: io::Result<()> = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary.path)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
        written.map_err(io_error("write", &temporary.path))?;
        Ok(temporary)
    }

    fn rename(&self, to: &Path) -> Result<(), Error> {
        fs::rename(&self.path, to).map_err(io_error("write", to))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Not there after the rename.
        let _ = fs::remove_file(&self.path);
    }
}
