//! Entries and templates to routes and upstreams.

use std::time::Duration;

use config::model::{Action, Certificate, CertificateSource, KeyPart, TenantOf, UpstreamProtocol};
use config::value::Name;

use super::{FILE, PRODUCTION, read};

#[test]
fn each_tenant_gets_a_route_and_an_upstream_of_each_template() {
    let accepted = read(None, FILE, PRODUCTION);
    assert_eq!(accepted.quarantined, []);
    let routes: Vec<(&str, String)> = accepted
        .routes
        .values()
        .map(|route| (route.value.name.as_str(), route.value.hosts[0].to_string()))
        .collect();
    let hosts = [
        ("acme-corp.bridge", "acme-corp-bridge.gw.openclaw.example"),
        ("acme-corp.gateway", "acme-corp.gw.openclaw.example"),
        ("newtenant-corp.bridge", "newtenant-corp-bridge.gw.openclaw.example"),
        ("newtenant-corp.gateway", "newtenant-corp.gw.openclaw.example"),
    ];
    assert_eq!(routes, hosts.map(|(name, host)| (name, host.to_owned())));
    let route = &accepted.routes["newtenant-corp.bridge"].value;
    let name = |text| Name::new(text).unwrap();
    assert_eq!(route.action, Action::Upstream(name("newtenant-corp.bridge")));
    let of = TenantOf { tenant: name("newtenant-corp"), template: name("bridge") };
    assert_eq!(route.tenant, Some(of.clone()));
    let upstream = &accepted.upstreams["newtenant-corp.bridge"].value;
    assert_eq!(upstream.endpoints[0].address.to_string(), "192.0.2.11:18790");
    assert_eq!((upstream.endpoints.len(), &upstream.tenant), (1, &Some(of)));
    let tenants: Vec<(&str, u64)> =
        accepted.tenants.iter().map(|(name, entry)| (name.as_str(), entry.line)).collect();
    assert_eq!(tenants, [("acme-corp", 3), ("newtenant-corp", 15)]);
}

