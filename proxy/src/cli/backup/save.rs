//! `openclaw-edge backup`: the file itself, and the older ones of the same directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::State;
use super::archive::{Manifest, pack};
use super::collect::collect;
use crate::cli::out::tell;
use crate::cli::place::{End, finish};

#[derive(Debug, Args)]
pub struct BackupArgs {
    #[command(flatten)]
    state: State,
    /// File, or directory of files openclaw-edge-HOST-TIME.tar; `-` is stdout
    #[arg(long, value_name = "FILE|DIR", default_value = ".")]
    out: PathBuf,
    /// Remove this host's older backups in DIR, so that N are left
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
}

pub fn backup(args: &BackupArgs) -> ExitCode {
    let out = Out::of(&args.out);
    if args.keep.is_some() && !matches!(out, Out::Directory(_)) {
        eprintln!("error: --keep needs --out DIR, and {} is no directory", args.out.display());
        return ExitCode::from(USAGE);
    }
    finish(run(args, &out))
}

enum Out<'a> {
    Stdout,
    File(&'a Path),
    Directory(&'a Path),
}

impl Out<'_> {
    fn of(path: &Path) -> Out<'_> {
        match path.to_string_lossy() {
            text if text == "-" => Out::Stdout,
            text if text.ends_with('/') || path.is_dir() => Out::Directory(path),
            _ => Out::File(path),
        }
    }
}

fn run(args: &BackupArgs, out: &Out<'_>) -> Result<(), End> {
    let (state_dir, _) = args.state.find()?;
    let (files, damaged) = collect(&state_dir).map_err(|why| {
        End::No(format!("{why}; run it as the user that owns {}, or root", state_dir.display()))
    })?;
    damaged.iter().for_each(|why| eprintln!("warning: {why}"));
    if files.is_empty() {
        let dir = state_dir.display();
        return Err(End::No(format!(
            "{dir} has nothing to back up; name the state directory with --state-dir DIR"
        )));
    }
    let now = OffsetDateTime::now_utc().truncate_to_second();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let taken_at = now.format(&Rfc3339).unwrap_or_default();
    let manifest = Manifest::new(&files, taken_at, host.clone());
    let bytes = pack(&manifest, &files, now.unix_timestamp()).map_err(|why| {
        End::No(format!("cannot make a backup of {}: {why}", state_dir.display()))
    })?;
    let Pattern { start, name } = Pattern::new(&host, now);
    match *out {
        Out::Stdout => return to_stdout(&bytes),
        Out::File(path) => write(path, &bytes)?,
        Out::Directory(dir) => write(&dir.join(&name), &bytes)?,
    }
    if let (Out::Directory(dir), Some(keep)) = (out, args.keep) {
        remove_older(dir, &start, &name, keep as usize)?;
    }
    Ok(())
}

fn to_stdout(bytes: &[u8]) -> Result<(), End> {
    let mut stdout = io::stdout();
    if stdout.is_terminal() {
        return Err(End::No("a backup holds keys: not to a terminal".to_owned()));
    }
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|why| End::No(format!("stdout: {why}; what was written is no backup")))
}

/// After this there is the former file or the new one, whole, also after a power cut.
fn write(path: &Path, bytes: &[u8]) -> Result<(), End> {
    let told = |why: io::Error| {
        End::No(format!(
            "cannot write {}: {why}; there is no new backup, older ones are untouched",
            path.display()
        ))
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(told(io::Error::other("something else than a file is there")));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(told)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}{TEMPORARY}{}", std::process::id()));
    let replace = || {
        let mut new = OpenOptions::new();
        let mut file = new.write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(parent)?.sync_all()
    };
    // Left by a killed process that had our id.
    let _ = fs::remove_file(&temporary);
    replace().map_err(|why| {
        let _ = fs::remove_file(&temporary);
        told(why)
    })?;
    tell!("{}", path.display());
    Ok(())
}

/// Names of one host's backups: the later the greater.
struct Pattern {
    start: String,
    name: String,
}

impl Pattern {
    fn new(host: &str, now: OffsetDateTime) -> Pattern {
        let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
        let host: String = host.chars().map(plain).collect();
        let start = format!("openclaw-edge-{host}-");
        let (date, time) = (now.date(), now.time());
        let name = format!(
            "{start}{:04}{:02}{:02}T{:02}{:02}{:02}Z{END}",
            date.year(),
            u8::from(date.month()),
            date.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
        Pattern { start, name }
    }
}

/// Keeps `written` and the newest others, by name. Never touches a file of another name.
fn remove_older(dir: &Path, start: &str, written: &str, keep: usize) -> Result<(), End> {
    let told = |path: &Path, why: io::Error| {
        let path = path.display();
        End::No(format!("the backup is written, but {path} cannot be tidied: {why}"))
    };
    let mut others = Vec::new();
    for entry in fs::read_dir(dir).map_err(|why| told(dir, why))? {
        let entry = entry.map_err(|why| told(dir, why))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && name != written && is_stamped(&name, start) {
            others.push(name);
        } else if is_file && is_leftover(&name, start, &entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    others.sort_unstable_by(|a, b| b.cmp(a));
    for name in others.iter().skip(keep.saturating_sub(1)) {
        let path = dir.join(name);
        match fs::remove_file(&path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(told(&path, why)),
            _ => eprintln!("removed {}", path.display()),
        }
    }
    Ok(())
}

/// `START20261122T110000Z.tar`, and nothing else.
fn is_stamped(name: &str, start: &str) -> bool {
    let stamp = name.strip_prefix(start).and_then(|rest| rest.strip_suffix(END));
    stamp.is_some_and(|stamp| {
        stamp.len() == STAMP.len()
            && stamp.bytes().zip(STAMP.bytes()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                letter => byte == letter,
            })
    })
}

/// Half a backup of a process that was killed: it holds keys.
fn is_leftover(name: &str, start: &str, path: &Path) -> bool {
    let ours = name.strip_prefix('.').and_then(|name| name.rsplit_once(TEMPORARY));
    let changed = || fs::metadata(path).and_then(|meta| meta.modified());
    let old = |at: SystemTime| at.elapsed().is_ok_and(|age| age.as_secs() > STALE);
    ours.is_some_and(|(name, _)| is_stamped(name, start)) && changed().is_ok_and(old)
}

const END: &str = ".tar";
const STAMP: &str = "00000000T000000Z";
const TEMPORARY: &str = ".tmp-";
/// Seconds after which nobody is still writing.
const STALE: u64 = 3600;
/// Exit code.
const USAGE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_are_recognised() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let old = Pattern::new("node 1/x", at(999_999_999));
        assert_eq!(old.name, "openclaw-edge-node_1_x-20010909T014639Z.tar");
        let new = Pattern::new("node 1/x", at(1_800_000_000));
        assert!(new.name > old.name);
        assert!(is_stamped(&new.name, &new.start));
        for other in [
            "openclaw-edge-node_1_x-20010909T014639Z.tar.gz",
            "openclaw-edge-node_1_x-copy.tar",
            "openclaw-edge-node_1_x-2001090XT014639Z.tar",
            "openclaw-edge-node_1_x-y-20010909T014639Z.tar",
            "openclaw-edge-node_2-20010909T014639Z.tar",
            "edge.yaml",
        ] {
            assert!(!is_stamped(other, &old.start), "{other}");
        }
    }
}
