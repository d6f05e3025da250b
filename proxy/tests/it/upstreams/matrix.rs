//! The protocol matrix: what a client speaks × what an upstream speaks × what passes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Version};
use tonic::{Code, Request as Call};

use crate::harness::grpc::{Grpc, Text};
use crate::harness::h2c::{H2, finish, get, post};
use crate::harness::pki::Pki;
use crate::harness::site::Site;
use crate::harness::wire::Framing;
use crate::harness::{Client, Conf, Edge, Lab, Tls, wait_until, ws};

/// Name (also the host's first label), HTTP/2, TLS.
const UPSTREAMS: [(&str, bool, bool); 4] =
    [("h1", false, false), ("h1tls", false, true), ("h2c", true, false), ("h2tls", true, true)];

/// One site for each kind of upstream, and the edge before them.
struct Matrix {
    sites: [Site; 4],
    edge: Edge,
}

impl Matrix {
    fn start() -> Matrix {
        let lab = Lab::new();
        let pki = Pki::new(&lab, "upstream-ca");
        let leaf = pki.leaf(&["127.0.0.1", "backend.openclaw.example"]);
        let sites = UPSTREAMS.map(|(_, h2, tls)| match (tls, h2) {
            (false, _) => Site::plain(),
            (true, true) => Site::tls(pki.server(&leaf, &["h2"], None)),
            (true, false) => Site::tls(pki.server(&leaf, &["http/1.1"], None)),
        });
        let (mut upstreams, mut routes) = (String::new(), String::new());
        for ((name, h2, tls), site) in UPSTREAMS.iter().zip(&sites) {
            let protocol = if *h2 { "http2" } else { "http1" };
            let tls = match tls {
                true => format!(", tls: {{ ca: {} }}", pki.ca.display()),
                false => String::new(),
            };
            upstreams += &format!(
                "  {name}: {{ endpoints: [\"{}\"], protocol: {protocol}{tls} }}\n",
                site.addr
            );
            routes +=
                &format!("  {name}: {{ hosts: [{name}.openclaw.example], upstream: {name} }}\n");
        }
        let conf = Conf::new(format!("upstreams:\n{upstreams}routes:\n{routes}"));
        Matrix { edge: Edge::start_in(&lab, &conf), sites }
    }

    /// Runs `cell` for each upstream; a failure names it.
    fn each(cell: impl Fn(&Matrix, &str, &Site)) {
        let matrix = Matrix::start();
        for ((name, h2, _), site) in UPSTREAMS.iter().zip(&matrix.sites) {
            eprintln!("upstream {name}");
            cell(&matrix, &format!("{name}.openclaw.example"), site);
            let version = if *h2 { Version::HTTP_2 } else { Version::HTTP_11 };
            assert_eq!(site.last().version, version, "{name}");
        }
    }

    /// Those that can carry gRPC.
    fn each_h2(cell: impl Fn(&Grpc, &Site)) {
        let matrix = Matrix::start();
        for ((name, _, _), site) in UPSTREAMS.iter().zip(&matrix.sites).filter(|(u, _)| u.1) {
            eprintln!("upstream {name}");
            let host = format!("{name}.openclaw.example");
            cell(&Grpc::connect(matrix.edge.https, &matrix.edge.ca(), &host), site);
        }
    }

    fn h1(&self, host: &str) -> Client {
        self.edge.tls_client(host)
    }

    fn h2(&self, host: &str) -> H2 {
        H2::connect(&self.edge.tls(), host)
    }
}

// === GET ===

#[test]
fn h1_get() {
    Matrix::each(|matrix, host, site| {
        let mut client = matrix.h1(host);
        // The second on the connections of the first.
        for _ in 0..2 {
            client.get(host, "/hello?x=1").assert_ok("hello");
        }
        assert_eq!(site.connections(), 1);
        assert_eq!(site.last().uri.path_and_query().unwrap(), "/hello?x=1");
        carries_the_host(site, host);
    });
}

#[test]
fn h2_get() {
    Matrix::each(|matrix, host, site| {
        let client = matrix.h2(host);
        for _ in 0..2 {
            let answer = client.get(&format!("https://{host}/hello?x=1"));
            assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        }
        assert_eq!(site.connections(), 1);
        carries_the_host(site, host);
    });
}

