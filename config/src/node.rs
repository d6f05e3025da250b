//! Stage (a): text to a tree of nodes with positions (design.md #7).
//!
//! Built from YAML events, so that a scalar keeps its text: what `on`, `0755` or `1.2` mean is
//! decided by the reader of the key, never by YAML. What cannot be used (aliases, tags) becomes a
//! [`Kind::Refused`] node: an error of the entry that holds it, not of the file.

use std::ops::Range;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};

use crate::error::Diagnostic;

/// Largest config file in bytes.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Deepest nesting of mappings and lists.
pub const MAX_DEPTH: usize = 32;

/// 1-based; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Pos {
    pub line: u64,
    pub column: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub pos: Pos,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Nothing, `~` or `null`, unquoted.
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the file; duplicate keys are kept, the reader reports them.
    Map(Vec<(Key, Node)>),
    /// Why it is refused, and what to write instead.
    Refused(&'static str, &'static str),
}

#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    /// Escapes and folding applied, references like `${env:X}` not.
    pub text: String,
    /// Bytes of the source.
    pub span: Range<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub text: String,
    pub pos: Pos,
}

/// The tree of a file.
///
/// # Errors
/// Where the text is no YAML, too large, too deep or more than one document.
pub(crate) fn read(text: &str) -> Result<Node, Diagnostic> {
    if text.len() > MAX_BYTES {
        let message = format!("the file is larger than {} MiB", MAX_BYTES >> 20);
        return Err(problem(Pos::default(), message));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH + 1,
        block_nesting_limit: MAX_DEPTH + 1,
    };
    Builder::default().read(Parser::new_from_str_with_options(text, options))
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    root: Option<Node>,
    documents: usize,
}

/// A mapping or list whose end has not come yet.
struct Open {
    pos: Pos,
    refused: Option<Kind>,
    children: Children,
}

enum Children {
    List(Vec<Node>),
    Map { pairs: Vec<(Key, Node)>, key: Option<Key> },
}

impl Builder {
    fn read<'t>(mut self, parser: Parser<'t, StrInput<'t>>) -> Result<Node, Diagnostic> {
        for event in parser {
            let (event, span) = event.map_err(|error| {
                let message = format!("not valid YAML: {}", error.info());
                problem(position(error.marker()), message)
            })?;
            self.step(event, span)?;
        }
        let empty = Node { pos: Pos { line: 1, column: 1 }, kind: Kind::Null };
        Ok(self.root.unwrap_or(empty))
    }

    fn step(&mut self, event: Event<'_>, span: Span) -> Result<(), Diagnostic> {
        let pos = position(&span.start);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(problem(pos, "the file holds more than one YAML document".into()));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let refused = refused(anchor, tag.is_some());
                let kind = refused.unwrap_or_else(|| scalar(&text, style, &span));
                self.add(pos, kind)
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => self.add(pos, ALIAS),
            Event::SequenceStart(_, anchor, tag) => {
                self.open(pos, refused(anchor, tag.is_some()), Children::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                let children = Children::Map { pairs: Vec::new(), key: None };
                self.open(pos, refused(anchor, tag.is_some()), children)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(open) => self.close(open),
                None => Err(problem(pos, "not valid YAML: unexpected end of a collection".into())),
            },
            _ => Ok(()),
        }
    }

    fn open(
        &mut self,
        pos: Pos,
        refused: Option<Kind>,
        children: Children,
    ) -> Result<(), Diagnostic> {
        if self.stack.len() >= MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(problem(pos, message));
        }
        self.stack.push(Open { pos, refused, children });
        Ok(())
    }

    fn close(&mut self, open: Open) -> Result<(), Diagnostic> {
        let kind = match open.children {
            Children::List(items) => Kind::List(items),
            Children::Map { pairs, .. } => Kind::Map(pairs),
        };
        self.add(open.pos, open.refused.unwrap_or(kind))
    }

    /// A finished node: a key, a value, an item or the root.
    fn add(&mut self, pos: Pos, kind: Kind) -> Result<(), Diagnostic> {
        let Some(parent) = self.stack.last_mut() else {
            self.root = Some(Node { pos, kind });
            return Ok(());
        };
        match &mut parent.children {
            Children::List(items) => items.push(Node { pos, kind }),
            Children::Map { pairs, key } => match key.take() {
                Some(key) => pairs.push((key, Node { pos, kind })),
                None => match kind {
                    Kind::Scalar(scalar) => *key = Some(Key { text: scalar.text, pos }),
                    Kind::Null => *key = Some(Key { text: String::new(), pos }),
                    Kind::Refused(why, _) => return Err(problem(pos, why.into())),
                    _ => return Err(problem(pos, "a key is a mapping or a list".into())),
                },
            },
        }
        Ok(())
    }
}

fn scalar(text: &str, style: ScalarStyle, span: &Span) -> Kind {
    let plain = style == ScalarStyle::Plain;
    if plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Kind::Null;
    }
    let span = span.byte_range().unwrap_or_default();
    Kind::Scalar(Scalar { text: text.to_owned(), span })
}

const ALIAS: Kind = Kind::Refused(
    "YAML aliases (`*name`) are not supported",
    "write the value out, or use `defaults`; a value that begins with `*` is quoted: `\"*.example.com\"`",
);

