//! Limits, access and pacing of routes: every key reaches the model, every combination that means
//! nothing is refused, what is probably not meant is warned about.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io;
use std::path::Path;

use config::model::*;
use config::value::{Name, NormPath};
use config::{Diagnostic, Environment, NoEnvironment, last_good, merge, parse};

const BCRYPT: &str = "$2y$04$taRy0yQYshLU3RkJ.USK1.bVWCgxPfnxjh4FSzIGx/GpALKNPGyf2";
const SHA1: &str = "{SHA}GpHWL3ymc5liWkNopqtdSjuqYHM=";

/// One htpasswd file, behind a reference.
struct Htpasswd(String);

impl Environment for Htpasswd {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Ok(self.0.clone())
    }
}

fn file(keys: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ web: {{ bind: ['127.0.0.1:0'] }} }}\n\
         upstreams: {{ u: {{ endpoints: ['192.0.2.1:1'] }} }}\n\
         routes: {{ r: {{ hosts: [a.x], upstream: u, {keys} }} }}\n"
    )
}

fn with(keys: &str, env: &dyn Environment) -> (Result<Route, Vec<String>>, Vec<String>) {
    let candidate = parse("edge.yaml", &file(keys), env).unwrap();
    let route = match &candidate.routes["r"] {
        Entry::Good(good) => Ok(Route::clone(&good.value)),
        Entry::Bad(bad) => Err(bad.reasons.iter().map(shown).collect()),
    };
    (route, candidate.warnings.iter().map(shown).collect())
}

fn shown(finding: &Diagnostic) -> String {
    assert!(finding.line > 0 && finding.column > 0, "{finding:?}");
    let at = finding.at.strip_prefix("routes.r.").unwrap_or(&finding.at);
    format!("{at}: {}", finding.message)
}

/// A route without errors and warnings.
fn route(keys: &str) -> Route {
    let (route, warnings) = with(keys, &NoEnvironment);
    assert_eq!(warnings, [""; 0], "{keys}");
    route.unwrap_or_else(|reasons| panic!("{keys}: {reasons:?}"))
}

fn reasons(keys: &str) -> Vec<String> {
    with(keys, &NoEnvironment).0.err().unwrap_or_default()
}

fn warnings(keys: &str) -> Vec<String> {
    let (route, warnings) = with(keys, &NoEnvironment);
    assert!(route.is_ok(), "{keys}: {route:?}");
    warnings
}

fn limit(keys: &str) -> RateLimit {
    route(&format!("rate_limits: [{{ {keys} }}]")).rate_limits.remove(0)
}

