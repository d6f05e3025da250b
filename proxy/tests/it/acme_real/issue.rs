//! From nothing to trusted certificates, and what is shown meanwhile.

use super::*;
use crate::harness::h2c::H2;

/// config/examples/platform.yaml with ports, a backend and a CA that are here, and without the
/// `certificates:` entry that puts all its hosts into one, and without the password of one.
fn platform(stage: &Stage) -> Conf {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples/platform.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let (mut entries, mut taken) = (String::new(), false);
    let meant = |line: &&str| !line.starts_with('#') && !line.contains("access: {");
    for line in text.lines().filter(meant) {
        if line.starts_with(|c: char| c.is_ascii_alphabetic()) {
            taken = ["defaults:", "upstreams:", "routes:"].contains(&line);
        }
        if !taken {
            continue;
        }
        match line.split_once("endpoints: [") {
            Some((key, _)) => {
                entries += &format!("{key}endpoints: [\"{}\"] }}\n", stage.backend.addr);
            }
            None => entries += &format!("{line}\n"),
        }
    }
    assert_eq!(entries.matches(&stage.backend.addr.to_string()).count(), 4, "{entries}");
    // HSTS as a careful operator has it.
    let entries = entries.replacen("upstream: web", "upstream: web, hsts: { max_age: 365d }", 1);
    stage.here(Conf::new(entries)).http("redirect_to: https")
}

#[test]
fn the_platform_from_an_empty_state_directory() {
    let stage = Stage::new();
    let pebble = stage.pebble();
    let trusted = pebble.trusted(stage.https.addr);
    // The CA takes connections and says nothing: the start does not wait for it.
    pebble.freeze();
    let edge = stage.start(&ordering(platform(&stage), &pebble, ""));
    shows_placeholders(&edge);
    assert!(trusted.try_connect(APP).is_err(), "a placeholder is trusted");

    pebble.go_on();
    let shown = wait_trusted(&edge, &trusted, &HOSTS);
    for (host, leaf) in HOSTS.iter().zip(&shown) {
        assert_eq!(names(leaf), [*host], "one certificate per host");
        trusted.connect(host).get(host, "/").assert_ok("ok");
        let answer = H2::connect(&trusted, host).get(&format!("https://{host}/"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    }
    wait_at_rest(&edge, &HOSTS);
    assert_eq!((pebble.orders(), pebble.issued()), (4, 4));
    assert!(trusted.try_connect("other.openclaw.example").is_err());

    let hsts = trusted.connect(APP).get(APP, "/");
    assert_eq!(hsts.header("strict-transport-security"), Some("max-age=31536000"));
    let redirect = edge.client().get(APP, "/x");
    assert_eq!(redirect.status, 308);
    let metric = "edge_acme_orders_total{issuer=\"acme\",result=\"issued\"}";
    assert_eq!(edge.metric(metric), 4.0, "{}", edge.admin("/metrics").body);
}

/// For configured hosts only; nobody is sent to a certificate that nobody trusts.
fn shows_placeholders(edge: &Edge) {
    let blind = Tls::blind(edge.https);
    for host in HOSTS {
        let mut client = blind.connect(host);
        assert_eq!(names(&client.leaf()), [host]);
        let answer = client.get(host, "/");
        answer.assert_ok("ok");
        assert_eq!(answer.header("strict-transport-security"), None);
        edge.client().get(host, "/").assert_ok("ok");
        assert_eq!(told(edge, host).unwrap()["state"], "placeholder");
    }
    assert!(blind.try_connect("other.openclaw.example").is_err(), "unknown names are refused");
}

#[test]
fn a_ca_that_is_down_at_the_start_is_asked_again() {
    let stage = Stage::new();
    let mut pebble = stage.pebble();
    pebble.stop();
    let edge = stage.start(&ordering(stage.hosts(&[APP]), &pebble, ""));
    let failed = wait_told(&edge, APP, |one| one["last_error"].is_object());
    assert_eq!(failed["state"], "placeholder");
    assert_eq!(failed["last_error"]["class"], "unavailable", "{failed}");
    assert!(seconds_to_next(&failed) <= 40, "{failed}");
    pebble.restart();
    // Or by itself, half a minute later.
    ask_to_renew(&edge, APP);
    let shown = wait_trusted(&edge, &pebble.trusted(edge.https), &[APP]);
    assert_eq!(names(&shown[0]), [APP]);
    let well = wait_told(&edge, APP, |one| one["last_error"].is_null());
    assert_eq!(well["failures"], 0, "{well}");
}
