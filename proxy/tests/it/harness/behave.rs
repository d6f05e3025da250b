//! Backends that misbehave in one chosen way and count what they executed, by the request's `x-id`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::backend::{Request, ok};
use super::{Backend, Peer};

/// Answers every request with 200 and this body.
pub fn answering(body: &str) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    let answer = ok(body);
    move |peer| {
        while peer.request().is_some() {
            peer.send(&answer);
        }
    }
}

/// How often each request was executed.
#[derive(Clone, Default)]
pub struct Executions(Arc<Mutex<HashMap<String, usize>>>);

impl Executions {
    /// The request is whole: from here on it has had its effect.
    pub fn count(&self, request: &Request) {
        let id = request.head.get("x-id").unwrap_or("none").to_owned();
        *self.0.lock().unwrap().entry(id).or_default() += 1;
    }

    pub fn of(&self, id: &str) -> usize {
        self.0.lock().unwrap().get(id).copied().unwrap_or_default()
    }

    pub fn total(&self) -> usize {
        self.0.lock().unwrap().values().sum()
    }

    /// Those that were executed more than once.
    pub fn repeated(&self) -> Vec<String> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(_, n)| **n > 1).map(|(id, n)| format!("{id}: {n}")).collect()
    }
}

/// Answers requests until the connection has been idle for `idle`, then closes it with FIN and
/// without a word, as uvicorn (5 s) and Node do.
pub fn closing_idle(idle: Duration, executions: &Executions) -> Backend {
    let executions = executions.clone();
    Backend::script(move |peer| {
        // The first request of a connection comes when it comes.
        let mut first = true;
        while first || !peer.wire.peek(idle).is_empty() {
            first = false;
            let Some(request) = peer.request() else { return };
            executions.count(&request);
            peer.send(ok("ok"));
        }
    })
}

/// How a backend gives up a connection instead of answering.
#[derive(Clone, Copy, Debug)]
pub enum Abort {
    /// RST, as a process that is killed with bytes unread.
    Reset,
    /// FIN.
    Close,
}

/// Answers the first request of every connection; executes the second and aborts.
pub fn aborting_warm(abort: Abort, executions: &Executions) -> Backend {
    let executions = executions.clone();
    Backend::script(move |peer| {
        let Some(request) = peer.request() else { return };
        executions.count(&request);
        peer.send(ok("ok"));
        let Some(request) = peer.request() else { return };
        executions.count(&request);
        if matches!(abort, Abort::Reset) {
            peer.wire.reset_on_close();
        }
    })
}

/// Ends its own direction after the first answer and still reads and executes what comes.
pub fn half_closing(executions: &Executions) -> Backend {
    let executions = executions.clone();
    Backend::script(move |peer| {
        let Some(request) = peer.request() else { return };
        executions.count(&request);
        peer.send(ok("ok"));
        peer.wire.finish();
        while let Some(request) = peer.request() {
            executions.count(&request);
        }
    })
}

/// A backend on an address of its own that can stop listening, as a container that is replaced,
/// and come back on the same port.
pub struct Switch {
    pub addr: SocketAddr,
    script: Arc<dyn Fn(&mut Peer) + Send + Sync>,
    running: Option<Running>,
}

struct Running {
    stop: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    thread: JoinHandle<()>,
}

impl Switch {
    /// Off at first.
    pub fn new(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Switch {
        Switch { addr: own_address(), script: Arc::new(script), running: None }
    }

    /// On, with 200 and its name as answer.
    pub fn named(name: &str, executions: &Executions) -> Switch {
        let (answer, executions) = (ok(name), executions.clone());
        let mut switch = Switch::new(move |peer| {
            while let Some(request) = peer.request() {
                executions.count(&request);
                peer.send(&answer);
            }
        });
        switch.start();
        switch
    }

    pub fn start(&mut self) {
        let listener = TcpListener::bind(self.addr).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (script, stopped, all) = (self.script.clone(), stop.clone(), open.clone());
        let thread = thread::spawn(move || {
            for tcp in listener.incoming() {
                let Ok(tcp) = tcp else { continue };
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                all.lock().unwrap().push(tcp.try_clone().unwrap());
                let script = script.clone();
                thread::spawn(move || script(&mut Peer::of(tcp)));
            }
        });
        self.running = Some(Running { stop, open, thread });
    }

    /// Connections end between requests as far as a FIN can, then nobody listens.
    pub fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        running.thread.join().unwrap();
        for tcp in running.open.lock().unwrap().drain(..) {
            // Reads end; an answer that is being written still goes out with the thread.
            let _ = tcp.shutdown(Shutdown::Read);
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An address that nobody else uses: 127.0.0.1's ports also serve as sources of connections, so a
/// port that is given up there may be gone.
pub fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let pid = std::process::id().to_be_bytes();
    let [high, low] = (NEXT.fetch_add(1, Ordering::SeqCst) + 1).to_be_bytes();
    let ip = Ipv4Addr::new(127, 64 + (pid[2] & 63), pid[3], low);
    SocketAddr::new(IpAddr::V4(ip), 20_000 + u16::from(high))
}
