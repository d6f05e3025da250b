//! What differs for gRPC: the deadline that a call brings along, and how its client is told that
//! the edge answers by itself (grpc/doc/PROTOCOL-HTTP2.md, grpc/doc/statuscodes.md).

use std::time::Duration;

use super::cause::{Cause, Rejection};
use super::view::{FieldSource, HeadView};

/// `application/grpc`, alone or with a format (`+proto`) or parameters. Not gRPC-Web, whose status
/// is in the body and whose clients understand HTTP's.
pub fn is_grpc(content_type: &[u8]) -> bool {
    let Some((kind, rest)) = content_type.split_at_checked(16) else { return false };
    kind.eq_ignore_ascii_case(b"application/grpc")
        && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// How long the client of a gRPC call waits. `None`: it does not say, says what nobody understands
/// (the endpoint is to refuse that), or calls something else.
pub fn deadline<F: FieldSource>(view: &HeadView<'_, F>) -> Option<Duration> {
    if !view.is_grpc() {
        return None;
    }
    view.fields.find("grpc-timeout").and_then(timeout)
}

/// `Timeout`: one to eight digits and a unit.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0, |count, digit| 10 * count + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(3600 * count)),
        b'M' => Some(Duration::from_secs(60 * count)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// `grpc-status` of an answer of our own: what the cause means, else what its HTTP status does.
pub fn status(cause: Cause) -> u8 {
    const CANCELLED: u8 = 1;
    const DEADLINE_EXCEEDED: u8 = 4;
    const INTERNAL: u8 = 13;
    match cause {
        Cause::ClientGone => CANCELLED,
        // Somebody's time is up, and the call may have been executed: nothing to try again blindly.
        Cause::DeadlineExceeded
        | Cause::FirstByteTimeout
        | Cause::StreamIdle
        | Cause::HeadTimeout
        | Cause::BodyTimeout => DEADLINE_EXCEEDED,
        Cause::UpstreamProtocol => INTERNAL,
        other => of_http(other.status()),
    }
}

fn of_http(status: u16) -> u8 {
    match status {
        401 => 16,                   // UNAUTHENTICATED
        403 => 7,                    // PERMISSION_DENIED
        404 | 405 | 421 => 12,       // UNIMPLEMENTED
        413 | 429 | 431 => 8,        // RESOURCE_EXHAUSTED
        502..=504 => 14,             // UNAVAILABLE
        400..=499 | 500 | 505 => 13, // INTERNAL
        _ => 2,                      // UNKNOWN
    }
}

/// `grpc-message` of an answer of our own, encoded.
pub fn message(rejection: Rejection, request_id: &[u8]) -> String {
    let Rejection { cause, detail } = rejection;
    let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
    let id = String::from_utf8_lossy(request_id);
    percent(&format!("{} cause: {}{detail}, request id: {id}", cause.text(), cause.code()))
}

/// `Percent-Encoded`: printable ASCII other than `%` stays.
fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http1::head::{FieldSlots, HeadLimits, parse_request};
    use crate::request::admit::admit_h1;

    #[test]
    fn content_types_of_grpc() {
        for kind in ["application/grpc", "application/grpc+proto", "Application/GRPC; a=b"] {
            assert!(is_grpc(kind.as_bytes()), "{kind}");
        }
        for kind in [
            "",
            "application/grp",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpcx",
            "application/json",
            "text/grpc",
        ] {
            assert!(!is_grpc(kind.as_bytes()), "{kind}");
        }
    }

    #[test]
    fn timeouts() {
        for (text, nanos) in [
            ("1H", 3_600_000_000_000),
            ("2M", 120_000_000_000),
            ("3S", 3_000_000_000),
            ("4m", 4_000_000),
            ("5u", 5000),
            ("6n", 6),
            ("0S", 0),
            ("00000007S", 7_000_000_000),
            ("99999999H", 359_999_996_400_000_000_000),
            ("99999999n", 99_999_999),
        ] {
            assert_eq!(timeout(text.as_bytes()).map(|t| t.as_nanos()), Some(nanos), "{text}");
        }
        let bad =
            ["", "S", "1", "10", "1s", "1h", "1 S", " 1S", "1S ", "-1S", "+1S", "1.5S", "1SS"];
        for text in bad.iter().chain(&["123456789S", "0x1S", "1\u{b5}"]) {
            assert_eq!(timeout(text.as_bytes()), None, "{text}");
        }
    }

    fn deadline_of(fields: &str) -> Option<Duration> {
        let head = format!("POST /s/m HTTP/1.1\r\nHost: app.openclaw.example\r\n{fields}\r\n");
        let limits = HeadLimits { head_bytes: 9999, fields: 99, target_bytes: 9999 };
        let mut slots = FieldSlots::new();
        let head = parse_request(head.as_bytes(), limits, &mut slots).unwrap().unwrap();
        deadline(&admit_h1(&head).unwrap())
    }

    #[test]
    fn only_calls_have_deadlines() {
        let grpc = "Content-Type: application/grpc+proto\r\n";
        let second = Some(Duration::from_secs(1));
        assert_eq!(deadline_of(&format!("{grpc}Grpc-Timeout: 1S\r\n")), second);
        assert_eq!(deadline_of(&format!("grpc-timeout: 1000m\r\n{grpc}")), second);
        assert_eq!(deadline_of(&format!("{grpc}grpc-timeout: soon\r\n")), None);
        assert_eq!(deadline_of(grpc), None);
        assert_eq!(deadline_of("grpc-timeout: 1S\r\n"), None);
        assert_eq!(deadline_of("Content-Type: text/plain\r\ngrpc-timeout: 1S\r\n"), None);
    }

    #[test]
    fn every_cause_has_its_status() {
        for cause in Cause::ALL {
            let expected = match cause.code() {
                "client_gone" => 1,
                "deadline_exceeded" | "first_byte_timeout" | "stream_idle" => 4,
                "head_timeout" | "body_timeout" => 4,
                "head_too_large" | "body_too_large" => 8,
                "no_route" | "unknown_host" | "misdirected" | "method_refused" => 12,
                "bad_request" | "target_too_long" | "expectation_failed" => 13,
                "upstream_protocol" | "internal" => 13,
                "over_capacity" | "quarantined" | "no_endpoint" | "draining" => 14,
                "connect_failed" | "connect_timeout" | "dns_failed" => 14,
                "upstream_closed" | "upstream_tls_failed" => 14,
                "denied" => 7,
                "auth_required" => 16,
                "rate_limited" | "too_many_streams" => 8,
                "maintenance" => 14,
                other => panic!("{other} has none yet"),
            };
            assert_eq!(status(*cause), expected, "{}", cause.code());
        }
        // Those to come.
        assert_eq!([401, 403, 429, 600].map(of_http), [16, 7, 8, 2]);
    }

    #[test]
    fn the_message_says_what_the_page_does() {
        let rejection = Rejection { cause: Cause::OverCapacity, detail: "streams" };
        assert_eq!(
            message(rejection, b"id1"),
            "Too much is under way; try again. cause: over_capacity (streams), request id: id1"
        );
        assert_eq!(percent("100 % \u{e9}\r\n~\u{7f}"), "100 %25 %C3%A9%0D%0A~%7F");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(count in 0u32..100_000_000, unit in 0usize..6) {
            let nanos = [3_600_000_000_000, 60_000_000_000, 1_000_000_000, 1_000_000, 1000, 1];
            let text = format!("{count}{}", &"HMSmun"[unit..=unit]);
            let read = timeout(text.as_bytes()).map(|t| t.as_nanos());
            prop_assert_eq!(read, Some(u128::from(count) * nanos[unit]));
        }

        #[test]
        fn messages_are_field_values_that_read_back(text in ".*") {
            let encoded = percent(&text);
            prop_assert!(encoded.bytes().all(|b| (b' '..=b'~').contains(&b)));
            let mut bytes = encoded.bytes();
            let mut decoded = Vec::new();
            while let Some(byte) = bytes.next() {
                decoded.push(match byte {
                    b'%' => {
                        let pair = [bytes.next().unwrap(), bytes.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&pair).unwrap(), 16).unwrap()
                    }
                    plain => plain,
                });
            }
            prop_assert_eq!(decoded, text.into_bytes());
        }
    }
}
