//! Request heads: whatever is accepted is unambiguous, and does not depend on how it arrived.

use proxy::http1::framing::BodyLength;
use proxy::http1::head::{self, FieldSlots, HeadLimits};
use proxy::request::admit::admit_h1;

pub const LIMITS: HeadLimits =
    HeadLimits { head_bytes: 32 * 1024, fields: 100, target_bytes: 16 * 1024 };

pub fn check(bytes: &[u8]) {
    let mut slots = FieldSlots::new();
    let Ok(Some(head)) = head::parse_request(bytes, LIMITS, &mut slots) else { return };
    assert!(head.len <= bytes.len() && head.len <= LIMITS.head_bytes);
    assert!(head.fields.len() <= LIMITS.fields && head.target.len() <= LIMITS.target_bytes);
    assert!(bytes[..head.len].ends_with(b"\r\n\r\n"), "an empty line ends a head");
    assert!(head::terminator(bytes, 0), "a complete head must be found");
    assert!(head.http10 || head.host.is_some());
    assert_ne!(head.body, BodyLength::UntilClose, "a request cannot end with the connection");
    assert!(!head.method.is_empty() && head.method.iter().all(u8::is_ascii_graphic));
    assert!(head.target.iter().all(|b| *b > b' ' && *b != 0x7f), "{:?}", head.target);
    for (_, name, value) in head.fields.iter() {
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':'));
        assert!(!value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)), "{value:?}");
    }
    arrives_in_pieces(&bytes[..head.len]);
    if let Ok(view) = admit_h1(&head) {
        assert!(view.target.starts_with(b"/") || view.target.as_ref() == b"*");
        assert!(!view.host.is_empty() && !view.host.bytes().any(|b| b.is_ascii_uppercase()));
        assert!(!view.host.contains(['/', '@', ' ', '?', '#', ',']), "{}", view.host);
        assert!(!view.host.split('.').any(str::is_empty), "an empty label: {}", view.host);
        assert!(!view.authority.iter().any(|b| matches!(b, b'\r' | b'\n' | b' ' | b'@')));
    }
}

/// A part of a good head is incomplete, never an error and never complete.
fn arrives_in_pieces(head: &[u8]) {
    for cut in [head.len() - 1, head.len() / 2, head.len().min(7)] {
        if cut == head.len() {
            continue;
        }
        let mut slots = FieldSlots::new();
        let part = head::parse_request(&head[..cut], LIMITS, &mut slots);
        assert!(matches!(part, Ok(None)), "cut at {cut}");
    }
}
