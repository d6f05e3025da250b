//! Byte pacing of a route: each connection has its rate, whatever it does with it. Only least times
//! are facts of pacing, so only those are asserted: a fifth less than size over rate, which is more
//! than a burst makes up for.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;

use crate::harness::backend::ok;
use crate::harness::h2c::{H2, finish, get, post, push};
use crate::harness::{Backend, Client, Conf, Edge, End, Peer, wait_until, ws};

const HOST: &str = "app.openclaw.example";
const LONG: Duration = Duration::from_secs(60);
const KIB: usize = 1024;

/// Every limit on progress, less than the least rate takes for a piece.
const HASTY: &str = "timeouts: { idle: 300ms, stream_idle: 300ms }";
const HASTY_CLIENT: &str = "timeouts: { body_progress: 300ms, write_progress: 300ms }";

/// Bytes that show what is missing or out of place.
fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i ^ (i >> 8) ^ (i >> 13)).to_le_bytes()[0]).collect()
}

/// `GET /N` and `GET /chunked/N` get N bytes at once, `POST` gets what it sent.
fn site(peer: &mut Peer) {
    while let Some(request) = peer.request() {
        if request.method() == "POST" {
            let sent = &request.body.bytes;
            peer.send(ok(&format!("{} {}", sent.len(), *sent == pattern(sent.len()))));
            continue;
        }
        let n = request.target().rsplit('/').next().unwrap().parse().unwrap();
        let body = pattern(n);
        if !request.target().starts_with("/chunked") {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n");
            peer.send([head.as_bytes(), &body].concat());
            continue;
        }
        let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for piece in body.chunks(1000) {
            answer.extend(format!("{:x}\r\n", piece.len()).bytes());
            answer.extend(piece);
            answer.extend(b"\r\n");
        }
        answer.extend(b"0\r\n\r\n");
        peer.send(answer);
    }
}

/// The site behind a route that is paced so, with hasty limits on progress.
fn paced(pacing: &str) -> (Backend, Edge) {
    paced_to(Backend::script(site), pacing)
}

fn paced_to(backend: Backend, pacing: &str) -> (Backend, Edge) {
    let edge = Edge::start(&conf(&backend, pacing));
    (backend, edge)
}

fn conf(backend: &Backend, pacing: &str) -> Conf {
    let route = format!("pacing: {{ {pacing} }}");
    Conf::app_with(&[backend.addr], HASTY, &route).both(HASTY_CLIENT)
}

/// Fails if this was faster than `rate` KiB per second allow for so many bytes.
#[track_caller]
fn takes_its_time(start: Instant, bytes: usize, rate: usize) {
    let least = Duration::from_secs_f64(bytes as f64 / (rate * KIB) as f64 * 0.8);
    let took = start.elapsed();
    assert!(took >= least, "{bytes} bytes at {rate} KiB/s after {took:?}");
}

/// The client's answer to `GET target` is whole.
fn download(client: &mut Client, target: &str) {
    client.wire.stream.tcp().set_read_timeout(Some(LONG)).unwrap();
    let response = client.get(HOST, target);
    let n = target.rsplit('/').next().unwrap().parse().unwrap();
    assert_eq!((response.status, response.body.cut), (200, None));
    assert!(response.body.bytes == pattern(n), "{} of {n} bytes", response.body.bytes.len());
}

fn upload(client: &mut Client, n: usize, chunked: bool) {
    client.wire.stream.tcp().set_read_timeout(Some(LONG)).unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n");
    if chunked {
        client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
        for piece in pattern(n).chunks(5000) {
            client.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        }
        client.send("0\r\n\r\n");
    } else {
        client
            .send([format!("{head}Content-Length: {n}\r\n\r\n").as_bytes(), &pattern(n)].concat());
    }
    client.response().assert_ok(&format!("{n} true"));
}

fn both(edge: &Edge) -> [Client; 2] {
    [edge.client(), edge.tls_client(HOST)]
}

