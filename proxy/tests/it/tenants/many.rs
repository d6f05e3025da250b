//! Ten thousand tenants: what they do, not how long it takes (`soak tenants` measures that).

use std::fmt::Write as _;

use super::{Tenant, file, states};
use crate::harness::edge::replace;
use crate::harness::{Edge, Lab};

const TENANTS: usize = 10_000;

/// Nobody listens there: those that are asked for stand at the end.
fn registry(extra: &[&Tenant], changed: usize) -> String {
    let mut text = String::from("{ \"servers\": [\n");
    for number in 0..TENANTS - extra.len() {
        let port = if number == changed { 28_789 } else { 18_789 };
        let (high, low) = (number / 250, number % 250 + 1);
        let _ = writeln!(
            text,
            "{{ \"tenant\": \"t{number}\", \"host\": \"127.90.{high}.{low}\", \
             \"gateway_port\": {port}, \"bridge_port\": 18790 }},"
        );
    }
    let extra: Vec<String> = extra.iter().map(|tenant| tenant.entry().to_string()).collect();
    text + &extra.join(",\n") + "\n] }\n"
}

#[test]
fn ten_thousand_tenants() {
    let [a, b] = ["a", "b"].map(Tenant::new);
    let lab = Lab::new();
    lab.write("production.json", registry(&[&a, &b], usize::MAX));
    // No TLS: twenty thousand keys of an internal CA are another matter.
    let dir = lab.path().display();
    let text = format!(
        "version: 1\nworkers: 2\nstate_dir: {dir}/state\n\
         admin: {{ listen: \"127.0.0.1:0\", socket: {dir}/admin.sock }}\n\
         listeners: {{ http: {{ bind: [\"127.0.0.1:0\"] }} }}\n\
         tenants:\n  file: {}\n  routes:{}",
        file(&lab).display(),
        super::ROUTES
    );
    let config = lab.write("edge.yaml", text);
    let edge = Edge::start_file(&lab, &config);
    assert_eq!(states(&edge), [TENANTS as f64, 0.0, 0.0]);
    let mut streams = [a.streams(&edge), b.streams(&edge)];
    let unreachable = edge.client().get("t9000.gw.openclaw.example", "/");
    unreachable.assert_cause(502, "connect_failed");
    edge.expect_reload(|| replace(&file(&lab), &registry(&[&a, &b], 77)));
    edge.wait_stderr("tenants: 1 changed (t77)");
    streams.iter_mut().for_each(super::Streams::go_on);
    assert_eq!([a.gateway.connections(), b.gateway.connections()], [1, 1]);
    edge.expect_reload(|| replace(&file(&lab), &registry(&[&a], 77)));
    streams[0].go_on();
    assert!(!b.is_served(&edge));
    // Series are those of templates and of a hundred labels.
    let series = edge.admin("/metrics").body.lines().count();
    assert!(series < 5_000, "{series} lines");
}
