//! `${env:X}`, `${file:/p}`, `${cred:name}` in scalars; `$${` is a literal `${`.
//!
//! Messages name the variable or the file, never what it holds.

use std::borrow::Cow;
use std::path::Path;

use crate::environment::{Environment, MAX_FILE_BYTES};
use crate::value::quote;

/// Why a scalar could not be resolved.
#[derive(Debug, PartialEq)]
pub(crate) struct Unresolved {
    pub message: String,
    pub help: Option<String>,
}

/// Whether the text asks for anything from outside.
pub(crate) fn is_interpolated(source: &str) -> bool {
    source.replace("$${", "").contains("${")
}

/// The text with every reference replaced. What a reference gives is not looked at again.
pub(crate) fn resolve<'t>(
    source: &'t str,
    env: &dyn Environment,
) -> Result<Cow<'t, str>, Unresolved> {
    if !source.contains("${") {
        return Ok(Cow::Borrowed(source));
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest.get(..at).and_then(|before| before.strip_suffix('$')) {
            out.push_str(before);
            out.push_str("${");
            rest = rest.get(at + 2..).unwrap_or_default();
            continue;
        }
        let (before, reference) = rest.split_at(at);
        let Some(end) = reference.find('}') else {
            return Err(error("`${` without `}`").help("a literal `${` is written `$${`"));
        };
        out.push_str(before);
        out.push_str(&value_of(reference.get(2..end).unwrap_or_default(), env)?);
        rest = reference.get(end + 1..).unwrap_or_default();
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

fn value_of(reference: &str, env: &dyn Environment) -> Result<String, Unresolved> {
    let forms =
        "write `${env:NAME}`, `${file:/path}` or `${cred:name}`; a literal `${` is written `$${`";
    match reference.split_once(':') {
        Some(("env", name)) => variable(name, env),
        Some(("file", path)) if path.starts_with('/') => file(path, env),
        Some(("file", _)) => Err(error("the path of `${file:}` is not absolute")),
        Some(("cred", name)) => credential(name, env),
        _ => Err(error(&format!("unknown reference {}", quote(&format!("${{{reference}}}"))))
            .help(forms)),
    }
}

fn variable(name: &str, env: &dyn Environment) -> Result<String, Unresolved> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || !name.bytes().all(valid) {
        return Err(error(&format!("{} is no name of an environment variable", quote(name))));
    }
    env.var(name).ok_or_else(|| error(&format!("the environment variable `{name}` is not set")))
}

fn credential(name: &str, env: &dyn Environment) -> Result<String, Unresolved> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(valid) {
        return Err(error(&format!("{} is no name of a credential", quote(name))));
    }
    match env.var("CREDENTIALS_DIRECTORY") {
        Some(directory) => file(&format!("{directory}/{name}"), env),
        None => Err(error(&format!("credential `{name}`: CREDENTIALS_DIRECTORY is not set"))
            .help("systemd sets it for units with LoadCredential=; elsewhere use `${file:/path}`")),
    }
}

/// The file's text without one trailing newline.
fn file(path: &str, env: &dyn Environment) -> Result<String, Unresolved> {
    let shown = quote(path);
    let mut text = env
        .read(Path::new(path))
        .map_err(|why| error(&format!("the file {shown} cannot be read: {why}")))?;
    if text.len() > MAX_FILE_BYTES {
        return Err(error(&format!("the file {shown} is larger than 64 KiB")));
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn error(message: &str) -> Unresolved {
    Unresolved { message: message.to_owned(), help: None }
}

impl Unresolved {
    fn help(mut self, help: &str) -> Self {
        self.help = Some(help.to_owned());
        self
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::environment::SystemEnvironment;

    struct Fake;

    impl Environment for Fake {
        fn var(&self, name: &str) -> Option<String> {
            match name {
                "A" => Some("alpha".into()),
                "NESTED" => Some("${env:A}".into()),
                "CREDENTIALS_DIRECTORY" => Some("/creds".into()),
                _ => None,
            }
        }

        fn read(&self, path: &Path) -> io::Result<String> {
            match path.to_str() {
                Some("/one") => Ok("first\n\n".into()),
                Some("/creds/token") => Ok("s3cret\r\n".into()),
                Some("/big") => Ok("x".repeat(MAX_FILE_BYTES + 1)),
                Some("/limit") => Ok("x".repeat(MAX_FILE_BYTES)),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    #[test]
    fn references_are_replaced() {
        for (source, value) in [
            ("plain $ { } text", "plain $ { } text"),
            ("${env:A}", "alpha"),
            ("<${env:A}|${env:A}>", "<alpha|alpha>"),
            ("${env:NESTED}", "${env:A}"),
            ("${file:/one}", "first\n"),
            ("${cred:token}", "s3cret"),
            ("$${env:A}", "${env:A}"),
            ("$${ ${env:A}", "${ alpha"),
            ("$$", "$$"),
            ("é${env:A}é", "éalphaé"),
        ] {
            assert_eq!(resolve(source, &Fake).as_deref(), Ok(value), "{source}");
        }
        assert_eq!(resolve("${file:/limit}", &Fake).map(|text| text.len()), Ok(MAX_FILE_BYTES));
    }

    #[test]
    fn what_cannot_be_resolved_is_named() {
        for (source, part) in [
            ("${env:B}", "`B` is not set"),
            ("${env:}", "no name of an environment variable"),
            ("${env:A B}", "no name of an environment variable"),
            ("${A}", "unknown reference `${A}`"),
            ("${}", "unknown reference"),
            ("${env:A", "without `}`"),
            ("${file:one}", "not absolute"),
            ("${file:/none}", "`/none` cannot be read"),
            ("${file:/big}", "larger than 64 KiB"),
            ("${cred:../one}", "no name of a credential"),
            ("${cred:a/b}", "no name of a credential"),
        ] {
            let message = resolve(source, &Fake).unwrap_err().message;
            assert!(message.contains(part), "{source}: {message}");
        }
    }

    #[test]
    fn escapes_are_no_references() {
        assert!(is_interpolated("a${env:A}"));
        assert!(is_interpolated("$${x}${env:A}"));
        assert!(!is_interpolated("$${env:A}"));
        assert!(!is_interpolated("a$b"));
    }

    #[test]
    fn the_system_reads_regular_files_up_to_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "x".repeat(2 * MAX_FILE_BYTES)).unwrap();
        assert_eq!(SystemEnvironment.read(&path).unwrap().len(), MAX_FILE_BYTES + 1);
        std::fs::write(&path, [0xff]).unwrap();
        assert!(SystemEnvironment.read(&path).is_err());
        assert!(SystemEnvironment.read(dir.path()).is_err());
    }
}
