//! What is counted apart: addresses behind proxies, networks of IPv6, credentials, cookies, hosts,
//! and what happens without a key. Nothing of a client's secrets is left anywhere.

use std::fmt::Write as _;

use super::{HOST, behind, get, limited, named, passed};
use crate::harness::h2c::H2;
use crate::harness::{Backend, Conf, Edge, wait_until};

/// Requests of an address behind a proxy that pass, of 4.
fn by_address(edge: &Edge, address: &str) -> usize {
    passed(edge, &format!("X-Forwarded-For: {address}\r\n"), 4)
}

const TWO: &str = "key: client_ip, rate: 1/h, burst: 2";

#[test]
fn addresses_are_apart_behind_a_trusted_proxy() {
    let backend = Backend::ok();
    let edge = Edge::start(&behind(&backend, &format!("{{ {TWO} }}")));
    assert_eq!(by_address(&edge, "192.0.2.1"), 2);
    assert_eq!(by_address(&edge, "192.0.2.2"), 2);
    // What stands left of the last hop that is not trusted is anybody's claim.
    assert_eq!(by_address(&edge, "198.51.100.7, 192.0.2.1"), 0);
    assert_eq!(by_address(&edge, "192.0.2.9, 192.0.2.3"), 2);
    assert_eq!(by_address(&edge, "192.0.2.9"), 2);
    // A further trusted hop, and the same address in another form.
    assert_eq!(by_address(&edge, "192.0.2.1, 127.0.0.9"), 0);
    assert_eq!(by_address(&edge, "::ffff:192.0.2.1"), 0);
    // Two fields are one list.
    assert_eq!(
        passed(&edge, "X-Forwarded-For: 192.0.2.77\r\nX-Forwarded-For: 192.0.2.2\r\n", 4),
        0
    );
    assert_eq!(passed(&edge, "", 4), 2, "the proxy itself");
}

#[test]
fn nobody_else_is_believed() {
    let backend = Backend::ok();
    let edge = Edge::start(&limited(&backend, &format!("{{ {TWO} }}")));
    assert_eq!(by_address(&edge, "192.0.2.1"), 2);
    assert_eq!(by_address(&edge, "192.0.2.2"), 0);
}

#[test]
fn a_network_of_ipv6_is_one_client() {
    let backend = Backend::ok();
    let edge = Edge::start(&behind(&backend, &format!("{{ {TWO} }}")));
    assert_eq!(by_address(&edge, "2001:db8::1"), 2);
    assert_eq!(by_address(&edge, "2001:db8::ffff:1:2:3"), 0, "the same /64");
    assert_eq!(by_address(&edge, "2001:db8:0:1::1"), 2, "the next");
    // A /48 may have 16 times as much: 14 of its networks get their two, two have had them.
    for n in 2..16 {
        assert_eq!(by_address(&edge, &format!("2001:db8:0:{n:x}::1")), 2, "network {n}");
    }
    assert_eq!(by_address(&edge, "2001:db8:0:10::1"), 0, "the /48 is used up");
    assert_eq!(by_address(&edge, "2001:db8:1::1"), 2, "the next /48");
}

#[test]
fn prefixes_are_as_configured() {
    let backend = Backend::ok();
    let prefix = "prefix: { ipv4: 24, ipv6: 56, ipv6_aggregate: off }";
    let edge = Edge::start(&behind(&backend, &format!("{{ {TWO}, {prefix} }}")));
    assert_eq!(by_address(&edge, "192.0.2.1"), 2);
    assert_eq!(by_address(&edge, "192.0.2.255"), 0);
    assert_eq!(by_address(&edge, "192.0.3.1"), 2);
    assert_eq!(by_address(&edge, "2001:db8::1"), 2);
    assert_eq!(by_address(&edge, "2001:db8:0:ff::1"), 0);
    for n in 1..20 {
        assert_eq!(by_address(&edge, &format!("2001:db8:0:{:x}::1", n * 0x100)), 2);
    }
}

#[test]
fn credentials_are_apart() {
    let backend = Backend::ok();
    let limit = "{ key: \"header:authorization\", rate: 1/h, burst: 2 }";
    let edge = Edge::start(&behind(&backend, limit));
    let by = |value: &str| passed(&edge, &format!("Authorization: Bearer {value}\r\n"), 4);
    assert_eq!((by("one"), by("two"), by("one")), (2, 2, 0));
    // From anywhere, in any spelling of the name, on any protocol.
    assert_eq!(passed(&edge, "X-Forwarded-For: 192.0.2.1\r\nAUTHORIZATION: Bearer one\r\n", 4), 0);
    let h2 = H2::connect(&edge.tls(), HOST);
    let request = http::Request::get(format!("https://{HOST}/"));
    let request = request.header("authorization", "Bearer one").body(()).unwrap();
    h2.exchange(request, b"").unwrap().assert_cause(429, "rate_limited (header-authorization)");
    // Without one, the address counts.
    assert_eq!((by_address(&edge, "192.0.2.1"), by_address(&edge, "192.0.2.2")), (2, 2));
    assert_eq!(by_address(&edge, "192.0.2.1"), 0);
}

