//! `security_headers:` of a route.

use super::super::{At, Cx};
use crate::model::SecurityHeaders;
use crate::node::{Kind, Node};

impl Cx<'_> {
    pub(super) fn security_headers(&mut self, node: &Node, at: &At<'_>) -> Option<SecurityHeaders> {
        if let Kind::Map(_) | Kind::List(_) = node.kind {
            let help = "write `basic` or `strict`; other fields under `headers: { response }`";
            self.error(node.pos, at, "expected one word", Some(help.into()));
            return None;
        }
        let words = [("basic", SecurityHeaders::Basic), ("strict", SecurityHeaders::Strict)];
        self.word_or(node, at, &words, |text| match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "default" | "enabled" => Some("write `basic`"),
            "off" | "false" | "no" | "none" | "disabled" => Some("leave `security_headers` out"),
            _ => None,
        })
    }
}
