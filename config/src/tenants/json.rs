//! A strict reader of JSON (RFC 8259) that knows where everything stands and builds no tree: a
//! registry is large, and what is needed of it are the single values of its entries.

use std::borrow::Cow;

/// A value as far as a registry needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'t> {
    Null,
    /// A string, or the source of a number or of `true` and `false`.
    Scalar(Cow<'t, str>),
    /// Read over; what it is.
    Other(&'static str),
}

/// Where the text is no JSON, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoJson {
    /// Byte of the text.
    pub at: usize,
    pub message: &'static str,
}

/// What stands next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Map,
    List,
    Scalar,
}

pub(crate) struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Reader { text, at: 0 }
    }

    /// Where the next value begins; blanks are passed over.
    pub(crate) fn next(&mut self) -> (usize, Next) {
        self.blanks();
        let next = match self.peek() {
            Some(b'{') => Next::Map,
            Some(b'[') => Next::List,
            _ => Next::Scalar,
        };
        (self.at, next)
    }

    /// Reads a mapping. `each` gets every key with its place, and has to read the value.
    pub(crate) fn map(
        &mut self,
        mut each: impl FnMut(&mut Self, usize, Cow<'t, str>) -> Result<(), NoJson>,
    ) -> Result<(), NoJson> {
        self.items(b'{', b'}', |reader| {
            reader.blanks();
            let at = reader.at;
            if reader.peek() != Some(b'"') {
                return Err(reader.error("expected a key in double quotes"));
            }
            let key = reader.string()?;
            reader.blanks();
            if !reader.take(b':') {
                return Err(reader.error("expected `:` after a key"));
            }
            each(reader, at, key)
        })
    }

    /// Reads a list. `each` has to read the value.
    pub(crate) fn list(
        &mut self,
        each: impl FnMut(&mut Self) -> Result<(), NoJson>,
    ) -> Result<(), NoJson> {
        self.items(b'[', b']', each)
    }

    fn items(
        &mut self,
        open: u8,
        close: u8,
        mut each: impl FnMut(&mut Self) -> Result<(), NoJson>,
    ) -> Result<(), NoJson> {
        self.blanks();
        if !self.take(open) {
            return Err(self.error("expected a value"));
        }
        self.blanks();
        if self.take(close) {
            return Ok(());
        }
        loop {
            each(self)?;
            self.blanks();
            if self.take(close) {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(self.error(match close {
                    b'}' => "expected `,` or `}`",
                    _ => "expected `,` or `]`",
                }));
            }
        }
    }

    /// Reads any value; mappings and lists are checked and read over.
    pub(crate) fn value(&mut self) -> Result<Value<'t>, NoJson> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Result<Value<'t>, NoJson> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        match self.next().1 {
            Next::Map => {
                self.map(|reader, _, _| reader.value_at(depth + 1).map(drop))?;
                Ok(Value::Other("a mapping"))
            }
            Next::List => {
                self.list(|reader| reader.value_at(depth + 1).map(drop))?;
                Ok(Value::Other("a list"))
            }
            Next::Scalar => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Result<Value<'t>, NoJson> {
        match self.peek() {
            Some(b'"') => self.string().map(Value::Scalar),
            Some(b'-' | b'0'..=b'9') => self.number().map(|text| Value::Scalar(text.into())),
            _ if self.word("null") => Ok(Value::Null),
            _ if self.word("true") => Ok(Value::Scalar("true".into())),
            _ if self.word("false") => Ok(Value::Scalar("false".into())),
            _ => Err(self.error("expected a value")),
        }
    }

    /// Nothing but blanks may follow.
    pub(crate) fn end(&mut self) -> Result<(), NoJson> {
        self.blanks();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("the text goes on after its value")),
        }
    }

    /// RFC 8259 §6.
    fn number(&mut self) -> Result<&'t str, NoJson> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') && self.digits() == 0 {
            return Err(self.error("not a number"));
        }
        if self.take(b'.') && self.digits() == 0 {
            return Err(self.error("not a number"));
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            if self.digits() == 0 {
                return Err(self.error("not a number"));
            }
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    fn digits(&mut self) -> usize {
        let rest = self.rest().iter();
        let count = rest.take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    /// RFC 8259 §7.
    fn string(&mut self) -> Result<Cow<'t, str>, NoJson> {
        self.at += 1;
        let mut owned: Option<String> = None;
        loop {
            let plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | 0..=0x1f);
            let length = self.rest().iter().take_while(plain).count();
            let part = self.text.get(self.at..self.at + length).unwrap_or_default();
            self.at += length;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(match owned {
                        Some(text) => Cow::Owned(text + part),
                        None => Cow::Borrowed(part),
                    });
                }
                Some(b'\\') => {
                    let out = owned.get_or_insert_default();
                    out.push_str(part);
                    let escaped = self.escape()?;
                    out.push(escaped);
                }
                Some(_) => return Err(self.error("a control character in a string")),
                None => return Err(self.error("a string without its end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, NoJson> {
        let wrong = self.error("an escape that JSON does not have");
        let escape = self.rest().get(1).copied();
        self.at += 2;
        Ok(match escape {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.unit().ok_or_else(|| wrong.clone())?;
                match char::from_u32(first) {
                    Some(c) => c,
                    // The first half of a pair.
                    None if first < 0xdc00 && self.word("\\u") => {
                        let second = self.unit().filter(|unit| (0xdc00..0xe000).contains(unit));
                        let second = second.ok_or_else(|| wrong.clone())?;
                        let scalar = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                        char::from_u32(scalar).ok_or(wrong)?
                    }
                    None => return Err(wrong),
                }
            }
            _ => return Err(wrong),
        })
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        let valid = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.at += 4;
        u32::from_str_radix(digits, 16).ok().filter(|_| valid)
    }

    fn blanks(&mut self) {
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += self.rest().iter().take_while(blank).count();
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    fn rest(&self) -> &'t [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn error(&self, message: &'static str) -> NoJson {
        let at = self.at.min(self.text.len());
        if at == self.text.len() {
            return NoJson { at, message: "the text ends in the middle" };
        }
        NoJson { at, message }
    }
}

