//! What scenarios are written with: the real binary, backends that record, clients that can be
//! impolite. Everything on free ports in a temporary directory; children die with their handle.

pub mod acme;
pub mod backend;
pub mod behave;
pub mod client;
pub mod conf;
pub mod edge;
pub mod grpc;
pub mod h2c;
pub mod load;
pub mod pki;
pub mod service;
pub mod site;
pub mod wire;
pub mod ws;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use backend::{Backend, Peer};
pub use client::{Client, Response, Tls};
pub use conf::Conf;
pub use edge::Edge;
pub use wire::{End, PATIENCE};

/// A temporary directory with what one scenario needs.
pub struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Arc<Lab> {
        let dir = tempfile::Builder::new().prefix("edge-it-").tempdir().unwrap();
        Arc::new(Lab { dir })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// Waits until `probe` has a value; fails after [`PATIENCE`].
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, probe)
}

pub fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut probe: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `probe` holds.
pub fn wait_until(what: &str, mut probe: impl FnMut() -> bool) {
    eventually(what, || probe().then_some(()));
}
