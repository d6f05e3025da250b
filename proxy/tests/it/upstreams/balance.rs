//! Which endpoint a request goes to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::harness::h2c::H2;
use crate::harness::{Backend, Client, Conf, Edge};

const HOST: &str = "app.openclaw.example";

fn named(n: usize) -> Vec<Backend> {
    (0..n).map(|i| Backend::named(&i.to_string())).collect()
}

fn edge(backends: &[Backend], upstream: &str) -> Edge {
    let addresses: Vec<_> = backends.iter().map(|b| b.addr).collect();
    Edge::start(&Conf::app_with(&addresses, upstream, "").workers(2))
}

fn ask(client: &mut Client, path: &str, fields: &str) -> String {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n"));
    let response = client.response();
    assert_eq!(response.status, 200, "{response:?}");
    response.text()
}

/// How often each backend answered `n` requests on connections of their own.
fn shares(edge: &Edge, n: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..n {
        *shares.entry(ask(&mut edge.client(), "/", "")).or_default() += 1;
    }
    shares
}

#[test]
fn in_turn_over_all_workers() {
    let backends = named(3);
    let edge = edge(&backends, "");
    let shares = shares(&edge, 90);
    // Workers share one turn: exactly a third each.
    assert!(shares.values().all(|n| *n == 30), "{shares:?}");
}

#[test]
fn by_weight() {
    for balance in ["round_robin", "least_request"] {
        let backends = named(2);
        let conf = Conf::new(format!(
            "upstreams:\n  app: {{ balance: {balance}, endpoints: [\
             {{ address: \"{}\", weight: 1 }}, {{ address: \"{}\", weight: 3 }}] }}\n\
             routes:\n  app: {{ hosts: [{HOST}], upstream: app }}\n",
            backends[0].addr, backends[1].addr
        ));
        let edge = Edge::start(&conf);
        let shares = shares(&edge, 400);
        // The drawn ones within five standard deviations; of two drawn the idle one is taken.
        let heavy = shares["1"];
        assert!((240..=390).contains(&heavy), "{balance}: {shares:?}");
        if balance == "round_robin" {
            assert_eq!(heavy, 300, "{shares:?}");
        }
    }
}

#[test]
fn the_busy_one_gets_less() {
    for balance in ["least_request", "peak_ewma"] {
        let slow = Backend::script(|peer| {
            while peer.request().is_some() {
                std::thread::sleep(Duration::from_millis(100));
                peer.send(crate::harness::backend::ok("slow"));
            }
        });
        let backends = [slow, Backend::named("fast")];
        let edge = edge(&backends, &format!("balance: {balance}"));
        let fast: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6)
                .map(|_| {
                    let mut client = edge.client();
                    scope.spawn(move || {
                        let answers = (0..40).map(|_| ask(&mut client, "/", ""));
                        answers.filter(|name| name == "fast").count()
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert!(fast > 160, "{balance}: {fast} of 240");
    }
}

// === consistent hash ===

/// The same key, the same endpoint; many keys, all endpoints.
fn hashed(key: &str, request: impl Fn(&Edge, usize) -> String) {
    let backends = named(3);
    let edge = edge(&backends, &format!("balance: {{ hash: {key} }}"));
    let first: Vec<String> = (0..40).map(|n| request(&edge, n)).collect();
    let again: Vec<String> = (0..40).map(|n| request(&edge, n)).collect();
    assert_eq!(first, again);
    let used: BTreeSet<&String> = first.iter().collect();
    assert_eq!(used.len(), 3, "{first:?}");
}

#[test]
fn by_header() {
    hashed("\"header:x-tenant\"", |edge, n| {
        ask(&mut edge.client(), "/", &format!("X-Tenant: tenant-{n}\r\n"))
    });
}

#[test]
fn by_cookie() {
    hashed("\"cookie:sid\"", |edge, n| {
        ask(&mut edge.client(), "/", &format!("Cookie: a=b; sid=session-{n}; c=d\r\n"))
    });
}

#[test]
fn by_path() {
    hashed("path", |edge, n| ask(&mut edge.client(), &format!("/user/{n}?x={n}"), ""));
}

#[test]
fn by_client_address() {
    hashed("client_ip", |edge, n| {
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1 + u8::try_from(n).unwrap()));
        ask(&mut Client::from(from, edge.http), "/", "")
    });
}

#[test]
fn an_endpoint_less_moves_only_its_keys() {
    let backends = named(5);
    let addresses: Vec<_> = backends.iter().map(|b| b.addr).collect();
    let conf = |n: usize| Conf::app_with(&addresses[..n], "balance: { hash: path }", "");
    let edge = Edge::start(&conf(5));
    let keys = |edge: &Edge| -> Vec<String> {
        let mut client = edge.client();
        (0..200).map(|n| ask(&mut client, &format!("/{n}"), "")).collect()
    };
    let before = keys(&edge);
    assert_eq!(edge.reload(&conf(4))["outcome"], "applied");
    let after = keys(&edge);
    let moved = before.iter().zip(&after).filter(|(a, b)| *a != "4" && a != b).count();
    let stayed = before.iter().filter(|a| *a != "4").count();
    assert!(moved * 8 < stayed, "{moved} of {stayed} moved without need");
}

// === sticky ===

#[test]
fn a_cookie_keeps_a_client_with_its_endpoint() {
    let backends = named(3);
    let edge = edge(&backends, "sticky: { cookie: edge-sticky, max_age: 1d }");
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        let response = edge.client().get(HOST, "/");
        let set = response.header("set-cookie").expect("a cookie").to_owned();
        let value = set.split(';').next().unwrap();
        assert!(value.starts_with("edge-sticky="), "{set}");
        let lower = set.to_lowercase();
        for part in ["max-age=86400", "path=/", "httponly"] {
            assert!(lower.contains(part), "{set}");
        }
        // It says nothing of the inside.
        for backend in &backends {
            assert!(!set.contains(&backend.addr.to_string()), "{set}");
        }
        let name = response.text();
        for _ in 0..6 {
            let fields = format!("Cookie: other=1; {value}\r\n");
            assert_eq!(ask(&mut edge.client(), "/", &fields), name);
        }
        seen.insert(name);
    }
    assert_eq!(seen.len(), 3, "new clients are spread");
}

