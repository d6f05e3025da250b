//! Who has a socket: processes by what is open in them, and what kind of program they are.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::machine::Machine;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// The program's name, at most 15 bytes of it.
    pub name: String,
    /// The command line, shortened.
    pub command: String,
    /// It runs in a pod.
    pub in_pod: bool,
}

/// What kind of program it is, as far as the way to end it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Edge,
    IngressNginx,
    Nginx,
    Traefik,
    /// k3s's servicelb.
    ServiceLb,
    /// Another server of HTTP whose unit has its name.
    Server(&'static str),
    DockerProxy,
    Systemd,
    Other,
}

impl Process {
    pub fn read(machine: &Machine, pid: u32) -> Process {
        let file = |name: &str| machine.read(&format!("/proc/{pid}/{name}")).unwrap_or_default();
        let command = file("cmdline").replace('\0', " ");
        Process {
            pid,
            name: file("comm").trim().to_owned(),
            command: command.trim().chars().take(SHOWN).collect(),
            in_pod: file("cgroup").contains("kubepods"),
        }
    }

    pub fn kind(&self) -> Kind {
        match self.name.as_str() {
            "openclaw-edge" => Kind::Edge,
            "nginx-ingress-c" => Kind::IngressNginx,
            "nginx" if self.in_pod => Kind::IngressNginx,
            "nginx" => Kind::Nginx,
            "traefik" => Kind::Traefik,
            // klipper-lb: `/bin/sh /usr/bin/entry` in a pod.
            "entry" if self.in_pod => Kind::ServiceLb,
            "caddy" => Kind::Server("caddy"),
            "haproxy" => Kind::Server("haproxy"),
            "envoy" => Kind::Server("envoy"),
            "apache2" => Kind::Server("apache2"),
            "httpd" => Kind::Server("httpd"),
            "lighttpd" => Kind::Server("lighttpd"),
            "docker-proxy" => Kind::DockerProxy,
            "systemd" => Kind::Systemd,
            _ => Kind::Other,
        }
    }

    /// What to type so that it gives `port` up.
    pub fn end(&self, port: u16) -> String {
        match self.kind() {
            Kind::IngressNginx => "park ingress-nginx: deploy/README.md, cut-over, step 4".to_owned(),
            Kind::Nginx => "systemctl disable --now nginx".to_owned(),
            Kind::Traefik if self.in_pod => {
                "k3s server --disable=traefik --disable=servicelb (on NixOS services.k3s.extraFlags)"
                    .to_owned()
            }
            Kind::Traefik => "systemctl disable --now traefik".to_owned(),
            Kind::ServiceLb => "k3s server --disable=servicelb".to_owned(),
            Kind::Server(unit) => format!("systemctl disable --now {unit}"),
            Kind::DockerProxy => format!(
                "docker ps --filter publish={port}, and bind that container's port to 127.0.0.1 or none"
            ),
            Kind::Systemd => {
                format!("systemctl list-sockets | grep {port}, and disable that socket unit")
            }
            Kind::Edge | Kind::Other => {
                format!("stop process {}, or give the listener another bind", self.pid)
            }
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Process { pid, name, command, .. } = self;
        let shown = if command.is_empty() { name } else { command };
        match self.kind() {
            Kind::IngressNginx => write!(f, "ingress-nginx, process {pid} ({shown})"),
            Kind::ServiceLb => write!(f, "servicelb of k3s, process {pid} ({shown})"),
            _ => write!(f, "process {pid} ({shown})"),
        }
    }
}

/// Holders by the sockets' inodes. Processes of others are seen by root only.
pub fn holders(machine: &Machine, inodes: &[u64]) -> BTreeMap<u64, Vec<Process>> {
    let mut found: BTreeMap<u64, Vec<Process>> = BTreeMap::new();
    if inodes.is_empty() {
        return found;
    }
    for pid in machine.processes() {
        let mut held: Vec<u64> =
            machine.descriptors(pid).iter().filter_map(|target| socket(target)).collect();
        held.retain(|inode| inodes.contains(inode));
        held.sort_unstable();
        held.dedup();
        for inode in held {
            found.entry(inode).or_default().push(Process::read(machine, pid));
        }
    }
    found
}

/// `socket:[123]`.
fn socket(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Characters of a command line.
const SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::machine::of_files;
    use super::*;

    #[test]
    fn a_holder_is_found_by_its_socket() {
        let (_dir, machine) = of_files(&[
            ("/proc/7/comm", "nginx\n"),
            ("/proc/7/cmdline", "nginx: master process /usr/sbin/nginx\0-g\0daemon off;\0"),
            ("/proc/7/cgroup", "0::/kubepods.slice/kubepods-pod1.slice/x\n"),
            ("/proc/7/fd/x", ""),
            ("/proc/8/comm", "\n"),
        ]);
        symlink("socket:[41]", machine.path("/proc/7/fd/3")).unwrap();
        symlink("socket:[99]", machine.path("/proc/7/fd/4")).unwrap();
        symlink("anon_inode:[eventpoll]", machine.path("/proc/7/fd/5")).unwrap();
        let found = holders(&machine, &[41, 42]);
        assert_eq!(found.len(), 1);
        let nginx = &found[&41][0];
        assert_eq!(nginx.kind(), Kind::IngressNginx);
        assert!(
            nginx.to_string().starts_with("ingress-nginx, process 7 (nginx: master"),
            "{nginx}"
        );
        assert!(nginx.end(80).contains("cut-over"), "{}", nginx.end(80));
        assert_eq!(Process::read(&machine, 8).to_string(), "process 8 ()");
        assert!(holders(&machine, &[]).is_empty());
    }

    #[test]
    fn every_kind_says_how_to_end_it() {
        for (name, in_pod, fix) in [
            ("nginx", false, "systemctl disable --now nginx"),
            ("traefik", true, "--disable=traefik"),
            ("traefik", false, "systemctl disable --now traefik"),
            ("entry", true, "--disable=servicelb"),
            ("caddy", false, "systemctl disable --now caddy"),
            ("docker-proxy", false, "publish=443"),
            ("systemd", false, "list-sockets"),
            ("python3", false, "stop process 5"),
        ] {
            let (name, command) = (name.to_owned(), String::new());
            let process = Process { pid: 5, name, command, in_pod };
            assert!(process.end(443).contains(fix), "{process}: {}", process.end(443));
        }
    }
}
