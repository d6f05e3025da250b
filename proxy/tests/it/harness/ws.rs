//! RFC 6455, both ends: what a browser and a backend would do, without extensions. A codec of its
//! own: the demo's is sans-io, server side and private, and nothing that it gets wrong may pass
//! here.

use base64::Engine as _;

use super::client::{Client, Response};
use super::wire::{End, Head, Wire};

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The example key of RFC 6455 §1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// `Sec-WebSocket-Accept` for a key.
pub fn accept_key(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let digest = aws_lc_rs::digest::digest(sha1, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// The client's opening handshake; `extra` are further field lines.
pub fn opening(host: &str, path: &str, extra: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{extra}\r\n"
    )
}

/// The backend's answer to an opening.
pub fn accepting(head: &Head, extra: &str) -> String {
    let key = accept_key(head.get("sec-websocket-key").unwrap_or_default());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {key}\r\n{extra}\r\n"
    )
}

/// Opens a WebSocket as a browser does and checks the answer as a browser does.
pub fn open(client: &mut Client, host: &str, path: &str) -> Response {
    client.send(opening(host, path, ""));
    let response = client.response();
    assert_eq!(response.status, 101, "{response:?}");
    assert_eq!(response.header("sec-websocket-accept"), Some(accept_key(KEY).as_str()));
    let is = |name, value| response.header(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
    assert!(is("upgrade", "websocket") && is("connection", "upgrade"), "{response:?}");
    response
}

/// A frame's bytes. Clients mask, servers do not.
pub fn encode(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    let mask_bit = if masked { 0x80 } else { 0 };
    match payload.len() {
        n @ 0..126 => out.push(mask_bit | u8::try_from(n).unwrap()),
        n @ 126..65536 => {
            out.push(mask_bit | 126);
            out.extend(u16::try_from(n).unwrap().to_be_bytes());
        }
        n => {
            out.push(mask_bit | 127);
            out.extend((n as u64).to_be_bytes());
        }
    }
    if masked {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    } else {
        out.extend(payload);
    }
    out
}

/// The next frame; `masked` says what the sender owes.
pub fn receive(wire: &mut Wire, masked: bool) -> Result<Frame, End> {
    let start = wire.exact(2)?;
    assert_eq!(start[0] & 0xf0, 0x80, "fragmented or reserved bits");
    assert_eq!(start[1] & 0x80 != 0, masked, "masking");
    let n = match start[1] & 0x7f {
        126 => u64::from(u16::from_be_bytes(wire.exact(2)?.try_into().unwrap())),
        127 => u64::from_be_bytes(wire.exact(8)?.try_into().unwrap()),
        n => u64::from(n),
    };
    let mask = if masked { wire.exact(4)? } else { vec![0; 4] };
    let bytes = wire.exact(usize::try_from(n).unwrap())?;
    let payload = bytes.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
    Ok(Frame { opcode: start[0] & 0x0f, payload })
}

/// Serves a backend connection as a WebSocket: echoes data, answers pings, mirrors the close.
pub fn serve_echo(peer: &mut super::Peer) {
    let Some(head) = peer.head() else { return };
    let accept = accepting(&head, "");
    peer.send(accept);
    loop {
        match receive(&mut peer.wire, true) {
            Ok(Frame { opcode: PING, payload }) => peer.send(encode(PONG, &payload, false)),
            Ok(Frame { opcode: CLOSE, payload }) => {
                peer.send(encode(CLOSE, &payload, false));
                return peer.wait_end();
            }
            Ok(frame) => peer.send(encode(frame.opcode, &frame.payload, false)),
            Err(end) => {
                *peer.seen.end.lock().unwrap() = Some(end);
                return;
            }
        }
    }
}

impl Client {
    pub fn ws_send(&mut self, opcode: u8, payload: &[u8]) {
        self.send(encode(opcode, payload, true));
    }

    pub fn ws_receive(&mut self) -> Frame {
        receive(&mut self.wire, false).unwrap_or_else(|end| panic!("no frame: {end:?}"))
    }

    /// A text message that must come back.
    pub fn ws_echo(&mut self, text: &str) {
        self.ws_send(TEXT, text.as_bytes());
        assert_eq!(self.ws_receive(), Frame { opcode: TEXT, payload: text.as_bytes().to_vec() });
    }
}
