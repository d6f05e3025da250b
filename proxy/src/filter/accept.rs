//! Which form of an error a client takes (RFC 9110 §12.5.1), in one pass over its fields.

use crate::http1::field::{FieldId, members};
use crate::request::grpc::is_grpc;
use crate::request::view::FieldSource;

/// The form of an answer that the edge gives by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorForm {
    #[default]
    Text,
    Html,
    /// `application/problem+json`.
    Problem,
    /// Trailers only (grpc.rs).
    Grpc,
}

impl ErrorForm {
    /// gRPC calls get their own form. Others get the one of JSON, HTML and text that they weight
    /// highest by name; the first of equals. Who takes anything gets JSON for JSON, else text, and
    /// so does who takes nothing of it: an error in another form is better than none (§12.4.1).
    pub fn of(fields: &impl FieldSource) -> ErrorForm {
        let mut wishes = Wishes::default();
        let (mut grpc, mut json) = (false, false);
        fields.each(|id, _, value| match id {
            FieldId::ContentType => {
                grpc |= is_grpc(value);
                json |= is_json(essence(value));
            }
            FieldId::Accept => members(value).for_each(|range| wishes.add(range)),
            _ => {}
        });
        if grpc { ErrorForm::Grpc } else { wishes.form(json) }
    }
}

/// What the Accept fields have said so far. Weights are in thousandths.
#[derive(Default)]
struct Wishes {
    best: Option<(u16, ErrorForm)>,
    anything: u16,
    no_json: bool,
}

impl Wishes {
    fn add(&mut self, range: &[u8]) {
        let (kind, weight) = (essence(range), weight(range));
        let form = match kind {
            b"*/*" => {
                self.anything = self.anything.max(weight);
                return;
            }
            kind if is_json(kind) || kind.eq_ignore_ascii_case(b"application/*") => {
                ErrorForm::Problem
            }
            kind if is_html(kind) => ErrorForm::Html,
            kind if kind.get(..5).is_some_and(|t| t.eq_ignore_ascii_case(b"text/")) => {
                match kind.get(5..) {
                    Some(sub) if sub == b"*" || sub.eq_ignore_ascii_case(b"plain") => {
                        ErrorForm::Text
                    }
                    _ => return,
                }
            }
            _ => return,
        };
        if weight == 0 {
            self.no_json |= form == ErrorForm::Problem;
        } else if self.best.is_none_or(|(best, _)| weight > best) {
            self.best = Some((weight, form));
        }
    }

    fn form(&self, json: bool) -> ErrorForm {
        let usual = if json && !self.no_json { ErrorForm::Problem } else { ErrorForm::Text };
        match self.best {
            Some((weight, form)) if weight >= self.anything => form,
            _ => usual,
        }
    }
}

/// The media type without parameters.
fn essence(value: &[u8]) -> &[u8] {
    value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii()
}

