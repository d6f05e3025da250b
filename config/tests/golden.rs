//! Broken files and the exact reports about them. `UPDATE_GOLDEN=1` rewrites the reports.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use config::error::render;
use config::{Environment, Level, merge, parse};

struct Fixed;

impl Environment for Fixed {
    fn var(&self, name: &str) -> Option<String> {
        match name {
            "TOKEN" => Some("TOPSECRET".into()),
            "BROKEN" => Some("TOPSECRET\r\nwith a second line".into()),
            _ => None,
        }
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("/run/secrets/token") => Ok("TOPSECRET\n".into()),
            Some("/run/secrets/htpasswd") => {
                Ok("TOPSECRET:$2y$10$TOPSECRET\nops:{SHA}GpHWL3ymc5liWkNopqtdSjuqYHM=\n\nops:TOPSECRET\n".into())
            }
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
        }
    }

    /// Beside the golden files.
    fn read_registry(&self, path: &Path) -> io::Result<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let name = path.strip_prefix("/golden").unwrap_or(Path::new("none"));
        std::fs::read(dir.join(name))
            .map_err(|_| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }
}

/// What `check` would print about the file.
fn report(name: &str, text: &str) -> String {
    let candidate = match parse(name, text, &Fixed) {
        Ok(candidate) => candidate,
        Err(errors) => return format!("refused\n\n{}", errors.render(name, text)),
    };
    let accepted = merge(None, candidate);
    let mut out = String::from("accepted\n\n");
    for entry in &accepted.quarantined {
        let _ =
            writeln!(out, "quarantined: {:?} {} (line {})\n", entry.kind, entry.name, entry.line);
        out.push_str(&render(&entry.reasons, Level::Error, name, text));
    }
    for blocked in &accepted.blocked {
        let _ = writeln!(out, "blocked: {} {:?} by {}", blocked.host, blocked.path, blocked.route);
    }
    out.push_str(&render(&accepted.warnings, Level::Warning, name, text));
    let serving: Vec<&str> = accepted.routes.keys().map(|name| name.as_str()).collect();
    let _ = writeln!(out, "serving: {}", serving.join(", "));
    out
}

fn broken_files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 12, "golden files are missing");
    files
}

#[test]
fn reports_are_as_recorded() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    for path in broken_files() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let report = report(&name, &std::fs::read_to_string(&path).unwrap());
        let recorded = path.with_extension("txt");
        if update {
            std::fs::write(&recorded, &report).unwrap();
        } else if std::fs::read_to_string(&recorded).unwrap_or_default() != report {
            wrong.push(format!("{name}:\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "reports differ from tests/golden/*.txt:\n{}", wrong.join("\n"));
}

/// The files hold literal secrets (`hunter2`) and references to one (`TOPSECRET`).
#[test]
fn no_report_shows_a_secret() {
    let mut with_secrets = 0;
    for path in broken_files() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        with_secrets += usize::from(text.contains("hunter2") || text.contains("TOKEN"));
        let report = report(&name, &text);
        assert!(!report.contains("hunter2"), "{report}");
        assert!(!report.contains("TOPSECRET"), "{report}");
    }
    assert!(with_secrets >= 3);
}
