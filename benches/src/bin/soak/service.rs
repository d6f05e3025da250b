//! Backends as they are deployed: processes of uvicorn and of Node, ended by SIGTERM, started again
//! on the same address. They write what they execute, by the request's `x-id`, to a file that
//! outlives them.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use benches::Result;
use benches::server::command;
use rustix::process::{Pid, Signal, kill_process};

/// Of uvicorn; `.ci/setup` names it too.
const UVICORN: &str = "0.54.0";
/// The programs of the tests.
const PYTHON_APP: &str = include_str!("../../../../proxy/tests/it/harness/backend.py");
const NODE_APP: &str = include_str!("../../../../proxy/tests/it/harness/backend.js");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Uvicorn,
    Node,
}

pub struct Service {
    pub addr: SocketAddr,
    pub name: &'static str,
    kind: Kind,
    dir: PathBuf,
    child: Option<Child>,
}

impl Service {
    /// Listens already. `number` chooses its address.
    pub fn start(dir: &Path, kind: Kind, name: &'static str, number: u8) -> Result<Self> {
        fs::write(dir.join("backend.py"), PYTHON_APP)?;
        fs::write(dir.join("backend.js"), NODE_APP)?;
        let dir = dir.to_owned();
        let mut service = Self { addr: address(number), name, kind, dir, child: None };
        service.up()?;
        Ok(service)
    }

    /// Starts the process and waits until it listens.
    pub fn up(&mut self) -> Result<()> {
        let (ip, port) = (self.addr.ip().to_string(), self.addr.port().to_string());
        let argv: Vec<String> = match self.kind {
            Kind::Uvicorn => {
                let fixed = "python3 -m uvicorn backend:app --log-level warning";
                let own = ["--host", ip.as_str(), "--port", port.as_str()];
                fixed.split(' ').chain(own).map(str::to_owned).collect()
            }
            Kind::Node => ["node", "backend.js"].map(str::to_owned).to_vec(),
        };
        let log = self.dir.join(format!("{}.log", self.name));
        let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut child = command(&argv, None)
            .current_dir(&self.dir)
            .env("PYTHONPATH", uvicorn()?)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs([("HOST", &ip), ("PORT", &port)])
            .env("EXECUTIONS", self.executed())
            .env("NAME", self.name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let start = Instant::now();
        while TcpStream::connect(self.addr).is_err() {
            if let Some(status) = child.try_wait()? {
                return Err(format!("{} ended with {status}", argv.join(" ")).into());
            }
            if start.elapsed() > PATIENCE {
                child.kill()?;
                return Err(format!("{} does not listen", argv.join(" ")).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.child = Some(child);
        Ok(())
    }

    /// SIGTERM, and gone; how long that took.
    pub fn down(&mut self) -> Result<Duration> {
        let Some(mut child) = self.child.take() else { return Ok(Duration::ZERO) };
        let start = Instant::now();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or("no process id")?, Signal::TERM)?;
        while child.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return Err(format!("{} does not end", self.name).into());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(start.elapsed())
    }

    fn executed(&self) -> PathBuf {
        self.dir.join(format!("{}.executed", self.name))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How often each request was executed, over all services and all their lives.
pub fn executions(services: &[Service]) -> HashMap<String, u64> {
    let mut all = HashMap::new();
    for service in services {
        for id in fs::read_to_string(service.executed()).unwrap_or_default().lines() {
            *all.entry(id.to_owned()).or_default() += 1;
        }
    }
    all
}

/// Not 127.0.0.1: its ports are also sources of connections, so that one that is given up for a
/// moment may be gone.
fn address(number: u8) -> SocketAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, 200, high, low), 20_000 + u16::from(number)))
}

/// `.ci/setup bench` puts it there.
fn uvicorn() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache.or_else(home).ok_or("no HOME")?;
    Ok(cache.join(format!("openclaw-edge-tests/uvicorn-{UVICORN}")))
}

const PATIENCE: Duration = Duration::from_secs(10);
