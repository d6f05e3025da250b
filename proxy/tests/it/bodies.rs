//! Message bodies both ways: framing, trailers, early and cut answers, and flat memory.

use crate::harness::backend::ok;
use crate::harness::wire::Framing;
use crate::harness::{Backend, Conf, Edge, End, Peer, wait_until};

fn app(backend: &Backend) -> Edge {
    Edge::start(&Conf::app(&[backend.addr]))
}

const POST: &str = "POST / HTTP/1.1\r\nHost: app.openclaw.example\r\n";

#[test]
fn content_length_up() {
    let backend = Backend::ok();
    let edge = app(&backend);
    let mut client = edge.client();
    for size in [0usize, 1, 100_000] {
        client.send(format!("{POST}Content-Length: {size}\r\n\r\n{}", "a".repeat(size)));
        client.response().assert_ok("ok");
        let request = backend.requests().pop().unwrap();
        assert_eq!(request.framing, Framing::Length(size as u64));
        assert_eq!(request.body.bytes.len(), size);
    }
}

#[test]
fn chunked_up_with_trailers() {
    let backend = Backend::ok();
    let edge = app(&backend);
    let mut client = edge.client();
    client.send(format!("{POST}Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"));
    client.send("3\r\nabc\r\n0000a;ext=\"v\"\r\n0123456789\r\n");
    client.send("0\r\nX-Sum: 13\r\n\r\n");
    client.response().assert_ok("ok");
    let request = backend.only();
    assert_eq!(request.framing, Framing::Chunked);
    assert_eq!(request.body.bytes, b"abc0123456789");
    let trailers = &request.body.trailers;
    assert!(trailers.iter().any(|(n, v)| n.eq_ignore_ascii_case("x-sum") && v == "13"));
    client.assert_usable("app.openclaw.example");
}

#[test]
fn chunked_down_with_trailers() {
    let backend = Backend::canned(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         3\r\nabc\r\n4;x\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let edge = app(&backend);
    for mut client in [edge.client(), edge.tls_client("app.openclaw.example")] {
        client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\nTE: trailers\r\n\r\n");
        let response = client.response();
        response.assert_ok("abcdefg");
        let trailers = &response.body.trailers;
        assert!(trailers.iter().any(|(n, v)| n.eq_ignore_ascii_case("x-sum") && v == "7"));
        client.assert_usable("app.openclaw.example");
    }
}

#[test]
fn a_body_is_passed_on_before_it_is_complete() {
    let backend = Backend::script(|peer| {
        let _ = peer.head();
        let first = peer.wire.until(b"first\r\n").unwrap();
        assert!(first.ends_with(b"first\r\n"));
        let _ = peer.wire.until(b"0\r\n\r\n");
        peer.send(ok("done"));
    });
    let edge = app(&backend);
    let mut client = edge.client();
    client.send(format!("{POST}Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"));
    wait_until("the first chunk at the backend", || {
        backend.bytes().first().is_some_and(|bytes| bytes.ends_with(b"first\r\n"))
    });
    client.send("0\r\n\r\n");
    client.response().assert_ok("done");
}

#[test]
fn head_204_and_304_have_no_body() {
    let backend = Backend::script(|peer| {
        while let Some(request) = peer.request() {
            peer.send(match request.target() {
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
                "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => {
                    "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"x\"\r\n\r\n"
                }
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            });
        }
    });
    let edge = app(&backend);
    let mut client = edge.client();
    for path in ["/head", "/chunked"] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n"));
        let response = client.response_to("HEAD").unwrap();
        assert_eq!(response.status, 200);
        if path == "/head" {
            assert_eq!(response.header("content-length"), Some("1000"));
        }
        client.assert_usable("app.openclaw.example");
    }
    for (path, status) in [("/204", 204), ("/304", 304)] {
        assert_eq!(client.get("app.openclaw.example", path).status, status);
        client.assert_usable("app.openclaw.example");
    }
    assert_eq!(backend.connections(), 1, "bodyless answers keep the connection");
}

#[test]
fn expect_is_answered_here_and_not_passed_on() {
    let backend = Backend::ok();
    let edge = app(&backend);
    for mut client in [edge.client(), edge.tls_client("app.openclaw.example")] {
        client.send(format!("{POST}Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n"));
        let interim = client.wire.head().unwrap();
        assert_eq!(interim.status(), 100);
        client.send("abc");
        client.response().assert_ok("ok");
        client.assert_usable("app.openclaw.example");
    }
    assert!(backend.requests().iter().all(|request| !request.head.has("expect")));
}

