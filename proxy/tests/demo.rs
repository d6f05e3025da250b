//! `openclaw-edge demo` as a user meets it: every printed command is run as printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

struct Demo {
    child: Child,
    /// What was printed up to the line that says how to stop.
    banner: String,
    config: PathBuf,
}

impl Demo {
    fn start(dir: &Path) -> Demo {
        let mut child = Command::new(env!("CARGO_BIN_EXE_openclaw-edge"))
            .args(["demo", "--http-port", "0", "--https-port", "0", "--admin-port", "0", "--dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        // Reads on after the banner, so that the access log never blocks on a full pipe.
        thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|l| drop(send.send(l)))
        });
        let mut banner = String::new();
        while !banner.contains("Stop:") {
            banner.push_str(&lines.recv_timeout(LIMIT).expect("a banner in time"));
            banner.push('\n');
        }
        thread::spawn(move || lines.into_iter().for_each(drop));
        Demo { child, banner, config: dir.join("edge.yaml") }
    }

    /// The printed command that contains `part`.
    fn command(&self, part: &str) -> &str {
        let mut commands = self.banner.lines().map(str::trim).filter(|l| l.starts_with("curl "));
        commands
            .find(|line| line.contains(part))
            .unwrap_or_else(|| panic!("{part}: {}", self.banner))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it in a shell; what it wrote.
fn shell(command: &str) -> String {
    let mut child = Command::new("timeout")
        .args(["20", "sh", "-c", command])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    child.wait().unwrap();
    output
}

#[test]
fn every_printed_command_works() {
    let base = tempfile::tempdir().unwrap();
    // A name that needs quoting.
    let mut demo = Demo::start(&base.path().join("it's a demo"));
    for (part, answer) in [
        ("https://app.", "new WebSocket"),
        ("/v1/users", "\"x-forwarded-proto\": \"https\""),
        ("/v1/chat/completions", "data: [DONE]"),
        ("/ws'", "HTTP/1.1 101 "),
        ("'http://app.", "308"),
        ("/api/v1/routes", "proxy-internal"),
        ("/metrics", "edge_build_info"),
    ] {
        let output = shell(demo.command(part));
        assert!(output.contains(answer), "{}\n{output}", demo.command(part));
    }
    let count = demo.banner.lines().filter(|line| line.trim().starts_with("curl ")).count();
    assert_eq!(count, 7, "each printed command is run here");

    // The edit that the config file proposes.
    let ask = demo.command("https://app.").replace("/'", "/hello'");
    assert!(!shell(&ask).contains("Hello."));
    let text = fs::read_to_string(&demo.config).unwrap();
    assert!(text.contains("  # hello:"), "{text}");
    fs::write(&demo.config, text.replace("  # hello:", "  hello:")).unwrap();
    let deadline = Instant::now() + LIMIT;
    while !shell(&ask).contains("Hello.") {
        assert!(Instant::now() < deadline, "the edit did not go live");
    }

    let pid = demo.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert!(demo.child.wait().unwrap().success());
}

#[test]
fn a_second_demo_in_the_same_place_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("demo");
    let _running = Demo::start(&dir);
    let second = Command::new(env!("CARGO_BIN_EXE_openclaw-edge"))
        .args(["demo", "--http-port", "0", "--https-port", "0", "--admin-port", "0", "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.contains("another demo") && message.contains("--dir"), "{message}");
}