#[test]
fn h2_many_at_once() {
    Matrix::each(|matrix, host, _| {
        let client = matrix.h2(host);
        let url = format!("https://{host}/hello");
        // More than the first settings allow may wait; none fails.
        let open: Vec<_> = (0..30).map(|_| client.open(get(&url), true).0).collect();
        for response in open {
            assert_eq!(client.block(finish(response)).unwrap().status, 200);
        }
    });
}

/// The client's host, in the place where the protocol has it, and no identity of the client's own.
fn carries_the_host(site: &Site, host: &str) {
    let last = site.last();
    let told = last.uri.authority().map(ToString::to_string);
    let field = last.headers.get("host").map(|v| v.to_str().unwrap().to_owned());
    assert_eq!(told.or(field).as_deref(), Some(host), "{last:?}");
    assert_eq!(last.headers["x-forwarded-host"], host, "{last:?}");
    assert_eq!(last.headers["x-forwarded-proto"], "https", "{last:?}");
}

// === uploads, with trailers ===

/// More than every window on the way.
const LARGE: usize = 3 * 1024 * 1024;

#[test]
fn h1_upload() {
    Matrix::each(|matrix, host, _| {
        let mut client = matrix.h1(host);
        let head = format!("POST /count HTTP/1.1\r\nHost: {host}\r\n");
        client.send(format!("{head}Content-Length: {LARGE}\r\n\r\n"));
        client.send(vec![b'x'; LARGE]);
        client.response().assert_ok(&LARGE.to_string());
        client.send(format!("{head}Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"));
        client.send("5\r\nhello\r\n");
        client.send("0\r\nx-sum: 5\r\n\r\n");
        let response = client.response();
        response.assert_ok("5");
        assert_eq!(response.header("x-trailed"), Some("5"), "{response:?}");
    });
}

#[test]
fn h2_upload() {
    Matrix::each(|matrix, host, _| {
        let client = matrix.h2(host);
        let url = format!("https://{host}/count");
        let answer = client.exchange(post(&url), &vec![b'x'; LARGE]).unwrap();
        assert_eq!((answer.status, answer.text()), (200, LARGE.to_string()));
        let (response, mut stream) = client.open(post(&url), false);
        stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
        stream.send_trailers(sum("5")).unwrap();
        let answer = client.block(finish(response)).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "5"));
        assert_eq!(answer.header("x-trailed"), "5", "{answer:?}");
    });
}

#[test]
fn h1_echo() {
    Matrix::each(|matrix, host, site| {
        let mut client = matrix.h1(host);
        client.send(format!(
            "POST /echo HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\nConnection: TE\r\n\
             Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
        ));
        let head = client.wire.head().unwrap();
        assert_eq!(head.status(), 200, "the head comes before the body is sent: {head:?}");
        client.send("5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n");
        let body = client.wire.body(Framing::of(&head, Framing::UntilClose).unwrap());
        assert_eq!((body.bytes.as_slice(), body.cut), (&b"hello"[..], None));
        if site.last().version == Version::HTTP_2 {
            assert_eq!(body.trailers, [("x-sum".to_owned(), "5".to_owned())]);
        }
    });
}

#[test]
fn h2_echo() {
    Matrix::each(|matrix, host, site| {
        let client = matrix.h2(host);
        let (response, mut stream) = client.open(post(&format!("https://{host}/echo")), false);
        let (parts, mut body) = client.block(response).unwrap().into_parts();
        assert_eq!(parts.status, 200, "the head comes before the body is sent");
        for piece in ["one", "two"] {
            stream.send_data(Bytes::from(piece), false).unwrap();
            let got = data(&client, &mut body).expect("the stream ended");
            assert_eq!(got, piece);
            body.flow_control().release_capacity(got.len()).unwrap();
        }
        stream.send_trailers(sum("6")).unwrap();
        assert_eq!(data(&client, &mut body), None);
        let trailers = client.block(body.trailers()).unwrap();
        if site.last().version == Version::HTTP_2 {
            assert_eq!(trailers.unwrap()["x-sum"], "6");
        }
    });
}

/// The next bytes: the end may come as a frame without any.
fn data(client: &H2, body: &mut h2::RecvStream) -> Option<Bytes> {
    loop {
        let data = client.block(body.data())?.unwrap();
        if !data.is_empty() {
            return Some(data);
        }
    }
}

fn sum(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), value.parse().unwrap())])
}

// === event streams ===

/// Sends an event once a stream is there to take it.
fn event(site: &Site, text: &str) {
    wait_until("an event stream", || site.event(text) > 0);
}

