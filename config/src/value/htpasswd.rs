//! htpasswd files: `user:hash` lines. What stands in them is never repeated in a message: a finding
//! names the line and, from a closed list, the scheme.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD, STANDARD_NO_PAD};

use super::{Secret, is_decimal};
use crate::model::{PasswordEntry, PasswordHash};

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    /// 1-based, in the htpasswd.
    pub line: usize,
    pub message: String,
    pub help: Option<&'static str>,
}

impl PasswordHash {
    /// Cannot be slowed down: whoever gets the file tries billions of passwords a second.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        matches!(self, PasswordHash::Sha1(_))
    }
}

/// The users of an htpasswd file in its order. Empty lines and `#` comments are skipped, and so is
/// what follows a second `:` (a comment, as nginx and Apache httpd have it).
///
/// # Errors
/// Every bad line: no user, no known scheme, parameters out of bounds, a user for the second time.
pub(crate) fn htpasswd(text: &str) -> Result<Vec<PasswordEntry>, Vec<BadLine>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut users = Vec::new();
    let mut bad = Vec::new();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, text) in text.lines().enumerate() {
        let (line, text) = (index + 1, text.trim_end());
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match entry(text) {
            Ok((user, hash)) => match seen.insert(user, line) {
                None => users.push(PasswordEntry { user: user.to_owned(), hash }),
                Some(first) => {
                    let message = format!("the same user as in line {first}");
                    bad.push(BadLine { line, message, help: Some("keep one of the two") });
                }
            },
            Err(why) => bad.push(BadLine { line, message: why.message, help: why.help }),
        }
    }
    if bad.is_empty() { Ok(users) } else { Err(bad) }
}

/// Why a line cannot be used, without the line.
struct Why {
    message: String,
    help: Option<&'static str>,
}

fn why(message: impl Into<String>, help: Option<&'static str>) -> Why {
    Why { message: message.into(), help }
}

fn entry(text: &str) -> Result<(&str, PasswordHash), Why> {
    let Some((user, rest)) = text.split_once(':') else {
        return Err(why("no `:` between user and hash", Some(MAKE)));
    };
    if user.is_empty() {
        return Err(why("no user before the `:`", None));
    }
    // RFC 7617 §2: no control characters; the colon is gone already.
    if user.len() > MAX_USER || user.chars().any(char::is_control) {
        return Err(why("the user is longer than 255 bytes, or has control characters", None));
    }
    if user.starts_with(' ') || user.ends_with(' ') {
        return Err(why("a blank beside the user", Some("remove it")));
    }
    let hash = rest.split_once(':').map_or(rest, |(hash, _comment)| hash);
    Ok((user, password_hash(hash)?))
}

fn password_hash(text: &str) -> Result<PasswordHash, Why> {
    let secret = || Secret::new(text);
    if text.is_empty() {
        return Err(why("no hash after the `:`", Some(MAKE)));
    }
    if let Some(rest) = strip_any(text, &["$2a$", "$2b$", "$2y$"]) {
        return bcrypt(rest).map(|()| PasswordHash::Bcrypt(secret()));
    }
    if let Some(rest) = strip_any(text, &["$argon2id$", "$argon2i$", "$argon2d$"]) {
        return argon2(rest).map(|()| PasswordHash::Argon2(secret()));
    }
    if let Some(rest) = text.strip_prefix("$5$") {
        return sha_crypt(rest, "SHA-256 crypt", 43).map(|()| PasswordHash::Sha256Crypt(secret()));
    }
    if let Some(rest) = text.strip_prefix("$6$") {
        return sha_crypt(rest, "SHA-512 crypt", 86).map(|()| PasswordHash::Sha512Crypt(secret()));
    }
    if let Some(rest) = text.strip_prefix("{SHA}") {
        return match STANDARD.decode(rest) {
            Ok(digest) if digest.len() == 20 => Ok(PasswordHash::Sha1(secret())),
            _ => Err(malformed("SHA-1")),
        };
    }
    Err(refused(text))
}

fn strip_any<'t>(text: &'t str, prefixes: &[&str]) -> Option<&'t str> {
    prefixes.iter().find_map(|prefix| text.strip_prefix(prefix))
}

/// `12$` and 22 characters of salt, 31 of hash.
fn bcrypt(text: &str) -> Result<(), Why> {
    let cost = text.split_once('$').filter(|(cost, _)| cost.len() == 2);
    let Some((cost, rest)) = cost else { return Err(malformed("bcrypt")) };
    let Ok(cost) = cost.parse::<u8>() else { return Err(malformed("bcrypt")) };
    if !BCRYPT_COST.contains(&cost) {
        let help = "make a new one: `htpasswd -B -C 10`";
        return Err(why(format!("bcrypt with cost {cost}: 4 to 14 belong here"), Some(help)));
    }
    let parts = rest.split_at_checked(22).filter(|_| rest.len() == 53);
    let whole = parts
        .is_some_and(|(salt, hash)| BCRYPT.decode(salt).is_ok() && BCRYPT.decode(hash).is_ok());
    if whole { Ok(()) } else { Err(malformed("bcrypt")) }
}

