//! WebSocket (RFC 6455) as a browser speaks it, and the echo that answers. Written beside the codec
//! of `openclaw-edge demo` and that of the proxy's tests on purpose: this package links nothing of
//! the proxy that it measures, and a codec that judges another must not share its mistakes.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::pattern::Random;
use crate::wire::Head;

/// An open connection, client side.
pub struct Client<S> {
    stream: BufReader<S>,
    random: Random,
}

impl<S: Read + Write> Client<S> {
    /// Opens it with the fields that a browser sends, and checks the answer (§4.1).
    pub fn open(stream: S, host: &str, path: &str, seed: u64) -> benches::Result<Self> {
        let mut random = Random::new(seed);
        let nonce = [random.next().to_le_bytes(), random.next().to_le_bytes()].concat();
        let key = STANDARD.encode(nonce);
        let mut stream = BufReader::new(stream);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: https://{host}\r\n\
             Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        );
        stream.get_mut().write_all(request.as_bytes())?;
        stream.get_mut().flush()?;
        let head = Head::read(&mut stream)?.ok_or("closed before the answer to the upgrade")?;
        let upgraded = head.field("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket"));
        let accepted = head.field("sec-websocket-accept") == Some(&accept_key(&key));
        if head.status() != 101 || !upgraded || !accepted {
            return Err(format!("the upgrade was answered by: {}", head.text()).into());
        }
        Ok(Self { stream, random })
    }

    /// Sends one text message and waits for it to come back.
    pub fn echo(&mut self, message: &str) -> benches::Result<()> {
        self.send(true, TEXT, message.as_bytes())?;
        self.expect(TEXT, message.as_bytes())
    }

    /// A binary message in three fragments, with a ping between them as §5.4 allows.
    pub fn echo_fragments(&mut self, message: &[u8]) -> benches::Result<()> {
        let third = message.len() / 3;
        let (first, rest) = message.split_at(third);
        let (second, last) = rest.split_at(third);
        self.send(false, BINARY, first)?;
        self.send(true, PING, b"between")?;
        self.send(false, CONTINUATION, second)?;
        self.send(true, CONTINUATION, last)?;
        let (mut back, mut ponged) = (Vec::new(), false);
        loop {
            let frame = Frame::read(&mut self.stream)?.ok_or("closed within a message")?;
            match frame.opcode {
                PONG => ponged = frame.payload == b"between",
                BINARY | CONTINUATION => back.extend_from_slice(&frame.payload),
                other => return Err(format!("a frame with opcode {other}").into()),
            }
            if frame.last && frame.opcode != PONG {
                break;
            }
        }
        if back != message || !ponged {
            return Err(format!("{} bytes came back; pong: {ponged}", back.len()).into());
        }
        Ok(())
    }

    /// The closing handshake (§7.1): status 1000 both ways, then the end of the stream.
    pub fn close(mut self) -> benches::Result<()> {
        let status = 1000_u16.to_be_bytes();
        self.send(true, CLOSE, &status)?;
        self.expect(CLOSE, &status)?;
        match Frame::read(&mut self.stream)? {
            None => Ok(()),
            Some(frame) => Err(format!("opcode {} after the close", frame.opcode).into()),
        }
    }

    fn expect(&mut self, opcode: u8, payload: &[u8]) -> benches::Result<()> {
        let frame = Frame::read(&mut self.stream)?.ok_or("closed")?;
        if frame.masked || frame.opcode != opcode || frame.payload != payload {
            let Frame { opcode, masked, payload, .. } = frame;
            let text = String::from_utf8_lossy(payload.get(..40).unwrap_or(&payload)).into_owned();
            return Err(format!("opcode {opcode}, masked {masked}: {text}").into());
        }
        Ok(())
    }

    fn send(&mut self, last: bool, opcode: u8, payload: &[u8]) -> Result<()> {
        let mask = self.random.next().to_le_bytes();
        let mask = mask.first_chunk::<4>().copied();
        let frame = Frame { last, opcode, masked: true, payload: payload.to_vec() };
        self.stream.get_mut().write_all(&frame.bytes(mask))?;
        self.stream.get_mut().flush()
    }
}

