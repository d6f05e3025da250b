//! A CA that is as picky as real ones.

use super::*;
use crate::harness::acme::pebble::Options;

#[test]
fn nonces_refused_at_random() {
    let stage = Stage::new();
    let (http, https) = (stage.http.number(), stage.https.number());
    let pebble = Pebble::with(Options { nonce_reject: 30, ..Options::at(http, https) });
    let edge = stage.start(&ordering(stage.hosts(&HOSTS), &pebble, ""));
    wait_trusted(&edge, &pebble.trusted(edge.https), &HOSTS);
    wait_at_rest(&edge, &HOSTS);
    assert_eq!((pebble.orders(), pebble.issued()), (4, 4));
    for host in HOSTS {
        assert!(told(&edge, host).unwrap()["last_error"].is_null());
    }
}

/// base64url of an HMAC key, which must be shown nowhere.
const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

fn binding(stage: &Stage) -> Pebble {
    let eab = Some(("kid-1".to_owned(), KEY.to_owned()));
    Pebble::with(Options { eab, ..Options::at(stage.http.number(), stage.https.number()) })
}

#[test]
fn external_account_binding() {
    let stage = Stage::new();
    let pebble = binding(&stage);
    let keys = format!("eab: {{ key_id: kid-1, hmac_key: {KEY} }}");
    let mut edge = stage.start(&ordering(stage.hosts(&[APP]), &pebble, &keys));
    let trusted = pebble.trusted(edge.https);
    wait_trusted(&edge, &trusted, &[APP]);
    wait_at_rest(&edge, &[APP]);
    assert!(!edge.stderr().contains(KEY));
    edge.sigterm();
    edge.wait_exit();
    // It was for the registration only.
    let edge = stage.start(&ordering(stage.hosts(&[APP, API]), &pebble, ""));
    wait_trusted(&edge, &trusted, &[APP, API]);
}

#[test]
fn external_account_binding_that_is_not_configured() {
    let stage = Stage::new();
    let pebble = binding(&stage);
    let edge = stage.start(&ordering(stage.hosts(&[APP]), &pebble, ""));
    let failed = wait_told(&edge, APP, |one| one["last_error"].is_object());
    let error = &failed["last_error"];
    assert_eq!(error["class"], "refused", "{failed}");
    let problem = "urn:ietf:params:acme:error:externalAccountRequired";
    assert_eq!(error["problem"], problem, "{failed}");
    assert!(error["text"].as_str().unwrap().contains("eab"), "names the key: {failed}");
    edge.wait_stderr("externalAccountRequired");
    assert!(seconds_to_next(&failed) > 3600, "it needs a person: {failed}");
    assert_eq!(pebble.orders(), 0);
    // Whose correction does not wait for tomorrow.
    let keys = format!("eab: {{ key_id: kid-1, hmac_key: {KEY} }}");
    edge.reload(&ordering(stage.hosts(&[APP]), &pebble, &keys));
    wait_trusted(&edge, &pebble.trusted(edge.https), &[APP]);
}

#[test]
fn a_name_that_the_ca_refuses_costs_no_other() {
    let stage = Stage::new();
    let (http, https) = (stage.http.number(), stage.https.number());
    let blocklist = vec![API.to_owned()];
    let pebble = Pebble::with(Options { blocklist, ..Options::at(http, https) });
    let edge = stage.start(&ordering(stage.hosts(&HOSTS), &pebble, ""));
    wait_trusted(&edge, &pebble.trusted(edge.https), &[APP, PROXY, NANGO]);
    let failed = wait_told(&edge, API, |one| one["last_error"].is_object());
    let error = &failed["last_error"];
    assert_eq!(error["problem"], "urn:ietf:params:acme:error:rejectedIdentifier", "{failed}");
    assert_eq!((&error["class"], failed["failures"].as_u64()), (&json!("refused"), Some(1)));
}
