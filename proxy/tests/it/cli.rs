//! The command line: exit codes, and what `check` says.

use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;

use crate::harness::edge::command;
use crate::harness::{Conf, Lab};

struct Check {
    lab: Arc<Lab>,
    path: PathBuf,
}

impl Check {
    fn new(text: impl AsRef<str>) -> Check {
        let lab = Lab::new();
        let path = lab.write("edge.yaml", text.as_ref());
        Check { lab, path }
    }

    fn run(&self) -> Output {
        command(&["check", "--config", self.path.to_str().unwrap()])
    }
}

fn all_text(output: &Output) -> String {
    let text = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8(text).unwrap()
}

fn good() -> String {
    let conf = Conf::new(
        "routes:\n  app: { hosts: [app.openclaw.example], respond: { status: 200, body: x } }\n\
         \x20 api: { hosts: [app.openclaw.example], path: /api, respond: { status: 200, body: y } }\n",
    );
    conf.render(Lab::new().path())
}

#[test]
fn version_and_help() {
    let output = command(&["version"]);
    assert_eq!(output.status.code(), Some(0));
    let text = all_text(&output);
    assert!(text.contains("openclaw-edge") && text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    let output = command(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["run", "check", "certs", "acme", "demo", "version", "Usage"] {
        assert!(text.contains(word), "{word} is missing in {text}");
    }
    for subcommand in ["run", "check", "demo"] {
        let output = command(&[subcommand, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(!output.stdout.is_empty());
    }
    assert!(all_text(&command(&["run", "--help"])).contains("OPENCLAW_EDGE_CONFIG"));
}

#[test]
fn usage_errors_are_2() {
    for arguments in [&[][..], &["nonsense"], &["run", "--nonsense"], &["check", "--config"]] {
        let output = command(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", all_text(&output));
    }
}

#[test]
fn a_good_file() {
    let check = Check::new(good());
    let output = check.run();
    assert_eq!(output.status.code(), Some(0), "{}", all_text(&output));
    assert!(!check.lab.path().join("state").exists(), "a check changes nothing");
}

#[test]
fn every_error_at_once_with_place_and_suggestion() {
    let text = good()
        .replace("path: /api", "pth: /api")
        .replace("status: 200, body: x", "status: 9999, body: x")
        .replace("workers: 1", "workers: many");
    let check = Check::new(&text);
    let output = check.run();
    assert_eq!(output.status.code(), Some(1));
    let told = all_text(&output);
    let place = |part: &str| {
        let line = text.lines().position(|line| line.contains(part)).unwrap();
        let column = text.lines().nth(line).unwrap().find(part).unwrap();
        format!("{}:{}:{}", check.path.display(), line + 1, column + 1)
    };
    assert!(told.contains(&place("pth:")), "{told}");
    assert!(told.contains("did you mean `path`"), "{told}");
    assert!(told.contains(&place("9999")), "{told}");
    assert!(told.contains(&place("many")), "{told}");
    assert!(told.contains("pth: /api"), "the line is shown: {told}");
}

#[test]
fn a_file_that_is_not_there_or_not_yaml() {
    let output = command(&["check", "--config", "/nonexistent/edge.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(all_text(&output).contains("/nonexistent/edge.yaml"));
    for text in ["", "- a\n", "a: [", "\0", "a: &x [*x]\n", "version: 1\nversion: 1\n"] {
        let output = Check::new(text).run();
        assert_eq!(output.status.code(), Some(1), "{text:?}: {}", all_text(&output));
        assert!(!all_text(&output).contains("panicked"), "{text:?}");
    }
    let output = command(&["run", "--config", "/nonexistent/edge.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{}", all_text(&output));
}

#[test]
fn tests_in_the_file_gate_the_check() {
    let good_tests = "tests:\n\
        \x20 - { request: \"GET https://app.openclaw.example/x\", route: app }\n\
        \x20 - { request: \"POST https://app.openclaw.example/api/y\", route: api }\n\
        \x20 - { request: \"GET https://other.openclaw.example/\", status: 404 }\n";
    let output = Check::new(format!("{}{good_tests}", good())).run();
    assert_eq!(output.status.code(), Some(0), "{}", all_text(&output));
    let bad = good_tests.replace("route: api", "route: app");
    let text = format!("{}{bad}", good());
    let output = Check::new(&text).run();
    assert_eq!(output.status.code(), Some(1));
    let told = all_text(&output);
    let line = text.lines().position(|line| line.contains("/api/y")).unwrap() + 1;
    assert!(told.contains("/api/y") && told.contains(&format!(":{line}")), "{told}");
    assert!(told.contains("api"), "says what happened instead: {told}");
}

#[test]
fn secrets_are_never_printed() {
    let lab = Lab::new();
    let secret = lab.write("secret", "hush\u{1}hush");
    let rule = format!(
        "headers: {{ request: {{ set: {{ X-Key: \"${{file:{}}}\" }} }} }}, respond",
        secret.display()
    );
    let output = Check::new(good().replacen("respond", &rule, 1)).run();
    assert_eq!(output.status.code(), Some(1), "a control byte is no header value");
    assert!(!all_text(&output).contains("hush"), "{}", all_text(&output));
}

#[test]
fn the_environment_names_the_file_and_values() {
    let lab = Lab::new();
    let text = good().replace("app.openclaw.example", "\"${env:EDGE_IT_HOST}\"");
    let path = lab.write("edge.yaml", text);
    let run = |host: Option<&str>| {
        let mut command = std::process::Command::new(crate::harness::edge::BINARY);
        command.arg("check").env("OPENCLAW_EDGE_CONFIG", &path);
        if let Some(host) = host {
            command.env("EDGE_IT_HOST", host);
        }
        command.output().unwrap()
    };
    assert_eq!(run(Some("app.openclaw.example")).status.code(), Some(0));
    let output = run(None);
    assert_eq!(output.status.code(), Some(1));
    assert!(all_text(&output).contains("EDGE_IT_HOST"));
}

#[test]
fn the_examples_are_good() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config/examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if text.contains("${file:") || text.contains("${env:") {
            continue; // needs what this machine does not have; config's own tests decode it
        }
        let output = command(&["check", "--config", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}: {}", path.display(), all_text(&output));
        seen += 1;
    }
    assert!(seen > 0, "no example was checked");
}

#[test]
fn metrics_are_described_as_the_page_has_it() {
    let output = command(&["metrics"]);
    assert_eq!(output.status.code(), Some(0));
    let page = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/METRICS.md")).unwrap();
    assert!(output.stdout == page, "run `cargo run -p proxy -- metrics >proxy/METRICS.md`");
}

/// They are made from the command line: each command is there, and a shell takes them.
#[test]
fn completions_and_man_pages() {
    for shell in ["bash", "zsh", "fish"] {
        let output = command(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        for word in ["undrain", "state-dir", "share-ports"] {
            assert!(text.contains(word), "{shell}: no {word}");
        }
    }
    let lab = Lab::new();
    let script = lab.write("completions", command(&["completions", "bash"]).stdout);
    let parsed = std::process::Command::new("bash").arg("-n").arg(&script).status().unwrap();
    assert!(parsed.success());
    assert_eq!(command(&["completions", "tcsh"]).status.code(), Some(2));

    let dir = lab.path().join("share/man/man1");
    let output = command(&["man", "--out", dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", all_text(&output));
    for page in ["openclaw-edge", "openclaw-edge-run", "openclaw-edge-certs-list"] {
        let text = std::fs::read_to_string(dir.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".TH") && text.contains(page.rsplit('-').next().unwrap()), "{text}");
    }
    let file = lab.write("file", "x");
    let output = command(&["man", "--out", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(all_text(&output).contains(file.to_str().unwrap()));
}
