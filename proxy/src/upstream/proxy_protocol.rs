//! PROXY protocol towards endpoints (haproxy's `proxy-protocol.txt`, 2020): the header that says
//! who the client is, written before anything else. Pure: addresses in, bytes out.

use std::net::{IpAddr, SocketAddr};

use config::model::ProxyProtocolVersion;

/// Starts every version 2 header (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command LOCAL: the receiver takes the addresses of the connection itself.
const LOCAL: u8 = 0x20;
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
/// Families with STREAM.
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The client connection that a connection to an endpoint is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxySource {
    pub client: SocketAddr,
    /// Where the client connected to.
    pub local: SocketAddr,
}

/// The header. Addresses of two families, or none, are `UNKNOWN` (version 1) or LOCAL (version 2).
pub fn header(version: ProxyProtocolVersion, source: Option<&ProxySource>) -> Vec<u8> {
    // An IPv4 client of a dual-stack socket is an IPv4 client.
    let pair = source.map(|source| {
        let ips = (source.client.ip().to_canonical(), source.local.ip().to_canonical());
        (ips, (source.client.port(), source.local.port()))
    });
    match version {
        ProxyProtocolVersion::V1 => text(pair),
        ProxyProtocolVersion::V2 => binary(pair),
    }
}

type Pair = ((IpAddr, IpAddr), (u16, u16));

/// §2.1; at most 107 bytes.
fn text(pair: Option<Pair>) -> Vec<u8> {
    let Some(((client, local), (from, to))) = pair else { return b"PROXY UNKNOWN\r\n".to_vec() };
    match (client, local) {
        (IpAddr::V4(client), IpAddr::V4(local)) => {
            format!("PROXY TCP4 {client} {local} {from} {to}\r\n").into_bytes()
        }
        (IpAddr::V6(client), IpAddr::V6(local)) => {
            format!("PROXY TCP6 {client} {local} {from} {to}\r\n").into_bytes()
        }
        _ => b"PROXY UNKNOWN\r\n".to_vec(),
    }
}

/// §2.2.
fn binary(pair: Option<Pair>) -> Vec<u8> {
    let (mut addresses, mut family) = (Vec::with_capacity(36), UNSPEC);
    if let Some(((client, local), (from, to))) = pair {
        match (client, local) {
            (IpAddr::V4(client), IpAddr::V4(local)) => {
                family = TCP4;
                addresses.extend_from_slice(&client.octets());
                addresses.extend_from_slice(&local.octets());
            }
            (IpAddr::V6(client), IpAddr::V6(local)) => {
                family = TCP6;
                addresses.extend_from_slice(&client.octets());
                addresses.extend_from_slice(&local.octets());
            }
            _ => {}
        }
        if family != UNSPEC {
            addresses.extend_from_slice(&from.to_be_bytes());
            addresses.extend_from_slice(&to.to_be_bytes());
        }
    }
    let mut out = SIGNATURE.to_vec();
    out.push(if family == UNSPEC { LOCAL } else { PROXY });
    out.push(family);
    // 0, 12 or 36.
    out.extend_from_slice(&[0, u8::try_from(addresses.len()).unwrap_or(0)]);
    out.extend_from_slice(&addresses);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(version: ProxyProtocolVersion, client: &str, local: &str) -> Vec<u8> {
        let source = ProxySource { client: client.parse().unwrap(), local: local.parse().unwrap() };
        header(version, Some(&source))
    }

    #[test]
    fn version_1() {
        let v1 = |client, local| String::from_utf8(made(ProxyProtocolVersion::V1, client, local));
        assert_eq!(
            v1("192.0.2.7:56324", "198.51.100.1:443").unwrap(),
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
        );
        assert_eq!(
            v1("[2001:db8::7]:1", "[2001:db8::1]:65535").unwrap(),
            "PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n"
        );
        assert_eq!(
            v1("[::ffff:192.0.2.7]:5", "[::ffff:198.51.100.1]:443").unwrap(),
            "PROXY TCP4 192.0.2.7 198.51.100.1 5 443\r\n"
        );
        assert_eq!(v1("192.0.2.7:5", "[2001:db8::1]:443").unwrap(), "PROXY UNKNOWN\r\n");
        assert_eq!(header(ProxyProtocolVersion::V1, None), b"PROXY UNKNOWN\r\n");
    }

    /// Byte by byte as in §2.2 of the specification.
    #[test]
    fn version_2() {
        let v2 = |client, local| made(ProxyProtocolVersion::V2, client, local);
        let mut known =
            vec![0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
        known.extend([0x21, 0x11, 0x00, 0x0c]);
        known.extend([192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb]);
        assert_eq!(v2("192.0.2.7:56324", "198.51.100.1:443"), known);

        let six = v2("[2001:db8::7]:258", "[2001:db8::1]:443");
        assert_eq!(six.len(), 16 + 36);
        assert_eq!(six[12..16], [0x21, 0x21, 0x00, 0x24]);
        assert_eq!(six[16..20], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(six[31], 7);
        assert_eq!(six[47], 1);
        assert_eq!(six[48..], [0x01, 0x02, 0x01, 0xbb]);

        let local = [&SIGNATURE[..], &[0x20, 0x00, 0x00, 0x00]].concat();
        assert_eq!(v2("192.0.2.7:5", "[2001:db8::1]:443"), local);
        assert_eq!(header(ProxyProtocolVersion::V2, None), local);
    }
}
