//! /proc/PID/status and /proc/PID/limits (proc(5)): text to what is asked of a process's rights.

/// Rights of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The effective user.
    pub uid: u32,
    /// Capability sets, a bit each (capabilities(7)).
    pub effective: u64,
    pub bounding: u64,
    pub no_new_privs: bool,
}

/// Bit of the sets.
pub const NET_BIND_SERVICE: u64 = 1 << 10;

impl Status {
    /// `None`: the user or the sets are missing.
    pub fn parse(text: &str) -> Option<Status> {
        let value = |key: &str| {
            let of = |line: &'_ str| -> Option<String> {
                let (name, value) = line.split_once(':')?;
                (name == key).then(|| value.trim().to_owned())
            };
            text.lines().find_map(of)
        };
        let set = |key: &str| u64::from_str_radix(&value(key)?, 16).ok();
        Some(Status {
            // Real, effective, saved, file system.
            uid: value("Uid")?.split_whitespace().nth(1)?.parse().ok()?,
            effective: set("CapEff")?,
            bounding: set("CapBnd")?,
            no_new_privs: value("NoNewPrivs").is_some_and(|value| value == "1"),
        })
    }

    pub fn may_bind_low_ports(&self) -> bool {
        self.effective & NET_BIND_SERVICE != 0
    }
}

/// Soft and hard limit of open files; `unlimited` is the greatest number.
pub fn open_files(limits: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    });
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_the_kernel_writes_is_read(
            uid: u32, effective: u64, bounding: u64, no_new_privs: bool
        ) {
            let text = format!(
                "Name:\tx\nUid:\t0\t{uid}\t0\t0\nGid:\t0\t0\t0\t0\nCapEff:\t{effective:016x}\n\
                 CapBnd:\t{bounding:016x}\nNoNewPrivs:\t{}\n", u8::from(no_new_privs)
            );
            let status = Status { uid, effective, bounding, no_new_privs };
            prop_assert_eq!(Status::parse(&text), Some(status));
        }

        #[test]
        fn odd_text_is_no_status(text in "((Uid|CapEff|CapBnd|NoNewPrivs|x):[\t 0-9a-z-]*\n){0,6}") {
            if let Some(status) = Status::parse(&text) {
                let number = status.uid.to_string();
                prop_assert!(text.contains(&number));
            }
        }

        #[test]
        fn limits_are_read(soft: u64, hard: u64, junk in "\\PC*") {
            let text = format!(
                "Limit  Soft Limit  Hard Limit  Units\nMax open files            {soft}     {hard}     files\n"
            );
            prop_assert_eq!(open_files(&text), Some((soft, hard)));
            let _ = open_files(&junk);
            let _ = open_files(&format!("Max open files{junk}"));
        }
    }

    #[test]
    fn this_process() {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let status = Status::parse(&text).unwrap();
        assert_eq!(status.uid, rustix::process::geteuid().as_raw());
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let (soft, hard) = open_files(&limits).unwrap();
        assert!(soft > 0 && soft <= hard);
        assert_eq!(
            open_files("Max open files unlimited unlimited files"),
            Some((u64::MAX, u64::MAX))
        );
    }
}
