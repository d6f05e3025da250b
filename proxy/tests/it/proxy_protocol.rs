//! Load balancers that say in a PROXY header whose connection they pass on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use crate::harness::h2c::{H2, get};
use crate::harness::{Backend, Client, Conf, Edge, PATIENCE, eventually, wait_until};

const HOST: &str = "app.openclaw.example";
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n";
const REJECTED: &str = "edge_connections_rejected_total";

/// Both listeners believe the tests' own address.
fn behind(backend: &Backend) -> Conf {
    Conf::app(&[backend.addr]).both("proxy_protocol: [127.0.0.0/8]")
}

/// Version 2, with this block.
fn block(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &len, block].concat()
}

/// From 2001:db8::7, with an extension.
fn block6() -> Vec<u8> {
    let mut source = [0; 16];
    (source[..4]).copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    source[15] = 7;
    block(0x21, 0x21, &[&source[..], &[1; 16], &[0xdc, 4, 1, 0xbb, 4, 0, 2, 0, 0]].concat())
}

fn behind_header(edge: &Edge, opening: &[u8]) -> Client {
    let mut client = edge.client();
    client.send(opening);
    client
}

fn rejected(edge: &Edge, listener: &str, reason: &str) -> f64 {
    edge.metric(&format!("{REJECTED}{{listener=\"{listener}\",reason=\"{reason}\"}}"))
}

#[test]
fn the_carried_address_is_the_client() {
    let backend = Backend::ok();
    let edge = Edge::start(&behind(&backend));
    for (number, (opening, client)) in [
        (LINE.to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.8 ::1 1 2\r\n".to_vec(), "192.0.2.8"),
        (block6(), "2001:db8::7"),
        (block(0x21, 0x11, &[192, 0, 2, 9, 192, 0, 2, 1, 0, 1, 0, 2]), "192.0.2.9"),
        // They speak for themselves.
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (block(0x20, 0, b""), "127.0.0.1"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{number}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let mut plain = behind_header(&edge, &[&opening, request.as_bytes()].concat());
        plain.response().assert_ok("ok");
        // It holds for the connection.
        plain.get(HOST, &path).assert_ok("ok");
        let mut tls = edge.tls().try_connect_after(&opening, HOST).unwrap();
        tls.get(HOST, &path).assert_ok("ok");
        let http2 = edge.tls();
        let h2 = H2::connect_after(&opening, &http2, HOST, &h2::client::Builder::new());
        let url = format!("https://{HOST}{path}");
        assert_eq!(h2.exchange(get(&url), b"").unwrap().status, 200);
        let lines = eventually("a line of each", || {
            let lines = edge.access_log().into_iter().filter(|line| line["path"] == path);
            Some(lines.collect::<Vec<_>>()).filter(|lines| lines.len() == 4)
        });
        assert!(lines.iter().all(|line| line["client"] == client), "{lines:?}");
    }
    for request in backend.requests() {
        let clients = ["192.0.2.7", "2001:db8::7", "192.0.2.8", "2001:db8::7", "192.0.2.9"];
        let number: usize = request.target()[1..].parse().unwrap();
        let client = clients.get(number).unwrap_or(&"127.0.0.1");
        assert_eq!(request.field("x-forwarded-for"), *client);
        assert_eq!(request.field("x-real-ip"), *client);
    }
    assert_eq!(backend.requests().len(), 4 * 7);
    assert_eq!(edge.metric(REJECTED), 0.0);
}

#[test]
fn a_header_in_pieces() {
    let backend = Backend::ok();
    let edge = Edge::start(&behind(&backend));
    for opening in [LINE.to_vec(), block6()] {
        let mut client = edge.client();
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        client.wire.stream.tcp().set_nodelay(true).unwrap();
        for byte in opening.iter().chain(request.as_bytes()) {
            client.send([*byte]);
        }
        client.response().assert_ok("ok");
    }
    let clients: Vec<String> =
        backend.requests().iter().map(|r| r.field("x-forwarded-for").to_owned()).collect();
    assert_eq!(clients, ["192.0.2.7", "2001:db8::7"]);
}

#[test]
fn whoever_is_not_a_balancer_is_closed() {
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr]).both("proxy_protocol: [192.0.2.0/24, 2001:db8::/32]");
    let edge = Edge::start(&conf);
    for opening in [LINE, b"GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n", b""] {
        let mut client = edge.client();
        // It may be closed before this.
        let _ = client.wire.try_send(opening);
        client.assert_closed();
    }
    assert!(edge.tls().try_connect_after(LINE, HOST).is_err());
    assert_eq!(rejected(&edge, "http", "proxy_protocol_untrusted"), 3.0);
    assert_eq!(rejected(&edge, "https", "proxy_protocol_untrusted"), 1.0);
    assert_eq!(backend.connections(), 0);
}

