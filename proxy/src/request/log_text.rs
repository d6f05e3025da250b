//! Text of access-log lines: JSON fields, and the escapes that keep a client's text in its place.

/// A log text field is cut at this many bytes.
pub const MAX_TEXT: usize = 2048;

/// `,"key":"value"`, for a value that is escaped already.
pub fn json_text(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":\"");
    out.extend_from_slice(value);
    out.push(b'"');
}

pub fn json_number(out: &mut Vec<u8>, key: &str, value: u64) {
    json_key(out, key);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Milliseconds with three decimals, from microseconds.
pub fn json_ms(out: &mut Vec<u8>, key: &str, us: u64) {
    json_key(out, key);
    milliseconds(out, us);
}

fn json_key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

pub fn milliseconds(out: &mut Vec<u8>, us: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(us / 1000).as_bytes());
    let digit = |n: u64| b'0' + (n % 10) as u8;
    out.extend_from_slice(&[b'.', digit(us / 100), digit(us / 10), digit(us)]);
}

/// Appends text so that it can neither end a JSON string nor a line nor move a terminal: quote,
/// backslash, controls, DEL and C1 controls, bidi marks and invalid UTF-8 are written as escapes.
pub fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let text = text.get(..MAX_TEXT).unwrap_or(text);
    let plain = |b: &u8| (b' '..0x7f).contains(b) && *b != b'"' && *b != b'\\';
    if text.iter().all(plain) {
        out.extend_from_slice(text);
        return;
    }
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            escape_char(out, c);
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\\\x{byte:02x}").as_bytes());
        }
    }
}

fn escape_char(out: &mut Vec<u8>, c: char) {
    let bidi =
        matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        c if c.is_control() || bidi => {
            out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_forge_a_line() {
        for (given, kept) in [
            (&b"/plain?"[..], "/plain?"),
            (b"a\"b\\c", "a\\\"b\\\\c"),
            (b"a\r\nb\x1b[31m\x7f", "a\\u000d\\u000ab\\u001b[31m\\u007f"),
            ("\u{9b}\u{202e}\u{e9}".as_bytes(), "\\u009b\\u202e\u{e9}"),
            (b"\xff\xc3", "\\\\xff\\\\xc3"),
        ] {
            let mut out = Vec::new();
            escape(&mut out, given);
            assert_eq!(String::from_utf8(out).unwrap(), kept);
        }
        let mut out = Vec::new();
        escape(&mut out, &[b'x'; 5000]);
        assert_eq!(out.len(), MAX_TEXT);
    }
}
