//! The state directory and the place of the admin socket: there, whose, closed to others, writable,
//! with room left.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use config::model::Global;
use rustix::fs::{Access, AtFlags, CWD, StatVfsMountFlags, accessat, statvfs};
use rustix::process::geteuid;

use super::home;
use super::line::{Level, Report};
use super::machine::Machine;
use super::process::Process;
use super::running::Running;
use super::unit::Unit;

pub fn look(global: &Global, running: &Running, machine: &Machine, report: &mut Report) {
    let dir = &global.state_dir;
    let shown = dir.display();
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => examine(dir, &found, running, machine, report),
        Ok(_) => report.error(CHECK, format!("{shown} is no directory"), "another state_dir"),
        Err(why) if why.kind() == io::ErrorKind::NotFound => absent(dir, running, report),
        Err(why) => {
            let fix = format!("run doctor as root; else: namei -l {shown}");
            report.warn(CHECK, format!("unknown: {shown}: {why}"), fix);
        }
    }
}

fn absent(dir: &Path, running: &Running, report: &mut Report) {
    let shown = dir.display();
    if running.answers() {
        let fix = format!("install -d -o USER -m 0700 {shown}; then restart");
        return report.error(CHECK, format!("{shown} is gone under the running process"), fix);
    }
    let parent = dir.ancestors().skip(1).find(|parent| parent.exists());
    let uid = geteuid();
    if parent.is_some_and(is_writable) {
        let text = format!("{shown} is not there yet; uid {uid} can make it at the first start");
        return report.warn(
            CHECK,
            text,
            format!("a backup to bring along? restore it before: {RESTORE}"),
        );
    }
    let fix = format!("install -d -o openclaw-edge -g openclaw-edge -m 0700 {shown}");
    report.error(CHECK, format!("{shown} is not there, and uid {uid} cannot make it"), fix);
}

fn examine(
    dir: &Path,
    found: &Metadata,
    running: &Running,
    machine: &Machine,
    report: &mut Report,
) {
    let shown = dir.display();
    let me = geteuid();
    let Some(owner) = owner(found, running, machine) else {
        let text = format!("unknown: {shown} belongs to uid {}, this is uid {me}", found.uid());
        let fix = "run doctor as root or as the user of the service".to_owned();
        return report.warn(CHECK, text, fix);
    };
    let mut fine = true;
    if found.uid() != owner {
        let text =
            format!("{shown} belongs to uid {}, and the process is uid {owner}", found.uid());
        report.error(CHECK, text, format!("chown -R {owner} {shown}"));
        fine = false;
    }
    let tree = Tree::of(dir, owner);
    fine &= tree.tell(dir, owner, report);
    if !is_writable(dir) {
        let text = format!("{shown} cannot be written to by uid {me}");
        let fix = format!("read-only file system? findmnt -T {shown}; as who? run doctor as root");
        // Somebody else's is none of this user's to write.
        let level = if me.as_raw() == owner { Level::Error } else { Level::Warning };
        report.add(CHECK, level, text, Some(fix));
        fine = false;
    }
    fine &= room(dir, report);
    if fine {
        let lock = match lock_holder(dir, machine) {
            Some(process) => format!("; its lock has {process}"),
            None => String::new(),
        };
        report.ok(
            CHECK,
            format!("{shown}: {} files of uid {owner}, closed to others{lock}", tree.files),
        );
    }
}

/// Who is to have it: the running process, the unit's user, this one. `None`: this one may just be
/// somebody else. Root looks for others: then the directory itself says whose it is.
fn owner(found: &Metadata, running: &Running, machine: &Machine) -> Option<u32> {
    let me = geteuid();
    let of_unit = || Unit::find(machine)?.uid(machine);
    if let Some(known) = running.uid.or_else(of_unit) {
        return Some(known);
    }
    let is_service = home::is_container(machine) && !running.is_hidden();
    match me.is_root() {
        true => Some(found.uid()),
        false => (found.uid() == me.as_raw() || is_service).then_some(me.as_raw()),
    }
}

/// What is wrong below a directory.
#[derive(Default)]
struct Tree {
    files: usize,
    /// Others may read or write them.
    open: Vec<PathBuf>,
    strange: Vec<PathBuf>,
    unread: Vec<String>,
}

