//! Wall time as text, formatted once per second and worker.

use std::cell::{Cell, RefCell};

use time::OffsetDateTime;
use time::macros::format_description;

use crate::clock;

/// Cached wall time of one worker; moved on by its tick.
#[derive(Default)]
pub struct Wall {
    second: Cell<u64>,
    unix_ms: Cell<u64>,
    process_us: Cell<u64>,
    /// `2026-11-22T00:45:07`
    rfc3339: RefCell<String>,
    /// `Sun, 22 Nov 2026 00:45:07 GMT`
    http_date: RefCell<String>,
}

impl Wall {
    pub fn tick(&self) {
        self.unix_ms.set(clock::unix_ms());
        self.process_us.set(clock::process_us());
        self.format(self.unix_ms.get() / 1000);
    }

    /// Appends RFC 3339 with milliseconds for a process time in microseconds.
    pub fn write_time(&self, process_us: u64, out: &mut Vec<u8>) {
        let since = process_us as i64 - self.process_us.get() as i64;
        let ms = self.unix_ms.get().saturating_add_signed(since / 1000);
        if ms / 1000 != self.second.get() {
            self.format(ms / 1000);
        }
        out.extend_from_slice(self.rfc3339.borrow().as_bytes());
        let ms = ms % 1000;
        let digit = |n: u64| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms), b'Z']);
    }

    /// Appends an IMF-fixdate (RFC 9110 §5.6.7).
    pub fn write_http_date(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.http_date.borrow().as_bytes());
    }

    pub fn http_date(&self) -> String {
        self.http_date.borrow().clone()
    }

    fn format(&self, second: u64) {
        if second == self.second.get() {
            return;
        }
        self.second.set(second);
        let unix = i64::try_from(second).unwrap_or(0);
        let now = OffsetDateTime::from_unix_timestamp(unix).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let stamp = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
        let date = format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        *self.rfc3339.borrow_mut() = now.format(&stamp).unwrap_or_default();
        *self.http_date.borrow_mut() = now.format(&date).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_both_ways() {
        let wall = Wall::default();
        wall.format(1_795_308_307);
        assert_eq!(wall.http_date(), "Sun, 22 Nov 2026 00:45:07 GMT");
        assert_eq!(*wall.rfc3339.borrow(), "2026-11-22T00:45:07");
    }
}
