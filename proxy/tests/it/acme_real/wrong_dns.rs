//! Names that lead elsewhere: the CA's own words are shown, and nobody else suffers.

use super::*;

/// What the API says of the only host that cannot be had, while the others are at rest.
fn fails(edge: &Edge, pebble: &Pebble, host: &str) -> Value {
    let failed = wait_told(edge, host, |one| one["last_error"].is_object());
    let others: Vec<&str> = HOSTS.into_iter().filter(|other| *other != host).collect();
    wait_trusted(edge, &pebble.trusted(edge.https), &others);
    wait_at_rest(edge, &others);
    assert_eq!((&failed["state"], &failed["failures"]), (&json!("placeholder"), &json!(1)));
    assert_eq!(failed["last_error"]["class"], "validation", "{failed}");
    assert_eq!(failed["last_error"]["name"], host, "{failed}");
    // A minute, spread by a fifth.
    assert!((30..=75).contains(&seconds_to_next(&failed)), "{failed}");
    assert_eq!(pebble.orders(), HOSTS.len(), "one attempt each");
    let detail = failed["last_error"]["detail"].as_str().unwrap();
    edge.wait_stderr(detail);
    failed
}

/// Mended and asked for, it is issued, as the second and last order of the host.
fn mended(edge: &Edge, pebble: &Pebble, host: &str) {
    pebble.dns_clear(host);
    ask_to_renew(edge, host);
    wait_trusted(edge, &pebble.trusted(edge.https), &[host]);
    wait_at_rest(edge, &HOSTS);
    assert!(told(edge, host).unwrap()["last_error"].is_null());
    assert_eq!((pebble.orders(), pebble.issued()), (HOSTS.len() + 1, HOSTS.len()));
}

#[test]
fn an_address_where_nothing_listens() {
    let stage = Stage::new();
    let pebble = stage.pebble();
    pebble.dns_a(API, &["127.0.0.2"]);
    let edge = stage.start(&ordering(stage.hosts(&HOSTS), &pebble, ""));
    let failed = fails(&edge, &pebble, API);
    let error = &failed["last_error"];
    assert_eq!(error["problem"], "urn:ietf:params:acme:error:connection", "{failed}");
    assert!(error["detail"].as_str().unwrap().contains("127.0.0.2"), "{failed}");
    mended(&edge, &pebble, API);
}

#[test]
fn a_wrong_ipv6_address() {
    let stage = Stage::new();
    let pebble = stage.pebble();
    // The edge listens on 127.0.0.1 only.
    pebble.dns_aaaa(API, &["::1"]);
    let edge = stage.start(&ordering(stage.hosts(&HOSTS), &pebble, ""));
    let failed = fails(&edge, &pebble, API);
    let error = &failed["last_error"];
    assert_eq!(error["problem"], "urn:ietf:params:acme:error:connection", "{failed}");
    assert!(error["detail"].as_str().unwrap().contains("::1"), "{failed}");
    mended(&edge, &pebble, API);
}

#[test]
fn a_name_server_that_fails() {
    let stage = Stage::new();
    let pebble = stage.pebble();
    pebble.dns_servfail(API);
    let edge = stage.start(&ordering(stage.hosts(&HOSTS), &pebble, ""));
    let failed = fails(&edge, &pebble, API);
    let error = &failed["last_error"];
    assert!(error["problem"].as_str().unwrap().starts_with("urn:ietf:params:acme:error:"));
    assert!(error["detail"].as_str().unwrap().contains(API), "{failed}");
    mended(&edge, &pebble, API);
}

#[test]
fn one_name_of_a_group() {
    let stage = Stage::new();
    let pebble = stage.pebble();
    pebble.dns_a(API, &["127.0.0.2"]);
    let group = format!("certificates:\n  group: {{ names: [{APP}, {API}, {PROXY}] }}\n");
    let conf = stage.entries(&[APP, API, PROXY], &group);
    let edge = stage.start(&ordering(conf, &pebble, ""));
    let trusted = pebble.trusted(edge.https);
    let shown = wait_trusted(&edge, &trusted, &[APP, PROXY]);
    assert_eq!(shown[0], shown[1], "the others share one");
    assert_eq!(names(&shown[0]), [APP, PROXY]);
    let told = wait_told(&edge, "group", |one| one["ordering"] == false);
    assert_eq!((&told["state"], &told["missing"]), (&json!("partial"), &json!([API])), "{told}");
    assert_eq!(told["last_error"]["name"], API, "{told}");
    assert!(trusted.try_connect(API).is_err());
    assert_eq!(names(&Tls::blind(edge.https).connect(API).leaf()), [API], "its placeholder");
    assert_eq!(pebble.orders(), 2);

    pebble.dns_clear(API);
    ask_to_renew(&edge, "group");
    let whole =
        in_time("one for all", &edge, || trusted.try_connect(API).ok().map(|client| client.leaf()));
    assert_eq!(names(&whole), [API, APP, PROXY]);
    wait_at_rest(&edge, &["group"]);
    assert_eq!((pebble.orders(), pebble.issued()), (3, 2));
}
