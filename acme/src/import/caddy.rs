//! Caddy (certmagic): `certificates/<ca>/<host>/<host>.{crt,key,json}`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{self, Folder, MAX_FILE};
use super::{Collected, Pair};
use crate::error::Error;

/// `source` is the data directory, its `certificates`, or a part of that.
pub(super) fn collect(source: &Path) -> Result<Collected, Error> {
    let root = certificates(source).unwrap_or_else(|| source.to_owned());
    let mut collected = Collected::default();
    for folder in files::walk(&root, &mut collected)? {
        for name in &folder.files {
            if let Some(host) = name.strip_suffix(".crt") {
                add(&folder, host, &mut collected);
            }
        }
    }
    Ok(collected)
}

fn add(folder: &Folder, host: &str, collected: &mut Collected) {
    let origin = folder.file(&format!("{host}.crt")).display().to_string();
    let read = |end: &str| files::read(&folder.file(&format!("{host}.{end}")), MAX_FILE);
    match (read("crt"), read("key")) {
        (Ok(chain), Ok(key)) => {
            let expected = read("json").map(|note| names(&note)).unwrap_or_default();
            collected.pairs.push(Pair { expected, ..Pair::new(origin, chain, key) });
        }
        (Err(e), _) | (_, Err(e)) => collected.refuse(origin, e),
    }
}

/// The names noted beside the certificate. A note that cannot be read is no loss.
fn names(note: &[u8]) -> Vec<String> {
    let note: Value = serde_json::from_slice(note).unwrap_or_default();
    let sans = note.get("sans").and_then(Value::as_array);
    sans.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// This directory has Caddy's shape.
pub(super) fn is_one(dir: &Path) -> bool {
    let root = certificates(dir).unwrap_or_else(|| dir.to_owned());
    let Ok(folders) = files::walk(&root, &mut Collected::default()) else { return false };
    folders.iter().any(|folder| {
        let host = folder.path.file_name().unwrap_or_default().to_string_lossy();
        ["crt", "key", "json"].iter().all(|end| folder.has(&format!("{host}.{end}")))
    })
}

/// The places where packages and containers put it.
fn certificates(source: &Path) -> Option<PathBuf> {
    ["", "caddy", "data/caddy", ".local/share/caddy"]
        .iter()
        .map(|below| source.join(below).join("certificates"))
        .find(|dir| dir.is_dir())
}