/// Sends every frame back, until a close or the end of the stream.
pub fn serve<S: Read + Write>(stream: &mut BufReader<S>, head: &Head) -> Result<()> {
    let key = head.field("sec-websocket-key").ok_or(ErrorKind::InvalidData)?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept_key(key)
    );
    stream.get_mut().write_all(answer.as_bytes())?;
    while let Some(mut frame) = Frame::read(stream)? {
        if !frame.masked {
            return Err(Error::new(ErrorKind::InvalidData, "a client frame without a mask"));
        }
        let close = frame.opcode == CLOSE;
        frame.opcode = if frame.opcode == PING { PONG } else { frame.opcode };
        stream.get_mut().write_all(&frame.bytes(None))?;
        if close {
            break;
        }
    }
    Ok(())
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const LARGEST: u64 = 16 << 20;

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    last: bool,
    opcode: u8,
    masked: bool,
    payload: Vec<u8>,
}

impl Frame {
    /// `None`: the stream ended between frames.
    fn read(stream: &mut impl BufRead) -> Result<Option<Self>> {
        let Some(&first) = stream.fill_buf()?.first() else { return Ok(None) };
        stream.consume(1);
        let second = u8::from_be_bytes(take(stream)?);
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes(take(stream)?)),
            127 => u64::from_be_bytes(take(stream)?),
            short => u64::from(short),
        };
        if length > LARGEST {
            return Err(ErrorKind::InvalidData.into());
        }
        let masked = second & 0x80 != 0;
        let mask = if masked { take(stream)? } else { [0; 4] };
        let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
        stream.read_exact(&mut payload)?;
        apply(mask, &mut payload);
        Ok(Some(Self { last: first & 0x80 != 0, opcode: first & 0x0f, masked, payload }))
    }

    #[allow(clippy::cast_possible_truncation)]
    fn bytes(&self, mask: Option<[u8; 4]>) -> Vec<u8> {
        let bit = if mask.is_some() { 0x80 } else { 0 };
        let mut out = vec![u8::from(self.last) << 7 | self.opcode];
        match self.payload.len() {
            short @ 0..126 => out.push(bit | short as u8),
            middle @ 126..0x1_0000 => {
                out.push(bit | 126);
                out.extend((middle as u16).to_be_bytes());
            }
            long => {
                out.push(bit | 127);
                out.extend((long as u64).to_be_bytes());
            }
        }
        out.extend(mask.into_iter().flatten());
        let start = out.len();
        out.extend_from_slice(&self.payload);
        apply(mask.unwrap_or_default(), out.get_mut(start..).unwrap_or_default());
        out
    }
}

fn take<const N: usize>(stream: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn apply(mask: [u8; 4], payload: &mut [u8]) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// §4.2.2.
fn accept_key(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_frames_of_the_rfc() {
        let hello = |masked| Frame { last: true, opcode: TEXT, masked, payload: b"Hello".to_vec() };
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(hello(true).bytes(Some([0x37, 0xfa, 0x21, 0x3d])), masked);
        assert_eq!(Frame::read(&mut masked.as_slice()).unwrap(), Some(hello(true)));
        assert_eq!(hello(false).bytes(None), *b"\x81\x05Hello");
    }

    #[test]
    fn every_form_of_length_comes_back() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![7; length];
            let frame = Frame { last: false, opcode: BINARY, masked: false, payload };
            let bytes = frame.bytes(None);
            assert_eq!(Frame::read(&mut bytes.as_slice()).unwrap(), Some(frame), "{length}");
        }
        assert!(Frame::read(&mut b"\x81\x05Hel".as_slice()).is_err());
    }
}
