//! Every limit, at it and one past it.

use std::net::{IpAddr, UdpSocket};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::harness::backend::ok;
use crate::harness::h2c::{H2, get};
use crate::harness::{Backend, Client, Conf, Edge, End, PATIENCE, wait_until, ws};

/// A GET whose head is exactly `size` bytes.
fn head_of(size: usize) -> String {
    let frame = "GET / HTTP/1.1\r\nHost: app.openclaw.example\r\nX-Fill: \r\n\r\n";
    frame.replace("Fill: ", &format!("Fill: {}", "a".repeat(size - frame.len())))
}

#[test]
fn head_bytes() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    for mut client in [edge.client(), edge.tls_client("app.openclaw.example")] {
        client.send(head_of(32 * 1024));
        client.response().assert_ok("ok");
        client.send(head_of(32 * 1024 + 1));
        client.response().assert_cause(431, "head_too_large");
        client.assert_closed();
    }
    assert_eq!(backend.requests().len(), 2);
    let small = Edge::start(&Conf::app(&[backend.addr]).both("limits: { head_bytes: 1KiB }"));
    let mut client = small.client();
    client.send(head_of(1024));
    client.response().assert_ok("ok");
    client.send(head_of(1025));
    client.response().assert_cause(431, "head_too_large");
}

#[test]
fn head_fields() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let request = |fields: usize| {
        let lines: String = (1..fields).map(|n| format!("X-{n}: v\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n{lines}\r\n")
    };
    let mut client = edge.client();
    client.send(request(100));
    client.response().assert_ok("ok");
    client.send(request(101));
    client.response().assert_cause(431, "head_too_large");
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn target_bytes() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]).both("limits: { target_bytes: 256B }"));
    let mut client = edge.client();
    client.get("app.openclaw.example", &format!("/{}", "a".repeat(255))).assert_ok("ok");
    client
        .get("app.openclaw.example", &format!("/{}", "a".repeat(256)))
        .assert_cause(414, "target_too_long");
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.get("app.openclaw.example", &format!("/{}", "a".repeat(16 * 1024 - 1))).assert_ok("ok");
    let long = format!("/{}", "a".repeat(16 * 1024));
    client.get("app.openclaw.example", &long).assert_cause(414, "target_too_long");
}

#[test]
fn body_limit_by_length() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app_with(&[backend.addr], "", "body_limit: 1KiB"));
    let post = |size: usize| {
        let head = "POST / HTTP/1.1\r\nHost: app.openclaw.example\r\n";
        format!("{head}Content-Length: {size}\r\n\r\n{}", "a".repeat(size))
    };
    for mut client in [edge.client(), edge.tls_client("app.openclaw.example")] {
        client.send(post(1024));
        client.response().assert_ok("ok");
        client.send(post(1025));
        client.response().assert_cause(413, "body_too_large");
    }
    assert_eq!(backend.requests().len(), 2);
    edge.wait_log("cause", "body_too_large");
}

