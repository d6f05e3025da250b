//! Names that pass from the config file to a tenant and back, labels that tenants gain and lose,
//! and the end of the whole section: nothing of the former stays behind.

use super::{Tenant, conf_with, file, lab, registry, wait_cut};
use crate::harness::edge::replace;
use crate::harness::{Conf, Edge, wait_until, ws};

/// Requests counted under these labels.
fn requests(edge: &Edge, labels: &str) -> f64 {
    edge.metric(&format!("edge_http_requests_total{{{labels}}}"))
}

/// Whether a series of the family has these labels.
fn has(edge: &Edge, family: &str, labels: &[&str]) -> bool {
    let text = edge.admin("/metrics").body;
    let of = |line: &&str| line.split('{').next() == Some(family);
    text.lines().filter(of).any(|line| labels.iter().all(|label| line.contains(label)))
}

fn is_counted(edge: &Edge, tenant: &Tenant, labels: &str) {
    tenant.is_served(edge);
    wait_until("the request to be counted", || requests(edge, labels) > 0.0);
}

#[test]
fn another_number_of_labels_reaches_every_tenant() {
    let tenants = ["a", "b"].map(Tenant::new);
    let lab = lab(&tenants.iter().map(Tenant::entry).collect::<Vec<_>>());
    let conf =
        |most: usize| conf_with(&lab, &format!("metrics: {{ tenants: {most} }}"), super::ROUTES);
    let edge = Edge::start_in(&lab, &conf(1));
    let mut streams = tenants.each_ref().map(|tenant| tenant.streams(&edge));
    is_counted(&edge, &tenants[0], "route=\"bridge\",tenant=\"a\"");
    is_counted(&edge, &tenants[1], "route=\"bridge\",tenant=\"other\"");
    edge.reload(&conf(2));
    is_counted(&edge, &tenants[1], "route=\"bridge\",tenant=\"b\"");
    for family in ["edge_http_requests_total", "edge_upstream_endpoints", "edge_upstream_panic"] {
        wait_until("the shared label to go", || !has(&edge, family, &["tenant=\"other\""]));
    }
    assert!(has(&edge, "edge_upstream_endpoints", &["upstream=\"bridge\"", "tenant=\"b\""]));
    edge.reload(&conf(0));
    is_counted(&edge, &tenants[0], "route=\"bridge\",tenant=\"other\"");
    for tenant in ["tenant=\"a\"", "tenant=\"b\""] {
        wait_until("labels to go", || !has(&edge, "edge_http_requests_total", &[tenant]));
    }
    // Nobody's connection notices.
    streams.iter_mut().for_each(super::Streams::go_on);
    assert_eq!(tenants[0].gateway.connections(), 1);
}

/// A route `a.gateway` of the config file, to the gateway of this tenant.
fn own_route(conf: Conf, tenant: &Tenant, name: &str) -> Conf {
    conf.global(&format!(
        "upstreams: {{ {name}: {{ endpoints: [\"{}\"] }} }}\n\
         routes: {{ {name}: {{ hosts: [own.openclaw.example], upstream: {name} }} }}",
        tenant.gateway.addr
    ))
}

#[test]
fn a_name_passes_from_the_config_file_to_a_tenant_and_back() {
    let [a, b] = ["a", "b"].map(Tenant::new);
    let lab = lab(&[b.entry()]);
    // A route, and one that is called as a template is.
    for name in ["a.gateway", "gateway"] {
        let conf = || {
            let conf = conf_with(&lab, "removed: { drain: 1s }", super::ROUTES);
            conf.global("drain: { removed_route_grace: 1s }")
        };
        let (with_route, without) = (own_route(conf(), &a, name), conf());
        replace(&file(&lab), &registry(&[b.entry()]));
        let edge = Edge::start_in(&lab, &with_route);
        let mut of_file = edge.client();
        ws::open(&mut of_file, "own.openclaw.example", "/");
        assert!(edge.client().get("own.openclaw.example", "/").status > 0);
        let plain = [&format!("route=\"{name}\"")[..], &format!("upstream=\"{name}\"")];
        wait_until("the request to be counted", || has(&edge, "edge_http_requests_total", &plain));
        // To the tenant.
        edge.expect_reload(|| {
            replace(&file(&lab), &registry(&[a.entry(), b.entry()]));
            replace(&edge.config_path(), &without.render(lab.path()));
        });
        wait_until("the tenant", || a.is_served(&edge));
        wait_cut(&edge, name, 1);
        let untenanted = |family: &str, label: &str| {
            let text = edge.admin("/metrics").body;
            let label = format!("{label}=\"{name}\"");
            text.lines().any(|line| {
                line.split('{').next() == Some(family)
                    && line.contains(&label)
                    && !line.contains("tenant=")
            })
        };
        for (family, label) in [
            ("edge_http_requests_total", "route"),
            ("edge_upstream_endpoints", "upstream"),
            ("edge_upstream_panic", "upstream"),
        ] {
            wait_until("its series to go", || !untenanted(family, label));
        }
        // And back.
        let mut of_tenant = edge.client();
        ws::open(&mut of_tenant, &a.host(), "/");
        is_counted(&edge, &a, "route=\"bridge\",tenant=\"a\"");
        edge.expect_reload(|| {
            replace(&file(&lab), &registry(&[b.entry()]));
            replace(&edge.config_path(), &with_route.render(lab.path()));
        });
        wait_until("the route", || {
            let mut client = edge.client();
            client.send(ws::opening("own.openclaw.example", "/", ""));
            client.response().status == 101
        });
        wait_cut(&edge, "a.gateway", if name == "a.gateway" { 2 } else { 1 });
        wait_until("its series to go", || {
            !has(&edge, "edge_http_requests_total", &["tenant=\"a\""])
                && !has(&edge, "edge_upstream_endpoints", &["tenant=\"a\""])
        });
    }
}

#[test]
fn tenants_drain_as_long_as_their_section_said() {
    let a = Tenant::new("a");
    let lab = lab(&[a.entry()]);
    let rest = "drain: { removed_route_grace: 1h }\n\
                routes: { r: { hosts: [r.openclaw.example], respond: { status: 200 } } }";
    let conf = conf_with(&lab, "removed: { drain: 0s }", super::ROUTES).global(rest);
    let edge = Edge::start_in(&lab, &conf);
    let streams = a.streams(&edge);
    edge.reload(&Conf::new("").global(rest));
    wait_cut(&edge, "a.gateway", 1);
    drop(streams);
}
