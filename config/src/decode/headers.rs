//! `headers:` of a route. Values are secrets: no message repeats them.

use super::{At, Cx, keys};
use crate::model::{HeaderEdits, HeaderRules};
use crate::node::{Key, Kind, Node};
use crate::value::{Secret, is_token_byte, quote};

impl Cx<'_> {
    pub(crate) fn header_rules(&mut self, node: &Node, at: &At<'_>) -> Option<HeaderRules> {
        let fields = self.fields(node, at, &keys::HEADERS)?;
        let request =
            self.field(&fields, "request", |cx, node, at| cx.header_edits(node, at, true));
        let response =
            self.field(&fields, "response", |cx, node, at| cx.header_edits(node, at, false));
        Some(HeaderRules {
            request: request.unwrap_or_default(),
            response: response.unwrap_or_default(),
        })
    }

    fn header_edits(&mut self, node: &Node, at: &At<'_>, request: bool) -> Option<HeaderEdits> {
        let fields = self.fields(node, at, &keys::HEADER_EDITS)?;
        let remove = self.field(&fields, "remove", |cx, node, at| {
            cx.list(node, at, 0..=MAX_EDITS, |cx, node, at| {
                let text = cx.text(node, at)?;
                match check_name(&text, request) {
                    Ok(name) => Some(name),
                    Err((message, help)) => {
                        cx.error(node.pos, at, message, help);
                        None
                    }
                }
            })
        });
        let set = self.field(&fields, "set", |cx, node, at| cx.header_values(node, at, request));
        let add = self.field(&fields, "add", |cx, node, at| cx.header_values(node, at, request));
        if let Some(set) = &set {
            self.set_once(set, &fields.at.key("set"), fields.pos_of("set"));
        }
        Some(HeaderEdits {
            remove: remove.unwrap_or_default(),
            set: set.unwrap_or_default(),
            add: add.unwrap_or_default(),
        })
    }

    /// A mapping of names to a value, or to a list of values.
    fn header_values(
        &mut self,
        node: &Node,
        at: &At<'_>,
        request: bool,
    ) -> Option<Vec<(String, Secret)>> {
        let Kind::Map(pairs) = &node.kind else {
            self.mismatch(node, at, "a mapping of names to values");
            return None;
        };
        if pairs.len() > MAX_EDITS {
            let message = format!("more than {MAX_EDITS} fields");
            self.error(node.pos, at, message, None);
            return None;
        }
        self.doubled_keys(pairs, at);
        let mut out = Vec::new();
        for (key, value) in pairs {
            let at_name = at.key(&key.text);
            let name = self.header_name(key, &at_name, request);
            let values = match (&value.kind, at.name()) {
                (Kind::List(_), "add") => {
                    self.list(value, &at_name, 1..=MAX_EDITS, Self::header_value)
                }
                _ => self.header_value(value, &at_name).map(|value| vec![value]),
            };
            if let (Some(name), Some(values)) = (name, values) {
                out.extend(values.into_iter().map(|value| (name.clone(), value)));
            }
        }
        Some(out)
    }

    fn header_name(&mut self, key: &Key, at: &At<'_>, request: bool) -> Option<String> {
        match check_name(&key.text, request) {
            Ok(name) => Some(name),
            Err((message, help)) => {
                self.error(key.pos, at, message, help);
                None
            }
        }
    }

    fn header_value(&mut self, node: &Node, at: &At<'_>) -> Option<Secret> {
        let text = self.text(node, at)?;
        match check_header_value(&text) {
            Ok(()) => Some(Secret::new(&*text)),
            Err(why) => {
                self.error(node.pos, at, why, None);
                None
            }
        }
    }

    /// `X-A` and `x-a` are one field.
    fn set_once(&mut self, set: &[(String, Secret)], at: &At<'_>, pos: crate::node::Pos) {
        let mut names: Vec<&str> = set.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        for pair in names.windows(2) {
            if let [first, second] = pair
                && first == second
            {
                self.error(pos, &at.key(first), format!("{} is set twice", quote(first)), None);
            }
        }
    }
}

/// The name in lower case, or why a rule may not touch it.
fn check_name(text: &str, request: bool) -> Result<String, (String, Option<String>)> {
    let shown = quote(text);
    if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.bytes().all(is_token_byte) {
        return Err((format!("{shown} is no header name"), None));
    }
    let name = text.to_ascii_lowercase();
    if FRAMING.contains(&name.as_str()) {
        let help = "the edge writes the framing itself: remove it";
        return Err((format!("{shown} belongs to the framing of the message"), Some(help.into())));
    }
    if HOP_BY_HOP.contains(&name.as_str()) {
        let help = "it never passes the edge: remove it";
        return Err((format!("{shown} belongs to one connection"), Some(help.into())));
    }
    let identity = name.starts_with("x-forwarded-") || IDENTITY.contains(&name.as_str());
    if request && identity {
        let help = "the edge sets it on every request; see `trusted_proxies`";
        return Err((format!("{shown} tells the upstream who the client is"), Some(help.into())));
    }
    if name == "host" || name == "expect" {
        let help = "the edge takes care of it: remove it";
        return Err((format!("{shown} cannot be edited"), Some(help.into())));
    }
    Ok(name)
}

/// Visible ASCII, blanks inside (RFC 9110 §5.5, without obs-text). The message does not repeat the
/// value.
pub(crate) fn check_header_value(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_VALUE_BYTES {
        return Err("a header value has at most 8 KiB");
    }
    if text.bytes().any(|b| b == b'\r' || b == b'\n') {
        return Err("a header value has one line");
    }
    if !text.bytes().all(|b| b == b' ' || b == b'\t' || b.is_ascii_graphic()) {
        return Err("a header value is printable ASCII");
    }
    if text.starts_with([' ', '\t']) || text.ends_with([' ', '\t']) {
        return Err("a header value does not start or end with a blank");
    }
    Ok(())
}

const MAX_EDITS: usize = 64;
const MAX_NAME_BYTES: usize = 128;
const MAX_VALUE_BYTES: usize = 8 * 1024;
const FRAMING: &[&str] = &["content-length", "transfer-encoding"];
const HOP_BY_HOP: &[&str] =
    &["connection", "keep-alive", "te", "trailer", "upgrade", "proxy-connection"];
const IDENTITY: &[&str] = &["x-real-ip", "x-request-id", "forwarded"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_rules_may_not_touch() {
        for name in [
            "Content-Length",
            "transfer-encoding",
            "Connection",
            "keep-alive",
            "TE",
            "trailer",
            "Upgrade",
            "proxy-connection",
            "host",
            "Expect",
            "X-Forwarded-For",
            "x-forwarded-anything",
            "X-Real-IP",
            "x-request-id",
            "Forwarded",
            "",
            "a b",
            "a:",
            "é",
        ] {
            assert!(check_name(name, true).is_err(), "{name}");
        }
        assert_eq!(check_name("X-Api-Key", true), Ok("x-api-key".into()));
        assert_eq!(check_name("X-Request-Id", false), Ok("x-request-id".into()));
    }

    #[test]
    fn values_cannot_forge_a_head() {
        for value in ["a\r\nb: c", "a\n", "\0", "é", " a", "a ", "\u{7f}", &"x".repeat(8193)] {
            assert!(check_header_value(value).is_err(), "{value:?}");
        }
        for value in ["", "a b", "no-store, private", "\"x\""] {
            assert_eq!(check_header_value(value), Ok(()), "{value:?}");
        }
    }
}
