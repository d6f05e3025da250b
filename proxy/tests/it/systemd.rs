//! What a service manager hears (sd_notify), with the test in its place: start, reload, drain, and
//! a watchdog that hears nothing from a process with a thread that hangs.

use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::edge::BINARY;
use crate::harness::{Backend, Conf, Edge, Lab, wait_until};

/// A service manager's socket and what came to it.
struct Manager {
    lab: Arc<Lab>,
    name: String,
    heard: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Manager {
    fn new() -> Manager {
        let lab = Lab::new();
        let path = lab.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager::on(lab, path.to_str().unwrap().to_owned(), socket)
    }

    fn on(lab: Arc<Lab>, name: String, socket: UnixDatagram) -> Manager {
        let heard: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
        let into = heard.clone();
        thread::spawn(move || {
            let mut message = [0; 4096];
            while let Ok(length) = socket.recv(&mut message) {
                let text = String::from_utf8(message[..length].to_vec()).unwrap();
                into.lock().unwrap().push((Instant::now(), text));
            }
        });
        Manager { lab, name, heard }
    }

    /// As its service.
    fn start(&self, conf: &Conf, variables: &[(&str, &str)]) -> Edge {
        let config = self.lab.write("edge.yaml", conf.render(self.lab.path()));
        let mut command = Command::new(BINARY);
        command.env("NOTIFY_SOCKET", &self.name).envs(variables.iter().copied());
        let mut edge = Edge::spawn_by(command, Stdio::null(), &self.lab, &config);
        edge.wait_ready();
        edge
    }

    fn messages(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }

    /// The nth message that begins so.
    fn wait(&self, first: &str, nth: usize) -> String {
        let matching = || self.messages().into_iter().filter(|one| one.starts_with(first)).nth(nth);
        wait_until(&format!("message {nth} {first}"), || matching().is_some());
        matching().unwrap()
    }

    fn pings(&self) -> usize {
        self.messages().iter().filter(|one| *one == "WATCHDOG=1").count()
    }

    fn wait_pings(&self, more: usize) {
        let wanted = self.pings() + more;
        wait_until("the watchdog to hear something", || self.pings() >= wanted);
    }

    /// The time since the last ping, once it has become so long; fails if pings go on.
    fn wait_silence(&self, long: Duration) {
        wait_until("silence", || {
            let heard = self.heard.lock().unwrap();
            let last = heard.iter().rev().find(|(_, text)| text == "WATCHDOG=1");
            last.is_none_or(|(at, _)| at.elapsed() > long)
        });
    }
}

fn field<'a>(message: &'a str, name: &str) -> &'a str {
    let found = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {message:?}"))
}

#[test]
fn start_reload_and_drain_are_told() {
    let (manager, backend) = (Manager::new(), Backend::ok());
    let conf = Conf::app(&[backend.addr]).global("drain: { deadline: 7s }");
    let mut edge = manager.start(&conf, &[]);
    let ready = manager.wait("READY=1", 0);
    assert!(field(&ready, "STATUS").starts_with("serving 1 route, 0 quarantined; "), "{ready}");
    assert_eq!(manager.messages().len(), 1, "{:?}", manager.messages());

    edge.signal("HUP");
    let reloading = manager.wait("RELOADING=1", 0);
    let at: u64 = field(&reloading, "MONOTONIC_USEC").parse().unwrap();
    assert!(at > 0);
    manager.wait("READY=1", 1);
    // Also where the file's change is what begins it, and where an entry is bad.
    let two = Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{}\"] }}\nroutes:\n  app: {{ hosts: \
         [app.openclaw.example], upstream: app }}\n  bad: {{ hosts: [b.openclaw.example], \
         upstream: none }}\n",
        backend.addr
    ));
    edge.reload(&two.global("drain: { deadline: 7s }"));
    let ready = manager.wait("READY=1", 2);
    assert!(field(&ready, "STATUS").contains("1 route, 1 quarantined"), "{ready}");
    let later: u64 = field(&manager.wait("RELOADING=1", 1), "MONOTONIC_USEC").parse().unwrap();
    assert!(later > at);
    edge.reload_text("listeners: 7\n");
    let ready = manager.wait("READY=1", 3);
    assert!(field(&ready, "STATUS").contains("the file is refused"), "{ready}");

    edge.sigterm();
    let stopping = manager.wait("STOPPING=1", 0);
    let extended: u64 = field(&stopping, "EXTEND_TIMEOUT_USEC").parse().unwrap();
    assert!((7_000_000..20_000_000).contains(&extended), "{extended}");
    assert_eq!(edge.wait_exit().code(), Some(0));
    assert_eq!(manager.pings(), 0, "nobody watches");
}