#[test]
fn expect_with_the_body_at_once_and_other_expectations() {
    let backend = Backend::ok();
    let edge = app(&backend);
    let mut client = edge.client();
    client.send(format!("{POST}Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"));
    client.response().assert_ok("ok");
    client.send(format!("{POST}Expect: gold\r\nContent-Length: 3\r\n\r\n"));
    client.response().assert_cause(417, "expectation_failed");
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn no_100_for_what_is_refused_anyway() {
    let refusing = crate::harness::backend::refusing();
    let edge = Edge::start(&Conf::app_with(&[refusing], "", "body_limit: 10B"));
    let mut client = edge.client();
    client.send(format!("{POST}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
    let response = client.response();
    assert!(response.interim.is_empty(), "{response:?}");
    response.assert_cause(502, "connect_failed");
    let mut client = edge.client();
    client.send(format!("{POST}Expect: 100-continue\r\nContent-Length: 11\r\n\r\n"));
    let response = client.response();
    assert!(response.interim.is_empty(), "{response:?}");
    response.assert_cause(413, "body_too_large");
}

#[test]
fn early_hints_pass_on_http1() {
    let backend = Backend::canned(format!(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n{}",
        ok("page")
    ));
    let edge = app(&backend);
    let mut client = edge.client();
    let response = client.get("app.openclaw.example", "/");
    response.assert_ok("page");
    assert_eq!(response.interim.len(), 1);
    assert_eq!(response.interim[0].status(), 103);
    assert_eq!(response.interim[0].get("link"), Some("</a.css>; rel=preload"));
    client.assert_usable("app.openclaw.example");
}

#[test]
fn early_hints_arrive_before_the_answer_is_made() {
    let backend = Backend::script(|peer| {
        let _ = peer.request();
        peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        peer.wait_end();
    });
    let edge = app(&backend);
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    assert_eq!(client.wire.head().unwrap().status(), 103);
    drop(client);
    backend.wait_end(0);
}

#[test]
fn http_1_0_clients() {
    let backend = Backend::script(|peer| {
        while let Some(request) = peer.request() {
            peer.send(match request.target() {
                "/chunked" => {
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                }
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            });
        }
    });
    let edge = app(&backend);
    for path in ["/length", "/chunked"] {
        let mut client = edge.client();
        client.send(format!("GET {path} HTTP/1.0\r\nHost: app.openclaw.example\r\n\r\n"));
        let response = client.response();
        response.assert_ok("abc");
        assert!(!response.head.has("transfer-encoding"), "{response:?}");
        client.assert_closed();
    }
    let mut client = edge.client();
    for _ in 0..2 {
        client
            .send("GET / HTTP/1.0\r\nHost: app.openclaw.example\r\nConnection: keep-alive\r\n\r\n");
        let response = client.response();
        response.assert_ok("abc");
        if response.header("connection").is_none() {
            // Keeping such a connection is optional; then it must be closed.
            return client.assert_closed();
        }
    }
    assert!(backend.requests().iter().all(|r| r.head.first.ends_with("HTTP/1.1")));
}

#[test]
fn connection_close_is_honoured() {
    let backend = Backend::ok();
    let edge = app(&backend);
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\nConnection: close\r\n\r\n");
    let response = client.response();
    response.assert_ok("ok");
    assert_eq!(response.header("connection"), Some("close"));
    client.assert_closed();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::script(|peer| {
        while let Some(request) = peer.request() {
            peer.send(ok(request.target()));
        }
    });
    let edge = app(&backend);
    let mut client = edge.client();
    let many: String = (0..50)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n"))
        .collect();
    client.send(many);
    for n in 0..50 {
        client.response().assert_ok(&format!("/{n}"));
    }
    let post = "POST /p HTTP/1.1\r\nHost: app.openclaw.example\r\nContent-Length: 3\r\n\r\nabc";
    client.send(format!("{post}{post}GET /last HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n"));
    for path in ["/p", "/p", "/last"] {
        client.response().assert_ok(path);
    }
}

#[test]
fn an_answer_before_the_body_is_read() {
    let backend = Backend::script(|peer: &mut Peer| {
        if peer.head().is_some() {
            peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
            peer.wait_end();
        }
    });
    let edge = app(&backend);
    let mut client = edge.client();
    client.send(format!("{POST}Content-Length: 1000000\r\n\r\nabc"));
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (413, "big"));
    // The upstream connection is not pooled: its request was never complete.
    assert_ne!(backend.wait_end(0), End::Timeout);
}

#[test]
fn until_close_answers() {
    let backend = Backend::then_close("HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nall of it");
    let edge = app(&backend);
    for mut client in [edge.client(), edge.tls_client("app.openclaw.example")] {
        client.get("app.openclaw.example", "/").assert_ok("all of it");
    }
}

#[test]
fn cut_answers_are_visibly_cut() {
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
    ];
    for answer in answers {
        let backend = Backend::then_close(answer);
        let edge = app(&backend);
        for mut client in [edge.client(), edge.tls_client("app.openclaw.example")] {
            client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
            match client.response_to("GET") {
                Ok(response) => assert!(response.body.cut.is_some(), "{answer:?}: {response:?}"),
                Err(end) => assert_eq!(end, End::Reset, "{answer:?}"),
            }
        }
        edge.wait_log("cause", "upstream_closed");
    }
}

#[test]
fn a_reset_in_the_middle_of_an_answer_is_visible() {
    let backend = Backend::script(|peer| {
        let _ = peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        peer.wire.reset_on_close();
    });
    let edge = app(&backend);
    for mut client in [edge.client(), edge.tls_client("app.openclaw.example")] {
        client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
        match client.response_to("GET") {
            // The reset may overtake the head.
            Ok(response) => {
                assert!(response.status == 502 || response.body.cut.is_some(), "{response:?}")
            }
            Err(end) => assert_ne!(end, End::Timeout),
        }
    }
}

#[test]
fn a_close_before_the_answer_is_502() {
    let backend = Backend::script(|peer| {
        let _ = peer.request();
    });
    let edge = app(&backend);
    let mut client = edge.client();
    client.send(format!("{POST}Content-Length: 3\r\n\r\nabc"));
    client.response().assert_cause(502, "upstream_closed");
    client.get("app.openclaw.example", "/").assert_cause(502, "upstream_closed");
}

#[test]
fn a_stale_pooled_connection_is_no_error() {
    // Closes every connection after one answer, without saying so.
    let backend = Backend::script(|peer| {
        let _ = peer.request();
        peer.send(ok("once"));
    });
    let edge = app(&backend);
    let mut client = edge.client();
    for _ in 0..20 {
        client.get("app.openclaw.example", "/").assert_ok("once");
        backend.wait_idle();
    }
}

#[test]
fn a_post_is_not_repeated_on_a_new_connection() {
    let backend = Backend::script(|peer| {
        let _ = peer.request();
        if peer.index == 0 {
            peer.send(ok("first"));
            let _ = peer.request(); // taken, and never answered
        } else {
            peer.send(ok("second"));
        }
    });
    let edge = app(&backend);
    let mut client = edge.client();
    let post = format!("{POST}Content-Length: 3\r\n\r\nabc");
    client.send(&post);
    client.response().assert_ok("first");
    client.send(&post);
    client.response().assert_cause(502, "upstream_closed");
    assert_eq!(backend.requests().len(), 2);
}

#[test]
fn surplus_bytes_end_the_upstream_connection() {
    let surplus = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let backend = Backend::script(move |peer| {
        while peer.request().is_some() {
            peer.send(format!("{}{surplus}", ok("mine")));
        }
    });
    let edge = app(&backend);
    for _ in 0..5 {
        edge.client().get("app.openclaw.example", "/").assert_ok("mine");
    }
    assert_eq!(backend.connections(), 5);
}

#[test]
fn a_client_that_goes_cancels_the_upstream() {
    let backend = Backend::silent();
    let edge = app(&backend);
    for (n, mut client) in
        [edge.client(), edge.tls_client("app.openclaw.example")].into_iter().enumerate()
    {
        client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
        backend.wait_requests(n + 1);
        drop(client);
        assert_ne!(backend.wait_end(n), End::Timeout);
    }
    let line = edge.wait_log("cause", "client_gone");
    assert_eq!(line["status"], 499);
}

#[test]
fn a_client_that_goes_behind_unread_pipelined_bytes() {
    let backend = Backend::silent();
    let edge = app(&backend);
    let mut client = edge.client();
    let get = "GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n";
    client.send(get.repeat(1000));
    backend.wait_requests(1);
    client.wire.finish();
    assert_ne!(backend.wait_end(0), End::Timeout);
}

#[test]
fn a_client_that_goes_in_its_body_aborts_the_upstream_request() {
    let backend = Backend::ok();
    let edge = app(&backend);
    let mut client = edge.client();
    client.send(format!("{POST}Content-Length: 100\r\n\r\nabc"));
    wait_until("the head at the backend", || backend.connections() == 1);
    drop(client);
    backend.wait_end(0);
    assert_eq!(backend.only().body.cut.map(|end| end != End::Timeout), Some(true));
    edge.client().get("app.openclaw.example", "/").assert_ok("ok");
    assert_eq!(backend.connections(), 2, "never pooled");
}
