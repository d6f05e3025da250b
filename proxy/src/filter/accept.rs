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
        fields.each(|id, name, value| match id {
            FieldId::ContentType => {
                grpc |= is_grpc(value);
                json |= is_json(essence(value));
            }
            FieldId::Other if name.len() == 6 && name.eq_ignore_ascii_case(b"accept") => {
                members(value).for_each(|range| wishes.add(range));
            }
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
