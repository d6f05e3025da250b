//! Single values and lists: text, numbers, durations, sizes, words.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::{At, Cx};
use crate::interpolate::{is_interpolated, resolve};
use crate::node::{Kind, Node};
use crate::suggest::nearest;
use crate::value::{self, ByteSize, ValueError, quote, show_duration};

impl Cx<'_> {
    /// The resolved text. References that cannot be resolved are reported.
    pub(crate) fn text<'n>(&mut self, node: &'n Node, at: &At<'_>) -> Option<Cow<'n, str>> {
        let Kind::Scalar(scalar) = &node.kind else {
            self.mismatch(node, at, "a single value");
            return None;
        };
        match resolve(&scalar.text, self.env) {
            Ok(text) => Some(text),
            Err(why) => {
                self.error(node.pos, at, why.message, why.help);
                None
            }
        }
    }

    /// A value with a reader of its own. Where the text came from a reference, the message says
    /// what belongs here instead of what the text was.
    pub(crate) fn value<T>(
        &mut self,
        node: &Node,
        at: &At<'_>,
        read: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        let text = self.text(node, at)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.bad_value(node, at, why);
                None
            }
        }
    }

    pub(crate) fn bad_value(&mut self, node: &Node, at: &At<'_>, why: ValueError) {
        match &node.kind {
            Kind::Scalar(scalar) if is_interpolated(&scalar.text) => {
                let source = quote(&scalar.text);
                let message = format!("what {source} gives is not {}", why.expected);
                self.error(node.pos, at, message, None);
            }
            _ => self.error(node.pos, at, why.message, why.help),
        }
    }

    /// A list; items that cannot be read are reported and left out.
    pub(crate) fn list<T>(
        &mut self,
        node: &Node,
        at: &At<'_>,
        count: RangeInclusive<usize>,
        mut read: impl FnMut(&mut Self, &Node, &At<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = match &node.kind {
            Kind::List(items) => items,
            Kind::Scalar(scalar) if !scalar.text.contains(['\n', '"', '[']) => {
                let message = "expected a list, found a single value";
                let help = format!("write `[\"{}\"]`", scalar.text.escape_default());
                self.error(node.pos, at, message, Some(help));
                return None;
            }
            _ => {
                self.mismatch(node, at, "a list");
                return None;
            }
        };
        if items.len() < *count.start() {
            self.error(node.pos, at, "the list is empty", None);
            return None;
        }
        if items.len() > *count.end() {
            let message = format!("the list has more than {} items", count.end());
            self.error(node.pos, at, message, None);
            return None;
        }
        let mut out = Vec::with_capacity(items.len());
        for (n, item) in items.iter().enumerate() {
            out.extend(read(self, item, &at.index(n)));
        }
        Some(out)
    }

    /// A list whose items differ.
    pub(crate) fn distinct<T: Display>(
        &mut self,
        node: &Node,
        at: &At<'_>,
        count: RangeInclusive<usize>,
        read: impl FnMut(&mut Self, &Node, &At<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let again =
            |node: &Node, item: &String| (format!("{} is written twice", shown(node, item)), None);
        self.distinct_by(node, at, count, read, T::to_string, again)
    }

    /// A list whose items differ in their keys. `again` says so of a key that comes again.
    pub(crate) fn distinct_by<T, K: Ord>(
        &mut self,
        node: &Node,
        at: &At<'_>,
        count: RangeInclusive<usize>,
        mut read: impl FnMut(&mut Self, &Node, &At<'_>) -> Option<T>,
        key: impl Fn(&T) -> K,
        again: impl Fn(&Node, &K) -> (String, Option<String>),
    ) -> Option<Vec<T>> {
        let mut seen = BTreeSet::new();
        self.list(node, at, count, |cx, node, at| {
            let item = read(cx, node, at)?;
            let key = key(&item);
            if seen.contains(&key) {
                let (message, help) = again(node, &key);
                cx.error(node.pos, at, message, help);
                return None;
            }
            seen.insert(key);
            Some(item)
        })
    }

    pub(crate) fn boolean(&mut self, node: &Node, at: &At<'_>) -> Option<bool> {
        self.value(node, at, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => {
                let error = ValueError::new(
                    "`true` or `false`",
                    format!("{} is neither `true` nor `false`", quote(text)),
                );
                Err(match text.to_ascii_lowercase().as_str() {
                    "on" | "yes" | "y" | "1" | "true" => error.help("write `true`"),
                    "off" | "no" | "n" | "0" | "false" => error.help("write `false`"),
                    _ => error,
                })
            }
        })
    }

    pub(crate) fn number(
        &mut self,
        node: &Node,
        at: &At<'_>,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        self.value(node, at, |text| {
            let error = |message: String| ValueError::new("a number in its range", message);
            if !value::is_decimal(text) {
                let error = error(format!("{} is no whole number", quote(text)));
                return Err(error.help("write decimal digits without a leading zero"));
            }
            match text.parse() {
                Ok(number) if range.contains(&number) => Ok(number),
                _ => Err(error(format!(
                    "{text:.20} is out of range: {} to {}",
                    range.start(),
                    range.end()
                ))),
            }
        })
    }

    pub(crate) fn count(
        &mut self,
        node: &Node,
        at: &At<'_>,
        range: RangeInclusive<u64>,
    ) -> Option<usize> {
        self.number(node, at, range).and_then(|number| usize::try_from(number).ok())
    }

    pub(crate) fn duration(
        &mut self,
        node: &Node,
        at: &At<'_>,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.value(node, at, |text| {
            let duration = value::duration(text)?;
            if range.contains(&duration) {
                return Ok(duration);
            }
            let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
            Err(ValueError::new(
                "a duration in its range",
                format!("{} is out of range: {least} to {most}", quote(text)),
            ))
        })
    }

    pub(crate) fn size(
        &mut self,
        node: &Node,
        at: &At<'_>,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        self.value(node, at, |text| {
            let ByteSize(size) = text.parse()?;
            if range.contains(&size) {
                return Ok(size);
            }
            let (least, most) = (ByteSize(*range.start()), ByteSize(*range.end()));
            Err(ValueError::new(
                "a size in its range",
                format!("{} is out of range: {least} to {most}", quote(text)),
            ))
        })
    }

    /// One word of a closed set.
    pub(crate) fn word<T: Clone>(
        &mut self,
        node: &Node,
        at: &At<'_>,
        words: &[(&str, T)],
    ) -> Option<T> {
        self.word_or(node, at, words, |_| None)
    }

    /// One word of a closed set; `instead` knows what to write for words of other programs.
    pub(crate) fn word_or<T: Clone>(
        &mut self,
        node: &Node,
        at: &At<'_>,
        words: &[(&str, T)],
        instead: impl FnOnce(&str) -> Option<&'static str>,
    ) -> Option<T> {
        self.value(node, at, |text| {
            if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
                return Ok(value.clone());
            }
            let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            let near = nearest(text, words.iter().map(|(word, _)| *word));
            let help = match (instead(text), near) {
                (Some(help), _) => help.to_owned(),
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (None, None) => format!("write {}", known.join(" or ")),
            };
            let message = format!("{} is not known here", quote(text));
            Err(ValueError::new("one of the known words", message).help(help))
        })
    }

    pub(crate) fn absolute_path(&mut self, node: &Node, at: &At<'_>) -> Option<PathBuf> {
        self.value(node, at, |text| {
            let error = |message: String| ValueError::new("an absolute path", message);
            if !text.starts_with('/') {
                return Err(error(format!("{} is no absolute path", quote(text))));
            }
            if text.len() > 4096 || text.contains('\0') {
                return Err(error(format!("{} is no path", quote(text))));
            }
            Ok(PathBuf::from(text))
        })
    }
}

/// Written in the place of a mapping: what it describes is switched off.
pub(crate) fn is_off(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar(scalar) if scalar.text == "off")
}

/// A value for a message: as it was read, but for a reference, of which only the source is shown.
pub(crate) fn shown(node: &Node, value: &str) -> String {
    match &node.kind {
        Kind::Scalar(scalar) if is_interpolated(&scalar.text) => quote(&scalar.text),
        _ => quote(value),
    }
}
