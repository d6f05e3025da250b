//! The checker against endpoints in the same process.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use config::model::{
    self, EndpointAddress, EndpointSpec, HealthCheck, Probe, ProxyProtocolVersion,
    UpstreamProtocol, UpstreamTls,
};

use super::test_server::{GrpcStatus, HOST, Reply, TestServer};
use super::*;
use crate::metrics::UpstreamCounts;
use crate::route::table::Series;
use crate::upstream::endpoint::{EndpointRegistry, EndpointSet, UpstreamState};
use crate::upstream::transport::Transport;

/// One upstream, `api`, and a checker for it.
struct Bed {
    shared: Arc<Shared>,
    checker: Checker,
    registry: EndpointRegistry,
    state: Arc<UpstreamState>,
    spec: model::Upstream,
}

fn http(path: &str) -> HealthCheck {
    let probe = Probe::Http { path: path.to_owned(), host: None, status: (200, 399), body: None };
    HealthCheck { interval: Duration::from_millis(20), ..HealthCheck::new(probe) }
}

fn bed(check: HealthCheck, addresses: Vec<EndpointAddress>) -> Bed {
    let (sink, _) = crate::log::Sink::start(1024);
    let shared = Arc::new(Shared::new(sink));
    let spec = addresses.into_iter().map(|address| EndpointSpec { address, weight: 1 }).collect();
    let mut spec = model::Upstream::new(Name::new("api").unwrap(), spec);
    spec.health = Some(check);
    Bed {
        checker: Checker::new(shared.clone()),
        shared,
        registry: EndpointRegistry::default(),
        state: Arc::default(),
        spec,
    }
}

fn at(address: SocketAddr) -> Vec<EndpointAddress> {
    vec![EndpointAddress::Ip(address)]
}

impl Bed {
    /// The spec as it is now serves.
    fn apply(&mut self) {
        let set = EndpointSet::resolve(&self.spec, &|_| None, &mut self.registry);
        set.expect_checks(&self.spec);
        self.state.replace(set);
        self.checker.set_endpoints(&Upstream {
            name: self.spec.name.clone(),
            series: Series::own(&self.spec.name),
            counts: UpstreamCounts::new(&self.shared.metrics, "api").into(),
            transport: Transport::compile(&self.spec, None),
            spec: Arc::new(self.spec.clone()),
            state: self.state.clone(),
        });
    }

    fn endpoint(&self, index: usize) -> Arc<Endpoint> {
        self.state.endpoints.load().members[index].endpoint.clone()
    }

    fn health(&self) -> Health {
        self.endpoint(0).condition.health()
    }

    fn error(&self) -> String {
        self.endpoint(0).condition.error().map(|why| why.to_string()).unwrap_or_default()
    }

    fn results(&self, label: &str) -> u64 {
        self.shared.metrics.upstream_health_checks.with_label_values(&["api", label]).get()
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Bed) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(Instant::now() < end, "{what}: never; {:?}, {}", self.health(), self.error());
            tokio::select! {
                () = self.checker.run() => {}
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
    }

    /// The next verdict of a new endpoint, and why.
    async fn verdict(&mut self) -> (Health, String) {
        self.until("a verdict", |bed| bed.health() != Health::Starting).await;
        (self.health(), self.error())
    }
}

#[tokio::test]
async fn an_endpoint_falls_after_three_bad_answers_and_rises_after_a_good_one() {
    let (server, address) = TestServer::tcp(Reply::status(200)).await;
    let mut bed = bed(http("/health?deep=1"), at(address));
    bed.apply();
    assert_eq!(bed.health(), Health::Starting);
    assert_eq!(bed.verdict().await, (Health::Healthy, String::new()));
    let asked = server.asked();
    assert!(asked[0].starts_with("get /health?deep=1 http/1.1\r\n"), "{asked:?}");
    for field in [
        format!("\r\nhost: {address}\r\n").as_str(),
        "\r\nuser-agent: openclaw-edge-health\r\n",
        "\r\nconnection: close\r\n",
    ] {
        assert!(asked[0].contains(field), "{field} in {asked:?}");
    }
    server.set(Reply::status(500));
    bed.until("the fall", |bed| bed.health() == Health::Unhealthy).await;
    assert!(bed.results("status") >= 3);
    assert_eq!(bed.error(), "status 500");
    server.set(Reply::status(204));
    bed.until("the rise", |bed| bed.health() == Health::Healthy).await;
    assert!(bed.results("ok") >= 2);
    assert_eq!(bed.error(), "");
}

