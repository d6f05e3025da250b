//! A server under measurement: its process tree, its CPU time and memory as the kernel counts
//! them, and an end that leaves nothing behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{HOST, Result, http, net};

const READY_LIMIT: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_millis(200);

pub struct Server {
    child: Child,
    ports: Vec<u16>,
    stderr: PathBuf,
    /// Master first; listed once, when the server is ready.
    tree: Vec<Member>,
}

/// A process; its start time tells it from a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Member {
    pid: u32,
    started: u64,
}

impl Server {
    /// Starts `argv` with its output thrown away, pinned to `core` if given, and waits until
    /// `ports[0]` (plain HTTP) answers 200 to `GET /`.
    pub fn start(argv: &[String], core: Option<usize>, ports: &[u16], dir: &Path) -> Result<Self> {
        Self::start_within(argv, core, ports, dir, READY_LIMIT)
    }

    pub fn start_within(
        argv: &[String],
        core: Option<usize>,
        ports: &[u16],
        dir: &Path,
        limit: Duration,
    ) -> Result<Self> {
        let stderr = dir.join("stderr.log");
        let child = command(argv, core)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr)?)
            .spawn()
            .map_err(|e| format!("{}: {e}", argv.join(" ")))?;
        let mut server = Self { child, ports: ports.to_vec(), stderr, tree: Vec::new() };
        server.wait_ready(limit).map_err(|e| {
            let said = fs::read_to_string(&server.stderr).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            let from = lines.len().saturating_sub(20);
            let tail = lines.get(from..).unwrap_or_default().join("\n");
            format!("{} is not ready: {e}\n{tail}", argv.join(" "))
        })?;
        server.tree = tree(server.child.id());
        thread::sleep(REST);
        Ok(server)
    }

    fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let port = self.ports.first().copied().ok_or("a server without a port")?;
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("it ended with {status}").into());
            }
            let answer = http::get(net::loopback(port), HOST, "/");
            if matches!(&answer, Ok(reply) if reply.status == 200) {
                return Ok(());
            }
            if start.elapsed() > limit {
                return Err(match answer {
                    Ok(reply) => format!("it answers {} after {limit:?}", reply.status).into(),
                    Err(e) => e,
                });
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Time on CPU so far, all threads of all processes, nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        self.tree.iter().map(|member| cpu_ns(member.pid)).sum()
    }

    /// Proportional set size of all processes, KiB. User space only: kernel socket memory is not
    /// in it.
    pub fn pss_kib(&self) -> u64 {
        self.tree.iter().filter_map(|member| pss_kib(member.pid)).sum()
    }

    /// Kills master, then workers, and checks that the ports are free.
    pub fn stop(mut self) -> Result<()> {
        self.kill();
        self.ports.iter().try_for_each(|port| net::wait_free(*port, READY_LIMIT))
    }

    fn kill(&mut self) {
        let mut members = self.tree.clone();
        if self.is_alive() {
            // Listed again: a reload may have replaced workers.
            members.extend(tree(self.child.id()));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for member in members.iter().filter(|m| m.pid != self.child.id() && m.is_alive()) {
            if let Some(pid) = i32::try_from(member.pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `argv`, on one core where it is given. It is ended when this process dies, so that an
/// interrupted benchmark leaves nothing behind. taskset and setpriv (both of util-linux) replace
/// themselves, so the process id holds.
pub fn command(argv: &[String], core: Option<usize>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    if let Some(core) = core {
        command.args(["taskset", "-c", &core.to_string()]);
    }
    command.args(argv);
    command
}

/// `root` and all its descendants, parents before children.
fn tree(root: u32) -> Vec<Member> {
    let all: Vec<Stat> = entries("/proc")
        .filter_map(|entry| Stat::read(entry.file_name()?.to_str()?.parse().ok()?))
        .collect();
    let mut found: Vec<Member> = all.iter().map(|s| s.member).filter(|m| m.pid == root).collect();
    let mut at = 0;
    while let Some(parent) = found.get(at).map(|m| m.pid) {
        found.extend(all.iter().filter(|stat| stat.parent == parent).map(|stat| stat.member));
        at += 1;
    }
    found
}

impl Member {
    fn is_alive(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.member == self)
    }
}

struct Stat {
    member: Member,
    parent: u32,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Fields 4 (parent) and 22 (start time). The second, the name, may hold blanks and
    /// parentheses, so counting starts after it.
    fn parse(pid: u32, text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(") ")?.1.split_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { member: Member { pid, started }, parent })
    }
}

fn cpu_ns(pid: u32) -> u64 {
    entries(&format!("/proc/{pid}/task"))
        .filter_map(|task| on_cpu(&fs::read_to_string(task.join("schedstat")).ok()?))
        .sum()
}

fn pss_kib(pid: u32) -> Option<u64> {
    pss_of(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn entries(dir: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// First field of `schedstat`: nanoseconds on CPU (then: waiting, time slices).
fn on_cpu(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

fn pss_of(smaps_rollup: &str) -> Option<u64> {
    let line = smaps_rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_gives_its_first_field() {
        assert_eq!(on_cpu("123456789012 55 7\n"), Some(123_456_789_012));
        assert_eq!(on_cpu(""), None);
    }

    #[test]
    fn a_name_with_parentheses_does_not_hide_the_parent() {
        let text = "42 (a) (b c)) S 17 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 4711 23";
        let stat = Stat::parse(42, text).unwrap();
        assert_eq!((stat.parent, stat.member), (17, Member { pid: 42, started: 4711 }));
    }

    #[test]
    fn pss_is_the_plain_line_only() {
        let text = "Rss:  5000 kB\nPss:     1234 kB\nPss_Dirty:  99 kB\n";
        assert_eq!(pss_of(text), Some(1234));
    }

    #[test]
    fn the_cpu_time_of_this_process_grows_with_work() {
        let me = std::process::id();
        let before = cpu_ns(me);
        let until = Instant::now() + Duration::from_millis(20);
        while Instant::now() < until {}
        assert!(cpu_ns(me) > before + 1_000_000);
    }

    #[test]
    fn a_child_is_in_the_tree_of_its_parent() {
        let mut child = Command::new("sleep").arg("30").spawn().unwrap();
        let found = tree(std::process::id());
        let member = found.iter().copied().find(|m| m.pid == child.id());
        let alive = member.map(Member::is_alive);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.first().map(|m| m.pid), Some(std::process::id()));
        assert_eq!((alive, member.map(Member::is_alive)), (Some(true), Some(false)));
    }
}
