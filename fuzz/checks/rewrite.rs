//! Rewritten paths: valid and normal again, bounded, and what a slow reading of the rule gives.
//!
//! An input is a rule and a path, each on its line. The rule is `strip /from`, `replace /from /to`
//! or `regex EXPRESSION TO`, with tabs between its parts.

use config::model;
use config::value::{NormPath, Regex, normalise};
use proxy::filter::rewrite::{MAX_PATH, Rewrite};
use proxy::request::cause::Cause;

pub fn check(bytes: &[u8]) {
    let Some((rule, path)) = std::str::from_utf8(bytes).ok().and_then(|t| t.split_once('\n'))
    else {
        return;
    };
    // What is asked to be rewritten was admitted and normalised before.
    if !is_target(path.as_bytes()) || path.len() > MAX_PATH {
        return;
    }
    let (Some(rule), Ok(path)) = (parse(rule), normalise(path.as_bytes())) else { return };
    let expected = expected(&rule, &path);
    match Rewrite::compile(&rule).apply(&path) {
        Ok(Some(new)) => {
            assert!(is_target(&new) && new.len() <= MAX_PATH);
            let normal = normalise(&new).unwrap_or_else(|e| panic!("{e}: {new:?}"));
            assert_eq!(normal, &new[..], "not the normal form");
            let expected = expected.unwrap_or_else(|| panic!("it stays"));
            assert_eq!(normalise(&expected).as_deref(), Ok(&new[..]));
            assert!(!leads_out(&expected), "{expected:?}");
        }
        Ok(None) => assert_eq!(expected, None),
        Err(rejection) => {
            assert_eq!((rejection.cause, rejection.detail), (Cause::BadRequest, "rewrite"));
            let expected = expected.unwrap_or_else(|| panic!("it stays"));
            let wrong = expected.len() > MAX_PATH || !is_target(&expected) || leads_out(&expected);
            assert!(wrong || normalise(&expected).is_err(), "refused without need");
        }
    }
}

/// Bytes that a request's path may be of (http1/head.rs), the `?` of a query left out.
fn is_target(path: &[u8]) -> bool {
    !path.iter().any(|b| *b <= b' ' || matches!(b, b'#' | b'?' | 0x7f))
}

fn leads_out(path: &[u8]) -> bool {
    let text = String::from_utf8_lossy(path).to_ascii_lowercase().replace("%2e", ".");
    text.split('/').any(|segment| segment == "." || segment == "..")
}

fn parse(rule: &str) -> Option<model::Rewrite> {
    let path = |text: &str| NormPath::parse(text).ok();
    let parts: Vec<&str> = rule.split('\t').collect();
    match parts[..] {
        ["strip", prefix] => Some(model::Rewrite::StripPrefix(path(prefix)?)),
        ["replace", from, to] => {
            Some(model::Rewrite::ReplacePrefix { from: path(from)?, to: path(to)? })
        }
        // Longer ones only cost time.
        ["regex", expression, to] if expression.len() <= 64 && to.len() <= 256 => {
            let regex = Regex::parse(expression).ok()?;
            Some(model::Rewrite::Regex { regex, to: to.to_owned() })
        }
        _ => None,
    }
}

/// The path before it is normalised; `None`: it stays.
fn expected(rule: &model::Rewrite, path: &[u8]) -> Option<Vec<u8>> {
    match rule {
        model::Rewrite::StripPrefix(prefix) => by_segments(prefix.as_str(), "", path),
        model::Rewrite::ReplacePrefix { from, to } => by_segments(from.as_str(), to.as_str(), path),
        model::Rewrite::Regex { regex, to } => {
            let found = regex.get().captures(path)?;
            let mut new = Vec::new();
            found.expand(to.as_bytes(), &mut new);
            Some(new)
        }
    }
}

fn by_segments(from: &str, to: &str, path: &[u8]) -> Option<Vec<u8>> {
    let named = |p: &str| -> Vec<Vec<u8>> {
        p.split('/').filter(|s| !s.is_empty()).map(|s| s.as_bytes().to_vec()).collect()
    };
    let segments: Vec<Vec<u8>> = path.split(|b| *b == b'/').skip(1).map(<[u8]>::to_vec).collect();
    let from = named(from);
    let rest = segments.strip_prefix(&from[..])?;
    let whole = [vec![Vec::new()], named(to), rest.to_vec()].concat();
    let new = whole.join(&b'/');
    Some(if new.is_empty() { b"/".to_vec() } else { new })
}
