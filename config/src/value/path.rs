//! One normalised path for rule and backend (design.md #15): RFC 3986 §6.2.2, strictly.

use std::borrow::Cow;
use std::fmt;

use super::{NormPath, ValueError, quote};

/// Why a path has no single reading. A request with such a path answers 400 on a host with path
/// rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathError {
    /// It does not start with `/`.
    NotAbsolute,
    /// `%2F`: a slash for some backends, a part of a segment for others.
    EncodedSlash,
    /// `\` or `%5C`: a slash for some backends.
    Backslash,
    /// NUL or `%00`: the end of the path for some backends.
    Nul,
    /// `/..;x/` or `/.;x/`: a dot segment for backends that cut parameters off.
    DotParameter,
    /// `%` without two hexadecimal digits.
    Malformed,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::NotAbsolute => "the path does not start with `/`",
            PathError::EncodedSlash => "`%2F` in a path is ambiguous",
            PathError::Backslash => "a backslash in a path is ambiguous",
            PathError::Nul => "NUL in a path is ambiguous",
            PathError::DotParameter => "`..;` in a path is ambiguous",
            PathError::Malformed => "`%` without two hexadecimal digits",
        })
    }
}

impl std::error::Error for PathError {}

/// The path that rules see and the backend gets: unreserved `%xx` decoded, other `%xx`
/// upper-cased, `//` merged, then dot segments removed. Borrowed when nothing had to change,
/// found in one pass over the bytes. `path` is the target without its query.
///
/// # Errors
/// When the path could be read in two ways.
pub fn normalise(path: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
    if path.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    if is_normal(path)? {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path)?;
    remove_dots_and_doubles(&decoded).map(Cow::Owned)
}

/// Whether nothing has to change. Says `false` where it does not know.
fn is_normal(path: &[u8]) -> Result<bool, PathError> {
    let mut normal = true;
    let mut previous = 0;
    for (at, &byte) in path.iter().enumerate() {
        match byte {
            b'/' if previous == b'/' => normal = false,
            // Any segment that begins with a dot: rare enough for the slow path.
            b'.' if previous == b'/' => normal = false,
            b'%' => normal &= check_escape(path.get(at + 1..at + 3))?,
            b'\\' => return Err(PathError::Backslash),
            0 => return Err(PathError::Nul),
            _ => {}
        }
        previous = byte;
    }
    Ok(normal)
}

/// Whether the two digits after `%` stay as they are.
fn check_escape(digits: Option<&[u8]>) -> Result<bool, PathError> {
    let Some(byte) = unescape(digits) else { return Err(PathError::Malformed) };
    match byte {
        b'/' => Err(PathError::EncodedSlash),
        b'\\' => Err(PathError::Backslash),
        0 => Err(PathError::Nul),
        byte if is_unreserved(byte) => Ok(false),
        _ => Ok(digits.is_some_and(|digits| !digits.iter().any(u8::is_ascii_lowercase))),
    }
}

fn decode_unreserved(path: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let Some((digits, after)) = rest.split_at_checked(2) else {
            return Err(PathError::Malformed);
        };
        rest = after;
        match unescape(Some(digits)) {
            None => return Err(PathError::Malformed),
            Some(byte) if is_unreserved(byte) => out.push(byte),
            Some(_) => {
                out.push(b'%');
                out.extend(digits.iter().map(u8::to_ascii_uppercase));
            }
        }
    }
    Ok(out)
}

fn remove_dots_and_doubles(path: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut segments = path.split(|&byte| byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    let parent = out.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                    out.truncate(parent);
                }
                if last {
                    out.push(b'/');
                }
            }
            b"" if !last => {}
            segment if has_dot_parameter(segment) => return Err(PathError::DotParameter),
            segment => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    Ok(out)
}

/// `.` or `..` followed by `;`, also where the `;` is encoded.
fn has_dot_parameter(segment: &[u8]) -> bool {
    let Some(rest) = segment.strip_prefix(b".") else { return false };
    let rest = rest.strip_prefix(b".").unwrap_or(rest);
    rest.starts_with(b";") || rest.starts_with(b"%3B")
}

fn unescape(digits: Option<&[u8]>) -> Option<u8> {
    let [high, low] = digits? else { return None };
    let high = char::from(*high).to_digit(16)?;
    let low = char::from(*low).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// pchar of RFC 3986 §3.3, and the slash.
fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"/%!$&'()*+,;=:@".contains(&byte)
}

