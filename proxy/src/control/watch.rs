//! Files to "their content changed". Directories are watched, not files, so that a rename over the
//! file, a Kubernetes `..data` swap and a recreated directory are all seen; events only hasten a
//! comparison of content hashes, which a poll makes in any case. Times and event kinds decide
//! nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::clock;

/// The watched files and what was last seen in them.
pub struct Watch {
    config: PathBuf,
    /// The config file and the others; `None`: not readable.
    seen: BTreeMap<PathBuf, Option<Digest>>,
    watcher: Option<RecommendedWatcher>,
    /// Watched directories as they were: a recreated one has to be watched again.
    directories: HashMap<PathBuf, Identity>,
    events: mpsc::Receiver<()>,
    burst: Burst,
    /// Process milliseconds.
    next_poll: u64,
}

/// Device, inode, and time of birth where known: inode numbers are used again.
type Identity = (u64, u64, Option<SystemTime>);

/// SHA-256 of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest([u8; 32]);

/// What differs from the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub config: bool,
    /// A certificate, a key, or a file that the config names by `${file:}`.
    pub others: bool,
}

impl Watch {
    /// Starts from what the file holds now. Without inotify (none left, for instance) the poll
    /// alone finds changes.
    pub fn new(config: &Path) -> Watch {
        let (wake, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| is_write(event.kind)) {
                // Full means that a comparison is due anyway.
                let _ = wake.try_send(());
            }
        });
        let watcher = watcher
            .inspect_err(|why| tracing::warn!("no file events ({why}): files are only polled"))
            .ok();
        let config = config.to_path_buf();
        let seen = BTreeMap::from([(config.clone(), digest_of(&config))]);
        let mut watch = Watch {
            config,
            seen,
            watcher,
            directories: HashMap::new(),
            events,
            burst: Burst::default(),
            next_poll: clock::process_ms() + POLL_MS,
        };
        watch.watch_directories();
        watch
    }

    /// Sets the files besides the config file. `read` holds what was found in those that were read
    /// already, `later` those that are still to be read: a change since then, or since the last
    /// comparison, counts.
    pub fn set_others(
        &mut self,
        read: BTreeMap<PathBuf, Option<Digest>>,
        later: impl IntoIterator<Item = PathBuf>,
    ) {
        let mut former = std::mem::take(&mut self.seen);
        for path in later.into_iter().chain([self.config.clone()]) {
            let digest = former.remove(&path).unwrap_or_else(|| digest_of(&path));
            self.seen.insert(path, digest);
        }
        for (path, digest) in read {
            self.seen.entry(path).or_insert(digest);
        }
        self.watch_directories();
    }

    /// Waits until content differs. Can be dropped and called again without losing a change.
    pub async fn changed(&mut self) -> Change {
        loop {
            let now = clock::process_ms();
            let burst = self.burst.due_ms();
            // The poll must not look into the middle of a burst: a file may be half written then.
            let due = burst.unwrap_or(self.next_poll);
            if due > now {
                let wait = tokio::time::sleep(Duration::from_millis(due - now));
                tokio::select! {
                    Some(()) = self.events.recv() => self.burst.event(clock::process_ms()),
                    () = wait => {}
                }
                continue;
            }
            self.burst = Burst::default();
            self.next_poll = now + POLL_MS;
            self.watch_directories();
            if burst.is_none() && self.differs() {
                // Found by the poll: its event may be on the way, so this begins a burst, too.
                self.burst.event(now);
                continue;
            }
            let change = self.compare();
            if change != Change::default() {
                return change;
            }
        }
    }

    fn differs(&self) -> bool {
        self.seen.iter().any(|(path, seen)| digest_of(path) != *seen)
    }

    /// Compares with the disk and remembers what is there.
    fn compare(&mut self) -> Change {
        let mut change = Change::default();
        for (path, seen) in &mut self.seen {
            let now = digest_of(path);
            if now != *seen {
                *seen = now;
                if *path == self.config {
                    change.config = true;
                } else {
                    change.others = true;
                }
            }
        }
        change
    }

    /// Watches the directory of each file as named and, for a symlink, of what it leads to.
    fn watch_directories(&mut self) {
        let Some(watcher) = self.watcher.as_mut() else { return };
        let mut wanted = BTreeSet::new();
        for path in self.seen.keys() {
            wanted.extend(directory(path));
            wanted.extend(fs::canonicalize(path).ok().as_deref().and_then(directory));
        }
        self.directories.retain(|path, _| {
            let keep = wanted.contains(path);
            if !keep {
                let _ = watcher.unwatch(path);
            }
            keep
        });
        for path in wanted {
            let Ok(found) = fs::metadata(&path) else {
                // The next poll looks again.
                self.directories.remove(&path);
                continue;
            };
            let identity = (found.dev(), found.ino(), found.created().ok());
            if self.directories.get(&path) == Some(&identity) {
                continue;
            }
            let _ = watcher.unwatch(&path);
            if watcher.watch(&path, RecursiveMode::NonRecursive).is_ok() {
                self.directories.insert(path, identity);
            }
        }
    }
}

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        let mut out = [0; 32];
        let sum = digest::digest(&digest::SHA256, bytes);
        out.copy_from_slice(sum.as_ref().first_chunk::<32>().unwrap_or(&[0; 32]));
        Digest(out)
    }

    /// The first 12 hexadecimal digits: enough to tell contents apart in a log.
    pub fn short(&self) -> String {
        self.0.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The whole file, at most `MAX_FILE_BYTES`. Never waits for a pipe.
///
/// # Errors
/// As of the file system; something other than a regular file, or a larger one.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = read_at_most(path, MAX_FILE_BYTES)?;
    bytes.ok_or_else(|| io::Error::other("larger than 8 MiB"))
}

