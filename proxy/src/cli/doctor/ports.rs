//! The addresses of the configuration: free, ours, or whose.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use config::model::Global;

use super::line::{Level, Report};
use super::machine::Machine;
use super::process::{Kind, Process, holders};
use super::running::{Running, State};
use super::tcp::{LISTEN, Row, clash, rows};

/// Every connection and listener of this network namespace.
pub fn table(machine: &Machine) -> Vec<Row> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let tables: Vec<String> = tables.iter().filter_map(|table| machine.read(table)).collect();
    tables.iter().flat_map(|table| rows(table)).collect()
}

pub fn look(
    global: &Global,
    running: &Running,
    machine: &Machine,
    table: &[Row],
    report: &mut Report,
) {
    let of = |listener: &'_ config::model::Listener| -> Vec<Wanted> {
        let wanted = |bind: &SocketAddr| Wanted {
            name: format!("{bind} (listener {})", listener.name),
            address: *bind,
            needed: true,
        };
        listener.bind.iter().map(wanted).collect()
    };
    let mut wanted: Vec<Wanted> = global.listeners.values().flat_map(of).collect();
    // Not there it is tried again every second; everything else serves.
    wanted.extend(global.admin.listen.map(|address| Wanted {
        name: format!("{address} (admin)"),
        address,
        needed: false,
    }));
    // A free one is found at the start.
    wanted.retain(|one| one.address.port() != 0);
    let listening: Vec<&Row> = table.iter().filter(|row| row.state == LISTEN).collect();
    let taken = |one: &Wanted| -> Vec<&Row> {
        listening.iter().filter(|row| clash(one.address, row.local)).copied().collect()
    };
    let inodes: Vec<u64> = wanted.iter().flat_map(&taken).map(|row| row.inode).collect();
    let holders = holders(machine, &inodes);
    for one in &wanted {
        one.tell(&taken(one), &holders, running, report);
    }
}

/// An address that the configuration has.
struct Wanted {
    name: String,
    address: SocketAddr,
    /// Without it nothing starts.
    needed: bool,
}

impl Wanted {
    fn tell(
        &self,
        taken: &[&Row],
        holders: &BTreeMap<u64, Vec<Process>>,
        running: &Running,
        report: &mut Report,
    ) {
        let name = &self.name;
        if taken.is_empty() {
            return self.tell_free(running, report);
        }
        let mut who: Vec<&Process> =
            taken.iter().filter_map(|row| holders.get(&row.inode)).flatten().collect();
        who.sort_by_key(|process| process.pid);
        who.dedup_by_key(|process| process.pid);
        let strangers = who.iter().filter(|process| Some(process.pid) != running.pid);
        // With socket activation systemd has it too.
        let ours = who.len() - strangers.clone().count() > 0;
        let mut strangers = strangers.filter(|process| !(ours && process.kind() == Kind::Systemd));
        match strangers.next() {
            Some(process) if process.kind() == Kind::Edge => {
                self.tell_edge(process, running, report);
            }
            Some(process) if process.kind() == Kind::Systemd => {
                let text = format!("{name}: systemd has it for a socket unit");
                let fix =
                    "systemctl list-sockets; right where it is openclaw-edge.socket".to_owned();
                report.warn(CHECK, text, fix);
            }
            Some(process) => {
                let fix = process.end(self.address.port());
                report.add(CHECK, self.level(), format!("{name}: taken by {process}"), Some(fix));
            }
            None if ours || self.is_bound_by(running) => {
                let pid = running.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
                report.ok(CHECK, format!("{name}: the running openclaw-edge{pid}"));
            }
            None => {
                let users: Vec<String> = taken.iter().map(|row| row.uid.to_string()).collect();
                let user = users.first().map_or("", String::as_str);
                let port = self.address.port();
                let text = format!(
                    "{name}: taken by a process of uid {user} that cannot be seen from here"
                );
                let fix = format!("as root on the machine itself: ss -ltnp 'sport = :{port}'");
                // It may be the one that this user cannot ask.
                let ours = running.is_hidden() || running.state == State::NoSocket;
                let level = if ours { Level::Warning } else { self.level() };
                report.add(CHECK, level, text, Some(fix));
            }
        }
    }

