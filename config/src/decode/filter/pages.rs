//! `error_pages:` of a route.

use std::collections::BTreeSet;

use super::super::read::shown;
use super::super::{At, Cx, keys};
use crate::model::ErrorPage;
use crate::node::{Kind, Node};
use crate::value::{ValueError, quote};

impl Cx<'_> {
    pub(super) fn error_pages(&mut self, node: &Node, at: &At<'_>) -> Option<Vec<ErrorPage>> {
        if let Kind::Map(_) = node.kind {
            let help = format!("write `[{PAGE}]`");
            self.error(node.pos, at, "expected a list, found a mapping", Some(help));
            return None;
        }
        let mut taken = BTreeSet::new();
        self.list(node, at, 1..=MAX_PAGES, |cx, node, at| cx.error_page(node, at, &mut taken))
    }

    /// `taken`: the statuses of the pages so far.
    fn error_page(
        &mut self,
        node: &Node,
        at: &At<'_>,
        taken: &mut BTreeSet<u16>,
    ) -> Option<ErrorPage> {
        self.mapping(node, at, &format!("write `{PAGE}`"))?;
        let fields = self.fields(node, at, &keys::ERROR_PAGE)?;
        let statuses = self.required(&fields, "status", |cx, node, at| {
            cx.list(node, at, 1..=MAX_STATUSES, |cx, node, at| {
                let status = u16::try_from(cx.number(node, at, 400..=599)?).ok()?;
                if !taken.insert(status) {
                    let text = shown(node, &status.to_string());
                    let message = format!("status {text} is written twice");
                    cx.error(node.pos, at, message, Some("a status has one page".into()));
                }
                Some(status)
            })
        });
        let html = self.field(&fields, "html", |cx, node, at| {
            let html = cx.text(node, at)?;
            if html.trim().is_empty() {
                cx.error(node.pos, at, "the page is empty", None);
            }
            if html.len() > MAX_HTML {
                cx.error(node.pos, at, "the page is larger than 64 KiB", None);
            }
            Some(html.into_owned())
        });
        let problem_type =
            self.field(&fields, "problem_type", |cx, node, at| cx.value(node, at, problem_type));
        if !fields.has("html") && !fields.has("problem_type") {
            let help = "write `html: \"${file:/path}\"` or `problem_type`";
            self.error(node.pos, at, "the page says nothing", Some(help.into()));
        }
        Some(ErrorPage { statuses: statuses?, html, problem_type })
    }
}

/// A URI (RFC 3986): what names the kind of a problem on its own, wherever it is read.
fn problem_type(text: &str) -> Result<String, ValueError> {
    let error = |what: &str| ValueError::new("a URI", format!("{} {what}", quote(text)));
    if text.len() > MAX_URI || !text.bytes().all(is_uri_byte) {
        return Err(error("is no URI").help("write visible ASCII, at most 2048 characters"));
    }
    let scheme = text.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    match scheme {
        Some(_) => Ok(text.to_owned()),
        None => Err(error("is no URI: it has no scheme")
            .help("write `https://docs.example.com/errors`, which need not exist")),
    }
}

fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)
}

const PAGE: &str = "{ status: [502, 503], html: \"${file:/path}\" }";
const MAX_PAGES: usize = 16;
const MAX_STATUSES: usize = 200;
const MAX_HTML: usize = 64 * 1024;
const MAX_URI: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_types_are_uris() {
        let longest = format!("https:{}", "x".repeat(MAX_URI - 6));
        for good in ["https://docs.openclaw.example/e#x", "urn:openclaw:x", "about:blank", &longest]
        {
            assert_eq!(problem_type(good), Ok(good.to_owned()));
        }
        let longer = format!("{longest}x");
        for bad in ["", "/errors", "errors", ":x", "1a:b", "a b:c", "https://é", "x:\"", &longer] {
            assert!(problem_type(bad).is_err(), "{bad}");
        }
    }
}
