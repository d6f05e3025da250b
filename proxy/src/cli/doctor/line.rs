//! What is told: one line per thing looked at, for people and as JSON.

use serde::Serialize;

use crate::cli::certs::Output;
use crate::cli::out::tell;
use crate::cli::table::printable;
use crate::wording::counted;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// Serving goes on or may well; somebody should know.
    Warning,
    /// Serving, or the next renewal, fails by this.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What was looked at, one word.
    pub check: &'static str,
    pub level: Level,
    pub text: String,
    /// What to type or to change; `None` only where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Lines in the order of looking.
#[derive(Debug, Default)]
pub struct Report {
    pub lines: Vec<Line>,
}

impl Report {
    pub fn ok(&mut self, check: &'static str, text: impl Into<String>) {
        self.lines.push(Line { check, level: Level::Ok, text: text.into(), fix: None });
    }

    pub fn warn(&mut self, check: &'static str, text: impl Into<String>, fix: impl Into<String>) {
        self.add(check, Level::Warning, text.into(), Some(fix.into()));
    }

    pub fn error(&mut self, check: &'static str, text: impl Into<String>, fix: impl Into<String>) {
        self.add(check, Level::Error, text.into(), Some(fix.into()));
    }

    pub fn add(&mut self, check: &'static str, level: Level, text: String, fix: Option<String>) {
        self.lines.push(Line { check, level, text, fix });
    }

    pub fn count(&self, level: Level) -> usize {
        self.lines.iter().filter(|line| line.level == level).count()
    }

    pub fn print(&self, output: Output) -> Result<(), serde_json::Error> {
        if output == Output::Json {
            let summary = serde_json::json!({
                "errors": self.count(Level::Error),
                "warnings": self.count(Level::Warning),
                "lines": self.lines,
            });
            tell!("{}", serde_json::to_string_pretty(&summary)?);
            return Ok(());
        }
        for line in &self.lines {
            tell!("{:<8} {:<11} {}", line.level.word(), line.check, printable(&line.text));
            if let Some(fix) = &line.fix {
                tell!("{:21}fix: {}", "", printable(fix));
            }
        }
        tell!(
            "{} ok, {}, {}",
            self.count(Level::Ok),
            counted(self.count(Level::Warning), "warning", "warnings"),
            counted(self.count(Level::Error), "error", "errors")
        );
        Ok(())
    }
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

#[cfg(test)]
impl Report {
    /// The one line of a test.
    pub fn only(&self) -> &Line {
        assert_eq!(self.lines.len(), 1, "{:?}", self.lines);
        &self.lines[0]
    }
}
