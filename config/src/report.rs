//! Findings as a person reads them: place, excerpt with a caret, advice.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use crate::error::{Diagnostic, Level};
use crate::node::{self, Kind, Node};

pub(crate) fn render(
    findings: &[Diagnostic],
    level: Level,
    file_name: &str,
    source: &str,
) -> String {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let lines = Lines::new(source);
    let mut out = String::new();
    for finding in findings {
        one(&mut out, finding, level, file_name, &lines);
        out.push('\n');
    }
    out
}

fn one(out: &mut String, finding: &Diagnostic, level: Level, file_name: &str, lines: &Lines<'_>) {
    let level = match level {
        Level::Error => "error",
        Level::Warning => "warning",
    };
    let width = finding.line.to_string().len();
    let pad = " ".repeat(width);
    let _ = writeln!(out, "{level}: {}", finding.message);
    let shown = finding.file.as_deref().unwrap_or(file_name);
    let _ = match (finding.line, finding.column) {
        (0, _) => writeln!(out, "{pad}--> {shown}"),
        (line, 0) => writeln!(out, "{pad}--> {shown}:{line}"),
        (line, column) => writeln!(out, "{pad}--> {shown}:{line}:{column}"),
    };
    let here = finding.file.is_none();
    if let Some((text, caret)) = lines.excerpt(finding.line, finding.column).filter(|_| here) {
        let _ = writeln!(out, "{pad} |");
        let _ = writeln!(out, "{} | {text}", finding.line);
        if caret.is_empty() {
            let _ = writeln!(out, "{pad} |");
        } else {
            let _ = writeln!(out, "{pad} | {caret}");
        }
    }
    if !finding.at.is_empty() {
        let _ = writeln!(out, "{pad} = at: {}", finding.at);
    }
    if let Some(help) = &finding.help {
        let _ = writeln!(out, "{pad} = help: {help}");
    }
}

/// The lines of a source whose secrets are masked.
struct Lines<'s> {
    lines: Vec<&'s str>,
    /// Characters to mask per 0-based line. `None`: the source is no YAML, so that only a guess
    /// is possible.
    secrets: Option<BTreeMap<usize, Vec<Range<usize>>>>,
}

impl<'s> Lines<'s> {
    fn new(source: &'s str) -> Self {
        let secrets = node::read(source).ok().map(|tree| {
            let mut spans = Vec::new();
            find_secrets(&tree, "", false, &mut spans);
            by_line(source, &spans)
        });
        Lines { lines: source.split('\n').collect(), secrets }
    }

    /// The line as it may be shown, and the line of carets below it.
    fn excerpt(&self, line: u64, column: u64) -> Option<(String, String)> {
        let index = usize::try_from(line).ok()?.checked_sub(1)?;
        let text = self.lines.get(index)?.trim_end_matches('\r');
        let text = match &self.secrets {
            Some(secrets) => mask(text, secrets.get(&index).map_or(&[], Vec::as_slice)),
            None => self.guess(index, text),
        };
        let chars: Vec<char> = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let caret = usize::try_from(column).ok().and_then(|column| column.checked_sub(1));
        let caret = caret.filter(|caret| *caret <= chars.len());
        // A line of a minified file is cut around the finding.
        let from = caret.unwrap_or(0).saturating_sub(60);
        let cut = if chars.len() <= 120 { &chars[..] } else { &chars[from.min(chars.len())..] };
        let from = if chars.len() <= 120 { 0 } else { from };
        let shown: String = cut.iter().take(120).collect();
        let carets = caret.map_or(String::new(), |caret| {
            let marks = token_length(chars.get(caret..).unwrap_or_default()).min(60);
            format!("{}{}", " ".repeat(caret - from), "^".repeat(marks))
        });
        Some((shown.trim_end().to_owned(), carets))
    }

