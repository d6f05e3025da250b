//! What serves after a reload: who is kept, who is refused, who is gone.

use config::merge::Kind;
use config::{Accepted, last_good};

use super::{FILE, PRODUCTION, Registry, read};

/// Hosts and endpoints by tenant: `acme-corp: acme-corp.gw.. 192.0.2.10:18789`.
pub fn serving(accepted: &Accepted) -> Vec<String> {
    let parts = accepted.tenants.values().flat_map(|tenant| &tenant.value.parts);
    let line = |part: &config::model::Part| {
        let hosts: Vec<String> = part.route.hosts.iter().map(ToString::to_string).collect();
        let name = part.route.name.as_str();
        assert_eq!(accepted.routes[name].value, part.route);
        assert_eq!(accepted.upstreams[name].value, part.upstream);
        format!("{name}: {} {}", hosts.join(","), part.upstream.endpoints[0].address)
    };
    parts.map(line).collect()
}

pub fn refused(accepted: &Accepted) -> Vec<(Kind, &str, bool, String)> {
    let line = |reason: &config::Diagnostic| reason.to_string();
    let found = accepted.quarantined.iter().map(|bad| {
        let reasons: Vec<String> = bad.reasons.iter().map(line).collect();
        (bad.kind, bad.name.as_str(), bad.former_serves, reasons.join("\n"))
    });
    found.collect()
}

#[test]
fn a_bad_entry_is_refused_alone_and_its_former_version_serves() {
    let before = read(None, FILE, PRODUCTION);
    let registry = PRODUCTION.replacen("18790", "70000", 1).replace("192.0.2.11", "192.0.2.12");
    let after = read(Some(&before), FILE, &registry);
    let expected = [(
        Kind::Tenant,
        "acme-corp",
        true,
        "/etc/production.json:11:7: `70000` is no port (servers[0].bridge_port); a port is a \
         number from 1 to 65535"
            .to_owned(),
    )];
    assert_eq!(refused(&after), expected);
    let serving = serving(&after);
    assert_eq!(
        serving[0],
        "acme-corp.bridge: acme-corp-bridge.gw.openclaw.example 192.0.2.10:18790"
    );
    assert_eq!(
        serving[3],
        "newtenant-corp.gateway: newtenant-corp.gw.openclaw.example 192.0.2.12:18789"
    );
    // Without a former version its hosts are closed.
    let fresh = read(None, FILE, &registry);
    let blocked: Vec<String> = fresh.blocked.iter().map(|one| one.host.to_string()).collect();
    assert_eq!(blocked, ["acme-corp-bridge.gw.openclaw.example", "acme-corp.gw.openclaw.example"]);
    assert_eq!(fresh.tenants.len(), 1);
}

#[test]
fn a_registry_that_cannot_be_read_loses_nobody() {
    let before = read(None, FILE, PRODUCTION);
    for (registry, place) in [
        (&PRODUCTION[..PRODUCTION.len() / 2], "cannot be read: the text ends in the middle"),
        ("", ":1:1: the registry cannot be read"),
        ("[]", "has no list `servers`"),
        ("{\"servers\": 1}", "has no list `servers`"),
        ("{\"servers\": [], \"servers\": null}", "`servers` is written twice"),
        ("{\"servers\": 1, \"servers\": []}", "`servers` is written twice"),
        ("\u{0}", ":1:1: the registry cannot be read: expected a value"),
    ] {
        let after = read(Some(&before), &format!("{FILE}# later\n"), registry);
        assert_eq!(serving(&after), serving(&before), "{registry}");
        let [(Kind::Tenants, "registry", true, why)] = &refused(&after)[..] else {
            panic!("{:?}", refused(&after))
        };
        assert!(why.contains(place), "{why}");
        let mended = read(Some(&after), FILE, PRODUCTION);
        assert_eq!((refused(&mended), serving(&mended)), (vec![], serving(&before)));
    }
}

#[test]
fn a_start_with_a_broken_registry_serves_who_was_served() {
    let before = read(None, FILE, PRODUCTION);
    let document = last_good::document(&before);
    let restored = last_good::restore(&document, &Registry(b"never read")).unwrap();
    assert_eq!(serving(&restored), serving(&before));
    assert_eq!(last_good::document(&restored), document);
    assert_eq!(restored.global.tenants, before.global.tenants);
    let booted = read(Some(&restored), FILE, "{");
    assert_eq!(serving(&booted), serving(&before));
    assert_eq!(refused(&booted).len(), 1);
    // And once more: what was kept is kept again.
    let again = last_good::restore(&last_good::document(&booted), &Registry(b"")).unwrap();
    assert_eq!(serving(&again), serving(&before));
}

