//! Request bodies that nobody takes: they count as buffered while they wait in a window, and they
//! go on while the answer does not.

use std::time::Duration;

use super::raw::{
    DATA, HEADERS, INITIAL_WINDOW_SIZE, Outcome, Raw, WINDOW_UPDATE, request, window_update,
};
use super::{HOST, edge};
use crate::harness::backend::{Request, hanging, ok};
use crate::harness::h2c::{H2, post, push};
use crate::harness::wire::Framing;
use crate::harness::ws;
use crate::harness::{Backend, Conf, Edge, Peer, wait_until};

const WINDOW: usize = 256 * 1024;
const MIB: f64 = 1024.0 * 1024.0;

fn buffered(edge: &Edge) -> f64 {
    edge.metric("edge_buffered_bytes")
}

/// New requests are refused, and why.
#[track_caller]
fn assert_refused(edge: &Edge) {
    let mut raw = Raw::connect(edge);
    let stream = raw.get("/");
    assert_eq!(raw.answer(stream).status, 503);
    assert_eq!(edge.wait_log("cause", "over_capacity")["detail"], "buffered_bytes");
}

/// An endpoint that takes no more than a few bytes.
fn takes_nothing(peer: &Peer) {
    let socket = socket2::SockRef::from(peer.wire.stream.tcp());
    socket.set_recv_buffer_size(4096).unwrap();
}

#[test]
fn bodies_count_while_the_endpoint_is_being_connected() {
    let (endpoint, _full) = hanging();
    let conf = Conf::app_with(&[endpoint], "timeouts: { connect: 60s }", "");
    let edge = Edge::start(&conf.global("limits: { buffered_bytes: 2MiB }"));
    let mut raws = Vec::new();
    for n in 1..=2 {
        let mut raw = Raw::connect(&edge);
        raw.wait(WINDOW_UPDATE, 0).unwrap();
        let streams = [(); 4].map(|()| raw.send_request(&request("POST", "/"), false));
        for stream in streams {
            for _ in 0..WINDOW / 16_384 {
                raw.data(stream, [b'x'; 16_384], false);
            }
        }
        wait_until("the windows to count", || buffered(&edge) == f64::from(n) * MIB);
        raws.push(raw);
    }
    assert_refused(&edge);
    drop(raws);
    wait_until("nothing to wait", || buffered(&edge) == 0.0);
}

#[test]
fn bodies_count_while_the_endpoint_takes_nothing() {
    let backend = Backend::script(|peer| {
        takes_nothing(peer);
        if peer.head().is_some() {
            std::thread::park();
        }
    });
    let conf = Conf::app(&[backend.addr]).global("limits: { buffered_bytes: 1MiB }");
    let edge = Edge::start(&conf);
    // The window of a connection is announced anew by halves: three of them hold 1 MiB at least.
    let clients: Vec<H2> = (0..3).map(|_| H2::connect(&edge.tls(), HOST)).collect();
    for h2 in clients.iter().flat_map(|h2| [h2; 4]) {
        let (response, mut stream) = h2.open(post(&format!("https://{HOST}/")), false);
        h2.block(async {
            tokio::spawn(async move {
                let _ = push(&mut stream, &vec![b'x'; 8 << 20], true).await;
                drop(response);
            });
        });
    }
    wait_until("the windows to count", || {
        clients.iter().for_each(|h2| h2.run_for(Duration::from_millis(5)));
        buffered(&edge) >= MIB
    });
    assert_refused(&edge);
    drop(clients);
    wait_until("nothing to wait", || buffered(&edge) == 0.0);
}

#[test]
fn bytes_for_a_tunnel_count_while_its_endpoint_takes_nothing() {
    let backend = Backend::script(|peer| {
        takes_nothing(peer);
        let Some(head) = peer.head() else { return };
        peer.send(ws::accepting(&head, ""));
        std::thread::park();
    });
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let stream = super::tunnels::open(&mut raw);
    let mut room = WINDOW;
    wait_until("the window to count", || {
        while room >= 16_384 {
            raw.data(stream, [b'x'; 16_384], false);
            room -= 16_384;
        }
        room += raw.granted(stream);
        buffered(&edge) >= 200_000.0
    });
    drop(raw);
    wait_until("nothing to wait", || buffered(&edge) == 0.0);
}

/// Both directions at once: a client that does not take the answer can still end its upload.
#[test]
fn an_upload_goes_on_while_the_answer_is_blocked() {
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        peer.send([b'y'; 100_000]);
        let framing = Framing::of(&head, Framing::Length(0)).unwrap();
        let body = peer.wire.body(framing);
        peer.seen.requests.lock().unwrap().push(Request { head, body, framing });
        peer.wait_end();
    });
    let edge = edge(&backend);
    let mut raw = Raw::connect_with(&edge, &[(INITIAL_WINDOW_SIZE, 10)]);
    let stream = raw.send_request(&request("POST", "/"), false);
    raw.wait(HEADERS, stream).unwrap();
    assert_eq!(raw.wait(DATA, stream).unwrap().payload.len(), 10);
    for n in 0..10 {
        raw.data(stream, [b'x'; 16_000], n == 9);
    }
    let sent = &backend.wait_requests(1)[0].body;
    assert_eq!((sent.bytes.len(), sent.cut), (160_000, None));
    raw.send([window_update(0, 1 << 20), window_update(stream, 1 << 20)].concat());
    assert_eq!(raw.answer_tail(stream), Outcome::Complete);
}

/// An answer that came before its upload had ended: with the upload the endpoint is done.
#[test]
fn the_end_of_an_upload_frees_the_endpoint_of_a_blocked_answer() {
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        // In one piece, so that all of it is read with its head.
        peer.send(ok(&"y".repeat(1000)));
        let framing = Framing::of(&head, Framing::Length(0)).unwrap();
        let body = peer.wire.body(framing);
        peer.seen.requests.lock().unwrap().push(Request { head, body, framing });
        while peer.request().is_some() {
            peer.send(ok("again"));
        }
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]).workers(1));
    let mut raw = Raw::connect_with(&edge, &[(INITIAL_WINDOW_SIZE, 10)]);
    let stream = raw.send_request(&request("POST", "/"), false);
    assert_eq!(raw.wait(DATA, stream).unwrap().payload.len(), 10);
    raw.data(stream, b"all", true);
    backend.wait_requests(1);
    let pooled = || edge.metric("edge_upstream_connections{state=\"idle\"}");
    wait_until("the endpoint to be free", || pooled() == 1.0);
    raw.send(window_update(stream, 1 << 20));
    assert_eq!(raw.answer_tail(stream), Outcome::Complete);
}
