use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

/// A header of version 2 with this block.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &len, block].concat()
}

/// The addresses of a connection from `source`.
fn addresses(source: SocketAddr) -> Vec<u8> {
    let ports = [source.port().to_be_bytes(), 443u16.to_be_bytes()].concat();
    match source.ip() {
        IpAddr::V4(ip) => [&ip.octets()[..], &[192, 0, 2, 9], &ports].concat(),
        IpAddr::V6(ip) => [&ip.octets()[..], &[9; 16], &ports].concat(),
    }
}

fn extension(kind: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &len[..], value].concat()
}

/// The same with its checksum as the last extension.
fn summed(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut header = v2(command, family, &[block, &extension(CRC32C, &[0; 4])].concat());
    let value = header.len() - 4;
    let sum = checksum(&header, value).to_be_bytes();
    header[value..].copy_from_slice(&sum);
    header
}

#[test]
fn lines_that_are_good() {
    let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(MAX_V1 - 16));
    let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
        ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!((long.len(), longest.len()), (MAX_V1, 104));
    for (line, source) in [
        ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", at("192.0.2.1:56324")),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 0 65535\r\n", at("192.0.2.1:0")),
        ("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", at("[2001:db8::1]:1")),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", at("[::ffff:192.0.2.1]:1")),
        (longest, at("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN  anything \u{7f}at all\r\n", None),
        (&long, None),
    ] {
        let header = Header { source, len: line.len() };
        assert_eq!(parse(line.as_bytes()), Ok(Some(header)), "{line:?}");
        let more = [line.as_bytes(), b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(parse(&more), Ok(Some(header)), "{line:?}");
    }
}

#[test]
fn lines_that_are_not() {
    let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(MAX_V1 - 15));
    for line in [
        "GET / HTTP/1.1\r\n",
        "PROXY\r\n",
        "PROXY \r\n",
        "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 2001:db8::1%eth0 2001:db8::2 1 2\r\n",
        "PROXY TCP6 [2001:db8::1] 2001:db8::2 1 2\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 00 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rX",
        "PROXY UNKNOWN \u{e9}\n\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\t2 3\r\n",
        "PROXY T\u{c7}P4 192.0.2.1 192.0.2.2 1 2\r\n",
        &long,
        "\r\n\r\n\0\r\nQUIT\r",
        "\r\n\r\nGET",
        "\u{16}\u{3}\u{1}",
    ] {
        assert_eq!(parse(line.as_bytes()), Err(Malformed), "{line:?}");
    }
}

#[test]
fn blocks_that_are_good() {
    let (four, six) = (at("192.0.2.1:56324"), at("[2001:db8::1]:65535"));
    let block = |source: Option<SocketAddr>| addresses(source.unwrap());
    let padded = [block(four), extension(0x04, &[0; 9]), extension(0x20, b"")].concat();
    let largest = [block(six), extension(0xee, &vec![7; 2048 - 36 - 3])].concat();
    for (header, source) in [
        (v2(0x21, 0x11, &block(four)), four),
        (v2(0x21, 0x12, &block(four)), four),
        (v2(0x21, 0x21, &block(six)), six),
        (v2(0x21, 0x22, &block(six)), six),
        (v2(0x21, 0x11, &padded), four),
        (v2(0x21, 0x21, &largest), six),
        (summed(0x21, 0x11, &padded), four),
        (summed(0x21, 0x21, &block(six)), six),
        // Nobody's address.
        (v2(0x21, 0x31, &[0; 216]), None),
        (v2(0x21, 0x10, &block(four)), None),
        (v2(0x21, 0x00, b""), None),
        (v2(0x21, 0x01, b"whatever"), None),
        // The sender's own.
        (v2(0x20, 0x00, b""), None),
        (v2(0x20, 0x11, &block(four)), None),
        (v2(0x20, 0xff, b"whatever"), None),
    ] {
        let expected = Ok(Some(Header { source, len: header.len() }));
        assert_eq!(parse(&header), expected, "{header:?}");
        assert_eq!(parse(&[&header[..], &[0x16, 3, 1]].concat()), expected, "{header:?}");
    }
}

