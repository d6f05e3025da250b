//! Bodies in flight: decodes what one side frames and encodes what the other side gets.

use super::chunked::{self, ChunkError, Step};
use super::framing::BodyLength;

/// The receiving half of a body: knows where it ends.
#[derive(Debug)]
pub enum BodyDecoder {
    /// Bytes still to come.
    Sized(u64),
    Chunked(Box<chunked::Decoder>),
    UntilClose,
    Done,
}

/// The sending half of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEncoder {
    /// Bytes as they are: the length was announced, or the end of the connection ends it.
    Plain,
    Chunked,
}

impl BodyDecoder {
    pub fn new(length: BodyLength) -> BodyDecoder {
        match length {
            BodyLength::Sized(0) => BodyDecoder::Done,
            BodyLength::Sized(n) => BodyDecoder::Sized(n),
            BodyLength::Chunked => BodyDecoder::Chunked(Box::default()),
            BodyLength::UntilClose => BodyDecoder::UntilClose,
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self, BodyDecoder::Done)
    }
}

/// What a transfer did with its input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Input bytes used; the rest belongs to the next message.
    pub consumed: usize,
    /// Body bytes among them.
    pub data: u64,
}

/// Decodes `input` and appends the encoded bytes to `out`, up to the end of the body. When the
/// body ends, its end marker (last chunk and trailers) is appended too.
pub fn transfer(
    decoder: &mut BodyDecoder,
    encoder: BodyEncoder,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<Taken, ChunkError> {
    let mut taken = Taken::default();
    while taken.consumed < input.len() && !decoder.is_done() {
        let rest = &input[taken.consumed..];
        let (used, data) = match decoder {
            BodyDecoder::Done => break,
            BodyDecoder::UntilClose => (rest.len(), rest.len()),
            BodyDecoder::Sized(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= n as u64;
                (n, n)
            }
            BodyDecoder::Chunked(chunks) => match chunks.step(rest)? {
                Step::Skip(n) => (n, 0),
                Step::Data(n) => (n, n),
                Step::Done => (0, 0),
            },
        };
        append(encoder, &rest[..data], out);
        taken.consumed += used;
        taken.data += data as u64;
        end_if_done(decoder, encoder, out);
    }
    Ok(taken)
}

/// The connection ended: completes a body that ends so. `false`: the body is cut short.
pub fn finish_at_close(
    decoder: &mut BodyDecoder,
    encoder: BodyEncoder,
    out: &mut Vec<u8>,
) -> bool {
    if matches!(decoder, BodyDecoder::UntilClose) {
        *decoder = BodyDecoder::Done;
        if encoder == BodyEncoder::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
    decoder.is_done()
}

fn append(encoder: BodyEncoder, data: &[u8], out: &mut Vec<u8>) {
    match encoder {
        BodyEncoder::Plain => out.extend_from_slice(data),
        BodyEncoder::Chunked => chunked::encode(out, data),
    }
}

fn end_if_done(decoder: &mut BodyDecoder, encoder: BodyEncoder, out: &mut Vec<u8>) {
    match decoder {
        BodyDecoder::Sized(0) => {
            if encoder == BodyEncoder::Chunked {
                out.extend_from_slice(b"0\r\n\r\n");
            }
        }
        BodyDecoder::Chunked(chunks) if chunks.is_done() => {
            if encoder == BodyEncoder::Chunked {
                out.extend_from_slice(b"0\r\n");
                chunks.passable_trailers(|name, value| {
                    out.extend_from_slice(name.as_bytes());
                    out.extend_from_slice(b": ");
                    out.extend_from_slice(value);
                    out.extend_from_slice(b"\r\n");
                });
                out.extend_from_slice(b"\r\n");
            }
        }
        _ => return,
    }
    *decoder = BodyDecoder::Done;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(length: BodyLength, encoder: BodyEncoder, input: &[u8], step: usize) -> (Vec<u8>, bool) {
        let (mut decoder, mut out) = (BodyDecoder::new(length), Vec::new());
        for piece in input.chunks(step) {
            transfer(&mut decoder, encoder, piece, &mut out).unwrap();
        }
        (out, decoder.is_done())
    }

    #[test]
    fn sized_passes_and_stops() {
        for step in [1, 3, 100] {
            let (out, done) = run(BodyLength::Sized(5), BodyEncoder::Plain, b"abcdeGET", step);
            assert_eq!((out.as_slice(), done), (b"abcde".as_slice(), true));
        }
    }

    #[test]
    fn chunked_is_written_again_with_its_passable_trailers() {
        let input = b"3;x=1\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n";
        let (out, done) = run(BodyLength::Chunked, BodyEncoder::Chunked, input, 1000);
        assert!(done);
        assert_eq!(out, b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n");
        let (plain, _) = run(BodyLength::Chunked, BodyEncoder::Plain, input, 2);
        assert_eq!(plain, b"abc");
    }

    #[test]
    fn only_a_body_until_close_ends_with_the_connection() {
        let mut out = Vec::new();
        let mut until = BodyDecoder::new(BodyLength::UntilClose);
        assert!(finish_at_close(&mut until, BodyEncoder::Chunked, &mut out));
        assert_eq!(out, b"0\r\n\r\n");
        for length in [BodyLength::Sized(1), BodyLength::Chunked] {
            let mut cut = BodyDecoder::new(length);
            assert!(!finish_at_close(&mut cut, BodyEncoder::Plain, &mut out));
        }
    }
}
