//! The real binary as a child process: started with a written configuration, asked over its admin
//! socket, ended with its handle. What it printed is shown when the test fails.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::client::{Client, Tls};
use super::wire::{Head, PATIENCE};
use super::{Conf, Lab, eventually, eventually_within, wait_until};

pub const BINARY: &str = env!("CARGO_BIN_EXE_openclaw-edge");

pub struct Edge {
    pub lab: Arc<Lab>,
    child: Child,
    stdout: Lines,
    stderr: Lines,
    pub http: SocketAddr,
    pub https: SocketAddr,
}

type Lines = Arc<Mutex<Vec<String>>>;

/// An answer of the admin server.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: Head,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

impl Edge {
    /// In a lab of its own, ready to serve.
    pub fn start(conf: &Conf) -> Edge {
        Edge::start_in(&Lab::new(), conf)
    }

    pub fn start_in(lab: &Arc<Lab>, conf: &Conf) -> Edge {
        lab.write("edge.yaml", conf.render(lab.path()));
        Edge::start_file(lab, &lab.path().join("edge.yaml"))
    }

    /// Runs on a config file that the test has written.
    pub fn start_file(lab: &Arc<Lab>, config: &Path) -> Edge {
        let mut edge = Edge::spawn(lab, config, &[]);
        edge.wait_ready();
        edge
    }

