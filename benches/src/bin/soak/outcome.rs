//! What a part of the soak found: rows with or without a criterion, and notes.

use std::fmt::Write as _;
use std::path::Path;

use benches::Result;
use benches::report::{self, Machine};
use serde::Serialize;

#[derive(Serialize)]
pub struct Outcome {
    machine: Machine,
    title: &'static str,
    seconds: u64,
    met: bool,
    rows: Vec<Row>,
    /// Evidence, one line or a few each.
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    what: String,
    value: String,
    criterion: String,
    /// `None`: measured only.
    met: Option<bool>,
}

impl Outcome {
    pub fn new(title: &'static str) -> Result<Self> {
        let (rows, notes) = (Vec::new(), Vec::new());
        Ok(Self { machine: Machine::read()?, title, seconds: 0, met: true, rows, notes })
    }

    pub fn measured(&mut self, what: impl Into<String>, value: impl ToString) {
        let (what, value) = (what.into(), value.to_string());
        self.rows.push(Row { what, value, criterion: String::new(), met: None });
    }

    pub fn require(
        &mut self,
        what: impl Into<String>,
        value: impl ToString,
        criterion: impl Into<String>,
        met: bool,
    ) {
        let (what, value, criterion) = (what.into(), value.to_string(), criterion.into());
        self.met &= met;
        self.rows.push(Row { what, value, criterion, met: Some(met) });
    }

    /// Requires that nothing is counted.
    pub fn require_none(&mut self, what: impl Into<String>, count: u64) {
        self.require(what, count, "0", count == 0);
    }

    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub fn met(&self) -> bool {
        self.met
    }

    /// Writes `NAME.{md,json}` and prints the first.
    pub fn finish(mut self, dir: &Path, name: &str, seconds: u64) -> Result<bool> {
        self.seconds = seconds;
        let markdown = self.markdown();
        report::write(dir, name, &markdown, &self)?;
        println!("{markdown}");
        Ok(self.met)
    }

    fn markdown(&self) -> String {
        let word = if self.met { "met" } else { "**not met**" };
        let mut out = format!("# {}\n\n{}\n", self.title, self.machine.markdown());
        let _ = writeln!(out, "{} s; criteria {word}.\n", self.seconds);
        out += "| what | value | criterion |\n|---|---|---|\n";
        for Row { what, value, criterion, met } in &self.rows {
            let criterion = match met {
                None => "–".to_owned(),
                Some(true) => format!("{criterion}: met"),
                Some(false) => format!("{criterion}: **not met**"),
            };
            let _ = writeln!(out, "| {what} | {value} | {criterion} |");
        }
        for note in &self.notes {
            let _ = write!(out, "\n```\n{}\n```\n", note.trim_end());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_criterion_not_met_is_all_not_met() {
        let mut outcome = Outcome::new("Soak").unwrap();
        outcome.measured("time", "5 s");
        outcome.require_none("errors", 0);
        assert!(outcome.met());
        outcome.require_none("lost", 2);
        outcome.require("more", 3, "≤ 4", true);
        assert!(!outcome.met());
        let text = outcome.markdown();
        assert!(text.contains("| lost | 2 | 0: **not met** |"), "{text}");
        assert!(text.contains("| time | 5 s | – |"), "{text}");
        assert!(text.contains("criteria **not met**"), "{text}");
    }
}
