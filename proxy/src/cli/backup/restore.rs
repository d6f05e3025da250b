//! `openclaw-edge restore`: everything is read and checked, then everything is written beside the
//! directory's files, then each is exchanged by a rename. Until the last step nothing has changed,
//! and what a rename replaces has another name already.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use acme::Certificate;
use acme::ledger::Ledger;
use acme::storage::{FileStorage, Lock, Storage};
use clap::Args;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::State;
use super::archive::{Files, MAX_BACKUP, Manifest, unpack};
use super::{collect, layout};
use crate::cli::out::tell;
use crate::cli::place::{End, finish};
use crate::cli::table::printable;

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// What `backup` wrote; `-` is stdin
    file: PathBuf,
    #[command(flatten)]
    state: State,
    /// Also over certificates that are newer than the backup's
    #[arg(long)]
    force: bool,
}

pub fn restore(args: &RestoreArgs) -> ExitCode {
    finish(run(args))
}

fn run(args: &RestoreArgs) -> Result<(), End> {
    let (manifest, files) = open(&args.file)?;
    let (dir, accepted) = args.state.find()?;
    let socket = accepted
        .filter(|accepted| accepted.global.state_dir == dir)
        .and_then(|accepted| accepted.global.admin.socket.clone());
    if let Some(socket) = socket.filter(|socket| UnixStream::connect(socket).is_ok()) {
        let (dir, socket) = (dir.display(), socket.display());
        return Err(End::No(format!(
            "a process that answers on {socket} uses {dir}: stop it, restore, start it again"
        )));
    }
    make_dir(&dir)?;
    become_owner(&dir)?;
    let _locks = own(&dir)?;
    let (taken_at, host) = (printable(&manifest.taken_at), printable(&manifest.host));
    let version = printable(&manifest.version);
    tell!(
        "{}: {} files of {host}, {taken_at}, version {version}",
        args.file.display(),
        files.len()
    );
    let change = Change::plan(&dir, files)?;
    if !change.newer.is_empty() && !args.force {
        return Err(End::No(format!(
            "newer than the backup, nothing is changed: {}; --force to go back all the same",
            change.newer.join(", ")
        )));
    }
    let aside = change.make(&dir)?;
    let Change { unchanged, write, .. } = &change;
    let unchanged = unchanged.len();
    tell!("{}: {} files written, {unchanged} were the same", dir.display(), write.len());
    if let Some(aside) = aside {
        tell!("what was there before is kept in {}: it holds keys", aside.display());
    }
    Ok(())
}

fn open(path: &Path) -> Result<(Manifest, Files), End> {
    let name = path.display();
    let mut bytes = Vec::new();
    let mut read = |from: &mut dyn Read| from.take(MAX_BACKUP + 1).read_to_end(&mut bytes);
    let read = if path == Path::new("-") {
        read(&mut io::stdin())
    } else {
        File::open(path).and_then(|mut file| read(&mut file))
    };
    read.map_err(|why| End::No(format!("cannot read {name}: {why}")))?;
    if bytes.len() as u64 > MAX_BACKUP {
        return Err(End::No(format!("{name} is larger than 1 GiB: it is no backup")));
    }
    let no = |why: String| {
        let why = printable(&why);
        End::No(format!("{name}: {why}; nothing is changed. Take another backup"))
    };
    let (manifest, files) = unpack(&bytes).map_err(no)?;
    for (path, bytes) in &files {
        collect::usable(path, bytes).map_err(|why| no(format!("{path} cannot be used: {why}")))?;
    }
    Ok((manifest, files))
}

fn told<'a>(action: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> End + 'a {
    move |why| End::No(format!("cannot {action} {}: {why}", path.display()))
}

fn make_dir(dir: &Path) -> Result<(), End> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(told("create", dir))?;
    if geteuid().is_root() {
        let dir = dir.display();
        eprintln!("note: {dir} is new and root's; where the service is another user, chown -R it");
    }
    Ok(())
}

