//! How endpoints are reached: unix sockets, PROXY protocol, TLS.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use crate::harness::backend::ok;
use crate::harness::pki::Pki;
use crate::harness::site::Site;
use crate::harness::{Backend, Client, Conf, Edge, Lab};

const HOST: &str = "app.openclaw.example";

fn conf(endpoint: &str, keys: &str) -> Conf {
    Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{endpoint}\"]{keys} }}\n\
         routes:\n  app: {{ hosts: [{HOST}], upstream: app }}\n"
    ))
}

#[test]
fn a_unix_socket() {
    let lab = Lab::new();
    let path = lab.path().join("app.sock");
    let site = Site::unix(&path);
    let edge = Edge::start_in(&lab, &conf(&format!("unix:{}", path.display()), ""));
    let mut client = edge.client();
    for _ in 0..3 {
        client.get(HOST, "/hello").assert_ok("hello");
    }
    assert_eq!(site.connections(), 1, "the connection is kept");
    assert_eq!(site.last().headers["host"], HOST);
    client.send(format!("POST /count HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 300000\r\n\r\n"));
    client.send(vec![b'x'; 300_000]);
    client.response().assert_ok("300000");
}

#[test]
fn a_unix_socket_that_is_not_there() {
    let lab = Lab::new();
    let path = lab.path().join("gone.sock");
    let keys = ", queue: { size: 0 }";
    let edge = Edge::start_in(&lab, &conf(&format!("unix:{}", path.display()), keys));
    edge.client().get(HOST, "/").assert_cause(502, "connect_failed");
}

// === PROXY protocol ===

/// Takes a PROXY header by `read` and then requests, on every connection; what it took, with the
/// paths that came after it.
fn expecting(
    read: impl Fn(&mut crate::harness::Peer) -> Option<(SocketAddr, SocketAddr)> + Send + Sync + 'static,
) -> (Backend, Taken) {
    let taken = Taken::default();
    let all = taken.clone();
    let backend = Backend::script(move |peer| {
        let Some((from, to)) = read(peer) else { return };
        while let Some(request) = peer.request() {
            all.0.lock().unwrap().push((from, to, request.target().to_owned()));
            peer.send(ok("ok"));
        }
    });
    (backend, taken)
}

#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<(SocketAddr, SocketAddr, String)>>>);

fn version_1(peer: &mut crate::harness::Peer) -> Option<(SocketAddr, SocketAddr)> {
    let line = String::from_utf8(peer.wire.until(b"\r\n").ok()?).ok()?;
    let parts: Vec<&str> = line.trim_end().split(' ').collect();
    let [proxy, family, from, to, from_port, to_port] = parts.as_slice() else { return None };
    assert_eq!((*proxy, *family), ("PROXY", "TCP4"), "{line}");
    let address = |ip: &str, port: &str| format!("{ip}:{port}").parse().unwrap();
    Some((address(from, from_port), address(to, to_port)))
}

fn version_2(peer: &mut crate::harness::Peer) -> Option<(SocketAddr, SocketAddr)> {
    let head = peer.wire.exact(16).ok()?;
    assert_eq!(&head[..12], b"\r\n\r\n\0\r\nQUIT\n");
    // Version 2, PROXY; TCP over IPv4.
    assert_eq!(&head[12..14], [0x21, 0x11], "{head:x?}");
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let body = peer.wire.exact(length).ok()?;
    let address = |ip: usize, port: usize| {
        let ip: [u8; 4] = body[ip..ip + 4].try_into().unwrap();
        SocketAddr::from((ip, u16::from_be_bytes([body[port], body[port + 1]])))
    };
    Some((address(0, 8), address(4, 10)))
}

/// Each request comes on a connection that tells of its own client.
fn tells_of_the_client(edge: &Edge, taken: &Taken) {
    let clients: Vec<IpAddr> = ["127.0.2.1", "127.0.2.2"].map(|ip| ip.parse().unwrap()).to_vec();
    let mut open: Vec<Client> = clients.iter().map(|ip| Client::from(*ip, edge.http)).collect();
    for round in 0..3 {
        for (ip, client) in clients.iter().zip(&mut open) {
            client.get(HOST, &format!("/{round}/{ip}")).assert_ok("ok");
        }
    }
    let taken = taken.0.lock().unwrap();
    assert_eq!(taken.len(), 6);
    for (from, to, path) in taken.iter() {
        assert_eq!(path.rsplit('/').next().unwrap(), from.ip().to_string(), "{taken:?}");
        assert_eq!(*to, edge.http, "{taken:?}");
    }
}

