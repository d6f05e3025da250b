//! Backends as they are deployed: processes of uvicorn and of Node, ended by SIGTERM, started
//! again on the same address. They write what they execute to a file that outlives them.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::behave::own_address;
use super::{Lab, eventually, wait_until};

/// Of uvicorn; `.ci/setup` names it too.
const UVICORN: &str = "0.54.0";
/// Of the OpenAI client; the same.
const OPENAI: &str = "3.54.0";

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Uvicorn,
    Node,
    /// Of uvicorn: a model that streams (chat.py).
    Chat,
}

pub struct Service {
    pub addr: SocketAddr,
    kind: Kind,
    name: String,
    /// Seconds that an idle connection is kept; its own default (5) where `None`.
    keep_alive: Option<u32>,
    lab: Arc<Lab>,
    child: Option<Child>,
}

impl Service {
    /// Listens already. Answers with its name.
    pub fn start(lab: &Arc<Lab>, kind: Kind, name: &str) -> Service {
        Service::start_with(lab, kind, name, None)
    }

    pub fn start_with(lab: &Arc<Lab>, kind: Kind, name: &str, keep_alive: Option<u32>) -> Service {
        let (addr, name) = (own_address(), name.to_owned());
        let mut service = Service { addr, kind, name, keep_alive, lab: lab.clone(), child: None };
        service.up();
        service
    }

    /// Starts the process and waits until it listens.
    pub fn up(&mut self) {
        let mut command = match self.kind {
            Kind::Uvicorn => self.uvicorn(include_str!("backend.py")),
            Kind::Chat => self.uvicorn(include_str!("chat.py")),
            Kind::Node => self.node(),
        };
        command.env("EXECUTIONS", self.log()).env("NAME", &self.name);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.process_group(0).spawn().unwrap();
        wait_until("the service to listen", || {
            assert!(child.try_wait().unwrap().is_none(), "{} has ended", self.name);
            TcpStream::connect(self.addr).is_ok()
        });
        self.child = Some(child);
    }

    fn uvicorn(&self, app: &str) -> Command {
        let app = self.lab.write("backend.py", app);
        let mut command = Command::new("python3");
        command.args(["-m", "uvicorn", "backend:app", "--log-level", "warning", "--app-dir"]);
        command.arg(app.parent().unwrap());
        command.args(["--host", &self.addr.ip().to_string()]);
        command.args(["--port", &self.addr.port().to_string()]);
        if let Some(seconds) = self.keep_alive {
            command.args(["--timeout-keep-alive", &seconds.to_string()]);
        }
        command.env("PYTHONPATH", uvicorn()).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    fn node(&self) -> Command {
        let app = self.lab.write("backend.js", include_str!("backend.js"));
        let mut command = Command::new("node");
        command.arg(app).env("HOST", self.addr.ip().to_string());
        command.env("PORT", self.addr.port().to_string());
        if let Some(seconds) = self.keep_alive {
            command.env("KEEP_ALIVE", (seconds * 1000).to_string());
        }
        command
    }

    /// SIGTERM, and gone.
    pub fn down(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        eventually("the service to end", || child.try_wait().unwrap());
    }

    fn log(&self) -> PathBuf {
        self.lab.path().join(format!("executions-{}", self.name))
    }

    /// How often each id was executed, over all lives of the process.
    pub fn executions(&self) -> HashMap<String, usize> {
        let mut all = HashMap::new();
        for id in std::fs::read_to_string(self.log()).unwrap_or_default().lines() {
            *all.entry(id.to_owned()).or_default() += 1;
        }
        all
    }

    /// What it wrote of each execution, where that is JSON.
    pub fn told(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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

/// Each POST exactly once, at one of the services.
#[track_caller]
pub fn assert_once(services: &[Service], posts: &[String]) {
    let mut all: HashMap<String, usize> = HashMap::new();
    for service in services {
        for (id, n) in service.executions() {
            *all.entry(id).or_default() += n;
        }
    }
    let wrong = posts.iter().filter(|id| all.get(*id) != Some(&1)).count();
    assert_eq!(wrong, 0, "of {} POSTs, not executed exactly once", posts.len());
}

fn uvicorn() -> PathBuf {
    from_pypi(&format!("uvicorn-{UVICORN}"))
}

/// The OpenAI client and what it needs, for PYTHONPATH. Some of it is made for one Python.
pub fn openai() -> PathBuf {
    let version = "import sys; print('py%d%d' % sys.version_info[:2])";
    let output = Command::new("python3").args(["-c", version]).output().unwrap();
    let python = String::from_utf8(output.stdout).unwrap();
    from_pypi(&format!("openai-{OPENAI}-{}", python.trim()))
}

/// `.ci/setup test` puts it there.
fn from_pypi(name: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
        PathBuf::from,
    );
    let dir = cache.join("openclaw-edge-tests").join(name);
    assert!(dir.is_dir(), "{} is missing: run .ci/setup test", dir.display());
    dir
}