fn access(keys: &str) -> Access {
    route(&format!("access: {{ {keys} }}")).access.unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn path(text: &str) -> NormPath {
    NormPath::parse(text).unwrap()
}

// === every key ===

#[test]
fn a_route_without_them_demands_nothing() {
    let route = route("body_limit: 1KiB");
    assert_eq!((route.rate_limits.len(), route.access, route.pacing), (0, None, None));
}

#[test]
fn a_limit_with_its_defaults_and_without() {
    let plain = RateLimit {
        name: name("client_ip"),
        key: LimitKey(vec![vec![KeyPart::ClientIp]]),
        rate: "50/s".parse().ok(),
        burst: 50.try_into().unwrap(),
        concurrent: None,
        missing: Missing::ClientIp,
        prefix: AddressPrefix { v4: 32, v6: 64, v6_aggregate: Some(48) },
        exempt: Vec::new(),
        dry_run: false,
        status: 429,
        legacy_fields: false,
        announce: false,
    };
    assert_eq!(limit("key: client_ip, rate: 50/s"), plain);
    let full = limit(
        "name: credential, key: ['header:X-Api-Key+client_ip', 'cookie:Sid', 'host+route'], \
         rate: 600/m, burst: 20, concurrent: 8, prefix: { ipv4: 24, ipv6: 56, ipv6_aggregate: 32 }, \
         exempt: [10.0.0.0/8, '2001:db8::1'], dry_run: true, status: 503, legacy_headers: true, \
         announce: true",
    );
    let header = KeyPart::Header("x-api-key".into());
    let expected = RateLimit {
        name: name("credential"),
        key: LimitKey(vec![
            vec![header, KeyPart::ClientIp],
            vec![KeyPart::Cookie("Sid".into())],
            vec![KeyPart::Host, KeyPart::Route],
        ]),
        rate: "600/m".parse().ok(),
        burst: 20.try_into().unwrap(),
        concurrent: 8.try_into().ok(),
        missing: Missing::ClientIp,
        prefix: AddressPrefix { v4: 24, v6: 56, v6_aggregate: Some(32) },
        exempt: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::1/128".parse().unwrap()],
        dry_run: true,
        status: 503,
        legacy_fields: true,
        announce: true,
    };
    assert_eq!(full, expected);
    assert_eq!(limit("key: 'header:a', rate: 1/s, missing: refuse").missing, Missing::Refuse);
    let streams = limit("key: route, concurrent: 3");
    assert_eq!((streams.rate, streams.concurrent.map(u32::from)), (None, Some(3)));
}

#[test]
fn limits_are_called_after_their_keys() {
    for (key, called) in [
        ("'header:Authorization'", "header-Authorization"),
        ("client_ip + host", "client_ip-host"),
        ("['cookie:sid', client_ip]", "cookie-sid-client_ip"),
    ] {
        assert_eq!(limit(&format!("key: {key}, rate: 1/s")).name, name(called), "{key}");
    }
    let long = limit(&format!("key: 'header:{}', rate: 1/s", "x".repeat(128)));
    assert_eq!(long.name.as_str().len(), 63);
}

#[test]
fn the_aggregate_is_wider_than_a_client() {
    let aggregate = |prefix: &str| {
        limit(&format!("key: client_ip, rate: 1/s, prefix: {{ {prefix} }}")).prefix.v6_aggregate
    };
    assert_eq!(aggregate("ipv6_aggregate: off"), None);
    assert_eq!(aggregate("ipv6: 49"), Some(48));
    assert_eq!(aggregate("ipv6: 48"), None);
    assert_eq!(aggregate("ipv6: 48, ipv6_aggregate: 47"), Some(47));
    let at = "rate_limits[0].prefix.ipv6_aggregate";
    assert_eq!(
        reasons("rate_limits: [{ key: client_ip, rate: 1/s, prefix: { ipv6_aggregate: 64 } }]"),
        [format!("{at}: `ipv6_aggregate` is not wider than `ipv6`, which is 64")]
    );
}

#[test]
fn access_with_its_defaults_and_without() {
    let users = |user: &str| {
        vec![PasswordEntry {
            user: user.into(),
            hash: PasswordHash::Bcrypt(config::value::Secret::new(BCRYPT)),
        }]
    };
    let short = access(&format!("basic_auth: 'ops:{BCRYPT}'"));
    let auth = BasicAuth { users: users("ops"), realm: "restricted".into() };
    let expected = Access {
        allow: Vec::new(),
        deny: Vec::new(),
        basic_auth: Some(auth),
        satisfy: Satisfy::All,
        except: Vec::new(),
    };
    assert_eq!(short, expected);
    let full = access(&format!(
        "allow: [192.0.2.0/24, '2001:db8::/32'], deny: [192.0.2.66], satisfy: any, \
         basic_auth: {{ users: 'ops:{BCRYPT}', realm: Nango staff }}, \
         except: [/oauth/callback, '/webhook/*']"
    ));
    let expected = Access {
        allow: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        deny: vec!["192.0.2.66/32".parse().unwrap()],
        basic_auth: Some(BasicAuth { users: users("ops"), realm: "Nango staff".into() }),
        satisfy: Satisfy::Any,
        except: vec![PathRule::Exact(path("/oauth/callback")), PathRule::Prefix(path("/webhook"))],
    };
    assert_eq!(full, expected);
    assert!(!format!("{full:?}").contains("taRy0"));
}

#[test]
fn pacing_in_both_directions() {
    let pacing = |keys: &str| route(&format!("pacing: {{ {keys} }}")).pacing;
    let down = Pacing { download: Some(1 << 20), upload: None, after: 0 };
    assert_eq!(pacing("download: 1MiB/s"), Some(down));
    let both = Pacing { download: Some(2000), upload: Some(1024), after: 10 << 20 };
    assert_eq!(pacing("download: 2kB/s, upload: 1KiB/s, after: 10MiB"), Some(both));
    for (keys, reason) in [
        ("after: 1MiB", "pacing: nothing is paced"),
        ("upload: 1023/s", "pacing.upload: `1023/s` is out of range: 1KiB/s to 1024GiB/s"),
        ("upload: 1MiB", "pacing.upload: `1MiB` is no speed"),
    ] {
        assert_eq!(reasons(&format!("pacing: {{ {keys} }}")), [reason], "{keys}");
    }
}

#[test]
fn the_rate_of_new_connections() {
    let limits = |keys: &str| {
        let text = format!(
            "version: 1\nlisteners: {{ web: {{ bind: ['127.0.0.1:0'], limits: {{ {keys} }} }} }}\n"
        );
        let global = parse("edge.yaml", &text, &NoEnvironment).map(|candidate| candidate.global);
        global.map(|global| {
            let limits = &global.listeners["web"].limits;
            (limits.connection_rate, limits.connection_burst.get())
        })
    };
    assert_eq!(limits("").unwrap(), ("200/s".parse().ok(), 400));
    assert_eq!(limits("connection_rate: 60/m").unwrap(), ("60/m".parse().ok(), 120));
    assert_eq!(limits("connection_burst: 5").unwrap(), ("200/s".parse().ok(), 5));
    assert_eq!(limits("connection_rate: off").unwrap().0, None);
    assert!(limits("connection_rate: off, connection_burst: 5").is_err());
    assert!(limits("connection_rate: 0/s").is_err());
}

// === what means nothing ===

#[test]
fn limits_that_mean_nothing() {
    for (keys, reason) in [
        ("key: client_ip", "rate_limits[0]: the limit limits nothing"),
        ("rate: 1/s", "rate_limits[0]: `key` is missing"),
        ("key: route, concurrent: 1, burst: 2", "rate_limits[0].burst: `burst` without `rate`"),
        ("key: route, concurrent: 0", "rate_limits[0].concurrent: 0 is out of range: 1 to 1000000"),
        (
            "key: route, rate: 1/s, burst: 0",
            "rate_limits[0].burst: 0 is out of range: 1 to 1000000",
        ),
        ("key: route, rate: 10r/s", "rate_limits[0].rate: `10r/s` is no rate"),
        ("key: path, rate: 1/s", "rate_limits[0].key: `path` is not known here"),
        ("key: 'header:', rate: 1/s", "rate_limits[0].key: `header:` names no header"),
        ("key: 'header:a b', rate: 1/s", "rate_limits[0].key: `header:a b` names no header"),
        ("key: 'cookie:', rate: 1/s", "rate_limits[0].key: `cookie:` names no cookie"),
        (
            "key: 'header:X-Forwarded-For', rate: 1/s",
            "rate_limits[0].key: `header:X-Forwarded-For` can be made up by clients",
        ),
        ("key: host+host, rate: 1/s", "rate_limits[0].key: `host` is twice in the key"),
        ("key: [host, host], rate: 1/s", "rate_limits[0].key[1]: the key is written twice"),
        ("key: [], rate: 1/s", "rate_limits[0].key: the list is empty"),
        ("key: host, rate: 1/s, status: 500", "rate_limits[0].status: `500` is not known here"),
        (
            "key: 'header:a', rate: 1/s, missing: allow",
            "rate_limits[0].missing: `allow` is not known here",
        ),
        (
            "key: host, rate: 1/s, prefix: { ipv4: 33 }",
            "rate_limits[0].prefix.ipv4: 33 is out of range: 8 to 32",
        ),
        (
            "key: host, rate: 1/s, exempt: [10.1.2.3/8]",
            "rate_limits[0].exempt[0]: `10.1.2.3/8` has bits outside its network",
        ),
        ("key: host, rate: 1/s, name: a b", "rate_limits[0].name: `a b` is no name"),
    ] {
        assert_eq!(reasons(&format!("rate_limits: [{{ {keys} }}]")), [reason], "{keys}");
    }
    assert_eq!(reasons("rate_limits: []"), ["rate_limits: the list is empty"]);
    for one in ["{ key: host, rate: 1/s }", "10/s"] {
        let found = reasons(&format!("rate_limits: {one}"));
        assert_eq!(found, ["rate_limits: expected a list of limits"], "{one}");
    }
    let twice = reasons("rate_limits: [{ key: host, rate: 1/s }, { key: host, rate: 9/h }]");
    assert_eq!(twice, ["rate_limits[1]: two limits are called `host`: the first at 4:57"]);
}

#[test]
fn a_route_has_at_most_16_limits() {
    let many = |count: u32| {
        let limits: Vec<String> =
            (0..count).map(|n| format!("{{ key: 'header:h{n}', rate: 1/s }}")).collect();
        reasons(&format!("rate_limits: [{}]", limits.join(", ")))
    };
    assert_eq!(many(16), [""; 0]);
    assert_eq!(many(17), ["rate_limits: the list has more than 16 items"]);
}

#[test]
fn access_rules_that_mean_nothing() {
    for (keys, reason) in [
        ("", "access: everybody may use the route"),
        ("satisfy: all, except: [/x]", "access: everybody may use the route"),
        ("allow: []", "access.allow: the list is empty"),
        ("allow: 192.0.2.1", "access.allow: expected a list, found a single value"),
        ("allow: [all]", "access.allow[0]: `all` is neither an address nor a network"),
        (
            "deny: ['::ffff:192.0.2.1']",
            "access.deny[0]: `::ffff:192.0.2.1` is an IPv4 address in IPv6 form",
        ),
        ("allow: [192.0.2.1], satisfy: either", "access.satisfy: `either` is not known here"),
        (
            "allow: [192.0.2.1], except: [x]",
            "access.except[0]: `x` is no path: it does not start with `/`",
        ),
        (
            "allow: [192.0.2.1], except: ['/x*']",
            "access.except[0]: `/x*`: `*` stands for whole segments at the end",
        ),
        (
            "allow: [192.0.2.1], except: ['/*/x']",
            "access.except[0]: `/*/x`: `*` stands for whole segments at the end",
        ),
        (
            "allow: [192.0.2.1], except: [/a/../b]",
            "access.except[0]: `/a/../b` is not in its normal form",
        ),
        ("allow: [192.0.2.1], except: [/x, /x]", "access.except[1]: the path is written twice"),
        ("basic_auth: [a]", "access.basic_auth: expected a mapping, found a list"),
        ("basic_auth: { realm: x }", "access.basic_auth: `users` is missing"),
        (
            "basic_auth: /etc/htpasswd",
            "access.basic_auth: expected the lines of an htpasswd file, found a path",
        ),
        (
            "basic_auth: ''",
            "access.basic_auth: there is no user in the htpasswd: nobody could come in",
        ),
        (
            "basic_auth: 'a:hunter2'",
            "access.basic_auth: line 1 of the htpasswd: a plain text instead of a hash",
        ),
    ] {
        assert_eq!(reasons(&format!("access: {{ {keys} }}")), [reason], "{keys}");
    }
    for realm in ["''", "'a\"b'", "'a\\b'", "\"a\\nb\"", "é", &"x".repeat(129)] {
        let keys = format!("access: {{ basic_auth: {{ users: 'a:{BCRYPT}', realm: {realm} }} }}");
        assert_eq!(reasons(&keys).len(), 1, "{realm}");
    }
    let list = format!("access: {{ basic_auth: {{ users: ['a:{BCRYPT}'] }} }}");
    let reason = "expected the lines of an htpasswd file as one text, found a list";
    assert_eq!(reasons(&list), [format!("access.basic_auth.users: {reason}")]);
}

#[test]
fn a_route_that_forwards_nothing_has_no_pacing() {
    let text = file("").replace("upstream: u,", "redirect: https, pacing: { upload: 1MiB/s },");
    let candidate = parse("edge.yaml", &text, &NoEnvironment).unwrap();
    let Entry::Bad(bad) = &candidate.routes["r"] else { panic!() };
    assert_eq!(bad.reasons.len(), 1);
    assert!(bad.reasons[0].message.contains("`pacing`"), "{:?}", bad.reasons);
}

// === htpasswd files ===

const BY_FILE: &str = "access: { basic_auth: '${file:/run/secrets/users}' }";

#[test]
fn a_bad_line_of_a_file_is_named_and_not_shown() {
    let env =
        Htpasswd(format!("ops:{BCRYPT}\neve:$apr1$TOPSECRET$TOPSECRETTOPSECRETTOPS\nTOPSECRET\n"));
    let place = "what `${file:/run/secrets/users}` gives";
    let reasons = with(BY_FILE, &env).0.unwrap_err();
    assert_eq!(
        reasons,
        [
            format!("access.basic_auth: line 2 of {place}: MD5 (`$apr1$`) is not supported"),
            format!("access.basic_auth: line 3 of {place}: no `:` between user and hash"),
        ]
    );
}

#[test]
fn a_file_has_at_most_1000_users() {
    let users = |count: u32| {
        let lines: Vec<String> = (0..count).map(|n| format!("u{n}:{SHA1}")).collect();
        with(BY_FILE, &Htpasswd(lines.join("\n")))
    };
    let (route, warnings) = users(1000);
    assert_eq!(route.unwrap().access.unwrap().basic_auth.unwrap().users.len(), 1000);
    assert_eq!(
        warnings,
        ["access.basic_auth: 1000 hashes in what `${file:/run/secrets/users}` gives are unsalted \
          SHA-1, which is soon guessed"]
    );
    let reasons = users(1001).0.unwrap_err();
    assert!(reasons[0].contains("more than 1000 users"), "{reasons:?}");
    let junk = Htpasswd("x\n".repeat(30));
    let reasons = with(BY_FILE, &junk).0.unwrap_err();
    assert_eq!(reasons.len(), 11);
    assert!(reasons[10].contains("20 more lines"), "{reasons:?}");
}

#[test]
fn what_is_kept_of_it_holds_no_hash_and_opens_no_door() {
    let env = Htpasswd(format!("ops:{BCRYPT}"));
    let keys = format!("{BY_FILE}, rate_limits: [{{ key: client_ip, rate: 50/s }}]");
    let accepted = merge(None, parse("edge.yaml", &file(&keys), &env).unwrap());
    assert_eq!(accepted.quarantined, []);
    let document = last_good::document(&accepted);
    assert!(!document.contains("taRy0"));
    let restored = last_good::restore(&document, &env).unwrap();
    assert_eq!(restored.routes["r"].value, accepted.routes["r"].value);
    let closed = last_good::restore(&document, &NoEnvironment).unwrap();
    assert!(closed.routes.is_empty() && closed.blocked.len() == 1);
    // A line that became bad: who could come in before still can, and nobody else.
    let bad = parse("edge.yaml", &file(&keys), &Htpasswd("ops:plain".into())).unwrap();
    let kept = merge(Some(&accepted), bad);
    assert_eq!(kept.routes["r"].value, accepted.routes["r"].value);
    assert!(kept.quarantined[0].former_serves);
}

// === what is probably not meant ===

#[test]
fn access_rules_that_are_probably_not_meant() {
    let password = format!("basic_auth: 'a:{BCRYPT}'");
    for (keys, warning) in [
        ("allow: [192.0.2.0]", "allow[0]: `192.0.2.0` is one address"),
        ("allow: [192.0.2.1, 192.0.2.1/32]", "allow[1]: `192.0.2.1/32` is written twice"),
        (
            "allow: [10.0.0.0/8, 192.0.2.0/24], deny: [192.0.2.0/24]",
            "allow[1]: `192.0.2.0/24` is denied as well, and that decides",
        ),
        (
            "allow: [10.0.0.0/8, 10.1.0.0/16]",
            "allow[1]: `10.1.0.0/16` lies in a network that is allowed already",
        ),
        ("allow: [0.0.0.0/0]", "allow[0]: every IPv4 address is allowed"),
        ("deny: ['::/0']", "deny[0]: every IPv6 address is denied"),
        (
            "deny: [10.0.0.0/8, 10.1.0.0/16]",
            "deny[1]: `10.1.0.0/16` lies in a network that is denied already",
        ),
        (
            "allow: [10.1.0.0/16, 10.2.0.0/16], deny: [10.0.0.0/8]",
            "deny[0]: `10.0.0.0/8` denies nobody: every allowed network lies in it, and the longer \
             prefix decides",
        ),
        (
            "allow: [10.1.0.0/16], deny: [192.0.2.0/24]",
            "deny[0]: `192.0.2.0/24` denies nobody: it lies in no allowed network, and others are \
             refused anyway",
        ),
        (
            "allow: [10.0.0.0/8], satisfy: any",
            "satisfy: `satisfy: any` leaves no choice: there is no `basic_auth`",
        ),
        (
            &format!("{password}, satisfy: any"),
            "satisfy: `satisfy: any` leaves no choice: there is no `allow`",
        ),
        (
            &format!("deny: [10.0.0.0/8], {password}, satisfy: any"),
            "satisfy: `satisfy: any` without `allow`: who is not denied needs no password",
        ),
        (
            &format!("basic_auth: 'a:{SHA1}'"),
            "basic_auth: a hash in the htpasswd is unsalted SHA-1, which is soon guessed",
        ),
    ] {
        assert_eq!(warnings(&format!("access: {{ {keys} }}")), [format!("access.{warning}")]);
    }
    // All of this is meant.
    for keys in [
        "allow: [10.0.0.0/8, 10.1.2.0/24], deny: [10.1.0.0/16, 10.2.0.0/16]",
        "allow: [192.0.2.0/32, '2001:db8::/128']",
        "deny: [192.0.2.1]",
        &format!("allow: [192.0.2.1], {password}, satisfy: any"),
    ] {
        assert_eq!(warnings(&format!("access: {{ {keys} }}")), [""; 0], "{keys}");
    }
}

#[test]
fn exceptions_outside_of_the_route() {
    let warnings = |route: &str, except: &str| {
        warnings(&format!("path: {route}, access: {{ allow: [192.0.2.1], except: ['{except}'] }}"))
    };
    for (route, except) in [
        ("/", "/x"),
        ("/api", "/api"),
        ("/api", "/api/x"),
        ("/api/", "/api/x"),
        ("/api", "/api/x/*"),
    ] {
        assert_eq!(warnings(route, except), [""; 0], "{route} {except}");
    }
    for (route, except) in [("/api", "/apix"), ("/api", "/x/*"), ("{ exact: /api }", "/api/x")] {
        let found = warnings(route, except);
        assert!(found.len() == 1 && found[0].contains("is no path of the route"), "{found:?}");
    }
    for (route, except) in
        [("/api", "/*"), ("/api", "/api/*"), ("/api/x", "/api/*"), ("{ exact: /api }", "/api")]
    {
        let found = warnings(route, except);
        assert!(found.len() == 1 && found[0].contains("leaves nothing"), "{route} {except}");
    }
}

#[test]
fn limits_that_are_probably_not_meant() {
    for (keys, warning) in [
        ("key: client_ip, rate: 1/s, exempt: ['::/0']", "exempt[0]: every IPv6 address is exempt"),
        (
            "key: [client_ip, 'header:a'], rate: 1/s",
            "key: the last alternatives are never used: one before them is always there",
        ),
        (
            "key: host, rate: 1/s, missing: refuse",
            "missing: `missing` has no effect: the key is always there",
        ),
    ] {
        let found = warnings(&format!("rate_limits: [{{ {keys} }}]"));
        assert_eq!(found, [format!("rate_limits[0].{warning}")]);
    }
}

#[test]
fn a_limit_behind_a_stricter_one() {
    let found = |a: &str, b: &str| {
        warnings(&format!(
            "rate_limits: [{{ name: a, key: client_ip, {a} }}, {{ name: b, key: client_ip, {b} }}]"
        ))
    };
    let never = |index: u32, one: &str, other: &str| {
        [format!(
            "rate_limits[{index}]: the limit `{one}` never refuses: `{other}` has the same key and \
             is stricter"
        )]
    };
    for (a, b) in [
        ("rate: 10/s", "rate: 10/s"),
        ("rate: 10/s", "rate: 601/m, burst: 10"),
        ("rate: 10/s, concurrent: 2", "concurrent: 3"),
        ("rate: 10/s", "rate: 20/s, exempt: [10.0.0.0/8]"),
        ("rate: 10/s, exempt: [10.1.0.0/16]", "rate: 20/s, exempt: [10.0.0.0/8]"),
    ] {
        assert_eq!(found(a, b), never(1, "b", "a"), "{a} | {b}");
    }
    assert_eq!(found("rate: 20/s", "rate: 10/s"), never(0, "a", "b"));
    for (a, b) in [
        // A burst in a second, a mean over an hour.
        ("rate: 10/s", "rate: 1000/h"),
        ("rate: 10/s, burst: 20", "rate: 10/s, burst: 10, concurrent: 1, dry_run: true"),
        ("rate: 10/s, dry_run: true", "rate: 20/s"),
        ("rate: 10/s", "concurrent: 3"),
        ("rate: 10/s, exempt: [10.0.0.0/8]", "rate: 20/s"),
        ("rate: 10/s, prefix: { ipv4: 24 }", "rate: 20/s"),
    ] {
        assert_eq!(found(a, b), [""; 0], "{a} | {b}");
    }
    let other_key = "rate_limits: [{ key: client_ip, rate: 1/s }, { key: 'header:a', rate: 10/s, missing: refuse }]";
    assert_eq!(warnings(other_key), [""; 0]);
}