#[test]
fn a_bad_template_leaves_what_it_made() {
    let before = read(None, FILE, PRODUCTION);
    let file = FILE.replace("{bridge_port}", "{bridge_prot}");
    let after = read(Some(&before), &file, &PRODUCTION.replace("192.0.2.11", "192.0.2.12"));
    let [(Kind::Template, "bridge", true, why)] = &refused(&after)[..] else {
        panic!("{:?}", refused(&after))
    };
    assert_eq!(
        why,
        "8:73: no entry of /etc/production.json has a field `bridge_prot` \
         (tenants.routes.bridge.endpoint); did you mean `{bridge_port}`?"
    );
    let serving = serving(&after);
    assert_eq!(serving.len(), 4);
    // The former address with the bad template, the new one with the good.
    assert!(serving[2].ends_with("192.0.2.11:18790") && serving[3].ends_with("192.0.2.12:18789"));
}

#[test]
fn a_tenant_or_a_template_that_is_removed_is_gone() {
    let before = read(None, FILE, PRODUCTION);
    let one = PRODUCTION.replace("newtenant-corp", "other-corp");
    let after = read(Some(&before), FILE, &one);
    assert_eq!(refused(&after), []);
    assert_eq!(
        after.tenants.keys().map(|name| name.as_str()).collect::<Vec<_>>(),
        ["acme-corp", "other-corp"]
    );
    let file: String = FILE
        .lines()
        .filter(|line| !line.contains("bridge:"))
        .fold(String::new(), |text, line| text + line + "\n");
    let after = read(Some(&before), &file, "{");
    assert_eq!(serving(&after).len(), 2);
    let without: String = FILE.split("tenants:").next().unwrap().to_owned();
    let none = read(Some(&before), &without, PRODUCTION);
    assert!(none.tenants.is_empty() && none.routes.is_empty() && none.upstreams.is_empty());
}

#[test]
fn two_tenants_share_neither_a_host_nor_an_endpoint() {
    let registry = PRODUCTION.replace("192.0.2.11", "192.0.2.10");
    let accepted = read(None, FILE, &registry);
    let [(Kind::Tenant, "newtenant-corp", false, why)] = &refused(&accepted)[..] else {
        panic!("{:?}", refused(&accepted))
    };
    assert!(
        why.contains("15:5: endpoint `192.0.2.10:18789` belongs to tenant `acme-corp` (line 3)"),
        "{why}"
    );
    assert_eq!(accepted.tenants.len(), 1);
    // Who had it keeps it, wherever it stands in the registry.
    let file = FILE.replace("{tenant}.gw", "{container_prefix}.gw");
    let before = read(None, &file, PRODUCTION);
    let first = r#"{"servers": [{"tenant": "aaa", "container_prefix": "acme", "host": "192.0.2.9",
        "gateway_port": 1, "bridge_port": 2},"#;
    let registry = PRODUCTION.replacen("{\n  \"servers\": [", first, 1);
    let after = read(Some(&before), &file, &registry);
    let [(Kind::Tenant, "aaa", false, why)] = &refused(&after)[..] else {
        panic!("{:?}", refused(&after))
    };
    assert!(why.contains("host `acme.gw.openclaw.example` belongs to tenant `acme-corp`"), "{why}");
    let fresh = read(None, &file, &registry);
    assert_eq!(refused(&fresh)[0].1, "acme-corp");
}

/// `b` gets the address of `a`, and `a` one that it cannot have: its former version must not lead
/// to `b`.
#[test]
fn a_former_version_never_leads_to_another_tenant() {
    let registry = |a: &str, b: &str| {
        let entry = |id: &str, host: &str| {
            format!(
                "{{\"tenant\": \"{id}\", \"host\": \"{host}\", \"gateway_port\": 1, \"bridge_port\": 2}}"
            )
        };
        let c = entry("c", "192.0.2.3");
        format!("{{\"servers\": [{c}, {}, {}]}}", entry("b", b), entry("a", a))
    };
    let before = read(None, FILE, &registry("192.0.2.1", "192.0.2.2"));
    let after = read(Some(&before), FILE, &registry("192.0.2.3", "192.0.2.1"));
    let [(Kind::Tenant, "a", false, why)] = &refused(&after)[..] else {
        panic!("{:?}", refused(&after))
    };
    assert!(why.contains("belongs to tenant `c`"), "{why}");
    let addresses: Vec<String> =
        serving(&after).iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(addresses, ["192.0.2.1:2", "192.0.2.1:1", "192.0.2.3:2", "192.0.2.3:1"]);
    let blocked: Vec<&str> = after.blocked.iter().map(|one| one.route.as_str()).collect();
    assert_eq!(blocked, ["a", "a"]);
}