#[test]
fn h1_events() {
    Matrix::each(|matrix, host, site| {
        let mut client = matrix.h1(host);
        client.send(format!("GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        for n in 0..5 {
            event(site, &n.to_string());
            client.wire.until(format!("data: {n}\n\n").as_bytes()).unwrap();
        }
        site.end_events();
        // Its end is an end, not a cut.
        client.wire.until(b"0\r\n\r\n").unwrap();
        client.assert_usable(host);
    });
}

#[test]
fn h2_events() {
    Matrix::each(|matrix, host, site| {
        let client = matrix.h2(host);
        let (response, _) = client.open(get(&format!("https://{host}/events")), true);
        let mut body = client.block(response).unwrap().into_body();
        for n in 0..5 {
            event(site, &n.to_string());
            let got = data(&client, &mut body).expect("the stream ended");
            assert_eq!(got, format!("data: {n}\n\n"));
        }
        site.end_events();
        assert_eq!(data(&client, &mut body), None);
    });
}

// === WebSocket ===

#[test]
fn h1_websocket() {
    let matrix = Matrix::start();
    for ((name, _, _), site) in UPSTREAMS.iter().zip(&matrix.sites) {
        eprintln!("upstream {name}");
        let host = format!("{name}.openclaw.example");
        let mut client = matrix.h1(&host);
        ws::open(&mut client, &host, "/ws");
        client.ws_echo("one");
        client.ws_echo("two");
        assert_eq!(site.last().uri.path(), "/ws");
    }
}

#[test]
fn h2_websocket() {
    let matrix = Matrix::start();
    for ((name, _, _), site) in UPSTREAMS.iter().zip(&matrix.sites) {
        eprintln!("upstream {name}");
        let client = matrix.h2(&format!("{name}.openclaw.example"));
        client.run_for(Duration::from_millis(100));
        let request = http::Request::connect(format!("https://{name}.openclaw.example/ws"))
            .extension(h2::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(());
        let (response, mut stream) = client.open(request.unwrap(), false);
        let (parts, mut body) = client.block(response).unwrap().into_parts();
        assert_eq!(parts.status, 200);
        for text in ["one", "two"] {
            let frame = ws::encode(ws::TEXT, text.as_bytes(), true);
            stream.send_data(Bytes::from(frame), false).unwrap();
            let wanted = ws::encode(ws::TEXT, text.as_bytes(), false);
            let mut got = Vec::new();
            while got.len() < wanted.len() {
                got.extend(client.block(body.data()).expect("the tunnel ended").unwrap());
            }
            assert_eq!(got, wanted);
        }
        assert_eq!(site.last().uri.path(), "/ws");
    }
}

// === gRPC ===

#[test]
fn grpc_unary() {
    Matrix::each_h2(|client, site| {
        let mut call = Call::new(Text::new("hello", 7));
        call.metadata_mut().insert("x-call", "mine".parse().unwrap());
        let answer = client.unary("Unary", call).unwrap();
        assert_eq!(answer.metadata().get("x-call").unwrap(), "mine");
        assert_eq!(answer.into_inner(), Text::new("hello", 7));
        let last = site.last();
        assert_eq!(last.headers["te"], "trailers", "{last:?}");
        assert_eq!(last.headers["content-type"], "application/grpc", "{last:?}");
    });
}

#[test]
fn grpc_status_and_its_metadata() {
    Matrix::each_h2(|client, _| {
        let call = Call::new(Text::new("no: \"that\" ä", 9));
        let status = client.unary("Fail", call).unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "no: \"that\" ä");
        assert_eq!(status.metadata().get("x-detail").unwrap(), "told");
        let status = client.unary("Missing", Call::new(Text::default())).unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
    });
}

#[test]
fn grpc_streams() {
    Matrix::each_h2(|client, _| {
        let counted = client.count("n", 500).unwrap();
        assert_eq!(counted.len(), 500);
        assert!(counted.iter().zip(1..).all(|(message, n)| message.number == n));
        let sum = client.sum((1..=100).map(|n| Text::new("x", n)).collect()).unwrap();
        assert_eq!((sum.number, sum.text.len()), (5050, 100));
        let words: Vec<Text> = (0..20).map(|n| Text::new("word", n)).collect();
        let answers = client.chat(&words).unwrap();
        assert_eq!(answers.len(), 20);
        assert!(answers.iter().all(|answer| answer.text == "WORD"), "{answers:?}");
        let status = client.chat(&[Text::new("a", 1), Text::new("fail", 2)]).unwrap_err();
        assert_eq!(status.code(), Code::DataLoss);
        assert_eq!(status.message(), "as asked, in the middle");
    });
}

#[test]
fn grpc_cancelled_by_its_caller() {
    Matrix::each_h2(|client, site| {
        client.give_up("Hang", Duration::from_millis(300));
        let left = Instant::now();
        let cancelled = &site.seen.calls.cancelled;
        wait_until("the backend to be told", || cancelled.load(Ordering::SeqCst) == 1);
        assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
        // The connection to the upstream lives on.
        client.unary("Unary", Call::new(Text::new("after", 1))).unwrap();
        assert_eq!(site.connections(), 1);
    });
}

/// One gRPC message without content.
const EMPTY: [u8; 5] = [0; 5];

#[test]
fn the_edge_keeps_a_grpc_deadline() {
    let matrix = Matrix::start();
    for ((name, _, _), site) in UPSTREAMS.iter().zip(&matrix.sites).filter(|(u, _)| u.1) {
        eprintln!("upstream {name}");
        // h2 itself, not tonic: that one would end the call by itself.
        let client = matrix.h2(&format!("{name}.openclaw.example"));
        let request =
            http::Request::post(format!("https://{name}.openclaw.example/test.Echo/Hang"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("grpc-timeout", "400m")
                .body(());
        let start = Instant::now();
        let answer = client.exchange(request.unwrap(), &EMPTY).unwrap();
        let status = answer
            .headers
            .get("grpc-status")
            .or_else(|| answer.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status")));
        assert_eq!(status.unwrap(), "4", "{answer:?}");
        assert_eq!(answer.status, 200);
        let took = start.elapsed();
        let expected = Duration::from_millis(300)..Duration::from_millis(1500);
        assert!(expected.contains(&took), "{took:?}");
        let cancelled = &site.seen.calls.cancelled;
        wait_until("the backend to be told", || cancelled.load(Ordering::SeqCst) == 1);
    }
}

#[test]
fn grpc_without_a_backend_is_unavailable() {
    let lab = Lab::new();
    let dead = crate::harness::backend::refusing();
    let conf =
        Conf::host("grpc.openclaw.example", &[dead], "protocol: http2, queue: { size: 0 }", "");
    let edge = Arc::new(Edge::start_in(&lab, &conf));
    let client = Grpc::connect(edge.https, &edge.ca(), "grpc.openclaw.example");
    let status = client.unary("Unary", Call::new(Text::default())).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

// === without an edge ===

/// What fails above fails in the edge.
#[test]
fn clients_and_sites_understand_each_other() {
    let lab = Lab::new();
    let pki = Pki::new(&lab, "upstream-ca");
    let host = "backend.openclaw.example";
    let leaf = pki.leaf(&[host]);
    let site = Site::tls(pki.server(&leaf, &["h2", "http/1.1"], None));
    let tls = Tls::new(site.addr, &pki.ca);
    let mut h1 = tls.connect(host);
    h1.get(host, "/hello").assert_ok("hello");
    ws::open(&mut h1, host, "/ws");
    h1.ws_echo("one");
    let h2 = H2::connect(&tls, host);
    let (response, mut stream) = h2.open(post(&format!("https://{host}/echo")), false);
    stream.send_trailers(sum("0")).unwrap();
    assert_eq!(h2.block(finish(response)).unwrap().trailers.unwrap()["x-sum"], "0");
    let grpc = Grpc::connect(site.addr, &pki.ca, host);
    assert_eq!(grpc.unary("Unary", Call::new(Text::new("a", 1))).unwrap().into_inner().number, 1);
    assert_eq!(grpc.count("n", 3).unwrap().len(), 3);
    assert_eq!(grpc.sum(vec![Text::new("a", 1), Text::new("b", 2)]).unwrap(), Text::new("ab", 3));
    let chat = [Text::new("a", 1), Text::new("b", 2)];
    assert_eq!(grpc.chat(&chat).unwrap(), [Text::new("A", 1), Text::new("B", 2)]);
    grpc.give_up("Hang", Duration::from_millis(100));
    wait_until("the site to be told", || site.seen.calls.cancelled.load(Ordering::SeqCst) == 1);
}
