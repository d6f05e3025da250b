//! The accepted configuration on disk, for a start with a broken file (design.md #8). Written by a
//! thread of its own: a slow or full disk disturbs nothing, it only costs this safety net.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use config::SystemEnvironment;
use config::merge::Accepted;

/// The control thread's end of the writing thread.
pub struct LastGood {
    queue: Sender<Arc<Accepted>>,
    thread: JoinHandle<()>,
    /// Documents handed over and not dealt with yet.
    waiting: Arc<AtomicUsize>,
}

impl LastGood {
    pub fn start(state_dir: &Path) -> LastGood {
        let (queue, accepted) = channel();
        let dir = state_dir.to_path_buf();
        let waiting = Arc::new(AtomicUsize::new(0));
        let count = waiting.clone();
        let thread = std::thread::spawn(move || write_each(&accepted, &dir, &count));
        LastGood { queue, thread, waiting }
    }

    /// Keeps this from now on. Of several in a row only the last is written.
    pub fn keep(&self, accepted: &Arc<Accepted>) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let _ = self.queue.send(accepted.clone());
    }

    /// Waits until everything handed over was dealt with, at most this long: a start is not
    /// announced before it could be repeated, and a slow disk does not prevent it.
    pub fn settle(&self, limit: Duration) {
        let end = Instant::now() + limit;
        while self.waiting.load(Ordering::Acquire) > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for the last writing, at most until `deadline` has passed.
    pub fn finish(self, deadline: Duration) {
        drop(self.queue);
        let end = Instant::now() + deadline;
        while !self.thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What was kept in this directory, with references resolved now.
pub fn load(state_dir: &Path) -> Option<Accepted> {
    let text = fs::read_to_string(state_dir.join(FILE_NAME)).ok()?;
    let restored = config::last_good::restore(&text, &SystemEnvironment);
    if restored.is_none() {
        tracing::warn!("{}: not usable", state_dir.join(FILE_NAME).display());
    }
    restored
}

/// The state directory that a file names which cannot be parsed as a whole: its line
/// `state_dir: …` at top level, else the default.
pub fn state_dir_of(text: &str) -> PathBuf {
    let named = text.lines().find_map(|line| {
        // JSON may indent its keys; YAML does so only below another key.
        let line = if text.trim_start().starts_with('{') { line.trim_start() } else { line };
        let value = ["state_dir:", "\"state_dir\":", "'state_dir':"]
            .iter()
            .find_map(|key| line.strip_prefix(key))?;
        let value = value.split(" #").next()?.trim().trim_end_matches(',').trim();
        let value = value.trim_matches(|c| c == '"' || c == '\'');
        value.starts_with('/').then(|| PathBuf::from(value))
    });
    named.unwrap_or_else(|| PathBuf::from(config::defaults::STATE_DIR))
}

fn write_each(queue: &Receiver<Arc<Accepted>>, dir: &Path, waiting: &AtomicUsize) {
    let mut written = fs::read_to_string(dir.join(FILE_NAME)).ok();
    let mut failing = false;
    while let Ok(mut accepted) = queue.recv() {
        let mut taken = 1;
        while let Ok(newer) = queue.try_recv() {
            accepted = newer;
            taken += 1;
        }
        let document = config::last_good::document(&accepted);
        drop(accepted);
        write_one(dir, document, &mut written, &mut failing);
        waiting.fetch_sub(taken, Ordering::AcqRel);
    }
}

fn write_one(dir: &Path, document: String, written: &mut Option<String>, failing: &mut bool) {
    if written.as_ref() != Some(&document) {
        match replace(dir, &document) {
            Ok(()) => {
                *written = Some(document);
                *failing = false;
            }
            Err(why) => {
                let path = dir.join(FILE_NAME);
                if !std::mem::replace(failing, true) {
                    tracing::warn!(
                        "{}: {why}; a start with a broken config file would not find this \
                         configuration",
                        path.display()
                    );
                }
            }
        }
    }
}

/// At any moment there is the former document or the new one.
fn replace(dir: &Path, document: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // Of its own process, so that two that overlap do not write into one file.
    let temporary = dir.join(format!(".{FILE_NAME}.{}", std::process::id()));
    let write = || {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(document.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, dir.join(FILE_NAME))?;
        File::open(dir)?.sync_all()
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
}

const FILE_NAME: &str = "last-good.yaml";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use config::merge::merge;

    use super::*;

    fn accepted(host: &str) -> Accepted {
        let text = format!(
            "version: 1\nlisteners: {{ web: {{ bind: ['127.0.0.1:1'] }} }}\n\
             routes: {{ a: {{ hosts: [{host}], respond: {{ status: 204 }} }} }}\n"
        );
        merge(None, config::parse("edge.yaml", &text, &SystemEnvironment).unwrap())
    }

    #[test]
    fn what_was_kept_last_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert!(load(&state).is_none());
        let keeper = LastGood::start(&state);
        for n in 0..50 {
            keeper.keep(&Arc::new(accepted(&format!("h{n}.openclaw.example"))));
        }
        keeper.finish(Duration::from_secs(10));
        let found = load(&state).unwrap();
        let last = accepted("h49.openclaw.example");
        assert_eq!(found.routes["a"].value, last.routes["a"].value);
        let mode = fs::metadata(state.join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::write(&state, "a file in the way").unwrap();
        let keeper = LastGood::start(&state);
        keeper.keep(&Arc::new(accepted("a.openclaw.example")));
        keeper.finish(Duration::from_secs(10));
        assert_eq!(fs::read(&state).unwrap(), b"a file in the way");
    }

    #[test]
    fn a_broken_file_still_names_its_state_directory() {
        for (text, dir) in [
            ("state_dir: /srv/edge\nroutes: [", "/srv/edge"),
            ("x: {\nstate_dir:   \"/srv/edge\"  # here", "/srv/edge"),
            ("{\n  \"state_dir\": \"/srv/edge\",\n", "/srv/edge"),
            ("a:\n  state_dir: /srv/edge", config::defaults::STATE_DIR),
            ("state_dir: ${env:DIR}", config::defaults::STATE_DIR),
            ("", config::defaults::STATE_DIR),
        ] {
            assert_eq!(state_dir_of(text), Path::new(dir), "{text}");
        }
    }
}
