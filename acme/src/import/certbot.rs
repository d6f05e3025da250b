//! certbot: `live/NAME/` with links to the newest generation in `archive/`.

use std::path::{Path, PathBuf};

use super::files::{self, MAX_FILE};
use super::{Collected, Pair};
use crate::error::Error;

/// `source` is the configuration directory, `live`, or one name in it.
pub(super) fn collect(source: &Path) -> Result<Collected, Error> {
    let live = live(source);
    let mut collected = Collected::default();
    for folder in files::walk(&live, &mut collected)? {
        if !is_name(&folder.path, false) {
            continue;
        }
        let origin = folder.path.display().to_string();
        let read = |name| files::read(&folder.file(name), MAX_FILE);
        match (read(CHAIN), read(KEY)) {
            (Ok(chain), Ok(key)) => collected.pairs.push(Pair::new(origin, chain, key)),
            // A link whose target is gone, or a file that this user may not read.
            (Err(e), _) | (_, Err(e)) => collected.refuse(origin, e),
        }
    }
    Ok(collected)
}

/// This directory has certbot's shape: a `live`, or links as certbot makes them.
pub(super) fn is_one(dir: &Path) -> bool {
    let live = live(dir);
    let linked = live == dir;
    let mut below = live.read_dir().into_iter().flatten().flatten().take(files::MAX_COUNT);
    is_name(dir, true) || below.any(|entry| is_name(&entry.path(), linked))
}

/// Holds a pair; links count where their target is gone, too.
fn is_name(dir: &Path, linked: bool) -> bool {
    [CHAIN, KEY].iter().all(|file| {
        dir.join(file).symlink_metadata().is_ok_and(|meta| !linked || meta.is_symlink())
    })
}

fn live(source: &Path) -> PathBuf {
    let below = source.join("live");
    if below.is_dir() { below } else { source.to_owned() }
}

const CHAIN: &str = "fullchain.pem";
const KEY: &str = "privkey.pem";
