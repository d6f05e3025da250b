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
