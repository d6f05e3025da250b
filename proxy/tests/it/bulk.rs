//! Large messages: flat memory, and back-pressure from one side to the other.

use std::time::Duration;

use crate::harness::h2c::{H2, get};
use crate::harness::{Backend, Client, Conf, Edge, End};

const BULK: u64 = 256 << 20;
const GROWTH: u64 = 16 << 20;

/// Warm memory, then what one bulk transfer adds at its peak.
fn grows_by(edge: &Edge, transfer: impl FnOnce(Client)) -> u64 {
    edge.tls_client("app.openclaw.example").get("app.openclaw.example", "/bytes/1000000");
    let before = edge.rss();
    transfer(edge.tls_client("app.openclaw.example"));
    edge.peak_rss().saturating_sub(before)
}

#[test]
fn a_large_download_in_flat_memory() {
    let edge = Edge::start(&Conf::app(&[Backend::real()]));
    let growth = grows_by(&edge, |mut client| {
        client.send(format!("GET /bytes/{BULK} HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n"));
        assert_eq!(client.wire.head().unwrap().get("content-length"), Some(&*BULK.to_string()));
        // A slow reader at first, so that the backend is ahead.
        std::thread::sleep(Duration::from_millis(200));
        client.wire.skip(BULK).unwrap();
    });
    assert!(growth < GROWTH, "grew by {growth} bytes");
}

#[test]
fn a_large_upload_in_flat_memory() {
    let conf = Conf::app_with(&[Backend::real()], "", "body_limit: unlimited");
    let edge = Edge::start(&conf);
    let growth = grows_by(&edge, |mut client| {
        let head = format!(
            "POST /count HTTP/1.1\r\nHost: app.openclaw.example\r\nContent-Length: {BULK}\r\n\r\n"
        );
        client.send(head);
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..BULK >> 20 {
            client.send(&piece);
        }
        client.response().assert_ok(&BULK.to_string());
    });
    assert!(growth < GROWTH, "grew by {growth} bytes");
}

#[test]
fn back_pressure_reaches_a_backend_whose_client_does_not_read() {
    let backend = Backend::script(|peer| {
        let _ = peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let piece = vec![b'x'; 1 << 20];
        // Far more than all socket buffers: this must get stuck, and end with the client.
        while peer.wire.try_send(&piece).is_ok() {}
        *peer.seen.end.lock().unwrap() = Some(End::Reset);
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    assert_eq!(client.wire.head().unwrap().status(), 200);
    let before = edge.rss();
    std::thread::sleep(Duration::from_millis(500));
    assert!(edge.rss().saturating_sub(before) < GROWTH);
    drop(client);
    assert_ne!(backend.wait_end(0), End::Timeout);
}

#[test]
fn stalled_http2_streams_cost_little_and_others_are_served() {
    let edge = Edge::start(&Conf::app(&[Backend::real()]));
    edge.tls_client("app.openclaw.example").get("app.openclaw.example", "/bytes/1000000");
    let before = edge.rss();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let stall = |_| {
        let h2 = H2::connect_with(&edge.tls(), "app.openclaw.example", &builder);
        // The first answer lifts the limit on streams; it has no body that a window could stop.
        let head = http::Request::head("https://app.openclaw.example/").body(()).unwrap();
        assert_eq!(h2.exchange(head, b"").unwrap().status, 200);
        let open = |_| h2.open(get("https://app.openclaw.example/bytes/100000000"), true);
        let streams: Vec<_> = (0..100).map(open).collect();
        h2.run_for(Duration::from_millis(50));
        (h2, streams)
    };
    let stalled: Vec<_> = (0..4).map(stall).collect();
    for _ in 0..3 {
        let mut client = edge.tls_client("app.openclaw.example");
        client.get("app.openclaw.example", "/bytes/100000");
        stalled.iter().for_each(|(h2, _)| h2.run_for(Duration::from_millis(50)));
    }
    let growth = edge.peak_rss().saturating_sub(before);
    assert!(growth < 64 << 20, "400 stalled streams grew by {growth} bytes");
}