#[test]
fn proxy_protocol_version_1() {
    let (backend, taken) = expecting(version_1);
    let edge = Edge::start(&conf(&backend.addr.to_string(), ", proxy_protocol: v1"));
    tells_of_the_client(&edge, &taken);
}

#[test]
fn proxy_protocol_version_2() {
    let (backend, taken) = expecting(version_2);
    let edge = Edge::start(&conf(&backend.addr.to_string(), ", proxy_protocol: v2"));
    tells_of_the_client(&edge, &taken);
}

// === TLS ===

struct Secure {
    lab: Arc<Lab>,
    pki: Pki,
    site: Site,
}

/// A TLS backend with a certificate for `name`.
fn secure(name: &str) -> Secure {
    let lab = Lab::new();
    let pki = Pki::new(&lab, "upstream-ca");
    let site = Site::tls(pki.server(&pki.leaf(&[name]), &[], None));
    Secure { lab, pki, site }
}

impl Secure {
    fn edge(&self, tls: &str) -> Edge {
        let keys = format!(", tls: {{ {tls} }}, queue: {{ size: 0 }}");
        Edge::start_in(&self.lab, &conf(&self.site.addr.to_string(), &keys))
    }

    fn ca(&self) -> String {
        format!("ca: {}", self.pki.ca.display())
    }
}

#[test]
fn tls_with_a_ca_of_ones_own() {
    let secure = secure("127.0.0.1");
    let edge = secure.edge(&secure.ca());
    let mut client = edge.client();
    for _ in 0..3 {
        client.get(HOST, "/hello").assert_ok("hello");
    }
    assert_eq!(secure.site.connections(), 1, "the connection is kept");
}

#[test]
fn tls_with_a_name_of_ones_own() {
    let secure = secure("backend.openclaw.example");
    let edge = secure.edge(&format!("{}, server_name: backend.openclaw.example", secure.ca()));
    edge.client().get(HOST, "/hello").assert_ok("hello");
}

#[test]
fn a_certificate_of_another_name_is_refused() {
    let secure = secure("other.openclaw.example");
    let edge = secure.edge(&format!("{}, server_name: backend.openclaw.example", secure.ca()));
    edge.client().get(HOST, "/hello").assert_cause(502, "upstream_tls_failed");
    assert!(secure.site.seen.requests.lock().unwrap().is_empty());
}

#[test]
fn a_certificate_of_an_unknown_ca_is_refused() {
    let secure = secure("127.0.0.1");
    secure.edge("").client().get(HOST, "/hello").assert_cause(502, "upstream_tls_failed");
    let other = Pki::new(&secure.lab, "other-ca");
    let edge = secure.edge(&format!("ca: {}", other.ca.display()));
    edge.client().get(HOST, "/hello").assert_cause(502, "upstream_tls_failed");
    assert!(secure.site.seen.requests.lock().unwrap().is_empty());
}

#[test]
fn insecure_takes_any_certificate_and_warns() {
    let secure = secure("other.openclaw.example");
    let edge = secure.edge("insecure: true");
    edge.client().get(HOST, "/hello").assert_ok("hello");
    let warnings = edge.config()["warnings"].to_string();
    assert!(warnings.contains("tls.insecure") && warnings.contains("not verified"), "{warnings}");
}

#[test]
fn a_client_certificate_is_shown() {
    let lab = Lab::new();
    let pki = Pki::new(&lab, "upstream-ca");
    let clients = Pki::new(&lab, "clients-ca");
    let site = Site::tls(pki.server(&pki.leaf(&["127.0.0.1"]), &[], Some(&clients)));
    let secure = Secure { lab, pki, site };
    let own = clients.leaf(&["edge.openclaw.example"]);
    let (chain, key) = (own.chain.display(), own.key.display());
    let ca = secure.ca();
    let edge = secure.edge(&format!("{ca}, certificate: {{ chain: {chain}, key: {key} }}"));
    edge.client().get(HOST, "/hello").assert_ok("hello");
    assert!(secure.site.last().certified);
    drop(edge);
    // Without one the endpoint refuses.
    let response = secure.edge(&ca).client().get(HOST, "/hello");
    assert_eq!(response.status, 502, "{response:?}");
}

#[test]
fn plain_http_behind_tls_is_told() {
    let backend = Backend::ok();
    let lab = Lab::new();
    let keys = ", tls: { insecure: true }, queue: { size: 0 }, timeouts: { connect: 2s }";
    let edge = Edge::start_in(&lab, &conf(&backend.addr.to_string(), keys));
    let response = edge.client().get(HOST, "/");
    assert!([502, 504].contains(&response.status), "{response:?}");
}
