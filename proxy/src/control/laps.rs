//! How long the parts of a reload took, for its log line.

use std::fmt;

use crate::clock;

pub struct Laps {
    /// Process microseconds.
    started: u64,
    last: u64,
    laps: Vec<(&'static str, u64)>,
}

impl Laps {
    pub fn start() -> Laps {
        let now = clock::process_us();
        Laps { started: now, last: now, laps: Vec::new() }
    }

    /// What was done since the last one.
    pub fn lap(&mut self, what: &'static str) {
        let now = clock::process_us();
        self.laps.push((what, now - self.last));
        self.last = now;
    }
}

/// `31 ms (read 12, compare 6, publish 13)`
impl fmt::Display for Laps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms (", (self.last - self.started) / 1000)?;
        for (number, (what, us)) in self.laps.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{what} {}", us / 1000)?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_milliseconds_and_their_parts() {
        let laps = vec![("read", 12_900), ("publish", 18_200)];
        assert_eq!(
            Laps { started: 0, last: 31_100, laps }.to_string(),
            "31 ms (read 12, publish 18)"
        );
    }
}