#[test]
fn blocks_that_are_not() {
    let source = addresses("192.0.2.1:56324".parse().unwrap());
    let with = |extension: &[u8]| [&source, extension].concat();
    let mut wrong_sum = summed(0x21, 0x11, &source);
    wrong_sum[16] ^= 1;
    let zero = extension(CRC32C, &[0; 4]);
    let twice = summed(0x21, 0x11, &with(&zero));
    for header in [
        v2(0x11, 0x11, &source),
        v2(0x31, 0x11, &source),
        v2(0x01, 0x11, &source),
        v2(0x22, 0x11, &source),
        v2(0x2f, 0x11, &source),
        v2(0x21, 0x13, &source),
        v2(0x21, 0x03, &source),
        v2(0x21, 0x41, &source),
        v2(0x21, 0xf1, &source),
        v2(0x21, 0x11, &source[..11]),
        v2(0x21, 0x11, b""),
        v2(0x21, 0x10, &source[..11]),
        v2(0x21, 0x21, &[0; 35]),
        v2(0x21, 0x31, &[0; 215]),
        v2(0x21, 0x11, &with(&[4])),
        v2(0x21, 0x11, &with(&[4, 0])),
        v2(0x21, 0x11, &with(&[4, 0, 1])),
        v2(0x21, 0x11, &with(&[4, 0, 1, 0, 0])),
        v2(0x21, 0x11, &with(&[4, 255, 255, 0])),
        v2(0x21, 0x11, &with(&zero)),
        v2(0x21, 0x11, &with(&extension(CRC32C, &[0; 3]))),
        v2(0x21, 0x11, &with(&extension(CRC32C, &[0; 5]))),
        wrong_sum,
        twice,
        v2(0x21, 0x21, &[0; 2049]),
        v2(0x20, 0x00, &[0; 2049]),
    ] {
        assert_eq!(parse(&header), Err(Malformed), "{header:?}");
    }
    // What is too long is known from its length.
    let long = v2(0x21, 0x21, &[0; 2049]);
    assert_eq!(parse(&long[..15]), Ok(None));
    assert_eq!(parse(&long[..16]), Err(Malformed));
}

/// The check value of CRC-32C, with nothing and with something left out.
#[test]
fn the_checksum_is_crc32c() {
    assert_eq!(checksum(b"123456789", 9), 0xe306_9283);
    assert_eq!(checksum(b"1\0\0\0\x006789", 9), checksum(b"123456789", 1));
}

/// Any good header, with its source.
fn any_header() -> impl Strategy<Value = (Vec<u8>, Option<SocketAddr>)> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ];
    let source = (ip, any::<u16>()).prop_map(SocketAddr::from);
    let extensions =
        prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..9)
            .prop_map(|all| {
                let others = all.into_iter().filter(|(kind, _)| *kind != CRC32C);
                others.flat_map(|(kind, value)| extension(kind, &value)).collect::<Vec<u8>>()
            });
    (source, extensions, 0..5).prop_map(|(source, extensions, shape)| {
        let family = if source.is_ipv4() { 0x11 } else { 0x21 };
        let block = [addresses(source), extensions].concat();
        match shape {
            0 => {
                let (name, to) =
                    if source.is_ipv4() { ("TCP4", "192.0.2.2") } else { ("TCP6", "::1") };
                let line = format!("PROXY {name} {} {to} {} 443\r\n", source.ip(), source.port());
                (line.into_bytes(), Some(source))
            }
            1 => (b"PROXY UNKNOWN 1 2 3\r\n".to_vec(), None),
            2 => (v2(0x20, family, &block), None),
            3 => (v2(0x21, family, &block), Some(source)),
            _ => (summed(0x21, family, &block), Some(source)),
        }
    })
}

proptest! {
    #[test]
    fn good_headers_are_read_exactly(
        (header, source) in any_header(),
        rest in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        for cut in 0..header.len() {
            prop_assert_eq!(parse(&header[..cut]), Ok(None), "{} bytes", cut);
        }
        let expected = Ok(Some(Header { source, len: header.len() }));
        prop_assert_eq!(parse(&[header, rest].concat()), expected);
    }

    /// A word that was spoken stands, whatever comes after it.
    #[test]
    fn more_bytes_change_no_verdict(
        (header, _) in any_header(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = header;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut last = Ok(None);
        for cut in 0..=bytes.len() {
            let next = parse(&bytes[..cut]);
            prop_assert!(last == Ok(None) || next == last, "{cut} bytes: {last:?}, {next:?}");
            last = next;
        }
    }
}
