//! What is wrong, where, and what to write instead.

use std::fmt;
use std::sync::Arc;

use crate::report;

/// One finding in a config file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnostic {
    /// `routes.api.hosts[0]`.
    pub at: String,
    /// 1-based; 0 where unknown (file not readable).
    pub line: u64,
    /// 1-based, in characters; 0 where unknown.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    /// The file that line and column belong to; `None`: the config file.
    pub file: Option<Arc<str>>,
}

/// All findings that refuse a whole file. Never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors(pub Vec<Diagnostic>);

/// How a report introduces its findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warning,
}

impl Errors {
    /// A report for people, with an excerpt of `source` for each finding; ends with a count.
    /// Secrets written into the file itself are masked.
    pub fn render(&self, file_name: &str, source: &str) -> String {
        let mut out = render(&self.0, Level::Error, file_name, source);
        let count = self.0.len();
        out.push_str(&match count {
            1 => format!("{file_name}: 1 error\n"),
            _ => format!("{file_name}: {count} errors\n"),
        });
        out
    }
}

/// A report of findings of one level, each followed by an empty line.
pub fn render(findings: &[Diagnostic], level: Level, file_name: &str, source: &str) -> String {
    report::render(findings, level, file_name, source)
}

/// `12:5: unknown key `upstrem` (routes.api.upstrem); did you mean `upstream`?`: for one log line.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:{}", if self.line == 0 { " " } else { "" })?;
        }
        match (self.line, self.column) {
            (0, _) => {}
            (line, 0) => write!(f, "{line}: ")?,
            (line, column) => write!(f, "{line}:{column}: ")?,
        }
        f.write_str(&self.message)?;
        if !self.at.is_empty() {
            write!(f, " ({})", self.at)?;
        }
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// Text of the file in a message: control characters escaped, at most 64 characters.
pub(crate) fn write_escaped(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (n, c) in text.chars().enumerate() {
        if n == 64 {
            return f.write_str("…");
        }
        if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
    }
    Ok(())
}