fn h2(edge: &Edge) -> H2 {
    H2::connect(&edge.tls(), HOST)
}

fn url(path: &str) -> String {
    format!("https://{HOST}{path}")
}

#[test]
fn downloads_over_http1() {
    let (_site, edge) = paced("download: 64KiB/s");
    thread::scope(|scope| {
        for mut client in both(&edge) {
            scope.spawn(move || {
                for target in ["/131072", "/chunked/65536"] {
                    let start = Instant::now();
                    download(&mut client, target);
                    let n = target.rsplit('/').next().unwrap().parse().unwrap();
                    takes_its_time(start, n, 64);
                }
            });
        }
    });
}

#[test]
fn uploads_over_http1() {
    let (_site, edge) = paced("upload: 64KiB/s");
    thread::scope(|scope| {
        for mut client in both(&edge) {
            scope.spawn(move || {
                for (n, chunked) in [(128 * KIB, false), (64 * KIB, true)] {
                    let start = Instant::now();
                    upload(&mut client, n, chunked);
                    takes_its_time(start, n, 64);
                }
            });
        }
    });
}

#[test]
fn downloads_over_http2() {
    let (_site, edge) = paced("download: 64KiB/s");
    let h2 = h2(&edge);
    for (target, n) in [("/131072", 128 * KIB), ("/chunked/65536", 64 * KIB)] {
        let start = Instant::now();
        let (response, _) = h2.open(get(&url(target)), true);
        let answer = h2.block_for(LONG, finish(response)).unwrap();
        takes_its_time(start, n, 64);
        assert!(answer.error.is_none() && answer.body == pattern(n), "{:?}", answer.error);
    }
}

#[test]
fn uploads_over_http2() {
    let (_site, edge) = paced("upload: 64KiB/s");
    let h2 = h2(&edge);
    // With and without room for all of it in the stream's window.
    for n in [96 * KIB, 320 * KIB] {
        let start = Instant::now();
        let (response, mut stream) = h2.open(post(&url("/")), false);
        let answer = h2.block_for(LONG, async {
            push(&mut stream, &pattern(n), true).await.unwrap();
            finish(response).await.unwrap()
        });
        takes_its_time(start, n, 64);
        assert_eq!((answer.status, answer.text()), (200, format!("{n} true")));
    }
}

/// At the least rate half a second passes between two pieces: more than any limit on progress.
#[test]
fn nobody_is_late_while_bytes_are_held_back() {
    let (_site, edge) = paced("download: 1KiB/s, upload: 1KiB/s");
    let edge = &edge;
    thread::scope(|scope| {
        for mut client in both(edge) {
            scope.spawn(move || {
                let start = Instant::now();
                download(&mut client, "/6144");
                takes_its_time(start, 6 * KIB, 1);
            });
        }
        for mut client in both(edge) {
            scope.spawn(move || {
                let start = Instant::now();
                upload(&mut client, 6 * KIB, false);
                takes_its_time(start, 6 * KIB, 1);
            });
        }
        scope.spawn(move || {
            let start = Instant::now();
            let h2 = h2(edge);
            let (response, _) = h2.open(get(&url("/6144")), true);
            let answer = h2.block_for(LONG, finish(response)).unwrap();
            takes_its_time(start, 6 * KIB, 1);
            assert!(answer.error.is_none() && answer.body == pattern(6 * KIB), "{answer:?}");
        });
        let start = Instant::now();
        let h2 = h2(edge);
        let (response, mut stream) = h2.open(post(&url("/")), false);
        stream.send_data(pattern(6 * KIB).into(), true).unwrap();
        let answer = h2.block_for(LONG, finish(response)).unwrap();
        takes_its_time(start, 6 * KIB, 1);
        assert_eq!((answer.status, answer.text()), (200, format!("{} true", 6 * KIB)));
    });
}

