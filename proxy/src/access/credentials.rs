//! What a client says who it is: `Authorization: Basic` (RFC 7617).

use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// A user and a password as sent, not yet believed. Bytes: clients do not agree on an encoding.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `user:password`.
    pair: Box<[u8]>,
    /// Where the first colon is.
    colon: usize,
}

impl Credentials {
    /// Reads a field value. `None` for another scheme, for what is no base64, for a pair without
    /// colon or with control characters (RFC 7617 §2), and beyond [`MAX_TOKEN`].
    pub fn parse(value: &[u8]) -> Option<Credentials> {
        let value = value.trim_ascii();
        let space = value.iter().position(|b| *b == b' ')?;
        let (scheme, token) = value.split_at(space);
        // 1*SP (RFC 9110 §11.4).
        let token = token.trim_ascii_start();
        if !scheme.eq_ignore_ascii_case(b"basic") || token.len() > MAX_TOKEN {
            return None;
        }
        let pair = ENGINE.decode(token).ok()?;
        if pair.iter().any(u8::is_ascii_control) {
            return None;
        }
        let colon = pair.iter().position(|b| *b == b':')?;
        Some(Credentials { pair: pair.into(), colon })
    }

    /// May be empty; has no colon.
    pub fn user(&self) -> &[u8] {
        &self.pair[..self.colon]
    }

    /// May be empty, may have colons.
    pub fn password(&self) -> &[u8] {
        &self.pair[self.colon + 1..]
    }
}

/// Neither the user: people type passwords there.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[credentials]")
    }
}

/// The value of `WWW-Authenticate` for a realm (RFC 7617 §2, §2.1).
pub fn challenge(realm: &str) -> String {
    let mut value = String::from("Basic realm=\"");
    for c in realm.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            value.push('\\');
        }
        value.push(c);
    }
    value.push_str("\", charset=\"UTF-8\"");
    value
}

/// Characters of base64: a pair of 3 KiB.
pub const MAX_TOKEN: usize = 4096;

/// Padding is optional: token68 does not ask for it (RFC 9110 §11.2).
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        Credentials::parse(value.as_bytes()).map(|c| (c.user().to_vec(), c.password().to_vec()))
    }

    fn pair(user: &[u8], password: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        Some((user.to_vec(), password.to_vec()))
    }

    #[test]
    fn the_examples_of_rfc_7617() {
        let aladdin = pair(b"Aladdin", b"open sesame");
        assert_eq!(read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), aladdin);
        // §2.1, in UTF-8.
        assert_eq!(read("Basic dGVzdDoxMjPCow=="), pair(b"test", "123£".as_bytes()));
    }

    #[test]
    fn spellings_that_mean_the_same() {
        let expected = pair(b"a", b"b");
        for value in ["Basic YTpi", "basic YTpi", "BASIC   YTpi", " bAsIc YTpi\t"] {
            assert_eq!(read(value), expected, "{value:?}");
        }
        let padded = pair(b"a", b"bc");
        assert_eq!(read("Basic YTpiYw=="), padded);
        assert_eq!(read("Basic YTpiYw"), padded);
    }

    #[test]
    fn empty_parts_colons_and_latin_1() {
        assert_eq!(read("Basic Og=="), pair(b"", b""));
        assert_eq!(read("Basic Onh5"), pair(b"", b"xy"));
        assert_eq!(read("Basic eHk6"), pair(b"xy", b""));
        assert_eq!(read("Basic YTpiOmM="), pair(b"a", b"b:c"));
        // `a:` and 0xe9.
        assert_eq!(read("Basic YTrp"), pair(b"a", b"\xe9"));
    }

    #[test]
    fn junk_is_nobody() {
        let long = format!("Basic {}", "YTpi".repeat(MAX_TOKEN / 4 + 1));
        for value in [
            "",
            " ",
            "Basic",
            "Basic ",
            "BasicYTpi",
            "Bearer YTpi",
            "Basic YWI=",
            "Basic YTpi,",
            "Basic YT pi",
            "Basic Y:Tpi",
            "Basic \tYTpi=",
            "Basic YTpiYw===",
            "Basic YTp_",
            // `a:\0b`, `a\n:b`.
            "Basic YToAYg==",
            "Basic YQo6Yg==",
            &long,
        ] {
            assert_eq!(read(value), None, "{value:?}");
        }
        let longest = format!("Basic {}", "YTpi".repeat(MAX_TOKEN / 4));
        assert_eq!(read(&longest).map(|(_, password)| password.len()), Some(3 * 1024 - 2));
    }

    #[test]
    fn nothing_prints() {
        let credentials = Credentials::parse(b"Basic aHVudGVyMjpodW50ZXIy").unwrap();
        assert_eq!(format!("{credentials:?}"), "[credentials]");
    }

    #[test]
    fn a_realm_stays_inside_its_quotes() {
        assert_eq!(challenge("nango"), "Basic realm=\"nango\", charset=\"UTF-8\"");
        assert_eq!(challenge("a\"b\\c\r\n"), "Basic realm=\"a\\\"b\\\\c\", charset=\"UTF-8\"");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(user in "[^:\\p{Cc}]{0,40}", password in "[^\\p{Cc}]{0,40}") {
            let token = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            prop_assert_eq!(read(&format!("Basic {token}")), pair(user.as_bytes(), password.as_bytes()));
        }

        #[test]
        fn any_bytes_are_read_or_not(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut value = value;
            let _ = Credentials::parse(&value);
            value.splice(..0, *b"Basic ");
            let _ = Credentials::parse(&value);
        }
    }
}
