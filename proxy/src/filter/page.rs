//! Error pages for browsers: the site's own or the built-in one, filled in and escaped.

use std::sync::LazyLock;

use super::pages::ErrorAnswer;
use crate::request::respond::reason_phrase;

/// A page cut at its placeholders, so that nothing filled in is read as a placeholder again.
pub struct Page(Box<[Part]>);

enum Part {
    Text(Box<str>),
    Slot(Slot),
}

#[derive(Clone, Copy)]
enum Slot {
    Status,
    Reason,
    Cause,
    RequestId,
    /// The sentence to the cause; in the built-in page only.
    Sentence,
}

const SLOTS: [(&str, Slot); 5] = [
    ("{status}", Slot::Status),
    ("{reason}", Slot::Reason),
    ("{cause}", Slot::Cause),
    ("{request_id}", Slot::RequestId),
    ("{sentence}", Slot::Sentence),
];

static BUILT_IN: LazyLock<Page> = LazyLock::new(|| Page::cut(include_str!("error.html"), &SLOTS));

impl Page {
    /// Of the operator's HTML. Other braces stay as they are.
    pub fn parse(html: &str) -> Page {
        let public: Vec<_> = SLOTS.into_iter().filter(|(name, _)| *name != "{sentence}").collect();
        Page::cut(html, &public)
    }

    pub fn built_in() -> &'static Page {
        &BUILT_IN
    }

    fn cut(html: &str, slots: &[(&str, Slot)]) -> Page {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = html;
        while let Some((before, _)) = rest.split_once('{') {
            text.push_str(before);
            rest = rest.get(before.len()..).unwrap_or_default();
            let found =
                slots.iter().find_map(|(name, slot)| Some((rest.strip_prefix(name)?, slot)));
            if let Some((after, slot)) = found {
                parts.push(Part::Text(std::mem::take(&mut text).into()));
                parts.push(Part::Slot(*slot));
                rest = after;
            } else {
                text.push('{');
                rest = rest.strip_prefix('{').unwrap_or_default();
            }
        }
        text.push_str(rest);
        parts.push(Part::Text(text.into()));
        Page(parts.into())
    }

    pub fn fill(&self, error: &ErrorAnswer<'_>) -> String {
        let cause = error.rejection.cause;
        let mut out = String::with_capacity(2048);
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Slot(Slot::Status) => out.push_str(&error.status.to_string()),
                Part::Slot(Slot::Reason) => escape(&mut out, reason_phrase(error.status)),
                Part::Slot(Slot::Cause) => escape(&mut out, cause.code()),
                Part::Slot(Slot::RequestId) => {
                    escape(&mut out, &String::from_utf8_lossy(error.request_id));
                }
                Part::Slot(Slot::Sentence) => escape(&mut out, cause.text()),
            }
        }
        out
    }
}

/// Everything but letters, digits, blanks and `-_.` as a numeric reference: harmless in text, in
/// an attribute with or without quotes, and in a script's string (no quote, no backslash, no `<`).
fn escape(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' | '-' | '_' | '.' => out.push(char),
            other => out.push_str(&format!("&#x{:X};", u32::from(other))),
        }
    }
}
