//! Where this runs, and what of it is a trap: a config file that is mounted alone, k3s's own edge,
//! another edge beside.

use std::path::Path;

use super::line::Report;
use super::machine::Machine;
use super::process::{Kind, Process};

pub fn look(config: &Path, machine: &Machine, report: &mut Report) {
    place(machine, report);
    mount(config, machine, report);
    others(machine, report);
}

/// In a pod or a container: what is mounted there is its own.
pub fn is_container(machine: &Machine) -> bool {
    is_pod(machine) || machine.has("/.dockerenv") || machine.has("/run/.containerenv")
}

fn is_pod(machine: &Machine) -> bool {
    // Without a service account's token and with a cgroup namespace the hosts file is all there is.
    let file = |path: &str, part: &str| machine.read(path).is_some_and(|text| text.contains(part));
    file("/proc/self/cgroup", "kubepods")
        || machine.has("/var/run/secrets/kubernetes.io")
        || file("/etc/hosts", "Kubernetes-managed hosts file")
}

fn place(machine: &Machine, report: &mut Report) {
    let text = if is_pod(machine) {
        "in a pod: only what the pod sees is looked at"
    } else if is_container(machine) {
        "in a container: only what it sees is looked at"
    } else if machine.has("/etc/NIXOS") {
        "on NixOS: fixes belong into its configuration, not into /etc"
    } else if machine.has("/var/lib/rancher/k3s") || machine.has("/etc/rancher/k3s") {
        "on a node of k3s"
    } else if machine.has("/run/systemd/system") {
        "on a machine with systemd"
    } else {
        "neither container nor systemd seen"
    };
    report.ok(HOME, text);
}

/// A mounted file is the old one for ever, whoever replaces it outside (Kubernetes: `subPath`).
fn mount(config: &Path, machine: &Machine, report: &mut Report) {
    let Ok(config) = std::path::absolute(config) else { return };
    let Some(mounts) = machine.read("/proc/self/mountinfo") else { return };
    if mounts.lines().filter_map(mount_point).any(|point| Path::new(&point) == config) {
        let text = format!("{} is mounted alone: a changed file is never seen", config.display());
        let fix = "mount its directory (Kubernetes: no subPath)".to_owned();
        report.warn(HOME, text, fix);
    }
}

/// Fifth field (proc_pid_mountinfo(5)); blanks are `\040`.
fn mount_point(line: &str) -> Option<String> {
    let field = line.split(' ').nth(4)?;
    Some(field.replace("\\040", " ").replace("\\134", "\\"))
}

/// Those who take ports by NAT have no socket there.
fn others(machine: &Machine, report: &mut Report) {
    let mut told = Vec::new();
    for pid in machine.processes() {
        let process = Process::read(machine, pid);
        let kind = process.kind();
        let is_edge = matches!(kind, Kind::IngressNginx | Kind::Traefik | Kind::ServiceLb);
        // A plain nginx in a pod is a backend like any other.
        let is_edge = is_edge && process.name != "nginx";
        if !is_edge || told.contains(&kind) {
            continue;
        }
        told.push(kind);
        let text = format!("{process} runs here; it may take ports by NAT, which no socket shows");
        report.warn(OTHERS, text, process.end(80));
    }
    if told.is_empty() {
        report.ok(OTHERS, "no ingress-nginx, traefik or servicelb is seen");
    }
}

const HOME: &str = "home";
const OTHERS: &str = "others";

#[cfg(test)]
mod tests {
    use super::super::line::Level;
    use super::super::machine::of_files;
    use super::*;

    fn told(files: &[(&str, &str)]) -> Vec<(Level, String)> {
        let (_dir, machine) = of_files(files);
        let mut report = Report::default();
        look(Path::new("/etc/openclaw-edge/edge.yaml"), &machine, &mut report);
        report.lines.into_iter().map(|line| (line.level, line.text)).collect()
    }

    #[test]
    fn a_file_that_is_mounted_alone() {
        let line = |point| format!("36 35 98:0 /x {point} rw,noatime shared:1 - ext4 /dev/x rw\n");
        let of = |point| {
            let text = line(point);
            told(&[("/proc/self/mountinfo", text.as_str())])
        };
        assert_eq!(of("/etc/openclaw-edge/edge.yaml")[1].0, Level::Warning);
        assert!(of("/etc/openclaw-edge").iter().all(|(level, _)| *level == Level::Ok));
        assert!(of("odd").iter().all(|(level, _)| *level == Level::Ok));
        assert_eq!(mount_point("1 2 3 4 /a\\040b 6"), Some("/a b".to_owned()));
    }

    #[test]
    fn another_edge_is_told_once() {
        let pod = "0::/kubepods.slice/x\n";
        let lines = told(&[
            ("/proc/5/comm", "traefik\n"),
            ("/proc/5/cgroup", pod),
            ("/proc/6/comm", "traefik\n"),
            ("/proc/7/comm", "nginx\n"),
            ("/proc/7/cgroup", pod),
            ("/proc/8/comm", "entry\n"),
            ("/proc/8/cgroup", pod),
            ("/etc/rancher/k3s/x", ""),
            ("/proc/self/cgroup", "0::/\n"),
        ]);
        let warned: Vec<_> = lines.iter().filter(|line| line.0 == Level::Warning).collect();
        assert_eq!(warned.len(), 2, "{lines:?}");
        assert!(lines[0].1.contains("k3s"));
    }
}
