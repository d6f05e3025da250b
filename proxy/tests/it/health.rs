//! Active health checks: who gets traffic, and what operators see of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::harness::{Backend, Conf, Edge, eventually, wait_until};

/// Its name for every request; what it answers to its health check can be set.
struct Checked {
    backend: Backend,
    says: Arc<AtomicU16>,
}

fn checked(name: &'static str, status: u16) -> Checked {
    let says = Arc::new(AtomicU16::new(status));
    let health = says.clone();
    let backend = Backend::script(move |peer| {
        while let Some(request) = peer.request() {
            let status = match request.target() {
                "/health" => health.load(Ordering::SeqCst),
                _ => 200,
            };
            let length = name.len();
            peer.send(format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{name}"));
        }
    });
    Checked { backend, says }
}

impl Checked {
    fn say(&self, status: u16) {
        self.says.store(status, Ordering::SeqCst);
    }
}

fn conf(endpoints: &[&Checked], more: &str) -> Conf {
    let addresses: Vec<_> = endpoints.iter().map(|one| one.backend.addr).collect();
    let health = format!("health: {{ path: /health, interval: 100ms, fall: 2{more} }}");
    Conf::app_with(&addresses, &health, "")
}

fn in_state(edge: &Edge, state: &str) -> f64 {
    edge.metric(&format!("edge_upstream_endpoints{{upstream=\"app\",state=\"{state}\"}}"))
}

fn until_in_state(edge: &Edge, state: &str, count: f64) {
    wait_until(&format!("{count} endpoints to be {state}"), || in_state(edge, state) == count);
}

/// Who answers twelve requests.
fn answering(edge: &Edge) -> Vec<String> {
    let mut client = edge.client();
    let mut names: Vec<String> =
        (0..12).map(|_| client.get("app.openclaw.example", "/").text()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn an_endpoint_that_fails_its_check_gets_no_traffic_until_it_recovers() {
    let (a, b) = (checked("a", 200), checked("b", 200));
    let edge = Edge::start(&conf(&[&a, &b], ""));
    until_in_state(&edge, "healthy", 2.0);
    assert_eq!(answering(&edge), ["a", "b"]);
    a.say(503);
    until_in_state(&edge, "unhealthy", 1.0);
    assert_eq!(answering(&edge), ["b"]);
    let line = format!("upstream app: {} is unhealthy: 2 checks failed", a.backend.addr);
    edge.wait_stderr(&format!("{line}, last: status 503"));
    assert!(
        edge.metric("edge_upstream_health_checks_total{upstream=\"app\",result=\"status\"}") >= 2.0
    );
    assert_eq!(edge.metric("edge_upstream_panic{upstream=\"app\"}"), 0.0);
    a.say(200);
    until_in_state(&edge, "healthy", 2.0);
    assert_eq!(answering(&edge), ["a", "b"]);
    edge.wait_stderr(&format!("upstream app: {} is healthy: 1 check passed", a.backend.addr));
}

#[test]
fn an_endpoint_in_its_start_period_waits_for_its_first_good_answer() {
    let (old, new) = (checked("old", 200), checked("new", 503));
    let edge = Edge::start(&conf(&[&old, &new], ", start_period: 1h"));
    until_in_state(&edge, "healthy", 1.0);
    let failed = "edge_upstream_health_checks_total{upstream=\"app\",result=\"status\"}";
    wait_until("the new endpoint to have failed often enough", || edge.metric(failed) >= 4.0);
    assert_eq!((in_state(&edge, "starting"), in_state(&edge, "unhealthy")), (1.0, 0.0));
    assert_eq!(answering(&edge), ["old"]);
    new.say(200);
    until_in_state(&edge, "healthy", 2.0);
    assert_eq!(answering(&edge), ["new", "old"]);
}

/// Wrong checks must not take a service down that works.
#[test]
fn with_no_endpoint_left_requests_are_tried_all_the_same_and_it_is_told() {
    let (a, b) = (checked("a", 503), checked("b", 503));
    let edge = Edge::start(&conf(&[&a, &b], ""));
    until_in_state(&edge, "unhealthy", 2.0);
    let gauge = "edge_upstream_panic{upstream=\"app\"}";
    wait_until("the panic to be told", || edge.metric(gauge) == 1.0);
    edge.wait_stderr("upstream app: none of its 2 endpoints can be used: 2 unhealthy");
    assert_eq!(answering(&edge), ["a", "b"]);
    b.say(200);
    wait_until("the end of the panic", || edge.metric(gauge) == 0.0);
    edge.wait_stderr("upstream app: it can be used again: 1 healthy, 1 unhealthy");
    assert_eq!(answering(&edge), ["b"]);
    let told = edge.stderr().matches("none of its 2 endpoints").count();
    assert_eq!(told, 1);
}

#[test]
fn verdicts_outlive_reloads_that_leave_the_check_alone() {
    let (a, b) = (checked("a", 503), checked("b", 200));
    let edge = Edge::start(&conf(&[&a, &b], ""));
    until_in_state(&edge, "unhealthy", 1.0);
    let c = checked("c", 200);
    // It would be healthy within the next second if it were begun anew.
    edge.reload(&conf(&[&a, &b, &c], "").global("trusted_proxies: [192.0.2.0/24]"));
    assert_eq!(in_state(&edge, "unhealthy"), 1.0);
    assert_eq!(answering(&edge).first().map(String::as_str), Some("b"));
    until_in_state(&edge, "healthy", 2.0);
    // Without a check there is no reason to leave it out.
    edge.reload(&Conf::app(&[a.backend.addr, b.backend.addr]));
    assert_eq!(in_state(&edge, "unchecked"), 2.0);
    assert_eq!(answering(&edge), ["a", "b"]);
    let asked = eventually("the checks to have ended", || {
        let asked = a.backend.requests().len();
        std::thread::sleep(std::time::Duration::from_millis(500));
        (a.backend.requests().len() == asked).then_some(asked)
    });
    assert!(asked > 2);
}
