//! WebSocket echo (RFC 6455), server side, no extensions.
//!
//! [`Echo`] is sans-io: bytes in, bytes out.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`; `None` for one that is not 16 bytes in
/// base64 (§4.2.1).
pub(super) fn accept_key(key: &str) -> Option<String> {
    let nonce = STANDARD.decode(key).ok()?;
    if nonce.len() != 16 {
        return None;
    }
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID);
    Some(STANDARD.encode(context.finish()))
}

/// Sends every message back until either side ends.
pub(super) async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut echo = Echo::default();
    let mut input = BytesMut::with_capacity(4096);
    let mut output = Vec::new();
    while !echo.ended {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        echo.advance(&mut input, &mut output);
        stream.write_all(&output).await?;
        output.clear();
    }
    stream.shutdown().await
}

/// One connection's state between reads.
#[derive(Debug, Default)]
struct Echo {
    /// The message so far, with the opcode of its first frame.
    message: Option<(u8, Vec<u8>)>,
    ended: bool,
}

/// A client's frame, unmasked.
struct Frame {
    last: bool,
    opcode: u8,
    payload: Vec<u8>,
}

impl Echo {
    /// Takes whole frames off `input` and writes the answers.
    fn advance(&mut self, input: &mut BytesMut, output: &mut Vec<u8>) {
        while !self.ended {
            let answered = match read_frame(input) {
                Ok(Some(frame)) => self.answer(frame, output),
                Ok(None) => return,
                Err(code) => Err(code),
            };
            if let Err(code) = answered {
                self.ended = true;
                write_frame(output, CLOSE, &code.to_be_bytes());
            }
        }
    }

    /// The error is a close code (§7.4.1).
    fn answer(&mut self, frame: Frame, output: &mut Vec<u8>) -> Result<(), u16> {
        let Frame { last, opcode, payload } = frame;
        match opcode {
            PING => write_frame(output, PONG, &payload),
            PONG => {}
            CLOSE if payload.len() == 1 => return Err(PROTOCOL_ERROR),
            CLOSE => {
                self.ended = true;
                write_frame(output, CLOSE, payload.get(..2).unwrap_or_default());
            }
            _ => {
                let (kind, message) = match (opcode, self.message.take()) {
                    (CONTINUATION, Some((kind, mut message))) => {
                        message.extend_from_slice(&payload);
                        (kind, message)
                    }
                    (TEXT | BINARY, None) => (opcode, payload),
                    _ => return Err(PROTOCOL_ERROR),
                };
                if message.len() > MAX_MESSAGE {
                    return Err(TOO_BIG);
                }
                if !last {
                    self.message = Some((kind, message));
                } else if kind == TEXT && std::str::from_utf8(&message).is_err() {
                    return Err(NOT_UTF8);
                } else {
                    write_frame(output, kind, &message);
                }
            }
        }
        Ok(())
    }
}

/// The next whole frame of `input` (§5.2), or the close code that it earns.
fn read_frame(input: &mut BytesMut) -> Result<Option<Frame>, u16> {
    let &[first, second, ..] = input.as_ref() else { return Ok(None) };
    let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
    let is_control = opcode >= CLOSE;
    let known = matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG);
    let short = usize::from(second & 0x7f);
    // Reserved bits are set; or a client's frame is not masked (§5.1); or a control frame is in
    // pieces or longer than 125 bytes (§5.5).
    if first & 0x70 != 0 || !known || second & 0x80 == 0 || is_control && (!last || short > 125) {
        return Err(PROTOCOL_ERROR);
    }
    let (start, length) = match short {
        126 => match input.get(2..4).and_then(|b| <[u8; 2]>::try_from(b).ok()) {
            Some(bytes) => (4, u64::from(u16::from_be_bytes(bytes))),
            None => return Ok(None),
        },
        127 => match input.get(2..10).and_then(|b| <[u8; 8]>::try_from(b).ok()) {
            Some(bytes) => (10, u64::from_be_bytes(bytes)),
            None => return Ok(None),
        },
        short => (2, short as u64),
    };
    let length = usize::try_from(length).ok().filter(|&n| n <= MAX_MESSAGE).ok_or(TOO_BIG)?;
    let Some(body) = input.get(start..start + 4 + length) else { return Ok(None) };
    let (mask, masked) = body.split_at(4);
    let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    input.advance(start + 4 + length);
    Ok(Some(Frame { last, opcode, payload }))
}

