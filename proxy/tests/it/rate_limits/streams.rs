//! Requests at once: the one too many is refused, and a place comes back exactly once, however its
//! request ends. That it came back once and not twice shows in how many fit in again.

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::Request;

use super::{HOST, get, limited};
use crate::harness::h2c::{H2, H2Response, finish, get as h2_get};
use crate::harness::site::Site;
use crate::harness::{Backend, Client, Conf, Edge, End, Response, eventually, wait_until, ws};

const TWO: &str = "{ name: few, key: client_ip, concurrent: 2 }";

/// An edge before a site of event streams and WebSockets.
fn start(limits: &str) -> (Edge, Site) {
    let site = Site::plain();
    let route = format!("rate_limits: [{limits}]");
    (Edge::start(&Conf::app_with(&[site.addr], "", &route)), site)
}

/// An event stream that has begun, or the refusal.
fn events(mut client: Client) -> Result<Client, Box<Response>> {
    client.send(format!("GET /events HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let head = client.wire.head().unwrap();
    if head.status() == 200 {
        return Ok(client);
    }
    let length = head.get("content-length").unwrap().parse().unwrap();
    let body = client.wire.body(crate::harness::wire::Framing::Length(length));
    Err(Box::new(Response { status: head.status(), head, body, interim: Vec::new() }))
}

#[track_caller]
fn assert_full(edge: &Edge) {
    let refusal = events(edge.client()).err().expect("one too many passes");
    refusal.assert_cause(429, "too_many_streams (few)");
    assert_eq!(refusal.header("retry-after"), Some("1"));
    assert!(!refusal.head.has("ratelimit"), "there is no rate");
}

/// Waits until one more fits in.
fn enter(edge: &Edge) -> Client {
    eventually("a place", || events(edge.client()).ok())
}

/// Exactly so many places are free; leaves them so.
#[track_caller]
fn assert_free(edge: &Edge, places: usize) {
    let taken: Vec<Client> = (0..places).map(|_| enter(edge)).collect();
    assert_full(edge);
    drop(taken);
    wait_until("the places to come back", || edge.metric(OPEN) == 0.0);
}

const OPEN: &str = "edge_rate_limit_streams{route=\"app\",limit=\"few\"}";

#[test]
fn event_streams_on_http1() {
    let (edge, site) = start(TWO);
    let mut one = events(edge.client()).unwrap();
    let mut two = events(edge.tls_client(HOST)).unwrap();
    assert_full(&edge);
    assert_full(&edge);
    assert_eq!(edge.metric(OPEN), 2.0);
    // Those that run do not notice.
    assert_eq!(site.event("go on"), 2);
    for client in [&mut one, &mut two] {
        client.wire.until(b"data: go on\n\n").unwrap();
    }
    let line = edge.wait_log("cause", "too_many_streams");
    assert_eq!((&line["limit"], &line["status"]), (&"few".into(), &429.into()), "{line}");

    // The client goes: one place, not two.
    drop(one);
    let three = enter(&edge);
    assert_full(&edge);
    drop((two, three));
    assert_free(&edge, 2);

    // The endpoint ends them; the connections stay.
    let mut ended: Vec<Client> = (0..2).map(|_| enter(&edge)).collect();
    site.end_events();
    for client in &mut ended {
        client.wire.until(b"0\r\n\r\n").unwrap();
    }
    assert_free(&edge, 2);
    for client in &mut ended {
        get(client, "/", "").assert_ok("hello");
    }
}

/// An event stream on an HTTP/2 connection.
struct Stream {
    send: SendStream<Bytes>,
    body: RecvStream,
}

impl Stream {
    fn open(h2: &H2) -> Result<Stream, Box<H2Response>> {
        let (response, send) = h2.open(h2_get(&format!("https://{HOST}/events")), true);
        h2.block(async {
            let response = response.await.unwrap();
            if response.status() == 200 {
                return Ok(Stream { send, body: response.into_body() });
            }
            let (parts, mut body) = response.into_parts();
            while body.data().await.is_some() {}
            let (status, headers) = (parts.status.as_u16(), parts.headers);
            let (body, trailers) = (Vec::new(), None);
            Err(Box::new(H2Response { status, headers, body, trailers, error: None }))
        })
    }

    fn enter(h2: &H2) -> Stream {
        eventually("a place", || Stream::open(h2).ok())
    }

    fn reset(mut self, h2: &H2) {
        self.send.send_reset(Reason::CANCEL);
        drop(self.body);
        h2.run_for(std::time::Duration::from_millis(1));
    }
}

#[track_caller]
fn assert_full_h2(h2: &H2) {
    let refusal = Stream::open(h2).err().expect("one too many passes");
    refusal.assert_cause(429, "too_many_streams (few)");
    assert_eq!(refusal.header("retry-after"), "1");
}

#[test]
fn event_streams_on_http2() {
    let (edge, site) = start(TWO);
    let h2 = H2::connect(&edge.tls(), HOST);
    let (one, mut two) = (Stream::open(&h2).unwrap(), Stream::open(&h2).unwrap());
    assert_full_h2(&h2);
    // Other connections of the client count as well.
    assert_full(&edge);
    assert_eq!(edge.metric(OPEN), 2.0);
    one.reset(&h2);
    let three = Stream::enter(&h2);
    assert_full_h2(&h2);
    // The endpoints' streams of the two that are left; that of the first was cancelled.
    wait_until("the cancelled stream to end upstream", || site.event("go on") == 2);
    let data = h2.block(two.body.data()).unwrap().unwrap();
    assert!(data.starts_with(b"data: go on\n\n"), "{data:?}");
    three.reset(&h2);
    two.reset(&h2);
    assert_free(&edge, 2);

    // The endpoint ends them.
    let mut ended = [Stream::enter(&h2), Stream::enter(&h2)];
    site.end_events();
    for stream in &mut ended {
        while h2.block(stream.body.data()).is_some() {}
    }
    assert_free(&edge, 2);

    // The connection goes with its streams.
    let _gone = [Stream::enter(&h2), Stream::enter(&h2)];
    assert_full_h2(&h2);
    drop(h2);
    assert_free(&edge, 2);
}

#[test]
fn websockets_on_http1() {
    let (edge, _site) = start(TWO);
    let open = || {
        let mut client = edge.client();
        ws::open(&mut client, HOST, "/ws");
        client
    };
    let (mut one, mut two) = (open(), open());
    let mut third = edge.client();
    third.send(ws::opening(HOST, "/ws", ""));
    third.response().assert_cause(429, "too_many_streams (few)");
    // The connection can still be used when there is room.
    drop(one);
    eventually("a place", || {
        third.send(ws::opening(HOST, "/ws", ""));
        (third.response().status == 101).then_some(())
    });
    third.ws_echo("in");
    two.ws_echo("still");
    assert_full(&edge);
    two.wire.reset_on_close();
    drop(two);
    one = eventually("a place", || {
        let mut client = edge.client();
        client.send(ws::opening(HOST, "/ws", ""));
        (client.response().status == 101).then_some(client)
    });
    assert_full(&edge);
    drop((one, third));
    assert_free(&edge, 2);
}

#[test]
fn websockets_on_http2() {
    let (edge, _site) = start(TWO);
    let h2 = H2::connect(&edge.tls(), HOST);
    wait_until("SETTINGS that announce RFC 8441", || {
        h2.run_for(std::time::Duration::from_millis(1));
        h2.send.is_extended_connect_protocol_enabled()
    });
    let open = || {
        let request = Request::connect(format!("https://{HOST}/ws"))
            .extension(h2::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(());
        let (response, send) = h2.open(request.unwrap(), false);
        let response = h2.block(response).unwrap();
        (response.status().as_u16(), Stream { send, body: response.into_body() })
    };
    let (mut one, mut two) = (open(), open());
    assert_eq!((one.0, two.0), (200, 200));
    assert_eq!(open().0, 429);
    assert_full(&edge);
    for (_, stream) in [&mut one, &mut two] {
        let frame = ws::encode(ws::TEXT, b"still", true);
        stream.send.send_data(Bytes::from(frame), false).unwrap();
        let data = h2.block(stream.body.data()).unwrap().unwrap();
        assert_eq!(data, ws::encode(ws::TEXT, b"still", false));
    }
    one.1.reset(&h2);
    let three = eventually("a place", || {
        let (status, stream) = open();
        (status == 200).then_some(stream)
    });
    assert_full(&edge);
    // An orderly end of both directions, and a reset.
    two.1.send.send_data(Bytes::new(), true).unwrap();
    h2.block(async { while two.1.body.data().await.is_some_and(|data| data.is_ok()) {} });
    three.reset(&h2);
    assert_free(&edge, 2);
}

/// Sends the head and one event, then resets or closes in the middle; or never answers.
fn failing() -> Backend {
    Backend::script(|peer| {
        let Some(request) = peer.request() else { return };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
            Transfer-Encoding: chunked\r\n\r\n";
        match request.target() {
            "/reset" => {
                peer.send(format!("{head}9\r\ndata: 1\n\n\r\n"));
                peer.wire.reset_on_close();
            }
            "/close" => peer.send(format!("{head}9\r\ndata: 1\n\n\r\n")),
            "/garbage" => peer.send("garbage\r\n\r\n"),
            "/nothing" => peer.wire.reset_on_close(),
            "/silent" => peer.wait_end(),
            _ => {
                peer.send(head);
                peer.wait_end();
            }
        }
    })
}

#[test]
fn places_come_back_from_failures() {
    let backend = failing();
    let edge = Edge::start(&limited(&backend, TWO));
    for path in ["/reset", "/close", "/garbage", "/nothing"] {
        for _ in 0..4 {
            let mut client = edge.client();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
            let answer = client.response_to("GET");
            let status = answer.map_or(0, |answer| answer.status);
            assert!(status != 429, "{path}");
            wait_until("the place to come back", || edge.metric(OPEN) == 0.0);
        }
        assert_free(&edge, 2);
    }
}

#[test]
fn places_come_back_from_failures_on_http2() {
    let backend = failing();
    let edge = Edge::start(&limited(&backend, TWO));
    let h2 = H2::connect(&edge.tls(), HOST);
    for path in ["/reset", "/close", "/garbage", "/nothing"] {
        for _ in 0..4 {
            let (response, _send) = h2.open(h2_get(&format!("https://{HOST}{path}")), true);
            let status = h2.block(finish(response)).map_or(0, |answer| answer.status);
            assert!(status != 429, "{path}");
            h2.block(async {});
            wait_until("the place to come back", || edge.metric(OPEN) == 0.0);
        }
        assert_free(&edge, 2);
    }
}

/// Clients that go before there is an answer.
#[test]
fn places_come_back_from_clients_that_do_not_wait() {
    let backend = failing();
    let edge = Edge::start(&limited(&backend, TWO));
    let h2 = H2::connect(&edge.tls(), HOST);
    for n in 0..3 {
        let mut client = edge.client();
        client.send(format!("GET /silent HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        let (response, mut send) = h2.open(h2_get(&format!("https://{HOST}/silent")), true);
        h2.block(async {});
        wait_until("both to count", || {
            h2.run_for(std::time::Duration::from_millis(1));
            edge.metric(OPEN) == 2.0
        });
        assert_full(&edge);
        if n == 1 {
            client.wire.reset_on_close();
        }
        drop(client);
        send.send_reset(Reason::CANCEL);
        drop(response);
        h2.run_for(std::time::Duration::from_millis(1));
        assert_free(&edge, 2);
    }
    assert_ne!(backend.wait_end(0), End::Timeout);
}

/// A client that asks one after the other is one at a time, on any connection.
#[test]
fn one_after_the_other_is_one_at_a_time() {
    let backend = Backend::ok();
    let edge = Edge::start(&limited(&backend, "{ name: one, key: client_ip, concurrent: 1 }"));
    let mut client = edge.client();
    let h2 = H2::connect(&edge.tls(), HOST);
    for n in 0..100 {
        get(&mut client, "/", "").assert_ok("ok");
        let answer = h2.get(&format!("https://{HOST}/"));
        assert_eq!(answer.status, 200, "{n}: {answer:?}");
        if n % 10 == 0 {
            edge.client().get(HOST, "/").assert_ok("ok");
        }
    }
}

/// What the first limit has given comes back where the second refuses.
#[test]
fn a_refusal_gives_back_what_others_gave() {
    let backend = Backend::ok();
    let limits = format!("{TWO}, {{ name: none, key: route, rate: 1/h, burst: 1 }}");
    let edge = Edge::start(&limited(&backend, &limits));
    let mut client = edge.client();
    get(&mut client, "/", "").assert_ok("ok");
    for _ in 0..5 {
        get(&mut client, "/", "").assert_cause(429, "rate_limited (none)");
    }
    wait_until("the places to come back", || edge.metric(OPEN) == 0.0);
}

/// A key has its own places.
#[test]
fn other_keys_have_their_own_places() {
    let (edge, site) = start("{ name: few, key: \"header:authorization\", concurrent: 1 }");
    let open = |who: &str| {
        let mut client = edge.client();
        client.send(format!(
            "GET /events HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {who}\r\n\r\n"
        ));
        let status = client.wire.head().unwrap().status();
        (status, client)
    };
    let (one, other) = (open("one"), open("other"));
    assert_eq!((one.0, other.0), (200, 200));
    assert_eq!((open("one").0, open("other").0), (429, 429));
    drop(one);
    let again = eventually("a place", || Some(open("one")).filter(|(status, _)| *status == 200));
    assert_eq!((open("one").0, open("other").0), (429, 429));
    drop((other, again));
    site.end_events();
    wait_until("the places to come back", || edge.metric(OPEN) == 0.0);
}

/// A dry run of places counts those that are one too many.
#[test]
fn a_dry_run_of_places() {
    let (edge, _site) = start("{ name: few, key: client_ip, concurrent: 1, dry_run: true }");
    let streams: Vec<Client> = (0..3).map(|_| events(edge.client()).unwrap()).collect();
    drop(streams);
    wait_until("three lines", || edge.access_log().len() == 3);
    let told = edge.access_log().iter().filter(|line| line["limit_dry_run"] == "few").count();
    assert_eq!(told, 2, "{:?}", edge.access_log());
}
