//! What of a state directory a backup holds. The same list says what a restore may write, so that
//! no archive, whoever made it, leaves the directory.

use acme::storage::is_segment;

/// Folders with the endings of their files, in the order in which a backup reads them.
///
/// A running process stores a certificate before it drops the order with its key, and notes in the
/// ledger before it asks the CA. Read in this order, what is being renewed meanwhile is in the
/// copy as an order, as a certificate, or both; and the ledger knows at least what the copy holds.
pub const FOLDERS: [(&str, &[&str]); 4] = [
    ("acme/orders", &[".json"]),
    (CERTIFICATES, &[".pem", ".json"]),
    ("acme/accounts", &[".json"]),
    ("internal/issued", &[".pem"]),
];

/// Single files, read after the folders.
pub const FILES: [&str; 4] = [LEDGER, AUTHORITY, "internal/ca.pem", "last-good.yaml"];

pub const CERTIFICATES: &str = "acme/certs";
pub const LEDGER: &str = "acme/ledger.json";
/// Of a certificate that was replaced, kept beside the present one.
pub const FORMER: &str = ".former.pem";
const AUTHORITY: &str = "internal/ca-and-key.pem";
const SHARED_CERTIFICATE: &str = "internal/ca.pem";

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Chain and key, PEM: one certificate with its key is one file.
    Pair,
    Json,
    Text,
}

/// `None`: no backup holds a file of this name.
pub fn content(path: &str) -> Option<Content> {
    let listed = FILES.contains(&path) || in_folder(path);
    let content = match path {
        SHARED_CERTIFICATE => Content::Text,
        _ if path.ends_with(".pem") => Content::Pair,
        _ if path.ends_with(".json") => Content::Json,
        _ => Content::Text,
    };
    listed.then_some(content)
}

fn in_folder(path: &str) -> bool {
    let Some((folder, name)) = path.rsplit_once('/') else { return false };
    let endings = FOLDERS.iter().find(|(one, _)| *one == folder).map(|(_, endings)| *endings);
    is_segment(name)
        && endings.is_some_and(|endings| {
            endings.iter().any(|end| name.strip_suffix(end).is_some_and(|stem| !stem.is_empty()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_state_directory() {
        for (path, expected) in [
            ("acme/certs/app.openclaw.example-1a.pem", Content::Pair),
            ("acme/certs/app.openclaw.example-1a.former.pem", Content::Pair),
            ("acme/certs/app.openclaw.example-1a.json", Content::Json),
            ("acme/accounts/ca-1.json", Content::Json),
            (LEDGER, Content::Json),
            (AUTHORITY, Content::Pair),
            ("internal/ca.pem", Content::Text),
            ("internal/issued/a.pem", Content::Pair),
            ("last-good.yaml", Content::Text),
        ] {
            assert_eq!(content(path), Some(expected), "{path}");
        }
    }

    #[test]
    fn and_nothing_else() {
        for path in [
            "",
            "/etc/passwd",
            "../acme/ledger.json",
            "acme/../acme/ledger.json",
            "acme/certs/../../x.pem",
            "acme/certs/..pem",
            "acme/certs/.pem",
            "acme/certs/.tmp-1-0.pem",
            "acme/certs//x.pem",
            "acme/certs/x/y.pem",
            "acme/certs/x.pem\0",
            "acme/certs/x.pem.corrupt-1",
            "acme/certs/x.key",
            "acme/.lock",
            "acme//ledger.json",
            "./last-good.yaml",
            "last-good.yaml/",
            "acme/certs",
            "replaced-1/last-good.yaml",
        ] {
            assert_eq!(content(path), None, "{path:?}");
        }
    }
}
