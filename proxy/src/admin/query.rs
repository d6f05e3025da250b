//! Query strings: what the command line writes and the admin server reads (RFC 3986 §2.1, §3.4).

use std::fmt::Write as _;

/// `name=value` pairs, decoded; `+` is a plus.
///
/// # Errors
/// A `%` without two hexadecimal digits, or bytes that are no UTF-8.
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, String> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Ok((decoded(name)?, decoded(value)?))
    };
    parts.map(pair).collect()
}

/// A name or a value as it stands in a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let byte =
            digit(0).zip(digit(1)).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        bytes.push(byte.ok_or_else(|| format!("{text:?} has a % without two digits"))?);
        rest = after.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is no text"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pairs_are_read() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let read = pairs("endpoint=%5B::1%5D:80&force&a=b=c+d&&x=%C3%A4").unwrap();
        let expected =
            [pair("endpoint", "[::1]:80"), pair("force", ""), pair("a", "b=c+d"), pair("x", "ä")];
        assert_eq!(read, expected);
        for bad in ["a=%", "a=%4", "%zz=1", "a=%FF", "a=%+1"] {
            assert!(pairs(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(name in ".{1,20}", value in ".*") {
            let query = format!("{}={}", encoded(&name), encoded(&value));
            prop_assert!(query.is_ascii());
            prop_assert_eq!(pairs(&query), Ok(vec![(name, value)]));
        }
    }
}
