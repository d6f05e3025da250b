//! On the way out: nobody who was being served notices, and the process does end.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use crate::harness::backend::ok;
use crate::harness::h2c::{H2, finish, get};
use crate::harness::{Backend, Conf, Edge, wait_until, ws};

/// Answers each request when told to.
fn gated() -> (Backend, Sender<()>) {
    let (release, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Backend::script(move |peer| {
        while peer.request().is_some() {
            let _ = gate.lock().unwrap().recv_timeout(Duration::from_secs(8));
            peer.send(ok("late"));
        }
    });
    (backend, release)
}

fn refuses_connections(edge: &Edge) -> bool {
    let outcome = TcpStream::connect_timeout(&edge.http, Duration::from_secs(1));
    outcome.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[test]
fn an_idle_edge_ends_at_once() {
    for signal in ["TERM", "INT"] {
        let backend = Backend::ok();
        let mut edge = Edge::start(&Conf::app(&[backend.addr]));
        let mut idle = edge.client();
        idle.get("app.openclaw.example", "/").assert_ok("ok");
        let mut fresh = edge.client();
        let mut tls = edge.tls_client("app.openclaw.example");
        tls.get("app.openclaw.example", "/").assert_ok("ok");
        let start = Instant::now();
        edge.signal(signal);
        idle.assert_closed();
        fresh.assert_closed();
        tls.assert_closed();
        assert_eq!(edge.wait_exit().code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(3), "only after {:?}", start.elapsed());
    }
}

/// What is in the queue of a socket that closes is reset, and so is a handshake that ends on another
/// CPU just then: clients that wait for nobody are to see none of it. So in the socket's last moments
/// no handshake begins: whose first packet comes then is refused when it comes again, after a second.
#[test]
fn who_comes_as_the_port_closes_is_answered_or_refused() {
    let backend = Backend::ok();
    // Who asks again after a second must not find another test on the port.
    let own = "127.0.0.9:0";
    for _ in 0..3 {
        let mut edge = Edge::start(&Conf::app(&[backend.addr]).workers(2).bind(own, own));
        let (http, (sent, asked)) = (edge.http, channel());
        let clients: Vec<_> = (0..4)
            .map(|_| sent.clone())
            .map(|sent| std::thread::spawn(move || ask_until_refused(http, &sent)))
            .collect();
        for _ in 0..200 {
            asked.recv_timeout(Duration::from_secs(20)).unwrap();
        }
        edge.sigterm();
        let all: Vec<_> = clients.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(edge.wait_exit().code(), Some(0));
        assert!(all.iter().all(|(failed, _)| failed.is_empty()), "{all:?}");
        assert!(all.iter().any(|(_, wait)| *wait > Duration::from_millis(500)), "{all:?}");
    }
}

/// Requests on connections of their own, some thousand a second, until nobody listens any more: how
/// they failed, and how long the last one's connect took.
fn ask_until_refused(address: SocketAddr, sent: &Sender<()>) -> (Vec<io::Error>, Duration) {
    let (mut asked, mut failed) = (Vec::new(), Vec::new());
    let wait = loop {
        let begun = Instant::now();
        match ask(address) {
            Ok(edge) => asked.push(edge),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                break begun.elapsed();
            }
            Err(error) => failed.push(error),
        }
        let _ = sent.send(());
        std::thread::sleep(Duration::from_millis(1));
    };
    failed.extend(asked.into_iter().filter_map(|edge| answer(edge).err()));
    (failed, wait)
}

fn ask(address: SocketAddr) -> io::Result<TcpStream> {
    let mut edge = TcpStream::connect(address)?;
    edge.write_all(b"GET / HTTP/1.1\r\nHost: app.openclaw.example\r\nConnection: close\r\n\r\n")?;
    Ok(edge)
}

fn answer(mut edge: TcpStream) -> io::Result<()> {
    edge.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut answer = String::new();
    edge.read_to_string(&mut answer)?;
    let served = answer.starts_with("HTTP/1.1 200 ");
    served.then_some(()).ok_or_else(|| io::Error::other(answer))
}

#[test]
fn a_running_request_finishes_and_its_connection_closes() {
    let (backend, release) = gated();
    let mut edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut clients = [edge.client(), edge.tls_client("app.openclaw.example")];
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    }
    backend.wait_requests(2);
    edge.sigterm();
    wait_until("new connections to be refused", || refuses_connections(&edge));
    assert!(edge.is_running());
    for _ in &clients {
        release.send(()).unwrap();
    }
    for client in &mut clients {
        let response = client.response();
        response.assert_ok("late");
        assert_eq!(response.header("connection"), Some("close"));
        client.assert_closed();
    }
    assert_eq!(edge.wait_exit().code(), Some(0));
}

