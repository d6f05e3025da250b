//! Ports below `net.ipv4.ip_unprivileged_port_start`: whether they can be bound, and why not.

use config::model::Global;
use rustix::fs::getxattr;

use super::line::{Level, Report};
use super::machine::Machine;
use super::running::Running;
use super::status::{NET_BIND_SERVICE, Status};
use super::unit::Unit;

pub fn look(global: &Global, running: &Running, machine: &Machine, report: &mut Report) {
    let start = machine.sysctl("net.ipv4.ip_unprivileged_port_start").unwrap_or(1024);
    let low: Vec<String> = global
        .listeners
        .values()
        .flat_map(|listener| &listener.bind)
        .map(|bind| bind.port())
        .filter(|port| *port != 0 && u64::from(*port) < start)
        .map(|port| port.to_string())
        .collect();
    if low.is_empty() {
        return report.ok(CHECK, format!("no port below {start}: no right is needed"));
    }
    let ports = low.join(", ");
    let bound = |port: &String| running.bound.iter().any(|at| at.port().to_string() == *port);
    if running.answers() && low.iter().all(bound) {
        return report.ok(CHECK, format!("the running process has the ports {ports}"));
    }
    let status = machine.read("/proc/self/status").and_then(|text| Status::parse(&text));
    let Some(status) = status else {
        let text = format!("unknown: /proc/self/status cannot be read; the ports are {ports}");
        return report.warn(
            CHECK,
            text,
            "mount /proc; unit: AmbientCapabilities=CAP_NET_BIND_SERVICE",
        );
    };
    let uid = status.uid;
    if status.may_bind_low_ports() {
        let text = format!("uid {uid} may bind the ports {ports} (CAP_NET_BIND_SERVICE)");
        return report.ok(CHECK, text);
    }
    let unit = Unit::find(machine);
    if let Some(unit) =
        unit.filter(|unit| unit.list("AmbientCapabilities").contains("CAP_NET_BIND_SERVICE"))
    {
        let text =
            format!("{unit} gives CAP_NET_BIND_SERVICE; uid {uid} of this shell has not got it");
        return report.ok(CHECK, text);
    }
    let (why, fix) = reason(&status, has_file_capability());
    let text = format!("uid {uid} may not bind the ports {ports}: {why}");
    // The process that this user cannot ask may have them.
    let level = if running.is_hidden() { Level::Warning } else { Level::Error };
    report.add(CHECK, level, text, Some(fix.to_owned()));
}

fn reason(status: &Status, file_capability: Option<bool>) -> (&'static str, &'static str) {
    if status.bounding & NET_BIND_SERVICE == 0 {
        return (
            "CAP_NET_BIND_SERVICE is not in the bounding set, so nothing can give it",
            "container: capabilities: { add: [NET_BIND_SERVICE] } (compose: cap_add); unit: CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        );
    }
    match file_capability {
        Some(true) if status.no_new_privs => (
            "the binary has the file capability, and NoNewPrivs makes it void",
            "unit: AmbientCapabilities=CAP_NET_BIND_SERVICE; or sysctl net.ipv4.ip_unprivileged_port_start=80",
        ),
        Some(true) => (
            "the binary has a file capability without CAP_NET_BIND_SERVICE, or lies on a nosuid mount",
            "setcap cap_net_bind_service=+ep /usr/bin/openclaw-edge; unit: AmbientCapabilities=CAP_NET_BIND_SERVICE",
        ),
        _ => (
            "it is not root, and nothing gives it CAP_NET_BIND_SERVICE",
            "setcap cap_net_bind_service=+ep /usr/bin/openclaw-edge; unit: AmbientCapabilities=CAP_NET_BIND_SERVICE",
        ),
    }
}

/// Whether this binary has any; `None`: cannot be told.
fn has_file_capability() -> Option<bool> {
    let own = std::env::current_exe().ok()?;
    let mut value = [0u8; 64];
    match getxattr(own, "security.capability", &mut value[..]) {
        Ok(length) => Some(length > 0),
        Err(rustix::io::Errno::NODATA) => Some(false),
        Err(_) => None,
    }
}

const CHECK: &str = "rights";
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use config::NoEnvironment;

    use super::super::machine::of_files;
    use super::*;

    fn global(port: u16) -> Arc<Global> {
        let text = format!("version: 1\nlisteners: {{ web: {{ bind: ['127.0.0.1:{port}'] }} }}\n");
        config::parse("edge.yaml", &text, &NoEnvironment).unwrap().global
    }

    fn told(port: u16, files: &[(&str, &str)]) -> (Level, String) {
        let (_dir, machine) = of_files(files);
        let mut report = Report::default();
        look(&global(port), &Running::default(), &machine, &mut report);
        (report.only().level, report.only().text.clone())
    }

    const POOR: &str = "Uid:\t5\t5\t5\t5\nCapEff:\t0\nCapBnd:\t400\nNoNewPrivs:\t0\n";
    const RICH: &str = "Uid:\t5\t5\t5\t5\nCapEff:\t400\nCapBnd:\t400\nNoNewPrivs:\t1\n";

    #[test]
    fn the_capability_counts_and_only_for_low_ports() {
        let start = ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "80\n");
        assert_eq!(told(443, &[("/proc/self/status", RICH)]).0, Level::Ok);
        let (level, text) = told(443, &[("/proc/self/status", POOR)]);
        assert!(level == Level::Error && text.contains("uid 5") && text.contains("443"), "{text}");
        assert_eq!(told(443, &[("/proc/self/status", POOR), start]).0, Level::Ok);
        assert_eq!(told(79, &[("/proc/self/status", POOR), start]).0, Level::Error);
        assert_eq!(told(8443, &[("/proc/self/status", POOR)]).0, Level::Ok);
        assert_eq!(told(443, &[]).0, Level::Warning);
    }

    #[test]
    fn a_unit_gives_what_a_shell_has_not() {
        let unit = (
            "/usr/lib/systemd/system/openclaw-edge.service",
            "[Service]\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n",
        );
        let systemd = ("/run/systemd/system/x", "");
        let shell = ("/proc/self/status", POOR);
        assert_eq!(told(443, &[shell, unit, systemd]).0, Level::Ok);
        assert_eq!(told(443, &[shell, unit]).0, Level::Error, "in a container");
        let other = ("/etc/systemd/system/openclaw-edge.service", "[Service]\n");
        assert_eq!(told(443, &[shell, unit, systemd, other]).0, Level::Error, "that one wins");
    }

    #[test]
    fn reasons_differ() {
        let status =
            |bounding, no_new_privs| Status { bounding, no_new_privs, ..Status::default() };
        let said = |status, file| reason(&status, file).0;
        assert!(said(status(0, true), Some(true)).contains("bounding"));
        assert!(said(status(NET_BIND_SERVICE, true), Some(true)).contains("NoNewPrivs"));
        assert!(said(status(NET_BIND_SERVICE, false), Some(true)).contains("nosuid"));
        assert!(said(status(NET_BIND_SERVICE, false), Some(false)).contains("not root"));
    }
}