    /// With this many open files at most.
    pub fn start_with_files(conf: &Conf, files: u32) -> Edge {
        let lab = Lab::new();
        let config = lab.write("edge.yaml", conf.render(lab.path()));
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &files.to_string(), BINARY]);
        let mut edge = Edge::spawn_as(shell, &lab, &config, &[]);
        edge.stdout = collect(edge.child.stdout.take().unwrap());
        edge.wait_ready();
        edge
    }

    /// With one more variable in its environment.
    pub fn start_with_env(lab: &Arc<Lab>, conf: &Conf, name: &str, value: &Path) -> Edge {
        let config = lab.write("edge.yaml", conf.render(lab.path()));
        let mut command = Command::new(BINARY);
        command.env(name, value);
        let mut edge = Edge::spawn_as(command, lab, &config, &[]);
        edge.stdout = collect(edge.child.stdout.take().unwrap());
        edge.wait_ready();
        edge
    }

    /// Starts the process and does not wait for it.
    pub fn spawn(lab: &Arc<Lab>, config: &Path, arguments: &[&str]) -> Edge {
        let mut edge = Edge::spawn_unread_with(lab, config, arguments);
        edge.stdout = collect(edge.child.stdout.take().unwrap());
        edge
    }

    /// As [`Edge::spawn`], with a pipe as its stdout that nobody reads.
    pub fn spawn_unread(lab: &Arc<Lab>, config: &Path) -> Edge {
        Edge::spawn_unread_with(lab, config, &[])
    }

    fn spawn_unread_with(lab: &Arc<Lab>, config: &Path, arguments: &[&str]) -> Edge {
        Edge::spawn_as(Command::new(BINARY), lab, config, arguments)
    }

    /// Starts the process by this command, which gets the binary's arguments, with this as its
    /// descriptor 0.
    pub fn spawn_by(command: Command, stdin: Stdio, lab: &Arc<Lab>, config: &Path) -> Edge {
        let mut edge = Edge::spawn_with(command, stdin, lab, config, &[]);
        edge.stdout = collect(edge.child.stdout.take().unwrap());
        edge
    }

    fn spawn_as(command: Command, lab: &Arc<Lab>, config: &Path, arguments: &[&str]) -> Edge {
        Edge::spawn_with(command, Stdio::null(), lab, config, arguments)
    }

    fn spawn_with(
        mut command: Command,
        stdin: Stdio,
        lab: &Arc<Lab>,
        config: &Path,
        arguments: &[&str],
    ) -> Edge {
        let mut child = command
            .arg("run")
            .arg("--config")
            .arg(config)
            .args(arguments)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = collect(child.stderr.take().unwrap());
        let none: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let stdout = Lines::default();
        Edge { lab: lab.clone(), child, stdout, stderr, http: none, https: none }
    }

    /// Waits for `/readyz` and learns the bound addresses from it.
    pub fn wait_ready(&mut self) {
        let socket = self.socket();
        // A process waits up to 10 s for its first certificates: 500 hosts on a busy machine.
        let ready = eventually_within(3 * PATIENCE, "/readyz to answer 200", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the edge ended before it was ready: {status}");
            }
            let answer = try_admin(&socket, "/readyz")?;
            (answer.status == 200).then(|| answer.json())
        });
        // A test of one listener has no other one.
        self.http = address(&ready, "http").unwrap_or(self.http);
        self.https = address(&ready, "https").unwrap_or(self.https);
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn config_path(&self) -> PathBuf {
        self.lab.path().join("edge.yaml")
    }

    fn socket(&self) -> PathBuf {
        self.lab.path().join("admin.sock")
    }

    // === clients ===

    pub fn client(&self) -> Client {
        Client::plain(self.http)
    }

    /// Trusts the internal CA.
    pub fn tls(&self) -> Tls {
        Tls::new(self.https, &self.ca())
    }

    /// Over TLS, with this SNI.
    pub fn tls_client(&self, sni: &str) -> Client {
        self.tls().connect(sni)
    }

    /// The internal CA's certificate in the state directory.
    pub fn ca(&self) -> PathBuf {
        let state = self.lab.path().join("state");
        eventually("ca.pem in the state directory", || find(&state, "ca.pem"))
    }

    // === admin ===

    pub fn admin(&self, path: &str) -> Answer {
        try_admin(&self.socket(), path).unwrap_or_else(|| panic!("admin does not answer {path}"))
    }

    /// `POST` of JSON over the admin socket.
    pub fn act(&self, path: &str, json: &str) -> Answer {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = json.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        let request = format!("{head}Content-Length: {length}\r\n\r\n{json}");
        converse(stream, &request).expect("no answer from the admin server")
    }

    /// The same, of a value.
    pub fn post(&self, path: &str, what: &Value) -> Answer {
        self.act(path, &what.to_string())
    }

    /// The admin server's TCP address, from `/readyz`.
    pub fn admin_addr(&self) -> SocketAddr {
        let ready = self.admin("/readyz").json();
        address(&ready, "admin").unwrap_or_else(|| panic!("no address of the admin in {ready}"))
    }

    /// The sum of all series of a family whose labels contain these: `name` or `name{a="b"}`.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").body;
        let (name, labels) = split_series(series);
        let mut sum = 0.0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((key, value)) = line.rsplit_once(' ') else { continue };
            let (has, its) = split_series(key);
            if has == name && labels.iter().all(|label| its.contains(label)) {
                sum += value.parse::<f64>().unwrap();
            }
        }
        sum
    }

    /// `GET /api/v1/config`.
    pub fn config(&self) -> Value {
        self.admin("/api/v1/config").json()
    }

    // === reload ===

    /// Replaces the config file by rename and waits for the outcome, which it returns.
    pub fn reload(&self, conf: &Conf) -> Value {
        self.reload_text(&conf.render(self.lab.path()))
    }

    pub fn reload_text(&self, text: &str) -> Value {
        self.expect_reload(|| replace(&self.config_path(), text))
    }

    /// Does `change` and waits until `/api/v1/config` tells a new outcome.
    pub fn expect_reload(&self, change: impl FnOnce()) -> Value {
        let before = self.config();
        change();
        // A poll that finds nothing new is no outcome of the change.
        eventually("a new outcome in /api/v1/config", || {
            Some(self.config()).filter(|now| *now != before && now["outcome"] != "unchanged")
        })
    }

    // === life ===

    pub fn signal(&self, name: &str) {
        let arguments = [format!("-{name}"), self.pid().to_string()];
        assert!(Command::new("kill").args(arguments).status().unwrap().success());
    }

    pub fn sigterm(&self) {
        self.signal("TERM");
    }

    pub fn wait_exit(&mut self) -> ExitStatus {
        eventually("the edge to exit", || self.child.try_wait().unwrap())
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Resident bytes now.
    pub fn rss(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that was ever resident, bytes.
    pub fn peak_rss(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, key: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    // === logs ===

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().join("\n")
    }

    pub fn access_log_lines(&self) -> Vec<String> {
        self.stdout.lock().unwrap().clone()
    }

    pub fn access_log(&self) -> Vec<Value> {
        let parse = |line: &String| serde_json::from_str(line).ok();
        self.stdout.lock().unwrap().iter().filter_map(parse).collect()
    }

    /// Waits for an access-log line in which `key` has this value.
    pub fn wait_log(&self, key: &str, value: &str) -> Value {
        eventually(&format!("access log line with {key}={value}"), || {
            self.access_log().into_iter().find(|line| line[key] == value)
        })
    }

    pub fn wait_stderr(&self, part: &str) {
        wait_until(&format!("{part:?} on stderr"), || self.stderr().contains(part));
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let mut text = format!("--- edge {} stdout\n", self.pid());
            let tail = |lines: &Lines| {
                let lines = lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                lines[lines.len().saturating_sub(40)..].join("\n")
            };
            let _ = writeln!(text, "{}\n--- stderr\n{}", tail(&self.stdout), tail(&self.stderr));
            eprintln!("{text}");
        }
    }
}