/// One unmasked frame (§5.1: servers do not mask).
fn write_frame(output: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    output.push(0x80 | opcode);
    match payload.len() {
        short @ 0..126 => output.push(short as u8),
        middle @ 126..=0xffff => {
            output.push(126);
            output.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            output.push(127);
            output.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    output.extend_from_slice(payload);
}

/// Bytes of a message, and so of a frame.
const MAX_MESSAGE: usize = 64 * 1024;
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

const PROTOCOL_ERROR: u16 = 1002;
const NOT_UTF8: u16 = 1007;
const TOO_BIG: u16 = 1009;

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, first & 0x0f, payload);
        bytes[0] = first;
        bytes[1] |= 0x80;
        let mask = [1, 2, 3, 4];
        let at = bytes.len() - payload.len();
        bytes.splice(at..at, mask);
        for (i, byte) in bytes[at + 4..].iter_mut().enumerate() {
            *byte ^= mask[i % 4];
        }
        bytes
    }

    /// What comes back for these bytes, fed in pieces of `step`.
    fn answers(bytes: &[u8], step: usize) -> (Vec<u8>, bool) {
        let (mut echo, mut input, mut output) = (Echo::default(), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(step) {
            input.extend_from_slice(piece);
            echo.advance(&mut input, &mut output);
        }
        (output, echo.ended)
    }

    #[test]
    fn the_key_of_the_rfc() {
        let accept = accept_key("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(accept_key("c2hvcnQ="), None);
        assert_eq!(accept_key("not base64!"), None);
    }

    #[test]
    fn messages_of_every_length_class_come_back() {
        for length in [0, 1, 125, 126, 65_535, MAX_MESSAGE] {
            let payload = vec![b'x'; length];
            let mut expected = Vec::new();
            write_frame(&mut expected, TEXT, &payload);
            assert_eq!(answers(&frame(0x81, &payload), 4096), (expected, false), "{length}");
        }
        let (output, ended) = answers(&frame(0x82, &vec![0; MAX_MESSAGE + 1]), 4096);
        assert_eq!((output, ended), (vec![0x88, 2, 0x03, 0xf1], true));
    }

    #[test]
    fn fragments_are_joined_and_pings_pass_between_them() {
        let bytes = [frame(0x01, b"Hel"), frame(0x89, b"?"), frame(0x80, b"lo")].concat();
        let expected = [&[0x8a, 1, b'?', 0x81, 5][..], b"Hello"].concat();
        for step in [1, 3, bytes.len()] {
            assert_eq!(answers(&bytes, step), (expected.clone(), false));
        }
    }

    #[test]
    fn a_close_is_answered_with_its_code() {
        assert_eq!(answers(&frame(0x88, &[3, 0xe8, b'x']), 99), (vec![0x88, 2, 3, 0xe8], true));
        assert_eq!(answers(&frame(0x88, &[]), 99), (vec![0x88, 0], true));
    }

    #[test]
    fn what_breaks_the_rules_is_closed_with_the_right_code() {
        let mut unmasked = Vec::new();
        write_frame(&mut unmasked, TEXT, b"hi");
        for (what, bytes, code) in [
            ("unmasked", unmasked, PROTOCOL_ERROR),
            ("reserved bit", frame(0xc1, b"hi"), PROTOCOL_ERROR),
            ("unknown opcode", frame(0x83, b"hi"), PROTOCOL_ERROR),
            ("ping in pieces", frame(0x09, b"hi"), PROTOCOL_ERROR),
            ("long ping", frame(0x89, &[0; 126]), PROTOCOL_ERROR),
            ("close of one byte", frame(0x88, &[3]), PROTOCOL_ERROR),
            ("continuation of nothing", frame(0x80, b"hi"), PROTOCOL_ERROR),
            (
                "two messages at once",
                [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
                PROTOCOL_ERROR,
            ),
            ("not UTF-8", frame(0x81, &[0xff]), NOT_UTF8),
            (
                "too much in pieces",
                [frame(0x02, &vec![0; MAX_MESSAGE]), frame(0x80, &[0])].concat(),
                TOO_BIG,
            ),
            (
                "absurd length",
                vec![0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                TOO_BIG,
            ),
        ] {
            let code = code.to_be_bytes();
            assert_eq!(answers(&bytes, 4096), (vec![0x88, 2, code[0], code[1]], true), "{what}");
        }
    }
}
