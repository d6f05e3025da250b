//! HTTP/2 clients: the same rules as HTTP/1.1, on streams.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};

use crate::harness::backend::ok;
use crate::harness::h2c::{H2, exchange, finish, get, post, push};
use crate::harness::wire::Framing;
use crate::harness::{Backend, Conf, Edge, End, wait_until};

const URL: &str = "https://app.openclaw.example/";

fn app(backend: &Backend) -> (Edge, H2) {
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    (edge, h2)
}

#[test]
fn a_request_and_its_fields() {
    let backend = Backend::canned(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Secret\r\nX-Secret: 1\r\nServer: b\r\n\
         Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 5\r\n\r\nhello",
    );
    let (edge, h2) = app(&backend);
    let request = Request::get("https://app.openclaw.example/a/b?c=d")
        .header("x-forwarded-for", "192.0.2.6")
        .header("accept", "x")
        .body(());
    let response = h2.exchange(request.unwrap(), b"").unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert!(!response.headers.contains_key("connection"));
    assert!(!response.headers.contains_key("x-secret"));
    assert_eq!(response.headers.get_all("set-cookie").iter().count(), 2);
    assert_eq!(response.header("server"), "b");
    let request = backend.only();
    assert_eq!(request.head.first, "GET /a/b?c=d HTTP/1.1");
    assert_eq!(request.field("host"), "app.openclaw.example");
    assert_eq!(request.field("x-forwarded-for"), "127.0.0.1");
    assert_eq!(request.field("x-forwarded-proto"), "https");
    assert_eq!(request.framing, Framing::Length(0));
    let line = edge.wait_log("request_id", request.field("x-request-id"));
    assert!(line["protocol"].as_str().unwrap().contains('2'), "{line}");
}

#[test]
fn many_streams_share_few_upstream_connections() {
    let backend = Backend::script(|peer| {
        while let Some(request) = peer.request() {
            peer.send(ok(request.target()));
        }
    });
    let (_edge, h2) = app(&backend);
    // The first answer lifts the limit on streams.
    assert_eq!(h2.get(URL).status, 200);
    h2.block(async {
        let mut running = tokio::task::JoinSet::new();
        for n in 0..300 {
            let send = h2.send.clone();
            running.spawn(async move {
                let url = format!("https://app.openclaw.example/{n}");
                (n, exchange(send, get(&url), b"").await.unwrap())
            });
        }
        while let Some(done) = running.join_next().await {
            let (n, response) = done.unwrap();
            assert_eq!(response.text(), format!("/{n}"));
        }
    });
    assert_eq!(backend.requests().len(), 301);
    assert!(backend.connections() <= 110, "{}", backend.connections());
}

#[test]
fn uploads_with_and_without_length() {
    let edge = Edge::start(&Conf::app(&[Backend::real()]));
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    let data: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[1]).collect();
    let response = h2.exchange(post("https://app.openclaw.example/echo"), &data).unwrap();
    assert!(response.error.is_none() && response.body == data);
    let sized =
        Request::post("https://app.openclaw.example/count").header("content-length", data.len());
    let response = h2.exchange(sized.body(()).unwrap(), &data).unwrap();
    assert_eq!(response.text(), data.len().to_string());
}

#[test]
fn framing_towards_the_backend() {
    let backend = Backend::ok();
    let (_edge, h2) = app(&backend);
    let sized = Request::post(URL).header("content-length", 3).body(()).unwrap();
    assert_eq!(h2.exchange(sized, b"abc").unwrap().status, 200);
    assert_eq!(h2.exchange(post(URL), b"abc").unwrap().status, 200);
    let requests = backend.requests();
    assert_eq!(requests[0].framing, Framing::Length(3));
    assert_eq!(requests[1].framing, Framing::Chunked);
    assert!(requests.iter().all(|request| request.body.bytes == b"abc"));
}

#[test]
fn trailers_both_ways() {
    let backend = Backend::canned(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nGrpc-Status: 0\r\n\r\n",
    );
    let (_edge, h2) = app(&backend);
    let (response, mut stream) = h2.open(post(URL), false);
    let response = h2.block(async {
        push(&mut stream, b"up", false).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "2".parse().unwrap());
        trailers.insert("x-forwarded-for", "192.0.2.6".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        finish(response).await.unwrap()
    });
    assert_eq!(response.text(), "abc");
    assert_eq!(response.trailers.unwrap()["grpc-status"], "0");
    let request = backend.only();
    assert_eq!(request.body.bytes, b"up");
    let names: Vec<_> = request.body.trailers.iter().map(|(n, _)| n.to_lowercase()).collect();
    assert_eq!(names, ["x-sum"], "identity fields do not pass as trailers");
}

