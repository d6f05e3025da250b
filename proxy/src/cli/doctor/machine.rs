//! The files of the kernel and of the system, below a root that tests replace. Whatever cannot be
//! read is absent: a container, another user and another kernel lack different ones.

use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    pub fn new(root: impl Into<PathBuf>) -> Machine {
        Machine { root: root.into() }
    }

    /// Of an absolute path.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Text, without what is no UTF-8: command lines are bytes.
    pub fn read(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A sysctl by its name with dots.
    pub fn sysctl(&self, name: &str) -> Option<u64> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        self.read(&path)?.split_whitespace().next()?.parse().ok()
    }

    /// Numbers of all processes that /proc shows.
    pub fn processes(&self) -> Vec<u32> {
        let entries = fs::read_dir(self.path("/proc")).into_iter().flatten().flatten();
        let mut pids: Vec<u32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        pids
    }

    /// What the descriptors of a process lead to; empty where that is not ours to see.
    pub fn descriptors(&self, pid: u32) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(&format!("/proc/{pid}/fd")));
        let entries = entries.into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::new(Path::new("/"))
    }
}

/// A machine made of files, for tests.
#[cfg(test)]
pub fn of_files(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::new(dir.path());
    for (path, text) in files {
        let path = machine.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    (dir, machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_files_are_absent() {
        let (_dir, machine) = of_files(&[
            ("/proc/sys/net/core/somaxconn", "4096\n"),
            ("/proc/sys/net/ipv4/odd", "many\n"),
            ("/proc/12/comm", "x"),
            ("/proc/version", "x"),
        ]);
        assert_eq!(machine.sysctl("net.core.somaxconn"), Some(4096));
        assert_eq!(machine.sysctl("net.ipv4.odd"), None);
        assert_eq!(machine.sysctl("net.ipv4.none"), None);
        assert_eq!(machine.processes(), [12]);
        assert!(machine.descriptors(12).is_empty() && machine.descriptors(13).is_empty());
    }
}