#[test]
fn bad_headers_end_the_connection() {
    let backend = Backend::ok();
    let edge = Edge::start(&behind(&backend));
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let mut bad = vec![
        b"PROXY TCP4 192.0.2.7 192.0.2.1 56324\r\n".to_vec(),
        b"PROXY TCP4 localhost 192.0.2.1 1 2\r\n".to_vec(),
        vec![b' '; 1],
        [&b"PROXY UNKNOWN "[..], &[b'x'; 93]].concat(),
        block(0x22, 0x11, &[0; 12]),
        block(0x21, 0x21, &[0; 12]),
        block(0x20, 0, &[0; 2049]),
    ];
    for opening in &mut bad {
        opening.extend_from_slice(request.as_bytes());
    }
    // None at all, and one that ends too early.
    bad.push(request.into_bytes());
    for opening in &bad {
        let mut client = behind_header(&edge, opening);
        client.assert_closed();
    }
    let mut cut = behind_header(&edge, &LINE[..20]);
    cut.wire.finish();
    cut.assert_closed();
    let all = bad.len() as f64 + 1.0;
    wait_until("all to be counted", || rejected(&edge, "http", "proxy_protocol_malformed") == all);
    // TLS without a header.
    assert!(edge.tls().try_connect(HOST).is_err());
    assert_eq!(rejected(&edge, "https", "proxy_protocol_malformed"), 1.0);
    assert_eq!(edge.metric("edge_tls_handshake_failures_total"), 0.0);
    // A look at the port is no offence.
    let mut look = edge.client();
    look.wire.finish();
    look.assert_closed();
    behind_header(&edge, LINE).get(HOST, "/").assert_ok("ok");
    assert_eq!(edge.metric(REJECTED), all + 1.0);
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn a_slow_header_has_the_time_of_a_handshake() {
    let backend = Backend::ok();
    let edge = Edge::start(&behind(&backend).both("timeouts: { handshake: 400ms }"));
    for addr in [edge.http, edge.https] {
        for opening in [&b""[..], &LINE[..30], &block6()[..14]] {
            let mut tcp = TcpStream::connect(addr).unwrap();
            tcp.set_read_timeout(Some(PATIENCE)).unwrap();
            let begun = Instant::now();
            tcp.write_all(opening).unwrap();
            assert_eq!(tcp.read(&mut [0]).unwrap_or(0), 0);
            assert!(begun.elapsed().as_millis() >= 350, "{:?}", begun.elapsed());
        }
    }
    assert_eq!(rejected(&edge, "http", "proxy_protocol_timeout"), 3.0);
    assert_eq!(rejected(&edge, "https", "proxy_protocol_timeout"), 3.0);
    // The handshake's own time begins after the header.
    let mut hanging = TcpStream::connect(edge.https).unwrap();
    hanging.write_all(LINE).unwrap();
    wait_until("the handshake to end", || {
        edge.metric("edge_tls_handshake_failures_total{reason=\"timeout\"}") == 1.0
    });
}

/// 2 at once, then one an hour; over reloads too, and a raised rate holds at once.
#[test]
fn new_connections_are_counted_by_the_carried_address() {
    let backend = Backend::ok();
    let limit = |rate: &str| {
        behind(&backend)
            .both(&format!("limits: {{ connection_rate: {rate}, connection_burst: 2 }}"))
    };
    let edge = Edge::start(&limit("1/h"));
    let served = |opening: &[u8]| behind_header(&edge, opening).get(HOST, "/").assert_ok("ok");
    served(LINE);
    drop(edge.tls().try_connect_after(LINE, HOST).unwrap());
    served(LINE);
    let refused = || rejected(&edge, "http", "connection_rate");
    behind_header(&edge, LINE).assert_closed();
    assert_eq!(refused(), 1.0);
    // Others have theirs, and a balancer's own connections are nobody's.
    served(b"PROXY TCP4 192.0.2.8 192.0.2.1 1 2\r\n");
    (0..4).for_each(|_| served(b"PROXY UNKNOWN\r\n"));
    edge.reload(&limit("2/h"));
    behind_header(&edge, LINE).assert_closed();
    assert_eq!(refused(), 2.0, "the same count after a reload");
    edge.reload(&limit("1000/s"));
    eventually("a raised rate", || {
        let mut client = behind_header(&edge, LINE);
        client.wire.try_send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).ok()?;
        client.response_to("GET").ok().filter(|response| response.status == 200)
    });
}

