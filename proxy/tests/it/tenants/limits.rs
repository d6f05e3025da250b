//! Limits of a template: one limit, counted for each tenant.

use serde_json::json;

use super::{Tenant, conf_with, lab, state, write};
use crate::harness::{Conf, Edge, Lab};

fn start(tenants: &[Tenant], limit: &str) -> Edge {
    let lab = lab(&tenants.iter().map(Tenant::entry).collect::<Vec<_>>());
    Edge::start_in(&lab, &conf(&lab, limit))
}

/// Both templates have this limit.
fn conf(lab: &Lab, limit: &str) -> Conf {
    let limits = format!("_port}}\", rate_limits: [{{ {limit} }}] }}");
    conf_with(lab, "", &super::ROUTES.replace("_port}\" }", &limits))
}

#[test]
fn a_tenant_at_its_rate_leaves_the_others_alone() {
    let tenants = ["a", "b"].map(Tenant::new);
    let edge = start(&tenants, "name: asks, key: client_ip, rate: 1/h, burst: 2");
    let statuses =
        |tenant: &Tenant| [0; 3].map(|_| edge.client().get(&tenant.bridge_host(), "/").status);
    for tenant in &tenants {
        assert_eq!(statuses(tenant), [200, 200, 429], "{}", tenant.name);
    }
    // One limit in the books, with a key for each of the two.
    let keys = "edge_rate_limit_keys{route=\"bridge\",limit=\"asks\"}";
    assert_eq!(edge.metric(keys), 2.0);
    let refused = "edge_rate_limit_decisions_total{route=\"bridge\",decision=\"refused\"}";
    assert_eq!(edge.metric(refused), 2.0);
    let limits = edge.admin("/api/v1/limits").json();
    let routes: Vec<&str> = limits["routes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["route"].as_str().unwrap())
        .collect();
    assert_eq!(routes, ["bridge", "gateway"]);
    // A third tenant begins with all that it has; the others do not get theirs anew.
    let c = Tenant::new("c");
    super::write(&edge, &[tenants[0].entry(), tenants[1].entry(), c.entry()]);
    assert_eq!(statuses(&c), [200, 200, 429]);
    assert_eq!(statuses(&tenants[0]), [429, 429, 429]);
}

#[test]
fn what_a_former_version_keeps_is_listed_under_its_template() {
    let tenants = ["a", "b"].map(Tenant::new);
    let edge = start(&tenants, "name: asks, key: client_ip, rate: 1/h, burst: 2");
    let mut broken = tenants[1].entry();
    broken["gateway_port"] = json!("eighty");
    write(&edge, &[tenants[0].entry(), broken]);
    edge.reload(&conf(&edge.lab, "name: asks, key: route, rate: 1/h, burst: 2"));
    assert_eq!(state(&edge, "b"), "former");
    let all = edge.admin("/api/v1/limits").json();
    let [bridge, gateway] = &all["routes"].as_array().unwrap()[..] else { panic!("{all:#}") };
    assert_eq!([&bridge["route"], &gateway["route"]], ["bridge", "gateway"]);
    let [one, other] = &bridge["limits"].as_array().unwrap()[..] else { panic!("{all:#}") };
    assert_eq!(
        [&one["key"], &other["key"]],
        [&json!(["tenant+route"]), &json!(["tenant+client_ip"])]
    );
}

#[test]
fn streams_are_counted_for_each_tenant() {
    let tenants = ["a", "b"].map(Tenant::new);
    let edge = start(&tenants, "name: open, key: route, concurrent: 1");
    let [mut a, mut b] = [&tenants[0], &tenants[1]].map(|tenant| tenant.streams(&edge));
    let another = edge.client().get(&tenants[0].host(), "/");
    another.assert_cause(429, "too_many_streams");
    a.go_on();
    b.go_on();
    drop(a);
    crate::harness::wait_until("the place to be free", || {
        let mut client = edge.client();
        client.send(crate::harness::ws::opening(&tenants[0].host(), "/", ""));
        client.response().status == 101
    });
}
