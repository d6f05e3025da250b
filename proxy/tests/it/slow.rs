//! Times that cannot be configured, and so take half a minute to pass: the window of
//! `body_min_rate` (30 s), HTTP/2 pings (every 20 s, answered within 20 s).

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::harness::h2c::{H2, finish, get, post};
use crate::harness::{Backend, Client, Conf, Edge, End};

/// A little more than the window.
const WHILE: Duration = Duration::from_secs(32);
const BEAT: Duration = Duration::from_millis(100);

/// How many bytes are due for this average, beyond `sent`.
fn due(start: Instant, rate: u64, sent: u64) -> usize {
    let ms = u64::try_from(start.elapsed().as_millis()).unwrap();
    usize::try_from((ms * rate / 1000).saturating_sub(sent)).unwrap()
}

/// A request whose body is to follow.
fn begin(client: &mut Client) {
    client.send("POST / HTTP/1.1\r\nHost: app.openclaw.example\r\n");
    client.send("Transfer-Encoding: chunked\r\n\r\n");
}

/// Sends body chunks at this rate for [`WHILE`], or until the edge has something to say; tells how
/// long that was.
fn drip(client: &mut Client, rate: u64) -> Duration {
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < WHILE && client.is_silent_for(BEAT) {
        let now = due(start, rate, sent);
        if now > 0 {
            let chunk = format!("{now:x}\r\n{}\r\n", "x".repeat(now));
            if client.wire.try_send(chunk).is_err() {
                break;
            }
            sent += now as u64;
        }
    }
    start.elapsed()
}

fn is_a_window(took: Duration) {
    assert!(took > Duration::from_secs(29), "already after {took:?}");
    assert!(took < WHILE, "only after {took:?}");
}

fn too_slow(mut client: Client) {
    begin(&mut client);
    is_a_window(drip(&mut client, 180));
    client.response().assert_cause(408, "body_timeout");
    client.assert_closed();
}

fn fast_enough(mut client: Client) {
    begin(&mut client);
    drip(&mut client, 300);
    client.send("0\r\n\r\n");
    client.response().assert_ok("ok");
}

fn too_slow_over_http2(h2: &H2) {
    let (response, mut stream) = h2.open(post("https://app.openclaw.example/"), false);
    let start = Instant::now();
    let drip = async {
        let mut sent = 0;
        loop {
            tokio::time::sleep(BEAT).await;
            let now = due(start, 180, sent);
            if now > 0 && stream.send_data(Bytes::from(vec![b'x'; now]), false).is_err() {
                return std::future::pending::<()>().await;
            }
            sent += now as u64;
        }
    };
    let response = h2.block_for(WHILE * 2, async {
        tokio::select! {
            response = finish(response) => response,
            () = drip => unreachable!("it never ends"),
        }
    });
    is_a_window(start.elapsed());
    response.unwrap().assert_cause(408, "body_timeout");
}

/// A stream of events, as bidirectional as it may be: its client may be as slow as it likes.
fn slow_beside_events(mut client: Client) {
    begin(&mut client);
    let head = client.wire.head().unwrap();
    assert_eq!(head.get("content-type"), Some("text/event-stream"));
    let took = drip(&mut client, 10);
    assert!(took >= WHILE, "cut after {took:?}");
    client.send("4\r\nlast\r\n");
    client.wire.until(b"data: seen\n\n").unwrap();
}

fn slow_beside_events_over_http2(h2: &H2) {
    let (response, mut stream) = h2.open(post("https://app.openclaw.example/"), false);
    let mut body = h2.block(response).unwrap().into_body();
    let start = Instant::now();
    while start.elapsed() < WHILE {
        h2.run_for(BEAT * 5);
        stream.send_data("x".into(), false).unwrap();
    }
    stream.send_data("last".into(), false).unwrap();
    assert_eq!(h2.block(body.data()).unwrap().unwrap(), "data: seen\n\n");
}

#[test]
fn the_least_rate_of_a_body() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let events = Backend::script(|peer| {
        let _ = peer.head();
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        if peer.wire.until(b"last").is_ok() {
            peer.send("data: seen\n\n");
        }
        peer.wait_end();
    });
    let streaming = Edge::start(&Conf::app(&[events.addr]));
    thread::scope(|scope| {
        scope.spawn(|| too_slow(edge.client()));
        scope.spawn(|| too_slow(edge.tls_client("app.openclaw.example")));
        scope.spawn(|| fast_enough(edge.client()));
        scope.spawn(|| too_slow_over_http2(&H2::connect(&edge.tls(), "app.openclaw.example")));
        scope.spawn(|| slow_beside_events(streaming.client()));
        let h2 = H2::connect(&streaming.tls(), "app.openclaw.example");
        slow_beside_events_over_http2(&h2);
    });
    assert_eq!(edge.wait_log("cause", "body_timeout")["detail"], "rate");
    let slow = |line: &serde_json::Value| line["cause"] == "body_timeout";
    assert_eq!(edge.access_log().into_iter().filter(slow).count(), 3);
}

/// Two clients with an open stream each; one of them stops reading, so it answers no ping.
#[test]
fn http2_pings_find_the_dead() {
    let events = || {
        Backend::script(|peer| {
            let _ = peer.head();
            peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
            let mut end = End::Timeout;
            while end == End::Timeout {
                end = peer.wire.rest().1;
            }
            *peer.seen.end.lock().unwrap() = Some(end);
        })
    };
    let (of_dead, of_alive) = (events(), events());
    let open = |backend: &Backend| {
        let edge = Edge::start(&Conf::app(&[backend.addr]));
        let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
        let (response, stream) = h2.open(get("https://app.openclaw.example/"), true);
        let body = h2.block(response).unwrap().into_body();
        (edge, h2, stream, body)
    };
    let (edge, _silent, ..) = open(&of_dead);
    let (_other, alive, _stream, mut body) = open(&of_alive);
    let start = Instant::now();
    let ended = |backend: &Backend| *backend.connection(0).end.lock().unwrap();
    while ended(&of_dead).is_none() && start.elapsed() < Duration::from_secs(50) {
        alive.run_for(BEAT);
    }
    let took = start.elapsed();
    assert!(matches!(ended(&of_dead), Some(End::Closed | End::Reset)), "after {took:?}");
    assert!(took > Duration::from_secs(30), "already after {took:?}");
    assert_eq!(edge.wait_log("cause", "client_gone")["protocol"], "HTTP/2");
    alive.run_for(Duration::from_secs(2));
    assert_eq!(ended(&of_alive), None);
    assert_eq!(alive.block(body.data()).unwrap().unwrap(), "data: 1\n\n");
}
