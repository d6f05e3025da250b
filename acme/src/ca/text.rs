//! Text that comes from the CA, made fit for a log line and a terminal.

/// Characters of a CA's explanation that are kept.
pub(super) const MAX_DETAIL: usize = 500;

/// Characters of a body that is not ACME (a proxy's error page) that are quoted.
const MAX_QUOTE: usize = 160;

/// At most `max` characters on one line. Control characters, and those that are invisible or
/// turn the direction of writing, could forge a log line or hide part of it: they are dropped.
pub(super) fn clean(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    let mut length = 0;
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() {
            gap = length > 0;
            continue;
        }
        if c.is_control() || is_invisible(c) {
            continue;
        }
        let needed = if gap { 2 } else { 1 };
        if length + needed > max {
            break;
        }
        if gap {
            out.push(' ');
        }
        out.push(c);
        length += needed;
        gap = false;
    }
    out
}

/// What a body says that is not a problem document: its words without HTML tags, quoted.
pub(super) fn quote(body: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(body.get(..4096).unwrap_or(body)).into_owned();
    let mut words = String::with_capacity(head.len());
    let mut in_tag = false;
    for c in head.chars() {
        match c {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                words.push(' ');
            }
            c if !in_tag => words.push(c),
            _ => {}
        }
    }
    let words = clean(&words, MAX_QUOTE);
    (!words.is_empty()).then(|| format!("{words:?}"))
}

fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forged_lines_and_escapes_do_not_survive() {
        let text = "no\r\nlevel=error \u{1b}[31mred\u{7} \u{202e}txet\u{2066} end\u{0}  ";
        assert_eq!(clean(text, 500), "no level=error [31mred txet end");
    }

    #[test]
    fn the_cut_counts_characters() {
        assert_eq!(clean(&"é".repeat(600), MAX_DETAIL).chars().count(), MAX_DETAIL);
        assert_eq!(clean("ab cd", 3), "ab");
        assert_eq!(clean("ab cd", 4), "ab c");
    }

    #[test]
    fn an_error_page_is_quoted_without_its_tags() {
        let page = b"<html><head><title>502 Bad Gateway</title></head>\r\n<body>nginx</body>";
        assert_eq!(quote(page).as_deref(), Some("\"502 Bad Gateway nginx\""));
        assert_eq!(quote(b" <br/> \n"), None);
    }

    proptest! {
        #[test]
        fn always_one_line_within_the_limit(text in "\\PC*|.*", max in 0_usize..40) {
            let cleaned = clean(&text, max);
            prop_assert!(cleaned.chars().count() <= max);
            prop_assert!(!cleaned.chars().any(|c| c.is_control() || is_invisible(c)));
            prop_assert_eq!(clean(&cleaned, max), cleaned.clone());
        }

        #[test]
        fn any_body_can_be_quoted(body in proptest::collection::vec(any::<u8>(), 0..5000)) {
            prop_assert!(quote(&body).is_none_or(|q| !q.contains('\n')));
        }
    }
}
