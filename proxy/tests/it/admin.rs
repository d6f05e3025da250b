//! The admin server: what it tells, and to whom.

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::edge::admin_tcp;
use crate::harness::{Backend, Client, Conf, Edge, Lab, eventually, wait_until};

fn app() -> (Backend, Edge) {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    (backend, edge)
}

#[test]
fn paths() {
    let (_backend, edge) = app();
    assert_eq!(edge.admin("/healthz").status, 200);
    let ready = edge.admin("/readyz");
    assert_eq!(ready.status, 200);
    assert!(
        ready.body.contains(&edge.http.to_string()) && ready.body.contains(&edge.https.to_string())
    );
    let config = edge.admin("/api/v1/config");
    assert_eq!(config.head.get("content-type"), Some("application/json"));
    assert_eq!(config.json()["outcome"], "applied");
    let routes = edge.admin("/api/v1/routes");
    assert!(routes.json().to_string().contains("app.openclaw.example"));
    assert_eq!(edge.admin("/nothing").status, 404);
    assert_eq!(edge.admin("/").status, 404);
}

#[test]
fn over_tcp_only_with_a_harmless_host() {
    let (_backend, edge) = app();
    let addr = edge.admin_addr();
    let get = |host: &str, extra: &str| {
        let request = format!(
            "GET /api/v1/config HTTP/1.1\r\nHost: {host}\r\n{extra}Connection: close\r\n\r\n"
        );
        admin_tcp(addr, &request).status
    };
    for host in [&*addr.to_string(), "127.0.0.1", "localhost:9901", "[::1]:9901", "LOCALHOST"] {
        assert_eq!(get(host, ""), 200, "{host}");
    }
    for host in [
        "evil.openclaw.example",
        "app.openclaw.example:9901",
        "localhost.evil.openclaw.example",
        "127.0.0.1.evil.openclaw.example",
    ] {
        assert!((400..500).contains(&get(host, "")), "{host}");
    }
    assert!((400..500).contains(&get("localhost", "Sec-Fetch-Site: cross-site\r\n")));
    assert!((400..500).contains(&get("localhost", "Origin: https://evil.openclaw.example\r\n")));
    assert_eq!(get("localhost", "Sec-Fetch-Site: same-origin\r\n"), 200);
    assert_eq!(get("localhost", "Sec-Fetch-Site: none\r\n"), 200);
}

#[test]
fn nothing_is_changed_over_it() {
    let (_backend, edge) = app();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let request = |path| {
            format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        };
        let answer = admin_tcp(edge.admin_addr(), &request("/api/v1/config"));
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.get("allow").is_some());
    }
}

#[test]
fn it_is_not_on_the_data_listeners() {
    let (backend, edge) = app();
    for path in ["/metrics", "/readyz", "/api/v1/config"] {
        edge.client().get("app.openclaw.example", path).assert_ok("ok");
        assert_eq!(edge.client().get("localhost", path).status, 404);
    }
    assert_eq!(backend.requests().len(), 3);
}

#[test]
fn the_socket_is_private_and_tcp_can_be_off() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]).admin("off"));
    let meta = std::fs::metadata(edge.lab.path().join("admin.sock")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert_eq!(edge.admin("/readyz").status, 200);
}

#[test]
fn a_taken_admin_port_is_no_condition_of_readiness() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]).admin(&address));
    edge.client().get("app.openclaw.example", "/").assert_ok("ok");
    drop(taken);
    crate::harness::wait_until("the admin port to be taken over", || {
        std::net::TcpStream::connect(&address).is_ok()
    });
}

#[test]
fn a_second_process_is_refused_unless_it_shares() {
    let (_backend, first) = app();
    let other = Backend::named("second");
    let bind = |edge: &Edge| (edge.http.to_string(), edge.https.to_string());
    let (http, https) = bind(&first);
    let conf = Conf::app(&[other.addr]).bind(&http, &https);
    let lab = Lab::new();
    let path = lab.write("edge.yaml", conf.render(lab.path()));
    let mut second = Edge::spawn(&lab, &path, &[]);
    assert_eq!(second.wait_exit().code(), Some(1));
    second.wait_stderr(&http);
    second.wait_stderr("--share-ports");
    first.client().get("app.openclaw.example", "/").assert_ok("ok");
    // The first says so itself: both must allow it, or the second asks for it alone.
    let mut shared = Edge::spawn(&lab, &path, &["--share-ports"]);
    shared.wait_ready();
    assert_eq!(bind(&shared), (http, https));
    crate::harness::wait_until("both to be reached", || {
        first.client().get("app.openclaw.example", "/").text() == "second"
    });
    crate::harness::wait_until("both to be reached", || {
        first.client().get("app.openclaw.example", "/").text() == "ok"
    });
}

