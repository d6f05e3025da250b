//! The path that the endpoint gets instead of the request's (design.md #16: after every check).
//! Works on the normalised path, and what comes out is a normalised path again (#15).

use std::borrow::Cow;

use config::model;
use config::value::{NormPath, Regex, normalise};

use crate::request::cause::Rejection;

/// Bytes of a rewritten path, at most.
pub const MAX_PATH: usize = 16 * 1024;

const REFUSED: Rejection = Rejection::bad("rewrite");

/// The rewrite rule of a route, compiled.
pub struct Rewrite(Rule);

enum Rule {
    /// Whole segments `from` become `to`, both without trailing slash.
    Prefix {
        from: Box<[u8]>,
        to: Box<[u8]>,
        strips: bool,
    },
    Regex {
        regex: Regex,
        to: Template,
    },
}

impl Rewrite {
    pub fn compile(rewrite: &model::Rewrite) -> Rewrite {
        let bare = |path: &NormPath| path.as_str().trim_end_matches('/').as_bytes().into();
        Rewrite(match rewrite {
            model::Rewrite::StripPrefix(prefix) => {
                Rule::Prefix { from: bare(prefix), to: Box::default(), strips: true }
            }
            model::Rewrite::ReplacePrefix { from, to } => {
                Rule::Prefix { from: bare(from), to: bare(to), strips: false }
            }
            model::Rewrite::Regex { regex, to } => {
                Rule::Regex { to: Template::parse(to, regex), regex: regex.clone() }
            }
        })
    }

    /// The new path for a normalised one; `None`: it stays.
    ///
    /// # Errors
    /// 400 `bad_request` (`rewrite`) when no valid path of at most [`MAX_PATH`] bytes comes out.
    pub fn apply(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Rejection> {
        if !path.starts_with(b"/") {
            // `*` of OPTIONS.
            return Ok(None);
        }
        match &self.0 {
            Rule::Prefix { from, to, .. } => {
                let Some(rest) = after_prefix(from, path) else { return Ok(None) };
                let new = if to.is_empty() && rest.is_empty() {
                    b"/".to_vec()
                } else {
                    [to, rest].concat()
                };
                finish(new).map(Some)
            }
            Rule::Regex { regex, to } => {
                let Some(found) = regex.get().captures(path) else { return Ok(None) };
                let group = |at| found.get(at).map_or(&b""[..], |group| group.as_bytes());
                finish(to.fill(group).ok_or(REFUSED)?).map(Some)
            }
        }
    }

    /// What `X-Forwarded-Prefix` tells the endpoint of a path that [`Rewrite::apply`] changed:
    /// the prefix that was taken off.
    pub fn stripped_prefix(&self) -> Option<&[u8]> {
        match &self.0 {
            Rule::Prefix { from, strips: true, .. } if !from.is_empty() => Some(from),
            _ => None,
        }
    }
}

/// What follows the prefix (without trailing slash) where it matches whole segments.
fn after_prefix<'p>(prefix: &[u8], path: &'p [u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
}

/// The path in its normal form, if it has one. Dot segments are refused, not resolved: pieces of
/// the request's path may have made them, and they would lead out of what the rule wrote.
fn finish(path: Vec<u8>) -> Result<Vec<u8>, Rejection> {
    let foreign = |b: &u8| *b <= b' ' || matches!(b, b'?' | b'#' | 0x7f);
    let dots = path.split(|b| *b == b'/').any(is_dots);
    if path.len() > MAX_PATH || dots || path.iter().any(foreign) {
        return Err(REFUSED);
    }
    let changed = match normalise(&path).map_err(|_| REFUSED)? {
        Cow::Borrowed(_) => None,
        Cow::Owned(normal) => Some(normal),
    };
    Ok(changed.unwrap_or(path))
}

/// `.` or `..`, also encoded.
fn is_dots(segment: &[u8]) -> bool {
    let mut rest = segment;
    let mut dots = 0;
    let dot =
        |text| [&b"."[..], b"%2e", b"%2E"].iter().find_map(|dot| <[u8]>::strip_prefix(text, *dot));
    while let Some(after) = dot(rest) {
        rest = after;
        dots += 1;
    }
    rest.is_empty() && (1..=2).contains(&dots)
}

/// A replacement with its groups looked up, so that its length is known while it is filled in.
struct Template(Box<[Part]>);

enum Part {
    Text(Box<[u8]>),
    Group(usize),
}

impl Template {
    /// `$name` (the longest run of word characters), `${name}` and `$$`, as crate `regex` reads
    /// them. A group that the expression does not have is empty.
    fn parse(text: &str, regex: &Regex) -> Template {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            literal.extend_from_slice(before.as_bytes());
            let Some((name, after)) = reference(after) else {
                literal.push(b'$');
                rest = after.strip_prefix('$').unwrap_or(after);
                continue;
            };
            parts.push(Part::Text(std::mem::take(&mut literal).into()));
            parts.extend(group(name, regex).map(Part::Group));
            rest = after;
        }
        literal.extend_from_slice(rest.as_bytes());
        parts.push(Part::Text(literal.into()));
        Template(parts.into())
    }

