//! Every phase ends in its time, and says which it was.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::harness::h2c::{H2, get};
use crate::harness::wire::PATIENCE;
use crate::harness::{Backend, Client, Conf, Edge, End, backend, wait_until, ws};

const SHORT: Duration = Duration::from_millis(300);

/// `f` takes at least about [`SHORT`] and not much longer.
fn takes_short<T>(f: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = f();
    let took = start.elapsed();
    assert!(took > SHORT * 8 / 10, "already after {took:?}");
    assert!(took < SHORT * 10, "only after {took:?}");
    value
}

fn connect(edge: &Edge, tls: bool) -> Client {
    if tls { edge.tls_client("app.openclaw.example") } else { edge.client() }
}

#[test]
fn half_a_head() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]).both("timeouts: { head: 300ms }"));
    for tls in [false, true] {
        let mut client = connect(&edge, tls);
        client.send("GET / HTTP/1.1\r\nHost: app");
        let response = takes_short(|| client.response());
        response.assert_cause(408, "head_timeout");
        client.assert_closed();
    }
    edge.wait_log("cause", "head_timeout");
    assert!(backend.requests().is_empty());
}

#[test]
fn a_dripping_head_is_no_progress() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]).both("timeouts: { head: 300ms }"));
    let mut client = edge.client();
    takes_short(|| {
        for byte in
            b"GET / HTTP/1.1\r\nHost: app.openclaw.example\r\nX-A: aaaaaaaaaaaaaaaaaaaaaaaaa".iter()
        {
            if client.wire.try_send([*byte]).is_err() {
                break;
            }
            if !client.is_silent_for(Duration::from_millis(40)) {
                break;
            }
        }
        let (_, end) = client.wire.rest();
        assert_ne!(end, End::Timeout);
    });
}

#[test]
fn a_connection_without_a_request() {
    let conf = Conf::app(&[backend::refusing()]).both("timeouts: { head: 300ms }");
    let edge = Edge::start(&conf);
    for tls in [false, true] {
        let mut client = connect(&edge, tls);
        takes_short(|| assert_ne!(client.wire.rest().1, End::Timeout));
    }
}

#[test]
fn idle_between_requests() {
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr]).both("timeouts: { keep_alive: 300ms }");
    let edge = Edge::start(&conf);
    for tls in [false, true] {
        let mut client = connect(&edge, tls);
        client.get("app.openclaw.example", "/").assert_ok("ok");
        takes_short(|| client.assert_closed());
    }
}

#[test]
fn keep_alive_is_longer_than_the_head_timeout() {
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr]).both("timeouts: { head: 200ms, keep_alive: 10s }");
    let edge = Edge::start(&conf);
    let mut client = edge.client();
    client.get("app.openclaw.example", "/").assert_ok("ok");
    std::thread::sleep(Duration::from_millis(600));
    client.get("app.openclaw.example", "/").assert_ok("ok");
}

#[test]
fn a_handshake_that_stalls() {
    let conf = Conf::app(&[backend::refusing()]).https("timeouts: { handshake: 300ms }");
    let edge = Edge::start(&conf);
    let hello = client_hello(&edge);
    let mut idle = Client::plain(edge.https);
    let mut half = Client::plain(edge.https);
    half.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]);
    let mut greeted = Client::plain(edge.https);
    greeted.send(hello);
    takes_short(|| {
        assert_ne!(idle.wire.rest().1, End::Timeout);
        assert_ne!(half.wire.rest().1, End::Timeout);
        let (flight, end) = greeted.wire.rest();
        assert!(flight.len() > 500, "the server's half of the handshake");
        assert_ne!(end, End::Timeout);
    });
}

/// What a client says first.
fn client_hello(edge: &Edge) -> Vec<u8> {
    let name = "app.openclaw.example".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(edge.tls().config, name).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

#[test]
fn a_body_that_stops() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]).both("timeouts: { body_progress: 300ms }"));
    let bodies = ["Content-Length: 100\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n5\r\nab"];
    for body in bodies {
        let mut client = edge.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: app.openclaw.example\r\n{body}"));
        takes_short(|| match client.response_to("POST") {
            Ok(response) => response.assert_cause(408, "body_timeout"),
            Err(end) => assert_ne!(end, End::Timeout),
        });
    }
    edge.wait_log("cause", "body_timeout");
    wait_until("both upstream requests to be aborted", || backend.open() == 0);
    assert!(backend.requests().iter().all(|request| request.body.cut.is_some()));
}

#[test]
fn a_slow_but_moving_body_is_fine() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]).both("timeouts: { body_progress: 500ms }"));
    let mut client = edge.client();
    client.send("POST / HTTP/1.1\r\nHost: app.openclaw.example\r\nContent-Length: 8\r\n\r\n");
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(120));
        client.send("x");
    }
    client.response().assert_ok("ok");
}

