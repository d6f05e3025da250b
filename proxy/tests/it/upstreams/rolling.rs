//! A rolling restart of three real backends under load.

use std::time::Duration;

use crate::harness::load::Load;
use crate::harness::service::{Kind, Service, assert_once};
use crate::harness::{Conf, Edge, Lab};

fn rolled(kinds: [Kind; 3], upstream: &str) {
    let lab = Lab::new();
    let names = ["one", "two", "three"];
    let mut services: Vec<Service> =
        names.iter().zip(kinds).map(|(name, kind)| Service::start(&lab, kind, name)).collect();
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
        assert!(tally.share(name) > 0.1, "{:?}", tally.answers);
    }
    assert_once(&services, &tally.posts);
}

#[test]
fn uvicorn_and_node() {
    rolled([Kind::Uvicorn, Kind::Node, Kind::Uvicorn], "");
}

#[test]
fn with_health_checks() {
    let health = "balance: least_request, health: { path: /health, interval: 200ms, fall: 1 }";
    rolled([Kind::Node, Kind::Node, Kind::Node], health);
}