/// `v=19$m=65536,t=3,p=4$SALT$HASH` (PHC string format). The version is asked for, because what
/// its absence means differs between programs.
fn argon2(text: &str) -> Result<(), Why> {
    let parts: Vec<&str> = text.split('$').collect();
    let ["v=19" | "v=16", parameters, salt, hash] = parts.as_slice() else {
        return Err(malformed("argon2"));
    };
    let parameters: Vec<&str> = parameters.split(',').collect();
    let [memory, passes, lanes] = parameters.as_slice() else { return Err(malformed("argon2")) };
    let number = |text: &str, name: &str| -> Result<u64, Why> {
        let number = text.strip_prefix(name).filter(|number| is_decimal(number));
        number.and_then(|number| number.parse().ok()).ok_or_else(|| malformed("argon2"))
    };
    let (memory, passes, lanes) =
        (number(memory, "m=")?, number(passes, "t=")?, number(lanes, "p=")?);
    if memory > ARGON2_KIB {
        let message = format!("argon2 with {memory} KiB of memory: at most {ARGON2_KIB}");
        return Err(why(message, Some("make a new one with `m=65536` or less")));
    }
    if !ARGON2_PASSES.contains(&passes) || !ARGON2_LANES.contains(&lanes) || memory < 8 * lanes {
        let message = "argon2 with parameters out of bounds: t from 1 to 10, p from 1 to 16, \
                       m at least 8 times p";
        return Err(why(message, Some("make a new one with `m=19456,t=2,p=1`")));
    }
    let bytes = |text: &str| STANDARD_NO_PAD.decode(text).map_or(0, |bytes| bytes.len());
    match (8..=48).contains(&bytes(salt)) && (10..=64).contains(&bytes(hash)) {
        true => Ok(()),
        false => Err(malformed("argon2")),
    }
}

/// `SALT$HASH` or `rounds=N$SALT$HASH`. Without them it has 5,000 rounds.
fn sha_crypt(text: &str, scheme: &str, length: usize) -> Result<(), Why> {
    let mut rest = text;
    if let Some(after) = text.strip_prefix("rounds=") {
        let (rounds, after) = after.split_once('$').ok_or_else(|| malformed(scheme))?;
        let rounds: u64 = match is_decimal(rounds) {
            true => rounds.parse().unwrap_or(u64::MAX),
            false => return Err(malformed(scheme)),
        };
        if !SHA_CRYPT_ROUNDS.contains(&rounds) {
            let message = format!("{scheme} with rounds out of bounds: 1000 to 100000");
            return Err(why(message, Some("make a new one: `htpasswd -B`")));
        }
        rest = after;
    }
    let itoa64 = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./".contains(&b));
    match rest.split_once('$') {
        Some((salt, hash))
            if (1..=16).contains(&salt.len())
                && hash.len() == length
                && itoa64(salt)
                && itoa64(hash) =>
        {
            Ok(())
        }
        _ => Err(malformed(scheme)),
    }
}

fn malformed(scheme: &str) -> Why {
    why(format!("no whole {scheme} hash"), Some("was it cut? Make a new one: `htpasswd -B`"))
}

/// Schemes that are known by their look, and not taken.
fn refused(text: &str) -> Why {
    let known = REFUSED.iter().find(|(prefix, _)| text.starts_with(prefix)).map(|(_, name)| *name);
    let des =
        text.len() == 13 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./".contains(&b));
    match known {
        Some(name) => why(format!("{name} is not supported"), Some(MAKE)),
        None if des => why("DES crypt, or a plain text, is not supported", Some(MAKE)),
        None if text.starts_with(['$', '{']) => why("a scheme that is not known here", Some(MAKE)),
        None => why("a plain text instead of a hash", Some(MAKE)),
    }
}