#[test]
fn the_cookie_of_an_endpoint_that_is_gone_is_replaced() {
    let backends = named(3);
    let addresses: Vec<_> = backends.iter().map(|b| b.addr).collect();
    let conf =
        |some: &[std::net::SocketAddr]| Conf::app_with(some, "sticky: { cookie: edge-sticky }", "");
    let edge = Edge::start(&conf(&addresses));
    let (value, name) = loop {
        let response = edge.client().get(HOST, "/");
        let set = response.header("set-cookie").unwrap().to_owned();
        if response.text() == "0" {
            break (set.split(';').next().unwrap().to_owned(), response.text());
        }
    };
    assert_eq!(edge.reload(&conf(&addresses[1..]))["outcome"], "applied");
    let mut client = edge.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: {value}\r\n\r\n"));
    let response = client.response();
    assert_ne!(response.text(), name);
    let set = response.header("set-cookie").expect("another cookie");
    assert!(!set.starts_with(&format!("{value};")) && set != value, "{set}");
    // A cookie of nobody's is as good as none.
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: edge-sticky=\"x\"\r\n\r\n"));
    let response = client.response();
    assert_eq!(response.status, 200);
    assert!(response.header("set-cookie").is_some());
}

#[test]
fn a_cookie_works_over_h2() {
    let backends = named(3);
    let edge = edge(&backends, "sticky: { cookie: edge-sticky }");
    let client = H2::connect(&edge.tls(), HOST);
    let url = format!("https://{HOST}/");
    let first = client.get(&url);
    let value = first.header("set-cookie").split(';').next().unwrap().to_owned();
    for _ in 0..9 {
        let request = http::Request::get(&url).header("cookie", &value).body(()).unwrap();
        assert_eq!(client.exchange(request, b"").unwrap().text(), first.text());
    }
}

// === split ===

fn split(backends: &[Backend], stable: u16, canary: u16) -> Conf {
    Conf::new(format!(
        "upstreams:\n  web: {{ endpoints: [\"{}\"] }}\n  canary: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  app: {{ hosts: [{HOST}], split: {{ web: {stable}, canary: {canary} }} }}\n",
        backends[0].addr, backends[1].addr
    ))
}

#[test]
fn a_route_is_split_by_weight_and_changed_by_reload() {
    let backends = named(2);
    let edge = Edge::start(&split(&backends, 90, 10));
    let canary = |edge: &Edge| {
        let mut client = edge.client();
        (0..1000).filter(|_| ask(&mut client, "/", "") == "1").count()
    };
    let share = canary(&edge);
    // Within four standard deviations, were it drawn.
    assert!((62..=138).contains(&share), "{share}");
    assert_eq!(edge.reload(&split(&backends, 0, 1))["outcome"], "applied");
    assert_eq!(canary(&edge), 1000);
    assert_eq!(edge.reload(&split(&backends, 1, 0))["outcome"], "applied");
    assert_eq!(canary(&edge), 0);
}

// === slow start ===

#[test]
fn a_new_endpoint_starts_slowly() {
    let backends = named(2);
    let conf = |n: usize| {
        let addresses: Vec<_> = backends[..n].iter().map(|b| b.addr).collect();
        Conf::app_with(&addresses, "slow_start: 3s", "")
    };
    let edge = Edge::start(&conf(1));
    // The first one has its full share by now.
    std::thread::sleep(Duration::from_millis(3100));
    assert_eq!(edge.reload(&conf(2))["outcome"], "applied");
    let appeared = Instant::now();
    let early = share_of_second(&edge, Duration::from_millis(600), appeared);
    // From a tenth to a third of an even share.
    assert!(early < 0.3, "{early}");
    while appeared.elapsed() < Duration::from_millis(3100) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let late = share_of_second(&edge, Duration::from_millis(4000), appeared);
    assert!((0.4..0.6).contains(&late), "{late}");
    assert!(early < late);
}

/// The part of the answers that the second gave until `end` after its start.
fn share_of_second(edge: &Edge, end: Duration, since: Instant) -> f64 {
    let mut client = edge.client();
    let (mut all, mut its) = (0.0, 0.0);
    while since.elapsed() < end {
        all += 1.0;
        its += f64::from(u8::from(ask(&mut client, "/", "") == "1"));
    }
    assert!(all > 50.0, "{all}");
    its / all
}