/// The refusal comes while the upload still goes on; over HTTP/2 curl takes a stream reset in the
/// same breath for a failure (error 92) and never shows the answer.
#[test]
fn curl_shows_a_refusal_that_comes_before_its_upload_has_ended() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app_with(&[backend.addr], "", "body_limit: 1MiB"));
    let lab = crate::harness::Lab::new();
    lab.write("upload", "x".repeat(4 << 20));
    for version in ["--http2", "--http1.1"] {
        let port = edge.https.port();
        let output = std::process::Command::new("curl")
            .args(["-sS", version, "-w", "%{http_code}", "-o", "/dev/null", "--cacert"])
            .arg(edge.ca())
            .args(["--resolve", &format!("app.openclaw.example:{port}:127.0.0.1"), "-T"])
            .arg(lab.path().join("upload"))
            .arg(format!("https://app.openclaw.example:{port}/up"))
            .output()
            .expect("curl");
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(said == "413" && output.status.success(), "{version}: {said} {errors}");
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn body_limit_by_bytes_that_came() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app_with(&[backend.addr], "", "body_limit: 1KiB"));
    let head =
        "POST / HTTP/1.1\r\nHost: app.openclaw.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("200\r\n{}\r\n", "a".repeat(512));
    let mut client = edge.client();
    client.send(format!("{head}{chunk}{chunk}0\r\n\r\n"));
    client.response().assert_ok("ok");
    client.send(format!("{head}{chunk}{chunk}1\r\nb\r\n0\r\n\r\n"));
    match client.response_to("POST") {
        Ok(response) => response.assert_cause(413, "body_too_large"),
        Err(end) => assert_ne!(end, End::Timeout),
    }
    edge.wait_log("cause", "body_too_large");
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    let post = || crate::harness::h2c::post("https://app.openclaw.example/");
    assert_eq!(h2.exchange(post(), &[b'a'; 1024]).unwrap().status, 200);
    h2.exchange(post(), &[b'a'; 1025]).unwrap().assert_cause(413, "body_too_large");
    let whole = |request: &crate::harness::backend::Request| request.body.cut.is_none();
    assert_eq!(backend.requests().iter().filter(|r| whole(r)).count(), 2);
}

#[test]
fn default_body_limit_is_10_mib() {
    let edge = Edge::start(&Conf::app(&[Backend::real()]));
    let mut client = edge.client();
    let limit = 10 << 20;
    let head = |size: usize| {
        format!(
            "POST /count HTTP/1.1\r\nHost: app.openclaw.example\r\nContent-Length: {size}\r\n\r\n"
        )
    };
    client.send(head(limit));
    client.send(vec![b'x'; limit]);
    client.response().assert_ok(&limit.to_string());
    client.send(head(limit + 1));
    client.response().assert_cause(413, "body_too_large");
}

/// Opened connections that were not closed at once.
fn survivors(mut clients: Vec<Client>) -> Vec<Client> {
    let mut alive = Vec::new();
    for mut client in clients.drain(..) {
        if client.wire.try_send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n").is_err() {
            continue;
        }
        if client.response_to("GET").is_ok_and(|response| response.status == 200) {
            alive.push(client);
        }
    }
    alive
}

#[test]
fn connections_per_listener() {
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr]).workers(2).http("limits: { connections: 3 }");
    let edge = Edge::start(&conf);
    let alive = survivors((0..6).map(|_| edge.client()).collect());
    assert_eq!(alive.len(), 3);
    edge.tls_client("app.openclaw.example").get("app.openclaw.example", "/").assert_ok("ok");
    drop(alive);
    wait_until("room for new connections", || survivors(vec![edge.client()]).len() == 1);
}

/// min(15,000, (RLIMIT_NOFILE - 128) / 2); upstream connections the second of these.
#[test]
fn default_connections_follow_the_limit_of_open_files() {
    let backend = Backend::script(|peer| {
        while let Some(request) = peer.request() {
            if request.target() != "/hang" {
                peer.send(ok("ok"));
            }
        }
    });
    let edge = Edge::start_with_files(&Conf::app(&[backend.addr]).workers(1), 128 + 2 * 4);
    let mut alive = survivors((0..7).map(|_| edge.client()).collect());
    assert_eq!(alive.len(), 4);
    for client in &mut alive {
        client.send("GET /hang HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    }
    backend.wait_requests(4 + 4);
    let mut other_listener = edge.tls_client("app.openclaw.example");
    other_listener.get("app.openclaw.example", "/").assert_cause(503, "over_capacity");
}

#[test]
fn handshakes_under_way() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]).https("limits: { handshakes: 2 }"));
    let rejected = || edge.metric("edge_tls_handshake_failures_total{reason=\"too_many\"}");
    let greet = || edge.tls().try_connect("app.openclaw.example");
    let one = Client::plain(edge.https);
    greet().unwrap().get("app.openclaw.example", "/").assert_ok("ok");
    let mut two = Client::plain(edge.https);
    let start = Instant::now();
    Client::plain(edge.https).assert_closed();
    assert!(start.elapsed() < Duration::from_secs(5), "only after {:?}", start.elapsed());
    assert!(greet().is_err());
    assert_eq!(rejected(), 2.0);
    assert!(two.is_silent_for(Duration::from_millis(50)), "one within the limit is left alone");
    drop(one);
    wait_until("room for a handshake", || greet().is_ok());
}