#[test]
fn a_route_of_the_config_file_goes_first() {
    let own = "upstreams: { u: { endpoints: [\"127.0.0.1:1\"] } }\nroutes:\n  \
               own: { hosts: [acme-corp.gw.openclaw.example], upstream: u }\n  \
               part: { hosts: [newtenant-corp.gw.openclaw.example], path: /x, upstream: u }\n";
    // With and without `/` at the end is one prefix.
    let slash = FILE.replace("endpoint: \"{host}:{g", "path: /x/, endpoint: \"{host}:{g");
    let slashed = read(None, &format!("{slash}{own}"), PRODUCTION);
    let refused_names: Vec<&str> = refused(&slashed).iter().map(|bad| bad.1).collect();
    assert_eq!(refused_names, ["newtenant-corp"]);
    let file = format!("{FILE}{own}");
    let before = read(None, FILE, PRODUCTION);
    for previous in [None, Some(&before)] {
        let accepted = read(previous, &file, PRODUCTION);
        let [(Kind::Tenant, "acme-corp", serves, why)] = &refused(&accepted)[..] else {
            panic!("{:?}", refused(&accepted))
        };
        assert!(why.contains("belongs to the route `own` of the config file"), "{why}");
        // Of its former version the other template's host is left.
        assert_eq!(*serves, previous.is_some());
        assert_eq!(
            accepted.routes["own"].value.hosts[0].to_string(),
            "acme-corp.gw.openclaw.example"
        );
        assert!(!accepted.routes.contains_key("acme-corp.gateway"));
        assert_eq!(accepted.routes.contains_key("acme-corp.bridge"), previous.is_some());
        let restored = last_good::restore(&last_good::document(&accepted), &Registry(b"")).unwrap();
        assert_eq!(serving(&restored), serving(&accepted));
    }
}

#[test]
fn an_entry_of_the_same_name_is_named() {
    let own = "upstreams: { acme-corp.gateway: { endpoints: [\"127.0.0.1:1\"] } }\n\
               routes: { r: { hosts: [r.openclaw.example], upstream: acme-corp.gateway } }\n";
    let accepted = read(None, &format!("{FILE}{own}"), PRODUCTION);
    let [(Kind::Tenant, "acme-corp", false, why)] = &refused(&accepted)[..] else {
        panic!("{:?}", refused(&accepted))
    };
    assert!(
        why.contains(
            "tenant `acme-corp` and the config file both have an entry `acme-corp.gateway`"
        ),
        "{why}"
    );
    assert_eq!(accepted.upstreams["acme-corp.gateway"].value.tenant, None);
}

#[test]
fn an_entry_that_lost_its_name_is_found_by_its_address() {
    let before = read(None, FILE, PRODUCTION);
    let after = read(Some(&before), FILE, &PRODUCTION.replace("\"acme-corp\"", "\"acme corp\""));
    let [(Kind::Tenant, "acme-corp", true, why)] = &refused(&after)[..] else {
        panic!("{:?}", refused(&after))
    };
    assert!(why.contains("`acme corp` is no name of a tenant"), "{why}");
    assert_eq!(serving(&after), serving(&before));
}

#[test]
fn an_unchanged_tenant_is_the_very_same() {
    let before = read(None, FILE, PRODUCTION);
    let after = read(Some(&before), FILE, &PRODUCTION.replace("192.0.2.11", "192.0.2.12"));
    let same = |name: &str| {
        std::sync::Arc::ptr_eq(&before.routes[name].value, &after.routes[name].value)
            && std::sync::Arc::ptr_eq(&before.upstreams[name].value, &after.upstreams[name].value)
    };
    assert!(same("acme-corp.gateway") && same("acme-corp.bridge"));
    assert!(!same("newtenant-corp.gateway"));
    let changes = config::diff::diff(&before, &after);
    assert_eq!((changes.added.len(), changes.removed.len(), changes.changed.len()), (0, 0, 1));
    assert_eq!(
        (changes.changed[0].0, changes.changed[0].1.as_str()),
        (Kind::Tenant, "newtenant-corp")
    );
    // Blanks and fields that nobody asks for are no change.
    let moved = PRODUCTION.replace("\"us-east\"", "\"eu\"").replace('\n', "\n\n");
    assert!(config::diff::diff(&before, &read(Some(&before), FILE, &moved)).is_empty());
}
