//! Names a certificate is for: DNS names, one-label wildcards, IP addresses.

use std::net::IpAddr;

use crate::error::Error;

/// Names of one certificate, at most. Let's Encrypt's limit, kept for every issuer so that a
/// configuration can move from one to the other.
pub const MAX_NAMES: usize = 100;

/// The one spelling of a set of names: lower-case, no trailing dot, no brackets, sorted, unique.
pub fn canonical_set(names: &[String]) -> Result<Vec<String>, Error> {
    let mut set = names.iter().map(|name| canonical(name)).collect::<Result<Vec<_>, _>>()?;
    set.sort();
    set.dedup();
    if set.is_empty() {
        return Err(refused("", "a certificate needs at least one name"));
    }
    if set.len() > MAX_NAMES {
        return Err(refused(&set[MAX_NAMES], "more than 100 names in one certificate"));
    }
    Ok(set)
}

/// One name in its one spelling, or why it cannot be in a certificate (RFC 5280 §4.2.1.6).
pub fn canonical(name: &str) -> Result<String, Error> {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(ip.to_string());
    }
    let lower = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let host = lower.strip_prefix("*.").unwrap_or(&lower);
    if host.is_empty() || lower.len() > 253 {
        return Err(refused(name, "1 to 253 characters"));
    }
    if lower.starts_with("*.") && !host.contains('.') {
        return Err(refused(name, "a wildcard needs a domain of two labels or more"));
    }
    if !host.split('.').all(is_label) {
        return Err(refused(name, "labels are 1 to 63 letters, digits or hyphens"));
    }
    Ok(lower)
}

/// The name of the files of a canonical set: readable for people, and different for different
/// sets. A collision is harmless where the names inside are compared.
pub fn file_stem(set: &[String]) -> String {
    let first = set.first().map_or("", String::as_str);
    let readable: String = first
        .chars()
        .take(100)
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' })
        .collect();
    format!("n-{readable}-{:016x}", fingerprint(set))
}

/// FNV-1a: the same in every version, which the standard library's hasher is not.
pub(crate) fn fingerprint(set: &[String]) -> u64 {
    let bytes = set.iter().flat_map(|name| name.bytes().chain([0]));
    bytes.fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn refused(name: &str, why: &'static str) -> Error {
    Error::Name { name: name.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        for (written, canonical_form) in [
            ("App.OpenClaw.Example.", "app.openclaw.example"),
            ("*.gw.openclaw.example", "*.gw.openclaw.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "::1"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(canonical(written).unwrap(), canonical_form);
        }
    }

    #[test]
    fn refused_names() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}example", "abc.".repeat(62));
        for name in [
            "",
            ".",
            "*",
            "*.",
            "*.example",
            "a.*.example",
            "a..b",
            "-a.example",
            "a-.example",
            "a b.example",
            "a/b",
            "ä.example",
            "a\n.example",
            &long_label,
            &long_name,
        ] {
            assert!(canonical(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn sets_are_sorted_unique_and_bounded() {
        let set = canonical_set(&["b.example".into(), "A.example".into(), "b.example.".into()]);
        assert_eq!(set.unwrap(), ["a.example", "b.example"]);
        assert!(canonical_set(&[]).is_err());
        let many: Vec<String> = (0..=MAX_NAMES).map(|i| format!("h{i}.example")).collect();
        assert!(canonical_set(&many).is_err());
        assert!(canonical_set(&many[1..]).is_ok());
    }
}
