//! `Authorization: Basic`: what is read can be written and read again, and the same whatever the
//! spelling of the scheme; nothing of it prints.

use proxy::access::credentials::{Credentials, MAX_TOKEN};

pub fn check(bytes: &[u8]) {
    let Some(read) = Credentials::parse(bytes) else { return };
    assert!(bytes.trim_ascii()[..6].eq_ignore_ascii_case(b"basic "));
    let (user, password) = (read.user(), read.password());
    assert!(!user.contains(&b':'));
    assert!(![user, password].concat().iter().any(u8::is_ascii_control));
    assert!(user.len() + password.len() < MAX_TOKEN);

    let pair = [user, b":", password].concat();
    let token = base64(&pair);
    for scheme in ["Basic ", "bASIC   "] {
        let again = Credentials::parse(format!("{scheme}{token}").as_bytes());
        assert!(again.as_ref() == Some(&read), "{scheme}{token}");
        let unpadded = format!("{scheme}{}", token.trim_end_matches('='));
        assert!(Credentials::parse(unpadded.as_bytes()) == again, "{unpadded}");
    }
    // The only token that says this.
    let sent = bytes.trim_ascii()[6..].trim_ascii();
    let sent = sent.split(|b| *b == b'=').next().unwrap_or_default();
    assert_eq!(sent, token.trim_end_matches('=').as_bytes());
    assert_eq!(format!("{read:?}"), "[credentials]");
}

/// RFC 4648 §4, written again.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let number = number << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[number >> (18 - 6 * place) & 63];
            text.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
