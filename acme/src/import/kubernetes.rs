//! Secrets of Kubernetes with a certificate in them, as `kubectl get secret -o yaml` prints them
//! or as a manifest states them.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::files::{self, MAX_COLLECTION};
use super::{Collected, Pair, yaml};
use crate::error::Error;

/// A file, or a directory of manifests.
pub(super) fn collect(source: &Path) -> Result<Collected, Error> {
    let mut collected = Collected::default();
    if !source.is_dir() {
        add_file(source, &mut collected)?;
        return Ok(collected);
    }
    for folder in files::walk(source, &mut collected)? {
        let manifests = [".yaml", ".yml", ".json"];
        for name in folder.files.iter().filter(|n| manifests.iter().any(|end| n.ends_with(end))) {
            let path = folder.file(name);
            if let Err(e) = add_file(&path, &mut collected) {
                collected.refuse(path.display().to_string(), super::bare(e));
            }
        }
    }
    Ok(collected)
}

fn add_file(path: &Path, collected: &mut Collected) -> Result<(), Error> {
    let bytes = files::read(path, MAX_COLLECTION)?;
    let place = path.display().to_string();
    for document in documents(&place, &bytes)? {
        add(&place, &document, collected);
    }
    Ok(())
}

/// The objects of a text, JSON or YAML.
pub(super) fn documents(place: &str, bytes: &[u8]) -> Result<Vec<Value>, Error> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error::corrupt(place, e))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(vec![value]);
    }
    yaml::read(text).map_err(|why| Error::corrupt(place, why))
}

/// This object is, or may hold, a Secret.
pub(super) fn is_one(object: &Value) -> bool {
    text(object, &["apiVersion"]).is_some()
        && text(object, &["kind"]).is_some_and(|kind| kind.ends_with("Secret") || is_list(kind))
}

fn is_list(kind: &str) -> bool {
    matches!(kind, "List" | "SecretList")
}

fn add(place: &str, object: &Value, collected: &mut Collected) {
    match text(object, &["kind"]) {
        Some(kind) if is_list(kind) => {
            let items = object.get("items").and_then(Value::as_array);
            // Of depth one: the API has no List in a List.
            for item in items.into_iter().flatten().take(files::MAX_COUNT) {
                add_secret(place, item, collected);
            }
        }
        _ => add_secret(place, object, collected),
    }
}

fn add_secret(place: &str, object: &Value, collected: &mut Collected) {
    let name = text(object, &["metadata", "name"]).unwrap_or("without name");
    let origin = match text(object, &["metadata", "namespace"]) {
        Some(namespace) => format!("{place}, Secret {namespace}/{name}"),
        None => format!("{place}, Secret {name}"),
    };
    match text(object, &["kind"]) {
        Some("Secret") => {}
        Some(kind @ ("SealedSecret" | "ExternalSecret")) => {
            let why = format_args!("a {kind} holds no key: give what `kubectl get secret` prints");
            return collected.refuse(origin, why);
        }
        _ => return,
    }
    let is_tls = text(object, &["type"]) == Some("kubernetes.io/tls");
    let (chain, key) = (entry(object, "tls.crt"), entry(object, "tls.key"));
    match (chain, key) {
        (Entry::Missing, Entry::Missing) if !is_tls => {}
        (Entry::Bytes(chain), Entry::Bytes(key)) => {
            let problems = owner(object).into_iter().collect();
            collected.pairs.push(Pair { problems, ..Pair::new(origin, chain, key) });
        }
        (Entry::Damaged, _) | (_, Entry::Damaged) => {
            collected.refuse(origin, "tls.crt or tls.key is no base64");
        }
        // cert-manager makes the Secret before it has the certificate.
        _ => collected.refuse(origin, "tls.crt or tls.key is missing or empty"),
    }
}

enum Entry {
    Missing,
    Damaged,
    Bytes(Vec<u8>),
}

/// `stringData` wins over `data`, as in the API.
fn entry(object: &Value, name: &str) -> Entry {
    if let Some(plain) = text(object, &["stringData", name]).filter(|plain| !plain.is_empty()) {
        return Entry::Bytes(plain.as_bytes().to_vec());
    }
    let Some(encoded) = text(object, &["data", name]) else { return Entry::Missing };
    // Folded lines leave blanks.
    let encoded: String = encoded.split_ascii_whitespace().collect();
    match BASE64_STANDARD.decode(encoded) {
        Ok(bytes) if bytes.is_empty() => Entry::Missing,
        Ok(bytes) => Entry::Bytes(bytes),
        Err(_) => Entry::Damaged,
    }
}

/// cert-manager renews it as long as its Certificate exists.
fn owner(object: &Value) -> Option<String> {
    let certificate =
        text(object, &["metadata", "annotations", "cert-manager.io/certificate-name"])?;
    Some(format!(
        "cert-manager still renews it (Certificate {certificate}): remove that at the cut-over"
    ))
}

fn text<'v>(object: &'v Value, path: &[&str]) -> Option<&'v str> {
    path.iter().try_fold(object, |value, key| value.get(key))?.as_str()
}
