//! Entries that are refused alone, and registries that are refused as a whole.

use serde_json::json;

use super::{Tenant, conf, file, lab, registry, shown, start, state, states, write};
use crate::harness::edge::{command, replace};
use crate::harness::{Edge, wait_until};

#[test]
fn a_bad_entry_is_refused_alone() {
    let [a, b, c] = ["a", "b", "c"].map(Tenant::new);
    let edge = start(&[&a, &b]);
    let mut streams = [a.streams(&edge), b.streams(&edge)];
    let (mut broken, mut new) = (b.entry(), c.entry());
    broken["gateway_port"] = json!("eighty");
    new["host"] = json!(null);
    let told = write(&edge, &[a.entry(), broken, new]);
    assert_eq!(told["outcome"], "partial", "{told}");
    // Its former version serves; what never served answers for its hosts.
    assert!(a.is_served(&edge) && b.is_served(&edge) && !c.is_served(&edge));
    streams.iter_mut().for_each(super::Streams::go_on);
    let state = |tenant| state(&edge, tenant);
    assert_eq!([state("a"), state("b"), state("c")], ["good", "former", "refused"]);
    assert_eq!(states(&edge), [1.0, 1.0, 1.0]);
    let why = shown(&edge, "b").unwrap()["reasons"][0].as_str().unwrap().to_owned();
    assert!(why.contains("servers[1].gateway_port"), "{why}");
    edge.wait_stderr("servers[1].gateway_port");

    let socket = edge.lab.path().join("admin.sock");
    let listed = command(&["tenants", "--refused", "--socket", socket.to_str().unwrap()]);
    let text = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.status.code(), Some(1), "{text}");
    assert!(text.contains("former") && text.contains("refused"), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("a ")), "{text}");

    let told = write(&edge, &[a.entry(), b.entry(), c.entry()]);
    assert_eq!(told["outcome"], "applied", "{told}");
    assert!(c.is_served(&edge));
    assert_eq!(states(&edge), [3.0, 0.0, 0.0]);
    streams.iter_mut().for_each(super::Streams::go_on);
}

#[test]
fn a_broken_registry_leaves_every_tenant_as_it_is() {
    let [a, b] = ["a", "b"].map(Tenant::new);
    let edge = start(&[&a, &b]);
    let mut streams = [a.streams(&edge), b.streams(&edge)];
    let good = registry(&[a.entry()]);
    for broken in ["{", "", "[1, 2", "{ \"servers\": 7 }"] {
        // What is refused for the same reason as before is no news.
        edge.expect_reload(|| replace(&file(&edge.lab), broken));
        assert!(a.is_served(&edge) && b.is_served(&edge), "{broken:?}");
        assert_eq!(states(&edge), [0.0, 0.0, 2.0], "{broken:?}");
        streams.iter_mut().for_each(super::Streams::go_on);
        edge.expect_reload(|| replace(&file(&edge.lab), &registry(&[a.entry(), b.entry()])));
        assert_eq!(states(&edge), [2.0, 0.0, 0.0], "{broken:?}");
    }
    std::fs::remove_file(file(&edge.lab)).unwrap();
    wait_until("the absence to be seen", || states(&edge) == [0.0, 0.0, 2.0]);
    assert!(a.is_served(&edge) && b.is_served(&edge));
    edge.expect_reload(|| replace(&file(&edge.lab), &good));
    assert!(a.is_served(&edge) && !b.is_served(&edge));
    streams[0].go_on();
}

#[test]
fn a_start_with_a_broken_registry_serves_what_served_before() {
    let [a, b] = ["a", "b"].map(Tenant::new);
    let lab = lab(&[a.entry(), b.entry()]);
    let mut edge = Edge::start_in(&lab, &conf(&lab));
    assert!(a.is_served(&edge));
    edge.sigterm();
    edge.wait_exit();
    std::fs::write(file(&lab), "{ \"servers\": [").unwrap();
    let edge = Edge::start_in(&lab, &conf(&lab));
    assert!(a.is_served(&edge) && b.is_served(&edge));
    a.streams(&edge);
    assert_eq!(states(&edge), [0.0, 0.0, 2.0]);
    edge.expect_reload(|| replace(&file(&lab), &registry(&[b.entry()])));
    assert!(b.is_served(&edge) && !a.is_served(&edge));
}

/// The same host and port twice: who had it keeps it, and the other one is told whose it is.
#[test]
fn two_tenants_at_one_endpoint_are_a_clash() {
    let [a, b] = ["a", "b"].map(Tenant::new);
    let edge = start(&[&a]);
    let mut streams = a.streams(&edge);
    let mut thief = b.entry();
    thief["gateway_port"] = json!(a.gateway.addr.port());
    let told = write(&edge, &[thief, a.entry()]);
    assert_eq!(told["outcome"], "partial", "{told}");
    assert!(a.is_served(&edge) && !b.is_served(&edge));
    assert_eq!([state(&edge, "a"), state(&edge, "b")], ["good", "refused"]);
    let why = shown(&edge, "b").unwrap()["reasons"].to_string();
    assert!(why.contains("`a`"), "{why}");
    streams.go_on();
}
