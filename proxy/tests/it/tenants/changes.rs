//! Tenants that come, change and go while others are in use.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use super::{Tenant, conf, conf_with, file, lab, registry, start, state, wait_cut, write};
use crate::harness::edge::replace;
use crate::harness::{Conf, Edge, Lab, wait_until, ws};

#[test]
fn a_tenant_comes_by_a_rename_and_by_a_write_in_place() {
    let [a, b, c] = ["a", "b", "c"].map(Tenant::new);
    let edge = start(&[&a]);
    let mut streams = a.streams(&edge);
    let told = write(&edge, &[a.entry(), b.entry()]);
    assert_eq!(told["outcome"], "applied", "{told}");
    assert!(b.is_served(&edge));
    streams.go_on();
    // Half of it first, as a slow writer leaves it: no tenant is lost.
    let text = registry(&[a.entry(), b.entry(), c.entry()]);
    edge.expect_reload(|| std::fs::write(file(&edge.lab), &text[..text.len() / 2]).unwrap());
    assert!(a.is_served(&edge) && b.is_served(&edge));
    edge.expect_reload(|| std::fs::write(file(&edge.lab), &text).unwrap());
    wait_until("the third tenant", || c.is_served(&edge));
    b.streams(&edge);
    streams.go_on();
    assert_eq!((a.gateway.connections(), state(&edge, "c").as_str()), (1, "good"));
}

/// One step of the kubelet: a new directory, and `..data` renamed over the old link.
fn swap(dir: &Path, version: &str, text: &str) {
    std::fs::create_dir_all(dir.join(version)).unwrap();
    std::fs::write(dir.join(version).join("production.json"), text).unwrap();
    symlink(version, dir.join("..data_tmp")).unwrap();
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
}

#[test]
fn a_registry_in_a_config_map() {
    let [a, b] = ["a", "b"].map(Tenant::new);
    let lab = Lab::new();
    let dir = lab.path().join("map");
    swap(&dir, "..v1", &registry(&[a.entry()]));
    symlink("..data/production.json", dir.join("production.json")).unwrap();
    symlink("map/production.json", file(&lab)).unwrap();
    let edge = Edge::start_in(&lab, &conf(&lab));
    assert!(a.is_served(&edge) && !b.is_served(&edge));
    edge.expect_reload(|| swap(&dir, "..v2", &registry(&[a.entry(), b.entry()])));
    assert!(a.is_served(&edge) && b.is_served(&edge));
}

fn with_drain(lab: &Lab, drain: &str) -> Conf {
    // Idle connections to endpoints stay for longer than any of these tests takes.
    let routes = super::ROUTES
        .replace("_port}\" }", "_port}\", upstream: { timeouts: { keep_alive: 10m } } }");
    conf_with(lab, &format!("removed: {{ drain: {drain} }}"), &routes)
}

/// The very same connections go on: to the client, and to the endpoint.
#[test]
fn a_change_of_one_leaves_the_connections_of_the_others_alone() {
    let tenants = ["a", "b", "c"].map(Tenant::new);
    let lab = lab(&tenants.iter().map(Tenant::entry).collect::<Vec<_>>());
    // What was removed goes at once: nothing is held by its drain.
    let edge = Edge::start_in(&lab, &with_drain(&lab, "0s"));
    let mut streams: Vec<_> = tenants[..2].iter().map(|tenant| tenant.streams(&edge)).collect();
    let mut gone = tenants[2].streams(&edge);
    let moved = Tenant::new("c");
    let before = [&tenants[0], &tenants[1]].map(connections);
    for (step, third) in [Some(moved.entry()), None, Some(tenants[2].entry())].iter().enumerate() {
        let entries: Vec<_> = tenants[..2].iter().map(Tenant::entry).chain(third.clone()).collect();
        let told = write(&edge, &entries);
        assert_eq!(told["outcome"], "applied", "step {step}: {told}");
        streams.iter_mut().for_each(super::Streams::go_on);
        assert_eq!([&tenants[0], &tenants[1]].map(connections), before, "step {step}");
        match step {
            // Its stream goes on, new requests lead to the new endpoint.
            0 => {
                gone.socket.ws_echo("still here");
                assert!(moved.is_served(&edge));
                assert_eq!(moved.bridge.requests().len(), 1);
            }
            1 => wait_cut(&edge, "c.gateway", 1),
            _ => assert!(tenants[2].is_served(&edge)),
        }
    }
}