/// Deepest nesting inside one value.
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<Value<'_>, NoJson> {
        let mut reader = Reader::new(text);
        let value = reader.value()?;
        reader.end().map(|()| value)
    }

    #[test]
    fn scalars() {
        for (text, expected) in [
            ("\"a\"", "a"),
            (" \"\" ", ""),
            ("\"a\\n\\\"\\u00e9\\ud83d\\ude00\\/é\"", "a\n\"é😀/é"),
            ("18789", "18789"),
            ("-0.5e+3", "-0.5e+3"),
            ("true", "true"),
            ("false", "false"),
        ] {
            assert_eq!(value(text), Ok(Value::Scalar(expected.into())), "{text}");
        }
        assert_eq!(value("null"), Ok(Value::Null));
        assert_eq!(value("[1, {\"a\": []}]"), Ok(Value::Other("a list")));
        assert_eq!(value("{}"), Ok(Value::Other("a mapping")));
    }

    #[test]
    fn what_is_no_json_is_placed() {
        for (text, at) in [
            ("", 0),
            ("01", 1),
            ("+1", 0),
            ("1.", 2),
            ("1e", 2),
            (".5", 0),
            ("'a'", 0),
            ("tru", 0),
            ("[1,]", 3),
            ("[1 2]", 3),
            ("{a: 1}", 1),
            ("{\"a\" 1}", 5),
            ("{\"a\": 1,}", 8),
            ("\"a", 2),
            ("\"\n\"", 1),
            ("\"\\x\"", 1),
            ("\"\\ud83d\"", 1),
            ("\"\\ude00\"", 1),
            ("\"\\u12\"", 1),
            ("\"\\ud83d\\u0041\"", 1),
            ("\"\\u+123\"", 1),
            ("1 2", 2),
            ("[", 1),
        ] {
            assert_eq!(value(text).map_err(|why| why.at), Err(at), "{text}");
        }
    }

    #[test]
    fn depth_is_limited() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(value(&nested(MAX_DEPTH + 1)).is_ok());
        assert_eq!(value(&nested(MAX_DEPTH + 2)).unwrap_err().message, "nested too deeply");
        assert!(value(&"[".repeat(1_000_000)).is_err());
    }
}
