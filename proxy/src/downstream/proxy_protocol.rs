//! PROXY protocol v1 and v2 at the start of a connection: whose bytes a load balancer passes on
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>). The parser is pure; the reader
//! takes the header off the socket and not a byte more, because TLS or HTTP comes next.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::local::Local;

/// The longest line of version 1, with its CRLF (§2.1).
pub const MAX_V1: usize = 107;
/// The longest header of version 2 that is read: 16 bytes, and 2 KiB of addresses and extensions.
pub const MAX_V2: usize = 16 + 2048;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// `PP2_TYPE_CRC32C`.
const CRC32C: u8 = 0x03;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where the connection comes from. `None`: the peer speaks for itself (`LOCAL`, `UNKNOWN`) or
    /// for something without an IP address.
    pub source: Option<SocketAddr>,
    /// Its bytes; what follows belongs to the connection.
    pub len: usize,
}

/// Not a PROXY header, or one that breaks its rules. More bytes do not mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Why a connection has no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Malformed,
    Timeout,
    /// The peer has left without a word, as checks of a port do.
    Gone,
}

impl Refused {
    /// The reason in `edge_connections_rejected_total`, where it counts as one.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Refused::Malformed => Some("proxy_protocol_malformed"),
            Refused::Timeout => Some("proxy_protocol_timeout"),
            Refused::Gone => None,
        }
    }
}

/// Takes the header off the connection within `limit`.
pub async fn read(
    local: &Local,
    io: &TcpStream,
    limit: Duration,
) -> Result<Option<SocketAddr>, Refused> {
    let timer = local.timers.timer();
    timer.set(limit);
    let mut held = Vec::new();
    poll_fn(|cx| match poll_header(cx, local, io, &mut held) {
        Poll::Pending if timer.check(cx).is_some() => Poll::Ready(Err(Refused::Timeout)),
        outcome => outcome,
    })
    .await
}

/// Looks before it takes: a header that is not whole is taken as far as it is here, of a whole one
/// nothing but itself. `held`: what was taken before.
fn poll_header(
    cx: &mut Context<'_>,
    local: &Local,
    io: &TcpStream,
    held: &mut Vec<u8>,
) -> Poll<Result<Option<SocketAddr>, Refused>> {
    local.buffers.with_scratch(|scratch| {
        loop {
            let before = held.len();
            scratch[..before].copy_from_slice(held);
            let mut room = ReadBuf::new(&mut scratch[before..MAX_V2]);
            let fresh = match ready!(io.poll_peek(cx, &mut room)) {
                Ok(0) if before > 0 => return Poll::Ready(Err(Refused::Malformed)),
                Ok(0) | Err(_) => return Poll::Ready(Err(Refused::Gone)),
                Ok(fresh) => fresh,
            };
            let parsed = match parse(&scratch[..before + fresh]) {
                Ok(parsed) => parsed,
                Err(Malformed) => return Poll::Ready(Err(Refused::Malformed)),
            };
            let end = parsed.map_or(before + fresh, |header| header.len);
            if !take(io, &mut scratch[before..end]) {
                return Poll::Ready(Err(Refused::Gone));
            }
            match parsed {
                Some(header) => return Poll::Ready(Ok(header.source)),
                None => held.extend_from_slice(&scratch[before..end]),
            }
        }
    })
}

/// Reads exactly what was seen to be there.
fn take(io: &TcpStream, mut room: &mut [u8]) -> bool {
    while !room.is_empty() {
        match io.try_read(room) {
            Ok(n) if n > 0 => room = &mut room[n..],
            _ => return false,
        }
    }
    true
}

/// The header at the start of `bytes`. `None`: it is not whole yet, and `bytes` are all its own.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => v1(bytes),
        Some(_) => v2(bytes),
    }
}

/// Whether `bytes` have all of `start`; an error where they begin otherwise.
fn begins(bytes: &[u8], start: &[u8]) -> Result<bool, Malformed> {
    let len = bytes.len().min(start.len());
    if bytes[..len] != start[..len] {
        return Err(Malformed);
    }
    Ok(len == start.len())
}

