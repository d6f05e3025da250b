//! No text makes the reader panic, and no report shows what a reference gives.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io;
use std::path::Path;

use config::error::render;
use config::{Environment, Level, last_good, merge, parse};
use proptest::prelude::*;

struct Secretive;

impl Environment for Secretive {
    fn var(&self, _name: &str) -> Option<String> {
        Some("top-secret".into())
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Ok("Top Secret\n".into())
    }
}

const EXAMPLES: [&str; 4] = [
    include_str!("../examples/everything.yaml"),
    include_str!("../examples/platform.yaml"),
    include_str!("../examples/backends.yaml"),
    include_str!("golden/secrets.yaml"),
];

/// Everything that happens to a file, with all that is printed about it.
fn through_everything(text: &str) -> String {
    let candidate = match parse("edge.yaml", text, &Secretive) {
        Ok(candidate) => candidate,
        Err(errors) => {
            assert!(!errors.0.is_empty());
            return format!("{}{errors}", errors.render("edge.yaml", text));
        }
    };
    let accepted = merge(None, candidate.clone());
    let mut out = render(&accepted.warnings, Level::Warning, "edge.yaml", text);
    for entry in &accepted.quarantined {
        assert!(!entry.reasons.is_empty());
        out.push_str(&render(&entry.reasons, Level::Error, "edge.yaml", text));
    }
    let document = last_good::document(&accepted);
    let restored = last_good::restore(&document, &Secretive);
    assert_eq!(
        restored.map(|restored| restored.routes.len()),
        Some(accepted.routes.len()),
        "{document}"
    );
    assert_eq!(merge(Some(&accepted), candidate), accepted);
    out
}

/// Pieces that mean something somewhere.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<char>().prop_map(String::from),
        proptest::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\n",
            " ",
            "  ",
            "\t",
            "-",
            "#",
            "&a ",
            "*a",
            "!t ",
            "|",
            ">",
            "'",
            "\"",
            "null",
            "true",
            "off",
            "0755",
            "${env:A}",
            "${file:/a}",
            "$${",
            "${",
            "}",
            "---\n",
            "version: 1\n",
            "routes:",
            "upstreams:",
            "hosts:",
            "upstream:",
            "\u{feff}",
            "\u{0}",
            "\r",
            "é",
            "endpoints:",
            "split:",
            "health:",
            "srv+",
            "unix:",
            "50%",
            "5xx",
            "*.x",
            "a.x",
            "/p",
            "10/s",
            "10.0.0.0/8",
            "a:$2y$04$",
            "rate_limits:",
            "access:",
            "key: client_ip",
            "header:",
            "except:",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        through_everything(&text);
    }

    #[test]
    fn any_pieces_are_survived(pieces in proptest::collection::vec(piece(), 0..60)) {
        through_everything(&pieces.concat());
    }

    #[test]
    fn broken_examples_are_survived(
        example in 0..EXAMPLES.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..20usize, piece()), 1..5),
    ) {
        let mut chars: Vec<char> = EXAMPLES[example].chars().collect();
        for (at, cut, insert) in edits {
            let at = at.index(chars.len());
            let end = (at + cut).min(chars.len());
            chars.splice(at..end, insert.chars());
            if chars.is_empty() {
                chars.push('a');
            }
        }
        let text: String = chars.into_iter().collect();
        let printed = through_everything(&text);
        let lower = printed.to_lowercase();
        prop_assert!(!lower.contains("top-secret") && !lower.contains("top secret"), "{}", printed);
    }
}