#[test]
fn a_client_that_does_not_read() {
    let backend = Backend::script(|peer| {
        let _ = peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let piece = vec![b'x'; 1 << 20];
        while peer.wire.try_send(&piece).is_ok() {}
        *peer.seen.end.lock().unwrap() = Some(End::Reset);
    });
    let conf = Conf::app(&[backend.addr]).both("timeouts: { write_progress: 300ms }");
    let edge = Edge::start(&conf);
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    assert_eq!(client.wire.head().unwrap().status(), 200);
    let start = Instant::now();
    backend.wait_end(0);
    assert!(start.elapsed() < PATIENCE / 2, "only after {:?}", start.elapsed());
    assert!(client.wire.skip(1_000_000_000).is_err(), "the answer is cut");
}

#[test]
fn first_byte() {
    let backend = Backend::silent();
    let conf = Conf::app_with(&[backend.addr], "timeouts: { first_byte: 300ms }", "");
    let edge = Edge::start(&conf);
    for (n, tls) in [false, true].into_iter().enumerate() {
        let mut client = connect(&edge, tls);
        let response = takes_short(|| client.get("app.openclaw.example", "/"));
        response.assert_cause(504, "first_byte_timeout");
        assert_ne!(backend.wait_end(n), End::Timeout);
    }
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    h2.get("https://app.openclaw.example/").assert_cause(504, "first_byte_timeout");
    let line = edge.wait_log("cause", "first_byte_timeout");
    assert_eq!(line["status"], 504);
}

#[test]
fn half_an_answer_head_is_not_a_first_answer() {
    let backend = Backend::once("HTTP/1.1 200 OK\r\nX-A");
    let conf = Conf::app_with(&[backend.addr], "timeouts: { first_byte: 300ms }", "");
    let edge = Edge::start(&conf);
    let response = takes_short(|| edge.client().get("app.openclaw.example", "/"));
    response.assert_cause(504, "first_byte_timeout");
}

#[test]
fn an_endpoint_that_takes_no_request_body() {
    let (release, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Backend::script(move |peer| {
        let _ = peer.head();
        let _ = gate.lock().unwrap().recv_timeout(PATIENCE);
    });
    let conf = Conf::app_with(&[backend.addr], "timeouts: { idle: 300ms }", "body_limit: 1GiB");
    let edge = Edge::start(&conf);
    let mut client = edge.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: app.openclaw.example\r\nContent-Length: 1000000000\r\n\r\n",
    );
    let piece = vec![b'x'; 1 << 20];
    let sent = (0..1000).take_while(|_| client.wire.try_send(&piece).is_ok()).count();
    assert!(sent < 200, "took {sent} MiB of the body");
    let line = edge.wait_log("cause", "first_byte_timeout");
    assert!(line["duration_ms"].as_f64() > Some(240.0), "{line}");
    assert!(line["duration_ms"].as_f64() < Some(5000.0), "{line}");
    release.send(()).unwrap();
}

#[test]
fn upstream_connect() {
    let (address, _full) = backend::hanging();
    let conf = Conf::app_with(&[address], "timeouts: { connect: 300ms }", "");
    let edge = Edge::start(&conf);
    let response = takes_short(|| edge.client().get("app.openclaw.example", "/"));
    response.assert_cause(504, "connect_timeout");
    edge.wait_log("cause", "connect_timeout");
}

#[test]
fn an_answer_that_stops() {
    let backend = Backend::once("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    let conf = Conf::app_with(&[backend.addr], "timeouts: { idle: 300ms }", "");
    let edge = Edge::start(&conf);
    let mut client = edge.client();
    let response = takes_short(|| client.get("app.openclaw.example", "/"));
    assert!(response.body.cut.is_some_and(|end| end != End::Timeout), "{response:?}");
    assert_ne!(backend.wait_end(0), End::Timeout);
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    let response = takes_short(|| h2.get("https://app.openclaw.example/"));
    assert_eq!((response.text().as_str(), response.error.is_some()), ("abc", true));
    assert_ne!(backend.wait_end(1), End::Timeout);
}

#[test]
fn an_event_stream_that_stops() {
    let backend = Backend::once(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\ndata: 1\n\n",
    );
    let conf = Conf::app_with(&[backend.addr], "timeouts: { stream_idle: 300ms }", "");
    let edge = Edge::start(&conf);
    let mut client = edge.client();
    takes_short(|| client.get("app.openclaw.example", "/"));
    edge.wait_log("cause", "stream_idle");
    assert_ne!(backend.wait_end(0), End::Timeout);
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    let response = takes_short(|| h2.get("https://app.openclaw.example/"));
    assert!(response.error.is_some(), "{response:?}");
    assert_ne!(backend.wait_end(1), End::Timeout);
}

#[test]
fn idle_upstream_connections_are_closed() {
    let backend = Backend::ok();
    let conf = Conf::app_with(&[backend.addr], "timeouts: { keep_alive: 300ms }", "");
    let edge = Edge::start(&conf);
    edge.client().get("app.openclaw.example", "/").assert_ok("ok");
    takes_short(|| assert_ne!(backend.wait_end(0), End::Timeout));
}

#[test]
fn an_idle_http2_connection() {
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr]).https("timeouts: { http2_idle: 300ms }");
    let edge = Edge::start(&conf);
    let mut h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    assert_eq!(h2.get("https://app.openclaw.example/").status, 200);
    let _ = takes_short(|| h2.wait_closed());
}

