//! Descriptors and memory: what the configuration may need, against what the process may have.

use config::model::Global;

use super::line::{Level, Report};
use super::machine::Machine;
use super::running::Running;
use super::status::open_files;
use super::unit::Unit;

// === descriptors ===

/// design.md §4: connections are min(15,000, (limit - 128) / 2), as each may need one to an endpoint.
pub fn descriptors(global: &Global, running: &Running, machine: &Machine, report: &mut Report) {
    let (limits, of_running) = running.file(machine, "limits");
    let Some((soft, hard)) = limits.as_deref().and_then(open_files) else {
        let text = "unknown: /proc/self/limits cannot be read";
        return report.warn(FILES, text, "mount /proc; ulimit -Hn says it too, 65536 is meant");
    };
    let unit = Unit::find(machine).filter(|_| !of_running);
    let of_unit = unit.as_ref().and_then(|unit| unit.last("LimitNOFILE")?.parse().ok());
    let (limit, whose) = match (of_unit, of_running) {
        (Some(limit), _) => (limit, "LimitNOFILE of the unit"),
        (None, true) => (hard, "of the running process"),
        (None, false) => (hard, "of this shell; the service's own may be another"),
    };
    // The process raises the soft one itself.
    let shown = format!("{limit} ({whose}; soft {soft})");
    let (level, told) = enough(&needs(global), limit);
    let fix =
        "unit: LimitNOFILE=65536; compose: ulimits: { nofile: 65536 }; shell: ulimit -n 65536";
    let fix = (level != Level::Ok).then(|| fix.to_owned());
    report.add(FILES, level, format!("{shown}: {told}"), fix);
}

/// What the configuration names; the rest follows from the limit.
struct Needs {
    /// Sum of `limits.connections`.
    clients: u64,
    /// Listeners without one.
    free: usize,
    upstream: Option<u64>,
}

fn needs(global: &Global) -> Needs {
    let named = global.listeners.values().filter_map(|one| one.limits.connections);
    let clients = named.clone().map(|count| count as u64).sum();
    let free = global.listeners.len() - named.count();
    Needs { clients, free, upstream: global.limits.upstream_connections.map(|count| count as u64) }
}

fn enough(needs: &Needs, limit: u64) -> (Level, String) {
    let half = limit.saturating_sub(RESERVED) / 2;
    let least = needs.clients.saturating_add(RESERVED);
    if needs.clients > 0 && limit < least {
        let text = format!("limits.connections adds up to {}, which needs {least}", needs.clients);
        return (Level::Error, text);
    }
    // A client's connection may have one to an endpoint.
    let upstream = needs.upstream.unwrap_or(needs.clients);
    let both = least.saturating_add(upstream);
    if needs.clients > 0 && limit < both {
        let text = format!(
            "limits.connections adds up to {}; with as many to endpoints {both} are needed",
            needs.clients
        );
        return (Level::Warning, text);
    }
    let connections = half.min(MOST);
    let text = match needs.free {
        0 => format!("enough for {} connections of clients", needs.clients),
        _ => format!("enough for {connections} connections on each listener that names no limit"),
    };
    if needs.free > 0 && limit < RESERVED + 2 * MOST {
        return (Level::Warning, format!("{text}; {RECOMMENDED} is meant"));
    }
    (Level::Ok, text)
}

const FILES: &str = "descriptors";
/// As `route/compile.rs` reserves them.
const RESERVED: u64 = 128;
/// Connections of a listener that names no limit, at most.
const MOST: u64 = 15_000;
/// For those, as many to endpoints, and more.
const RECOMMENDED: u64 = 65_536;

// === memory ===

pub fn memory(global: &Global, running: &Running, machine: &Machine, report: &mut Report) {
    let (cgroup, of_running) = running.file(machine, "cgroup");
    let unit = Unit::find(machine).filter(|_| !of_running);
    let of_unit = unit.as_ref().and_then(|unit| unit.bytes("MemoryMax"));
    // The shell's is not the service's.
    let cgroup = cgroup.filter(|_| unit.is_none());
    let of_cgroup = cgroup.and_then(|text| cgroup_limit(&text, machine));
    let total = machine.read("/proc/meminfo").and_then(|text| total_memory(&text));
    let known = [
        (of_unit, "MemoryMax of the unit"),
        (of_cgroup, if of_running { "cgroup of the process" } else { "cgroup of this shell" }),
        (total, "all memory of the machine"),
    ];
    let known = known.into_iter().filter_map(|(bytes, whose)| Some((bytes?, whose)));
    let Some((limit, whose)) = known.min_by_key(|(bytes, _)| *bytes) else {
        let text = "unknown: neither cgroup nor /proc/meminfo can be read";
        let needed = global.limits.buffered_bytes.saturating_add(LEAST) / MIB;
        return report.warn(MEMORY, text, format!("mount /proc; at least {needed} MiB are needed"));
    };
    let buffered = global.limits.buffered_bytes;
    let shown = format!("{} MiB ({whose})", limit / MIB);
    let buffers = format!("limits.buffered_bytes is {} MiB", buffered / MIB);
    if limit <= buffered.saturating_add(LEAST) {
        let fix = "raise MemoryMax (pod: resources.limits.memory), or lower limits.buffered_bytes";
        let text = format!("{shown}: {buffers}, beside about {} MiB", LEAST / MIB);
        return report.error(MEMORY, text, fix);
    }
    let named = global.listeners.values().map(|one| one.limits.connections);
    let clients: u64 = named.map(|count| count.map_or(MOST, |count| count as u64)).sum();
    let wanted = buffered.saturating_add(LEAST).saturating_add(clients.saturating_mul(IDLE));
    if limit < wanted {
        let text = format!(
            "{shown}: {buffers}; with all {clients} connections about {} MiB are needed",
            wanted / MIB
        );
        let fix = "raise MemoryMax (pod: resources.limits.memory), or lower limits.connections";
        return report.warn(MEMORY, text, fix.to_owned());
    }
    report.ok(MEMORY, format!("{shown}: {buffers}"));
}