impl NormPath {
    /// A path for a rule. It must be written in its normal form, so that what stands in the file
    /// is what is compared.
    ///
    /// # Errors
    /// With the normal form as help where there is one.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let expected = "a path such as `/api`";
        let error = |message: String| ValueError::new(expected, message);
        if text.len() > Self::MAX_BYTES {
            return Err(error("the path is longer than 2048 bytes".into()));
        }
        if !text.starts_with('/') {
            let message = format!("{} is no path: it does not start with `/`", quote(text));
            return Err(match text {
                "" | "*" => error(message).help("write `/`; it matches every path"),
                _ => error(message).help(format!("write {}", quote(&format!("/{text}")))),
            });
        }
        if text.contains(['?', '#']) {
            let message = format!("{} is no path: rules do not see the query", quote(text));
            return Err(error(message).help("leave out `?` or `#` and what follows"));
        }
        if let Some(stem) = text.strip_suffix("/*") {
            let stem = if stem.is_empty() { "/" } else { stem };
            let message = format!("{} is no path: `*` has no meaning here", quote(text));
            return Err(
                error(message).help(format!("write {}; it matches whole segments", quote(stem)))
            );
        }
        let normal = match normalise(text.as_bytes()) {
            Ok(normal) => normal,
            Err(why) => return Err(error(format!("{} is no path: {why}", quote(text)))),
        };
        let encoded = encode(&normal);
        if encoded != text {
            let message = format!("{} is not in its normal form", quote(text));
            return Err(error(message).help(format!("write {}", quote(&encoded))));
        }
        Ok(NormPath(text.into()))
    }

    const MAX_BYTES: usize = 2048;
}

fn encode(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for &byte in path {
        if is_path_byte(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn normal_paths_are_borrowed() {
        for path in ["/", "/a", "/a/", "/a/b.c", "/a%20b", "/%E2%82%AC", "/a;x=1/b", "/a..", "/%25"]
        {
            assert!(matches!(normalise(path.as_bytes()), Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    #[test]
    fn one_reading() {
        for (path, normal) in [
            ("//", "/"),
            ("//a///b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a//../b", "/b"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/%2e%2E/a", "/a"),
            ("/a/%2e./b", "/b"),
            ("/%61%7e", "/a~"),
            ("/%c3%a9", "/%C3%A9"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/%252e%252e/a", "/%252e%252e/a"),
        ] {
            let got = normalise(path.as_bytes()).unwrap();
            assert_eq!(std::str::from_utf8(&got).unwrap(), normal, "{path}");
        }
    }

    #[test]
    fn two_readings_are_refused() {
        for (path, why) in [
            ("", PathError::NotAbsolute),
            ("a", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("/a%2Fb", PathError::EncodedSlash),
            ("/a%2fb", PathError::EncodedSlash),
            ("/a\\b", PathError::Backslash),
            ("/a%5cb", PathError::Backslash),
            ("/a%00", PathError::Nul),
            ("/a\0", PathError::Nul),
            ("/..;/a", PathError::DotParameter),
            ("/a/..;x=1/b", PathError::DotParameter),
            ("/.;/a", PathError::DotParameter),
            ("/%2e%2e;/a", PathError::DotParameter),
            ("/..%3bx/a", PathError::DotParameter),
            ("/%", PathError::Malformed),
            ("/%4", PathError::Malformed),
            ("/%zz", PathError::Malformed),
            ("/%+1", PathError::Malformed),
        ] {
            assert_eq!(normalise(path.as_bytes()), Err(why), "{path}");
        }
    }

    #[test]
    fn rule_paths_are_written_normal() {
        for good in ["/", "/api", "/api/", "/a%20b", "/v1/chat:complete"] {
            assert_eq!(NormPath::parse(good).unwrap().as_str(), good);
        }
        for (bad, help) in [
            ("api", "write `/api`"),
            ("*", "write `/`; it matches every path"),
            ("/a//b", "write `/a/b`"),
            ("/%61", "write `/a`"),
            ("/a b", "write `/a%20b`"),
            ("/é", "write `/%C3%A9`"),
            ("/a/../b", "write `/b`"),
            ("/api/*", "write `/api`; it matches whole segments"),
        ] {
            assert_eq!(NormPath::parse(bad).unwrap_err().help.as_deref(), Some(help), "{bad}");
        }
        for bad in ["", "/a%2Fb", "/a\\b", "/a?x", "/a#x", "/..;/", "/%0", &"/a".repeat(2000)] {
            assert!(NormPath::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(
            path in proptest::collection::vec(
                prop_oneof![
                    Just(b"/".to_vec()), Just(b"..".to_vec()), Just(b".".to_vec()), Just(b"%2e".to_vec()),
                    Just(b"%41".to_vec()), Just(b"%c3".to_vec()), Just(b";".to_vec()), Just(b"%25".to_vec()),
                    proptest::collection::vec(any::<u8>(), 0..3),
                ],
                0..12,
            )
        ) {
            let mut path = path.concat();
            path.insert(0, b'/');
            if let Ok(once) = normalise(&path) {
                prop_assert!(once.starts_with(b"/"));
                prop_assert!(!once.windows(2).any(|pair| pair == b"//"));
                let segments = once.split(|&byte| byte == b'/');
                prop_assert!(segments.into_iter().all(|segment| segment != b"." && segment != b".."));
                let twice = normalise(&once);
                prop_assert_eq!(twice.as_deref(), Ok(&*once));
                let rule = encode(&once);
                if rule.len() <= NormPath::MAX_BYTES && !rule.ends_with("/*") && !once.contains(&b'?') && !once.contains(&b'#') {
                    prop_assert!(NormPath::parse(&rule).is_ok());
                }
            }
        }
    }
}
