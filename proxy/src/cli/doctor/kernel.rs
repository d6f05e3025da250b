//! Options of the kernel that decide about connections in a restart or a burst.

use config::model::Global;

use super::line::Report;
use super::machine::Machine;

pub fn look(global: &Global, machine: &Machine, report: &mut Report) {
    for Setting { name, good, value, why } in SETTINGS {
        match machine.sysctl(name) {
            Some(found) if good(found) => report.ok(CHECK, format!("{name} = {found}")),
            Some(found) => {
                let fix = format!(
                    "echo {name}={value} >> /etc/sysctl.d/60-openclaw-edge.conf && sysctl --system"
                );
                report.warn(CHECK, format!("{name} = {found}: {why}"), fix);
            }
            None => {
                let fix = format!(
                    "cat /proc/sys/{} on the machine itself, not in a container; {value} is meant",
                    name.replace('.', "/")
                );
                report.warn(CHECK, format!("unknown: {name} is not there; without it {why}"), fix);
            }
        }
    }
    let any = |listener: &config::model::Listener| {
        listener.bind.iter().any(|bind| bind.is_ipv6() && bind.ip().is_unspecified())
    };
    if global.listeners.values().any(any) && !machine.has("/proc/self/net/if_inet6") {
        let fix = "bind: [\"0.0.0.0:443\"] where that is meant; else sysctl net.ipv6.conf.all.disable_ipv6=0";
        report.warn(CHECK, "no IPv6 here: [::] becomes 0.0.0.0", fix.to_owned());
    }
}

struct Setting {
    name: &'static str,
    good: fn(u64) -> bool,
    value: u64,
    why: &'static str,
}

const CHECK: &str = "kernel";
const SETTINGS: [Setting; 3] = [
    Setting {
        name: "net.ipv4.tcp_migrate_req",
        good: |value| value == 1,
        value: 1,
        why: "clients that connect while a process beside another ends may wait a second, or be reset (not with the socket unit)",
    },
    Setting {
        name: "net.core.somaxconn",
        // What listeners ask for.
        good: |value| value >= 4096,
        value: 4096,
        why: "a burst of new connections overflows the queue",
    },
    Setting {
        name: "net.ipv4.tcp_abort_on_overflow",
        good: |value| value == 0,
        value: 0,
        why: "a burst of new connections is reset instead of answered a moment later",
    },
];

#[cfg(test)]
mod tests {
    use config::NoEnvironment;

    use super::super::line::Level;
    use super::super::machine::of_files;
    use super::*;

    #[test]
    fn each_option_has_its_fix() {
        let text = "version: 1\nlisteners: { web: { bind: ['[::]:1'] } }\n";
        let global = config::parse("edge.yaml", text, &NoEnvironment).unwrap().global;
        let good = [
            ("/proc/sys/net/ipv4/tcp_migrate_req", "1\n"),
            ("/proc/sys/net/core/somaxconn", "8192\n"),
            ("/proc/sys/net/ipv4/tcp_abort_on_overflow", "0\n"),
            ("/proc/self/net/if_inet6", ""),
        ];
        let (_dir, machine) = of_files(&good);
        let mut report = Report::default();
        look(&global, &machine, &mut report);
        assert_eq!(report.count(Level::Ok), 3);
        let bad = [
            ("/proc/sys/net/ipv4/tcp_migrate_req", "0\n"),
            ("/proc/sys/net/core/somaxconn", "128\n"),
            ("/proc/sys/net/ipv4/tcp_abort_on_overflow", "1\n"),
        ];
        let (_dir, machine) = of_files(&bad);
        let mut report = Report::default();
        look(&global, &machine, &mut report);
        assert_eq!(report.count(Level::Warning), 4, "IPv6 too");
        let fix = report.lines[0].fix.as_deref().unwrap();
        assert!(fix.starts_with("echo net.ipv4.tcp_migrate_req=1 >> /etc/sysctl.d/"), "{fix}");
    }
}
