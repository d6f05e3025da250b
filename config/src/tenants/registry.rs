//! The registry's text to entries: `{"servers": [{"tenant": "acme", "host": "192.0.2.10", ..}]}`.
//! Fields that nobody asks for are passed over.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::json::{Next, NoJson, Reader, Value};
use crate::defaults::{REGISTRY_BYTES, REGISTRY_TENANTS};
use crate::error::Diagnostic;
use crate::node::Pos;

/// The entries of one registry.
pub(crate) struct Registry<'t> {
    /// As diagnostics name it.
    pub file: Arc<str>,
    pub entries: Vec<Raw<'t>>,
}

/// One entry as it is written.
pub(crate) struct Raw<'t> {
    pub pos: Pos,
    pub kind: RawKind<'t>,
}

pub(crate) enum RawKind<'t> {
    /// In the order of the text; a name may be there twice.
    Fields(Vec<Field<'t>>),
    /// Something else than a mapping.
    Other(&'static str),
}

pub(crate) struct Field<'t> {
    pub name: Cow<'t, str>,
    pub pos: Pos,
    pub value: Value<'t>,
}

impl<'t> Raw<'t> {
    pub(crate) fn fields(&self) -> &[Field<'t>] {
        match &self.kind {
            RawKind::Fields(fields) => fields,
            RawKind::Other(_) => &[],
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Field<'t>> {
        self.fields().iter().find(|field| field.name == name)
    }
}

/// Reads a registry.
///
/// # Errors
/// When the text as a whole cannot be used: too large, not UTF-8, no JSON, without `servers`.
pub(crate) fn read(file: Arc<str>, bytes: &[u8]) -> Result<Registry<'_>, Diagnostic> {
    let problem = |pos: Pos, message: String| Diagnostic {
        at: String::new(),
        line: pos.line,
        column: pos.column,
        message,
        help: None,
        file: Some(file.clone()),
    };
    if bytes.len() > REGISTRY_BYTES {
        let message = format!("the registry is larger than {} MiB", REGISTRY_BYTES >> 20);
        return Err(problem(Pos::default(), message));
    }
    let text = std::str::from_utf8(bytes).map_err(|why| {
        let valid = bytes.get(..why.valid_up_to()).unwrap_or_default();
        let valid = std::str::from_utf8(valid).unwrap_or_default();
        problem(Places::new(valid).of(valid.len()), "the registry is not UTF-8".to_owned())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut places = Places::new(text);
    match servers(text, &mut places) {
        Ok(Some(entries)) if entries.len() > REGISTRY_TENANTS => {
            let message = format!("the registry has more than {REGISTRY_TENANTS} entries");
            Err(problem(Pos::default(), message))
        }
        Ok(Some(entries)) => Ok(Registry { file, entries }),
        Ok(None) => {
            let message = "the registry has no list `servers`".to_owned();
            Err(problem(Pos { line: 1, column: 1 }, message))
        }
        Err(NoJson { at, message }) => {
            let message = format!("the registry cannot be read: {message}");
            Err(problem(places.of(at), message))
        }
    }
}

/// `None`: there is no such list.
fn servers<'t>(text: &'t str, places: &mut Places<'t>) -> Result<Option<Vec<Raw<'t>>>, NoJson> {
    let mut reader = Reader::new(text);
    let mut found = None;
    let mut written = false;
    if reader.next().1 != Next::Map {
        // For the place where it is no JSON at all.
        reader.value()?;
        reader.end()?;
        return Ok(None);
    }
    reader.map(|reader, at, key| {
        if key != "servers" {
            return reader.value().map(drop);
        }
        // Whatever it is: readers of JSON differ in which of the two counts.
        if std::mem::replace(&mut written, true) {
            return Err(NoJson { at, message: "`servers` is written twice" });
        }
        if reader.next().1 != Next::List {
            return reader.value().map(drop);
        }
        let mut entries = Vec::new();
        reader.list(|reader| {
            let (at, next) = reader.next();
            let pos = places.of(at);
            let kind = match next {
                Next::Map => fields(reader, places)?,
                _ => RawKind::Other(match reader.value()? {
                    Value::Other(what) => what,
                    Value::Null => "nothing",
                    Value::Scalar(_) => "a single value",
                }),
            };
            // One more than allowed shows that there are too many.
            if entries.len() <= REGISTRY_TENANTS {
                entries.push(Raw { pos, kind });
            }
            Ok(())
        })?;
        found = Some(entries);
        Ok(())
    })?;
    reader.end()?;
    Ok(found)
}

fn fields<'t>(reader: &mut Reader<'t>, places: &mut Places<'t>) -> Result<RawKind<'t>, NoJson> {
    let mut fields = Vec::with_capacity(USUAL_FIELDS);
    reader.map(|reader, at, name| {
        let pos = places.of(at);
        let value = reader.value()?;
        if fields.len() <= MAX_FIELDS {
            fields.push(Field { name, pos, value });
        }
        Ok(())
    })?;
    Ok(match fields.len() {
        0..=MAX_FIELDS => RawKind::Fields(fields),
        _ => RawKind::Other("a mapping of more than 100 fields"),
    })
}

/// Every field name that occurs.
pub(crate) fn names<'r>(registry: &'r Registry<'_>) -> BTreeSet<&'r str> {
    registry.entries.iter().flat_map(|entry| entry.fields()).map(|field| &*field.name).collect()
}

/// Byte positions to lines and columns. Asked in the order of the text it looks at every byte
/// once; a position further back starts again.
struct Places<'t> {
    text: &'t str,
    seen: usize,
    pos: Pos,
}

impl<'t> Places<'t> {
    fn new(text: &'t str) -> Self {
        Places { text, seen: 0, pos: Pos { line: 1, column: 1 } }
    }

    fn of(&mut self, at: usize) -> Pos {
        if at < self.seen {
            *self = Places::new(self.text);
        }
        for byte in self.text.as_bytes().get(self.seen..at).unwrap_or_default() {
            match byte {
                b'\n' => self.pos = Pos { line: self.pos.line + 1, column: 1 },
                // Not the first byte of a character.
                0x80..=0xbf => {}
                _ => self.pos.column += 1,
            }
        }
        self.seen = at;
        self.pos
    }
}

/// Room for them at once.
const USUAL_FIELDS: usize = 12;
/// Fields of one entry.
const MAX_FIELDS: usize = 100;
