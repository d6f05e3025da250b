//! Caddy's `acme_server`: another code base, which asks in absolute-form and leaves challenges that
//! failed pending.

use super::*;
use crate::harness::acme::Caddy;

fn with(conf: Conf, caddy: &Caddy) -> Conf {
    conf.acme(&caddy.directory(), Some(&caddy.roots()), "")
}

#[test]
fn another_ca_issues() {
    let stage = Stage::new();
    let caddy = Caddy::start(stage.http.addr, "24h");
    let conf = with(stage.hosts(&HOSTS), &caddy).http("redirect_to: https");
    let edge = stage.start(&conf);
    let trusted = caddy.trusted(edge.https);
    let shown = wait_trusted(&edge, &trusted, &HOSTS);
    for (host, leaf) in HOSTS.iter().zip(&shown) {
        assert_eq!(names(leaf), [*host]);
        trusted.connect(host).get(host, "/").assert_ok("ok");
    }
    wait_at_rest(&edge, &HOSTS);
}

#[test]
fn a_challenge_that_failed_and_stays_pending() {
    let stage = Stage::new();
    // Where the CA looks, nobody listens for now.
    let public = Port::reserve();
    let caddy = Caddy::start(public.addr, "24h");
    let conf = with(stage.hosts(&[APP]), &caddy);
    let mut edge = stage.start(&conf);
    let failed = wait_told(&edge, APP, |one| one["last_error"].is_object());
    let error = &failed["last_error"];
    assert_eq!(error["class"], "validation", "{failed}");
    assert_eq!(error["problem"], "urn:ietf:params:acme:error:connection", "{failed}");
    assert_eq!(error["name"], APP, "{failed}");
    assert_eq!(failed["ordering"], false, "the order is given up: {failed}");
    assert!((30..=75).contains(&seconds_to_next(&failed)), "{failed}");
    edge.sigterm();
    edge.wait_exit();

    // What failed is remembered; an operator need not wait.
    let edge = stage.start(&conf.bind(&public.bind(), &stage.https.bind()));
    wait_told(&edge, APP, |one| one["last_error"].is_object() && seconds_to_next(one) > 5);
    ask_to_renew(&edge, APP);
    wait_trusted(&edge, &caddy.trusted(edge.https), &[APP]);
    wait_at_rest(&edge, &[APP]);
}