/// Root goes on as the owner of the directory: what is made is the owner's, and no link that the
/// owner has put there leads further than the owner could go.
fn become_owner(dir: &Path) -> Result<(), End> {
    let meta = fs::metadata(dir).map_err(told("inspect", dir))?;
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    let me = geteuid();
    if uid == me {
        return Ok(());
    }
    let become_it = || {
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)
    };
    let changed = if me.is_root() { become_it() } else { Err(rustix::io::Errno::PERM) };
    changed.map_err(|why| {
        let dir = dir.display();
        End::No(format!("{dir} belongs to user {}: run restore as that user ({why})", meta.uid()))
    })
}

/// The right to write, of ACME and of the internal CA.
fn own(dir: &Path) -> Result<[Lock; 2], End> {
    let lock = |folder: &str| {
        let no = |why: acme::Error| End::No(why.to_string());
        let path = dir.join(folder);
        match FileStorage::open(&path).and_then(|storage| storage.try_lock()).map_err(no)? {
            Some(lock) => Ok(lock),
            None => Err(End::No(format!(
                "another process holds {}: stop it, restore, start it again",
                path.display()
            ))),
        }
    };
    Ok([lock(acme::store::FOLDER)?, lock(acme::internal::FOLDER)?])
}

/// What a restore does to a directory.
struct Change {
    write: Files,
    /// Files that go aside and are not replaced.
    drop: Vec<String>,
    /// Files that are as the backup's.
    unchanged: Vec<String>,
    /// Certificates of the directory that are newer than the backup's.
    newer: Vec<String>,
}

impl Change {
    fn plan(dir: &Path, files: Files) -> Result<Change, End> {
        let mut change = Change {
            write: Files::new(),
            drop: Vec::new(),
            unchanged: Vec::new(),
            newer: Vec::new(),
        };
        let held: BTreeSet<String> = files.keys().cloned().collect();
        for (path, mut bytes) in files {
            let full = dir.join(&path);
            let present = present(&full)?;
            if path == layout::LEDGER {
                bytes = merged(&bytes, present.as_deref())?;
            }
            if present.as_ref() == Some(&bytes) {
                change.unchanged.push(path);
                continue;
            }
            if is_newer(&path, present.as_deref(), &bytes) {
                change.newer.push(full.display().to_string());
            }
            if let Some(former) = former_of(&path).filter(|former| !held.contains(former))
                && is_newer(&path, self::present(&dir.join(&former))?.as_deref(), &bytes)
            {
                // It would serve in the place of the one that is restored.
                change.drop.push(former);
            }
            change.write.insert(path, bytes);
        }
        Ok(change)
    }

    /// The directory of what was replaced, if anything was.
    fn make(&self, dir: &Path) -> Result<Option<PathBuf>, End> {
        clear_staging(dir);
        let staging = dir.join(format!("{STAGING}{}", std::process::id()));
        let staged = self.stage(dir, &staging);
        staged.map_err(|why| {
            let _ = fs::remove_dir_all(&staging);
            with(why, "; nothing is changed")
        })?;
        let mut aside = None;
        let exchanged = self.exchange(dir, &staging, &mut aside).map_err(|why| {
            with(why, "; some files are restored already: put it right and run restore again")
        });
        let _ = fs::remove_dir_all(&staging);
        exchanged.map(|()| aside)
    }

    /// Everything that needs room, and every folder.
    fn stage(&self, dir: &Path, staging: &Path) -> Result<(), End> {
        let folders: BTreeSet<&Path> =
            self.write.keys().filter_map(|path| Path::new(path).parent()).collect();
        for folder in &folders {
            for place in [staging, dir] {
                private_dir(place, folder)?;
            }
        }
        private_dir(staging, Path::new(""))?;
        for (path, bytes) in &self.write {
            let path = staging.join(path);
            let write = || {
                let mut new = OpenOptions::new();
                new.write(true).create_new(true).mode(0o600).open(&path)?.write_all(bytes)
            };
            write().map_err(told("write", &path))?;
        }
        sync(staging)
    }

