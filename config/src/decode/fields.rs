//! Mappings: their fields by name, unknown and doubled keys reported.

use std::collections::BTreeMap;

use super::keys::Keys;
use super::{At, Cx};
use crate::node::{Key, Kind, Node, Pos};
use crate::suggest::nearest;
use crate::value::quote;

/// A mapping whose keys have been checked.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'n, 'p> {
    pub pairs: &'n [(Key, Node)],
    pub at: &'p At<'p>,
    pub pos: Pos,
}

impl<'n> Fields<'n, '_> {
    pub(crate) fn get(&self, name: &str) -> Option<&'n Node> {
        self.pairs.iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The position of the key, or of the mapping where it is absent.
    pub(crate) fn pos_of(&self, name: &str) -> Pos {
        self.pairs.iter().find(|(key, _)| key.text == name).map_or(self.pos, |(key, _)| key.pos)
    }
}

impl Cx<'_> {
    pub(crate) fn fields<'n, 'p>(
        &mut self,
        node: &'n Node,
        at: &'p At<'p>,
        keys: &Keys,
    ) -> Option<Fields<'n, 'p>> {
        let Kind::Map(pairs) = &node.kind else {
            self.mismatch(node, at, "a mapping");
            return None;
        };
        for (key, _) in pairs {
            if !keys.known.contains(&key.text.as_str()) {
                self.unknown_key(key, at, keys);
            }
        }
        self.doubled_keys(pairs, at);
        Some(Fields { pairs, at, pos: node.pos })
    }

    /// Reads the field, if it is there.
    pub(crate) fn field<T>(
        &mut self,
        fields: &Fields<'_, '_>,
        name: &str,
        read: impl FnOnce(&mut Self, &Node, &At<'_>) -> Option<T>,
    ) -> Option<T> {
        let node = fields.get(name)?;
        read(self, node, &fields.at.key(name))
    }

    pub(crate) fn doubled_keys(&mut self, pairs: &[(Key, Node)], at: &At<'_>) {
        let mut seen: BTreeMap<&str, Pos> = BTreeMap::new();
        for (key, _) in pairs {
            if let Some(first) = seen.insert(&key.text, key.pos) {
                self.doubled(key, first, at);
            }
        }
    }

    pub(crate) fn doubled(&mut self, key: &Key, first: Pos, at: &At<'_>) {
        let message = format!(
            "{} is written twice: first at {}:{}",
            quote(&key.text),
            first.line,
            first.column
        );
        self.error(key.pos, &at.key(&key.text), message, Some("keep one of the two".into()));
    }

    fn unknown_key(&mut self, key: &Key, at: &At<'_>, keys: &Keys) {
        let name = key.text.as_str();
        let shown = quote(name);
        let at = at.key(name);
        if keys.later.contains(&name) {
            let message = format!("{shown} is not available in this version");
            return self.error(key.pos, &at, message, Some("remove it; see README, limits".into()));
        }
        let message = format!("unknown key {shown}");
        if let Some((_, help)) = keys.foreign.iter().find(|(foreign, _)| *foreign == name) {
            return self.error(key.pos, &at, message, Some((*help).into()));
        }
        let foreign = keys.foreign.iter().map(|(foreign, _)| *foreign);
        let help = match nearest(name, keys.known.iter().copied().chain(foreign)) {
            Some(near) => match keys.foreign.iter().find(|(foreign, _)| *foreign == near) {
                Some((_, help)) => (*help).to_owned(),
                None => format!("did you mean `{near}`?"),
            },
            None if keys.known.is_empty() => "no key belongs here".to_owned(),
            None if keys.path.is_empty() => {
                format!("keys at the top level: {}", keys.known.join(", "))
            }
            None => format!("keys of `{}`: {}", keys.path, keys.known.join(", ")),
        };
        self.error(key.pos, &at, message, Some(help));
    }
}
