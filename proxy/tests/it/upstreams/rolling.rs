//! A rolling restart of three real backends under load.

use std::time::Duration;

use crate::harness::load::Load;
use crate::harness::service::{Kind, Service, assert_once};
use crate::harness::{Conf, Edge, Lab};

fn rolled(upstream: &str) {
    let lab = Lab::new();
    let names = ["one", "two", "three"];
    let mut services: Vec<Service> =
        names.iter().map(|name| Service::start(&lab, Kind::Node, name)).collect();
    let addresses: Vec<_> = services.iter().map(|service| service.addr).collect();
    let conf = Conf::app_with(&addresses, upstream, "").workers(2);
    let edge = Edge::start_in(&lab, &conf);
    let load = Load::start(&edge, "app.openclaw.example");
    for service in &mut services {
        service.down();
        load.run_for(Duration::from_secs(2));
        service.up();
        load.wait_more(50);
    }
    let tally = load.finish();
    tally.assert_clean(500);
    for name in names {
        assert!(tally.share(name) > 0.0, "{:?}", tally.answers);
    }
    assert_once(&services, &tally.posts);
}

#[test]
fn as_it_is_by_default() {
    rolled("");
}

#[test]
fn with_health_checks() {
    rolled("balance: least_request, health: { path: /health, interval: 200ms, fall: 1 }");
}
