//! `redirect:` of a route.

use super::filter::{covers, is_below};
use super::{At, Cx, Fields, keys};
use crate::model::{PathRule, Redirect, Rewrite};
use crate::node::{Kind, Node};
use crate::value::{NormPath, ValueError, normalise, quote};

/// The paths that a route sends elsewhere.
#[derive(Clone, Copy)]
pub(super) struct Paths<'r> {
    /// The route's own.
    pub rule: &'r PathRule,
    pub rewrite: Option<&'r Rewrite>,
    /// There is a `rewrite`, if only a bad one.
    pub rewritten: bool,
}

impl Redirect {
    /// To the same place by https.
    fn to_https() -> Redirect {
        Redirect { https: true, host: None, port: None, path: None, keep_query: true, status: 308 }
    }
}

impl Cx<'_> {
    pub(super) fn redirect(
        &mut self,
        node: &Node,
        at: &At<'_>,
        paths: Paths<'_>,
    ) -> Option<Redirect> {
        if let Kind::Scalar(_) = node.kind {
            self.word(node, at, &[("https", ())])?;
            return Some(Redirect::to_https());
        }
        let fields = self.fields(node, at, &keys::REDIRECT)?;
        let https = self.field(&fields, "https", Self::boolean).unwrap_or(false);
        let host = self.field(&fields, "host", Self::exact_host);
        let port = self.field(&fields, "port", |cx, node, at| cx.number(node, at, 1..=65535));
        let port = port.and_then(|port| u16::try_from(port).ok());
        let keep_query = self.field(&fields, "keep_query", Self::boolean);
        let keep_query_read = keep_query.unwrap_or(true);
        let path = self.field(&fields, "path", |cx, node, at| {
            cx.value(node, at, |text| location_path(text, keep_query_read))
        });
        let permanent = self.field(&fields, "permanent", Self::boolean);
        let status = self.field(&fields, "status", |cx, node, at| {
            cx.word(node, at, &[("301", 301), ("302", 302), ("307", 307), ("308", 308)])
        });
        if fields.has("status") && fields.has("permanent") {
            let message = "`status` and `permanent` say the same";
            self.error(fields.pos_of("permanent"), at, message, Some("keep `status`".into()));
        }
        if fields.has("path") && paths.rewritten {
            let message = "`path` makes the `rewrite` of the route useless";
            let help = Some("keep one of them".to_owned());
            self.error(fields.pos_of("path"), &at.key("path"), message, help);
        }
        if !https && !fields.has("host") && !fields.has("port") {
            self.leads_elsewhere(&fields, path.as_deref(), paths);
        }
        let status = status.unwrap_or(if permanent == Some(false) { 307 } else { 308 });
        Some(Redirect { https, host, port, path, keep_query: keep_query_read, status })
    }

    /// A redirect to the same scheme, host and port must change the path, and not to one that this
    /// route redirects again for ever.
    fn leads_elsewhere(&mut self, fields: &Fields<'_, '_>, path: Option<&str>, paths: Paths<'_>) {
        let back = match (path, paths.rewrite) {
            (Some(path), _) => matches_rule(path, paths.rule),
            // It cannot be read: reported already.
            (None, _) if fields.has("path") => false,
            (None, None) => !paths.rewritten,
            (None, Some(rewrite)) => !changes_for_good(rewrite, paths.rule),
        };
        if back {
            let message = "the redirect leads to where it came from";
            let help = match paths.rewrite {
                Some(_) => "let the rewrite take every path of the route somewhere else",
                None => "write `https: true`, `host`, `port` or another `path`",
            };
            self.error(fields.pos, fields.at, message, Some(help.into()));
        }
    }
}

/// Whether the route gets this path, written for `Location`.
fn matches_rule(path: &str, rule: &PathRule) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let Ok(normal) = normalise(path.as_bytes()) else { return false };
    match rule {
        PathRule::Exact(exact) => *normal == *exact.as_str().as_bytes(),
        PathRule::Prefix(prefix) => {
            std::str::from_utf8(&normal).is_ok_and(|path| is_below(path, prefix))
        }
    }
}

/// Whether every path of the rule becomes another one, and that not again and again. What an
/// expression does nobody can say in advance.
fn changes_for_good(rewrite: &Rewrite, rule: &PathRule) -> bool {
    let (from, to) = match rewrite {
        Rewrite::StripPrefix(from) => (from, &NormPath::root()),
        Rewrite::ReplacePrefix { from, to } => (from, to),
        Rewrite::Regex { .. } => return true,
    };
    covers(from, rule) && !is_below(to.as_str(), from)
}

/// A path as it goes into `Location`.
fn location_path(text: &str, keep_query: bool) -> Result<String, ValueError> {
    let error = |what: &str| ValueError::new("an absolute path", format!("{} {what}", quote(text)));
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let path = rest.strip_prefix(host).filter(|path| !path.is_empty()).unwrap_or("/");
        let help = format!("write {} under `host`, {} here", quote(host), quote(path));
        return Err(error("is a URL, not a path").help(help));
    }
    if !text.starts_with('/') {
        let help = format!("write {}", quote(&format!("/{text}")));
        return Err(error("does not start with `/`").help(help));
    }
    if text.len() > MAX_PATH {
        return Err(error("is longer than 2048 characters"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(error("is not visible ASCII").help("write `%20` and so on"));
    }
    if keep_query && text.contains(['?', '#']) {
        let help = "write `keep_query: false`, or leave out `?` or `#` and what follows";
        return Err(error("has a query, and so may the request").help(help));
    }
    Ok(text.to_owned())
}

const MAX_PATH: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_location() {
        for good in ["/", "/new", "/a//b", "/%20"] {
            assert_eq!(location_path(good, true), Ok(good.to_owned()));
        }
        for query in ["/new?x=1", "/new#part", "/?"] {
            assert!(location_path(query, true).is_err(), "{query}");
            assert_eq!(location_path(query, false), Ok(query.to_owned()));
        }
        for (bad, help) in [
            ("new", "write `/new`"),
            ("https://a.example/x?y", "write `a.example` under `host`, `/x?y` here"),
            ("https://a.example", "write `a.example` under `host`, `/` here"),
            ("/a b", "write `%20` and so on"),
            ("/é", "write `%20` and so on"),
            ("/a\r\nx: y", "write `%20` and so on"),
        ] {
            assert_eq!(location_path(bad, false).unwrap_err().help.as_deref(), Some(help), "{bad}");
        }
        assert!(location_path(&format!("/{}", "a".repeat(MAX_PATH - 1)), true).is_ok());
        assert!(location_path(&format!("/{}", "a".repeat(MAX_PATH)), true).is_err());
    }
}