#[test]
fn cookie_crumbs_are_joined() {
    let backend = Backend::ok();
    let (_edge, h2) = app(&backend);
    let request = Request::get(URL).header("cookie", "a=1").header("cookie", "b=2");
    let request = request.header("cookie", "c=3").body(()).unwrap();
    assert_eq!(h2.exchange(request, b"").unwrap().status, 200);
    assert_eq!(backend.only().field("cookie"), "a=1; b=2; c=3");
}

#[test]
fn authority_and_host_never_differ_upstream() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  app: {{ hosts: [app.openclaw.example, other.openclaw.example], upstream: app }}\n",
        backend.addr
    )));
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    let request = Request::get(URL).header("host", "other.openclaw.example").body(()).unwrap();
    match h2.exchange(request, b"") {
        Ok(response) if response.status == 200 => {
            assert_eq!(backend.only().field("host"), "app.openclaw.example");
        }
        Ok(response) => {
            response.assert_cause(400, "bad_request");
            assert!(backend.requests().is_empty());
        }
        Err(e) => assert!(e.is_reset() && backend.requests().is_empty(), "{e}"),
    }
    let request =
        Request::get(URL).header("host", "a.openclaw.example").header("host", "b.openclaw.example");
    let result = h2.exchange(request.body(()).unwrap(), b"");
    let sent = backend.requests();
    assert!(sent.iter().all(|r| r.field("host") == "app.openclaw.example"), "{sent:?} {result:?}");
}

#[test]
fn connect_and_trace_are_refused() {
    let backend = Backend::ok();
    let (_edge, h2) = app(&backend);
    let connect = Request::connect("app.openclaw.example:443").body(()).unwrap();
    let (response, mut stream) = h2.open(connect, false);
    h2.block(async {
        let smuggled = Bytes::from_static(b"GET /x HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
        let _ = stream.send_data(smuggled, true);
        match finish(response).await {
            Ok(response) => assert_eq!(response.status, 405),
            Err(e) => assert!(e.is_reset(), "{e}"),
        }
    });
    let trace = Request::builder().method("TRACE").uri(URL).body(()).unwrap();
    let response = h2.exchange(trace, b"").unwrap();
    response.assert_cause(405, "method_refused");
    assert_eq!(h2.get(URL).status, 200);
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn head_limits() {
    let backend = Backend::ok();
    let (_edge, h2) = app(&backend);
    let with = |fields: usize, size: usize| {
        let mut request = Request::get(URL);
        for n in 0..fields {
            request = request.header(format!("x-{n}"), "v".repeat(size));
        }
        h2.exchange(request.body(()).unwrap(), b"").unwrap()
    };
    assert_eq!(with(90, 100).status, 200);
    with(101, 1).assert_cause(431, "head_too_large");
    with(50, 700).assert_cause(431, "head_too_large");
    let long = format!("{URL}{}", "a".repeat(17_000));
    h2.get(&long).assert_cause(414, "target_too_long");
    assert_eq!(h2.get(URL).status, 200, "the connection survives");
    let mut crumbs = Request::get(URL);
    for n in 0..2000 {
        crumbs = crumbs.header("cookie", format!("{n}=1"));
    }
    match h2.exchange(crumbs.body(()).unwrap(), b"") {
        Ok(response) => assert_eq!(response.status, 431),
        Err(e) => assert!(e.is_reset() || e.is_go_away(), "{e}"),
    }
    assert_eq!(backend.requests().len(), 2);
}

#[test]
fn own_answers_have_causes() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{}\"] }}\n\
         routes:\n\
         \x20 app: {{ hosts: [app.openclaw.example], path: /x, upstream: app }}\n\
         \x20 gone: {{ hosts: [app.openclaw.example], path: /gone, respond: {{ status: 410, body: gone }} }}\n\
         \x20 moved: {{ hosts: [app.openclaw.example], path: /old, redirect: {{ host: new.openclaw.example }} }}\n",
        backend.addr
    )));
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    h2.get("https://app.openclaw.example/").assert_cause(404, "no_route");
    h2.get("https://nowhere.openclaw.example/").assert_cause(421, "misdirected");
    let response = h2.get("https://app.openclaw.example/gone");
    assert_eq!((response.status, response.text().as_str()), (410, "gone"));
    let response = h2.get("https://app.openclaw.example/old");
    assert_eq!(response.status, 308);
    // The scheme stays: written, or left to the client.
    let location = response.header("location");
    let location = location.strip_prefix("https:").unwrap_or(location);
    assert!(location.starts_with("//new.openclaw.example"), "{location}");
}

