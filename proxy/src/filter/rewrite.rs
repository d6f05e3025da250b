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

/// The path in its normal form, if it is one.
fn finish(path: Vec<u8>) -> Result<Vec<u8>, Rejection> {
    let foreign = |b: &u8| *b <= b' ' || matches!(b, b'?' | b'#' | 0x7f);
    if path.len() > MAX_PATH || path.iter().any(foreign) {
        return Err(REFUSED);
    }
    let changed = match normalise(&path).map_err(|_| REFUSED)? {
        Cow::Borrowed(_) => None,
        Cow::Owned(normal) => Some(normal),
    };
    Ok(changed.unwrap_or(path))
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