fn read_at_most(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    config::open_regular(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

/// `None`: not readable, or larger than any file that is used.
pub fn digest_of(path: &Path) -> Option<Digest> {
    let bytes = read_at_most(path, MAX_WATCHED_BYTES).ok().flatten()?;
    Some(Digest::of(&bytes))
}

fn directory(path: &Path) -> Option<PathBuf> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_path_buf),
    }
}

/// Our own reading must not wake us.
fn is_write(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Events that come together: due when they have stopped, or have gone on for too long.
#[derive(Default)]
struct Burst {
    first: Option<u64>,
    last: u64,
}

impl Burst {
    fn event(&mut self, now_ms: u64) {
        self.first.get_or_insert(now_ms);
        self.last = now_ms;
    }

    fn due_ms(&self) -> Option<u64> {
        self.first.map(|first| (self.last + QUIET_MS).min(first + BURST_MS))
    }
}

const POLL_MS: u64 = 2_000;
/// A file that is still being written is left alone for this long...
const QUIET_MS: u64 = 100;
/// ...but not for longer than this.
const BURST_MS: u64 = 1_000;
const MAX_FILE_BYTES: u64 = 8 << 20;
/// The largest is a registry of tenants.
const MAX_WATCHED_BYTES: u64 = config::defaults::REGISTRY_BYTES as u64;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const CONFIG: Change = Change { config: true, others: false };

    /// The next change. The poll is put out of reach where events must find it.
    fn next(watch: &mut Watch, events_only: bool) -> Option<Change> {
        if events_only {
            watch.next_poll = u64::MAX;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.ok()
        })
    }

    #[test]
    fn a_write_in_place_and_a_rename_over_it_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.yaml");
        fs::write(&file, "one").unwrap();
        let mut watch = Watch::new(&file);
        fs::write(&file, "two").unwrap();
        assert_eq!(next(&mut watch, true), Some(CONFIG));
        fs::write(dir.path().join("edge.tmp"), "three").unwrap();
        fs::rename(dir.path().join("edge.tmp"), &file).unwrap();
        assert_eq!(next(&mut watch, true), Some(CONFIG));
    }

    #[test]
    fn a_config_map_swap_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (version, text) in [("..v1", "one"), ("..v2", "two"), ("..v3", "three")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("edge.yaml"), text).unwrap();
        }
        symlink("..v1", at("..data")).unwrap();
        symlink("..data/edge.yaml", at("edge.yaml")).unwrap();
        let mut watch = Watch::new(&at("edge.yaml"));
        for version in ["..v2", "..v3"] {
            symlink(version, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
            assert_eq!(next(&mut watch, true), Some(CONFIG), "{version}");
        }
    }

    #[test]
    fn a_recreated_directory_is_watched_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("mount");
        let file = folder.join("edge.yaml");
        fs::create_dir(&folder).unwrap();
        fs::write(&file, "one").unwrap();
        let mut watch = Watch::new(&file);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(next(&mut watch, false), Some(CONFIG));
        fs::create_dir(&folder).unwrap();
        fs::write(&file, "two").unwrap();
        assert_eq!(next(&mut watch, false), Some(CONFIG));
        fs::write(&file, "three").unwrap();
        assert_eq!(next(&mut watch, true), Some(CONFIG));
    }

    #[test]
    fn the_same_content_is_no_change_and_other_files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.yaml");
        let key = dir.path().join("key.pem");
        fs::write(&file, "one").unwrap();
        fs::write(&key, "key").unwrap();
        let mut watch = Watch::new(&file);
        let read = BTreeMap::from([(key.clone(), Some(Digest::of(b"key")))]);
        watch.set_others(read.clone(), []);
        fs::write(&file, "one").unwrap();
        assert_eq!(watch.compare(), Change::default());
        fs::write(&key, "other").unwrap();
        assert_eq!(watch.compare(), Change { config: false, others: true });
        // Changed between being read and being watched.
        watch.set_others(read, []);
        assert_eq!(watch.compare(), Change { config: false, others: true });
        // Changed between a comparison and the next setting.
        fs::write(&key, "third").unwrap();
        watch.set_others(BTreeMap::new(), [key.clone()]);
        assert_eq!(watch.compare(), Change { config: false, others: true });
        watch.set_others(BTreeMap::new(), []);
        fs::write(&key, "fourth").unwrap();
        assert_eq!(watch.compare(), Change::default());
    }

    #[test]
    fn a_burst_ends_when_quiet_or_after_a_second() {
        let mut burst = Burst::default();
        assert_eq!(burst.due_ms(), None);
        burst.event(1_000);
        assert_eq!(burst.due_ms(), Some(1_100));
        for now in (1_050..3_000).step_by(50) {
            burst.event(now);
        }
        assert_eq!(burst.due_ms(), Some(2_000));
    }

    #[test]
    fn what_is_no_file_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(read_file(&fifo).is_err());
        assert!(read_file(dir.path()).is_err());
    }
}
