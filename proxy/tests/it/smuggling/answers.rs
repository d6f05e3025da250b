//! Cases in which the backend's answer matters, or whose bytes are words in the corpus.

use std::time::Duration;

use super::{HOST, run};
use crate::harness::backend::ok;
use crate::harness::{Backend, Conf, Edge, End, ws};

#[test]
fn p30_nothing_passes_before_the_101() {
    let answers = || {
        Backend::script(|peer| {
            while let Some(head) = peer.head() {
                let early = peer.wire.peek(Duration::from_millis(150)).to_vec();
                assert!(early.is_empty(), "early bytes: {:?}", String::from_utf8_lossy(&early));
                peer.send(ok(head.first.split(' ').nth(1).unwrap()));
            }
        })
    };
    run("P30", answers, |case| {
        let mut client = case.sent();
        client.response().assert_ok("/ws");
        // The smuggled bytes are a request of their own, or the connection is closed.
        match client.response_to("GET") {
            Ok(response) => response.assert_ok("/x"),
            Err(end) => assert!(matches!(end, End::Closed | End::Reset), "{end:?}"),
        }
        let bytes = case.all_bytes();
        assert!(bytes.starts_with("GET /ws HTTP/1.1\r\n"), "{bytes}");
        let heads = bytes.matches(" HTTP/1.1\r\n").count();
        assert!(heads <= 2 && bytes.matches("X-Real-IP").count() <= heads, "{bytes}");
    });
}

#[test]
fn p33_unsolicited_101() {
    let answers = || {
        Backend::once(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
    };
    run("P33", answers, |case| {
        let response = case.connect().get(HOST, "/");
        response.assert_cause(502, "upstream_protocol");
        assert_ne!(case.backend.wait_end(0), End::Timeout);
        // Asked for a WebSocket and given something else.
        let mut client = case.connect();
        client.send(
            "GET / HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        );
        client.response().assert_cause(502, "upstream_protocol");
    });
}

#[test]
fn p38_early_answer() {
    let answers = || {
        Backend::script(|peer| {
            if peer.head().is_some() {
                peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
                peer.wait_end();
            }
        })
    };
    run("P38", answers, |case| {
        let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 60\r\n\r\n");
        let mut client = case.sent_bytes(&head);
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (413, "big"));
        assert_ne!(case.backend.wait_end(0), End::Timeout);
        // What comes now is body, never a request.
        let _ = client
            .wire
            .try_send("GET /smuggled HTTP/1.1\r\nHost: app.example\r\nX: 12345678\r\n\r\n");
        let _ = client.wire.rest();
        assert!(!case.all_bytes().contains("smuggled HTTP/1.1\r\nHost"), "{}", case.all_bytes());
        assert_eq!(case.backend.connections(), 1);
    });
}

#[test]
fn p44_one_reading_of_a_path() {
    for tls in [false, true] {
        let (open, admin) = (Backend::named("open"), Backend::named("admin"));
        let edge = Edge::start(&Conf::new(format!(
            "upstreams:\n  open: {{ endpoints: [\"{}\"] }}\n  admin: {{ endpoints: [\"{}\"] }}\n\
             routes:\n  open: {{ hosts: [app.example], upstream: open }}\n\
             \x20 admin: {{ hosts: [app.example], path: /admin, upstream: admin }}\n",
            open.addr, admin.addr
        )));
        let connect = || if tls { edge.tls_client(HOST) } else { edge.client() };
        for path in [
            "/x/../admin",
            "//admin",
            "/%61dmin",
            "/./admin",
            "/x/%2e%2e/admin",
            "/x/%2E./admin",
            "/../admin",
            "/a/b/../../admin",
        ] {
            connect().get(HOST, path).assert_ok("admin");
            assert_eq!(admin.requests().pop().unwrap().target(), "/admin", "{path}");
        }
        connect().get(HOST, "/admin/../x").assert_ok("open");
        assert_eq!(open.requests().pop().unwrap().target(), "/x");
        for path in
            ["/admin%2Fx", "/admin%5cx", "/admin%00", "/x/..;/admin", "/a\\b", "/..%2Fadmin"]
        {
            assert_eq!(connect().get(HOST, path).status, 400, "{path}");
        }
        // Not decoded twice.
        connect().get(HOST, "/%2561dmin").assert_ok("open");
        assert_eq!(open.requests().pop().unwrap().target(), "/%2561dmin");
        // A parameter is part of its segment: the same reading for the rule and the backend.
        let response = connect().get(HOST, "/admin;a=b");
        assert!(response.status == 400 || response.text() == "open", "{response:?}");
    }
}

#[test]
fn p45_bad_upstream_answers() {
    let long = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "a".repeat(70_000));
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX-A: b\rc\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n folded: b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 099 Low\r\nContent-Length: 2\r\n\r\nok",
        "garbage\r\n\r\n",
        &long,
    ];
    for answer in answers {
        let owned = answer.to_owned();
        let backend = Backend::once(owned);
        let edge = Edge::start(&Conf::host(HOST, &[backend.addr], "", ""));
        for (n, mut client) in [edge.client(), edge.tls_client(HOST)].into_iter().enumerate() {
            let response = client.get(HOST, "/");
            assert_eq!(response.status, 502, "{:?}: {response:?}", &answer[..answer.len().min(80)]);
            response.assert_cause(502, "upstream_protocol");
            assert_ne!(backend.wait_end(n), End::Timeout);
        }
    }
}

#[test]
fn p45_a_flood_of_interim_answers_ends() {
    let backend = Backend::script(|peer| {
        let _ = peer.request();
        while peer.wire.try_send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").is_ok() {}
        *peer.seen.end.lock().unwrap() = Some(End::Reset);
    });
    let edge = Edge::start(&Conf::host(HOST, &[backend.addr], "", ""));
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    // Read along, so that only a limit of the edge can end it.
    while let Ok(head) = client.wire.head() {
        if head.status() >= 200 {
            assert_eq!(head.status(), 502);
            break;
        }
    }
    assert_ne!(backend.wait_end(0), End::Timeout);
}

#[test]
fn p46_truncated_upstream_answers() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: ",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    ] {
        let backend = Backend::then_close(answer);
        let edge = Edge::start(&Conf::host(HOST, &[backend.addr], "", ""));
        for mut client in [edge.client(), edge.tls_client(HOST)] {
            client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
            match client.response_to("GET") {
                Ok(response) => assert!(response.body.cut.is_some(), "{answer:?}: {response:?}"),
                Err(end) => assert_eq!(end, End::Reset, "{answer:?}"),
            }
        }
        let h2 = crate::harness::h2c::H2::connect(&edge.tls(), HOST);
        match h2.exchange(crate::harness::h2c::get("https://app.example/"), b"") {
            Ok(response) => assert!(response.error.is_some(), "{answer:?}: {response:?}"),
            Err(e) => assert!(e.is_reset(), "{e}"),
        }
    }
}

#[test]
fn a_websocket_never_shares_its_connection() {
    let backend = Backend::script(|peer| {
        if peer.index == 0 {
            return ws::serve_echo(peer);
        }
        while peer.request().is_some() {
            peer.send(ok("ok"));
        }
    });
    let edge = Edge::start(&Conf::host(HOST, &[backend.addr], "", ""));
    let mut client = edge.client();
    ws::open(&mut client, HOST, "/");
    edge.client().get(HOST, "/").assert_ok("ok");
    client.ws_echo("still mine");
    assert_eq!(backend.connections(), 2);
}
