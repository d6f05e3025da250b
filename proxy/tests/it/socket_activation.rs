//! Sockets that somebody else has opened and keeps (sd_listen_fds), with the test in the place of
//! the service manager.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::harness::edge::BINARY;
use crate::harness::wire::PATIENCE;
use crate::harness::{Backend, Conf, Edge, Lab, wait_until};

const HOST: &str = "app.openclaw.example";

/// A process that inherits one socket as descriptor 3 under this name. The shell moves it there:
/// the pid stays what it is.
fn activated(lab: &Arc<Lab>, conf: &Conf, socket: impl Into<OwnedFd>, name: &str) -> Edge {
    let config = lab.write("edge.yaml", conf.render(lab.path()));
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"", BINARY]);
    shell.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name);
    Edge::spawn_by(shell, Stdio::from(socket.into()), lab, &config)
}

fn listening() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// On this address in plaintext.
fn conf(backend: &Backend, http: SocketAddr) -> Conf {
    Conf::app(&[backend.addr]).bind(&http.to_string(), "127.0.0.1:0").workers(2)
}

#[test]
fn the_socket_of_a_bind_address_is_used_and_outlives_the_process() {
    let (backend, lab) = (Backend::ok(), Lab::new());
    let (socket, address) = listening();
    let conf = conf(&backend, address);
    let mut edge = activated(&lab, &conf, socket.try_clone().unwrap(), "openclaw-edge.socket");
    edge.wait_ready();
    assert_eq!(edge.http, address);
    edge.client().get(HOST, "/").assert_ok("ok");
    // The other listener is bound as ever.
    edge.tls_client(HOST).get(HOST, "/").assert_ok("ok");
    edge.sigterm();
    assert_eq!(edge.wait_exit().code(), Some(0));
    // Whoever comes now waits for the next process.
    let mut waiting = crate::harness::Client::plain(address);
    waiting.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let mut edge = activated(&lab, &conf, socket, "openclaw-edge.socket");
    edge.wait_ready();
    waiting.response().assert_ok("ok");
}

/// A long drain: the next process serves whoever comes during it.
#[test]
fn a_drain_takes_nobody_from_the_queue() {
    let (slow, backend) = (Backend::silent(), Backend::ok());
    let (socket, address) = listening();
    let lab = Lab::new();
    let old = conf(&slow, address).global("drain: { deadline: 60s }");
    let mut old = activated(&lab, &old, socket.try_clone().unwrap(), "");
    old.wait_ready();
    let mut under_way = old.client();
    under_way.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    slow.wait_requests(1);
    old.sigterm();
    wait_until("the drain", || old.admin("/readyz").status == 503);
    let mut waiting = crate::harness::Client::plain(address);
    waiting.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let mut new = activated(&Lab::new(), &conf(&backend, address), socket, "");
    new.wait_ready();
    waiting.response().assert_ok("ok");
    assert_eq!((old.is_running(), slow.requests().len()), (true, 1));
}

#[test]
fn all_workers_accept_from_one_socket() {
    let (backend, lab) = (Backend::ok(), Lab::new());
    let (socket, address) = listening();
    let mut edge = activated(&lab, &conf(&backend, address), socket, "");
    edge.wait_ready();
    // Each worker keeps a connection of its own.
    wait_until("both workers to have asked the backend", || {
        edge.client().get(HOST, "/").assert_ok("ok");
        backend.open() >= 2
    });
}

#[test]
fn a_socket_with_the_listeners_name_stands_for_its_addresses() {
    let (backend, lab) = (Backend::ok(), Lab::new());
    let (socket, address) = listening();
    let conf = Conf::app(&[backend.addr]);
    let mut edge = activated(&lab, &conf, socket, "http");
    edge.wait_ready();
    assert_eq!(edge.http, address);
    edge.client().get(HOST, "/").assert_ok("ok");
}

#[test]
fn what_is_no_listeners_is_refused_by_name() {
    let (backend, lab) = (Backend::ok(), Lab::new());
    let (socket, address) = listening();
    let other = Conf::app(&[backend.addr]);
    let mut edge = activated(&lab, &other, socket, "stray.socket");
    assert_eq!(edge.wait_exit().code(), Some(1));
    edge.wait_stderr(&format!("the inherited socket {address} (descriptor 3, name stray.socket)"));

    let socket = UnixListener::bind(lab.path().join("s")).unwrap();
    let mut edge = activated(&lab, &other, socket, "http");
    assert_eq!(edge.wait_exit().code(), Some(1));
    edge.wait_stderr("is no listening TCP socket");
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let (backend, lab) = (Backend::ok(), Lab::new());
    let config = lab.write("edge.yaml", Conf::app(&[backend.addr]).render(lab.path()));
    let mut command = Command::new(BINARY);
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", std::process::id().to_string());
    let mut edge = Edge::spawn_by(command, Stdio::null(), &lab, &config);
    edge.wait_ready();
    edge.client().get(HOST, "/").assert_ok("ok");
}

// === restarts ===

/// New connections, one request each, as fast as they are answered.
struct Callers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Callers {
    fn start(address: SocketAddr) -> Callers {
        let (stop, answered): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let failed: Arc<Mutex<Vec<String>>> = Arc::default();
        let threads = (0..4).map(|_| {
            let (stop, answered, failed) = (stop.clone(), answered.clone(), failed.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    match call(address) {
                        Ok(()) => _ = answered.fetch_add(1, Ordering::SeqCst),
                        Err(why) => failed.lock().unwrap().push(why),
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            })
        });
        let threads = threads.collect();
        Callers { stop, answered, failed, threads }
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    fn finish(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        (self.answered.load(Ordering::SeqCst), self.failed.lock().unwrap().clone())
    }
}

fn call(address: SocketAddr) -> Result<(), String> {
    let told = |what: &'static str| move |why: std::io::Error| format!("{what}: {why}");
    let mut io = TcpStream::connect_timeout(&address, PATIENCE).map_err(told("connect"))?;
    io.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).map_err(told("send"))?;
    let mut answer = Vec::new();
    io.read_to_end(&mut answer).map_err(told("read"))?;
    let text = String::from_utf8_lossy(&answer);
    let well = text.starts_with("HTTP/1.1 200 ") && text.ends_with("ok");
    if well { Ok(()) } else { Err(format!("answer {text:?}")) }
}

#[test]
fn twenty_restarts_under_load_refuse_nobody() {
    let (backend, lab) = (Backend::ok(), Lab::new());
    let (socket, address) = listening();
    let conf = conf(&backend, address);
    let start = || {
        let mut edge = activated(&lab, &conf, socket.try_clone().unwrap(), "openclaw-edge.socket");
        edge.wait_ready();
        edge
    };
    let mut edge = start();
    let callers = Callers::start(address);
    for _ in 0..20 {
        let before = callers.answered();
        wait_until("answers", || callers.answered() >= before + 20);
        edge.sigterm();
        assert_eq!(edge.wait_exit().code(), Some(0));
        edge = start();
    }
    let (answered, failed) = callers.finish();
    assert!(
        failed.is_empty(),
        "{} of {answered}: {:?}",
        failed.len(),
        &failed[..failed.len().min(5)]
    );
    assert!(answered >= 400);
}
