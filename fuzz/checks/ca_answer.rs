//! Answers of a certificate authority: any bytes give a failure that a person can read and the
//! schedule can obey, or a directory, or a window in order.
//!
//! Input: a line with the status, header lines, an empty line, the body.

use acme::ca::{Step, answer};
use http::Response;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 24 * 3600;

pub fn check(bytes: &[u8]) {
    let _ = answer::directory(bytes);
    let (head, body) = split(bytes);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(503);
    let mut response = Response::builder().status(status);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        response = response.header(name.trim(), value.trim());
    }
    let Ok(response) = response.body(()) else { return };
    let (parts, ()) = response.into_parts();
    for step in [Step::NewOrder, Step::Validate, Step::Resume, Step::RenewalInfo] {
        let Some(failure) = answer::failure(step, &parts, body, NOW, NOW - DAY) else { continue };
        let text = failure.to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(failure.detail.chars().count() <= 500, "{text:?}");
        assert!(failure.retry_at.is_none_or(|at| at <= NOW + 30 * DAY), "{text:?}");
    }
    if let Ok(window) = answer::renewal_info(&parts, body, NOW) {
        assert!(window.start < window.end);
        assert!((3600..=DAY).contains(&window.retry_after));
    }
}

fn split(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (bytes, &[][..]),
    };
    (String::from_utf8_lossy(head).into_owned(), body)
}
