//! Exchanges that do not go as they should, on either side.

use std::time::{Duration, Instant};

use super::raw::{
    CANCEL, DATA, END_HEADERS, END_STREAM, Fields, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS, NO_ERROR, Outcome, PROTOCOL_ERROR, REFUSED_STREAM, Raw, SETTINGS,
    block, frame, request, reset, window_update,
};
use super::{assert_alive, assert_others_served, edge};
use crate::harness::backend::ok;
use crate::harness::wire::Framing;
use crate::harness::{Backend, Conf, Edge, End, eventually, wait_until};

/// The value of a setting that the edge announces.
pub fn announced(raw: &mut Raw, id: u16) -> Option<u32> {
    let settings = raw.wait(SETTINGS, 0).unwrap();
    let pair = settings.payload.chunks(6).find(|pair| pair[..2] == id.to_be_bytes());
    pair.map(|pair| u32::from_be_bytes(pair[2..].try_into().unwrap()))
}

#[test]
fn more_streams_than_announced_are_refused() {
    let backend = Backend::script(|peer| {
        while let Some(request) = peer.request() {
            if request.target() == "/" {
                peer.send(ok("ok"));
            }
        }
    });
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    assert_eq!(announced(&mut raw, MAX_CONCURRENT_STREAMS), Some(100));
    assert_alive(&mut raw);
    let streams: Vec<u32> = (0..110).map(|_| raw.get("/silent")).collect();
    for stream in &streams[100..] {
        assert_eq!(raw.answer(*stream).outcome, Outcome::Reset(REFUSED_STREAM));
    }
    backend.wait_requests(101);
    assert_eq!(backend.requests().len(), 101);
    for stream in &streams[..100] {
        raw.send(reset(*stream, CANCEL));
    }
    wait_until("all to be cancelled", || backend.open() == 0);
}

#[test]
fn a_reset_cancels_the_upstream_within_a_second() {
    // Before the head, in the body, and in an upload.
    let backend = Backend::script(|peer| {
        let Some(head) = peer.head() else { return };
        if head.first.contains("/body") {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
        }
        peer.wait_end();
    });
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    for (n, (method, path)) in
        [("GET", "/"), ("GET", "/body"), ("POST", "/")].into_iter().enumerate()
    {
        let stream = raw.send_request(&request(method, path), method == "GET");
        if path == "/body" {
            raw.wait(DATA, stream).unwrap();
        }
        backend.connection(n);
        wait_until("the head at the backend", || !backend.bytes()[n].is_empty());
        let start = Instant::now();
        raw.send(reset(stream, CANCEL));
        assert_ne!(backend.wait_end(n), End::Timeout);
        assert!(start.elapsed() < Duration::from_secs(1), "{method} {path}: {:?}", start.elapsed());
    }
    eventually("three lines", || {
        let gone = edge.access_log().iter().filter(|l| l["cause"] == "client_gone").count();
        (gone == 3).then_some(())
    });
}

/// A reset is not the end of a body, whatever its code: hyper reads CANCEL and NO_ERROR as one.
#[test]
fn a_reset_upload_is_never_complete_upstream() {
    let backend = Backend::silent();
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    for (n, code) in [NO_ERROR, CANCEL, REFUSED_STREAM, PROTOCOL_ERROR].into_iter().enumerate() {
        let stream = raw.send_request(&request("POST", "/"), false);
        raw.data(stream, b"some", false);
        let seen = backend.connection(n);
        let data = |bytes: &[u8]| bytes.windows(4).any(|w| w == b"some");
        wait_until("the data at the backend", || data(&seen.bytes.lock().unwrap()));
        raw.send(reset(stream, code));
        assert_ne!(backend.wait_end(n), End::Timeout);
        let requests = seen.requests.lock().unwrap();
        assert!(requests.iter().all(|r| r.body.cut.is_some()), "code {code}: {requests:?}");
    }
}

#[test]
fn a_lost_connection_cancels_the_upstream() {
    let backend = Backend::silent();
    let edge = edge(&backend);
    for abort in [false, true] {
        let mut raw = Raw::connect(&edge);
        for _ in 0..10 {
            raw.get("/");
        }
        wait_until("ten requests", || backend.open() == 10);
        if abort {
            raw.wire.reset_on_close();
        }
        drop(raw);
        wait_until("all to be cancelled", || backend.open() == 0);
    }
    wait_until("nothing in flight", || edge.metric("edge_http_requests_in_flight") == 0.0);
}