fn is_json(kind: &[u8]) -> bool {
    let suffix = kind.len().checked_sub(5).and_then(|at| kind.get(at..));
    kind.eq_ignore_ascii_case(b"application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
}

fn is_html(kind: &[u8]) -> bool {
    kind.eq_ignore_ascii_case(b"text/html") || kind.eq_ignore_ascii_case(b"application/xhtml+xml")
}

/// The `q` of a media range (§12.4.2); 1 where it is missing or not understood.
fn weight(range: &[u8]) -> u16 {
    let parameters = range.split(|b| *b == b';').skip(1).map(<[u8]>::trim_ascii);
    let mut values = parameters.filter_map(|p| p.strip_prefix(b"q=").or(p.strip_prefix(b"Q=")));
    values.next().and_then(thousandths).unwrap_or(1000)
}

/// `0.5` is 500; at most three decimals, at most 1.
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text {
        [whole] | [whole, b'.'] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let digit = |b: &u8| b.is_ascii_digit().then(|| u16::from(b - b'0'));
    let mut sum = digit(whole).filter(|whole| *whole <= 1)? * 1000;
    for (at, decimal) in decimals.iter().enumerate() {
        sum += digit(decimal)? * [100, 10, 1].get(at)?;
    }
    (sum <= 1000).then_some(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ErrorForm::{Grpc, Html, Problem, Text};
    use super::*;
    use crate::filter::testing::with_view;

    fn of(fields: &str) -> ErrorForm {
        with_view("POST", "/x", fields, |view| ErrorForm::of(&view.fields))
    }

    #[test]
    fn what_is_taken_decides() {
        let chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,\
            image/webp,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7";
        for (accept, form) in [
            (chrome, Html),
            // axios, openai, curl, an event stream, an image.
            ("application/json, text/plain, */*", Problem),
            ("application/json", Problem),
            ("*/*", Text),
            ("text/event-stream", Text),
            ("image/avif,image/webp,*/*;q=0.8", Text),
            ("", Text),
            ("text/*", Text),
            ("text/plain", Text),
            ("application/*", Problem),
            ("Application/Problem+JSON", Problem),
            ("application/vnd.api+json; charset=utf-8", Problem),
            ("text/html", Html),
            ("TEXT/HTML ; q=0.2", Html),
            ("text/html;q=0.9, application/json", Problem),
            ("text/html, application/json;q=0.9", Html),
            ("text/html, application/json", Html),
            ("application/json, text/html", Problem),
            ("application/json;q=0.5, text/plain;q=0.501", Text),
            ("application/json;q=0, text/html;q=0", Text),
            ("application/json;q=0.1, */*", Text),
            ("application/json, */*", Problem),
            ("text/html;q=0.001", Html),
            // Weights that are none count as 1.
            ("text/html;q=0.9, application/json;q=2", Problem),
            ("text/html;q=0.9, application/json;q=0.1234", Problem),
            ("text/html;q=0.9, application/json;q=", Problem),
            ("text/htmlx, application/jsonx, textual/html, +json/x", Text),
            (",;,/;q=,;q=0.", Text),
        ] {
            assert_eq!(of(&format!("Accept: {accept}\r\n")), form, "{accept}");
        }
        assert_eq!(of("Accept: text/html;q=0.5\r\nACCEPT: application/json\r\n"), Problem);
        assert_eq!(of("Accept-Language: text/html\r\nAccepts: text/html\r\n"), Text);
    }

    #[test]
    fn who_takes_anything_gets_what_they_sent() {
        let json = "Content-Type: application/json; charset=utf-8\r\n";
        for (accept, form) in [
            ("", Problem),
            ("Accept: */*\r\n", Problem),
            ("Accept: text/event-stream\r\n", Problem),
            ("Accept: text/html\r\n", Html),
            ("Accept: text/html;q=0.5, */*\r\n", Problem),
            ("Accept: application/json;q=0, */*\r\n", Text),
        ] {
            assert_eq!(of(&format!("{accept}{json}")), form, "{accept}");
        }
        assert_eq!(of("Content-Type: application/ld+json\r\n"), Problem);
        assert_eq!(of("Content-Type: text/json-ish\r\n"), Text);
        assert_eq!(of("Content-Type: application/grpc+json\r\nAccept: text/html\r\n"), Grpc);
        assert_eq!(of("Content-Type: application/grpc-web\r\n"), Text);
    }

    proptest! {
        #[test]
        fn weights_are_read_as_written(thousandth in 0u16..=1000, digits in 0usize..=3) {
            let text = format!("{:.*}", digits, f64::from(thousandth) / 1000.0);
            let expected = (text.parse::<f64>().unwrap() * 1000.0).round() as u16;
            prop_assert_eq!(thousandths(text.as_bytes()), Some(expected));
            prop_assert_eq!(weight(format!("a/b; x=y ;q={text}").as_bytes()), expected);
        }

        #[test]
        fn any_accept_has_a_form(accept in "[a-z/*;,=q0-9. +]{0,40}") {
            let form = of(&format!("Accept: {accept}\r\n"));
            prop_assert_ne!(form, Grpc);
        }
    }
}