impl Tree {
    fn of(dir: &Path, owner: u32) -> Tree {
        let mut tree = Tree::default();
        let mut waiting = vec![dir.to_owned()];
        while let Some(path) = waiting.pop() {
            // Links lead elsewhere; they are not followed.
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            if found.uid() != owner && path != dir {
                tree.strange.push(path.clone());
            }
            if !found.is_symlink() && found.mode() & 0o077 != 0 {
                tree.open.push(path.clone());
            }
            if !found.is_dir() {
                tree.files += 1;
                continue;
            }
            match fs::read_dir(&path) {
                Ok(entries) if tree.files < MOST => {
                    waiting.extend(entries.flatten().map(|entry| entry.path()));
                }
                Ok(_) => {}
                Err(why) => tree.unread.push(format!("{}: {why}", path.display())),
            }
        }
        tree
    }

    /// Whether all is well.
    fn tell(&self, dir: &Path, owner: u32, report: &mut Report) -> bool {
        let shown = dir.display();
        if !self.open.is_empty() {
            let text = format!("open to other users, and keys are in it: {}", some(&self.open));
            report.error(CHECK, text, format!("chmod -R go= {shown}"));
        }
        if !self.strange.is_empty() {
            let text = format!("not of uid {owner}: {}", some(&self.strange));
            report.error(CHECK, text, format!("chown -R {owner} {shown}"));
        }
        if let Some(first) = self.unread.first() {
            let fix = format!("run doctor as root or uid {owner}");
            report.warn(CHECK, format!("unknown: {first}"), fix);
        }
        self.open.is_empty() && self.strange.is_empty() && self.unread.is_empty()
    }
}

fn some(paths: &[PathBuf]) -> String {
    let mut shown: Vec<String> =
        paths.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    if paths.len() > SHOWN {
        shown.push(format!("{} more", paths.len() - SHOWN));
    }
    shown.join(", ")
}

/// Whether there is room for certificates to come.
fn room(dir: &Path, report: &mut Report) -> bool {
    let Ok(found) = statvfs(dir) else { return true };
    let shown = dir.display();
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    // 0 of 0: a file system without a fixed number.
    let inodes = if found.f_files == 0 { u64::MAX } else { found.f_favail };
    let told = format!("{shown}: {} MiB and {inodes} inodes free", free / MIB);
    let fix = format!("df -h {shown}; df -i {shown}");
    if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let fix = format!("findmnt -T {shown}; mount it writable");
        report.error(CHECK, format!("{shown} is on a read-only file system"), fix);
    } else if free < 16 * MIB || inodes < 64 {
        report.error(CHECK, told, fix);
    } else if free < 128 * MIB || inodes < 1024 {
        report.warn(CHECK, told, fix);
    } else {
        return true;
    }
    false
}