#[test]
fn a_reset_stream_cancels_the_upstream() {
    let backend = Backend::silent();
    let (edge, h2) = app(&backend);
    let (response, mut stream) = h2.open(get(URL), true);
    h2.run_for(Duration::from_millis(20));
    backend.wait_requests(1);
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    h2.run_for(Duration::from_millis(20));
    assert_ne!(backend.wait_end(0), End::Timeout);
    edge.wait_log("cause", "client_gone");
}

#[test]
fn rapid_resets_leave_nothing_behind() {
    let backend = Backend::silent();
    let (edge, h2) = app(&backend);
    for _ in 0..50 {
        let (response, mut stream) = h2.open(get(URL), true);
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
    }
    h2.run_for(Duration::from_millis(50));
    wait_until("upstream connections to end", || {
        h2.run_for(Duration::from_millis(5));
        backend.open() == 0
    });
    drop(h2);
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    let (_response, _stream) = h2.open(get(URL), true);
    h2.run_for(Duration::from_millis(50));
    wait_until("a new request to arrive", || backend.open() == 1);
}

#[test]
fn a_cut_answer_resets_the_stream_only() {
    let backend = Backend::script(|peer| {
        while let Some(request) = peer.request() {
            if request.target() == "/cut" {
                return peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
            }
            peer.send(ok("ok"));
        }
    });
    let (_edge, h2) = app(&backend);
    match h2.exchange(get("https://app.openclaw.example/cut"), b"") {
        Ok(response) => assert!(response.error.is_some(), "{response:?}"),
        Err(e) => assert!(e.is_reset(), "{e}"),
    }
    assert_eq!(h2.get(URL).status, 200);
}

#[test]
fn an_early_answer_ends_the_upload() {
    let backend = Backend::script(|peer| {
        if peer.head().is_some() {
            peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
            peer.wait_end();
        }
    });
    let (_edge, h2) = app(&backend);
    let (response, mut stream) = h2.open(post(URL), false);
    let response = h2.block(async {
        push(&mut stream, b"some", false).await.unwrap();
        finish(response).await.unwrap()
    });
    assert_eq!((response.status, response.text().as_str()), (413, "big"));
    assert_ne!(backend.wait_end(0), End::Timeout);
}

#[test]
fn head_requests_and_bodyless_answers() {
    let backend = Backend::script(|peer| {
        while let Some(request) = peer.request() {
            peer.send(match request.method() {
                "HEAD" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
                _ => "HTTP/1.1 204 No Content\r\n\r\n",
            });
        }
    });
    let (_edge, h2) = app(&backend);
    let head = Request::head(URL).body(()).unwrap();
    let response = h2.exchange(head, b"").unwrap();
    assert_eq!((response.status, response.header("content-length")), (200, "1000"));
    assert!(response.body.is_empty() && response.error.is_none());
    assert_eq!(h2.get(URL).status, 204);
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_stalled_stream_does_not_stop_its_neighbours() {
    let edge = Edge::start(&Conf::app(&[Backend::real()]));
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(10 << 20);
    let h2 = H2::connect_with(&edge.tls(), "app.openclaw.example", &builder);
    // Nobody reads this answer: its stream window runs full.
    let (response, _stream) = h2.open(get("https://app.openclaw.example/bytes/100000000"), true);
    let stalled = h2.block(response).unwrap();
    let response = h2.get("https://app.openclaw.example/bytes/100000");
    assert_eq!(response.body.len(), 100_000);
    drop(stalled);
}

#[test]
fn alpn_decides_the_protocol() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let client = edge.tls().alpn(&["h2", "http/1.1"]).connect("app.openclaw.example");
    assert_eq!(client.tls().alpn_protocol(), Some(&b"h2"[..]));
    let mut client = edge.tls().alpn(&[]).connect("app.openclaw.example");
    client.get("app.openclaw.example", "/").assert_ok("ok");
    // The preface is no request where ALPN chose HTTP/1.1.
    let mut client = edge.tls_client("app.openclaw.example");
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let (bytes, end) = client.wire.rest();
    assert_ne!(end, End::Timeout);
    assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1."), "{bytes:?}");
    let off = Edge::start(&Conf::app(&[backend.addr]).https("http2: { enabled: false }"));
    let client = off.tls().alpn(&["h2", "http/1.1"]).connect("app.openclaw.example");
    assert_eq!(client.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
}