/// Hosts and endpoint of the only tenant, `a`.
fn made(template: &str, fields: &str) -> Result<(Vec<String>, String), String> {
    let file = FILE.split("  routes:").next().unwrap().to_owned()
        + &format!("  routes: {{ t: {{ {template} }} }}\n");
    let registry = format!("{{\"servers\": [{{\"tenant\": \"a\", {fields}}}]}}");
    let accepted = read(None, &file, &registry);
    match (accepted.quarantined.first(), accepted.routes.get("a.t")) {
        (None, Some(route)) => {
            let hosts = route.value.hosts.iter().map(ToString::to_string).collect();
            Ok((hosts, accepted.upstreams["a.t"].value.endpoints[0].address.to_string()))
        }
        (Some(bad), None) => Err(bad.reasons[0].message.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn patterns_are_filled() {
    let hosts = "hosts: ['{tenant}.x.example']";
    for (endpoint, fields, expected) in [
        ("{h}:{p}", r#""h": "100.64.0.1", "p": 1"#, "100.64.0.1:1"),
        ("{h}:{p}", r#""h": "127.0.0.1", "p": "65535""#, "127.0.0.1:65535"),
        ("{h}:{p}", r#""h": "fd7a:115c:a1e0::1", "p": 1"#, "[fd7a:115c:a1e0::1]:1"),
        ("[{h}]:{p}", r#""h": "fd7a:115c:a1e0::1", "p": 1"#, "[fd7a:115c:a1e0::1]:1"),
        ("{h}:{p}", r#""h": "Gateway.Internal", "p": 1"#, "gateway.internal:1"),
        ("gw.{tenant}.svc.cluster.local:80", r#""h": 1"#, "gw.a.svc.cluster.local:80"),
        ("{tenant}:187{p}", r#""p": 89"#, "a:18789"),
        ("srv+_gw._tcp.{tenant}.internal", r#""h": 1"#, "srv+_gw._tcp.a.internal"),
        ("unix:/run/{h}/gw.sock", r#""h": "x-1""#, "unix:/run/x-1/gw.sock"),
    ] {
        let (_, endpoint) = made(&format!("{hosts}, endpoint: '{endpoint}'"), fields).unwrap();
        assert_eq!(endpoint, expected);
    }
    for (host, fields, expected) in [
        ("{tenant}-{x}.gw.example", r#""x": "eu""#, "a-eu.gw.example"),
        ("{x}", r#""x": "Gw.Acme.Example""#, "gw.acme.example"),
        ("*.{tenant}.gw.example", r#""x": 1"#, "*.a.gw.example"),
        ("{x}.gw.example", r#""x": 17"#, "17.gw.example"),
    ] {
        let (hosts, _) =
            made(&format!("hosts: ['{host}'], endpoint: '{{tenant}}:1'"), fields).unwrap();
        assert_eq!(hosts, [expected]);
    }
}

#[test]
fn values_stay_in_their_place() {
    let hosts = "hosts: ['{tenant}.x.example']";
    for (template, fields) in [
        // Labels beside written text, wildcards, ports, paths, other templates.
        ("hosts: ['{x}.gw.example'], endpoint: '{tenant}:1'", r#""x": "a.b""#),
        ("hosts: ['{x}.gw.example'], endpoint: '{tenant}:1'", r#""x": "*""#),
        ("hosts: ['{x}'], endpoint: '{tenant}:1'", r#""x": "*.example""#),
        ("hosts: ['{x}'], endpoint: '{tenant}:1'", r#""x": "a.example:1""#),
        ("hosts: ['{x}'], endpoint: '{tenant}:1'", r#""x": "{tenant}""#),
        ("hosts: ['{x}'], endpoint: '{tenant}:1'", r#""x": "é""#),
        ("hosts: ['{x}-{y}'], endpoint: '{tenant}:1'", r#""x": "a", "y": "-""#),
        (&format!("{hosts}, endpoint: '{{x}}.internal:1'"), r#""x": "a.b""#),
        (&format!("{hosts}, endpoint: '{{x}}:1'"), r#""x": "[::1]""#),
        (&format!("{hosts}, endpoint: '{{x}}:1'"), r#""x": "::""#),
        (&format!("{hosts}, endpoint: '{{x}}:1'"), r#""x": "::ffff:169.254.169.254""#),
        (&format!("{hosts}, endpoint: '{{x}}:1'"), r#""x": "fe80::1""#),
        (&format!("{hosts}, endpoint: '{{x}}:1'"), r#""x": "febf::1""#),
        (&format!("{hosts}, endpoint: '{{x}}:1'"), r#""x": "224.0.0.1""#),
        (&format!("{hosts}, endpoint: '{{x}}:1'"), r#""x": "255.255.255.255""#),
        (&format!("{hosts}, endpoint: '{{x}}:1'"), r#""x": "0x7f.1""#),
        (&format!("{hosts}, endpoint: '{{x}}x:1'"), r#""x": "::1""#),
        (&format!("{hosts}, endpoint: '{{tenant}}:{{x}}'"), r#""x": "1:2""#),
        (&format!("{hosts}, endpoint: '{{tenant}}:{{x}}'"), r#""x": "+1""#),
        (&format!("{hosts}, endpoint: '{{tenant}}:{{x}}'"), r#""x": "-1""#),
        (&format!("{hosts}, endpoint: 'unix:/run/{{x}}/s'"), r#""x": """#),
        (&format!("{hosts}, endpoint: 'unix:/run/{{x}}/s'"), r#""x": "..""#),
        (&format!("{hosts}, endpoint: 'unix:/run/{{x}}/s'"), r#""x": "a/b""#),
    ] {
        assert!(made(template, fields).is_err(), "{template} {fields}");
    }
    let long = format!("\"x\": \"{}\"", "a".repeat(254));
    assert!(made("hosts: ['{x}'], endpoint: '{tenant}:1'", &long).is_err());
}

#[test]
fn the_field_that_names_a_tenant_can_be_another() {
    let file = FILE.replace("  routes:", "  id: container_prefix\n  routes:");
    let accepted = read(None, &file, PRODUCTION);
    // {tenant} is the id, although there is a field of that name.
    let hosts: Vec<String> =
        accepted.routes.values().map(|route| route.value.hosts[0].to_string()).collect();
    assert!(hosts.contains(&"acme.gw.openclaw.example".to_owned()), "{hosts:?}");
}

#[test]
fn every_key_of_a_template_is_applied() {
    let template = "{ hosts: ['{tenant}.x.example'], endpoint: '{host}:{gateway_port}', path: /p, \
         methods: [GET], body_limit: 1KiB, timeouts: { idle: 9s }, \
         upstream: { health: { path: /healthz }, protocol: http2, timeouts: { connect: 1s } }, \
         rate_limits: [{ key: 'header:authorization', rate: 5/s }, \
           { name: refused, key: [cookie:a, host], rate: 1/s, missing: refuse }, { key: route, concurrent: 9 }] }";
    let file = FILE.split("  routes:").next().unwrap().to_owned()
        + &format!(
            "  routes: {{ t: {template} }}\ndefaults: {{ route: {{ access_log: false }} }}\n"
        );
    let accepted = read(None, &file, PRODUCTION);
    assert_eq!(accepted.quarantined, []);
    let route = &accepted.routes["acme-corp.t"].value;
    assert_eq!((route.methods.len(), route.body_limit, route.access_log), (1, Some(1024), false));
    assert_eq!(route.timeouts.idle, Some(Duration::from_secs(9)));
    let upstream = &accepted.upstreams["acme-corp.t"].value;
    assert_eq!(upstream.protocol, UpstreamProtocol::Http2);
    assert!(upstream.health.is_some() && upstream.timeouts.connect == Duration::from_secs(1));
    use KeyPart::*;
    let keys: Vec<&[Vec<KeyPart>]> = route.rate_limits.iter().map(|limit| &*limit.key.0).collect();
    let header = || Header("authorization".into());
    assert_eq!(keys[0], [vec![Tenant, header()], vec![Tenant, ClientIp]]);
    assert_eq!(keys[1], [vec![Tenant, Cookie("a".into())], vec![Tenant, Host]]);
    assert_eq!(keys[2], [vec![Tenant, Route]]);
    let settings = accepted.global.tenants.as_ref().unwrap();
    assert_eq!(settings.removed_drain, accepted.global.drain.removed_route_grace);
    assert_eq!((settings.metric_tenants, &settings.certificates), (100, &None));
}

#[test]
fn tenants_get_certificates_of_their_own() {
    let file = |per: &str| {
        FILE.replace(
            "  routes:",
            &format!("  certificates: {{ issuer: local, per: {per} }}\n  routes:"),
        ) + "issuers: { local: { internal: {} }, acme: { directory: 'https://ca.openclaw.example/d' } }\n"
    };
    let certificates = |file: &str| -> Vec<(String, usize, Option<String>)> {
        let accepted = read(None, file, PRODUCTION);
        let line = |certificate: &config::model::Good<Certificate>| {
            let CertificateSource::Issued { names, issuer, .. } = &certificate.value.source else {
                panic!()
            };
            assert_eq!(issuer.as_str(), "local");
            let tenant = certificate.value.tenant.as_ref().map(ToString::to_string);
            (certificate.value.name.to_string(), names.len(), tenant)
        };
        accepted.certificates.values().map(line).collect()
    };
    let of = |name: &str, count, tenant: &str| (name.to_owned(), count, Some(tenant.to_owned()));
    assert_eq!(
        certificates(&file("tenant")),
        [of("acme-corp", 2, "acme-corp"), of("newtenant-corp", 2, "newtenant-corp")]
    );
    assert_eq!(
        certificates(&file("host")),
        [
            of("acme-corp.bridge", 1, "acme-corp"),
            of("acme-corp.gateway", 1, "acme-corp"),
            of("newtenant-corp.bridge", 1, "newtenant-corp"),
            of("newtenant-corp.gateway", 1, "newtenant-corp"),
        ]
    );
    // One that cannot be made is told once for all.
    let wildcard =
        file("host").replace("local, per", "acme, per").replace("hosts: [\"", "hosts: [\"*.");
    let accepted = read(None, &wildcard, PRODUCTION);
    let [only] = &accepted.quarantined[..] else { panic!("{:?}", accepted.quarantined) };
    assert_eq!(only.kind, config::merge::Kind::Certificate);
    let message = &only.reasons[0].message;
    assert!(message.contains("DNS-01") && message.ends_with("(and 3 more like it)"), "{message}");
    // One of the config file with that name stays.
    let own = file("tenant")
        + "certificates: { acme-corp: { names: [x.openclaw.example], issuer: local } }\n";
    let accepted = read(None, &own, PRODUCTION);
    assert_eq!(accepted.certificates["acme-corp"].value.tenant, None);
    assert!(
        accepted.quarantined[0].reasons[0].message.contains("both have a certificate `acme-corp`")
    );
}

/// The second host of `gw` and the first of `gw.2` would have one name.
#[test]
fn each_host_has_a_certificate_whatever_templates_are_called() {
    let file = FILE.split("  routes:").next().unwrap().to_owned()
        + "  certificates: { issuer: local, per: host }\n  routes:\n"
        + "    gw: { hosts: ['{tenant}.a.example', '{tenant}.b.example', '{tenant}.c.example'], endpoint: '{host}:1' }\n"
        + "    gw.2: { hosts: ['{tenant}.d.example', '{tenant}.e.example'], endpoint: '{host}:2' }\n"
        + "    gw.2.2: { hosts: ['{tenant}.f.example'], endpoint: '{host}:3' }\n"
        + "issuers: { local: { internal: {} } }\n";
    let accepted = read(None, &file, PRODUCTION);
    assert_eq!(accepted.quarantined, []);
    let names = |certificate: &config::model::Good<Certificate>| {
        let CertificateSource::Issued { names, .. } = &certificate.value.source else { panic!() };
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        format!("{} {}", certificate.value.name, names.join(" "))
    };
    let of_one: Vec<String> = accepted
        .certificates
        .values()
        .map(names)
        .filter(|line| line.starts_with("acme-corp."))
        .collect();
    assert_eq!(
        of_one,
        [
            "acme-corp.gw acme-corp.a.example",
            "acme-corp.gw.2 acme-corp.d.example",
            "acme-corp.gw.2.2 acme-corp.f.example",
            "acme-corp.gw.2.3 acme-corp.e.example",
            "acme-corp.gw.3 acme-corp.b.example",
            "acme-corp.gw.4 acme-corp.c.example",
        ]
    );
}

#[test]
fn a_file_is_read_up_to_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.json");
    let most = config::defaults::REGISTRY_BYTES;
    let file = FILE.replace("/etc/production.json", path.to_str().unwrap());
    let told = || {
        let candidate = config::parse("edge.yaml", &file, &config::SystemEnvironment).unwrap();
        let accepted = config::merge(None, candidate);
        accepted.quarantined.first().map(|bad| bad.reasons[0].to_string())
    };
    assert!(told().unwrap().contains("registry.json: the registry cannot be read: No such file"));
    let padded = |size: usize| format!("{PRODUCTION}{}", " ".repeat(size - PRODUCTION.len()));
    std::fs::write(&path, padded(most)).unwrap();
    assert_eq!(told(), None);
    std::fs::write(&path, padded(most + 1)).unwrap();
    assert!(told().unwrap().contains("larger than 16 MiB"));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(told().unwrap().contains("not a regular file"));
}