#[test]
fn metrics_count_requests_and_causes() {
    let (_backend, edge) = app();
    let mut client = edge.client();
    for _ in 0..3 {
        client.get("app.openclaw.example", "/").assert_ok("ok");
    }
    client.get("nowhere.openclaw.example", "/").assert_cause(404, "unknown_host");
    let metrics = edge.admin("/metrics");
    assert!(metrics.head.get("content-type").unwrap().starts_with("text/plain"));
    crate::harness::wait_until("three requests of the route", || {
        edge.metric("edge_http_requests_total{route=\"app\"}") == 3.0
    });
    assert_eq!(edge.metric("edge_http_requests_total{route=\"app\",code=\"200\"}"), 3.0);
    let local = edge.metric("edge_http_local_responses_total{reason=\"unknown_host\"}");
    assert_eq!(local, 1.0, "{}", edge.admin("/metrics").body);
    assert!(edge.metric("edge_connections") >= 1.0);
}

#[test]
fn labels_do_not_come_from_clients() {
    let (_backend, edge) = app();
    let series = || edge.admin("/metrics").body.lines().count();
    let mut client = edge.client();
    client.get("app.openclaw.example", "/").assert_ok("ok");
    client.get("x.openclaw.example", "/");
    let request = "BREW0 / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n";
    client.send(request);
    client.response();
    crate::harness::wait_until("the books of the last request", || {
        edge.admin("/metrics").body.contains("method=\"other\"")
    });
    let before = series();
    for n in 0..50 {
        client.get(&format!("host-{n}.openclaw.example"), &format!("/{n}"));
        client.get("app.openclaw.example", &format!("/{n}"));
        client.send(request.replace('0', &n.to_string()));
        client.response();
    }
    assert_eq!(series(), before);
    let text = edge.admin("/metrics").body;
    assert!(!text.contains("host-1") && !text.contains("BREW"), "{text}");
}

#[test]
fn routes_beyond_the_bound_of_series_are_counted_together() {
    const N: usize = 8;
    let backend = Backend::ok();
    let mut text = "metrics: { max_series: 1000 }\nupstreams:\n".to_owned();
    for n in 0..N {
        text += &format!("  up-{n}: {{ endpoints: [\"{}\"] }}\n", backend.addr);
    }
    text += "routes:\n";
    for n in 0..N {
        let limit = "rate_limits: [{ name: each, key: client_ip, rate: 50/s }]";
        let host = format!("hosts: [r-{n}.openclaw.example]");
        text += &format!("  r-{n}: {{ {host}, upstream: up-{n}, {limit} }}\n");
    }
    let edge = Edge::start(&Conf::new(text));
    edge.wait_stderr("metrics.max_series (1000) is reached: ");
    let mut client = edge.client();
    for n in 0..N {
        client.get(&format!("r-{n}.openclaw.example"), "/").assert_ok("ok");
    }
    crate::harness::wait_until("all requests to be counted", || {
        edge.metric("edge_http_requests_total") == N as f64
    });
    let text = edge.admin("/metrics").body;
    let named = |prefix: &str| {
        let own = (0..N).filter(|n| text.contains(&format!("=\"{prefix}-{n}\""))).count();
        assert!((1..N).contains(&own) && text.contains(&format!("=\"{prefix}-0\"")), "{text}");
        (N - own) as f64
    };
    let (routes, upstreams) = (named("r"), named("up"));
    assert_eq!(edge.metric("edge_http_requests_total{route=\"other\"}"), routes);
    assert_eq!(edge.metric("edge_rate_limit_keys{route=\"other\",limit=\"each\"}"), routes);
    assert_eq!(edge.metric("edge_upstream_requests_total{upstream=\"other\"}"), upstreams);
    assert_eq!(edge.metric("edge_upstream_endpoints{upstream=\"other\"}"), upstreams);
    assert!(edge.metric("edge_metrics_series_dropped_total") > 100.0 * routes);
    let bounded = |line: &&str| line.contains("route=\"") || line.contains("upstream=\"");
    assert!(text.lines().filter(bounded).count() <= 1000, "{text}");
    // Elsewhere each has its name.
    edge.wait_log("route", "r-7");
    assert!(edge.admin("/api/v1/limits").body.contains("\"r-7\""));
}

#[test]
fn its_connections_are_bounded() {
    let (_backend, edge) = app();
    let addr = edge.admin_addr();
    let ask = || {
        let mut client = Client::plain(addr);
        // Refused connections may be reset before they are written to.
        let _ = client.wire.try_send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.response_to("GET").is_ok_and(|response| response.status == 200).then_some(client)
    };
    let idle: Vec<Client> = (0..126).map(|_| Client::plain(addr)).collect();
    // The connection that told the address may not have left yet.
    let last = [(); 2].map(|()| eventually("the last two of 128", ask));
    assert!(ask().is_none(), "a connection beyond 128");
    drop((idle, last));
    wait_until("room again", || ask().is_some());
    assert_eq!(edge.admin("/healthz").status, 200);
}