/// Runs the binary with these arguments to its end.
pub fn command(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).env_remove("OPENCLAW_EDGE_CONFIG").output().unwrap()
}

/// Replaces a file as editors do: a new one, renamed over it.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// One admin request over TCP.
pub fn admin_tcp(addr: SocketAddr, request: &str) -> Answer {
    let stream = std::net::TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    converse(stream, request).expect("no answer from the admin server")
}

fn try_admin(socket: &Path, path: &str) -> Option<Answer> {
    let stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    converse(stream, &request)
}

fn converse(mut stream: impl Read + Write, request: &str) -> Option<Answer> {
    stream.write_all(request.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let at = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = Head::parse(&bytes[..at]).ok()?;
    assert!(!head.has("transfer-encoding"), "the harness reads admin bodies with a length only");
    let body = String::from_utf8(bytes.split_off(at)).ok()?;
    Some(Answer { status: head.status(), head, body })
}

fn split_series(series: &str) -> (&str, Vec<&str>) {
    match series.split_once('{') {
        Some((name, labels)) => (name, labels.trim_end_matches('}').split(',').collect()),
        None => (series, Vec::new()),
    }
}

fn collect(pipe: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let into = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            into.lock().unwrap().push(line);
        }
    });
    lines
}

/// The first address that `/readyz` gives for a listener, in any of the shapes
/// `{name: [addr]}`, `{name: addr}`, `[{listener|name: .., address: ..}]`.
fn address(ready: &Value, name: &str) -> Option<SocketAddr> {
    fn first(value: &Value) -> Option<SocketAddr> {
        match value {
            Value::String(text) => text.parse().ok(),
            Value::Array(list) => list.iter().find_map(first),
            Value::Object(map) => map.values().find_map(first),
            _ => None,
        }
    }
    fn walk(value: &Value, name: &str) -> Option<SocketAddr> {
        match value {
            Value::Object(map) => {
                let named = |key| map.get(key).and_then(Value::as_str) == Some(name);
                if named("name") || named("listener") {
                    return first(value);
                }
                if let Some(found) = map.get(name).and_then(first) {
                    return Some(found);
                }
                map.values().find_map(|inner| walk(inner, name))
            }
            Value::Array(list) => list.iter().find_map(|inner| walk(inner, name)),
            _ => None,
        }
    }
    walk(ready, name)
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.file_name().is_some_and(|file| file == name) {
            return Some(path);
        }
        if let Some(found) = path.is_dir().then(|| find(&path, name)).flatten() {
            return Some(found);
        }
    }
    None
}
