//! When the CA wants to be asked again: `Retry-After`, or the time written in its explanation.

use time::format_description::well_known::Rfc2822;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// A longer wait is a defect of the CA: no limit of a known one is longer than a week.
const MAX_WAIT: i64 = 30 * 24 * 3600;

/// Seconds to wait by a `Retry-After` field (RFC 9110 §10.2.3): a number of seconds, or a date.
/// A date is that of the CA's clock, `ca_now`, so that a wrong clock here changes nothing.
pub(super) fn retry_after(value: &str, ca_now: i64) -> Option<i64> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(value.parse::<i64>().map_or(MAX_WAIT, |seconds| seconds.min(MAX_WAIT)));
    }
    Some((http_date(value)? - ca_now).clamp(0, MAX_WAIT))
}

/// Seconds to wait by words like "retry after 2026-11-23 10:00:00 UTC", as Let's Encrypt writes
/// them into the explanation of a rate limit.
pub(super) fn retry_after_in_words(detail: &str, ca_now: i64) -> Option<i64> {
    const WORDS: &str = "retry after ";
    let lower = detail.to_ascii_lowercase();
    let at = lower.find(WORDS)? + WORDS.len();
    let stamp = lower.get(at..at + "2026-11-23 10:00:00".len())?;
    Some((utc(stamp)? - ca_now).clamp(0, MAX_WAIT))
}

/// Unix seconds of an HTTP date in its preferred form (RFC 9110 §5.6.7).
pub(super) fn http_date(value: &str) -> Option<i64> {
    OffsetDateTime::parse(value.trim(), &Rfc2822).ok().map(OffsetDateTime::unix_timestamp)
}

/// `YYYY-MM-DD HH:MM:SS`, with a space or a `t` between, read as UTC.
fn utc(stamp: &str) -> Option<i64> {
    let number = |from: usize, to: usize| stamp.get(from..to)?.parse::<u16>().ok();
    let byte = |at: usize| stamp.as_bytes().get(at).copied();
    let separated = byte(4) == Some(b'-')
        && byte(7) == Some(b'-')
        && matches!(byte(10), Some(b' ' | b't'))
        && byte(13) == Some(b':')
        && byte(16) == Some(b':');
    if !separated {
        return None;
    }
    let small = |from: usize, to: usize| number(from, to).and_then(|n| u8::try_from(n).ok());
    let month = Month::try_from(small(5, 7)?).ok()?;
    let date = Date::from_calendar_date(i32::from(number(0, 4)?), month, small(8, 10)?).ok()?;
    let time = Time::from_hms(small(11, 13)?, small(14, 16)?, small(17, 19)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-22 10:00:00 UTC.
    const NOW: i64 = 1_795_341_600;

    #[test]
    fn seconds_and_dates() {
        for (value, expected) in [
            ("0", Some(0)),
            (" 7200 ", Some(7200)),
            ("Sun, 22 Nov 2026 10:00:30 GMT", Some(30)),
            ("Sun, 22 Nov 2026 09:00:00 GMT", Some(0)),
            ("99999999999999999999999", Some(MAX_WAIT)),
            ("Sun, 22 Nov 2099 10:00:00 GMT", Some(MAX_WAIT)),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, NOW), expected, "{value:?}");
        }
    }

    #[test]
    fn the_time_in_the_explanation() {
        for (detail, expected) in [
            (
                "too many certificates, retry after 2026-11-23 10:00:00 UTC: see https://",
                Some(86400),
            ),
            ("Retry After 2026-11-22T10:00:05Z", Some(5)),
            ("retry after 2026-13-22 10:00:00 UTC", None),
            ("retry after 2026-11-22 25:00:00 UTC", None),
            ("retry after 2026-11-22", None),
            ("retry after a while, please do so é", None),
            ("please retry", None),
        ] {
            assert_eq!(retry_after_in_words(detail, NOW), expected, "{detail:?}");
        }
    }

    #[test]
    fn an_http_date() {
        assert_eq!(http_date("Sun, 22 Nov 2026 10:00:00 GMT"), Some(NOW));
        assert_eq!(http_date("yesterday"), None);
    }

    proptest! {
        #[test]
        fn never_a_panic_nor_a_wait_out_of_bounds(text in ".*", now in -1_i64..4_000_000_000) {
            for wait in [retry_after(&text, now), retry_after_in_words(&text, now),
                         retry_after_in_words(&format!("retry after {text}"), now)] {
                prop_assert!(wait.is_none_or(|wait| (0..=MAX_WAIT).contains(&wait)));
            }
        }
    }
}