#[tokio::test]
async fn every_way_to_fail_has_its_reason() {
    let long = "x".repeat(70_000) + "marker";
    let cases = [
        (Reply::Raw(b"SSH-2.0-x\r\n\r\n".to_vec()), "broken", "no proper answer"),
        (Reply::Raw(Vec::new()), "broken", "no proper answer"),
        (Reply::Silence, "timeout", "no answer within 0.2 s"),
        (Reply::status(404), "status", "status 404"),
        (Reply::body(200, "not here"), "body", "expected text"),
        (Reply::body(200, &long), "body", "expected text"),
        (Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nmar".to_vec()), "broken", ""),
    ];
    for (reply, label, why) in cases {
        let mut check = http("/");
        let silent = matches!(reply, Reply::Silence);
        let timeout = if silent { Duration::from_millis(200) } else { Duration::from_secs(20) };
        (check.fall, check.timeout) = (1, timeout);
        if let Probe::Http { body, .. } = &mut check.probe {
            *body = Some("marker".to_owned());
        }
        let (_server, address) = TestServer::tcp(reply).await;
        let mut bed = bed(check, at(address));
        bed.apply();
        let (health, error) = bed.verdict().await;
        assert_eq!(health, Health::Unhealthy, "{label}");
        assert!(bed.results(label) >= 1 && error.contains(why), "{label}: {error}");
    }
}

#[tokio::test]
async fn a_text_is_found_across_the_parts_of_a_body() {
    let reply =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nmar\r\n3\r\nker\r\n0\r\n\r\n";
    let (_server, address) = TestServer::tcp(Reply::Raw(reply.as_bytes().to_vec())).await;
    let mut check = http("/");
    if let Probe::Http { body, .. } = &mut check.probe {
        *body = Some("marker".to_owned());
    }
    let mut bed = bed(check, at(address));
    bed.apply();
    assert_eq!(bed.verdict().await.0, Health::Healthy);
}

#[tokio::test]
async fn another_host_and_port_are_asked_when_written() {
    let (server, address) = TestServer::tcp(Reply::status(200)).await;
    let mut check = http("/");
    check.port = Some(address.port());
    if let Probe::Http { host, .. } = &mut check.probe {
        *host = Some("api.internal".to_owned());
    }
    let mut bed = bed(check, at("127.0.0.1:9".parse().unwrap()));
    bed.apply();
    assert_eq!(bed.verdict().await.0, Health::Healthy);
    assert!(server.asked()[0].contains("\r\nhost: api.internal\r\n"), "{:?}", server.asked());
}

#[tokio::test]
async fn unix_sockets_are_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let server = TestServer::unix(&path, Reply::status(200));
    let mut bed = bed(http("/"), vec![EndpointAddress::Unix(path)]);
    bed.apply();
    assert_eq!(bed.verdict().await.0, Health::Healthy);
    assert!(server.asked()[0].contains("\r\nhost: localhost\r\n"), "{:?}", server.asked());
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp() {
    let (_server, address) = TestServer::tcp(Reply::Silence).await;
    let check = HealthCheck { fall: 1, ..HealthCheck::new(Probe::Tcp) };
    let mut open = bed(check.clone(), at(address));
    open.apply();
    assert_eq!(open.verdict().await.0, Health::Healthy);
    let nobody = EndpointAddress::Unix(Path::new("/nonexistent/app.sock").to_path_buf());
    let mut closed = bed(check, vec![nobody]);
    closed.apply();
    let (health, why) = closed.verdict().await;
    assert_eq!(health, Health::Unhealthy);
    assert_eq!((closed.results("connect_failed"), why.as_str()), (1, "connect: entity not found"));
}

#[tokio::test]
async fn a_proxy_header_comes_first_where_the_endpoints_want_one() {
    let (server, address) = TestServer::tcp(Reply::status(200)).await;
    let mut bed = bed(http("/"), at(address));
    bed.spec.proxy_protocol = Some(ProxyProtocolVersion::V1);
    bed.apply();
    assert_eq!(bed.verdict().await.0, Health::Healthy);
    assert!(server.asked()[0].starts_with("proxy unknown\r\nget / "), "{:?}", server.asked());
}

#[tokio::test]
async fn tls_is_spoken_as_requests_speak_it() {
    let dir = tempfile::tempdir().unwrap();
    let served = Reply::Http2 { status: 200, grpc_status: GrpcStatus::None, body: Vec::new() };
    let (one, two): (&[&[u8]], &[&[u8]]) = (&[b"http/1.1"], &[b"h2"]);
    for (protocol, reply, alpn, name, expected) in [
        (UpstreamProtocol::Http1, Reply::status(200), one, HOST, ""),
        (UpstreamProtocol::Http2, served.clone(), two, HOST, ""),
        (UpstreamProtocol::Http1, Reply::status(200), one, "other.openclaw.example", "TLS: "),
        (UpstreamProtocol::Http2, served, &[], HOST, "does not speak HTTP/2"),
    ] {
        let (server, address, pem) = TestServer::tls(reply, alpn).await;
        let ca = dir.path().join(format!("{}.pem", address.port()));
        std::fs::write(&ca, pem).unwrap();
        let mut bed = bed(HealthCheck { fall: 1, ..http("/") }, at(address));
        bed.spec.protocol = protocol;
        let server_name = Some(name.to_owned());
        let tls = UpstreamTls { ca: Some(ca), certificate: None, server_name, insecure: false };
        bed.spec.tls = Some(tls);
        bed.apply();
        let (health, why) = bed.verdict().await;
        assert_eq!(health == Health::Healthy, expected.is_empty(), "{why}");
        assert!(why.contains(expected), "{why}");
        assert_eq!(bed.results("tls_failed") > 0, !expected.is_empty());
        assert_eq!(server.asked().is_empty(), !expected.is_empty());
        if protocol == UpstreamProtocol::Http2 && health == Health::Healthy {
            assert!(server.asked()[0].starts_with("get https://127.0.0.1:"));
        }
    }
}

fn http2(status: u16, body: &[u8], grpc_status: GrpcStatus) -> Reply {
    Reply::Http2 { status, grpc_status, body: body.to_vec() }
}

#[tokio::test]
async fn http2_is_asked_as_requests_are_sent() {
    for (status, text, expected) in [
        (200, "all fine", Health::Healthy),
        (503, "all fine", Health::Unhealthy),
        (200, "nothing", Health::Unhealthy),
    ] {
        let reply = http2(status, text.as_bytes(), GrpcStatus::None);
        let (server, address) = TestServer::tcp(reply).await;
        let mut check = http("/health");
        check.fall = 1;
        if let Probe::Http { body, .. } = &mut check.probe {
            *body = Some("fine".to_owned());
        }
        let mut bed = bed(check, at(address));
        bed.spec.protocol = UpstreamProtocol::Http2;
        bed.apply();
        let (health, why) = bed.verdict().await;
        assert_eq!(health, expected, "{why}");
        let asked = server.asked();
        assert!(asked[0].starts_with(&format!("get http://{address}/health ")), "{asked:?}");
    }
}

#[tokio::test]
async fn grpc_services_must_be_serving() {
    use GrpcStatus::{Head, None, Trailers};
    let cases = [
        (http2(200, &[0, 0, 0, 0, 2, 8, 1], Trailers("0")), "ok", ""),
        (http2(200, &[0, 0, 0, 0, 2, 8, 2], Trailers("0")), "not_serving", "NOT_SERVING"),
        (http2(200, &[], Trailers("0")), "broken", "no message"),
        (http2(200, &[], Head("12")), "not_serving", "grpc-status 12"),
        (http2(200, &[0, 0, 0, 0, 2, 8, 1], Trailers("5")), "not_serving", "grpc-status 5"),
        (http2(200, &[0, 0, 0, 0, 2, 8, 1], None), "broken", "no grpc-status"),
        (http2(404, &[], None), "status", "status 404"),
    ];
    for (reply, label, expected) in cases {
        let (server, address) = TestServer::tcp(reply).await;
        let probe = Probe::Grpc { service: "api".to_owned() };
        let mut bed = bed(HealthCheck { fall: 1, ..HealthCheck::new(probe) }, at(address));
        bed.apply();
        let (health, why) = bed.verdict().await;
        assert_eq!(bed.results(label), 1, "{label}: {why}");
        assert_eq!(health == Health::Healthy, label == "ok");
        assert!(why.contains(expected), "{why}");
        let asked = &server.asked()[0];
        let path = format!("post http://{address}/grpc.health.v1.health/check ");
        assert!(asked.starts_with(&path), "{asked}");
        assert!(
            asked.contains("\"application/grpc\"") && asked.contains("\"trailers\""),
            "{asked}"
        );
        assert!(asked.ends_with("[0, 0, 0, 0, 5, 10, 3, 97, 112, 105]"), "{asked}");
    }
}

#[tokio::test]
async fn the_same_check_keeps_its_verdict_over_reloads_and_another_begins_anew() {
    let (server, address) = TestServer::tcp(Reply::status(200)).await;
    let mut bed = bed(http("/"), at(address));
    bed.apply();
    bed.verdict().await;
    bed.apply();
    assert_eq!(bed.health(), Health::Healthy);
    let endpoint = bed.endpoint(0);
    server.set(Reply::status(500));
    bed.spec.health = Some(http("/other"));
    bed.apply();
    assert_eq!(bed.health(), Health::Starting);
    assert_eq!(bed.verdict().await.0, Health::Unhealthy);
    assert!(server.asked().last().unwrap().starts_with("get /other "));
    // Nobody asks any more: not a reason to leave it out.
    bed.spec.health = None;
    bed.apply();
    assert_eq!((bed.health(), bed.error()), (Health::Unchecked, String::new()));
    assert!(Arc::ptr_eq(&endpoint, &bed.endpoint(0)));
    assert!(bed.checker.checked.is_empty() && bed.checker.upstreams.is_empty());
    // What is still under way changes nothing.
    bed.until("the last answer", |bed| bed.checker.under_way == 0).await;
    assert_eq!(bed.health(), Health::Unchecked);
}

#[tokio::test]
async fn the_start_period_is_waited_for() {
    let (server, address) = TestServer::tcp(Reply::status(503)).await;
    let mut check = http("/");
    check.start_period = Duration::from_secs(3600);
    let mut bed = bed(check, at(address));
    bed.apply();
    bed.until("many answers", |bed| bed.results("status") >= 6).await;
    assert_eq!(bed.health(), Health::Starting);
    server.set(Reply::status(200));
    assert_eq!(bed.verdict().await.0, Health::Healthy);
}

#[tokio::test]
async fn many_endpoints_share_the_questions_that_may_be_under_way() {
    // Nobody listens there.
    let ips = (0..600u32).map(|n| SocketAddr::from((std::net::Ipv4Addr::from(0x7f01_0000 + n), 9)));
    let mut check = http("/");
    (check.interval, check.fall) = (Duration::from_secs(3600), 1);
    let mut bed = bed(check, ips.map(EndpointAddress::Ip).collect());
    bed.apply();
    bed.checker.ask_who_is_due();
    assert_eq!(bed.checker.under_way, bed.checker.at_once);
    bed.until("all of them", |bed| {
        assert!(bed.checker.under_way <= AT_ONCE);
        let set = bed.state.endpoints.load();
        set.members.iter().all(|one| one.endpoint.condition.health() == Health::Unhealthy)
    })
    .await;
    // Each once, and each has its next time.
    let asked = bed.results("connect_failed");
    assert_eq!((asked, bed.checker.under_way, bed.checker.due.len()), (600, 0, 600));
    bed.spec.endpoints.truncate(1);
    for _ in 0..3 {
        bed.apply();
    }
    assert_eq!((bed.checker.checked.len(), bed.checker.upstreams.len()), (1, 1));
}
