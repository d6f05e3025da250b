//! `rewrite:` of a route.

use super::super::{At, Cx, Fields, keys};
use crate::model::{PathRule, Rewrite};
use crate::node::{Kind, Node, Scalar};
use crate::value::{NormPath, Regex, ValueError, normalise, quote};

impl Cx<'_> {
    /// `path` is the route's own.
    pub(super) fn rewrite(&mut self, node: &Node, at: &At<'_>, path: &PathRule) -> Option<Rewrite> {
        self.mapping(node, at, HELP)?;
        let fields = self.fields(node, at, &keys::REWRITE)?;
        let written: Vec<&str> = KINDS.iter().copied().filter(|key| fields.has(key)).collect();
        match written.as_slice() {
            ["strip_prefix"] => self.strip(&fields, path),
            ["prefix"] => self.replace(&fields, path),
            [_] => self.substitute(&fields, path),
            [] => {
                let message = "the rewrite does not say which paths";
                self.error(node.pos, at, message, Some(HELP.into()));
                None
            }
            [first, second, ..] => {
                let message = format!("the rewrite has both `{first}` and `{second}`");
                let help = Some("keep one of them".into());
                self.error(fields.pos_of(second), at, message, help);
                None
            }
        }
    }

    fn strip(&mut self, fields: &Fields<'_, '_>, path: &PathRule) -> Option<Rewrite> {
        if fields.has("to") {
            let help = "write `prefix` instead of `strip_prefix`, or remove `to`";
            let message = "what is stripped is not replaced";
            self.error(fields.pos_of("to"), &fields.at.key("to"), message, Some(help.into()));
        }
        let from = self.field(fields, "strip_prefix", Self::prefix)?;
        if from == NormPath::root() {
            let message = "`/` strips nothing";
            self.error_at(fields, "strip_prefix", message, Some("remove `rewrite`".into()));
        }
        self.occurs(fields, "strip_prefix", &from, path);
        Some(Rewrite::StripPrefix(from))
    }

    fn replace(&mut self, fields: &Fields<'_, '_>, path: &PathRule) -> Option<Rewrite> {
        let from = self.field(fields, "prefix", Self::prefix);
        let to = self.required(fields, "to", Self::prefix);
        if let Some(from) = &from {
            self.occurs(fields, "prefix", from, path);
        }
        let (from, to) = (from?, to?);
        if from == to {
            let message = "`prefix` and `to` are the same: nothing changes";
            self.error_at(fields, "to", message, Some("remove `rewrite`".into()));
        }
        Some(Rewrite::ReplacePrefix { from, to })
    }

    fn substitute(&mut self, fields: &Fields<'_, '_>, path: &PathRule) -> Option<Rewrite> {
        let regex = self.field(fields, "regex", |cx, node, at| cx.value(node, at, Regex::parse));
        let to = self.required(fields, "to", |cx, node, at| {
            cx.value(&groups_kept(node), at, |text| template(text, regex.as_ref()))
        });
        if let (Some(regex), PathRule::Exact(path)) = (&regex, path)
            && !regex.get().is_match(path.as_str().as_bytes())
        {
            let message = "the expression is not found in the route's path: nothing changes";
            self.error_at(fields, "regex", message, None);
        }
        Some(Rewrite::Regex { regex: regex?, to: to? })
    }

    /// Whole segments.
    fn prefix(&mut self, node: &Node, at: &At<'_>) -> Option<NormPath> {
        self.value(node, at, |text| {
            let path = NormPath::parse(text)?;
            match path.as_str().strip_suffix('/') {
                Some(stem) if !stem.is_empty() => {
                    let message = format!("{} ends with `/`", quote(text));
                    Err(ValueError::new("a path without `/` at its end", message)
                        .help(format!("write {}; it means whole segments", quote(stem))))
                }
                _ => Ok(path),
            }
        })
    }

    /// A prefix that no path of the route begins with is a mistake: the rewrite would do nothing.
    fn occurs(&mut self, fields: &Fields<'_, '_>, key: &str, from: &NormPath, path: &PathRule) {
        let possible = match path {
            PathRule::Exact(path) => is_below(path.as_str(), from),
            PathRule::Prefix(path) => {
                is_below(path.as_str(), from) || is_below(from.as_str(), path)
            }
        };
        if !possible {
            let message = "no path of this route begins with it: nothing changes";
            let help = "the rewrite sees the whole path, that of the route included";
            self.error_at(fields, key, message, Some(help.into()));
        }
    }

    fn error_at(
        &mut self,
        fields: &Fields<'_, '_>,
        key: &str,
        message: &str,
        help: Option<String>,
    ) {
        let pos = fields.get(key).map_or(fields.pos, |node| node.pos);
        self.error(pos, &fields.at.key(key), message, help);
    }
}

