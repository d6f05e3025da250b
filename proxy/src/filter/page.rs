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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::request::cause::{Cause, Rejection};

    fn fill(html: &str, request_id: &str) -> String {
        let rejection = Rejection { cause: Cause::NoEndpoint, detail: "unhealthy" };
        let error = ErrorAnswer {
            status: 503,
            rejection,
            request_id: request_id.as_bytes(),
            limit: None,
            retry_after: None,
        };
        let page = Page::parse(html);
        page.fill(&error)
    }

    #[test]
    fn placeholders_are_filled_in_and_other_braces_stay() {
        let html = "<style>a{b:c}</style>{status} {reason}: {cause} {request_id} {status}{";
        let filled = "<style>a{b:c}</style>503 Service Unavailable: no_endpoint id-1 503{";
        assert_eq!(fill(html, "id-1"), filled);
        assert_eq!(fill("{{status}} {status {sentence}{}", "x"), "{503} {status {sentence}{}");
        assert_eq!(fill("", "x"), "");
    }

    #[test]
    fn nothing_filled_in_is_markup_or_a_placeholder() {
        let attack = "\"'><script>alert(1)</script>&amp;{status}\\`\u{2028}";
        let filled = fill("<i title={request_id}>{request_id}</i>", attack);
        let value = filled.split_once('>').unwrap().0.strip_prefix("<i title=").unwrap();
        assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"&#;".contains(&b)), "{value}");
        assert!(value.starts_with("&#x22;&#x27;&#x3E;&#x3C;script"), "{value}");
    }

    #[test]
    fn the_built_in_page_needs_nothing_from_elsewhere() {
        let error = ErrorAnswer {
            status: 502,
            rejection: Cause::ConnectFailed.into(),
            request_id: b"id<1>",
            limit: None,
            retry_after: None,
        };
        let page = Page::built_in().fill(&error);
        for part in ["<h1>502 Bad Gateway</h1>", "connect_failed", "id&#x3C;1&#x3E;"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(page.contains(Cause::ConnectFailed.text()), "{page}");
        for foreign in ["http:", "https:", "//", "url(", "<script", "<link", "<img", "{s", "{r"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_replacing_by_hand(html in "([a{}<]|\\{status\\}|\\{cause\\}|\\{request_id){0,12}") {
            let expected = html.replace("{status}", "503").replace("{cause}", "no_endpoint");
            prop_assert_eq!(fill(&html, "id"), expected.replace("{request_id}", "id"));
        }

        #[test]
        fn escaped_text_reads_back(text in ".*") {
            let mut escaped = String::new();
            escape(&mut escaped, &text);
            let mut read = String::new();
            let mut rest = escaped.as_str();
            while let Some((before, after)) = rest.split_once("&#x") {
                let (code, after) = after.split_once(';').unwrap();
                read.push_str(before);
                read.push(char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap());
                rest = after;
            }
            read.push_str(rest);
            prop_assert_eq!(read, text);
        }
    }
}