#[test]
fn an_abstract_name_is_a_socket_too() {
    let name = format!("openclaw-edge-it-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    let manager = Manager::on(Lab::new(), format!("@{name}"), socket);
    let _edge = manager.start(&Conf::app(&[Backend::ok().addr]), &[]);
    manager.wait("READY=1", 0);
}

#[test]
fn a_manager_that_is_not_there_stops_nothing() {
    let lab = Lab::new();
    let name = lab.path().join("nobody").to_str().unwrap().to_owned();
    let manager = Manager { lab, name, heard: Arc::default() };
    let backend = Backend::ok();
    let edge = manager.start(&Conf::app(&[backend.addr]), &[]);
    edge.client().get("app.openclaw.example", "/").assert_ok("ok");
    edge.wait_stderr("was not told READY=1");
}

// === watchdog ===

const WATCHDOG: (&str, &str) = ("WATCHDOG_USEC", "1000000");

/// Stops one thread of a process as a debugger does; it goes on when this is dropped.
struct Stopped(Child);

impl Stopped {
    fn thread(edge: &Edge, name: &str) -> Stopped {
        let id = match name {
            "main" => edge.pid().to_string(),
            _ => thread_named(edge, name),
        };
        let mut child = Command::new("python3")
            .args(["-c", STOP, &id])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "stopped\n");
        Stopped(child)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// PTRACE_SEIZE, PTRACE_INTERRUPT, waitpid with __WALL; the end of this process lets it go on.
const STOP: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
for request in (0x4206, 0x4207):
    if libc.ptrace(request, int(sys.argv[1]), None, None) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(int(sys.argv[1]), 0x40000000)
print('stopped', flush=True)
sys.stdin.read()
";

fn thread_named(edge: &Edge, name: &str) -> String {
    let tasks = PathBuf::from(format!("/proc/{}/task", edge.pid()));
    let is = |path: &PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let all = std::fs::read_dir(tasks).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> = all.filter(is).collect();
    assert_eq!(found.len(), 1, "threads named {name}");
    found[0].file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_worker_that_hangs_ends_the_pings_until_it_goes_on() {
    let (manager, backend) = (Manager::new(), Backend::ok());
    let edge = manager.start(&Conf::app(&[backend.addr]).workers(2), &[WATCHDOG]);
    manager.wait_pings(2);
    let stopped = Stopped::thread(&edge, "worker-1");
    manager.wait_silence(Duration::from_secs(2));
    // The control thread is well and says who is not.
    edge.wait_stderr("worker 1 hangs");
    assert_eq!(edge.admin("/healthz").status, 200);
    drop(stopped);
    manager.wait_pings(2);
}

#[test]
fn a_control_loop_that_hangs_ends_the_pings_until_it_goes_on() {
    let (manager, backend) = (Manager::new(), Backend::ok());
    let edge = manager.start(&Conf::app(&[backend.addr]).workers(2), &[WATCHDOG]);
    manager.wait_pings(2);
    let stopped = Stopped::thread(&edge, "main");
    manager.wait_silence(Duration::from_secs(2));
    edge.client().get("app.openclaw.example", "/").assert_ok("ok");
    drop(stopped);
    manager.wait_pings(2);
}

#[test]
fn pings_go_on_while_it_drains() {
    let (manager, backend) = (Manager::new(), Backend::silent());
    let conf = Conf::app(&[backend.addr]).workers(2).global("drain: { deadline: 20s }");
    let edge = manager.start(&conf, &[WATCHDOG]);
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    backend.wait_requests(1);
    edge.sigterm();
    manager.wait("STOPPING=1", 0);
    // The worker without a connection has ended.
    manager.wait_pings(3);
}

#[test]
fn the_watchdog_of_another_process_is_none() {
    let (manager, backend) = (Manager::new(), Backend::ok());
    let other = std::process::id().to_string();
    let mut edge =
        manager.start(&Conf::app(&[backend.addr]), &[WATCHDOG, ("WATCHDOG_PID", &other)]);
    manager.wait("READY=1", 0);
    edge.signal("HUP");
    manager.wait("READY=1", 1);
    edge.sigterm();
    edge.wait_exit();
    assert_eq!(manager.pings(), 0);
}
