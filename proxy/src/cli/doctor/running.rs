//! The running process of this configuration, if there is one: asked over its admin socket.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::line::Report;
use super::machine::Machine;
use super::process::Process;
use crate::cli::socket::{Silence, Socket};

/// What is known of it.
#[derive(Debug, Default)]
pub struct Running {
    pub state: State,
    /// Who listens on the admin socket; `None` also where it is in another PID namespace.
    pub pid: Option<u32>,
    pub uid: Option<u32>,
    /// Addresses that it says it listens on.
    pub bound: Vec<SocketAddr>,
    /// Its `/api/v1/config`.
    pub configuration: Option<Value>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It answers; `None`: it is ready, else why not.
    Answers(Option<String>),
    #[default]
    Nobody,
    /// There is a process or a path that this user may not ask.
    Hidden(String),
    /// The configuration names no admin socket.
    NoSocket,
}

impl Running {
    pub async fn find(path: Option<PathBuf>) -> Running {
        let Some(path) = path else {
            return Running { state: State::NoSocket, ..Running::default() };
        };
        let peer = match timeout(PATIENCE, UnixStream::connect(&path)).await {
            Ok(Ok(stream)) => stream.peer_cred().ok(),
            _ => None,
        };
        let pid = peer.and_then(|peer| u32::try_from(peer.pid()?).ok()).filter(|pid| *pid != 0);
        let known = Running { pid, uid: peer.map(|peer| peer.uid()), ..Running::default() };
        let socket = Socket::new(path);
        match timeout(PATIENCE, socket.ask(Method::GET, "/readyz", None)).await {
            Ok(Ok((_, told))) => {
                let reasons = told["reasons"].as_array().into_iter().flatten();
                let reasons: Vec<&str> = reasons.filter_map(Value::as_str).collect();
                let reasons = Some(reasons.join(", ")).filter(|text| !text.is_empty());
                let asked = socket.ask(Method::GET, "/api/v1/config", None);
                let configuration = match timeout(PATIENCE, asked).await {
                    Ok(Ok((StatusCode::OK, value))) => Some(value),
                    _ => None,
                };
                let (state, bound) = (State::Answers(reasons), bound(&told));
                Running { state, bound, configuration, ..known }
            }
            Ok(Err(Silence::Nobody(_))) => Running::default(),
            Ok(Err(Silence::Unreachable(why))) => Running { state: State::Hidden(why), ..known },
            Ok(Err(Silence::TimedOut)) | Err(_) => {
                let why = format!("no answer within {} s", PATIENCE.as_secs());
                Running { state: State::Hidden(why), ..known }
            }
        }
    }

    pub fn answers(&self) -> bool {
        matches!(self.state, State::Answers(_))
    }

    /// There may be one, which this user cannot ask.
    pub fn is_hidden(&self) -> bool {
        matches!(self.state, State::Hidden(_))
    }

    /// A file of /proc/PID: the running process's, else our own, and whether it is the former.
    pub fn file(&self, machine: &Machine, name: &str) -> (Option<String>, bool) {
        let of = |pid: u32| machine.read(&format!("/proc/{pid}/{name}"));
        match self.pid.and_then(of) {
            Some(text) => (Some(text), true),
            None => (machine.read(&format!("/proc/self/{name}")), false),
        }
    }

    pub fn tell(&self, machine: &Machine, socket: &str, report: &mut Report) {
        let who = match self.pid {
            Some(pid) => Process::read(machine, pid).to_string(),
            None => "a process that is not visible from here".to_owned(),
        };
        match &self.state {
            State::Answers(None) => report.ok(CHECK, format!("{who} is ready")),
            State::Answers(Some(why)) => {
                let fix = "openclaw-edge healthcheck --attempts 3; its stderr says why".to_owned();
                report.warn(CHECK, format!("{who} is not ready: {why}"), fix);
            }
            State::Nobody => {
                report.ok(CHECK, format!("none: nobody answers on {socket}"));
            }
            State::Hidden(why) => {
                let fix = "run doctor as root or as the user of the service".to_owned();
                report.warn(CHECK, format!("unknown: {socket} cannot be asked: {why}"), fix);
            }
            State::NoSocket => {
                let text = "unknown: the configuration has no admin.socket to ask".to_owned();
                let fix = "admin: { socket: /run/openclaw-edge/admin.sock }".to_owned();
                report.warn(CHECK, text, fix);
            }
        }
    }
}

/// The addresses of `/readyz`.
fn bound(told: &Value) -> Vec<SocketAddr> {
    let listeners = told["listeners"].as_array().into_iter().flatten();
    listeners.filter_map(|one| one["address"].as_str()?.parse().ok()).collect()
}

const CHECK: &str = "process";
/// For one question to a process that does nothing slow for it.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_socket_and_without_a_process() {
        assert_eq!(Running::find(None).await.state, State::NoSocket);
        let none = Running::find(Some("/nonexistent/admin.sock".into())).await;
        assert_eq!((none.state, none.pid), (State::Nobody, None));
    }

    /// The wait of a doctor ends, whatever the process does.
    #[tokio::test]
    async fn a_process_that_says_nothing_is_known_by_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        let hung = Running::find(Some(path)).await;
        assert!(matches!(&hung.state, State::Hidden(why) if why.contains("no answer")), "{hung:?}");
        assert_eq!(hung.pid, Some(std::process::id()));
        let (text, own) = hung.file(&Machine::default(), "limits");
        assert!(own && text.unwrap().contains("Max open files"));
    }
}
