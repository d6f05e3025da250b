//! Where a running process is to be found, and what its configuration says: `--config`, `--socket`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use config::error::Errors;
use config::merge::{Accepted, merge};
use config::{Environment, SystemEnvironment};

use crate::control::reload;

/// The options of every command that talks to a running process.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Configuration that names `admin.socket` and `state_dir`
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "OPENCLAW_EDGE_CONFIG",
        default_value = "/etc/openclaw-edge/edge.yaml"
    )]
    pub config: PathBuf,
    /// The running process's admin socket, instead of the configuration's `admin.socket`
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl Place {
    /// The socket to ask; `None`: the configuration names none.
    ///
    /// # Errors
    /// The configuration cannot be read.
    pub fn socket(&self) -> Result<Option<PathBuf>, String> {
        match &self.socket {
            Some(path) => Ok(Some(path.clone())),
            None => Ok(self.accepted()?.global.admin.socket.clone()),
        }
    }

    /// The configuration. Values that only the service's environment has (`${env:X}`, files of
    /// another user) are no reason to fail: this command is not the service.
    ///
    /// # Errors
    /// Findings with their places, and what to do.
    pub fn accepted(&self) -> Result<Accepted, String> {
        self.accepted_or("the socket with --socket PATH")
    }

    /// The same; `other` says in errors what else can be named.
    ///
    /// # Errors
    /// As [`Place::accepted`].
    pub fn accepted_or(&self, other: &str) -> Result<Accepted, String> {
        let reading = reload::read(&self.config);
        let errors = match reading.result {
            Ok(candidate) => return Ok(merge(None, candidate)),
            Err(errors) => errors,
        };
        let name = self.config.display().to_string();
        let guesses: [Guess; 2] = [|name| if is_mail(name) { ADDRESS } else { KEY }, |_| ADDRESS];
        for guess in guesses.into_iter().filter(|_| !reading.text.is_empty()) {
            if let Ok(candidate) = config::parse(&name, &reading.text, &Lenient(guess)) {
                return Ok(merge(None, candidate));
            }
        }
        Err(tell(&self.config, &reading.text, errors, other))
    }
}

fn tell(file: &Path, text: &str, errors: Errors, other: &str) -> String {
    let found = errors.render(&file.display().to_string(), text);
    format!("{found}name the configuration with --config FILE, or {other}")
}

/// Has a value for what this process may not see. It is never sent anywhere.
struct Lenient(Guess);

/// A value of the kind that a variable or file of this name has.
type Guess = fn(&str) -> &'static str;

fn is_mail(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("mail") || name.contains("contact")
}

impl Environment for Lenient {
    fn var(&self, name: &str) -> Option<String> {
        SystemEnvironment.var(name).or_else(|| Some((self.0)(name).to_owned()))
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        SystemEnvironment.read(path).or_else(|_| Ok((self.0)(&name).to_owned()))
    }
}

const ADDRESS: &str = "unknown@openclaw.invalid";
/// Passes as text and as base64url of 32 bytes.
const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What a command came to, other than 0 and 2.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// A negative result.
    No(String),
    /// The admin server cannot be reached.
    Unreachable(String),
    TimedOut(String),
}

impl End {
    fn code(&self) -> u8 {
        match self {
            End::No(_) => 1,
            End::Unreachable(_) => 3,
            End::TimedOut(_) => 5,
        }
    }
}

/// The text to stderr, and the exit code.
pub fn finish(result: Result<(), End>) -> ExitCode {
    let Err(end) = result else { return ExitCode::SUCCESS };
    let (End::No(text) | End::Unreachable(text) | End::TimedOut(text)) = &end;
    if !text.is_empty() {
        eprintln!("error: {}", text.trim_end());
    }
    ExitCode::from(end.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path, text: &str) -> Place {
        let config = dir.join("edge.yaml");
        std::fs::write(&config, text).unwrap();
        Place { config, socket: None }
    }

    const FILE: &str = "version: 1\nstate_dir: /s\nadmin: { socket: /s/admin.sock }\n\
        listeners: { web: { bind: ['127.0.0.1:1'] } }\nissuers:\n  \
        ca: { directory: 'https://ca.openclaw.example/dir', email: '${env:EDGE_CLI_MAIL}',\n  \
        eab: { key_id: k, hmac_key: '${file:/nonexistent/hmac}' } }\n";

    #[test]
    fn values_of_the_service_are_not_needed() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), FILE);
        assert_eq!(place.socket().unwrap(), Some(PathBuf::from("/s/admin.sock")));
        assert_eq!(place.accepted().unwrap().global.state_dir, PathBuf::from("/s"));
    }

    #[test]
    fn the_option_wins_and_needs_no_file() {
        let (config, socket) = ("/nonexistent/edge.yaml".into(), Some("/x".into()));
        let place = Place { config, socket };
        assert_eq!(place.socket().unwrap(), Some(PathBuf::from("/x")));
        let why = place.accepted().unwrap_err();
        assert!(why.contains("/nonexistent/edge.yaml") && why.contains("--socket"), "{why}");
    }

    #[test]
    fn a_broken_file_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let why = place(dir.path(), "version: 1\nlisteners: 7\n").socket().unwrap_err();
        assert!(why.contains("edge.yaml:2"), "{why}");
    }
}