    /// The line of a file that is no YAML: what follows a word that may announce a secret is
    /// masked, and so is everything under `set:` and `add:`.
    fn guess(&self, index: usize, text: &str) -> String {
        let indent = |text: &str| text.len() - text.trim_start().len();
        let parent = self
            .lines
            .iter()
            .take(index)
            .rev()
            .find(|above| !above.trim().is_empty() && indent(above) < indent(text));
        let under_edit = parent.is_some_and(|parent| {
            let parent = parent.trim();
            parent.starts_with("set:") || parent.starts_with("add:")
        });
        let lower = text.to_ascii_lowercase();
        let inline_edit =
            ["set:", "add:"].iter().filter_map(|word| Some(lower.find(word)? + word.len()));
        let word = SECRET_WORDS.iter().filter_map(|word| Some(lower.find(word)? + word.len()));
        let value = lower.find(':').filter(|_| under_edit).map(|colon| colon + 1);
        // `to_ascii_lowercase` keeps byte positions.
        match inline_edit.chain(word).chain(value).min() {
            Some(from) if text.get(from..).is_some_and(|rest| !rest.trim().is_empty()) => {
                format!("{}{MASK}", text.get(..from).unwrap_or_default())
            }
            _ => text.to_owned(),
        }
    }
}

/// Scalars that hold a value no report shows: header values, and values of keys that sound
/// secret. A value that is only a reference is no secret itself.
fn find_secrets(node: &Node, parent: &str, secret: bool, spans: &mut Vec<Range<usize>>) {
    match &node.kind {
        Kind::Scalar(scalar)
            if has_user_info(&scalar.text)
                || has_hash(&scalar.text)
                || (secret && !is_reference(&scalar.text)) =>
        {
            spans.push(scalar.span.clone());
        }
        Kind::List(items) => {
            items.iter().for_each(|item| find_secrets(item, parent, secret, spans))
        }
        Kind::Map(pairs) => {
            for (key, value) in pairs {
                let header_values =
                    matches!(key.text.as_str(), "set" | "add" | "append" | "replace");
                let lower = key.text.to_ascii_lowercase();
                let sounds_secret =
                    lower == "token" || SECRET_WORDS.iter().any(|word| lower.contains(word));
                // The name of a cookie, not its value.
                let is_name = (parent, &*key.text) == ("sticky", "cookie");
                let secret = secret || header_values || (sounds_secret && !is_name);
                find_secrets(value, &key.text, secret, spans);
            }
        }
        _ => {}
    }
}

/// `https://user:password@host/`.
fn has_user_info(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| {
        rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
    })
}

/// A line of an htpasswd file, wherever it stands.
fn has_hash(text: &str) -> bool {
    [":$1$", ":$2", ":$5$", ":$6$", ":$apr1$", ":$argon2", ":{SHA", ":{SSHA"]
        .iter()
        .any(|scheme| text.contains(scheme))
}

fn is_reference(text: &str) -> bool {
    text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).is_some_and(|inner| {
        !inner.contains(['{', '}']) && crate::interpolate::is_interpolated(text)
    })
}

/// Byte ranges of the source as character ranges of its lines.
fn by_line(source: &str, spans: &[Range<usize>]) -> BTreeMap<usize, Vec<Range<usize>>> {
    let mut out: BTreeMap<usize, Vec<Range<usize>>> = BTreeMap::new();
    let mut spans: Vec<&Range<usize>> = spans.iter().collect();
    spans.sort_by_key(|span| span.start);
    let mut spans = spans.into_iter().peekable();
    let mut start = 0;
    for (index, line) in source.split('\n').enumerate() {
        let end = start + line.len();
        while let Some(span) = spans.next_if(|span| span.end <= start) {
            let _ = span;
        }
        let mut here = spans.clone();
        while let Some(span) = here.next_if(|span| span.start < end.max(start + 1)) {
            let from = span.start.max(start) - start;
            let to = span.end.min(end).saturating_sub(start);
            let chars = |bytes: usize| line.get(..bytes).map_or(0, |text| text.chars().count());
            if from < to {
                out.entry(index).or_default().push(chars(from)..chars(to));
            }
        }
        start = end + 1;
    }
    out
}

