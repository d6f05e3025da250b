//! Chunked bodies: the same whatever the pieces, and the same again after re-encoding.
//!
//! The first byte of an input is the size of the pieces.

use proxy::http1::body::{BodyDecoder, BodyEncoder, transfer};
use proxy::http1::framing::BodyLength;

pub fn check(bytes: &[u8]) {
    let Some((step, body)) = bytes.split_first() else { return };
    let whole = decode(body, body.len().max(1), BodyEncoder::Plain);
    let pieces = decode(body, usize::from(*step).max(1), BodyEncoder::Plain);
    assert_eq!(whole, pieces);
    let Some(Outcome { data, consumed, done: true }) = whole else { return };

    let encoded = decode(body, usize::from(*step).max(1), BodyEncoder::Chunked).map(|o| o.data);
    let encoded = encoded.unwrap_or_else(|| panic!("decodes as plain only"));
    let again = decode(&encoded, encoded.len(), BodyEncoder::Plain);
    assert_eq!(again, Some(Outcome { data, consumed: encoded.len(), done: true }));
    // What follows the body is the next message, and stays.
    assert!(consumed <= body.len());
}

#[derive(Debug, PartialEq)]
struct Outcome {
    data: Vec<u8>,
    consumed: usize,
    done: bool,
}

/// `None`: refused.
fn decode(body: &[u8], step: usize, encoder: BodyEncoder) -> Option<Outcome> {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked);
    let (mut data, mut consumed) = (Vec::new(), 0);
    for piece in body.chunks(step) {
        let taken = transfer(&mut decoder, encoder, piece, &mut data).ok()?;
        consumed += taken.consumed;
        if decoder.is_done() {
            break;
        }
        assert_eq!(taken.consumed, piece.len(), "a body that goes on takes all");
    }
    Some(Outcome { data, consumed, done: decoder.is_done() })
}
