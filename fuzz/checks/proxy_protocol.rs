//! PROXY headers: a verdict stands whatever follows, a header has its limits, and the address that
//! was read is the one that was written.

use proxy::downstream::proxy_protocol::{Header, MAX_V1, MAX_V2, parse};

pub fn check(bytes: &[u8]) {
    let verdict = parse(bytes);
    // By then there is one.
    assert!(bytes.len() < MAX_V2 || verdict != Ok(None));
    // The same in pieces: incomplete for a while, then this.
    let end = bytes.len().min(MAX_V2);
    let mut earlier = Ok(None);
    for cut in 0..=end {
        let next = parse(&bytes[..cut]);
        assert!(earlier == Ok(None) || next == earlier, "{cut} bytes: {earlier:?}, {next:?}");
        earlier = next;
    }
    assert_eq!(earlier, verdict);
    let Ok(Some(header)) = verdict else { return };
    assert!(header.len <= bytes.len());
    let most = if bytes.starts_with(b"PROXY ") { MAX_V1 } else { MAX_V2 };
    assert!((15..=most).contains(&header.len), "{header:?}");
    // What belongs to the connection is not looked at.
    assert_eq!(parse(&bytes[..header.len]), verdict);
    assert_eq!(parse(&[&bytes[..header.len], b"PROXY \r\n"].concat()), verdict);

    let Some(source) = header.source else { return };
    let family = if source.is_ipv4() { 4 } else { 6 };
    let ip = source.ip();
    let line = format!("PROXY TCP{family} {ip} {ip} {} 443\r\n", source.port());
    assert_eq!(parse(line.as_bytes()), Ok(Some(Header { len: line.len(), ..header })), "{line}");
}
