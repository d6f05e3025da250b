//! The demo's directory: config, certificates, admin socket. Kept between runs, so that a client
//! that trusts the demo's authority goes on trusting it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use acme::InternalCa;

use super::Failure;

/// Locked for as long as the value lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens or makes the directory. It holds private keys and its default place is where others
    /// can write, so one that is not ours alone is refused.
    pub(super) fn open(chosen: Option<&Path>) -> Result<Folder, Failure> {
        let path = match chosen {
            Some(path) => std::path::absolute(path)
                .map_err(|e| Failure::new(format_args!("--dir {}", path.display()), e))?,
            None => default_path(),
        };
        let refused = |cause: &dyn std::fmt::Display| {
            Failure(format!("{}: {cause}; choose another with --dir", path.display()))
        };
        if fs::symlink_metadata(&path).is_err() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|e| refused(&e))?;
        }
        let meta = fs::symlink_metadata(&path).map_err(|e| refused(&e))?;
        if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(refused(&"not a directory of this user"));
        }
        if meta.mode() & 0o022 != 0 {
            return Err(refused(&"other users can write in it"));
        }
        let lock = lock(&path.join(".demo.lock")).map_err(|e| refused(&e))?;
        Ok(Folder { path, _lock: lock })
    }

    pub(super) fn config_path(&self) -> PathBuf {
        self.path.join("edge.yaml")
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.path.join("state")
    }

    pub(super) fn admin_socket(&self) -> PathBuf {
        self.path.join("admin.sock")
    }

    /// What `curl --cacert` is given.
    pub(super) fn authority_path(&self) -> PathBuf {
        self.path.join("ca.pem")
    }

    /// Makes the authority that the edge will find, and copies its certificate to a short path.
    pub(super) fn write_authority(&self) -> Result<(), Failure> {
        let authority = InternalCa::open(&self.state_dir().join(acme::internal::FOLDER))
            .map_err(|e| Failure::new("the demo's certificate authority", e))?;
        for warning in authority.warnings() {
            eprintln!("openclaw-edge demo: {warning}");
        }
        self.replace(&self.authority_path(), authority.ca_pem())
    }

    /// The backends' ports change with every run, so the file is written anew; the former one,
    /// which may have been edited, stays as `edge.yaml.old`.
    pub(super) fn write_config(&self, text: &str) -> Result<(), Failure> {
        let path = self.config_path();
        if path.exists() {
            let old = self.path.join("edge.yaml.old");
            fs::rename(&path, &old)
                .map_err(|e| Failure::new(format_args!("cannot keep {}", old.display()), e))?;
        }
        self.replace(&path, text)
    }

    fn replace(&self, path: &Path, text: &str) -> Result<(), Failure> {
        let temporary = self.path.join(".demo.tmp");
        let write = || {
            let _ = fs::remove_file(&temporary);
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            fs::rename(&temporary, path)
        };
        write().map_err(|e| Failure::new(format_args!("cannot write {}", path.display()), e))
    }
}

fn default_path() -> PathBuf {
    let base = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let base = base.filter(|dir| dir.is_absolute() && dir.is_dir());
    base.unwrap_or_else(std::env::temp_dir).join("openclaw-edge-demo")
}

fn lock(path: &Path) -> Result<File, String> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| e.to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err("another demo is running there".to_owned()),
        Err(TryLockError::Error(e)) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn made_for_the_owner_alone_and_for_one_demo() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/demo");
        let folder = Folder::open(Some(&path)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let second = Folder::open(Some(&path)).unwrap_err().to_string();
        assert!(second.contains("another demo") && second.contains("--dir"), "{second}");
        drop(folder);
        Folder::open(Some(&path)).unwrap();
    }

    #[test]
    fn a_directory_of_others_or_a_link_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let open = base.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Folder::open(Some(&open)).unwrap_err().to_string().contains("can write"));
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).unwrap();
        assert!(Folder::open(Some(&link)).is_err());
    }

    #[test]
    fn an_edited_config_is_kept_and_the_authority_stays() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::open(Some(&base.path().join("demo"))).unwrap();
        folder.write_config("first").unwrap();
        fs::write(folder.config_path(), "edited").unwrap();
        folder.write_config("second").unwrap();
        assert_eq!(fs::read_to_string(folder.config_path()).unwrap(), "second");
        assert_eq!(fs::read_to_string(folder.path.join("edge.yaml.old")).unwrap(), "edited");
        folder.write_authority().unwrap();
        let authority = fs::read_to_string(folder.authority_path()).unwrap();
        folder.write_authority().unwrap();
        assert_eq!(fs::read_to_string(folder.authority_path()).unwrap(), authority);
    }
}