    /// `None`: longer than [`MAX_PATH`].
    fn fill<'g>(&self, group: impl Fn(usize) -> &'g [u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        for part in &self.0 {
            let bytes = match part {
                Part::Text(text) => text,
                Part::Group(at) => group(*at),
            };
            if out.len() + bytes.len() > MAX_PATH {
                return None;
            }
            out.extend_from_slice(bytes);
        }
        Some(out)
    }
}

/// The name after a `$`, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    if let Some(braced) = text.strip_prefix('{') {
        return braced.split_once('}');
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn group(name: &str, regex: &Regex) -> Option<usize> {
    match name.parse() {
        Ok(at) => Some(at),
        Err(_) => regex.get().capture_names().position(|known| known == Some(name)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> NormPath {
        NormPath::parse(text).unwrap()
    }

    fn strip(prefix: &str) -> Rewrite {
        Rewrite::compile(&model::Rewrite::StripPrefix(path(prefix)))
    }

    fn replace(from: &str, to: &str) -> Rewrite {
        let (from, to) = (path(from), path(to));
        Rewrite::compile(&model::Rewrite::ReplacePrefix { from, to })
    }

    fn regex(regex: &str, to: &str) -> Rewrite {
        let regex = Regex::parse(regex).unwrap();
        Rewrite::compile(&model::Rewrite::Regex { regex, to: to.to_owned() })
    }

    /// `=` for a path that stays, `!` for one that is refused.
    fn apply(rewrite: &Rewrite, path: &str) -> String {
        match rewrite.apply(path.as_bytes()) {
            Ok(Some(new)) => String::from_utf8(new).unwrap(),
            Ok(None) => "=".to_owned(),
            Err(rejection) => {
                assert_eq!((rejection.status(), rejection.detail), (400, "rewrite"));
                "!".to_owned()
            }
        }
    }

    #[test]
    fn prefixes_are_whole_segments() {
        let (api, deep, root) = (strip("/api"), strip("/api/v1/"), strip("/"));
        for (rewrite, path, new) in [
            (&api, "/api", "/"),
            (&api, "/api/", "/"),
            (&api, "/api/x", "/x"),
            (&api, "/api/x/", "/x/"),
            (&api, "/api/api/x", "/api/x"),
            (&api, "/apix", "="),
            (&api, "/x/api", "="),
            (&api, "/", "="),
            (&api, "*", "="),
            (&deep, "/api/v1/x", "/x"),
            (&deep, "/api/v1", "/"),
            (&deep, "/api/v10", "="),
            (&root, "/x", "/x"),
            (&root, "/", "/"),
            (&root, "*", "="),
            (&replace("/a", "/b/c"), "/a/x", "/b/c/x"),
            (&replace("/a", "/b/"), "/a", "/b"),
            (&replace("/a", "/b/"), "/a/", "/b/"),
            (&replace("/a", "/"), "/a", "/"),
            (&replace("/a", "/"), "/a/x", "/x"),
            (&replace("/", "/b"), "/", "/b/"),
            (&replace("/", "/b"), "/x", "/b/x"),
        ] {
            assert_eq!(apply(rewrite, path), new, "{path}");
        }
        assert_eq!(api.stripped_prefix(), Some(&b"/api"[..]));
        assert_eq!(root.stripped_prefix(), None);
        assert_eq!(replace("/a", "/b").stripped_prefix(), None);
    }

    #[test]
    fn an_expression_makes_the_whole_path() {
        for (expression, to, path, new) in [
            ("^/u/(\\d+)$", "/users/$1", "/u/7", "/users/7"),
            ("^/u/(\\d+)$", "/users/$1", "/u/x", "="),
            ("/u/(\\d+)", "/users/$1", "/a/u/7/b", "/users/7"),
            ("^/(?P<who>[a-z]+)/", "/x/${who}s/$who", "/cat/1", "/x/cats/cat"),
            ("^/(a)(b)?$", "/$1/$2/$3/$nobody/x", "/a", "/a/x"),
            ("^/(.*)$", "/$1a", "/x", "/"),
            ("^/(.*)$", "/$$1/$", "/x", "/$1/$"),
            // What comes out is read again.
            ("^/(.*)$", "//$1", "/x", "/x"),
            ("^/api(.*)$", "/v2/$1", "/api/x", "/v2/x"),
            ("^/(.*)$", "$1", "/x", "!"),
            // Dots put together of pieces would lead out of `to`.
            ("^/(.*)-(.*)$", "/safe/$1$2/x", "/.-.", "!"),
            ("^/(.*)-(.*)$", "/safe/$1$2", "/.-", "!"),
            ("^/(.*)-(.*)$", "/safe/%$1$2.", "/2-e", "!"),
            ("^/(.*)-(.*)$", "/safe/$1$2", "/.-.x", "/safe/..x"),
            ("^/(.*)-(.*)$", "/safe/$1$2", "/..-.", "/safe/..."),
            ("^/(..)(.*)$", "/%2$2", "/fff", "!"),
            ("^/(.*)$", "/$1\\x", "/x", "!"),
            ("^/(.*)$", "/a/..;/$1", "/x", "!"),
            ("^/(.*)$", "/a?b=$1", "/x", "!"),
            ("^/(.*)$", "/a#$1", "/x", "!"),
            ("^/(.*)$", "/a b", "/x", "!"),
            ("^/(.*)$", "/a\r\nX: y", "/x", "!"),
            ("^/(.*)$", "/%61/%c3%a9", "/x", "/a/%C3%A9"),
            ("^/x%(..)$", "/$1", "/x%C3", "/C3"),
            ("x", "/y", "*", "="),
        ] {
            assert_eq!(apply(&regex(expression, to), path), new, "{expression} {to} {path}");
        }
    }

    #[test]
    fn a_path_does_not_grow_without_end() {
        let long = format!("/{}", "x".repeat(4000));
        assert_eq!(apply(&regex("^(.*)$", "$1$1$1$1"), &long).len(), 16_004);
        assert_eq!(apply(&regex("^(.*)$", "$1$1$1$1$1"), &long), "!");
        let most = format!("/a{}", "/x".repeat(MAX_PATH / 2 - 1));
        assert_eq!(most.len(), MAX_PATH);
        assert_eq!(apply(&replace("/a", "/b"), &most).len(), MAX_PATH);
        assert_eq!(apply(&replace("/a", "/bc"), &most), "!");
    }

    /// Segment by segment, the slow way.
    fn oracle(from: &str, to: &str, path: &str) -> String {
        let named = |p: &str| -> Vec<String> {
            p.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect()
        };
        let segments: Vec<String> = path[1..].split('/').map(str::to_owned).collect();
        let from = named(from);
        if !segments.starts_with(&from) {
            return "=".to_owned();
        }
        format!("/{}", [&named(to)[..], &segments[from.len()..]].concat().join("/"))
    }

    proptest! {
        #[test]
        fn prefixes_agree_with_the_slow_way(
            from in "(/[ab]{1,2}){0,2}/?",
            to in "(/[ab]{1,2}){0,2}/?",
            path in "(/[ab]{1,2}){0,4}/?",
        ) {
            let [from, to, path] = [from, to, path].map(|p| if p.is_empty() { "/".into() } else { p });
            prop_assert_eq!(apply(&replace(&from, &to), &path), oracle(&from, &to, &path));
            prop_assert_eq!(apply(&strip(&from), &path), oracle(&from, "/", &path));
        }

        #[test]
        fn templates_agree_with_the_crate(
            to in "([$]|[{}]|[012]|[ab_]|[$][{](1|name|x)[}]|/){0,10}",
            path in "/[ab]{0,3}/[ab]{0,3}",
        ) {
            let expression = Regex::parse("/(a*)(?P<name>b)?(?P<a_>.*)").unwrap();
            let found = expression.get().captures(path.as_bytes()).unwrap();
            let mut expected = Vec::new();
            found.expand(to.as_bytes(), &mut expected);
            let group = |at| found.get(at).map_or(&b""[..], |group| group.as_bytes());
            prop_assert_eq!(Template::parse(&to, &expression).fill(group), Some(expected));
        }

        #[test]
        fn what_comes_out_is_a_normal_path(
            to in "([/.%$12;a]|%2[fF]){0,12}",
            path in "(/[a.%0-9A-F;]{0,4}){1,4}",
        ) {
            let Ok(normal) = normalise(path.as_bytes()) else { return Ok(()) };
            let rewrite = regex("^/([^/]*)(.*)$", &to);
            if let Ok(Some(new)) = rewrite.apply(&normal) {
                let again = normalise(&new).map(Cow::into_owned);
                prop_assert_eq!(again, Ok(new));
            }
        }
    }
}