/// Whether the path is the prefix or goes on with another segment, as routes match.
pub(in super::super) fn is_below(path: &str, prefix: &NormPath) -> bool {
    let stem = prefix.as_str().trim_end_matches('/');
    path.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether every path of the rule begins with the prefix.
pub(in super::super) fn covers(prefix: &NormPath, rule: &PathRule) -> bool {
    let (PathRule::Exact(path) | PathRule::Prefix(path)) = rule;
    is_below(path.as_str(), prefix)
}

/// `${name}` of `to` is a group, as no reference has this form: it is escaped, so that it is not
/// looked up.
fn groups_kept(node: &Node) -> Node {
    let Kind::Scalar(scalar) = &node.kind else { return node.clone() };
    let mut text = String::with_capacity(scalar.text.len());
    let mut rest = scalar.text.as_str();
    while let Some((before, after)) = rest.split_once("${") {
        text.push_str(before);
        let name = after.split_once('}').map_or("", |(name, _)| name);
        let group = !name.is_empty() && name.bytes().all(is_group_byte);
        if group && !before.ends_with('$') {
            text.push('$');
        }
        text.push_str("${");
        rest = after;
    }
    text.push_str(rest);
    Node { pos: node.pos, kind: Kind::Scalar(Scalar { text, span: scalar.span.clone() }) }
}

/// What a path becomes: an absolute path, whose `$1` and `${name}` are groups of the expression.
fn template(text: &str, regex: Option<&Regex>) -> Result<String, ValueError> {
    let error = |what: String| {
        ValueError::new("a path with groups of the expression", format!("{} {what}", quote(text)))
    };
    if !text.starts_with('/') {
        let help = format!("write {}", quote(&format!("/{text}")));
        return Err(error("does not start with `/`".into()).help(help));
    }
    if text.len() > MAX_TEMPLATE {
        return Err(error("is longer than 2048 characters".into()));
    }
    if text.contains(['?', '#']) {
        let help = "the query stays as it is: leave out `?` or `#` and what follows";
        return Err(error("is no path".into()).help(help));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(error("is no path: it is visible ASCII".into()).help("write `%20` and so on"));
    }
    // The path for groups that are a plain word.
    let mut sample = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        sample.push_str(before);
        rest = match after.strip_prefix('$') {
            Some(after) => {
                sample.push('$');
                after
            }
            None => {
                let (group, after) = group(after).ok_or_else(|| {
                    error("has a `$` without a group".into()).help("a literal `$` is `$$`")
                })?;
                check_group(group, regex).map_err(|(what, help)| error(what).help(help))?;
                sample.push('x');
                after
            }
        };
    }
    sample.push_str(rest);
    match normalise(sample.as_bytes()) {
        Ok(normal) if *normal == *sample.as_bytes() => Ok(text.to_owned()),
        Ok(_) => Err(error("is not in its normal form".into())
            .help("no `//`, no `.` and `..` segments, no `%xx` of what needs none")),
        Err(why) => Err(error(format!("is no path: {why}"))),
    }
}

/// The group's name after a `$`, as crate `regex` reads it, and what follows.
fn group(text: &str) -> Option<(&str, &str)> {
    if let Some(braced) = text.strip_prefix('{') {
        return braced.split_once('}').filter(|(name, _)| !name.is_empty());
    }
    let end = text.bytes().position(|byte| !is_group_byte(byte)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(name, _)| !name.is_empty())
}