const REFUSED: [(&str, &str); 14] = [
    ("$apr1$", "MD5 (`$apr1$`)"),
    ("$1$", "MD5 crypt (`$1$`)"),
    ("$2$", "the first bcrypt (`$2$`)"),
    ("$2x$", "the broken bcrypt (`$2x$`)"),
    ("$3$", "the NT hash (`$3$`)"),
    ("$md5", "Sun's MD5 (`$md5`)"),
    ("$7$", "scrypt (`$7$`)"),
    ("$scrypt$", "scrypt"),
    ("$y$", "yescrypt (`$y$`)"),
    ("$gy$", "gost-yescrypt (`$gy$`)"),
    ("$pbkdf2", "PBKDF2"),
    ("{SSHA", "salted SHA (`{SSHA}`)"),
    ("{PLAIN}", "a plain text (`{PLAIN}`)"),
    ("{CRYPT}", "`{CRYPT}`"),
];
const BCRYPT: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::BCRYPT, NO_PAD);
const BCRYPT_COST: std::ops::RangeInclusive<u8> = 4..=14;
const ARGON2_KIB: u64 = 64 * 1024;
const ARGON2_PASSES: std::ops::RangeInclusive<u64> = 1..=10;
const ARGON2_LANES: std::ops::RangeInclusive<u64> = 1..=16;
const SHA_CRYPT_ROUNDS: std::ops::RangeInclusive<u64> = 1000..=100_000;
const MAX_USER: usize = 255;
const MAKE: &str = "make a new one: `htpasswd -B`";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BCRYPT_LINE: &str = "$2y$04$taRy0yQYshLU3RkJ.USK1.bVWCgxPfnxjh4FSzIGx/GpALKNPGyf2";
    const ARGON2_TAIL: &str = "$c29tZXNhbHQx$YEOnFo4CgMECJOLL1eJn1bag0QhIffWQGhipaqELgbw";
    const SHA256: &str = "$5$abc$/LKlXd6vuvdFX3oWbf2vGk3DgflzzsvOtMZsiOxqqY5";
    const SHA512: &str = "$6$abcdefgh$KQeXafAQAaOoKTevphVU215RvJdgzyfASRasIOuh12hO8u0r1bGW92ZnTmC9Ijs\
                          iQ8VPiTXBiZF49dFL1U4wX/";
    const SHA512_ROUNDS: &str = "$6$rounds=10000$L8oymctprTUd0.5o$wbhcpf8rjdbWa.mkkEb9O5kS1NxokYErp\
                                 leYFPIbAYaZgM5gfYWnksMuvq3cBjc8ZaBwK9YkpEKhB6Ijcbv.Z.";
    const SHA1: &str = "{SHA}GpHWL3ymc5liWkNopqtdSjuqYHM=";

    fn argon2(parameters: &str) -> String {
        format!("$argon2id$v=19${parameters}{ARGON2_TAIL}")
    }

    fn message(hash: &str) -> String {
        let bad = htpasswd(&format!("eve:{hash}")).unwrap_err();
        assert_eq!((bad.len(), bad[0].line), (1, 1), "{hash}");
        format!("{}; {}", bad[0].message, bad[0].help.unwrap_or_default())
    }

    #[test]
    fn every_scheme_of_a_file_is_read() {
        let argon2 = argon2("m=65536,t=3,p=4");
        let file = format!(
            "\u{feff}# staff\n\na:{BCRYPT_LINE}\r\nb:{argon2}  \nc:{SHA256}\nd:{SHA512}:her own comment\n\
             e:{SHA512_ROUNDS}\né f:{SHA1}"
        );
        let users = htpasswd(&file).unwrap();
        let secret = |text: &str| Secret::new(text);
        let expected = [
            ("a", PasswordHash::Bcrypt(secret(BCRYPT_LINE))),
            ("b", PasswordHash::Argon2(secret(&argon2))),
            ("c", PasswordHash::Sha256Crypt(secret(SHA256))),
            ("d", PasswordHash::Sha512Crypt(secret(SHA512))),
            ("e", PasswordHash::Sha512Crypt(secret(SHA512_ROUNDS))),
            ("é f", PasswordHash::Sha1(secret(SHA1))),
        ];
        let expected = expected.map(|(user, hash)| PasswordEntry { user: user.to_owned(), hash });
        assert_eq!(users, expected);
        assert!(!format!("{users:?}").contains("taRy0"));
        let weak: Vec<bool> = users.iter().map(|user| user.hash.is_weak()).collect();
        assert_eq!(weak, [false, false, false, false, false, true]);
        assert_eq!(htpasswd("# nobody\n"), Ok(Vec::new()));
    }

    #[test]
    fn other_schemes_are_named_and_refused() {
        for (hash, name) in [
            ("$apr1$phhMdWzV$yzCjFD4sCnr3g9SICebl2/", "MD5 (`$apr1$`)"),
            ("$1$phhMdWzV$yzCjFD4sCnr3g9SICebl2/", "MD5 crypt"),
            ("Zs6Zzw6kn7U6w", "DES crypt"),
            ("$2x$04$taRy0yQYshLU3RkJ.USK1.bVWCgxPfnxjh4FSzIGx/GpALKNPGyf2", "broken bcrypt"),
            ("$y$j9T$abc$def", "yescrypt"),
            ("{SSHA}0c0blFTXXNuAMHECS4uxrj3ZieMoWImr", "salted SHA"),
            ("{PLAIN}hunter2", "a plain text"),
            ("hunter2", "a plain text"),
            ("$zzz$hunter2", "a scheme that is not known here"),
        ] {
            let shown = message(hash);
            assert!(shown.contains(name) && shown.contains("htpasswd -B"), "{hash}: {shown}");
            assert!(!shown.contains("hunter2") && !shown.contains("Zs6Z"), "{shown}");
        }
    }

    #[test]
    fn parameters_have_bounds() {
        for (cost, good) in
            [("03", false), ("04", true), ("14", true), ("15", false), ("31", false)]
        {
            let hash = BCRYPT_LINE.replacen("04", cost, 1);
            assert_eq!(htpasswd(&format!("a:{hash}")).is_ok(), good, "{cost}");
        }
        for (parameters, good) in [
            ("m=65536,t=10,p=16", true),
            ("m=8,t=1,p=1", true),
            ("m=65537,t=1,p=1", false),
            ("m=4294967296000,t=1,p=1", false),
            ("m=65536,t=11,p=1", false),
            ("m=65536,t=0,p=1", false),
            ("m=65536,t=1,p=17", false),
            ("m=65536,t=1,p=0", false),
            ("m=127,t=1,p=16", false),
            ("m=64,t=1", false),
            ("m=64,t=1,p=1,data=AAAA", false),
            ("t=1,m=64,p=1", false),
            ("m=+64,t=1,p=1", false),
        ] {
            let hash = argon2(parameters);
            assert_eq!(htpasswd(&format!("a:{hash}")).is_ok(), good, "{parameters}");
        }
        assert!(htpasswd(&format!("a:$argon2id$m=64,t=1,p=1{ARGON2_TAIL}")).is_err());
        for (rounds, good) in [
            ("999", false),
            ("1000", true),
            ("100000", true),
            ("100001", false),
            ("99999999999999999999", false),
            ("05000", false),
            ("x", false),
        ] {
            let hash = SHA512_ROUNDS.replacen("10000", rounds, 1);
            assert_eq!(htpasswd(&format!("a:{hash}")).is_ok(), good, "{rounds}");
        }
    }

    #[test]
    fn a_cut_hash_is_no_hash() {
        for hash in [BCRYPT_LINE, SHA256, SHA512, SHA512_ROUNDS, SHA1, &argon2("m=64,t=1,p=1")] {
            assert!(htpasswd(&format!("a:{hash}")).is_ok(), "{hash}");
            for cut in [1, hash.len() / 2, hash.len() - 8] {
                let cut = &hash[..hash.len() - cut];
                assert!(htpasswd(&format!("a:{cut}")).is_err(), "{cut}");
            }
            assert!(htpasswd(&format!("a:{hash}*")).is_err(), "{hash}");
            assert!(htpasswd(&format!("a:{hash}$")).is_err(), "{hash}");
        }
    }

    #[test]
    fn every_bad_line_is_found() {
        let file =
            format!("a:{SHA1}\nhunter2\n\n:{SHA1}\na:{SHA256}\nb:\n c:{SHA1}\nd\u{7}:{SHA1}");
        let bad = htpasswd(&file).unwrap_err();
        let lines: Vec<(usize, &str)> =
            bad.iter().map(|bad| (bad.line, bad.message.as_str())).collect();
        assert_eq!(
            lines,
            [
                (2, "no `:` between user and hash"),
                (4, "no user before the `:`"),
                (5, "the same user as in line 1"),
                (6, "no hash after the `:`"),
                (7, "a blank beside the user"),
                (8, "the user is longer than 255 bytes, or has control characters"),
            ]
        );
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in any::<String>()) {
            let _ = htpasswd(&text);
        }

        #[test]
        fn no_hash_is_repeated(
            prefix in prop::sample::select(vec![
                "$2y$", "$2y$10$", "$argon2id$", "$argon2id$v=19$", "$argon2id$v=19$m=64,t=1,p=1$",
                "$5$", "$6$rounds=", "$6$", "{SHA}", "$apr1$", "{SSHA}", "$", "",
            ]),
            tail in "Q[a-zA-Z0-9./+=$,é]{0,70}",
        ) {
            match htpasswd(&format!("user:{prefix}{tail}")) {
                Ok(users) => prop_assert!(users.len() == 1),
                Err(bad) => for bad in bad {
                    let shown = format!("{bad:?}");
                    prop_assert!(tail.len() < 4 || !shown.contains(&tail), "{}", shown);
                    prop_assert!(!shown.contains("user:"), "{}", shown);
                },
            }
        }
    }
}
