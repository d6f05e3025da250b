//! Pairs of PEM files: one bundle, or directories of pairs under the usual names.

use std::collections::HashSet;
use std::path::Path;

use super::files::{self, Folder, MAX_FILE};
use super::{Collected, Pair};
use crate::error::Error;

pub(super) fn collect(source: &Path) -> Result<Collected, Error> {
    let mut collected = Collected::default();
    if source.is_dir() {
        for folder in files::walk(source, &mut collected)? {
            collect_folder(&folder, &mut collected);
        }
        return Ok(collected);
    }
    let bytes = files::read(source, MAX_FILE)?;
    let origin = source.display().to_string();
    if has_key(&bytes) {
        collected.pairs.push(Pair::new(origin, bytes.clone(), bytes));
        return Ok(collected);
    }
    // Named is the chain; its key is beside it.
    let key = source
        .parent()
        .zip(source.file_name().and_then(|name| name.to_str()))
        .and_then(|(dir, name)| key_names(name).map(|key| dir.join(key)).find(|p| p.is_file()));
    match key {
        Some(key) => collected.pairs.push(Pair::new(origin, bytes, files::read(&key, MAX_FILE)?)),
        None => collected.refuse(origin, "no private key in it, and none beside it"),
    }
    Ok(collected)
}

/// All pairs of one directory.
pub(super) fn collect_folder(folder: &Folder, collected: &mut Collected) {
    let mut keys_used = HashSet::new();
    let mut lonely = Vec::new();
    for name in &folder.files {
        if !is_chain_name(name) || is_part_of_another(name, folder) {
            continue;
        }
        let path = folder.file(name);
        let origin = path.display().to_string();
        let mut chain = match files::read(&path, MAX_FILE) {
            Ok(bytes) if contains(&bytes, CERTIFICATE) => bytes,
            Ok(_) => continue,
            Err(e) => {
                collected.refuse(origin, super::bare(e));
                continue;
            }
        };
        if has_key(&chain) {
            collected.pairs.push(Pair::new(origin, chain.clone(), chain));
        } else if let Some(key_name) = key_beside(name, folder) {
            if name == "cert.pem"
                && let Ok(issuers) = files::read(&folder.file("chain.pem"), MAX_FILE)
            {
                chain.push(b'\n');
                chain.extend(issuers);
            }
            match files::read(&folder.file(&key_name), MAX_FILE) {
                Ok(key) => collected.pairs.push(Pair::new(origin, chain, key)),
                Err(e) => collected.refuse(origin, super::bare(e)),
            }
            keys_used.insert(key_name);
        } else if is_main_name(name) {
            lonely.push(origin);
        }
    }
    for origin in lonely {
        collected.refuse(origin, "its private key is not beside it");
    }
    for key in folder.files.iter().filter(|name| name.ends_with(".key")) {
        let chain_missing = !keys_used.contains(key)
            && !collected.refused.iter().any(|r| r.origin.starts_with(&stem_path(folder, key)));
        if chain_missing {
            let origin = folder.file(key).display().to_string();
            collected.refuse(origin, "its certificate is not beside it");
        }
    }
}

fn key_beside(chain: &str, folder: &Folder) -> Option<String> {
    key_names(chain).find(|key| folder.has(key)).or_else(|| {
        // acme.sh: fullchain.cer beside HOST.key, the only key there.
        let mut keys = folder.files.iter().filter(|name| name.ends_with(".key"));
        let only = keys.next().filter(|_| keys.next().is_none() && chain.starts_with("fullchain."));
        only.cloned()
    })
}

fn stem_path(folder: &Folder, key: &str) -> String {
    folder.file(key.strip_suffix("key").unwrap_or(key)).display().to_string()
}

/// Where the key of a chain file may be.
fn key_names(chain: &str) -> impl Iterator<Item = String> {
    let stem = CHAIN_ENDINGS.iter().find_map(|end| chain.strip_suffix(end)).unwrap_or(chain);
    let whole = matches!(stem, "fullchain" | "cert" | "chain")
        .then(|| ["privkey.pem", "key.pem"].map(str::to_owned))
        .into_iter()
        .flatten();
    [".key", "-key.pem", ".key.pem", "_key.pem"]
        .map(|end| format!("{stem}{end}"))
        .into_iter()
        .chain(whole)
}

fn is_chain_name(name: &str) -> bool {
    CHAIN_ENDINGS.iter().any(|end| name.ends_with(end)) && !name.ends_with("-key.pem")
}

/// certbot's `cert.pem` and `chain.pem` are the halves of `fullchain.pem`.
fn is_part_of_another(name: &str, folder: &Folder) -> bool {
    match name {
        "cert.pem" => folder.has("fullchain.pem"),
        "chain.pem" => folder.has("fullchain.pem") || folder.has("cert.pem"),
        _ => false,
    }
}

/// Chains and roots alone (`ca.crt`, `issuer.crt`) are usual; a leaf without key is worth a word.
fn is_main_name(name: &str) -> bool {
    matches!(name, "fullchain.pem" | "tls.crt")
}

fn has_key(text: &[u8]) -> bool {
    contains(text, b"PRIVATE KEY-----")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";
const CHAIN_ENDINGS: [&str; 4] = [".pem", ".crt", ".cer", ".cert"];
