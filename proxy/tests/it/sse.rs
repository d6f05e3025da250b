//! Event streams: every write is passed on at once, and nobody streams to a client that is gone.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use crate::harness::h2c::{H2, get};
use crate::harness::{Backend, Client, Conf, Edge, End};

/// A backend that sends one event for each text it is given.
fn stream(chunked: bool) -> (Backend, Sender<String>) {
    let (events, queue) = channel::<String>();
    let queue = Mutex::new(queue);
    let backend = Backend::script(move |peer| {
        let _ = peer.request();
        let framing = if chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n"));
        let queue = queue.lock().unwrap();
        while let Ok(text) = queue.recv_timeout(Duration::from_secs(5)) {
            let event = format!("data: {text}\n\n");
            let bytes = if chunked { format!("{:x}\r\n{event}\r\n", event.len()) } else { event };
            if peer.wire.try_send(bytes).is_err() {
                break;
            }
        }
    });
    (backend, events)
}

fn reads_each_before_the_next(mut client: Client, events: &Sender<String>) {
    client.send(
        "GET /events HTTP/1.1\r\nHost: app.openclaw.example\r\nAccept: text/event-stream\r\n\r\n",
    );
    // The head comes before the first event.
    let head = client.wire.head().unwrap();
    assert_eq!(head.get("content-type"), Some("text/event-stream"));
    for n in 0..20 {
        events.send(n.to_string()).unwrap();
        let mark = format!("data: {n}\n\n");
        client.wire.until(mark.as_bytes()).unwrap_or_else(|end| panic!("event {n}: {end:?}"));
    }
}

#[test]
fn chunked_events_pass_at_once() {
    let (backend, events) = stream(true);
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    reads_each_before_the_next(edge.client(), &events);
}

#[test]
fn chunked_events_pass_at_once_over_tls() {
    let (backend, events) = stream(true);
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    reads_each_before_the_next(edge.tls_client("app.openclaw.example"), &events);
}

#[test]
fn close_delimited_events_pass_at_once() {
    let (backend, events) = stream(false);
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    reads_each_before_the_next(edge.client(), &events);
}

#[test]
fn events_pass_at_once_over_http2() {
    let (backend, events) = stream(true);
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    let (response, _stream) = h2.open(get("https://app.openclaw.example/events"), true);
    let mut body = h2.block(response).unwrap().into_body();
    for n in 0..20 {
        events.send(n.to_string()).unwrap();
        let data = h2.block(body.data()).expect("the stream ended").unwrap();
        assert_eq!(data, format!("data: {n}\n\n"));
        body.flow_control().release_capacity(data.len()).unwrap();
    }
}

/// The upstream connection ends within a second of `leave`.
fn is_cancelled(backend: &Backend, leave: impl FnOnce()) {
    let start = Instant::now();
    leave();
    assert_ne!(backend.wait_end(0), End::Timeout);
    assert!(start.elapsed() < Duration::from_secs(1), "after {:?}", start.elapsed());
}

fn silent_stream() -> Backend {
    Backend::once(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
         9\r\ndata: 1\n\n\r\n",
    )
}

#[test]
fn a_client_that_goes_ends_the_stream() {
    for tls in [false, true] {
        let backend = silent_stream();
        let edge = Edge::start(&Conf::app(&[backend.addr]));
        let mut client = if tls { edge.tls_client("app.openclaw.example") } else { edge.client() };
        client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
        client.wire.until(b"data: 1\n\n").unwrap();
        is_cancelled(&backend, || drop(client));
        let line = edge.wait_log("cause", "client_gone");
        assert!(line["bytes_out"].as_u64() > Some(0), "{line}");
    }
}

#[test]
fn a_stream_that_is_reset_ends_upstream() {
    let backend = silent_stream();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    let (response, mut stream) = h2.open(get("https://app.openclaw.example/"), true);
    let mut body = h2.block(response).unwrap().into_body();
    assert_eq!(h2.block(body.data()).unwrap().unwrap(), "data: 1\n\n");
    is_cancelled(&backend, || {
        stream.send_reset(h2::Reason::CANCEL);
        drop(body);
        h2.run_for(Duration::from_millis(10));
    });
}

#[test]
fn a_stream_is_not_bound_by_the_body_timeout() {
    let (backend, events) = stream(true);
    let conf = Conf::app_with(&[backend.addr], "timeouts: { idle: 200ms, stream_idle: 5s }", "");
    let edge = Edge::start(&conf);
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    assert_eq!(client.wire.head().unwrap().status(), 200);
    for n in 0..3 {
        std::thread::sleep(Duration::from_millis(400));
        events.send(n.to_string()).unwrap();
        client.wire.until(format!("data: {n}\n\n").as_bytes()).unwrap();
    }
}
