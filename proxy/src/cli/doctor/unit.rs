//! The systemd unit of this machine, for what it gives to the service and not to a shell: limits and
//! capabilities. Its drop-ins in /etc count.

use std::fmt;
use std::fs;

use super::machine::Machine;

pub struct Unit {
    path: &'static str,
    /// The unit's text, then its drop-ins'.
    text: String,
}

impl Unit {
    /// `None`: systemd does not run here, or has no such unit.
    pub fn find(machine: &Machine) -> Option<Unit> {
        if !machine.has("/run/systemd/system") {
            return None;
        }
        let path = UNITS.into_iter().find(|unit| machine.has(unit))?;
        let mut text = machine.read(path)?;
        let entries = fs::read_dir(machine.path(DROP_INS)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| name.ends_with(".conf"));
        names.sort_unstable();
        for name in names {
            text.push('\n');
            text += &machine.read(&format!("{DROP_INS}/{name}")).unwrap_or_default();
        }
        Some(Unit { path, text })
    }

    fn all<'a>(&'a self, key: &str) -> Vec<&'a str> {
        let value = |line: &'a str| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then_some(value.trim())
        };
        self.text.lines().filter_map(value).collect()
    }

    /// What holds of a key that has one value.
    pub fn last(&self, key: &str) -> Option<&str> {
        self.all(key).last().copied().filter(|value| !value.is_empty())
    }

    /// Of a key that adds up; an empty value takes back what came before.
    pub fn list(&self, key: &str) -> String {
        self.all(key).into_iter().fold(String::new(), |list, value| match value {
            "" => String::new(),
            value => format!("{list} {value}"),
        })
    }

    /// Of its `User=`, a name in /etc/passwd or a number.
    pub fn uid(&self, machine: &Machine) -> Option<u32> {
        let name = self.last("User")?;
        if let Ok(uid) = name.parse() {
            return Some(uid);
        }
        let passwd = machine.read("/etc/passwd")?;
        let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let user = users.find(|fields| fields.first() == Some(&name))?;
        user.get(2)?.parse().ok()
    }

    /// `512M`, in powers of 1024; `None`: absent, `infinity` or a percentage.
    pub fn bytes(&self, key: &str) -> Option<u64> {
        let text = self.last(key)?;
        let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
        let power = match text.strip_prefix(digits)? {
            "" => 0,
            "K" => 1,
            "M" => 2,
            "G" => 3,
            "T" => 4,
            _ => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(1024_u64.pow(power))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path)
    }
}

/// As systemd looks.
const UNITS: [&str; 3] = [
    "/etc/systemd/system/openclaw-edge.service",
    "/usr/lib/systemd/system/openclaw-edge.service",
    "/lib/systemd/system/openclaw-edge.service",
];
const DROP_INS: &str = "/etc/systemd/system/openclaw-edge.service.d";

#[cfg(test)]
mod tests {
    use super::super::machine::of_files;
    use super::*;

    #[test]
    fn drop_ins_change_what_holds() {
        let base = [
            ("/run/systemd/system/x", ""),
            (
                "/usr/lib/systemd/system/openclaw-edge.service",
                "[Service]\n#LimitNOFILE=1\nLimitNOFILE=65536\nAmbientCapabilities=CAP_NET_BIND_SERVICE\nMemoryMax=512M\n",
            ),
        ];
        let (_dir, machine) = of_files(&base);
        let unit = Unit::find(&machine).unwrap();
        assert_eq!(unit.last("LimitNOFILE"), Some("65536"));
        assert_eq!(unit.bytes("MemoryMax"), Some(512 << 20));
        assert_eq!(unit.list("AmbientCapabilities"), " CAP_NET_BIND_SERVICE");
        let drop_in = "[Service]\nAmbientCapabilities=\nMemoryMax=infinity\n";
        let (_dir, machine) = of_files(
            &[&base[..], &[("/etc/systemd/system/openclaw-edge.service.d/a.conf", drop_in)]]
                .concat(),
        );
        let unit = Unit::find(&machine).unwrap();
        assert_eq!(
            (unit.bytes("MemoryMax"), unit.list("AmbientCapabilities")),
            (None, String::new())
        );
        assert!(Unit::find(&of_files(&base[1..]).1).is_none(), "no systemd");
    }
}