    fn exchange(&self, dir: &Path, staging: &Path, aside: &mut Option<PathBuf>) -> Result<(), End> {
        for path in self.drop.iter().chain(self.write.keys()) {
            let present = dir.join(path);
            if fs::symlink_metadata(&present).is_ok() {
                let place = match aside {
                    Some(place) => place,
                    None => aside.insert(new_aside(dir)?),
                };
                private_dir(place, Path::new(path).parent().unwrap_or(Path::new("")))?;
                let kept = place.join(path);
                // A second name first: at no moment there is neither the old nor the new one.
                fs::hard_link(&present, &kept).map_err(told("keep aside", &present))?;
                private_file(&kept)?;
            }
            if let Some(path) = self.write.get_key_value(path).map(|(path, _)| path) {
                fs::rename(staging.join(path), &present).map_err(told("replace", &present))?;
            } else {
                fs::remove_file(&present).map_err(told("remove", &present))?;
            }
        }
        for path in &self.unchanged {
            private_dir(dir, Path::new(path).parent().unwrap_or(Path::new("")))?;
            private_file(&dir.join(path))?;
        }
        sync(dir)
    }
}

fn with((End::No(why) | End::Unreachable(why) | End::TimedOut(why)): End, more: &str) -> End {
    End::No(why + more)
}

/// `None`: there is none. What is no file cannot be replaced by one.
fn present(path: &Path) -> Result<Option<Vec<u8>>, End> {
    match collect::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(told("read", path)(why)),
    }
}

/// What either copy knows to have been asked of a CA: going back must not exceed its limits.
fn merged(backup: &[u8], present: Option<&[u8]>) -> Result<Vec<u8>, End> {
    let unusable = |why: serde_json::Error| End::No(format!("{}: {why}", layout::LEDGER));
    let restored: Ledger = serde_json::from_slice(backup).map_err(unusable)?;
    let present: Option<Ledger> = present.and_then(|bytes| serde_json::from_slice(bytes).ok());
    let Some(mut ledger) = present else { return Ok(backup.to_vec()) };
    ledger.absorb(restored);
    serde_json::to_vec(&ledger).map_err(unusable)
}

fn is_newer(path: &str, present: Option<&[u8]>, backup: &[u8]) -> bool {
    let of_pair = layout::content(path) == Some(layout::Content::Pair);
    let since = |bytes| Certificate::from_bundle(path, bytes).map(|one| one.not_before);
    match present.filter(|_| of_pair).map(since) {
        // A damaged one is no certificate.
        Some(Ok(present)) => since(backup).is_ok_and(|backup| present > backup),
        _ => false,
    }
}

/// Where the former certificate of an ACME certificate is.
fn former_of(path: &str) -> Option<String> {
    let of_acme = path.starts_with(layout::CERTIFICATES) && !path.ends_with(layout::FORMER);
    let stem = path.strip_suffix(".pem").filter(|_| of_acme)?;
    Some(format!("{stem}{}", layout::FORMER))
}

fn private_file(path: &Path) -> Result<(), End> {
    let mode = fs::metadata(path).map_err(told("inspect", path))?.permissions().mode();
    if mode & 0o177 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(told("close to others", path))
}

/// A folder of `root`, and those that lead there, for nobody else.
fn private_dir(root: &Path, folder: &Path) -> Result<(), End> {
    let mut dir = root.to_owned();
    for part in std::iter::once(None).chain(folder.iter().map(Some)) {
        dir.extend(part);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
                let mode = fs::metadata(&dir).map_err(told("inspect", &dir))?.permissions().mode();
                if mode & 0o077 != 0 {
                    fs::set_permissions(&dir, Permissions::from_mode(0o700))
                        .map_err(told("close to others", &dir))?;
                }
            }
            made => made.map_err(told("create", &dir))?,
        }
    }
    Ok(())
}

fn new_aside(dir: &Path) -> Result<PathBuf, End> {
    let mut number = 1;
    loop {
        let place = dir.join(format!("{ASIDE}{number}"));
        match DirBuilder::new().mode(0o700).create(&place) {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => number += 1,
            made => return made.map(|()| place.clone()).map_err(told("create", &place)),
        }
    }
}

/// Of restores that were killed; with the lock held, nobody else's.
fn clear_staging(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(|one| one.file_name().to_string_lossy().starts_with(STAGING)) {
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// All of the file system at once: a thousand files are one wait.
fn sync(dir: &Path) -> Result<(), End> {
    let synced = File::open(dir).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
    synced.map_err(told("write", dir))
}

const STAGING: &str = ".restore-";
const ASIDE: &str = "replaced-";