fn refused(anchor: usize, tagged: bool) -> Option<Kind> {
    if tagged {
        let help = "remove it; a value that begins with `!` is quoted";
        return Some(Kind::Refused("YAML tags (`!name`) are not supported", help));
    }
    let help = "remove it; a value that begins with `&` is quoted";
    (anchor != 0).then_some(Kind::Refused("YAML anchors (`&name`) are not supported", help))
}

fn position(mark: &Marker) -> Pos {
    Pos { line: mark.line() as u64, column: mark.col() as u64 + 1 }
}

fn problem(pos: Pos, message: String) -> Diagnostic {
    Diagnostic {
        at: String::new(),
        line: pos.line,
        column: pos.column,
        message,
        ..Diagnostic::default()
    }
}

/// The node as one line of YAML (which is JSON, but for `null` keys): what the state directory
/// keeps. References stay unresolved. Refused nodes do not occur in accepted entries.
pub(crate) fn write(node: &Node, out: &mut String) {
    match &node.kind {
        Kind::Null | Kind::Refused(..) => out.push_str("null"),
        Kind::Scalar(scalar) => write_text(&scalar.text, out),
        Kind::List(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push_str(", ");
                }
                write(item, out);
            }
            out.push(']');
        }
        Kind::Map(pairs) => {
            out.push('{');
            for (n, (key, value)) in pairs.iter().enumerate() {
                if n > 0 {
                    out.push_str(", ");
                }
                write_text(&key.text, out);
                out.push_str(": ");
                write(value, out);
            }
            out.push('}');
        }
    }
}

/// A double-quoted scalar that is the same in YAML and JSON.
pub(crate) fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\u{20}'..='\u{7e}' => out.push(c),
            c => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        let mut out = String::new();
        write(&read(text).unwrap(), &mut out);
        out
    }

    #[test]
    fn scalars_keep_their_text() {
        assert_eq!(
            shown(
                "a: on\nb: 0755\nc: 1.2\nd: yes\ne: 12e3\nf: 'null'\ng: null\nh:\ni: \"x\\ty\"\n"
            ),
            r#"{"a": "on", "b": "0755", "c": "1.2", "d": "yes", "e": "12e3", "f": "null", "g": null, "h": null, "i": "x\u0009y"}"#,
        );
    }

    #[test]
    fn json_is_read() {
        let json =
            "{\n\t\"a\": [1, true, null, \"\\u00e9\\ud83d\\ude00/\"],\n\t\"b\": {\"c\": {}}\n}";
        let shown = shown(json);
        assert_eq!(shown, r#"{"a": ["1", "true", null, "\u00e9\ud83d\ude00/"], "b": {"c": {}}}"#);
    }

    #[test]
    fn positions_are_one_based_characters() {
        let tree = read("a:\n  é: [x, yy]\n").unwrap();
        let Kind::Map(pairs) = tree.kind else { panic!() };
        let Kind::Map(inner) = &pairs[0].1.kind else { panic!() };
        assert_eq!(inner[0].0.pos, Pos { line: 2, column: 3 });
        let Kind::List(items) = &inner[0].1.kind else { panic!() };
        assert_eq!(items[1].pos, Pos { line: 2, column: 10 });
    }

    #[test]
    fn what_cannot_be_used_is_refused_where_it_stands() {
        for text in
            ["a: &x 1", "a: *x", "a: &x 1\nb: *x", "a: !!str 1", "a: !env X", "a: &x {b: 1}"]
        {
            let Kind::Map(pairs) = read(text).unwrap_or_else(|why| panic!("{text}: {why:?}")).kind
            else {
                panic!()
            };
            assert!(matches!(pairs.last().unwrap().1.kind, Kind::Refused(..)), "{text}");
        }
    }

    #[test]
    fn whole_files_that_are_refused() {
        for (text, part) in [
            ("a: [1, 2", "not valid YAML"),
            ("a: 1\n b: 2", "not valid YAML"),
            ("a: 'x", "not valid YAML"),
            ("a: 1\n---\nb: 1", "more than one YAML document"),
            ("{[a]: 1}", "a key is"),
            ("%YAML 1.1\n---\na: 1", "not valid YAML"),
        ] {
            let message = read(text).unwrap_err().message;
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn depth_is_limited() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(MAX_DEPTH)).is_ok());
        assert!(read(&nested(MAX_DEPTH + 1)).is_err());
        assert!(read(&nested(1_000_000)).is_err());
        assert!(read(&format!("{}x", "- ".repeat(MAX_DEPTH + 1))).is_err());
    }

    #[test]
    fn size_is_limited() {
        let comment = |bytes: usize| format!("#{}", "x".repeat(bytes - 1));
        assert!(read(&comment(MAX_BYTES)).is_ok());
        assert!(read(&comment(MAX_BYTES + 1)).unwrap_err().message.contains("8 MiB"));
    }

    proptest! {
        #[test]
        fn written_trees_read_back(text in any::<String>(), key in "\\PC{1,20}") {
            let mut line = String::new();
            write_text(&key, &mut line);
            line.push_str(": [");
            write_text(&text, &mut line);
            line.push(']');
            let tree = read(&line).unwrap();
            let Kind::Map(pairs) = &tree.kind else { panic!() };
            prop_assert_eq!(&pairs[0].0.text, &key);
            let Kind::List(items) = &pairs[0].1.kind else { panic!() };
            let Kind::Scalar(scalar) = &items[0].kind else { panic!() };
            prop_assert_eq!(&scalar.text, &text);
        }
    }
}