    fn tell_free(&self, running: &Running, report: &mut Report) {
        let name = &self.name;
        if !running.answers() {
            return report.ok(CHECK, format!("{name}: free"));
        }
        let text = format!("{name}: the running process does not listen there");
        let fix = "restart it: `bind` and `admin` change with a restart only".to_owned();
        report.add(CHECK, self.level(), text, Some(fix));
    }

    fn tell_edge(&self, other: &Process, running: &Running, report: &mut Report) {
        let name = &self.name;
        match &running.state {
            State::Answers(_) => {
                let text = format!("{name}: also another openclaw-edge, {other}");
                let fix =
                    format!("in a hand-over it ends by itself; else end it: kill {}", other.pid);
                report.warn(CHECK, text, fix);
            }
            State::Nobody => {
                let text = format!("{name}: an openclaw-edge of another configuration, {other}");
                let fix =
                    format!("name its configuration with --config, or end it: kill {}", other.pid);
                report.add(CHECK, self.level(), text, Some(fix));
            }
            // It may be the one; said in the line of the process.
            State::Hidden(_) | State::NoSocket => {
                report.ok(CHECK, format!("{name}: an openclaw-edge, {other}"));
            }
        }
    }

    /// Who runs with a file capability is not open to its own user in /proc.
    fn is_bound_by(&self, running: &Running) -> bool {
        running.answers() && running.bound.iter().any(|bound| clash(self.address, *bound))
    }

    fn level(&self) -> Level {
        if self.needed { Level::Error } else { Level::Warning }
    }
}

const CHECK: &str = "ports";

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "127.0.0.1:8443";

    fn row(inode: u64) -> Row {
        let address = ADDRESS.parse().unwrap();
        let remote = "0.0.0.0:0".parse().unwrap();
        Row { local: address, remote, state: LISTEN, uid: 5, inode }
    }

    fn process(pid: u32, name: &str) -> Process {
        Process { pid, name: name.to_owned(), command: String::new(), in_pod: false }
    }

    fn told(held: &[Process], running: &Running) -> (Level, String) {
        let wanted =
            Wanted { name: "it".to_owned(), address: ADDRESS.parse().unwrap(), needed: true };
        let mut report = Report::default();
        let holders = BTreeMap::from([(41, held.to_vec())]);
        wanted.tell(&[&row(41)], &holders, running, &mut report);
        let line = report.only();
        (line.level, format!("{} {}", line.text, line.fix.as_deref().unwrap_or_default()))
    }

    fn answering(bound: &[&str]) -> Running {
        let bound = bound.iter().map(|address| address.parse().unwrap()).collect();
        Running {
            state: State::Answers(None),
            pid: Some(9),
            uid: Some(5),
            bound,
            configuration: None,
        }
    }

    #[test]
    fn ours_is_ok_also_beside_systemd_and_where_proc_is_closed() {
        let (edge, systemd) = (process(9, "openclaw-edge"), process(1, "systemd"));
        for held in [vec![edge.clone()], vec![systemd.clone(), edge], vec![]] {
            assert_eq!(told(&held, &answering(&[ADDRESS])).0, Level::Ok, "{held:?}");
        }
        let (level, text) = told(&[], &answering(&["127.0.0.1:1"]));
        assert!(level == Level::Error && text.contains("uid 5") && text.contains("ss -ltnp"));
        assert_eq!(told(&[systemd], &Running::default()).0, Level::Warning);
    }

    #[test]
    fn strangers_are_named() {
        let (level, text) = told(&[process(7, "nginx")], &Running::default());
        assert_eq!(level, Level::Error);
        assert!(text.contains("process 7 (nginx) systemctl disable --now nginx"), "{text}");
        // Two that share the port: the stranger is what matters.
        let both = [process(7, "caddy"), process(9, "openclaw-edge")];
        assert_eq!(told(&both, &answering(&[ADDRESS])).0, Level::Error);
        let other = [process(8, "openclaw-edge")];
        let (level, text) = told(&other, &answering(&[]));
        assert!(level == Level::Warning && text.contains("kill 8"), "{text}");
        let (level, text) = told(&other, &Running::default());
        assert!(level == Level::Error && text.contains("another configuration"), "{text}");
        let hidden = Running { state: State::Hidden(String::new()), ..Running::default() };
        assert_eq!(told(&other, &hidden).0, Level::Ok);
        assert_eq!(told(&[], &hidden).0, Level::Warning);
        assert_eq!(told(&[], &Running::default()).0, Level::Error);
    }
}
