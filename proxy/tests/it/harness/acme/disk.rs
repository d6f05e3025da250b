//! A disk that is easily full: a small tmpfs of its own. Needs root, as CI has.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct SmallDisk {
    pub path: PathBuf,
}

impl SmallDisk {
    /// Mounts `kib` KiB on `path`, which is made if it is not there. Everything takes at least one
    /// page of 4 KiB.
    pub fn mount(path: &Path, kib: u32) -> SmallDisk {
        std::fs::create_dir_all(path).unwrap();
        let options = format!("size={kib}k,mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "edge-it"]).arg(path);
        let output = mount.output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mount (needs root): {why}");
        SmallDisk { path: path.to_owned() }
    }

    /// Writes a file until there is no room for another byte.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        for piece in [4096, 1] {
            while file.write_all(&vec![b'x'; piece]).is_ok() {}
        }
        let probe = self.path.join(".probe");
        let full = std::fs::write(&probe, b"x").is_err();
        let _ = std::fs::remove_file(probe);
        assert!(full, "the disk takes more");
    }

    /// Takes back what [`SmallDisk::fill`] took.
    pub fn release(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.path.join(".filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: an edge that still runs may have files open on it.
        let done = Command::new("umount").arg("-l").arg(&self.path).status();
        if !std::thread::panicking() {
            assert!(done.unwrap().success(), "umount {:?}", self.path);
        }
    }
}