#[test]
fn cookies_are_apart() {
    let backend = Backend::ok();
    let edge = Edge::start(&limited(&backend, "{ key: \"cookie:sid\", rate: 1/h, burst: 2 }"));
    let by = |value: &str| passed(&edge, &format!("Cookie: {value}\r\n"), 4);
    assert_eq!(by("sid=a"), 2);
    assert_eq!(by("theme=dark; sid=a"), 0);
    assert_eq!(by("sid=b; theme=dark"), 2);
    assert_eq!(by("xsid=a"), 2, "without it: the address");
    assert_eq!(by(""), 0);
    // Crumbs of HTTP/2 are one field.
    let h2 = H2::connect(&edge.tls(), HOST);
    let request = http::Request::get(format!("https://{HOST}/"));
    let request = request.header("cookie", "theme=dark").header("cookie", "sid=a");
    let answer = h2.exchange(request.body(()).unwrap(), b"").unwrap();
    answer.assert_cause(429, "rate_limited (cookie-sid)");
}

#[test]
fn hosts_and_routes_are_apart() {
    let backend = Backend::ok();
    let addr = backend.addr;
    let edge = Edge::start(&Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{addr}\"] }}\nroutes:\n  \
         wild: {{ hosts: [\"*.wild.openclaw.example\"], upstream: app, \
           rate_limits: [{{ key: host, rate: 1/h, burst: 2 }}] }}\n  \
         one: {{ hosts: [{HOST}], path: /one, upstream: app, \
           rate_limits: [{{ key: route, rate: 1/h, burst: 2 }}] }}\n  \
         two: {{ hosts: [{HOST}], path: /two, upstream: app, \
           rate_limits: [{{ key: route, rate: 1/h, burst: 2 }}] }}\n  \
         free: {{ hosts: [{HOST}], upstream: app }}\n"
    )));
    let mut client = edge.client();
    let mut count =
        |host: &str, path: &str| (0..4).find(|_| client.get(host, path).status != 200).unwrap_or(4);
    assert_eq!(count("a.wild.openclaw.example", "/"), 2);
    assert_eq!(count("A.WILD.openclaw.example:80", "/x"), 0);
    assert_eq!(count("b.wild.openclaw.example", "/"), 2);
    assert_eq!((count(HOST, "/one"), count(HOST, "/one/more"), count(HOST, "/two")), (2, 0, 2));
    assert_eq!(count(HOST, "/"), 4);
}

#[test]
fn combinations_count_together() {
    let backend = Backend::ok();
    let limit = "{ key: \"client_ip+header:x-team\", rate: 1/h, burst: 2, missing: refuse }";
    let edge = Edge::start(&behind(&backend, limit));
    let by = |address: &str, team: &str| {
        passed(&edge, &format!("X-Forwarded-For: {address}\r\nX-Team: {team}\r\n"), 4)
    };
    assert_eq!((by("192.0.2.1", "a"), by("192.0.2.1", "a")), (2, 0));
    assert_eq!((by("192.0.2.1", "b"), by("192.0.2.2", "a")), (2, 2));
    let mut client = edge.client();
    get(&mut client, "/", "").assert_cause(403, "denied (limit_key)");
    assert_eq!(edge.wait_log("cause", "denied")["detail"], "limit_key");
    assert_eq!(backend.requests().len(), 6);
}

#[test]
fn the_first_alternative_that_is_there_counts() {
    let backend = Backend::ok();
    let limit = "{ name: who, key: [\"header:x-key\", \"cookie:sid\"], rate: 1/h, burst: 2, \
        missing: refuse }";
    let edge = Edge::start(&limited(&backend, limit));
    assert_eq!(passed(&edge, "X-Key: a\r\n", 4), 2);
    assert_eq!(passed(&edge, "X-Key: a\r\nCookie: sid=1\r\n", 4), 0);
    assert_eq!(passed(&edge, "Cookie: sid=1\r\n", 4), 2);
    assert_eq!(passed(&edge, "X-Key: b\r\nCookie: sid=1\r\n", 4), 2);
    // The same text as another kind of key is another key.
    assert_eq!(passed(&edge, "Cookie: sid=a\r\n", 4), 2);
    get(&mut edge.client(), "/", "").assert_cause(403, "denied (limit_key)");
}