/// A backend that agrees to a tunnel, sends 6 KiB and says how many bytes it got.
fn tunnel(peer: &mut Peer) {
    let Some(head) = peer.head() else { return };
    peer.wire.stream.tcp().set_read_timeout(Some(LONG)).unwrap();
    peer.send([ws::accepting(&head, "").as_bytes(), &pattern(6 * KIB)].concat());
    if peer.wire.exact(6 * KIB).is_ok_and(|bytes| bytes == pattern(6 * KIB)) {
        peer.send("whole");
    }
    peer.wait_end();
}

#[test]
fn tunnels_in_both_directions() {
    let (_site, edge) = paced_to(Backend::script(tunnel), "download: 1KiB/s, upload: 1KiB/s");
    thread::scope(|scope| {
        for mut client in both(&edge) {
            scope.spawn(move || {
                client.wire.stream.tcp().set_read_timeout(Some(LONG)).unwrap();
                let start = Instant::now();
                client.send([ws::opening(HOST, "/", "").as_bytes(), &pattern(KIB)].concat());
                assert_eq!(client.response().status, 101);
                client.send(&pattern(6 * KIB)[KIB..]);
                assert!(client.wire.exact(6 * KIB).unwrap() == pattern(6 * KIB));
                takes_its_time(start, 6 * KIB, 1);
                assert_eq!(client.wire.exact(5).unwrap(), b"whole");
                takes_its_time(start, 6 * KIB, 1);
            });
        }
    });
}