/// Who orders and writes, by /proc/locks: to try the lock would take it from them for a moment.
fn lock_holder(dir: &Path, machine: &Machine) -> Option<Process> {
    let lock = fs::metadata(dir.join(acme::store::FOLDER).join(".lock")).ok()?;
    let (major, minor) = (rustix::fs::major(lock.dev()), rustix::fs::minor(lock.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", lock.ino());
    let pid = machine.read("/proc/locks")?.lines().find_map(|line| holder(line, &place))?;
    Some(Process::read(machine, pid))
}

/// `1: FLOCK  ADVISORY  WRITE 26885 fe:00:10125618 0 EOF`; of those that wait `1: -> FLOCK ...`.
fn holder(line: &str, place: &str) -> Option<u32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    match fields.as_slice() {
        [_, "FLOCK", _, _, pid, at, ..] if *at == place => pid.parse().ok(),
        _ => None,
    }
}

fn is_writable(path: &Path) -> bool {
    accessat(CWD, path, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

// === admin socket ===

pub fn socket(global: &Global, running: &Running, machine: &Machine, report: &mut Report) {
    let Some(path) = &global.admin.socket else { return };
    let shown = path.display();
    let dir = path.parent().unwrap_or(Path::new("/"));
    let Ok(found) = fs::metadata(dir) else {
        let fix = format!(
            "unit: RuntimeDirectory=openclaw-edge; else install -d -o USER -m 0750 {}",
            dir.display()
        );
        return report.error(
            SOCKET,
            format!("{} is not there, so no command finds the process", dir.display()),
            fix,
        );
    };
    // Whoever may write there could put another socket in its place; in a pod there is nobody else.
    let open = found.mode() & 0o002 != 0 && found.mode() & 0o1000 == 0;
    if open && !home::is_container(machine) {
        let fix = format!("chmod o-w {}", dir.display());
        return report.error(SOCKET, format!("everybody may write to {}", dir.display()), fix);
    }
    let socket = fs::symlink_metadata(path);
    match socket {
        Ok(socket) if !socket.file_type().is_socket() => {
            report.error(
                SOCKET,
                format!("{shown} is no socket"),
                format!("rm {shown}; then restart"),
            );
        }
        Ok(socket) if socket.mode() & 0o077 != 0 => {
            let text = format!(
                "{shown} has mode {:04o}: others may drain and shift",
                socket.mode() & 0o7777
            );
            report.error(SOCKET, text, format!("chmod 0600 {shown}"));
        }
        Err(_) if running.answers() => {
            let fix = "restart it".to_owned();
            report.warn(SOCKET, format!("{shown} is gone under the running process"), fix);
        }
        Err(_) if !is_writable(dir) => {
            let text = format!("uid {} cannot make {shown}", geteuid());
            let fix =
                format!("run doctor as the user of the service; else chown USER {}", dir.display());
            report.add(SOCKET, Level::Warning, text, Some(fix));
        }
        _ => report.ok(SOCKET, format!("{shown}, for its owner alone")),
    }
}

const CHECK: &str = "state";
const SOCKET: &str = "socket";
const RESTORE: &str = "openclaw-edge restore FILE";
/// Files that are looked at: ten for each of 10,000 certificates.
const MOST: usize = 100_000;
/// Paths of one line.
const SHOWN: usize = 3;
const MIB: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_open_to_others_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let uid = geteuid().as_raw();
        fs::create_dir(path.join("acme")).unwrap();
        fs::write(path.join("acme/key.pem"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path.join("acme/link")).unwrap();
        let all =
            |mode| fs::set_permissions(path.join("acme/key.pem"), Permissions::from_mode(mode));
        fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(path.join("acme"), Permissions::from_mode(0o700)).unwrap();
        all(0o600).unwrap();
        let tree = Tree::of(path, uid);
        assert_eq!((tree.files, tree.open.len(), tree.strange.len()), (2, 0, 0), "{:?}", tree.open);
        all(0o640).unwrap();
        assert_eq!(Tree::of(path, uid).open, [path.join("acme/key.pem")]);
        assert_eq!(Tree::of(path, uid + 1).strange.len(), 3, "not the directory: told by itself");
    }

    #[test]
    fn whose_it_is_to_be() {
        use super::super::machine::of_files;
        use super::super::running::State;
        let dir = tempfile::tempdir().unwrap();
        let found = fs::metadata(dir.path()).unwrap();
        let own = Some(found.uid());
        let hidden = || Running { state: State::Hidden(String::new()), ..Running::default() };
        let (_bare, bare) = of_files(&[]);
        assert_eq!(owner(&found, &Running::default(), &bare), own);
        let other = Running { uid: Some(4711), ..Running::default() };
        assert_eq!(owner(&found, &other, &bare), Some(4711));
        let (_unit, unit) = of_files(&[
            ("/run/systemd/system/x", ""),
            ("/etc/systemd/system/openclaw-edge.service", "[Service]\nUser=edge\n"),
            ("/etc/passwd", "root:x:0:0::/:/bin/sh\nedge:x:997:997::/:/bin/false\n"),
        ]);
        assert_eq!(owner(&found, &hidden(), &unit), Some(997));
        let strange = fs::metadata(if geteuid().is_root() { "/" } else { "/etc/passwd" }).unwrap();
        let known = geteuid().is_root().then_some(strange.uid());
        assert_eq!(owner(&strange, &hidden(), &bare), known, "not ours, and nobody says whose");
    }

    #[test]
    fn the_holder_of_a_lock() {
        let line = "1: FLOCK  ADVISORY  WRITE 26885 fe:00:10125618 0 EOF";
        assert_eq!(holder(line, "fe:00:10125618"), Some(26885));
        assert_eq!(holder(line, "fe:00:1"), None);
        assert_eq!(holder("1: -> FLOCK  ADVISORY  WRITE 7 fe:00:1 0 EOF", "fe:00:1"), None);
        assert_eq!(holder("1: POSIX  ADVISORY  WRITE 7 fe:00:1 0 EOF", "fe:00:1"), None);
        assert_eq!(holder("", "fe:00:1"), None);
    }

    #[test]
    fn a_real_lock_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = acme::store::Store::open(dir.path()).unwrap();
        let machine = Machine::default();
        assert_eq!(lock_holder(dir.path(), &machine), None);
        let _lock = store.try_own().unwrap().unwrap();
        let told = lock_holder(dir.path(), &machine).map(|process| process.pid);
        assert_eq!(told, Some(std::process::id()));
    }
}
