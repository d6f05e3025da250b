//! The examples are valid, and the platform's one says what the platform needs.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io;
use std::path::Path;

use config::model::{Action, Balance, Entry, Expectation, KeyPart, LimitKey, PathRule, Probe};
use config::value::NormPath;
use config::{Accepted, Environment, merge, parse};

/// `ops` with the password `pw`.
const HTPASSWD: &str = "ops:$2y$04$taRy0yQYshLU3RkJ.USK1.bVWCgxPfnxjh4FSzIGx/GpALKNPGyf2\n";

/// Every reference gives something.
struct Anything;

impl Environment for Anything {
    fn var(&self, name: &str) -> Option<String> {
        let text = match name {
            name if name.contains("EMAIL") => "ops@openclaw.example",
            name if name.contains("HTPASSWD") => HTPASSWD,
            _ => "aGVsbG8taGVsbG8",
        };
        Some(text.into())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        assert_ne!(path.extension(), Some("json".as_ref()));
        let htpasswd = path.extension().is_some_and(|extension| extension == "htpasswd");
        Ok(if htpasswd { HTPASSWD } else { "a-token\n" }.into())
    }

    fn read_registry(&self, _path: &Path) -> io::Result<Vec<u8>> {
        Ok(include_bytes!("tenants/production.json").to_vec())
    }
}

fn examples() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut out = Vec::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            out.push((name, std::fs::read_to_string(path).unwrap()));
        }
    }
    out.sort();
    assert!(out.len() >= 4, "examples are missing");
    out
}

fn accepted(name: &str, text: &str) -> Accepted {
    let candidate = parse(name, text, &Anything)
        .unwrap_or_else(|errors| panic!("{}", errors.render(name, text)));
    for (route, entry) in &candidate.routes {
        assert!(matches!(entry, Entry::Good(_)), "{name}: {route}: {entry:?}");
    }
    merge(None, candidate)
}

#[test]
fn every_example_is_good_in_every_part() {
    for (name, text) in examples() {
        let accepted = accepted(&name, &text);
        assert_eq!(accepted.quarantined, [], "{name}");
        assert_eq!(accepted.blocked, [], "{name}");
        assert_eq!(accepted.warnings, [], "{name}");
    }
}

#[test]
fn tests_in_examples_name_routes_that_exist() {
    for (name, text) in examples() {
        let accepted = accepted(&name, &text);
        for case in &accepted.tests {
            if let Expectation::Route(route) = &case.expect {
                assert!(accepted.routes.contains_key(route), "{name}: {route}");
            }
        }
    }
}

#[test]
fn the_platform_is_translated() {
    let (name, text) = examples().into_iter().find(|(name, _)| name == "platform.yaml").unwrap();
    let accepted = accepted(&name, &text);
    for (route, host, endpoint) in [
        ("app", "app.openclaw.example", "web.platform.svc.cluster.local:3000"),
        ("api", "api.openclaw.example", "api.platform.svc.cluster.local:8000"),
        ("proxy", "proxy.openclaw.example", "token-proxy.platform.svc.cluster.local:8080"),
        ("nango", "nango.openclaw.example", "nango-server.platform.svc.cluster.local:8080"),
    ] {
        let route = &accepted.routes[route].value;
        assert_eq!(route.hosts[0].to_string(), host);
        let Action::Upstream(upstream) = &route.action else { panic!("{host}") };
        let upstream = &accepted.upstreams[upstream].value;
        assert_eq!(upstream.endpoints[0].address.to_string(), endpoint);
        assert_eq!(upstream.timeouts.first_byte.as_secs(), 300);
        assert_eq!(upstream.timeouts.idle.as_secs(), 300);
    }
    for (name, interval) in [("api", 5), ("token-proxy", 5), ("nango", 5)] {
        let upstream = &accepted.upstreams[name].value;
        let health = upstream.health.as_ref().unwrap();
        let Probe::Http { path, .. } = &health.probe else { panic!("{name}") };
        assert_eq!((path.as_str(), health.interval.as_secs()), ("/health", interval));
        // A deploy stops a container before it starts the next one.
        assert!(upstream.queue.size >= 128 && upstream.queue.timeout.as_secs() >= 2);
    }
    // It answers nothing while it compiles.
    assert_eq!(accepted.upstreams["web"].value.health, None);
    assert_eq!(accepted.upstreams["token-proxy"].value.balance, Balance::LeastRequest);
    let Action::Respond(internal) = &accepted.routes["proxy-internal"].value.action else {
        panic!()
    };
    assert_eq!(internal.status, 404);
    // The traffic that costs money: a share for each address and each credential.
    let limits = &accepted.routes["proxy"].value.rate_limits;
    let [address, credential] = limits.as_slice() else { panic!("{limits:?}") };
    assert_eq!(address.key, LimitKey(vec![vec![KeyPart::ClientIp]]));
    assert_eq!((address.rate, address.burst.get()), ("50/s".parse().ok(), 100));
    let header = KeyPart::Header("authorization".into());
    assert_eq!(credential.key, LimitKey(vec![vec![header]]));
    assert_eq!((credential.rate, credential.burst.get()), ("10/s".parse().ok(), 20));
    assert_eq!(credential.concurrent.map(u32::from), Some(8));
    // Without a login of its own: a password, but for what strangers call.
    let access = accepted.routes["nango"].value.access.as_ref().unwrap();
    let users: Vec<&str> =
        access.basic_auth.iter().flat_map(|auth| &auth.users).map(|user| &*user.user).collect();
    assert_eq!(users, ["ops"]);
    let path = |text| NormPath::parse(text).unwrap();
    let open = [PathRule::Exact(path("/oauth/callback")), PathRule::Prefix(path("/webhook"))];
    assert_eq!(access.except, open);
    assert!(accepted.tests.len() >= 8);
}