#[test]
fn all_must_pass_and_the_first_refusal_names_itself() {
    let backend = Backend::ok();
    let limits = "{ name: address, key: client_ip, rate: 1/h, burst: 3 }, \
        { name: key, key: \"header:x-key\", rate: 1/h, burst: 2, missing: refuse }, \
        { name: all, key: route, rate: 1/h, burst: 5 }";
    let edge = Edge::start(&behind(&backend, limits));
    let mut client = edge.client();
    let mut ask = |address: &str, key: &str| {
        let fields = format!("X-Forwarded-For: {address}\r\nX-Key: {key}\r\n");
        named(&get(&mut client, "/", &fields))
    };
    assert_eq!([ask("192.0.2.1", "a"), ask("192.0.2.1", "a")], ["", ""]);
    // The third of the address and of the key; those by address are asked first.
    assert_eq!([ask("192.0.2.1", "a"), ask("192.0.2.1", "b")], ["key", "address"]);
    assert_eq!([ask("192.0.2.2", "b"), ask("192.0.2.2", "c")], ["", ""]);
    assert_eq!([ask("192.0.2.3", "d"), ask("192.0.2.2", "a")], ["all", "all"]);
    assert_eq!(backend.requests().len(), 4);
}

#[test]
fn the_exempt_are_not_counted() {
    let backend = Backend::ok();
    let limits = format!("{{ {TWO}, exempt: [192.0.2.0/28, \"2001:db8::/48\"] }}");
    let edge = Edge::start(&behind(&backend, &limits));
    assert_eq!(by_address(&edge, "192.0.2.15"), 4);
    assert_eq!(by_address(&edge, "2001:db8::1"), 4);
    assert_eq!(by_address(&edge, "192.0.2.16"), 2);
    assert_eq!(by_address(&edge, "2001:db8:1::1"), 2);
    // A claim left of the last hop exempts nobody.
    assert_eq!(by_address(&edge, "192.0.2.1, 192.0.2.16"), 0);
}

#[test]
fn no_secret_of_a_client_is_left_anywhere() {
    let backend = Backend::ok();
    let limits = "{ key: \"header:authorization\", rate: 1/h, burst: 1, announce: true }, \
        { key: \"cookie:sid\", rate: 1/h, burst: 1, dry_run: true }";
    let edge = Edge::start(&limited(&backend, limits));
    let mut client = edge.client();
    let fields = "Authorization: Bearer hush-hush\r\nCookie: sid=hush-hush\r\n";
    let mut said = String::new();
    for accept in ["*/*", "text/html", "application/json", "application/json"] {
        let response = get(&mut client, "/", &format!("{fields}Accept: {accept}\r\n"));
        write!(said, "{:?}{}", response.head, response.text()).unwrap();
    }
    assert!(said.contains("header-authorization"), "{said}");
    wait_until("all lines", || edge.access_log().len() == 4);
    for path in ["/metrics", "/api/v1/routes", "/api/v1/config", "/api/v1/limits", "/readyz"] {
        let answer = edge.admin(path);
        said.push_str(&answer.body);
    }
    said.push_str(&edge.access_log_lines().join("\n"));
    said.push_str(&edge.stderr());
    assert!(!said.contains("hush"), "{said}");
    // Nor in the files that it keeps.
    for file in walk(edge.lab.path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        assert!(!bytes.windows(4).any(|w| w == b"hush"), "{}", file.display());
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(walk(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}

/// Of two fields the endpoint may read the other one: a decoy would be a free pass.
#[test]
fn a_field_that_is_counted_by_comes_once() {
    let backend = Backend::ok();
    let edge =
        Edge::start(&limited(&backend, "{ key: 'header:authorization', rate: 1/h, burst: 2 }"));
    for n in 0..4 {
        let twice = format!("Authorization: Bearer decoy-{n}\r\nauthorization: Bearer real\r\n");
        let answer = get(&mut edge.client(), "/", &twice);
        answer.assert_cause(400, "bad_request");
        assert!(answer.text().contains("field_twice"), "{}", answer.text());
    }
    assert_eq!(passed(&edge, "Authorization: Bearer real\r\n", 4), 2);
    let mut request = crate::harness::h2c::get(&format!("https://{HOST}/"));
    request.headers_mut().append("authorization", "Bearer decoy".parse().unwrap());
    request.headers_mut().append("authorization", "Bearer other".parse().unwrap());
    let h2 = H2::connect(&edge.tls(), HOST);
    h2.exchange(request, b"").unwrap().assert_cause(400, "bad_request");
    assert_eq!(backend.requests().len(), 2);
}