/// An address of this machine that is not loopback.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Sends nothing: asks the kernel which source address it would use.
    socket.connect("192.0.2.1:9").expect("this test needs a route and an address besides loopback");
    socket.local_addr().unwrap().ip()
}

#[test]
fn connections_per_address() {
    let own = own_address();
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr])
        .workers(2)
        .bind("0.0.0.0:0", "0.0.0.0:0")
        .both("limits: { connections_per_ip: 3 }");
    let edge = Edge::start(&conf);
    let from = |edge: &Edge, ip: IpAddr| {
        let connect = |_| Client::from(ip, (ip, edge.http.port()).into());
        survivors((0..6).map(connect).collect())
    };
    let alive = from(&edge, own);
    assert_eq!(alive.len(), 3, "from {own}");
    let loopback = IpAddr::from([127, 0, 0, 1]);
    assert_eq!(from(&edge, loopback).len(), 6, "loopback is free");
    drop(alive);
    let trusting = Edge::start(&conf.global(&format!("trusted_proxies: [\"{own}/32\"]")));
    assert_eq!(from(&trusting, own).len(), 6, "trusted proxies are free");
}

#[test]
fn upstream_connections() {
    let backend = Backend::silent();
    let conf = Conf::app(&[backend.addr]).workers(2).global("limits: { upstream_connections: 2 }");
    let edge = Edge::start(&conf);
    let mut busy = [edge.client(), edge.client()];
    for client in &mut busy {
        client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    }
    backend.wait_requests(2);
    edge.client().get("app.openclaw.example", "/").assert_cause(503, "over_capacity");
    drop(busy);
    backend.wait_idle();
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    backend.wait_requests(3);
}

#[test]
fn idle_upstream_connections_give_way() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let edge = Edge::start(
        &Conf::new(format!(
            "upstreams:\n  a: {{ endpoints: [\"{}\"] }}\n  b: {{ endpoints: [\"{}\"] }}\n\
             routes:\n  a: {{ hosts: [a.openclaw.example], upstream: a }}\n\
             \x20 b: {{ hosts: [b.openclaw.example], upstream: b }}\n",
            a.addr, b.addr
        ))
        .global("limits: { upstream_connections: 1 }"),
    );
    let mut client = edge.client();
    client.get("a.openclaw.example", "/").assert_ok("a");
    client.get("b.openclaw.example", "/").assert_ok("b");
    client.get("a.openclaw.example", "/").assert_ok("a");
}

#[test]
fn response_head_size() {
    let answer = |head_bytes: usize| {
        let frame = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Fill: \r\n\r\n";
        let fill = "a".repeat(head_bytes - frame.len());
        frame.replace("Fill: ", &format!("Fill: {fill}")) + "ok"
    };
    for (head_bytes, fits) in [(64 * 1024, true), (64 * 1024 + 1, false)] {
        let backend = Backend::canned(answer(head_bytes));
        let edge = Edge::start(&Conf::app(&[backend.addr]));
        for mut client in [edge.client(), edge.tls_client("app.openclaw.example")] {
            let response = client.get("app.openclaw.example", "/");
            match fits {
                true => response.assert_ok("ok"),
                false => response.assert_cause(502, "upstream_protocol"),
            }
        }
        let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
        let status = h2.get("https://app.openclaw.example/").status;
        assert_eq!(status, if fits { 200 } else { 502 });
    }
}

