//! Desync beyond the corpus: bodies that nobody read, answers with too many bytes, HTTP/2 that
//! says one thing and sends another.

use http::Request;

use crate::harness::backend::ok;
use crate::harness::h2c::{H2, finish, push};
use crate::harness::{Backend, Client, Conf, Edge, End};

/// A body that looks like a request.
const POISON: &str = "GET /smuggled HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n";

/// Sends a refused request with the poison as its body, then whatever the connection still takes.
/// The poison never becomes a request, and a follow-up is answered as itself or not at all.
fn refuse(edge: &Edge, backend: &Backend, tls: bool, head: &str) {
    let mut client = if tls { edge.tls_client("app.openclaw.example") } else { edge.client() };
    client.send(format!("{head}Content-Length: {}\r\n\r\n{POISON}", POISON.len()));
    let response = client.response();
    assert!(response.status >= 400, "{head}: {response:?}");
    let follow_up = "GET /next HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n";
    let _ = client.wire.try_send(follow_up);
    match client.response_to("GET") {
        Ok(response) => response.assert_ok("/next"),
        Err(end) => assert!(matches!(end, End::Closed | End::Reset), "{head}: {end:?}"),
    }
    let targets: Vec<String> = backend.requests().iter().map(|r| r.target().to_owned()).collect();
    assert!(targets.iter().all(|target| target == "/next"), "{head}: {targets:?}");
}

#[test]
fn the_body_of_a_refused_request_is_no_request() {
    for tls in [false, true] {
        let backend = Backend::script(|peer| {
            while let Some(request) = peer.request() {
                peer.send(ok(request.target()));
            }
        });
        let edge = Edge::start(&Conf::app_with(&[backend.addr], "", "body_limit: 10B"));
        for head in [
            "POST / HTTP/1.1\r\nHost: nowhere.openclaw.example\r\n",
            "POST / HTTP/1.1\r\nHost: app.openclaw.example\r\nExpect: gold\r\n",
            "POST / HTTP/1.1\r\nHost: app.openclaw.example\r\n",
            "TRACE / HTTP/1.1\r\nHost: app.openclaw.example\r\n",
            "CONNECT app.openclaw.example:443 HTTP/1.1\r\nHost: app.openclaw.example:443\r\n",
            "POST / HTTP/1.1\r\nHost: app.openclaw.example\r\nExpect: 100-continue\r\n",
        ] {
            refuse(&edge, &backend, tls, head);
        }
    }
}

