//! Rates: requests per time (`10/s`), bytes per second (`1MiB/s`).

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::{ByteSize, ValueError, is_decimal, quote};
use crate::model::Rate;

impl FromStr for Rate {
    type Err = ValueError;

    /// Reads `10/s`, `600/m`, `36000/h`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = |what: &str| ValueError::new(EXPECTED, format!("{} {what}", quote(text)));
        let (count, unit) = match text.split_once('/') {
            Some((count, unit)) if is_decimal(count) => (count, unit),
            _ => return Err(error("is no rate").help(instead_of(text))),
        };
        let Some(per) = period(unit) else {
            return Err(error("is no rate").help(instead_of(text)));
        };
        match count.parse().ok().filter(|count| *count <= MAX_COUNT).map(NonZeroU32::new) {
            Some(Some(count)) => Ok(Rate { count, per }),
            Some(None) => {
                let help = "the slowest rate is `1/h`";
                Err(error("lets nothing through").help(help))
            }
            None => Err(error("is out of range: 1 to 1000000")),
        }
    }
}

/// As [`Rate::from_str`] reads it.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, per)| *per == self.per);
        match unit {
            Some((unit, _)) => write!(f, "{}/{unit}", self.count),
            None => write!(f, "{}/{}s", self.count, self.per.as_secs()),
        }
    }
}

impl Rate {
    /// Whether it lets at most as much through as the other in the long run.
    #[must_use]
    pub fn is_at_most(&self, other: &Rate) -> bool {
        let times = |rate: &Rate, per: Duration| u128::from(rate.count.get()) * per.as_millis();
        times(self, other.per) <= times(other, self.per)
    }
}

/// Bytes per second: `1MiB/s`.
///
/// # Errors
/// A size without `/s`: a speed and a size are too easily mixed up. Bits.
pub(crate) fn speed(text: &str) -> Result<u64, ValueError> {
    let error = || ValueError::new(EXPECTED_SPEED, format!("{} is no speed", quote(text)));
    if let Some(size) = text.strip_suffix("/s")
        && let Ok(ByteSize(bytes)) = size.parse()
    {
        return Ok(bytes);
    }
    if let Ok(size) = text.parse::<ByteSize>() {
        return Err(error().help(format!("write `{size}/s`")));
    }
    let lower = text.to_ascii_lowercase();
    let bits = ["bit", "bps"].iter().any(|word| lower.contains(word));
    Err(error().help(match bits {
        true => "write bytes per second: 8 Mbit/s are `1MB/s`",
        false => "write bytes per second: `64KiB/s`, `1MiB/s`, `10MB/s`",
    }))
}

fn period(unit: &str) -> Option<Duration> {
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, per)| *per)
}

/// What to write for rates as other programs have them: `10r/s`, `10 rps`, `10/sec`, `10`.
fn instead_of(text: &str) -> String {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, rest) = text.split_at(end);
    if !is_decimal(count) || count.len() > 7 {
        return ANY.to_owned();
    }
    let rest = rest.trim().to_ascii_lowercase();
    let unit = match rest.trim_start_matches("req").trim_start_matches('r').trim_start() {
        "" | "/s" | "ps" | "/sec" | "/second" | "/1s" | "qps" | "per second" => "s",
        "/m" | "pm" | "/min" | "/minute" | "/1m" | "/60s" | "per minute" => "m",
        "/h" | "ph" | "/hour" | "/1h" | "/60m" | "per hour" => "h",
        "/d" | "/day" | "/1d" | "/24h" | "per day" => return "units are `/s`, `/m`, `/h`".into(),
        _ if rest.starts_with('.') => {
            return "whole numbers only: for half a request a second write `30/m`".into();
        }
        _ => return ANY.to_owned(),
    };
    format!("write `{count}/{unit}`")
}

const UNITS: [(&str, Duration); 3] = [
    ("s", Duration::from_secs(1)),
    ("m", Duration::from_secs(60)),
    ("h", Duration::from_secs(3600)),
];
const MAX_COUNT: u32 = 1_000_000;
const EXPECTED: &str = "a rate such as `10/s`";
const EXPECTED_SPEED: &str = "a speed such as `1MiB/s`";
const ANY: &str = "write a whole number per second, minute or hour: `10/s`, `600/m`, `36000/h`";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates() {
        for (text, count, per) in [
            ("10/s", 10, 1),
            ("600/m", 600, 60),
            ("36000/h", 36000, 3600),
            ("1000000/s", 1_000_000, 1),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.count.get(), rate.per.as_secs()), (count, per), "{text}");
            assert_eq!(rate.to_string(), text);
        }
    }

    #[test]
    fn rates_of_other_programs_are_translated() {
        for (text, help) in [
            ("10r/s", "`10/s`"),
            ("10 rps", "`10/s`"),
            ("10rps", "`10/s`"),
            ("10/sec", "`10/s`"),
            ("10/second", "`10/s`"),
            ("10", "`10/s`"),
            ("10 r/m", "`10/m`"),
            ("10rpm", "`10/m`"),
            ("10/min", "`10/m`"),
            ("10req/hour", "`10/h`"),
            ("10/d", "units are"),
            ("0.5/s", "`30/m`"),
            ("0/s", "`1/h`"),
            ("010/s", "whole number"),
            ("-1/s", "whole number"),
            ("", "whole number"),
            ("fast", "whole number"),
            ("10/s/s", "whole number"),
        ] {
            let why = text.parse::<Rate>().unwrap_err();
            let shown = why.help.unwrap_or_default();
            assert!(shown.contains(help), "{text}: {shown}");
        }
        assert!("1000001/s".parse::<Rate>().unwrap_err().message.contains("out of range"));
        assert!("99999999999/s".parse::<Rate>().is_err());
    }

    #[test]
    fn rates_are_compared_in_the_long_run() {
        let at_most =
            |a: &str, b: &str| a.parse::<Rate>().unwrap().is_at_most(&b.parse::<Rate>().unwrap());
        assert!(at_most("10/s", "10/s") && at_most("1/m", "60/h") && at_most("60/h", "1/m"));
        assert!(at_most("599/m", "10/s") && !at_most("601/m", "10/s"));
        assert!(!at_most("1/s", "3599/h") && at_most("1/s", "3600/h"));
    }

    #[test]
    fn speeds() {
        assert_eq!(speed("1MiB/s"), Ok(1 << 20));
        assert_eq!(speed("2000/s"), Ok(2000));
        for (text, help) in [
            ("1MiB", "`1MiB/s`"),
            ("8Mbit/s", "`1MB/s`"),
            ("8 mbps", "`1MB/s`"),
            ("1m/s", "bytes per second"),
            ("/s", "bytes per second"),
        ] {
            let shown = speed(text).unwrap_err().help.unwrap_or_default();
            assert!(shown.contains(help), "{text}: {shown}");
        }
    }

    proptest! {
        #[test]
        fn a_rate_is_read_back(count in 1..=MAX_COUNT, unit in 0..3usize) {
            let rate = Rate { count: NonZeroU32::new(count).unwrap(), per: UNITS[unit].1 };
            prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
        }

        #[test]
        fn no_text_is_too_odd(text in "[0-9]{0,3}[ a-z/.é]{0,8}") {
            let _ = text.parse::<Rate>();
            let _ = speed(&text);
        }
    }
}
