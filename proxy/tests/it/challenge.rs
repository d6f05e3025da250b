//! HTTP-01, TLS-ALPN-01 and placeholders on a worker in this process, where a challenge can be put
//! under way without a CA.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use acme::challenge::{Challenges, alpn_certificate};
use arc_swap::ArcSwap;
use config::NoEnvironment;
use config::value::{HostPattern, Name};
use proxy::downstream::cert_table::{CertEntry, CertTable, Certs};
use proxy::downstream::listener::{After, Listening};
use proxy::downstream::tls;
use proxy::limit::LimitRegistry;
use proxy::log::Sink;
use proxy::route::compile::{Deps, compile, empty};
use proxy::route::table::BoundAddress;
use proxy::state::Shared;
use proxy::upstream::endpoint::{EndpointRegistry, Resolved};
use proxy::worker::Worker;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::harness::h2c::{H2, get, post};
use crate::harness::{Backend, Client, Tls, wait_until};

const HOST: &str = "app.openclaw.example";
/// A host without a route.
const NEW: &str = "new.openclaw.example";
const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
const KEY: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.thumbprint";

fn path() -> String {
    format!("/.well-known/acme-challenge/{TOKEN}")
}

struct Edge {
    shared: Arc<Shared>,
    http: SocketAddr,
    https: SocketAddr,
    log: Log,
    root: CertificateDer<'static>,
    worker: Option<Worker>,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Edge {
    /// `http` redirects to https; the certificate of [`HOST`] is a placeholder or not.
    fn start(backend: &Backend, placeholder: bool) -> Edge {
        let (log, certs) = (Log::default(), Arc::new(CertTable::new()));
        let entry = entry(HOST, placeholder);
        let root = entry.key.cert[0].clone();
        certs.publish(Certs::new([Arc::new(entry)]));
        let challenges = Arc::new(Challenges::default());
        let socket = || {
            let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            (socket.local_addr().unwrap(), socket)
        };
        let ((http, http_socket), (https, https_socket)) = (socket(), socket());
        let accepted = config::merge(
            None,
            config::parse("edge.yaml", &file(backend), &NoEnvironment).unwrap(),
        );
        assert!(accepted.quarantined.is_empty(), "{:?}", accepted.quarantined);
        let bound =
            |name, address, tls| BoundAddress { listener: Name::new(name).unwrap(), address, tls };
        let shared = Shared::new(Sink::start_on(1 << 20, log.clone()).0);
        let snapshot = compile(
            &accepted,
            &empty(),
            &mut Deps {
                certs: certs.clone(),
                challenges: challenges.clone(),
                ticketer: tls::ticketer().unwrap(),
                bound: &[bound("http", http, false), bound("https", https, true)],
                nofile: 1024,
                resolved: &|_| {
                    Some(vec![Resolved { address: (Ipv4Addr::LOCALHOST, 80).into(), weight: 1 }])
                },
                shifted: &|_| None,
                endpoints: &mut EndpointRegistry::default(),
                limits: &mut LimitRegistry::default(),
                tenants: &proxy::metrics::TenantLabels::default(),
                metrics: &shared.metrics,
            },
        );
        let snapshot = ArcSwap::from_pointee(snapshot);
        let shared = Arc::new(Shared { snapshot, certs, challenges, ..shared });
        let sockets = [http_socket, https_socket].into_iter().enumerate();
        let sockets =
            sockets.map(|(id, socket)| Listening { id, socket, after: After::Nobody }).collect();
        let worker = Some(proxy::worker::start(0, shared.clone(), sockets).unwrap());
        Edge { shared, http, https, log, root, worker }
    }

    fn offer(&self, host: &str) {
        self.shared.challenges.offer(host, TOKEN, KEY).unwrap();
    }

    fn plain(&self) -> Client {
        Client::plain(self.http)
    }

    fn tls(&self) -> Tls {
        Tls::trusting(self.https, [self.root.clone()], rustls::ALL_VERSIONS)
    }

    fn metric(&self, series: &str) -> f64 {
        let text = String::from_utf8(self.shared.metrics.render()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    fn logged(&self, part: &str) -> bool {
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap().contains(part)
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.shared.drain.begin();
        self.shared.drain.force();
        let ended = self.worker.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

fn file(backend: &Backend) -> String {
    format!(
        "version: 1\n\
         listeners:\n  \
           http: {{ bind: ['127.0.0.1:0'], redirect_to: https }}\n  \
           https: {{ bind: ['127.0.0.1:0'], tls: {{}}, timeouts: {{ handshake: 3s }} }}\n\
         upstreams:\n  app: {{ endpoints: ['{}'] }}\n\
         routes:\n  \
           app: {{ hosts: [{HOST}], upstream: app, hsts: {{ max_age: 3600s }} }}\n  \
           fixed: {{ hosts: [{HOST}], path: /fixed, respond: {{ status: 200, body: x }}, \
             hsts: {{ max_age: 3600s }} }}\n",
        backend.addr
    )
}

fn entry(host: &str, placeholder: bool) -> CertEntry {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let key = CertifiedKey::from_der(vec![made.cert.der().clone()], key, &default_provider());
    CertEntry {
        name: host.to_owned(),
        names: vec![HostPattern::Exact(host.into())],
        hosts: vec![HostPattern::Exact(host.into())],
        source: "acme",
        key: Arc::new(key.unwrap()),
        not_before: 0,
        not_after: i64::MAX,
        placeholder,
    }
}

#[test]
fn http_01_is_answered_on_every_listener_and_protocol() {
    let backend = Backend::ok();
    let edge = Edge::start(&backend, false);
    for host in [HOST, NEW] {
        edge.offer(host);
        for mut client in [edge.plain(), edge.tls().connect(HOST)] {
            let response = client.get(&host.to_ascii_uppercase(), &path());
            response.assert_ok(KEY);
            for (name, value) in [
                ("content-type", "application/octet-stream"),
                ("x-content-type-options", "nosniff"),
                ("cache-control", "no-store"),
                ("content-length", "54"),
            ] {
                assert_eq!(response.header(name), Some(value), "{response:?}");
            }
            assert!(!response.head.has("strict-transport-security"));
            client.send(format!("HEAD {} HTTP/1.1\r\nHost: {host}.\r\n\r\n", path()));
            let head = client.response_to("HEAD").unwrap();
            assert_eq!((head.status, head.header("content-length")), (200, Some("54")));
            // The connection goes on, until the old version says otherwise.
            client.send(format!("GET {} HTTP/1.0\r\nHost: {host}\r\n\r\n", path()));
            client.response().assert_ok(KEY);
            client.assert_closed();
        }
        let h2 = H2::connect(&edge.tls(), HOST).get(&format!("https://{host}{}", path()));
        assert_eq!((h2.status, h2.text().as_str()), (200, KEY));
        assert_eq!(h2.header("content-type"), "application/octet-stream");
        assert_eq!(h2.header("x-content-type-options"), "nosniff");
    }
    let hits = edge.shared.challenges.hits(HOST);
    assert_eq!((hits.count, hits.peers), (7, vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]));
}

#[test]
fn an_answer_is_counted_and_logged_as_what_it_is() {
    let backend = Backend::ok();
    let edge = Edge::start(&backend, false);
    edge.offer(HOST);
    edge.plain().get(HOST, &path()).assert_ok(KEY);
    assert_eq!(edge.plain().get(HOST, &(path() + "x")).status, 308);
    let series = "edge_http_requests_total{code=\"200\",listener=\"http\",method=\"GET\",\
                  route=\"acme-challenge\",upstream=\"none\"}";
    wait_until("the count", || edge.metric(series) == 1.0);
    let series = "edge_http_requests_total{code=\"308\",listener=\"http\",method=\"GET\",\
                  route=\"none\",upstream=\"none\"}";
    wait_until("the redirect's count", || edge.metric(series) == 1.0);
    assert_eq!(edge.metric("edge_acme_challenges_total{type=\"http-01\"}"), 1.0);
    wait_until("the log", || edge.logged("\"route\":\"acme-challenge\""));
    assert!(!edge.logged("thumbprint"));
}

#[test]
fn everything_else_on_the_path_is_routed_with_every_policy() {
    let backend = Backend::ok();
    let edge = Edge::start(&backend, false);
    let other = path() + "x";
    edge.offer(HOST);
    assert_eq!(edge.plain().get(HOST, &other).status, 308);
    edge.plain().get(NEW, &path()).assert_cause(404, "unknown_host");
    let mut client = edge.plain();
    client.send(format!("POST {} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n", path()));
    assert_eq!(client.response().status, 308);
    let mut client = edge.tls().connect(HOST);
    client.get(HOST, &other).assert_ok("ok");
    client.get(NEW, &path()).assert_cause(421, "misdirected");
    let h2 = H2::connect(&edge.tls(), HOST);
    assert_eq!(h2.get(&format!("https://{HOST}{other}")).text(), "ok");
    let url = format!("https://{HOST}{}", path());
    assert_eq!(h2.exchange(post(&url), b"").unwrap().text(), "ok");
    assert_eq!(backend.requests().len(), 3);
    assert_eq!(h2.exchange(get(&url), b"").unwrap().text(), KEY);
}

#[test]
fn a_placeholder_brings_neither_hsts_nor_the_redirect() {
    let backend = Backend::ok();
    for placeholder in [false, true] {
        let edge = Edge::start(&backend, placeholder);
        let plain = edge.plain().get(HOST, "/");
        assert_eq!(plain.status, if placeholder { 200 } else { 308 });
        let name = "strict-transport-security";
        let expected = (!placeholder).then_some("max-age=3600");
        for path in ["/", "/fixed"] {
            let response = edge.tls().connect(HOST).get(HOST, path);
            assert_eq!(response.header(name), expected, "{path}");
            let response = H2::connect(&edge.tls(), HOST).get(&format!("https://{HOST}{path}"));
            assert_eq!(response.headers.get(name).is_some(), expected.is_some(), "{path}");
        }
    }
}

#[test]
fn tls_alpn_01_is_answered_and_the_connection_closed() {
    let backend = Backend::ok();
    let edge = Edge::start(&backend, false);
    // A CA looks at the certificate itself, which no chain leads to.
    let ca = Tls::blind(edge.https).alpn(&["acme-tls/1"]);
    assert!(ca.try_connect(NEW).is_err());
    let certificate = Arc::new(alpn_certificate(NEW, [9; 32]).unwrap());
    edge.shared.challenges.offer_alpn(NEW, certificate.clone()).unwrap();
    let mut client = ca.connect(NEW);
    assert_eq!(client.tls().peer_certificates().unwrap(), &certificate.cert[..]);
    assert_eq!(client.tls().alpn_protocol(), Some(&b"acme-tls/1"[..]));
    client.assert_closed();
    // Meanwhile everybody else is served.
    assert!(ca.try_connect(HOST).is_err());
    edge.tls().connect(HOST).get(HOST, "/").assert_ok("ok");
    wait_until("the count", || {
        edge.metric("edge_acme_challenges_total{type=\"tls-alpn-01\"}") == 1.0
    });
    assert_eq!(edge.shared.challenges.hits(NEW).count, 1);
}

#[test]
fn half_a_hello_is_closed_by_the_deadline_while_a_challenge_is_under_way() {
    let backend = Backend::ok();
    let edge = Edge::start(&backend, false);
    let certificate = Arc::new(alpn_certificate(NEW, [9; 32]).unwrap());
    edge.shared.challenges.offer_alpn(NEW, certificate).unwrap();
    let mut client = Client::plain(edge.https);
    client.send([22, 3, 1, 1, 0, 1]);
    client.assert_closed();
    let series = "edge_tls_handshake_failures_total{listener=\"https\",reason=\"timeout\"}";
    wait_until("the count", || edge.metric(series) == 1.0);
}