fn v1(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    const START: &[u8] = b"PROXY ";
    if !begins(bytes, START)? {
        return Ok(None);
    }
    let bytes = &bytes[..bytes.len().min(MAX_V1)];
    let more = bytes.len() < MAX_V1;
    let end = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
    match &bytes[end..] {
        [b'\r', b'\n', ..] => {
            Ok(Some(Header { source: v1_source(&bytes[START.len()..end])?, len: end + 2 }))
        }
        [] | [b'\r'] if more => Ok(None),
        _ => Err(Malformed),
    }
}

/// `TCP4 SOURCE DESTINATION PORT PORT`, or `UNKNOWN` and whatever follows it.
fn v1_source(line: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(None);
    }
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let mut parts = line.split(' ');
    let mut next = || parts.next().ok_or(Malformed);
    let (family, source, destination) = (next()?, next()?, next()?);
    let (port, _) = (v1_port(next()?)?, v1_port(next()?)?);
    let (source, _) = match family {
        "TCP4" => (v1_address::<Ipv4Addr>(source)?, v1_address::<Ipv4Addr>(destination)?),
        "TCP6" => (v1_address::<Ipv6Addr>(source)?, v1_address::<Ipv6Addr>(destination)?),
        _ => return Err(Malformed),
    };
    match parts.next() {
        None => Ok(Some(SocketAddr::new(source, port))),
        Some(_) => Err(Malformed),
    }
}

fn v1_address<A: std::str::FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, Malformed> {
    text.parse::<A>().map(Into::into).map_err(|_| Malformed)
}

/// Decimal, without leading zeros.
fn v1_port(text: &str) -> Result<u16, Malformed> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Malformed)
}

fn v2(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    if !begins(bytes, SIGNATURE)? {
        return Ok(None);
    }
    let Some(&[command, family, high, low]) = bytes.get(12..16) else { return Ok(None) };
    let len = 16 + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_V2 {
        return Err(Malformed);
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    let source = match command {
        // The sender's own connection: whatever the block holds is skipped.
        0x20 => None,
        0x21 => v2_source(family, header)?,
        _ => return Err(Malformed),
    };
    Ok(Some(Header { source, len }))
}

fn v2_source(family: u8, header: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    // Stream and datagram alike (a load balancer may have terminated QUIC); 0: unspecified.
    let transport = family & 0x0f;
    if transport > 2 {
        return Err(Malformed);
    }
    let (source, end) = match family >> 4 {
        // Unspecified: there is nothing to find in the block.
        0 => return Ok(None),
        1 => {
            let [a, b, c, d] = *array(header, 16)?;
            let [high, low] = *array(header, 24)?;
            let source = (IpAddr::from([a, b, c, d]), u16::from_be_bytes([high, low]));
            (Some(source), 16 + 12)
        }
        2 => {
            let address: [u8; 16] = *array(header, 16)?;
            let source = (IpAddr::from(address), u16::from_be_bytes(*array(header, 48)?));
            (Some(source), 16 + 36)
        }
        // Unix sockets: two paths of 108 bytes.
        3 => (None, 16 + 216),
        _ => return Err(Malformed),
    };
    check_extensions(header, end)?;
    Ok(source.filter(|_| transport != 0).map(SocketAddr::from))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<&[u8; N], Malformed> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Malformed)
}

/// Extensions are skipped, but they must fill the header exactly, and a checksum must be right
/// (§2.2.3: "the receiver MUST check").
fn check_extensions(header: &[u8], mut at: usize) -> Result<(), Malformed> {
    let mut summed = false;
    if at > header.len() {
        return Err(Malformed);
    }
    while at < header.len() {
        let [kind, high, low] = *array(header, at)?;
        let value = at + 3;
        at = value + usize::from(u16::from_be_bytes([high, low]));
        if at > header.len() {
            return Err(Malformed);
        }
        if kind == CRC32C {
            let sum = *array(header, value)?;
            let right = at == value + 4 && u32::from_be_bytes(sum) == checksum(header, value);
            if !right || std::mem::replace(&mut summed, true) {
                return Err(Malformed);
            }
        }
    }
    Ok(())
}

/// CRC-32C (RFC 3720 §12.1) of the header, with the four bytes `at` taken for zero.
fn checksum(header: &[u8], at: usize) -> u32 {
    let byte = |(place, byte): (usize, &u8)| match (at..at + 4).contains(&place) {
        true => 0,
        false => *byte,
    };
    !header.iter().enumerate().map(byte).fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests;
