//! Endpoints by name, against a DNS server that the test owns.

use std::net::SocketAddr;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType::{A, AAAA, SRV};

use crate::harness::{Backend, Conf, Edge, Lab, wait_until};
use server::{EMPTY, Reply, TestDns, addresses, services};

#[allow(dead_code)]
#[path = "../../src/control/resolve/test_dns.rs"]
pub mod server;

const HOST: &str = "app.openclaw.example";
const NAME: &str = "api.svc.openclaw.example.";

/// Answers until the test's process ends.
pub fn dns() -> TestDns {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            send.send(TestDns::start().await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    receive.recv().unwrap()
}

fn says(dns: &TestDns, ips: &[&str]) {
    dns.set(NAME, A, Reply::Records(addresses(NAME, 1, ips)));
    dns.set(NAME, AAAA, EMPTY);
}

/// An edge with this one endpoint that asks this server, with the search list of a pod.
fn edge(dns: &TestDns, endpoint: &str) -> Edge {
    let lab = Lab::new();
    let resolv_conf = format!(
        "nameserver {}\nsearch default.svc.openclaw.example svc.openclaw.example\n\
         options ndots:5 timeout:1 attempts:1\n",
        dns.address
    );
    let file = lab.write("resolv.conf", resolv_conf);
    let conf = Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{endpoint}\"] }}\n\
         routes:\n  app: {{ hosts: [{HOST}], upstream: app }}\n"
    ));
    Edge::start_with_env(&lab, &conf, "OPENCLAW_EDGE_RESOLV_CONF", &file)
}

/// The bodies of as many answers, in order.
fn answers(edge: &Edge, count: usize) -> Vec<String> {
    let mut client = edge.client();
    (0..count).map(|_| client.get(HOST, "/").text()).collect()
}

/// Two backends that differ in their address alone.
fn two() -> (Backend, Backend, u16) {
    loop {
        let one = Backend::named("one");
        let other = SocketAddr::from(([127, 0, 0, 2], one.addr.port()));
        // Somebody else may have it.
        if std::net::TcpListener::bind(other).is_ok() {
            let answer = crate::harness::backend::ok("two");
            let two = Backend::on(&other.to_string(), move |peer| {
                while peer.request().is_some() {
                    peer.send(&answer);
                }
            });
            return (one, two, other.port());
        }
    }
}

#[test]
fn a_name_that_is_unknown_at_the_start_serves_as_soon_as_it_resolves() {
    let (dns, backend) = (dns(), Backend::ok());
    let edge = edge(&dns, &format!("api:{}", backend.addr.port()));
    edge.client().get(HOST, "/").assert_cause(503, "dns_failed");
    edge.wait_stderr("api does not resolve: NXDOMAIN");
    assert_eq!(edge.metric("edge_upstream_endpoints{upstream=\"app\",state=\"unresolved\"}"), 1.0);
    says(&dns, &["127.0.0.1"]);
    wait_until("the name to serve", || edge.client().get(HOST, "/").status == 200);
    edge.wait_stderr("api resolves again");
    wait_until("the metric to follow", || {
        edge.metric("edge_upstream_endpoints{upstream=\"app\",state=\"unresolved\"}") == 0.0
    });
}

#[test]
fn an_address_that_moves_is_followed_and_failing_dns_takes_nothing_away() {
    let (dns, (_one, _two, port)) = (dns(), two());
    says(&dns, &["127.0.0.1"]);
    let edge = edge(&dns, &format!("api:{port}"));
    assert_eq!(answers(&edge, 1), ["one"], "the start has waited for the first address");
    says(&dns, &["127.0.0.2"]);
    wait_until("the second address", || answers(&edge, 1) == ["two"]);
    // On the connection of before, too.
    assert!(answers(&edge, 6).iter().all(|name| name == "two"));
    dns.set(NAME, A, Reply::Code(ResponseCode::ServFail));
    dns.set(NAME, AAAA, Reply::Silence);
    edge.wait_stderr("api does not resolve: ");
    edge.wait_stderr("the last good answer stays");
    assert!(answers(&edge, 6).iter().all(|name| name == "two"));
}

#[test]
fn a_service_is_balanced_by_the_weights_of_its_records() {
    let (dns, (one, two)) = (dns(), (Backend::named("one"), Backend::named("two")));
    let spare = Backend::named("spare");
    let name = "_http._tcp.api.svc.openclaw.example.";
    let target = "h.svc.openclaw.example.";
    let records = [(one.addr, 1, 30), (two.addr, 1, 10), (spare.addr, 2, 100)];
    let records = records.map(|(addr, priority, weight)| (priority, weight, addr.port(), target));
    let beside = addresses(target, 60, &["127.0.0.1"]);
    dns.set(name, SRV, Reply::Beside(services(name, 60, &records), beside));
    let edge = edge(&dns, "srv+_http._tcp.api.svc.openclaw.example");
    wait_until("the service to serve", || edge.client().get(HOST, "/").status == 200);
    let names = answers(&edge, 40);
    let count = |name: &str| names.iter().filter(|one| *one == name).count();
    assert_eq!((count("one"), count("two"), count("spare")), (30, 10, 0));
}