#[test]
fn http2_gets_goaway_and_its_streams_finish() {
    let (backend, release) = gated();
    let mut edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    let (response, _stream) = h2.open(get("https://app.openclaw.example/"), true);
    h2.run_for(Duration::from_millis(50));
    backend.wait_requests(1);
    edge.sigterm();
    wait_until("new connections to be refused", || refuses_connections(&edge));
    release.send(()).unwrap();
    let response = h2.block(finish(response)).unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "late"));
    assert!(h2.wait_closed().is_ok(), "a graceful GOAWAY");
    assert_eq!(edge.wait_exit().code(), Some(0));
}

#[test]
fn an_idle_http2_connection_ends_at_once() {
    let backend = Backend::ok();
    let mut edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    assert_eq!(h2.get("https://app.openclaw.example/").status, 200);
    let start = Instant::now();
    edge.sigterm();
    let _ = h2.wait_closed();
    assert_eq!(edge.wait_exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(3), "only after {:?}", start.elapsed());
}

#[test]
fn tunnels_and_streams_end_at_the_deadline() {
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        if head.has("upgrade") {
            peer.send(ws::accepting(&head, ""));
        } else {
            peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        }
        peer.wait_end();
    });
    let conf = Conf::app(&[backend.addr]).global("drain: { deadline: 1s }");
    let mut edge = Edge::start(&conf);
    let mut socket = edge.client();
    ws::open(&mut socket, "app.openclaw.example", "/");
    let mut events = edge.client();
    events.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    events.wire.until(b"data: 1\n\n").unwrap();
    let start = Instant::now();
    edge.sigterm();
    socket.assert_closed();
    assert!(start.elapsed() > Duration::from_millis(700), "already after {:?}", start.elapsed());
    let _ = events.wire.rest();
    assert_eq!(edge.wait_exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(4), "only after {:?}", start.elapsed());
}

#[test]
fn a_second_signal_ends_at_once() {
    let (backend, _release) = gated();
    let mut edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    backend.wait_requests(1);
    edge.sigterm();
    wait_until("new connections to be refused", || refuses_connections(&edge));
    let start = Instant::now();
    edge.sigterm();
    edge.wait_exit();
    assert!(start.elapsed() < Duration::from_secs(3), "only after {:?}", start.elapsed());
}

#[test]
fn readiness_ends_with_the_drain() {
    let (backend, release) = gated();
    let mut edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    backend.wait_requests(1);
    edge.sigterm();
    wait_until("/readyz to answer 503", || edge.admin("/readyz").status == 503);
    assert_eq!(edge.admin("/healthz").status, 200);
    release.send(()).unwrap();
    client.response().assert_ok("late");
    assert_eq!(edge.wait_exit().code(), Some(0));
}

#[test]
fn buffered_log_lines_are_written_before_the_exit() {
    let backend = Backend::ok();
    let mut edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    for n in 0..50 {
        client.get("app.openclaw.example", &format!("/{n}")).assert_ok("ok");
    }
    edge.sigterm();
    edge.wait_exit();
    wait_until("all lines", || edge.access_log().len() == 50);
}