/// Bodies that are not what `content-length` says (RFC 9113 §8.1.1).
#[test]
fn content_length_mismatches_never_complete_upstream() {
    let backend = Backend::silent();
    let edge = edge(&backend);
    for (what, length, body) in
        [("short", &b"10"[..], &b"abc"[..]), ("long", b"2", b"abc"), ("none", b"5", b"")]
    {
        let mut raw = Raw::connect(&edge);
        let fields = [request("POST", "/"), vec![("content-length", length)]].concat();
        let stream = raw.send_request(&fields, false);
        raw.data(stream, body, true);
        let answer = raw.answer(stream);
        let told = answer.status == 400;
        assert!(told || answer.outcome == Outcome::Reset(PROTOCOL_ERROR), "{what}: {answer:?}");
    }
    // END_STREAM on the head itself.
    let mut raw = Raw::connect(&edge);
    let fields = [request("POST", "/"), vec![("content-length", &b"5"[..])]].concat();
    let stream = raw.send_request(&fields, true);
    let answer = raw.answer(stream);
    assert!(answer.refused() || answer.status == 400, "{answer:?}");
    wait_until("backend connections to end", || backend.open() == 0);
    let complete = backend.requests().into_iter().filter(|r| r.body.cut.is_none()).count();
    assert_eq!(complete, 0, "{:?}", backend.requests());
}

#[test]
fn cut_answers_are_never_complete() {
    let heads = [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n",
    ];
    for head in heads {
        let backend = Backend::then_close(head);
        let edge = edge(&backend);
        let mut raw = Raw::connect(&edge);
        let stream = raw.get("/");
        let answer = raw.answer(stream);
        let told = answer.outcome == Outcome::Complete && answer.status == 502;
        let cut = matches!(answer.outcome, Outcome::Reset(code) if code != 0);
        assert!(told || cut, "{head:?}: {answer:?}");
        let results =
            |result| edge.metric(&format!("edge_upstream_requests_total{{result=\"{result}\"}}"));
        let failed = || results("upstream_closed") + results("upstream_protocol");
        wait_until("the attempt to count as failed", || failed() == 1.0);
        assert_eq!((results("ok"), edge.metric("edge_upstream_cancelled_total")), (0.0, 0.0));
        let stream = raw.get("/");
        assert_ne!(raw.answer(stream).outcome, Outcome::Lost(End::Closed), "only the stream ends");
    }
}

#[test]
fn answers_that_are_no_http_are_502() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 999999 OK\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
    ] {
        let backend = Backend::once(answer);
        let edge = edge(&backend);
        let mut raw = Raw::connect(&edge);
        let stream = raw.get("/");
        let got = raw.answer(stream);
        assert_eq!((got.status, got.outcome), (502, Outcome::Complete), "{answer:?}: {got:?}");
        edge.wait_log("cause", "upstream_protocol");
        assert_ne!(backend.wait_end(0), End::Timeout);
    }
}

/// Interim answers do not reach HTTP/2 clients and do no harm.
#[test]
fn interim_answers_are_swallowed_and_bounded() {
    let backend = Backend::canned(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    assert_alive(&mut raw);
    let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000);
    let backend = Backend::once(flood);
    let edge = super::edge(&backend);
    let mut raw = Raw::connect(&edge);
    let stream = raw.get("/");
    assert_eq!(raw.answer(stream).status, 502);
}

#[test]
fn an_early_answer_while_the_upload_goes_on() {
    let backend = Backend::script(|peer| {
        if peer.head().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
            peer.wait_end();
        }
    });
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let stream = raw.send_request(&request("POST", "/"), false);
    raw.data(stream, [b'x'; 1000], false);
    let answer = raw.answer(stream);
    assert_eq!((answer.status, answer.outcome), (200, Outcome::Complete));
    assert_eq!(answer.body, b"early");
    // The rest of the upload, sent before the client could know, harms nobody.
    for _ in 0..20 {
        raw.data(stream, [b'x'; 10_000], false);
    }
    raw.send(reset(stream, CANCEL));
    assert_ne!(backend.wait_end(0), End::Timeout);
    let stream = raw.get("/");
    assert_eq!(raw.answer(stream).body, b"early");
}

#[test]
fn trailers_pass_both_ways() {
    let backend = Backend::canned(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
    );
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let stream = raw.send_request(&request("POST", "/"), false);
    raw.data(stream, b"up", false);
    let lines: [(&str, &[u8]); 4] =
        [(":path", b"/x"), ("x-sum", b"2"), ("content-length", b"9"), ("x-real-ip", b"192.0.2.9")];
    raw.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block(&lines)));
    let answer = raw.answer(stream);
    assert_eq!((answer.status, answer.outcome, answer.trailers), (200, Outcome::Complete, true));
    let request = backend.only();
    assert_eq!(request.framing, Framing::Chunked);
    assert_eq!(request.body.trailers, [("x-sum".to_owned(), "2".to_owned())]);
}

