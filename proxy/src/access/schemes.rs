//! Password hashes: does a password belong to one. Each scheme compares in constant time.

use argon2::Argon2;
use argon2::PasswordVerifier;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::model::PasswordHash;
use sha_crypt::ShaCrypt;

/// Longer passwords are wrong without being hashed: sha-crypt's cost grows with their length. In
/// bytes.
pub const MAX_PASSWORD: usize = 1024;

/// Whether the password is the one that was hashed. Takes as long as the scheme's cost asks for
/// (milliseconds to a second); a hash that cannot be read is nobody's. Of a bcrypt password only
/// the first 72 bytes count, as with every tool that makes such hashes.
pub fn verify(hash: &PasswordHash, password: &[u8]) -> bool {
    if password.len() > MAX_PASSWORD {
        return false;
    }
    match hash {
        PasswordHash::Bcrypt(text) => bcrypt::verify(password, text.expose()).unwrap_or(false),
        // The variant and the parameters are those of the text.
        PasswordHash::Argon2(text) => {
            Argon2::default().verify_password(password, text.expose()).is_ok()
        }
        PasswordHash::Sha256Crypt(text) | PasswordHash::Sha512Crypt(text) => {
            ShaCrypt::default().verify_password(password, text.expose()).is_ok()
        }
        PasswordHash::Sha1(text) => sha1(text.expose(), password),
    }
}

fn sha1(hash: &str, password: &[u8]) -> bool {
    let stored = hash.strip_prefix("{SHA}").and_then(|text| STANDARD.decode(text).ok());
    let sent = digest(&SHA1_FOR_LEGACY_USE_ONLY, password);
    stored.is_some_and(|stored| verify_slices_are_equal(&stored, sent.as_ref()).is_ok())
}

/// What the time of a verification depends on: everything before the salt. Equal texts cost the
/// same.
pub fn cost(hash: &PasswordHash) -> &str {
    let text = text(hash);
    let fields = match hash {
        // $2y$10$
        PasswordHash::Bcrypt(_) => 3,
        // $argon2id$v=19$m=65536,t=3,p=4$; without a version one less.
        PasswordHash::Argon2(_) => 3 + usize::from(text.contains("$v=")),
        // $6$ or $6$rounds=20000$
        PasswordHash::Sha256Crypt(_) | PasswordHash::Sha512Crypt(_) => {
            2 + usize::from(text.contains("$rounds="))
        }
        PasswordHash::Sha1(_) => return "{SHA}",
    };
    let end = text.match_indices('$').nth(fields - 1).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// The whole hash with its parameters: never for a log, an error or an API.
pub fn text(hash: &PasswordHash) -> &str {
    match hash {
        PasswordHash::Bcrypt(text)
        | PasswordHash::Argon2(text)
        | PasswordHash::Sha256Crypt(text)
        | PasswordHash::Sha512Crypt(text)
        | PasswordHash::Sha1(text) => text.expose(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use config::value::Secret;
    use proptest::prelude::*;

    use super::*;

    /// A hash by what it begins with.
    pub fn hash(text: &str) -> PasswordHash {
        let secret = Secret::new(text);
        match text.get(..3) {
            Some("$2a" | "$2b" | "$2y") => PasswordHash::Bcrypt(secret),
            Some("$ar") => PasswordHash::Argon2(secret),
            Some("$5$") => PasswordHash::Sha256Crypt(secret),
            Some("$6$") => PasswordHash::Sha512Crypt(secret),
            Some("{SH") => PasswordHash::Sha1(secret),
            _ => panic!("{text}"),
        }
    }

    #[test]
    fn hashes_of_the_usual_tools() {
        let mut schemes = std::collections::HashSet::new();
        for line in include_str!("vectors.txt").lines().filter(|line| !line.starts_with('#')) {
            let [tool, password, text] = line.split('|').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let hash = hash(text);
            schemes.insert(std::mem::discriminant(&hash));
            assert!(verify(&hash, password.as_bytes()), "{tool}: {password}");
            let shorter = &password.as_bytes()[..password.len() - 1];
            let longer = [password.as_bytes(), b"x"].concat();
            // The 72 bytes of bcrypt are full.
            let cut = matches!(hash, PasswordHash::Bcrypt(_)) && password.len() == 72;
            assert_eq!(verify(&hash, &longer), cut, "{tool}: {password}, and more");
            for wrong in [shorter, b"", b"\xff\xfe"] {
                assert!(!verify(&hash, wrong), "{tool}: not {password}");
            }
        }
        assert_eq!(schemes.len(), 5);
    }

    #[test]
    fn long_passwords() {
        // `htpasswd -B` of 72 times `q` and `TAIL`.
        let cut = hash("$2y$05$LmHRV/SebSConZfkIrenXOTDqtvxGXssjv2GGoNlFGifgykH4ELLO");
        assert!(verify(&cut, &[b'q'; 72]) && verify(&cut, &[b'q'; MAX_PASSWORD]));
        assert!(!verify(&cut, &[b'q'; 71]) && !verify(&cut, &[b'q'; MAX_PASSWORD + 1]));
        // SHA-1 of 1,024 and of 1,025 times `a`: the second is right and yet refused.
        assert!(verify(&hash("{SHA}jspVRjHfnq0UUQ4acK5Ixw+bk4Q="), &[b'a'; 1024]));
        assert!(!verify(&hash("{SHA}EAneLvYYO9bYwI8e2N9IR+cfess="), &[b'a'; 1025]));
    }

    #[test]
    fn what_a_verification_costs() {
        for (text, expected) in [
            ("$2y$05$3v4JhkYY03S/8gFNY368RODJsmqK1TynQoVAVr1srewvv6ASyC5Fy", "$2y$05"),
            ("$argon2id$v=19$m=4096,t=2,p=1$c2FsdA$aGFzaA", "$argon2id$v=19$m=4096,t=2,p=1"),
            ("$argon2i$m=4096,t=2,p=1$c2FsdA$aGFzaA", "$argon2i$m=4096,t=2,p=1"),
            ("$5$salt$hash", "$5"),
            ("$6$rounds=12000$salt$hash", "$6$rounds=12000"),
            ("{SHA}e5qIKNGWrs7gJ1iMh4E8gK4I5Kg=", "{SHA}"),
        ] {
            assert_eq!(cost(&hash(text)), expected);
        }
    }

    proptest! {
        #[test]
        fn a_hash_that_cannot_be_read_is_nobodys(
            scheme in proptest::sample::select(&["$2y$", "$argon2id$", "$5$", "$6$", "{SHA}"][..]),
            rest in "[ -~é]{0,80}",
        ) {
            let hash = hash(&format!("{scheme}{rest}"));
            // What it looks like must not be expensive either; the file's reader sees to that.
            prop_assume!(!rest.contains("m=") && !rest.contains("rounds="));
            prop_assert!(!verify(&hash, b"password"));
            let _ = cost(&hash);
        }
    }
}
