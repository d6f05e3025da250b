//! 10,000 tenants of two templates. What it costs is measured by `soak tenants` (benches/README.md).

use std::fmt::Write as _;

use config::{Accepted, diff, last_good};

use super::{FILE, Registry, read};

/// As the platform writes it.
pub fn registry(count: usize) -> String {
    let mut text = String::from("{\n  \"servers\": [\n");
    for n in 0..count {
        let (a, b) = (n / 250, n % 250);
        let comma = if n + 1 < count { "," } else { "" };
        let _ = writeln!(
            text,
            "    {{\n      \"id\": \"prd-tenant-{n}\",\n      \"host\": \"100.64.{a}.{b}\",\n      \
             \"user\": \"deploy\",\n      \"port\": 22,\n      \
             \"deployment_path\": \"/home/deploy/openclaw-{n}\",\n      \
             \"container_prefix\": \"t{n}\",\n      \"gateway_port\": 18789,\n      \
             \"bridge_port\": 18790,\n      \"tenant\": \"tenant-{n}\",\n      \
             \"region\": \"us-east\"\n    }}{comma}"
        );
    }
    text.push_str("  ]\n}\n");
    text
}

const TENANTS: usize = 10_000;

const LIMITED: &str = r#"
version: 1
issuers: { local: { internal: {} } }
tenants:
  file: /etc/production.json
  certificates: { issuer: local, per: tenant }
  routes:
    gateway:
      hosts: ["{tenant}.gw.openclaw.example"]
      endpoint: "{host}:{gateway_port}"
      upstream: { health: { path: /healthz, body: ok } }
      headers: { request: { set: { x-a: b } }, response: { remove: [server] } }
      rate_limits: [{ key: client_ip, rate: 50/s }, { key: "header:authorization", concurrent: 8 }]
    bridge: { hosts: ["{tenant}-bridge.gw.openclaw.example"], endpoint: "{host}:{bridge_port}" }
"#;

#[test]
fn ten_thousand_tenants_are_read_merged_compared_and_kept() {
    let before = read(None, LIMITED, &registry(TENANTS));
    assert_eq!((before.tenants.len(), before.routes.len()), (TENANTS, 2 * TENANTS));
    assert_eq!((before.quarantined.len(), before.certificates.len()), (0, TENANTS));
    assert_eq!(before.warnings, []);
    let changed = registry(TENANTS).replace("\"100.64.20.7\"", "\"100.64.200.7\"");
    let after = read(Some(&before), LIMITED, &changed);
    let changes = diff::diff(&before, &after);
    assert_eq!((changes.added.len(), changes.removed.len(), changes.changed.len()), (0, 0, 1));
    let document = last_good::document(&after);
    assert!(document.len() < 2 << 20, "{}", document.len());
    let restored = last_good::restore(&document, &Registry(b"")).unwrap();
    assert!(last_good::document(&restored) == document);
    let values =
        |all: &Accepted| all.tenants.values().map(|one| one.value.clone()).collect::<Vec<_>>();
    assert!(values(&restored) == values(&after));
}

/// A generator gone wrong: everybody at one address.
#[test]
fn ten_thousand_clashes_do_not_take_quadratic_time() {
    let text = registry(TENANTS);
    let one: Vec<&str> = text
        .lines()
        .map(|line| if line.contains("\"host\"") { "\"host\": \"192.0.2.1\"," } else { line })
        .collect();
    let accepted = read(None, FILE, &one.join("\n"));
    assert_eq!((accepted.tenants.len(), accepted.quarantined.len()), (1, TENANTS - 1));
    let again = read(Some(&accepted), FILE, &text);
    assert_eq!(again.quarantined, []);
    // The field that names them is called otherwise now.
    let lost = read(Some(&again), FILE, &text.replace("\"tenant\"", "\"name\""));
    assert_eq!((lost.tenants.len(), lost.quarantined.len()), (TENANTS, TENANTS));
    assert!(lost.quarantined.iter().all(|bad| bad.former_serves));
}
