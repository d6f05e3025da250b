//! Changes to heads, compiled: what is dropped, set and added.

use http::{HeaderName, HeaderValue};

/// Changes to a head, compiled: what is dropped by name, and finished lines to append.
#[derive(Clone, Default)]
pub struct Edits {
    /// Lower-case names dropped from the message (`remove` and `set`).
    pub drop: Names,
    /// `name: value\r\n` lines (`set`, `add`, HSTS), ready for HTTP/1.1.
    pub lines: Box<[u8]>,
    /// The same as pairs, for HTTP/2.
    pub pairs: Vec<(HeaderName, HeaderValue)>,
    /// Response fields that are set where the message does not have them. At most 32.
    pub absent: Absents,
}

/// Field names, asked about each field of each message.
#[derive(Clone, Default)]
pub struct Names {
    names: Box<[Box<str>]>,
    /// Bit n: a name of n bytes is among them; bit 63: one of 63 or more.
    lengths: u64,
}

impl Names {
    /// `names` in lower case.
    pub fn of<'n>(names: impl IntoIterator<Item = &'n str>) -> Names {
        let names: Box<[Box<str>]> = names.into_iter().map(Box::from).collect();
        let lengths = names.iter().fold(0, |lengths, name| lengths | length_bit(name.len()));
        Names { names, lengths }
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// In any case.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.lengths & length_bit(name.len()) != 0
            && self.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    }
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// Fields for messages that lack them. At most 32.
#[derive(Clone, Default)]
pub struct Absents {
    fields: Box<[Absent]>,
    /// All of their lines: few messages have any of them.
    lines: Box<[u8]>,
    /// As in [`Names`].
    lengths: u64,
}

/// Which of [`Absents`] a message has, by bit.
#[derive(Clone, Copy, Default)]
pub struct Present(u32);

impl Absents {
    pub fn of(fields: impl IntoIterator<Item = Absent>) -> Absents {
        let fields: Box<[Absent]> = fields.into_iter().take(u32::BITS as usize).collect();
        let length = |field: &Absent| length_bit(field.pair.0.as_str().len());
        let lengths = fields.iter().fold(0, |lengths, field| lengths | length(field));
        let lines = fields.iter().flat_map(|field| &*field.line).copied().collect();
        Absents { fields, lines, lengths }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Absent> {
        self.fields.iter()
    }

    /// The message has a field of this name, in any case.
    pub fn see(&self, name: &[u8], present: &mut Present) {
        if self.lengths & length_bit(name.len()) == 0 {
            return;
        }
        for (at, field) in self.fields.iter().enumerate() {
            if name.eq_ignore_ascii_case(field.pair.0.as_str().as_bytes()) {
                present.0 |= 1 << at;
            }
        }
    }

    /// Writes the lines of those that the message lacks.
    pub fn write_lacking(&self, present: Present, out: &mut Vec<u8>) {
        if present.0 == 0 {
            return out.extend_from_slice(&self.lines);
        }
        for (at, field) in self.fields.iter().enumerate() {
            if present.0 & (1 << at) == 0 {
                out.extend_from_slice(&field.line);
            }
        }
    }
}

/// A field for messages that lack it, ready for both protocols.
#[derive(Clone)]
pub struct Absent {
    /// The finished line with its CRLF.
    pub line: Box<[u8]>,
    pub pair: (HeaderName, HeaderValue),
}

impl Edits {
    /// Nothing is dropped, these fields are added.
    pub fn adding(pairs: Vec<(HeaderName, HeaderValue)>) -> Edits {
        let bytes = pairs.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let mut lines = Vec::with_capacity(bytes);
        for (name, value) in &pairs {
            crate::http1::write::field(&mut lines, name.as_str().as_bytes(), value.as_bytes());
        }
        Edits { lines: lines.into(), pairs, ..Edits::default() }
    }
}

impl Edits {
    /// Adds the fields of `more`.
    pub fn append(&mut self, more: &Edits) {
        self.lines = [&*self.lines, &*more.lines].concat().into();
        self.pairs.extend_from_slice(&more.pairs);
    }

    /// Adds a field.
    pub fn add(&mut self, name: &'static str, value: &str) {
        let Ok(pair) = HeaderValue::from_str(value) else { return };
        let mut lines = std::mem::take(&mut self.lines).into_vec();
        crate::http1::write::field(&mut lines, name.as_bytes(), value.as_bytes());
        self.lines = lines.into();
        self.pairs.push((HeaderName::from_static(name), pair));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_length() {
        let long = "x".repeat(70);
        let names = Names::of(["te", "x-frame-options", &long]);
        for name in ["te", "TE", "X-Frame-Options", &long.to_uppercase()] {
            assert!(names.contains(name.as_bytes()), "{name}");
        }
        for name in ["", "t", "tx", "x-frame-option", &"y".repeat(70), &"x".repeat(63)] {
            assert!(!names.contains(name.as_bytes()), "{name}");
        }
        assert!(!Names::default().contains(b""));
    }

    #[test]
    fn a_message_gets_what_it_lacks() {
        let field = |name: &'static str| Absent {
            line: format!("{name}: 1\r\n").into_bytes().into(),
            pair: (HeaderName::from_static(name), HeaderValue::from_static("1")),
        };
        let absents = Absents::of(["aa", "bb", "ccc"].map(field));
        for (has, written) in [
            (&[][..], "aa: 1\r\nbb: 1\r\nccc: 1\r\n"),
            (&["a", "dd"], "aa: 1\r\nbb: 1\r\nccc: 1\r\n"),
            (&["BB"], "aa: 1\r\nccc: 1\r\n"),
            (&["Ccc", "aA", "ccc"], "bb: 1\r\n"),
            (&["aa", "bb", "ccc"], ""),
        ] {
            let (mut present, mut out) = (Present::default(), Vec::new());
            has.iter().for_each(|name| absents.see(name.as_bytes(), &mut present));
            absents.write_lacking(present, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), written, "{has:?}");
        }
    }
}
