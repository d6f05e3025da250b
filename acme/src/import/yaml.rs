//! YAML of Kubernetes manifests to JSON values: all scalars are text, `null` is null.
//!
//! Over the event parser that crate `config` uses. Aliases are refused: no tool prints them, and
//! they multiply.

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// Deepest nesting.
const MAX_DEPTH: usize = 32;
/// Documents in one text.
const MAX_DOCUMENTS: usize = 10_000;

/// All documents of a text; empty ones are left out.
pub(super) fn read(text: &str) -> Result<Vec<Value>, String> {
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH + 1,
        block_nesting_limit: MAX_DEPTH + 1,
    };
    let mut reader = Reader::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, _) = event
            .map_err(|e| format!("not valid YAML: line {}: {}", e.marker().line(), e.info()))?;
        reader.step(event)?;
    }
    Ok(reader.documents)
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    documents: Vec<Value>,
}

enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

impl Reader {
    fn step(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    self.add(Value::Null)
                } else {
                    self.add(Value::String(text.to_string()))
                }
            }
            Event::SequenceStart(..) => self.push(Open::List(Vec::new())),
            Event::MappingStart(..) => self.push(Open::Map(Map::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(items)) => self.add(Value::Array(items)),
                Some(Open::Map(map, _)) => self.add(Value::Object(map)),
                None => Err("not valid YAML: unexpected end of a collection".to_owned()),
            },
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                Err("YAML aliases (`*name`) are not supported".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn push(&mut self, open: Open) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        self.open.push(open);
        Ok(())
    }

    /// A finished value: a key, a field, an item or a document.
    fn add(&mut self, value: Value) -> Result<(), String> {
        match self.open.last_mut() {
            None if self.documents.len() >= MAX_DOCUMENTS => {
                return Err(format!("more than {MAX_DOCUMENTS} documents"));
            }
            None if value.is_null() => {}
            None => self.documents.push(value),
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map(map, key)) => match (key.take(), value) {
                (Some(key), value) => {
                    map.insert(key, value);
                }
                (None, Value::String(text)) => *key = Some(text),
                (None, Value::Null) => *key = Some(String::new()),
                (None, _) => return Err("a key is a mapping or a list".to_owned()),
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_and_scalars() {
        let text =
            "# c\n---\na: 1\nb: [x, \"y\", ~]\n---\n---\nk: |\n  one\n  two\nf: >-\n  p\n  q\n";
        let expected =
            [json!({"a": "1", "b": ["x", "y", null]}), json!({"k": "one\ntwo\n", "f": "p q"})];
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn refused() {
        assert!(read("a: &x 1\nb: *x").unwrap_err().contains("aliases"));
        assert!(read("a: [1").unwrap_err().contains("line"));
        assert!(read("{[a]: 1}").is_err());
        let deep = format!("{}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        assert!(read(&deep).is_err());
        assert!(read(&deep[1..deep.len() - 1]).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_ends_in_a_value_or_an_error(text in "[\\PC\\n\\t]{0,200}") {
            let _ = read(&text);
        }
    }
}
