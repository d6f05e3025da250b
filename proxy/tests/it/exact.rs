//! Every byte arrives, at its place and at its client: sizes around buffer borders, both
//! directions at once, and many clients of which some leave in the middle.

use std::time::Duration;

use crate::harness::h2c::{H2, get, post};
use crate::harness::{Backend, Client, Conf, Edge, Lab, Peer, ws};

const SIZES: &[usize] = &[
    0, 1, 2, 255, 256, 4095, 4096, 4097, 8192, 16_383, 16_384, 16_385, 32_768, 65_535, 65_536,
    65_537, 131_072, 262_143, 262_145, 1_000_003,
];

/// Bytes that differ from their neighbours and from other seeds.
fn pattern(n: usize, seed: usize) -> Vec<u8> {
    (0..n).map(|at| (at * 31 + at / 251 + seed * 7) as u8).collect()
}

/// `data` in chunks of varying size.
fn chunks(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut rest, mut size) = (data, 1);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(size.min(rest.len()));
        out.extend(format!("{:x}\r\n", now.len()).bytes());
        out.extend(now);
        out.extend(b"\r\n");
        (rest, size) = (later, (size * 5 + 3) % 70_001);
    }
    out.extend(b"0\r\n\r\n");
    out
}

/// Answers `/<framing>/<n>/<seed>` with a pattern.
fn serve(peer: &mut Peer) {
    while let Some(request) = peer.request() {
        let parts: Vec<&str> = request.target().split('/').collect();
        let data = pattern(parts[2].parse().unwrap(), parts[3].parse().unwrap());
        match parts[1] {
            "length" => {
                peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", data.len()));
                peer.send(data);
            }
            "chunked" => {
                peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                peer.send(chunks(&data));
            }
            _ => {
                peer.send("HTTP/1.1 200 OK\r\n\r\n");
                return peer.send(data);
            }
        }
    }
}

#[test]
fn downloads() {
    let backend = Backend::script(serve);
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    for framing in ["length", "chunked", "close"] {
        let mut clients = [edge.client(), edge.tls_client("app.openclaw.example")];
        for &size in SIZES {
            let path = format!("/{framing}/{size}/1");
            for client in &mut clients {
                let response = client.get("app.openclaw.example", &path);
                assert_eq!(response.body.cut, None, "{path}");
                assert!(response.body.bytes == pattern(size, 1), "{path}");
                if response.header("connection") == Some("close") {
                    *client = edge.client();
                }
            }
            let response = h2.get(&format!("https://app.openclaw.example{path}"));
            assert!(response.error.is_none(), "{path}");
            assert!(response.body == pattern(size, 1), "{path} over HTTP/2");
        }
    }
}

#[test]
fn uploads() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    let mut clients = [edge.client(), edge.tls_client("app.openclaw.example")];
    let head = "POST / HTTP/1.1\r\nHost: app.openclaw.example\r\n";
    let last = || backend.requests().pop().unwrap().body.bytes;
    for &size in SIZES {
        let data = pattern(size, 2);
        for client in &mut clients {
            client.send(format!("{head}Content-Length: {size}\r\n\r\n"));
            client.send(&data);
            client.response().assert_ok("ok");
            assert!(last() == data, "{size} by length");
            client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
            client.send(chunks(&data));
            client.response().assert_ok("ok");
            assert!(last() == data, "{size} chunked");
        }
        let response = h2.exchange(post("https://app.openclaw.example/"), &data).unwrap();
        assert_eq!(response.status, 200);
        assert!(last() == data, "{size} over HTTP/2");
    }
}

#[test]
fn a_body_in_single_bytes() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let text = "POST / HTTP/1.1\r\nHost: app.openclaw.example\r\nTransfer-Encoding: chunked\r\n\r\n\
                3;x=y\r\nabc\r\n0\r\nX-T: 1\r\n\r\nGET /2 HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n";
    for mut client in [edge.client(), edge.tls_client("app.openclaw.example")] {
        for byte in text.as_bytes() {
            client.send([*byte]);
        }
        client.response().assert_ok("ok");
        client.response().assert_ok("ok");
    }
    assert_eq!(backend.requests()[0].body.bytes, b"abc");
}

#[test]
fn an_answer_in_single_bytes() {
    let text =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";
    let backend = Backend::script(move |peer| {
        while peer.request().is_some() {
            for byte in text.as_bytes() {
                peer.send([*byte]);
            }
        }
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    for mut client in [edge.client(), edge.tls_client("app.openclaw.example")] {
        for _ in 0..3 {
            client.get("app.openclaw.example", "/").assert_ok("abc");
        }
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn tunnels_in_both_directions_at_once() {
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        peer.send(ws::accepting(&head, ""));
        for _ in 0..64 {
            peer.send(pattern(65_537, 3));
            assert!(peer.wire.exact(65_537) == Ok(pattern(65_537, 4)));
        }
        peer.wait_end();
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    for mut client in [edge.client(), edge.tls_client("app.openclaw.example")] {
        ws::open(&mut client, "app.openclaw.example", "/");
        for _ in 0..64 {
            client.send(pattern(65_537, 4));
            assert!(client.wire.exact(65_537) == Ok(pattern(65_537, 3)));
        }
    }
}

/// Requests of one client, each with an answer of its own; some are left in the middle.
fn wander(edge_http: std::net::SocketAddr, tls: &crate::harness::Tls, seed: usize) {
    let connect = |n: usize| match n % 2 {
        0 => Client::plain(edge_http),
        _ => tls.connect("app.openclaw.example"),
    };
    let mut client = connect(seed);
    for n in 0..60 {
        let mark = seed * 1000 + n;
        let size = (mark * 7919) % 90_000;
        let framing = ["length", "chunked", "length"][mark % 3];
        client.send(format!(
            "GET /{framing}/{size}/{mark} HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n"
        ));
        if mark.is_multiple_of(7) {
            // Leaves without an answer, or with a part of it.
            let _ = client.wire.peek(Duration::from_millis((mark % 3) as u64 + 1));
            client = connect(mark);
            continue;
        }
        let response = client.response();
        assert_eq!((response.status, response.body.cut), (200, None));
        assert!(response.body.bytes == pattern(size, mark), "an answer of somebody else");
    }
}

#[test]
fn nobody_gets_the_answer_of_another() {
    let backend = Backend::script(serve);
    let lab = Lab::new();
    let edge = Edge::start_in(&lab, &Conf::app(&[backend.addr]).workers(2));
    let tls = edge.tls();
    std::thread::scope(|scope| {
        for seed in 0..12 {
            let (http, tls) = (edge.http, &tls);
            scope.spawn(move || wander(http, tls, seed));
        }
        scope.spawn(|| {
            let h2 = H2::connect(&tls, "app.openclaw.example");
            for n in 0..100 {
                let url = format!("https://app.openclaw.example/length/{}/{n}", n * 500);
                if n % 5 == 0 {
                    let (response, mut stream) = h2.open(get(&url), true);
                    h2.run_for(Duration::from_millis(n as u64 % 3));
                    stream.send_reset(h2::Reason::CANCEL);
                    drop(response);
                    continue;
                }
                assert!(h2.get(&url).body == pattern(n * 500, n), "an answer of somebody else");
            }
        });
    });
    let line = |line: &serde_json::Value| line["cause"].as_str().map(str::to_owned);
    let causes: Vec<String> = edge.access_log().iter().filter_map(line).collect();
    assert!(causes.iter().all(|cause| cause == "client_gone"), "{causes:?}");
}