fn connections(tenant: &Tenant) -> (usize, usize) {
    (tenant.gateway.connections(), tenant.bridge.connections())
}

#[test]
fn a_removed_tenant_drains_and_then_answers_421() {
    let [a, b] = ["a", "b"].map(Tenant::new);
    let lab = lab(&[a.entry(), b.entry()]);
    let edge = Edge::start_in(&lab, &with_drain(&lab, "2s"));
    let mut other = a.streams(&edge);
    let mut streams = b.streams(&edge);
    let mut kept = edge.tls_client(&b.bridge_host());
    kept.get(&b.bridge_host(), "/").assert_ok("bridge of b");
    write(&edge, &[a.entry()]);
    // Its stream goes on for a while; whatever is new is told at once.
    streams.socket.ws_echo("a last word");
    kept.get(&b.bridge_host(), "/").assert_cause(421, "misdirected");
    streams.kept.get(&b.bridge_host(), "/").assert_cause(404, "unknown_host");
    edge.client().get(&b.host(), "/").assert_cause(404, "unknown_host");
    // A name that was nobody's is unknown, on the same connection a misdirected one.
    kept.get("z.gw.openclaw.example", "/").assert_cause(421, "misdirected");
    wait_until("its certificate to go", || edge.tls().try_connect(&b.bridge_host()).is_err());
    wait_cut(&edge, "b.gateway", 1);
    other.go_on();
    // It is back, and so is everything of it.
    write(&edge, &[a.entry(), b.entry()]);
    wait_until("its certificate", || edge.tls().try_connect(&b.bridge_host()).is_ok());
    kept.get(&b.bridge_host(), "/").assert_ok("bridge of b");
    b.streams(&edge);
    other.go_on();
}

/// A certificate that covers the name is shown to everybody: the host is not served all the same.
#[test]
fn also_where_a_certificate_of_others_covers_the_name() {
    let [a, b] = ["a", "b"].map(Tenant::new);
    let lab = lab(&[a.entry(), b.entry()]);
    let names = [a.bridge_host(), b.bridge_host()].join(", ");
    let conf = conf(&lab)
        .global(&format!("certificates: {{ both: {{ names: [{names}], issuer: local }} }}"));
    let edge = Edge::start_in(&lab, &conf);
    let mut kept = edge.tls_client(&a.bridge_host());
    kept.get(&b.bridge_host(), "/").assert_ok("bridge of b");
    write(&edge, &[a.entry()]);
    kept.get(&b.bridge_host(), "/").assert_cause(421, "misdirected");
    edge.tls_client(&b.bridge_host()).get(&b.bridge_host(), "/").assert_cause(421, "misdirected");
    kept.get(&a.bridge_host(), "/").assert_ok("bridge of a");
}

#[test]
fn a_config_file_and_its_registry_may_change_together() {
    let [a, b] = ["a", "b"].map(Tenant::new);
    let edge = start(&[&a]);
    let mut streams = a.streams(&edge);
    let text = registry(&[a.entry(), b.entry()]);
    let conf = conf(&edge.lab).global("log: { access: off }");
    edge.expect_reload(|| {
        replace(&file(&edge.lab), &text);
        replace(&edge.config_path(), &conf.render(edge.lab.path()));
    });
    wait_until("the second tenant", || b.is_served(&edge));
    streams.go_on();
    let mut more = a.entry();
    more["added_later"] = json!({ "by": ["the", "platform"] });
    // Nobody asks for this field: it is no change.
    replace(&file(&edge.lab), &registry(&[more, b.entry()]));
    edge.wait_stderr("what the file says serves already");
    streams.go_on();
    ws::open(&mut edge.client(), &a.host(), "/");
}
