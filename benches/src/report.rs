//! What every report says first (when, on what machine, which versions) and how it is written.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Result;

#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// UTC, RFC 3339.
    pub date: String,
    pub kernel: String,
    pub cpu: String,
    pub cores: usize,
    /// Of the work tree the benchmark was started in; empty outside a repository.
    pub commit: String,
}

impl Machine {
    pub fn read() -> Result<Self> {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0)?;
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        Ok(Self {
            date: now.format(&Rfc3339)?,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cpu: model.and_then(|l| l.split_once(": ")).map_or("unknown", |(_, m)| m).to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            commit: first_line("git", &["describe", "--always", "--dirty"]).unwrap_or_default(),
        })
    }

    pub fn markdown(&self) -> String {
        let Self { date, kernel, cpu, cores, commit } = self;
        let commit = if commit.is_empty() { String::new() } else { format!(" · commit {commit}") };
        format!("{date} · Linux {kernel} · {cores} cores, {cpu}{commit}\n")
    }
}

/// First line that `program` prints, on either stream (nginx and wrk use the second). Its exit
/// code is not looked at: wrk's is 1 for `-v`.
pub fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let line = String::from_utf8_lossy(&text).lines().next()?.trim().to_owned();
    (!line.starts_with("fatal:")).then_some(line)
}

/// Writes `NAME.md` and `NAME.json` into `dir`.
pub fn write(dir: &Path, name: &str, markdown: &str, json: &impl Serialize) -> Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join(format!("{name}.md")), markdown)?;
    fs::write(dir.join(format!("{name}.json")), serde_json::to_string_pretty(json)? + "\n")?;
    Ok(())
}

/// Three significant digits, thousands separated: `8.43`, `12.1`, `306`, `87,898`.
pub fn number(value: f64) -> String {
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    let text = format!("{value:.digits$}");
    if digits > 0 {
        return text;
    }
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i > 0 && (text.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_separators() {
        let cases = [(8.426, "8.43"), (12.14, "12.1"), (9.999, "10.0"), (99.96, "100")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(87_898.4), "87,898");
        assert_eq!(number(1_000_000.0), "1,000,000");
    }
}
