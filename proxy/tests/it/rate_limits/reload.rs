//! Limits and the configuration that changes under them: the same name goes on where it was, its
//! new rate counts at once, another name begins anew.

use super::{HOST, get, limited, named, passed};
use crate::harness::{Backend, Edge, wait_until};

fn limit(rest: &str) -> String {
    format!("{{ name: kept, key: client_ip, {rest} }}")
}

fn reload(edge: &Edge, backend: &Backend, limits: &str) {
    let outcome = edge.reload(&limited(backend, limits));
    assert_eq!(outcome["outcome"], "applied", "{outcome}");
}

#[test]
fn the_same_name_keeps_its_state() {
    let backend = Backend::ok();
    let edge = Edge::start(&limited(&backend, &limit("rate: 1/h, burst: 4")));
    let mut open = edge.client();
    for _ in 0..3 {
        get(&mut open, "/", "").assert_ok("ok");
    }
    // Another change of the route, and other limits before and after it.
    let more = format!(
        "{{ name: first, key: route, rate: 1/h, burst: 90 }}, {}, \
         {{ name: last, key: host, rate: 1/h, burst: 90 }}",
        limit("rate: 1/h, burst: 4, announce: true")
    );
    reload(&edge, &backend, &more);
    let response = get(&mut open, "/", "");
    response.assert_ok("ok");
    assert!(response.header("ratelimit").unwrap().starts_with("\"kept\";r=0;t="), "{response:?}");
    assert_eq!(named(&get(&mut open, "/", "")), "kept");
    assert_eq!(passed(&edge, "", 2), 0);
}

/// In both directions, for keys that are known and for open connections.
#[test]
fn a_changed_rate_counts_at_once() {
    let backend = Backend::ok();
    let edge = Edge::start(&limited(&backend, &limit("rate: 1/h, burst: 2")));
    let mut open = edge.client();
    for _ in 0..2 {
        get(&mut open, "/", "").assert_ok("ok");
    }
    assert_eq!(named(&get(&mut open, "/", "")), "kept");
    // Wider: with what was used up on top of it.
    reload(&edge, &backend, &limit("rate: 1/h, burst: 5"));
    for n in 0..3 {
        assert_eq!(get(&mut open, "/", "").status, 200, "{n}");
    }
    assert_eq!(named(&get(&mut open, "/", "")), "kept");
    // Faster: what an hour's rate has noted, five hours, is no time that a second's rate has to
    // wait for.
    reload(&edge, &backend, &limit("rate: 1000/s, burst: 5"));
    wait_until("the new rate", || get(&mut open, "/", "").status == 200);
    wait_until("the whole burst", || (0..5).all(|_| get(&mut open, "/", "").status == 200));
    // Narrower: at once, and with what is left of the narrow burst at most.
    reload(&edge, &backend, &limit("rate: 1/h, burst: 2"));
    assert!(passed(&edge, "", 4) <= 2);
    let response = get(&mut open, "/", "");
    assert_eq!(named(&response), "kept");
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!(wait <= 3600, "{wait}");
}

#[test]
fn another_name_begins_anew() {
    let backend = Backend::ok();
    let edge = Edge::start(&limited(&backend, &limit("rate: 1/h, burst: 2")));
    assert_eq!((passed(&edge, "", 4), passed(&edge, "", 4)), (2, 0));
    reload(&edge, &backend, "{ name: new, key: client_ip, rate: 1/h, burst: 2 }");
    assert_eq!((passed(&edge, "", 4), passed(&edge, "", 4)), (2, 0));
    assert_eq!(named(&get(&mut edge.client(), "/", "")), "new");
}

/// A name under which something else is counted means nothing to what was counted before.
#[test]
fn another_key_begins_anew() {
    let backend = Backend::ok();
    let edge = Edge::start(&limited(&backend, &limit("rate: 1/h, burst: 2")));
    assert_eq!(passed(&edge, "", 4), 2);
    reload(&edge, &backend, "{ name: kept, key: route, rate: 1/h, burst: 2 }");
    assert_eq!((passed(&edge, "", 4), passed(&edge, "", 4)), (2, 0));
}

#[test]
fn a_quarantined_route_keeps_its_limits() {
    let backend = Backend::ok();
    let conf = limited(&backend, &limit("rate: 1/h, burst: 3"));
    let edge = Edge::start(&conf);
    assert_eq!(get(&mut edge.client(), "/", "").status, 200);
    let good = conf.render(edge.lab.path());
    let broken = good.replace("burst: 3", "burst: 3, brust: 9");
    assert_eq!(edge.reload_text(&broken)["outcome"], "partial");
    // The former version serves, with its limit and what that has counted.
    assert_eq!((passed(&edge, "", 4), passed(&edge, "", 4)), (2, 0));
    let wider = good.replace("burst: 3", "burst: 5");
    assert_eq!(edge.reload_text(&wider)["outcome"], "applied");
    assert_eq!((passed(&edge, "", 4), passed(&edge, "", 4)), (2, 0));
}

/// Streams that began under the former configuration still count, and give their place back.
#[test]
fn streams_go_on_counting() {
    let backend = Backend::once(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
         9\r\ndata: 1\n\n\r\n",
    );
    let edge = Edge::start(&limited(&backend, &limit("concurrent: 2")));
    let open = || {
        let mut client = edge.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        let status = client.wire.head().unwrap().status();
        (status, client)
    };
    let (one, two) = (open(), open());
    assert_eq!((one.0, two.0, open().0), (200, 200, 429));
    reload(&edge, &backend, &limit("concurrent: 3"));
    let three = open();
    assert_eq!((three.0, open().0), (200, 429));
    reload(&edge, &backend, &limit("concurrent: 1"));
    assert_eq!(open().0, 429);
    drop((one, two));
    let streams = "edge_rate_limit_streams{route=\"app\",limit=\"kept\"}";
    wait_until("two places", || edge.metric(streams) == 1.0);
    assert_eq!(open().0, 429);
    drop(three);
    wait_until("the last place", || open().0 == 200);
}