#[test]
fn an_http2_connection_without_preface() {
    let conf =
        Conf::app(&[backend::refusing()]).https("timeouts: { head: 300ms, http2_idle: 300ms }");
    let edge = Edge::start(&conf);
    let mut client = edge.tls().alpn(&["h2"]).connect("app.openclaw.example");
    takes_short(|| assert_ne!(client.wire.rest().1, End::Timeout));
}

#[test]
fn an_http2_body_that_stops() {
    let backend = Backend::ok();
    let conf = Conf::app(&[backend.addr]).https("timeouts: { body_progress: 300ms }");
    let edge = Edge::start(&conf);
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    let request = crate::harness::h2c::post("https://app.openclaw.example/");
    let (response, mut stream) = h2.open(request, false);
    stream.send_data("abc".into(), false).unwrap();
    takes_short(|| match h2.block(crate::harness::h2c::finish(response)) {
        Ok(response) => response.assert_cause(408, "body_timeout"),
        Err(e) => assert!(e.is_reset(), "{e}"),
    });
    edge.wait_log("cause", "body_timeout");
    assert_eq!(
        h2.block(crate::harness::h2c::exchange(
            h2.send.clone(),
            get("https://app.openclaw.example/"),
            b""
        ))
        .unwrap()
        .status,
        200
    );
}

#[test]
fn an_http2_client_with_a_zero_window() {
    let conf = Conf::app(&[Backend::real()]).https("timeouts: { write_progress: 300ms }");
    let edge = Edge::start(&conf);
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let h2 = H2::connect_with(&edge.tls(), "app.openclaw.example", &builder);
    let (response, _stream) = h2.open(get("https://app.openclaw.example/bytes/1000000"), true);
    let mut body = h2.block(response).unwrap().into_body();
    let end = takes_short(|| h2.block(body.data()));
    assert!(matches!(end, Some(Err(_))), "{end:?}");
}

#[test]
fn an_upgrade_without_an_answer() {
    let backend = Backend::script(|peer| {
        let _ = peer.head();
        peer.wait_end();
    });
    let conf = Conf::app_with(&[backend.addr], "timeouts: { first_byte: 300ms }", "");
    let edge = Edge::start(&conf);
    let mut client = edge.client();
    client.send(ws::opening("app.openclaw.example", "/", ""));
    takes_short(|| client.response()).assert_cause(504, "first_byte_timeout");
}

/// The kernel's timer of a silent connection, in seconds; `None` while another one runs or none.
fn keep_alive_timer(is_it: impl Fn(&str, &str) -> bool) -> Option<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).find_map(|line| {
        // Local and remote address, state, queues, timer (2: keep-alive) and when it fires.
        let cells: Vec<&str> = line.split_whitespace().collect();
        let when = cells[5].strip_prefix("02:")?;
        is_it(cells[1], cells[2]).then(|| u64::from_str_radix(when, 16).unwrap() / 100)
    })
}

/// A peer that is gone without a word is found by probes of the kernel (after 60 s).
#[test]
fn probes_on_both_sides_of_a_tunnel() {
    let backend = Backend::script(ws::serve_echo);
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let port = |port: u16| format!(":{port:04X}");
    for tls in [false, true] {
        let mut client = connect(&edge, tls);
        ws::open(&mut client, "app.openclaw.example", "/");
        client.ws_echo("hello");
        let own = port(client.wire.stream.tcp().local_addr().unwrap().port());
        let listener = port(if tls { edge.https } else { edge.http }.port());
        let endpoint = port(backend.addr.port());
        let armed = |what: &str, is_it: &dyn Fn(&str, &str) -> bool| {
            wait_until(what, || matches!(keep_alive_timer(is_it), Some(45..=60)));
        };
        armed("a probe of the client", &|l, r| l.ends_with(&listener) && r.ends_with(&own));
        armed("a probe of the endpoint", &|_, r| r.ends_with(&endpoint));
    }
}
