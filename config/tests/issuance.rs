//! Issuers and certificates: what is read, and what an issuer cannot make.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;

use config::model::*;
use config::value::Name;
use config::{Accepted, Candidate, Errors, NoEnvironment, defaults, merge, parse};

const ROUTE: &str = "routes: { r: { hosts: [a.x], respond: { status: 200 } } }\n";
const DIR: &str = "directory: 'https://ca.openclaw.example/dir'";

fn read(text: &str) -> Result<Candidate, Errors> {
    parse("edge.yaml", &format!("version: 1\n{text}{ROUTE}"), &NoEnvironment)
}

fn accepted(text: &str) -> Accepted {
    merge(None, read(text).unwrap_or_else(|errors| panic!("{errors:?}")))
}

fn acme(text: &str) -> AcmeIssuer {
    let accepted = accepted(&format!(
        "issuers:\n  ca: {{ {text} }}\n  next: {{ directory: 'https://b.x/' }}\n"
    ));
    match &accepted.global.issuers["ca"] {
        Issuer::Acme(issuer) => (**issuer).clone(),
        Issuer::Internal => panic!("{text}"),
    }
}

#[test]
fn the_defaults_of_an_issuer() {
    let issuer = acme(DIR);
    assert_eq!(issuer.directory, "https://ca.openclaw.example/dir");
    assert_eq!((issuer.challenge, issuer.key), (Challenge::Http01, KeyType::P256));
    assert_eq!((issuer.email, issuer.profile, issuer.eab), (None, None, None));
    assert_eq!((issuer.roots, issuer.fallback, issuer.staging), (None, None, None));
    let limits = OrderLimits {
        certificates_per_week: 4,
        certificates_per_hour: 1,
        domain_per_week: 50,
        orders_per_3h: 300,
        failures_per_hour: 4,
    };
    assert_eq!(issuer.limits, limits);
}

#[test]
fn every_key_of_an_issuer() {
    let issuer = acme(
        "directory: 'https://ca.x:8443/dir?a', email: ops@openclaw.example, profile: tlsserver, \
         eab: { key_id: one, hmac_key: 'aGVs_-8=' }, roots: /ca.pem, challenge: tls-alpn-01, \
         key: rsa2048, fallback: next, staging: 'http://localhost:1/d', limits: { \
         certificates_per_week: 10, certificates_per_hour: 9, domain_per_week: 8, \
         orders_per_3h: 7, failures_per_hour: 6 }",
    );
    assert_eq!(issuer.directory, "https://ca.x:8443/dir?a");
    assert_eq!(issuer.email.unwrap().expose(), "ops@openclaw.example");
    assert_eq!(issuer.profile.as_deref(), Some("tlsserver"));
    let eab = issuer.eab.unwrap();
    assert_eq!((&*eab.key_id, eab.mac_key()), ("one", b"hel\xff\xef".to_vec()));
    assert_eq!(issuer.roots, Some("/ca.pem".into()));
    assert_eq!((issuer.challenge, issuer.key), (Challenge::TlsAlpn01, KeyType::Rsa2048));
    assert_eq!(issuer.fallback, Some(Name::new("next").unwrap()));
    assert_eq!(issuer.staging.as_deref(), Some("http://localhost:1/d"));
    let limits = OrderLimits {
        certificates_per_week: 10,
        certificates_per_hour: 9,
        domain_per_week: 8,
        orders_per_3h: 7,
        failures_per_hour: 6,
    };
    assert_eq!(issuer.limits, limits);
}

#[test]
fn the_mac_key_shows_nowhere() {
    let issuer = acme(&format!("{DIR}, eab: {{ key_id: one, hmac_key: aHVudGVyMg }}"));
    assert_eq!(issuer.eab.as_ref().unwrap().mac_key(), b"hunter2");
    let shown = format!("{issuer:?}");
    assert!(!shown.contains("aHVudGVyMg") && !shown.contains("104, 117"), "{shown}");
}

#[test]
fn dry_runs_are_for_lets_encrypt_unless_said() {
    let directory = format!("directory: '{}'", defaults::LETS_ENCRYPT);
    let staging = acme(&directory).staging;
    assert_eq!(staging.as_deref(), Some(defaults::LETS_ENCRYPT_STAGING));
    assert_eq!(acme(&format!("{directory}, staging: off")).staging, None);
    let own = acme(&format!("{directory}, staging: 'https://s.x/d'")).staging;
    assert_eq!(own.as_deref(), Some("https://s.x/d"));
}

#[test]
fn urls_of_directories() {
    for (url, good) in [
        ("https://ca.x", true),
        ("https://ca.x/dir", true),
        ("https://[2001:db8::1]:8443/dir", true),
        ("http://127.0.0.1:14000/dir", true),
        ("http://[::1]:14000/dir", true),
        ("http://localhost/dir", true),
        ("http://localhost.x/dir", false),
        ("http://192.0.2.1/dir", false),
        ("http://127.0.0.1@192.0.2.1/dir", false),
        ("https://ca.x/dir#top", false),
        ("https://ca.x/d ir", false),
        ("https:///dir", false),
        ("https://ca.x:0x50/", false),
        ("https://ca x/", false),
        ("ftp://127.0.0.1/", false),
        ("HTTPS", false),
        ("", false),
    ] {
        for key in ["directory", "staging"] {
            let dir = if key == "staging" { format!("{DIR}, ") } else { String::new() };
            let read = read(&format!("issuers: {{ ca: {{ {dir}{key}: '{url}' }} }}\n"));
            assert_eq!(read.is_ok(), good, "{key}: {url}: {read:?}");
        }
    }
}