/// Trailers must end their stream. Pseudo-header fields among them are malformed too; h2 drops
/// them, see `trailers_pass_both_ways`.
#[test]
fn malformed_trailers_never_complete_a_request() {
    let backend = Backend::silent();
    let edge = edge(&backend);
    let cases: [(&str, u8, Fields<'_>); 2] = [
        ("no END_STREAM", END_HEADERS, vec![("a", b"b")]),
        ("connection", END_HEADERS | END_STREAM, vec![("connection", b"close")]),
    ];
    for (what, flags, fields) in cases {
        let mut raw = Raw::connect(&edge);
        let stream = raw.send_request(&request("POST", "/"), false);
        raw.data(stream, b"up", false);
        raw.send(frame(HEADERS, flags, stream, block(&fields)));
        let answer = raw.answer(stream);
        assert!(answer.refused() || answer.status == 400, "{what}: {answer:?}");
    }
    wait_until("backend connections to end", || backend.open() == 0);
    assert!(backend.requests().iter().all(|r| r.body.cut.is_some()), "{:?}", backend.requests());
}

/// Hosts of another certificate on a connection: 421, and those of this one go on.
#[test]
fn hosts_of_other_certificates_are_misdirected() {
    let backend = Backend::named("app");
    let edge = Edge::start(&Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  app: {{ hosts: [app.openclaw.example], upstream: app }}\n  \
         api: {{ hosts: [api.openclaw.example], upstream: app }}\n",
        backend.addr
    )));
    let mut raw = Raw::connect(&edge);
    let mut fields = request("GET", "/");
    for (host, status) in [
        (&b"api.openclaw.example"[..], 421),
        (b"nowhere.openclaw.example", 421),
        (b"APP.openclaw.example:443", 200),
    ] {
        fields[2].1 = host;
        let stream = raw.send_request(&fields, true);
        assert_eq!(raw.answer(stream).status, status, "{}", String::from_utf8_lossy(host));
    }
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn a_drain_lets_requests_finish() {
    let (answer, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::script(move |peer| {
        while peer.request().is_some() {
            let _ = wait.lock().unwrap().recv();
            peer.send(ok("late"));
        }
    });
    let mut edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    let stream = raw.get("/");
    backend.wait_requests(1);
    edge.sigterm();
    let goaway = raw.wait(GOAWAY, 0).unwrap();
    assert_eq!((goaway.code(), &goaway.payload[..4]), (0, &[0x7f, 0xff, 0xff, 0xff][..]));
    // The second GOAWAY names the last stream that is served (RFC 9113 §6.8).
    let goaway = raw.wait(GOAWAY, 0).unwrap();
    assert_eq!(goaway.payload[..4], stream.to_be_bytes());
    answer.send(()).unwrap();
    let answer = raw.answer(stream);
    assert_eq!((answer.status, answer.outcome), (200, Outcome::Complete));
    let (took, codes) = raw.wait_closed();
    assert!(took < Duration::from_secs(2) && codes.iter().all(|c| *c == 0), "{took:?} {codes:?}");
    assert!(edge.wait_exit().success());
}

/// A client that takes no notice of GOAWAY, not even of the PING after it, may open streams for a
/// while; those that it has are served.
#[test]
fn streams_long_after_goaway_are_refused() {
    let (answer, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::script(move |peer| {
        while let Some(request) = peer.request() {
            if request.target() == "/slow" {
                let _ = wait.lock().unwrap().recv();
            }
            peer.send(ok("ok"));
        }
    });
    let edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    assert_alive(&mut raw);
    raw.acknowledges = false;
    let slow = raw.get("/slow");
    backend.wait_requests(2);
    edge.sigterm();
    raw.wait(GOAWAY, 0).unwrap();
    let start = Instant::now();
    let refused = eventually("a refusal", || {
        let stream = raw.get("/");
        Some(raw.answer(stream).outcome).filter(|outcome| *outcome != Outcome::Complete)
    });
    assert_eq!(refused, Outcome::Reset(REFUSED_STREAM));
    let took = start.elapsed();
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(8), "after {took:?}");
    answer.send(()).unwrap();
    let answer = raw.answer(slow);
    assert_eq!((answer.status, answer.outcome), (200, Outcome::Complete));
}

#[test]
fn a_drain_waits_for_nobody_who_is_idle() {
    let backend = Backend::ok();
    let mut edge = edge(&backend);
    let mut raw = Raw::connect(&edge);
    assert_alive(&mut raw);
    assert_others_served(&edge);
    edge.sigterm();
    let start = Instant::now();
    raw.wait_closed();
    assert!(edge.wait_exit().success());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// Whatever windows and frames a client offers, the codec is fed in bounded pieces.
#[test]
fn a_large_answer_comes_in_bounded_frames() {
    const MAX_FRAME_SIZE: u16 = 5;
    let edge = Edge::start(&Conf::app(&[Backend::real()]));
    let offers = [(INITIAL_WINDOW_SIZE, 0x7fff_ffff), (MAX_FRAME_SIZE, 0xff_ffff)];
    let mut raw = Raw::connect_with(&edge, &offers);
    raw.send(window_update(0, 1 << 30));
    let stream = raw.get("/bytes/4000000");
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 4_000_000 {
        sizes.push(raw.wait(DATA, stream).unwrap().payload.len());
    }
    assert!(sizes.iter().all(|size| *size <= 32 * 1024), "{:?}", sizes.iter().max());
}