fn check_group(name: &str, regex: Option<&Regex>) -> Result<(), (String, String)> {
    let Some(regex) = regex.map(Regex::get) else { return Ok(()) };
    let exists = |name: &str| match name.parse::<usize>() {
        Ok(number) => number < regex.captures_len(),
        Err(_) => regex.capture_names().flatten().any(|known| known == name),
    };
    if exists(name) {
        return Ok(());
    }
    let what = format!("names the group {}, which the expression does not have", quote(name));
    let longest = (1..name.len()).rev().filter_map(|end| name.split_at_checked(end));
    if let Some((group, after)) = longest.into_iter().find(|(start, _)| exists(start)) {
        return Err((what, format!("write `${{{group}}}{after}`")));
    }
    let names = regex.capture_names().enumerate().skip(1).map(|(number, name)| match name {
        Some(name) => format!("`${{{name}}}`"),
        None => format!("`${number}`"),
    });
    let names: Vec<String> = names.take(8).collect();
    let help = match names.len() {
        0 => "it has no groups: write `(..)` around what is kept".to_owned(),
        _ => format!("it has {}", names.join(", ")),
    };
    Err((what, help))
}

fn is_group_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

const HELP: &str = "write `{ strip_prefix: /a }`, `{ prefix: /a, to: /b }` or `{ regex: \"^/u/(.*)$\", to: \"/users/$1\" }`";
const KINDS: &[&str] = &["strip_prefix", "prefix", "regex"];
const MAX_TEMPLATE: usize = 2048;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, regex: &str) -> Result<String, Option<String>> {
        template(text, Some(&Regex::parse(regex).unwrap())).map_err(|why| why.help)
    }

    #[test]
    fn whole_segments() {
        let path = |text| NormPath::parse(text).unwrap();
        for (below, prefix) in
            [("/a", "/a"), ("/a/", "/a"), ("/a/b", "/a"), ("/a/b", "/a/"), ("/a", "/"), ("/", "/")]
        {
            assert!(is_below(below, &path(prefix)), "{below} {prefix}");
        }
        for (other, prefix) in [("/ab", "/a"), ("/", "/a"), ("/b/a", "/a"), ("/A", "/a")] {
            assert!(!is_below(other, &path(prefix)), "{other} {prefix}");
        }
    }

    #[test]
    fn groups_of_a_template_exist() {
        let regex = "^/u/([^/]+)/(?<rest>.*)$";
        for good in ["/", "/$1", "/${1}x/$rest", "/a/$0", "/${rest}", "/$$1", "/a.$1", "/$2"] {
            assert_eq!(check(good, regex), Ok(good.to_owned()));
        }
        for (bad, help) in [
            ("/$3", "it has `$1`, `${rest}`"),
            ("/${name}", "it has `$1`, `${rest}`"),
            ("/$1x", "write `${1}x`"),
            ("/$rest_of", "write `${rest}_of`"),
            ("/$", "a literal `$` is `$$`"),
            ("/${1", "a literal `$` is `$$`"),
            ("/${}", "a literal `$` is `$$`"),
            ("/$-", "a literal `$` is `$$`"),
            ("$1", "write `/$1`"),
            ("/a?x=$1", "the query stays as it is: leave out `?` or `#` and what follows"),
            ("/a $1", "write `%20` and so on"),
        ] {
            assert_eq!(check(bad, regex), Err(Some(help.to_owned())), "{bad}");
        }
        for bad in ["//$1", "/../$1", "/a/./$1", "/%41", "/a%2F$1", "/\\$1", "/%$1"] {
            assert!(check(bad, regex).is_err(), "{bad}");
        }
        let none = "it has no groups: write `(..)` around what is kept";
        assert_eq!(check("/$1", "^/a"), Err(Some(none.into())));
        assert!(check(&format!("/{}", "a".repeat(MAX_TEMPLATE - 1)), "a").is_ok());
        assert!(check(&format!("/{}", "a".repeat(MAX_TEMPLATE)), "a").is_err());
    }

    proptest! {
        /// Our reading of the template is that of the crate: with every group a word, what it
        /// makes is a path.
        #[test]
        fn what_is_accepted_expands_to_a_path(text in "/[a-c/$12{}n_%0]{0,12}") {
            let regex = Regex::parse("^/(x)/(?<n>x)$").unwrap();
            if template(&text, Some(&regex)).is_ok() {
                let mut out = Vec::new();
                let groups = regex.get().captures(b"/x/x").unwrap();
                groups.expand(text.replace("$0", "$1").as_bytes(), &mut out);
                let normal = normalise(&out).unwrap().into_owned();
                prop_assert_eq!(normal, out);
            }
        }
    }
}