#[test]
fn fallbacks() {
    let issuers = |fallbacks: &[(&str, &str)]| {
        let mut text = "issuers:\n  local: { internal: {} }\n".to_owned();
        for (name, fallback) in fallbacks {
            let _ = match *fallback {
                "" => writeln!(text, "  {name}: {{ {DIR} }}"),
                _ => writeln!(text, "  {name}: {{ {DIR}, fallback: {fallback} }}"),
            };
        }
        text
    };
    let problems = |fallbacks: &[(&str, &str)]| match read(&issuers(fallbacks)) {
        Ok(candidate) => candidate.warnings.into_iter().map(|found| found.at).collect::<Vec<_>>(),
        Err(errors) => errors.0.into_iter().map(|found| found.message).collect(),
    };
    assert_eq!(problems(&[("a", "b"), ("b", "c"), ("c", "")]), [""; 0]);
    // Two may share one.
    assert_eq!(problems(&[("a", "c"), ("b", "c"), ("c", "")]), [""; 0]);
    assert_eq!(problems(&[("a", "local")]), ["issuer `local` is internal: no browser knows it"]);
    assert_eq!(problems(&[("a", "x")]), ["unknown issuer `x`"]);
    assert_eq!(problems(&[("a", "a")]), ["fallbacks go in a circle: a, a"]);
    let circle = [("c", "b"), ("b", "a"), ("a", "c"), ("into", "a")];
    assert_eq!(problems(&circle), ["fallbacks go in a circle: a, c, b, a"]);
}

#[test]
fn wildcards_are_not_for_acme_issuers() {
    let entry = format!(
        "issuers: {{ ca: {{ {DIR} }} }}\ncertificates: {{ w: {{ names: [a.x, '*.x'] }} }}\n"
    );
    let accepted = accepted(&entry);
    let [bad] = accepted.quarantined.as_slice() else { panic!("{accepted:?}") };
    assert_eq!((bad.name.as_str(), bad.former_serves), ("w", false));
    assert!(bad.reasons[0].message.contains("DNS-01"), "{bad:?}");
    assert!(accepted.certificates.is_empty());
}

/// An issuer of the same name that has become an ACME one cannot make the former version either.
#[test]
fn a_former_wildcard_needs_an_issuer_that_can_make_it() {
    let text = |issuer: &str, names: &str| {
        format!("issuers: {{ ca: {{ {issuer} }} }}\ncertificates: {{ w: {{ names: {names} }} }}\n")
    };
    let before = accepted(&text("internal: {}", "['*.x']"));
    assert_eq!(before.quarantined, []);
    let kept = merge(Some(&before), read(&text("internal: {}", "[]")).unwrap());
    assert!(kept.quarantined[0].former_serves);
    let after = merge(Some(&before), read(&text(DIR, "[]")).unwrap());
    assert!(!after.quarantined[0].former_serves);
    assert!(after.certificates.is_empty());
}

#[test]
fn as_many_names_as_the_profile_allows() {
    let count = |issuer_profile: &str, own: &str, names: usize| {
        let list: Vec<String> = (0..names).map(|n| format!("h{n}.x")).collect();
        let list = list.join(", ");
        let text = format!(
            "issuers: {{ ca: {{ {DIR} {issuer_profile} }} }}\ncertificates: {{ w: {{ names: [{list}] {own} }} }}\n"
        );
        accepted(&text).quarantined.is_empty()
    };
    assert!(count("", "", 100));
    assert!(!count("", "", 101));
    for profile in ["tlsserver", "shortlived"] {
        assert!(count(&format!(", profile: {profile}"), "", 25));
        assert!(!count(&format!(", profile: {profile}"), "", 26));
        assert!(!count("", &format!(", profile: {profile}"), 26));
        assert!(count(&format!(", profile: {profile}"), ", profile: classic", 26));
    }
}

#[test]
fn wildcard_hosts_of_routes_are_told() {
    let warnings = |certificates: &str, listeners: &str| {
        let text = format!(
            "version: 1\nissuers: {{ ca: {{ {DIR} }}, local: {{ internal: {{}} }} }}\n\
             default_issuer: ca\nlisteners: {listeners}\ncertificates: {certificates}\n\
             routes: {{ r: {{ hosts: ['*.a.x', a.x], respond: {{ status: 200 }} }} }}\n"
        );
        let candidate = parse("edge.yaml", &text, &NoEnvironment).unwrap();
        merge(None, candidate).warnings
    };
    let tls = "{ l: { bind: ['127.0.0.1:0'], tls: {} } }";
    let told = warnings("{}", tls);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].message.starts_with("host `*.a.x` has no certificate: wildcard"), "{told:?}");
    assert_eq!(warnings("{ w: { names: ['*.a.x'], issuer: local } }", tls), []);
    assert_eq!(warnings("{ w: { chain: /a, key: /b } }", tls), []);
    assert_eq!(warnings("{}", "{ l: { bind: ['127.0.0.1:0'] } }"), []);
}