#[test]
fn places_are_counted_by_the_carried_address() {
    let backend = Backend::ok();
    let edge = Edge::start(&behind(&backend).both("limits: { connections_per_ip: 2 }"));
    let served = |opening: &[u8]| {
        let mut client = behind_header(&edge, opening);
        client.get(HOST, "/").assert_ok("ok");
        client
    };
    let first = served(LINE);
    let _second = edge.tls().try_connect_after(LINE, HOST).unwrap();
    // In whatever form it comes, the address has its two.
    for opening in [
        LINE.to_vec(),
        b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n".to_vec(),
        block(0x21, 0x11, &[192, 0, 2, 7, 192, 0, 2, 1, 0, 1, 0, 2]),
    ] {
        behind_header(&edge, &opening).assert_closed();
    }
    assert_eq!(rejected(&edge, "http", "connections_per_ip"), 3.0);
    // Others have theirs, and a balancer's own connections are nobody's.
    let _others = [served(b"PROXY TCP4 192.0.2.8 192.0.2.1 1 2\r\n"), served(&block6())];
    let _own = [(); 4].map(|()| served(b"PROXY UNKNOWN\r\n"));
    drop(first);
    eventually("a place again", || {
        let mut client = behind_header(&edge, LINE);
        client.wire.try_send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).ok()?;
        client.response_to("GET").ok().filter(|response| response.status == 200)
    });
}

#[test]
fn a_trusted_proxy_behind_the_balancer() {
    let backend = Backend::ok();
    let conf = behind(&backend).global("trusted_proxies: [192.0.2.7]");
    let edge = Edge::start(&conf);
    for (opening, hops) in [
        (LINE, "198.51.100.4, 192.0.2.7"),
        (b"PROXY TCP4 192.0.2.8 192.0.2.1 1 2\r\n", "192.0.2.8"),
    ] {
        let mut client = behind_header(&edge, opening);
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 198.51.100.4\r\n\r\n"
        ));
        client.response().assert_ok("ok");
        assert_eq!(backend.requests().last().unwrap().field("x-forwarded-for"), hops);
    }
}

#[test]
fn elsewhere_it_is_a_bad_request() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    for opening in [LINE.to_vec(), block6()] {
        let mut client = behind_header(&edge, &opening);
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        client.response().assert_cause(400, "bad_request");
        client.assert_closed();
        assert!(edge.tls().try_connect_after(&opening, HOST).is_err());
    }
    assert_eq!(edge.metric("edge_tls_handshake_failures_total{reason=\"not_tls\"}"), 2.0);
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_reload_holds_for_new_connections() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut before = edge.client();
    before.get(HOST, "/").assert_ok("ok");
    edge.reload(&behind(&backend));
    let mut behind_balancer = behind_header(&edge, LINE);
    behind_balancer.get(HOST, "/").assert_ok("ok");
    edge.reload(&Conf::app(&[backend.addr]));
    for (client, address) in [
        (&mut before, "127.0.0.1"),
        (&mut behind_balancer, "192.0.2.7"),
        (&mut edge.client(), "127.0.0.1"),
    ] {
        client.get(HOST, "/").assert_ok("ok");
        assert_eq!(backend.requests().last().unwrap().field("x-forwarded-for"), address);
    }
}
