//! Sizes in bytes, durations and shares, as written: always with a unit, except plain bytes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{ValueError, quote};

/// `512`, `64KiB`, `10MiB`, `20MB`: decimal units are powers of 1000, binary ones of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError::new(EXPECTED_SIZE, format!("{} is no size", quote(text)));
        let (number, unit) = split_unit(text);
        let unit: u64 = match unit {
            "" | "B" => 1,
            "kB" | "KB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "k" | "K" | "m" | "M" | "g" | "G" if is_decimal(number) => {
                let unit = unit.to_ascii_uppercase();
                let help = format!("write `{number}{unit}iB` or `{number}{unit}B`");
                return Err(error().help(help));
            }
            _ => {
                return Err(error()
                    .help("write a whole number with a unit: `512`, `64KiB`, `10MiB`, `20MB`"));
            }
        };
        if !is_decimal(number) {
            return Err(
                error().help("write a whole number with a unit: `512`, `64KiB`, `10MiB`, `20MB`")
            );
        }
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        bytes.map(ByteSize).ok_or_else(|| error().help("it is larger than 64 bits can hold"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
            if bytes >= unit && bytes.is_multiple_of(unit) {
                return write!(f, "{}{name}", bytes / unit);
            }
        }
        write!(f, "{bytes}")
    }
}

/// `250ms`, `300s`, `5m`, `1h`, `365d`.
///
/// # Errors
/// A number without a unit is refused: seconds and milliseconds are too easily mixed up.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let error = || ValueError::new(EXPECTED_DURATION, format!("{} is no duration", quote(text)));
    let (number, unit) = split_unit(text);
    if !is_decimal(number) {
        return Err(error().help("write a whole number with a unit: `250ms`, `300s`, `5m`, `1h`"));
    }
    let millis_per_unit: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        "" => return Err(error().help(format!("write `{number}s`"))),
        _ => return Err(error().help("units are `ms`, `s`, `m`, `h` and `d`")),
    };
    let millis = number.parse::<u64>().ok().and_then(|n| n.checked_mul(millis_per_unit));
    millis.map(Duration::from_millis).ok_or_else(|| error().help("it is too long"))
}

/// `20%`: whole percent, 0 to 100.
///
/// # Errors
/// A number without `%` is refused: 0.2, 20 and 1/5 are too easily mixed up.
pub fn percent(text: &str) -> Result<u8, ValueError> {
    let error = || ValueError::new(EXPECTED_SHARE, format!("{} is no share", quote(text)));
    if is_decimal(text) {
        return Err(error().help(format!("write `{text:.20}%`")));
    }
    let number = text.strip_suffix('%').filter(|number| is_decimal(number));
    match number.and_then(|number| number.parse().ok()) {
        Some(number @ 0..=100) => Ok(number),
        _ => Err(error().help("write whole percent from `0%` to `100%`")),
    }
}

/// The duration as [`duration`] reads it back, in the largest unit that is exact.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if millis >= unit && millis.is_multiple_of(unit) {
            return format!("{}{name}", millis / unit);
        }
    }
    format!("{millis}ms")
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// Digits without a leading zero: `010` is 8 in some readings.
pub(crate) fn is_decimal(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'))
}

const EXPECTED_SIZE: &str = "a size such as `10MiB`";
const EXPECTED_SHARE: &str = "a share such as `20%`";
const EXPECTED_DURATION: &str = "a duration such as `300s`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1B", 1),
            ("2kB", 2000),
            ("64KiB", 65_536),
            ("20MB", 20_000_000),
            ("10MiB", 10_485_760),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in
            ["", "MiB", "-1", "1.5MiB", "10 MiB", "010", "0x10", "10mib", "99999999999GiB", "1e3"]
        {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        let help = "10M".parse::<ByteSize>().unwrap_err().help.unwrap();
        assert_eq!(help, "write `10MiB` or `10MB`");
        assert_eq!(ByteSize(10 << 20).to_string(), "10MiB");
        assert_eq!(ByteSize(1000).to_string(), "1000");
    }

    #[test]
    fn durations() {
        for (text, millis) in
            [("250ms", 250), ("300s", 300_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "1.5s", "-1s", "1h30m", "05s", "5 s", "99999999999999999d", "5S"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("300").unwrap_err().help.as_deref(), Some("write `300s`"));
        for text in ["0s", "250ms", "90s", "5m", "3h", "2d"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn shares() {
        for (text, share) in [("0%", 0), ("20%", 20), ("100%", 100)] {
            assert_eq!(percent(text), Ok(share), "{text}");
        }
        for text in ["", "%", "101%", "0.2", "1.5%", "-1%", "05%", "20 %", "256%", "20%%"] {
            assert!(percent(text).is_err(), "{text}");
        }
        assert_eq!(percent("20").unwrap_err().help.as_deref(), Some("write `20%`"));
    }
}
