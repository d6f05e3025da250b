//! What the service manager is told (sd_notify(3)): datagrams to the socket that it names in
//! `NOTIFY_SOCKET`. Without that nothing is sent and nothing else happens.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The way to the service manager, if there is one.
#[derive(Default)]
pub struct Notifier(Option<Manager>);

struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// As `NOTIFY_SOCKET` says. A value that cannot be used is logged and counts as none.
    pub fn of_environment() -> Notifier {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let Some(name) = name else { return Notifier::default() };
        match Manager::at(&name) {
            Ok(manager) => Notifier(Some(manager)),
            Err(why) => {
                tracing::warn!("NOTIFY_SOCKET {name:?} cannot be used: {why}");
                Notifier::default()
            }
        }
    }

    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// It serves: after the start, or after a reload.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// A reload begins. Ends with [`ready`](Self::ready). The time lets `Type=notify-reload` tell
    /// this reload from an earlier one.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading the configuration"
        ));
    }

    /// The drain begins and takes no longer than this, whatever the unit's `TimeoutStopSec` says.
    pub fn stopping(&self, at_most: Duration, status: &str) {
        let mut text = "STOPPING=1\n".to_owned();
        let _ = writeln!(text, "EXTEND_TIMEOUT_USEC={}", at_most.as_micros());
        let _ = write!(text, "STATUS={}", one_line(status));
        self.send(&text);
    }

    /// For the watchdog.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        let Some(manager) = &self.0 else { return };
        // Not connected: the manager may have made its socket anew since the last message.
        if let Err(why) = manager.socket.send_to_addr(message.as_bytes(), &manager.address) {
            let what = message.lines().next().unwrap_or_default();
            tracing::warn!("the service manager was not told {what}: {why}");
        }
    }
}

impl Manager {
    /// A path, or a name in the abstract namespace after `@`.
    fn at(name: &OsStr) -> io::Result<Manager> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other("neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that reads nothing must not stop the control thread for ever.
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Manager { socket, address })
    }
}

/// The next line would be another message.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, address: &SocketAddr) -> (Notifier, UnixDatagram) {
        let manager = UnixDatagram::bind_addr(address).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (Notifier(Some(Manager::at(OsStr::new(name)).unwrap())), manager)
    }

    fn heard(manager: &UnixDatagram) -> String {
        let mut message = [0; 4096];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    #[test]
    fn messages_arrive_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("openclaw-edge-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (text, address) in [
            (path.to_str().unwrap().to_owned(), SocketAddr::from_pathname(&path).unwrap()),
            (format!("@{name}"), abstract_name),
        ] {
            let (notifier, manager) = pair(&text, &address);
            notifier.ready("serving\nREADY=0");
            assert_eq!(heard(&manager), "READY=1\nSTATUS=serving READY=0");
            notifier.stopping(Duration::from_secs(20), "draining");
            let expected = "STOPPING=1\nEXTEND_TIMEOUT_USEC=20000000\nSTATUS=draining";
            assert_eq!(heard(&manager), expected);
            notifier.alive();
            assert_eq!(heard(&manager), "WATCHDOG=1");
        }
    }

    #[test]
    fn the_time_of_a_reload_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let address = SocketAddr::from_pathname(&path).unwrap();
        let (notifier, manager) = pair(path.to_str().unwrap(), &address);
        let time = || -> u64 {
            notifier.reloading();
            let message = heard(&manager);
            assert!(message.starts_with("RELOADING=1\n"), "{message}");
            let line = message.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
            line.unwrap().parse().unwrap()
        };
        let first = time();
        assert!(first > 0 && time() >= first);
    }

    #[test]
    fn a_manager_that_is_gone_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nobody");
        let manager = Manager::at(path.as_os_str()).unwrap();
        Notifier(Some(manager)).alive();
        Notifier::default().alive();
        for other in ["vsock:2:1234", "relative", "@"] {
            let made = Manager::at(OsStr::new(other));
            assert!(other == "@" || made.is_err(), "{other}");
        }
    }
}