/// Masks from the right, so that positions on the left stay true. What stands right of a mask
/// moves; the caret may then be off, which is better than a leak.
fn mask(line: &str, ranges: &[Range<usize>]) -> String {
    let mut chars: Vec<char> = line.chars().collect();
    for range in ranges.iter().rev() {
        let end = range.end.min(chars.len());
        if range.start < end {
            chars.splice(range.start..end, MASK.chars());
        }
    }
    chars.into_iter().collect()
}

/// How many carets a finding gets: a word, or a quoted text.
fn token_length(rest: &[char]) -> usize {
    let Some(first) = rest.first() else { return 1 };
    if let '"' | '\'' = first {
        let end = rest.iter().skip(1).position(|c| c == first);
        return end.map_or(1, |end| end + 2);
    }
    let stop = |c: &char| c.is_whitespace() || ",]}".contains(*c);
    let mut end = rest.iter().position(stop).unwrap_or(rest.len());
    if end > 1 && rest.get(end - 1) == Some(&':') {
        end -= 1;
    }
    end.max(1)
}

const MASK: &str = "[masked]";

/// Parts of key and header names that announce a secret.
const SECRET_WORDS: &[&str] = &[
    "authorization",
    "password",
    "passwd",
    "secret",
    "token:",
    "_token",
    "-token",
    "api-key",
    "api_key",
    "apikey",
    "cookie",
    "credential",
    "hmac",
    "bearer",
    "basic_auth",
    "basicauth",
    "auth_basic",
    "htpasswd",
    "email",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(source: &str, line: u64, column: u64) -> (String, String) {
        Lines::new(source).excerpt(line, column).unwrap()
    }

    #[test]
    fn carets_cover_a_word_or_a_quoted_text() {
        let line = |text: &str, column| excerpt(text, 1, column).1;
        assert_eq!(line("hosts: x", 1), "^^^^^");
        assert_eq!(line("a: [bb, c]", 5), "    ^^");
        assert_eq!(line("a: \"b c\" d", 4), "   ^^^^^");
        assert_eq!(line("é: ü", 4), "   ^");
        assert_eq!(line("a:", 3), "  ^");
        assert_eq!(line("a: b", 0), "");
        assert_eq!(line("a: b", 99), "");
    }

    #[test]
    fn long_lines_are_cut_around_the_finding() {
        let source = format!("a: [{} needle, {}]", "x, ".repeat(1000), "y, ".repeat(1000));
        let column = source.find("needle").unwrap() as u64 + 1;
        let (text, caret) = excerpt(&source, 1, column);
        assert!(text.contains("needle") && text.chars().count() <= 120);
        assert_eq!(text.find("needle"), caret.find('^'));
    }

    #[test]
    fn lines_that_do_not_exist_have_no_excerpt() {
        for (line, column) in [(0, 0), (3, 1), (u64::MAX, u64::MAX)] {
            assert_eq!(Lines::new("a: b\n").excerpt(line, column), None);
        }
    }

    #[test]
    fn literal_secrets_are_masked() {
        for source in [
            "headers: { request: { set: { x-a: \"hunter2\" } } }",
            "headers: { request: { add: { x-a: [\"hunter2\"] } } }",
            "add:\n  x-a: hunter2",
            "set:\n  x-a: >\n    hunter2\n    hunter2",
            "set:\n  x-a: \"one\n    hunter2\"",
            "admin: { password: hunter2 }",
            "basic_auth: 'hunter2'",
            "token: hunter2",
            "cookie: hunter2",
            "set: { sticky: { cookie: hunter2 } }",
            // No YAML: only a guess.
            "{\nset:\n  # why\n  x-a: hunter2",
            "[set: { x-a: hunter2 }",
            "[Authorization: hunter2",
        ] {
            for line in 1..=source.lines().count() as u64 {
                let (text, _) = excerpt(source, line, 1);
                assert!(!text.contains("hunter2"), "{source}: {text}");
            }
        }
        let name = "sticky: { cookie: sid }";
        assert_eq!(excerpt(name, 1, 1).0, name);
        let reference = "set: { x-a: \"${env:TOKEN}\" }";
        assert_eq!(excerpt(reference, 1, 1).0, reference);
    }
}