#[test]
fn http2_streams() {
    let backend = Backend::script(|peer| {
        while let Some(request) = peer.request() {
            if request.target() != "/hang" {
                peer.send(ok("ok"));
            }
        }
    });
    let conf = Conf::app(&[backend.addr]).https("http2: { max_streams: 5 }");
    let edge = Edge::start(&conf);
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    assert_eq!(h2.get("https://app.openclaw.example/").status, 200);
    h2.run_for(Duration::from_millis(50));
    assert_eq!(h2.send.current_max_send_streams(), 5);
    let hang = || h2.send.clone().send_request(get("https://app.openclaw.example/hang"), true);
    let _open: Vec<_> = (0..5).map(|_| hang().unwrap()).collect();
    h2.run_for(Duration::from_millis(100));
    assert_eq!(backend.requests().len(), 6);
}

#[test]
fn tunnels_have_no_body_limit() {
    let backend = Backend::script(ws::serve_echo);
    let edge = Edge::start(&Conf::app_with(&[backend.addr], "", "body_limit: 10B"));
    let mut client = edge.client();
    ws::open(&mut client, "app.openclaw.example", "/");
    client.ws_echo(&"x".repeat(100_000));
}

/// At the cap of buffered bytes nobody new is served, and those under way are served on.
#[test]
fn buffered_bytes() {
    const CAP: f64 = 1024.0 * 1024.0;
    let (release, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Backend::script(move |peer| {
        while let Some(request) = peer.request() {
            match request.target() {
                "/endless" => {
                    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16));
                    while peer.wire.try_send(&chunk).is_ok() {}
                }
                "/later" => {
                    gate.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                    peer.send(ok(&"x".repeat(300_000)));
                }
                _ => peer.send(ok("ok")),
            }
        }
    });
    let conf = Conf::app(&[backend.addr]).global("limits: { buffered_bytes: 1MiB }");
    let edge = Edge::start(&conf);
    let buffered = || edge.metric("edge_buffered_bytes");
    let ask = |path: &str| {
        let mut client = edge.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n"));
        client
    };
    let mut under_way = ask("/later");
    backend.wait_requests(1);
    let mut stalled = Vec::new();
    while buffered() < CAP {
        edge.client().get("app.openclaw.example", "/").assert_ok("ok");
        let before = buffered();
        let mut client = ask("/endless");
        assert_eq!(client.wire.head().unwrap().status(), 200, "below the cap");
        stalled.push(client);
        wait_until("bytes that the client does not take, and no more of them", || {
            let seen = buffered();
            std::thread::sleep(Duration::from_millis(100));
            seen > before && buffered() == seen
        });
    }
    assert!(stalled.len() > 1, "one client alone fills it");
    edge.client().get("app.openclaw.example", "/").assert_cause(503, "over_capacity");
    assert_eq!(edge.wait_log("cause", "over_capacity")["detail"], "buffered_bytes");
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    h2.get("https://app.openclaw.example/").assert_cause(503, "over_capacity");
    release.send(()).unwrap();
    under_way.response().assert_ok(&"x".repeat(300_000));
    assert!(buffered() < CAP * 1.25, "{} bytes", buffered());
    drop(stalled);
    wait_until("nothing to be buffered", || buffered() == 0.0);
    edge.client().get("app.openclaw.example", "/").assert_ok("ok");
}

#[test]
fn what_tls_holds_for_a_client_is_buffered() {
    let edge = Edge::start(&Conf::app(&[Backend::real()]));
    let join = |_| {
        let mut client = edge.tls_client("app.openclaw.example");
        // Else the kernel may take it all: its buffers grow to 32 MiB.
        let socket = socket2::SockRef::from(client.wire.stream.tcp());
        socket.set_recv_buffer_size(4096).unwrap();
        client.send("GET /bytes/30000000 HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
        assert_eq!(client.wire.head().unwrap().status(), 200);
        client
    };
    let stalled: Vec<Client> = (0..8).map(join).collect();
    let buffered = || edge.metric("edge_buffered_bytes");
    wait_until("32 KiB of each in TLS", || buffered() >= 8.0 * 32.0 * 1024.0);
    drop(stalled);
    wait_until("nothing to be buffered", || buffered() == 0.0);
}