#[test]
fn tunnels_over_http2() {
    let (_site, edge) = paced_to(Backend::script(tunnel), "download: 1KiB/s, upload: 1KiB/s");
    let h2 = h2(&edge);
    h2.run_for(Duration::from_millis(100));
    let request = Request::connect(url("/"))
        .extension(h2::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(());
    let start = Instant::now();
    let (response, mut stream) = h2.open(request.unwrap(), false);
    let mut body = h2.block(response).unwrap().into_body();
    stream.send_data(pattern(6 * KIB).into(), false).unwrap();
    let mut got = Vec::new();
    while got.len() < 6 * KIB + 5 {
        let data = h2.block_for(LONG, body.data()).expect("the tunnel ended").unwrap();
        got.extend(data);
    }
    takes_its_time(start, 6 * KIB, 1);
    assert!(got[..6 * KIB] == pattern(6 * KIB) && got.ends_with(b"whole"), "{} bytes", got.len());
}

/// A thousand times what the rate allows in a test.
#[test]
fn the_first_bytes_of_each_message_are_free() {
    let (_site, edge) = paced("download: 1KiB/s, upload: 1KiB/s, after: 1MiB");
    thread::scope(|scope| {
        for mut client in both(&edge) {
            scope.spawn(move || {
                let started = Instant::now();
                download(&mut client, "/1048576");
                download(&mut client, "/chunked/1000000");
                upload(&mut client, 1024 * KIB, false);
                assert!(started.elapsed() < Duration::from_secs(1024), "the rate held");
                let start = Instant::now();
                download(&mut client, &format!("/{}", 1030 * KIB));
                takes_its_time(start, 6 * KIB, 1);
            });
        }
        let h2 = h2(&edge);
        for _ in 0..2 {
            let (response, _) = h2.open(get(&url("/1048576")), true);
            let answer = h2.block_for(LONG, finish(response)).unwrap();
            assert!(answer.error.is_none() && answer.body == pattern(1024 * KIB));
        }
        let (response, mut stream) = h2.open(post(&url("/")), false);
        let answer = h2.block_for(LONG, async {
            push(&mut stream, &pattern(1024 * KIB), true).await.unwrap();
            finish(response).await.unwrap()
        });
        assert_eq!(answer.text(), format!("{} true", 1024 * KIB));
    });
}

#[test]
fn requests_of_a_connection_share_its_rate() {
    let (_site, edge) = paced("download: 1KiB/s, upload: 1KiB/s");
    let mut client = edge.client();
    let start = Instant::now();
    // Also of small answers, which come whole with their heads.
    for _ in 0..64 {
        download(&mut client, "/100");
    }
    takes_its_time(start, 6400, 1);
    let h2 = h2(&edge);
    let start = Instant::now();
    for _ in 0..64 {
        assert_eq!(h2.get(&url("/100")).body, pattern(100));
    }
    takes_its_time(start, 6400, 1);
    let mut client = edge.client();
    let start = Instant::now();
    for _ in 0..64 {
        upload(&mut client, 100, false);
    }
    takes_its_time(start, 6400, 1);
}

#[test]
fn streams_of_a_connection_share_its_rate_alike() {
    let (_site, edge) = paced("download: 64KiB/s");
    let h2 = h2(&edge);
    let start = Instant::now();
    let [mut one, mut other] = [(); 2].map(|()| {
        let (response, _) = h2.open(get(&url("/98304")), true);
        h2.block(response).unwrap().into_body()
    });
    let (mut of_one, mut of_other) = (0, 0);
    while of_one < 96 * KIB && of_other < 96 * KIB {
        let (count, data) = h2.block_for(LONG, async {
            tokio::select! {
                data = one.data() => (&mut of_one, data),
                data = other.data() => (&mut of_other, data),
            }
        });
        let n = data.unwrap().unwrap().len();
        *count += n;
        let stream = if std::ptr::eq(count, &of_one) { &mut one } else { &mut other };
        stream.flow_control().release_capacity(n).unwrap();
    }
    takes_its_time(start, of_one + of_other, 64);
    assert!(of_one.min(of_other) >= 48 * KIB, "{of_one} and {of_other} bytes");
}

#[test]
fn other_connections_have_their_own() {
    let (_site, edge) = paced("download: 1KiB/s, upload: 1KiB/s");
    let mut slow = edge.client();
    slow.send(format!("GET /1048576 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(slow.wire.head().unwrap().status(), 200);
    // Each has its burst, while that one takes a quarter of an hour.
    for _ in 0..3 {
        for mut client in both(&edge) {
            download(&mut client, "/1000");
        }
        assert_eq!(h2(&edge).get(&url("/1000")).body, pattern(1000));
    }
    slow.wire.stream.tcp().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (bytes, end) = slow.wire.rest();
    assert!(bytes.len() < 512 * KIB && end == End::Timeout, "{} bytes, {end:?}", bytes.len());
}

#[test]
fn a_new_rate_holds_for_the_next_request() {
    let (site, edge) = paced("download: 1KiB/s");
    let mut client = edge.client();
    download(&mut client, "/2000");
    edge.reload(&conf(&site, "download: 1MiB/s"));
    let start = Instant::now();
    download(&mut client, "/524288");
    assert!(start.elapsed() < Duration::from_secs(512), "the old rate held");
    edge.reload(&conf(&site, "download: 1KiB/s"));
    let start = Instant::now();
    download(&mut client, "/6144");
    takes_its_time(start, 6 * KIB, 1);
}

/// A client that leaves is noticed while its body is held back.
#[test]
fn a_client_that_leaves_is_noticed() {
    let (site, edge) = paced("upload: 1KiB/s");
    let mut client = edge.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100000\r\n\r\n"));
    client.send(pattern(100_000));
    drop(client);
    assert_eq!(edge.wait_log("cause", "client_gone")["status"], 499);
    assert_ne!(site.wait_end(0), End::Timeout);
    let h2 = h2(&edge);
    let (response, mut stream) = h2.open(post(&url("/")), false);
    stream.send_data(Bytes::from(pattern(50_000)), false).unwrap();
    wait_until("the upload has begun", || {
        h2.run_for(Duration::from_millis(20));
        site.connections() == 2
    });
    stream.send_reset(h2::Reason::CANCEL);
    h2.run_for(Duration::from_millis(20));
    drop(response);
    assert_ne!(site.wait_end(1), End::Timeout);
}