/// The least limit on the way up from a process's cgroup, of version 2 or 1.
fn cgroup_limit(cgroup: &str, machine: &Machine) -> Option<u64> {
    let groups = cgroup.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        match controllers {
            "" => Some(("/sys/fs/cgroup", path, "memory.max")),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Some(("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))
            }
            _ => None,
        }
    });
    let mut least: Option<u64> = None;
    for (mount, path, file) in groups {
        // In a container the path may be the host's, and only the mount's top is there.
        let mut path = path.trim_end_matches('/');
        loop {
            let limit = machine.read(&format!("{mount}{path}/{file}"));
            let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
            least = [least, limit].into_iter().flatten().min();
            match path.rfind('/') {
                Some(at) => path = &path[..at],
                None => break,
            }
        }
    }
    // Version 1 writes a very great number for none.
    least.filter(|bytes| *bytes < NO_LIMIT)
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

const MEMORY: &str = "memory";
const MIB: u64 = 1024 * 1024;
/// Program, tables, certificates, kernel buffers of a small process.
const LEAST: u64 = 48 * MIB;
/// Of an idle connection with TLS.
const IDLE: u64 = 10 * 1024;
const NO_LIMIT: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::machine::of_files;
    use super::*;

    fn of(clients: u64, free: usize, upstream: Option<u64>, limit: u64) -> Level {
        enough(&Needs { clients, free, upstream }, limit).0
    }

    #[test]
    fn the_formula_of_the_limits() {
        for (clients, free, upstream, limit, level) in [
            (0, 2, None, 65_536, Level::Ok),
            (0, 2, None, 1024, Level::Warning),
            (0, 2, None, 30_127, Level::Warning),
            (0, 2, None, 30_128, Level::Ok),
            (15_000, 0, None, 1024, Level::Error),
            (15_000, 0, None, 15_127, Level::Error),
            (15_000, 0, None, 15_128, Level::Warning),
            (15_000, 0, None, 30_127, Level::Warning),
            (15_000, 0, None, 30_128, Level::Ok),
            (15_000, 0, Some(100), 15_228, Level::Ok),
            (400, 0, None, 1024, Level::Ok),
            (u64::MAX, 0, None, u64::MAX - 1, Level::Error),
        ] {
            assert_eq!(of(clients, free, upstream, limit), level, "{clients} {free} {limit}");
        }
    }

    #[test]
    fn the_least_limit_on_the_way_up() {
        let (_dir, machine) = of_files(&[
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "1000\n"),
            ("/sys/fs/cgroup/memory.max", "2000\n"),
            ("/sys/fs/cgroup/memory/c/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "500\n"),
        ]);
        assert_eq!(cgroup_limit("0::/a/b\n", &machine), Some(1000));
        assert_eq!(cgroup_limit("0::/\n", &machine), Some(2000));
        assert_eq!(cgroup_limit("0::/elsewhere/x\n", &machine), Some(2000));
        assert_eq!(cgroup_limit("4:cpu,memory:/c\n1:name=systemd:/\n", &machine), Some(500));
        assert_eq!(cgroup_limit("4:cpu:/c\n", &machine), None);
        let (_dir, machine) =
            of_files(&[("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")]);
        assert_eq!(cgroup_limit("4:memory:/\n", &machine), None);
        assert_eq!(total_memory("MemTotal:  2048 kB\nMemFree: 1 kB\n"), Some(2048 * 1024));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn odd_files_are_no_limit(text in "([0-9a-z:/,.é]*\n){0,4}", junk in "\\PC*") {
            let (_dir, machine) = of_files(&[("/sys/fs/cgroup/memory.max", junk.as_str())]);
            let limit = cgroup_limit(&text, &machine);
            prop_assert!(limit.is_none_or(|bytes| junk.contains(&bytes.to_string())));
            let _ = total_memory(&junk);
        }
    }
}
