//! Sections of named entries. Each entry is read alone: its errors make it bad and nothing else.

use std::collections::BTreeMap;

use super::{At, Cx, Fields};
use crate::model::{BadEntry, Entry, Good, PathRule};
use crate::node::{self, Key, Kind, Node, Pos};
use crate::value::{HostPattern, Name};

/// What a bad route claims, as far as it could be read.
pub(crate) type Claims = Vec<(HostPattern, PathRule)>;

/// Most entries of one section.
pub(crate) const MAX_ENTRIES: usize = 100_000;

impl Cx<'_> {
    /// A section whose entries are part of the global part: any error refuses the file.
    pub(crate) fn named(
        &mut self,
        top: &Fields<'_, '_>,
        section: &str,
        most: usize,
        mut read: impl FnMut(&mut Self, Name, &Node, &At<'_>),
    ) {
        let Some((pairs, at)) = self.section(top, section, most) else { return };
        self.doubled_keys(pairs, &at);
        for (key, node) in pairs {
            let at = at.key(&key.text);
            match Name::new(&key.text) {
                Ok(name) => read(self, name, node, &at),
                Err(why) => self.error(key.pos, &at, why.message, why.help),
            }
        }
    }

    /// A section of entries that are good or bad each by itself.
    pub(crate) fn entries<T>(
        &mut self,
        top: &Fields<'_, '_>,
        section: &str,
        mut read: impl FnMut(&mut Self, &Name, &Node, &At<'_>) -> (Option<T>, Claims),
    ) -> BTreeMap<Name, Entry<T>> {
        let mut out = BTreeMap::new();
        let Some((pairs, at)) = self.section(top, section, MAX_ENTRIES) else { return out };
        let of_file = std::mem::take(&mut self.errors);
        let mut seen: BTreeMap<&str, (Name, Pos, Claims)> = BTreeMap::new();
        for (key, node) in pairs {
            let at_entry = at.key(&key.text);
            let name = Name::new(&key.text).unwrap_or_else(|why| {
                self.error(key.pos, &at_entry, why.message, why.help);
                unused(&out, &Name::resembling(&key.text))
            });
            let (value, claims) = read(self, &name, node, &at_entry);
            let line = key.pos.line;
            if let Some((first, pos, earlier)) = seen.get(key.text.as_str()).cloned() {
                // Which of the two is meant nobody knows: neither is used, both claims are blocked.
                self.doubled(key, pos, &at);
                let claims = earlier.into_iter().chain(claims).collect();
                spoil(out.entry(first), std::mem::take(&mut self.errors), claims, line);
                continue;
            }
            seen.insert(&key.text, (name.clone(), key.pos, claims.clone()));
            let reasons = std::mem::take(&mut self.errors);
            let entry = match value {
                Some(value) if reasons.is_empty() => {
                    Entry::Good(Good { value: value.into(), text: text_of(key, node).into(), line })
                }
                _ => Entry::Bad(BadEntry { reasons, claims, line }),
            };
            out.insert(name, entry);
        }
        self.errors = of_file;
        out
    }

    fn section<'n, 'p>(
        &mut self,
        top: &Fields<'n, 'p>,
        section: &'p str,
        most: usize,
    ) -> Option<(&'n [(Key, Node)], At<'p>)> {
        let node = top.get(section)?;
        let at = top.at.key(section);
        match &node.kind {
            // All entries commented out.
            Kind::Null => None,
            Kind::Map(pairs) if pairs.len() <= most => Some((pairs, at)),
            Kind::Map(_) => {
                self.error(node.pos, &at, format!("more than {most} entries"), None);
                None
            }
            _ => {
                self.mismatch(node, &at, "a mapping of names to entries");
                None
            }
        }
    }
}

/// A name that no entry has yet.
fn unused<T>(taken: &BTreeMap<Name, T>, name: &Name) -> Name {
    let mut candidate = name.clone();
    for n in 2.. {
        if !taken.contains_key(&candidate) {
            break;
        }
        candidate = Name::resembling(&format!("{:.40}-{n}", name.as_str()));
    }
    candidate
}

fn spoil<T>(
    entry: std::collections::btree_map::Entry<'_, Name, Entry<T>>,
    reasons: Vec<crate::error::Diagnostic>,
    claims: Claims,
    line: u64,
) {
    entry.and_modify(|entry| match entry {
        Entry::Bad(bad) => {
            bad.reasons.extend(reasons);
            bad.claims.extend(claims);
        }
        Entry::Good(_) => *entry = Entry::Bad(BadEntry { reasons, claims, line }),
    });
}

/// `"name": {...}` on one line.
fn text_of(key: &Key, node: &Node) -> String {
    let mut out = String::new();
    node::write_text(&key.text, &mut out);
    out.push_str(": ");
    node::write(node, &mut out);
    out
}
