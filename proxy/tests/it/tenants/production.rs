//! `production.json` of the platform, with loopback addresses in the place of its servers'.

use super::{Tenant, conf, shown, state, states};
use crate::harness::backend::ok;
use crate::harness::edge::command;
use crate::harness::{Backend, Edge, Lab, wait_until, ws};

const PRODUCTION: &str = include_str!("../../../../config/tests/tenants/production.json");

/// Two addresses that no other process of this machine binds.
fn addresses() -> [String; 2] {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    [format!("127.{}.{b}.{c}", 64 + a % 64), format!("127.{}.{b}.{c}", 128 + a % 64)]
}

#[test]
fn the_registry_of_the_platform_is_served() {
    let [first, second] = addresses();
    let lab = Lab::new();
    let text = PRODUCTION.replace("192.0.2.10", &first).replace("192.0.2.11", &second);
    lab.write("production.json", &text);
    let gateways =
        [&first, &second].map(|host| Backend::on(&format!("{host}:18789"), ws::serve_echo));
    let bridge = Backend::on(&format!("{second}:18790"), |peer| {
        while peer.request().is_some() {
            peer.send(ok("the bridge"));
        }
    });
    let edge = Edge::start_in(&lab, &conf(&lab));
    for (tenant, gateway) in ["acme-corp", "newtenant-corp"].iter().zip(&gateways) {
        let host = format!("{tenant}.gw.openclaw.example");
        for mut client in [edge.client(), edge.tls_client(&host)] {
            ws::open(&mut client, &host, "/");
            client.ws_echo("hello");
        }
        assert_eq!(gateway.connections(), 2);
    }
    let host = "newtenant-corp-bridge.gw.openclaw.example";
    edge.client().get(host, "/").assert_ok("the bridge");
    edge.tls_client(host).get(host, "/").assert_ok("the bridge");
    assert_eq!(bridge.requests().len(), 2);
    // Nobody listens at the bridge of the other one: its own matter.
    let other = edge.client().get("acme-corp-bridge.gw.openclaw.example", "/");
    other.assert_cause(502, "connect_failed");

    assert_eq!(states(&edge), [2.0, 0.0, 0.0]);
    let found = shown(&edge, "newtenant-corp").unwrap();
    assert_eq!(found["state"], "good", "{found}");
    assert_eq!(found["routes"][0]["endpoint"], format!("{second}:18790"), "{found}");
    assert_eq!(found["routes"][1]["hosts"][0]["host"], "newtenant-corp.gw.openclaw.example");
    assert_eq!(found["routes"][1]["hosts"][0]["certificate"]["placeholder"], false, "{found}");

    let socket = lab.path().join("admin.sock");
    let listed = command(&["tenants", "--socket", socket.to_str().unwrap()]);
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success(), "{text}");
    for part in ["acme-corp ", "newtenant-corp-bridge.gw.openclaw.example ", ":18789 "] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn series_are_those_of_the_template_and_of_the_first_tenants() {
    let tenants = ["a", "b", "c"].map(Tenant::new);
    let lab = super::lab(&tenants.iter().map(Tenant::entry).collect::<Vec<_>>());
    let conf = super::conf_with(&lab, "metrics: { tenants: 1 }", super::ROUTES);
    let edge = Edge::start_in(&lab, &conf);
    for tenant in &tenants {
        assert!(tenant.is_served(&edge));
    }
    let count = |labels: &str| edge.metric(&format!("edge_http_requests_total{{{labels}}}"));
    wait_until("the requests to be counted", || count("route=\"bridge\"") == 3.0);
    assert_eq!(count("route=\"bridge\",upstream=\"bridge\",tenant=\"a\""), 1.0);
    assert_eq!(count("tenant=\"other\""), 2.0);
    let text = edge.admin("/metrics").body;
    for name in ["a.bridge", "b.gateway", "tenant=\"b\"", "tenant=\"c\""] {
        assert!(!text.contains(name), "{name} in {text}");
    }
    // Of two upstreams each.
    let endpoints = |tenant: &str| {
        edge.metric(&format!("edge_upstream_endpoints{{upstream=\"gateway\",tenant=\"{tenant}\"}}"))
    };
    assert_eq!((endpoints("a"), endpoints("other")), (1.0, 2.0));
    // The label stays whose it is, and is free when its tenant is gone.
    super::write(&edge, &[tenants[1].entry(), tenants[2].entry()]);
    wait_until("series of a to go", || !edge.admin("/metrics").body.contains("tenant=\"a\""));
    assert_eq!(state(&edge, "b"), "good");
    let new = Tenant::new("d");
    super::write(&edge, &[tenants[1].entry(), tenants[2].entry(), new.entry()]);
    assert!(new.is_served(&edge));
    wait_until("d to be counted", || count("tenant=\"d\"") == 1.0);
}
