//! A name server (RFC 1035) for A records of a few names, whose addresses change while it runs:
//! over UDP with the truncation bit, and whole over TCP.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use benches::Result;

use crate::backend::spawn;

#[derive(Default)]
pub struct Zone {
    /// Addresses by name in lower case, without the last dot.
    records: RwLock<HashMap<String, Vec<Ipv4Addr>>>,
    asked: AtomicU64,
}

impl Zone {
    pub fn put(&self, name: &str, addresses: Vec<Ipv4Addr>) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        records.insert(name.to_owned(), addresses);
    }

    /// Questions answered so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// The answer to a query; at most `limit` bytes, else truncated. `None`: not a query.
    fn answer(&self, query: &[u8], limit: usize) -> Option<Vec<u8>> {
        let (name, end) = question(query)?;
        let kind = u16::from_be_bytes(query.get(end..end + 2)?.try_into().ok()?);
        self.asked.fetch_add(1, Ordering::Relaxed);
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let known = records.get(&name);
        let all = known.filter(|_| kind == A).map_or(&[][..], Vec::as_slice);
        let asked = query.get(12..end + 4)?;
        let whole = 12 + asked.len() + all.len() * 16;
        let (given, truncated) = if whole > limit { (&[][..], 0x02) } else { (all, 0) };
        let mut out = query.get(..2)?.to_vec();
        // Response, authoritative, recursion as desired; NXDOMAIN for names we do not know.
        let code = if known.is_some() { 0x80 } else { 0x83 };
        out.extend([0x84 | truncated | (query.get(2)? & 0x01), code]);
        for count in [1, u16::try_from(given.len()).ok()?, 0, 0] {
            out.extend(count.to_be_bytes());
        }
        out.extend(asked);
        for address in given {
            // The name of the question; class IN, TTL, four bytes.
            out.extend([0xc0, 0x0c, 0, 1, 0, 1]);
            out.extend(TTL.to_be_bytes());
            out.extend([0, 4]);
            out.extend(address.octets());
        }
        Some(out)
    }
}

/// Serves on port 53 of loopback as long as this process lives.
pub fn serve(zone: &Arc<Zone>) -> Result<()> {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53))?;
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 53))?;
    let own = zone.clone();
    spawn(move || {
        let mut query = [0; 512];
        while let Ok((n, from)) = udp.recv_from(&mut query) {
            let answer = own.answer(query.get(..n).unwrap_or_default(), UDP_LIMIT);
            let _ = answer.map(|bytes| udp.send_to(&bytes, from));
        }
    })?;
    let own = zone.clone();
    spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let zone = own.clone();
            let _ = spawn(move || while exchange(&mut stream, &zone).is_some() {});
        }
    })?;
    Ok(())
}

fn exchange(stream: &mut (impl Read + Write), zone: &Zone) -> Option<()> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut query).ok()?;
    let answer = zone.answer(&query, usize::from(u16::MAX))?;
    let mut out = u16::try_from(answer.len()).ok()?.to_be_bytes().to_vec();
    out.extend(answer);
    stream.write_all(&out).ok()
}

/// Name of the first question, and where its type begins.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

const A: u16 = 1;
/// Seconds.
const TTL: u32 = 1;
/// What resolvers without EDNS take.
const UDP_LIMIT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02P0\x07example\x00\x00\x01\x00\x01";

    #[test]
    fn known_names_have_their_addresses() {
        let zone = Zone::default();
        zone.put("p0.example", vec![Ipv4Addr::new(127, 1, 2, 3)]);
        let answer = zone.answer(QUERY, 512).unwrap();
        assert_eq!(&answer[..8], b"\x12\x34\x85\x80\x00\x01\x00\x01");
        assert_eq!(answer[answer.len() - 4..], [127, 1, 2, 3]);
        // AAAA: the name is there, the record is not.
        let mut query = QUERY.to_vec();
        query[25] = 28;
        assert_eq!(&zone.answer(&query, 512).unwrap()[2..8], b"\x85\x80\x00\x01\x00\x00");
    }

    #[test]
    fn unknown_names_and_long_answers_say_so() {
        let zone = Zone::default();
        assert_eq!(zone.answer(QUERY, 512).unwrap()[3], 0x83);
        zone.put("p0.example", vec![Ipv4Addr::LOCALHOST; 100]);
        let answer = zone.answer(QUERY, 512).unwrap();
        assert_eq!((answer[2] & 2, answer.len()), (2, QUERY.len()));
        assert_eq!(zone.answer(QUERY, 65535).unwrap().len(), QUERY.len() + 1600);
        assert_eq!(zone.answer(b"short", 512), None);
    }
}