#[test]
fn redirects_and_fixed_answers_read_the_body_or_close() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  app: {{ hosts: [app.openclaw.example], upstream: app }}\n\
         \x20 old: {{ hosts: [old.openclaw.example], redirect: {{ host: app.openclaw.example }} }}\n\
         \x20 fix: {{ hosts: [fix.openclaw.example], respond: {{ status: 200, body: fixed }} }}\n",
        backend.addr
    )));
    for host in ["old.openclaw.example", "fix.openclaw.example"] {
        let mut client = edge.client();
        let length = POISON.len();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{POISON}\
             GET /next HTTP/1.1\r\nHost: {host}\r\n\r\n"
        ));
        let first = client.response();
        if let Ok(second) = client.response_to("GET") {
            assert_eq!(second.status, first.status);
            if host.starts_with("old") {
                assert!(second.header("location").unwrap().ends_with("/next"), "{second:?}");
            }
            assert!(client.is_silent_for(std::time::Duration::from_millis(100)));
        }
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn nothing_is_answered_after_connection_close() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: app.openclaw.example\r\nConnection: close\r\n\r\n{POISON}"
    ));
    client.response().assert_ok("ok");
    client.assert_closed();
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn bodies_where_none_may_be_end_the_upstream_connection() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let answers = [
        ("HEAD", format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{poison}", poison.len())),
        ("HEAD", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{poison}")),
        ("GET", format!("HTTP/1.1 204 No Content\r\n\r\n{poison}")),
        ("GET", format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n{poison}")),
        ("GET", format!("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n{poison}")),
    ];
    for (method, answer) in answers {
        let owned = answer.clone();
        let backend = Backend::script(move |peer| {
            while peer.request().is_some() {
                peer.send(if peer.index == 0 { owned.clone() } else { ok("clean") });
            }
        });
        let edge = Edge::start(&Conf::app(&[backend.addr]));
        let mut client = edge.client();
        client.send(format!("{method} / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n"));
        let response = client.response_to(method).unwrap();
        assert!(matches!(response.status, 200 | 204 | 304 | 502), "{answer:?}: {response:?}");
        edge.client().get("app.openclaw.example", "/").assert_ok("clean");
    }
}

#[test]
fn an_answer_before_the_request_is_not_used() {
    // Poison waits in the connection before anybody has asked.
    let backend = Backend::script(|peer| {
        while peer.request().is_some() {
            peer.send(ok("mine"));
            std::thread::sleep(std::time::Duration::from_millis(20));
            peer.send(ok("poison"));
        }
    });
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    for _ in 0..5 {
        edge.client().get("app.openclaw.example", "/").assert_ok("mine");
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
}

#[test]
fn a_backend_that_closes_does_not_close_the_client() {
    let answers = [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\n\r\nok",
    ];
    for answer in answers {
        let backend = Backend::then_close(answer);
        let edge = Edge::start(&Conf::app(&[backend.addr]));
        let mut client = edge.client();
        for _ in 0..3 {
            client.get("app.openclaw.example", "/").assert_ok("ok");
        }
        assert_eq!(backend.connections(), 3);
    }
}

#[test]
fn http_1_0_cannot_upgrade() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = edge.client();
    client.send(
        "GET / HTTP/1.0\r\nHost: app.openclaw.example\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\n\r\n",
    );
    client.response().assert_ok("ok");
    assert!(!backend.only().head.has("upgrade"));
}

fn h2(backend: &Backend) -> (Edge, H2) {
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let h2 = H2::connect(&edge.tls(), "app.openclaw.example");
    (edge, h2)
}

#[test]
fn http2_with_another_length_than_announced() {
    let backend = Backend::ok();
    let (edge, h2) = h2(&backend);
    // A length of 0 may be answered before the body proves it wrong; no byte of it goes anywhere.
    for (announced, sent) in [(5, "abc"), (2, "abc"), (5, "")] {
        let request = Request::post("https://app.openclaw.example/")
            .header("content-length", announced)
            .body(());
        let (response, mut stream) = h2.open(request.unwrap(), sent.is_empty());
        h2.block(async {
            let _ = push(&mut stream, sent.as_bytes(), true).await;
            match finish(response).await {
                Ok(response) => assert_eq!(response.status, 400, "{announced}: {response:?}"),
                Err(e) => assert!(e.is_reset() || e.is_go_away(), "{announced}: {e}"),
            }
        });
    }
    let complete = backend.requests().into_iter().filter(|r| r.body.cut.is_none()).count();
    assert_eq!(complete, 0);
    edge.tls_client("app.openclaw.example").assert_usable("app.openclaw.example");
}

#[test]
fn http2_requests_are_canonical_upstream() {
    let backend = Backend::ok();
    let (_edge, h2) = h2(&backend);
    let hostile = Request::get("https://app.openclaw.example/a?b")
        .header("x_under", "1")
        .header("forwarded", "for=192.0.2.6")
        .header("x-original-url", "/admin")
        .header("proxy", "x")
        .header("http2-settings", "x")
        .header("expect", "100-continue")
        .header("x-empty", "")
        .header("x-quoted", "a\tb")
        .body(());
    let response = h2.exchange(hostile.unwrap(), b"").unwrap();
    assert!(matches!(response.status, 200 | 417), "{response:?}");
    for request in backend.requests() {
        for name in ["x_under", "forwarded", "x-original-url", "proxy", "http2-settings", "expect"]
        {
            assert!(!request.head.has(name), "{name} went upstream");
        }
        assert_eq!(request.field("x-forwarded-for"), "127.0.0.1");
    }
    for path in ["/a#b", "/a%00b", "*"] {
        let parts = http::uri::PathAndQuery::try_from(path);
        let Ok(path) = parts else { continue };
        let uri = http::Uri::builder()
            .scheme("https")
            .authority("app.openclaw.example")
            .path_and_query(path)
            .build();
        if let Ok(uri) = uri {
            let _ = h2.exchange(Request::get(uri).body(()).unwrap(), b"");
        }
    }
    assert!(backend.requests().iter().all(|r| r.target().starts_with('/')));
}

#[test]
fn http2_connect_for_another_protocol_is_refused() {
    let backend = Backend::ok();
    let (_edge, h2) = h2(&backend);
    h2.run_for(std::time::Duration::from_millis(50));
    for protocol in ["connect-udp", "foo", "WebSockets"] {
        let request = Request::connect("https://app.openclaw.example/")
            .extension(h2::ext::Protocol::from(protocol))
            .body(());
        let (response, _stream) = h2.open(request.unwrap(), false);
        match h2.block(finish(response)) {
            Ok(response) => assert!(response.status >= 400, "{response:?}"),
            Err(e) => assert!(e.is_reset(), "{e}"),
        }
    }
    assert!(backend.requests().is_empty());
    assert_eq!(h2.get("https://app.openclaw.example/").status, 200);
}

#[test]
fn half_closing_after_the_request_means_gone() {
    let backend = Backend::silent();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client: Client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    backend.wait_requests(1);
    client.wire.finish();
    client.assert_closed();
    assert_ne!(backend.wait_end(0), End::Timeout);
    edge.wait_log("cause", "client_gone");
}
