//! Traefik: `acme.json`, certificates and keys in base64 below each resolver.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::files::{self, MAX_COLLECTION};
use super::{Collected, Pair};
use crate::error::Error;

/// `source` is the file or the directory it is in.
pub(super) fn collect(source: &Path) -> Result<Collected, Error> {
    let path = if source.is_dir() { source.join(FILE) } else { source.to_owned() };
    let bytes = files::read(&path, MAX_COLLECTION)?;
    let place = path.display().to_string();
    let root: Value = serde_json::from_slice(&bytes)
        .map_err(|e| Error::corrupt(&place, format_args!("not valid JSON: {e}")))?;
    let mut collected = Collected::default();
    // Version 1 had no resolvers: the file itself is what is one since.
    add(&place, None, &root, &mut collected);
    for (resolver, content) in root.as_object().into_iter().flatten() {
        add(&place, Some(resolver), content, &mut collected);
    }
    Ok(collected)
}

/// This value has the shape of an `acme.json`.
pub(super) fn is_one(root: &Value) -> bool {
    let has = |value: &Value| field(value, "certificates").is_some();
    has(root) || root.as_object().is_some_and(|resolvers| resolvers.values().any(has))
}

fn add(place: &str, resolver: Option<&str>, content: &Value, collected: &mut Collected) {
    let list = field(content, "certificates").and_then(Value::as_array);
    for entry in list.into_iter().flatten().take(files::MAX_COUNT) {
        let domain = field(entry, "domain");
        let main = domain.and_then(|domain| text(domain, "main")).unwrap_or_default();
        let sans = domain.and_then(|domain| field(domain, "sans")).and_then(Value::as_array);
        let mut expected: Vec<String> =
            sans.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let origin = match resolver {
            Some(resolver) => format!("{place}, resolver {resolver}, {main}"),
            None => format!("{place}, {main}"),
        };
        if !main.is_empty() {
            expected.insert(0, main.to_owned());
        }
        match (decoded(entry, "certificate"), decoded(entry, "key")) {
            (Some(chain), Some(key)) => {
                collected.pairs.push(Pair { expected, ..Pair::new(origin, chain, key) });
            }
            (None, _) => collected.refuse(origin, "its certificate is missing or no base64"),
            (_, None) => collected.refuse(origin, "its key is missing or no base64"),
        }
    }
}

fn decoded(entry: &Value, name: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text(entry, name)?).ok()
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    field(value, name)?.as_str()
}

/// The versions differ in capitals.
fn field<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let fields = value.as_object()?;
    fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

pub(super) const FILE: &str = "acme.json";
