//! What is written is what the model says: every key with a value that is not its default.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use config::model::*;
use config::value::{HostPattern, Name};
use config::{Accepted, NoEnvironment, merge, parse};

fn accepted(text: &str) -> Accepted {
    let candidate = parse("edge.yaml", text, &NoEnvironment)
        .unwrap_or_else(|errors| panic!("{}", errors.render("edge.yaml", text)));
    let accepted = merge(None, candidate);
    assert_eq!(accepted.quarantined, []);
    accepted
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn the_defaults_are_those_of_the_design() {
    let accepted = accepted(
        "version: 1\nupstreams: { u: { endpoints: ['127.0.0.1:1'] } }\nroutes: { r: { hosts: [a.x], upstream: u } }\n",
    );
    let global = &accepted.global;
    assert_eq!(global.workers, None);
    assert_eq!(global.state_dir.to_str(), Some("/var/lib/openclaw-edge"));
    assert_eq!(global.admin.listen, Some("127.0.0.1:9901".parse().unwrap()));
    assert_eq!(global.admin.socket, None);
    let (http, https) = (&global.listeners["http"], &global.listeners["https"]);
    assert_eq!(http.bind, ["[::]:80".parse().unwrap()]);
    assert!(http.redirect_to_https && http.tls.is_none());
    assert_eq!(https.bind, ["[::]:443".parse().unwrap()]);
    assert!(!https.redirect_to_https && https.tls.is_some());
    assert_eq!(https.limits.connections_per_ip, 200);
    assert_eq!((https.limits.head_bytes, https.limits.head_fields), (32 * 1024, 100));
    assert_eq!((https.limits.target_bytes, https.limits.handshakes), (16 * 1024, 1024));
    assert_eq!((https.timeouts.handshake, https.timeouts.head), (secs(10), secs(10)));
    assert_eq!((https.timeouts.keep_alive, https.timeouts.http2_idle), (secs(75), secs(120)));
    assert_eq!((https.timeouts.body_progress, https.timeouts.body_min_rate), (secs(60), 240));
    assert_eq!(https.timeouts.write_progress, secs(60));
    assert_eq!((https.http2.enabled, https.http2.max_streams), (true, 100));
    assert_eq!(https.limits.connection_rate, "200/s".parse().ok());
    assert_eq!(https.limits.connection_burst.get(), 400);
    assert_eq!((global.limits.buffered_bytes, global.limits.limiter_keys), (128 << 20, 100_000));
    assert_eq!(global.metrics.max_series, 200_000);
    assert_eq!((global.log.access, global.log.queue_bytes), (AccessLog::Json, 8 << 20));
    assert_eq!((global.drain.deadline, global.drain.removed_route_grace), (secs(15), secs(30)));
    let timeouts = &accepted.upstreams["u"].value.timeouts;
    assert_eq!((timeouts.connect, timeouts.first_byte), (secs(5), secs(60)));
    assert_eq!((timeouts.idle, timeouts.stream_idle), (secs(60), secs(3600)));
    assert_eq!(timeouts.keep_alive, secs(4));
    let route = &accepted.routes["r"].value;
    assert_eq!((route.body_limit, route.access_log), (Some(10 << 20), true));
    assert!(route.methods.is_empty() && route.hsts.is_none());
}

const GLOBAL: &str = r#"
version: 1
workers: 3
state_dir: /srv/edge
admin: { listen: off, socket: /run/edge.sock, allowed_hosts: [Edge.Openclaw.Example] }
listeners:
  main:
    bind: ["127.0.0.1:0", "[::1]:8443"]
    public_port: 8443
    tls: { min_version: "1.3", default_certificate: files }
    limits: { connections: 1, connections_per_ip: 2, head_bytes: 3KiB, head_fields: 4, target_bytes: 500, handshakes: 6, connection_rate: 600/m, connection_burst: 7 }
    timeouts: { handshake: 1s, head: 2s, keep_alive: 3s, body_progress: 4s, body_min_rate: 5, write_progress: 6s, http2_idle: 7m }
    http2: { enabled: false, max_streams: 8 }
    allow_underscores: true
  small: { bind: ["127.0.0.1:1"], limits: { head_bytes: 8KiB } }
issuers:
  one: { internal: {} }
  two: { directory: "https://ca.openclaw.example/dir", email: "ops@openclaw.example" }
default_issuer: two
certificates:
  files: { chain: /a.pem, key: /a.key }
  issued: { names: ["*.A.x"], issuer: one, key: p256 }
  default: { names: [b.x] }
trusted_proxies: [192.0.2.1, "10.0.0.0/8"]
limits: { buffered_bytes: 1GiB, upstream_connections: 9, limiter_keys: 2000 }
metrics: { max_series: 1000 }
log: { access: text, queue_bytes: 1MiB }
drain: { deadline: 0s, removed_route_grace: 1h }
routes: { r: { hosts: [a.x], respond: { status: 200 } } }
tests:
  - { request: "GET https://a.x:8443/p?q", status: 404 }
  - { request: "GET http://a.x/", redirect: "https://a.x/" }
  - { request: "PUT http://a.x/", route: r, client: "::ffff:192.0.2.9" }
"#;

#[test]
fn the_global_part_is_read() {
    let accepted = accepted(GLOBAL);
    let global = &accepted.global;
    assert_eq!(global.workers.map(usize::from), Some(3));
    assert_eq!(global.state_dir.to_str(), Some("/srv/edge"));
    assert_eq!(global.admin.listen, None);
    assert_eq!(global.admin.socket.as_deref(), Some("/run/edge.sock".as_ref()));
    assert_eq!(global.admin.allowed_hosts, ["edge.openclaw.example"]);
    assert_eq!(global.issuers["one"], Issuer::Internal);
    let Issuer::Acme(two) = &global.issuers["two"] else { panic!() };
    assert_eq!(two.directory, "https://ca.openclaw.example/dir");
    assert_eq!(two.email.as_ref().unwrap().expose(), "ops@openclaw.example");
    assert_eq!(global.default_issuer, Some(name("two")));
    let source = |name: &str| accepted.certificates[name].value.source.clone();
    let files = CertificateSource::Files { chain: "/a.pem".into(), key: "/a.key".into() };
    assert_eq!(source("files"), files);
    let names = vec![HostPattern::Wildcard("a.x".into())];
    let issued = |names, issuer, key| CertificateSource::Issued {
        names,
        issuer: name(issuer),
        profile: None,
        key,
    };
    assert_eq!(source("issued"), issued(names, "one", Some(KeyType::P256)));
    let names = vec![HostPattern::Exact("b.x".into())];
    assert_eq!(source("default"), issued(names, "two", None));
    let proxies: Vec<String> = global.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["192.0.2.1/32", "10.0.0.0/8"]);
    assert_eq!(
        (global.limits.buffered_bytes, global.limits.upstream_connections),
        (1 << 30, Some(9))
    );
    assert_eq!(global.limits.limiter_keys, 2000);
    assert_eq!(global.metrics.max_series, 1000);
    assert_eq!((global.log.access, global.log.queue_bytes), (AccessLog::Text, 1 << 20));
    assert_eq!((global.drain.deadline, global.drain.removed_route_grace), (secs(0), secs(3600)));
    let cases = &accepted.tests;
    assert_eq!((cases[0].https, &*cases[0].host, &*cases[0].target), (true, "a.x", "/p?q"));
    assert_eq!((&cases[0].expect, cases[0].line), (&Expectation::Status(404), 31));
    assert_eq!(cases[1].expect, Expectation::Redirect("https://a.x/".into()));
    assert_eq!(cases[2].expect, Expectation::Route(name("r")));
    assert_eq!(cases[2].method.as_str(), "PUT");
    let clients: Vec<String> = cases.iter().map(|case| case.client.to_string()).collect();
    assert_eq!(clients, ["127.0.0.1", "127.0.0.1", "192.0.2.9"]);
}

#[test]
fn listeners_are_read() {
    let accepted = accepted(GLOBAL);
    let global = &accepted.global;
    let main = &global.listeners["main"];
    assert_eq!(main.bind, ["127.0.0.1:0".parse().unwrap(), "[::1]:8443".parse().unwrap()]);
    assert_eq!(main.public_port, Some(8443));
    let tls =
        TlsPolicy { min_version: TlsVersion::Tls13, default_certificate: Some(name("files")) };
    assert_eq!(main.tls, Some(tls));
    let limits = ListenerLimits {
        connections: Some(1),
        connections_per_ip: 2,
        head_bytes: 3072,
        head_fields: 4,
        target_bytes: 500,
        handshakes: 6,
        connection_rate: "600/m".parse().ok(),
        connection_burst: 7.try_into().unwrap(),
    };
    assert_eq!(main.limits, limits);
    let timeouts = ListenerTimeouts {
        handshake: secs(1),
        head: secs(2),
        keep_alive: secs(3),
        body_progress: secs(4),
        body_min_rate: 5,
        write_progress: secs(6),
        http2_idle: secs(420),
    };
    assert_eq!(main.timeouts, timeouts);
    assert_eq!(main.http2, Http2Policy { enabled: false, max_streams: 8 });
    assert!(main.allow_underscores);
    // The target cannot be larger than the head that holds it.
    assert_eq!(global.listeners["small"].limits.target_bytes, 8192);
}

const ENTRIES: &str = r#"
version: 1
defaults:
  upstream: { timeouts: { connect: 1s, idle: 2s } }
  route: { body_limit: 1KiB, access_log: false }
upstreams:
  u:
    endpoints: ["web.x:1", "192.0.2.1:2", "[2001:db8::1]:3"]
    timeouts: { idle: 3s, first_byte: 4s, stream_idle: 5s, keep_alive: 6s }
    balance: round_robin
routes:
  plain: { hosts: [A.x., "*.b.x"], upstream: u }
  full:
    hosts: [c.x]
    path: { exact: /p }
    methods: [GET, PURGE]
    upstream: u
    body_limit: unlimited
    access_log: true
    hsts: { max_age: 365d, include_subdomains: true, preload: true }
    headers:
      request: { remove: [X-A], set: { X-B: "b $${x}" }, add: { x-c: c } }
      response: { add: { x-d: [1, "2"] } }
  prefix: { hosts: [d.x], path: /p, redirect: https }
  moved: { hosts: [e.x], path: { prefix: /q }, redirect: { host: F.x, permanent: false } }
  gone: { hosts: [g.x], redirect: { https: true, status: 301 } }
  fixed: { hosts: [h.x], respond: { status: 503, content_type: text/html, body: "é" } }
"#;

#[test]
fn entries_are_read() {
    let accepted = accepted(ENTRIES);
    let upstream = &accepted.upstreams["u"].value;
    let endpoints: Vec<String> =
        upstream.endpoints.iter().map(|one| one.address.to_string()).collect();
    assert_eq!(endpoints, ["web.x:1", "192.0.2.1:2", "[2001:db8::1]:3"]);
    let timeouts = UpstreamTimeouts {
        connect: secs(1),
        first_byte: secs(4),
        idle: secs(3),
        stream_idle: secs(5),
        keep_alive: secs(6),
        total: None,
    };
    assert_eq!(upstream.timeouts, timeouts);
    let route = |name: &str| &accepted.routes[name].value;
    let hosts = [HostPattern::Exact("a.x".into()), HostPattern::Wildcard("b.x".into())];
    assert_eq!(route("plain").hosts, hosts);
    assert_eq!((route("plain").body_limit, route("plain").access_log), (Some(1024), false));
    let full = route("full");
    assert!(matches!(&full.path, PathRule::Exact(path) if path.as_str() == "/p"));
    let methods: Vec<&str> = full.methods.iter().map(|method| method.as_str()).collect();
    assert_eq!(methods, ["GET", "PURGE"]);
    assert_eq!((full.body_limit, full.access_log), (None, true));
    let hsts = Hsts { max_age: secs(365 * 86400), include_subdomains: true, preload: true };
    assert_eq!(full.hsts, Some(hsts));
    let shown = |edits: &[(String, config::value::Secret)]| -> Vec<String> {
        edits.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect()
    };
    assert_eq!(full.headers.request.remove, ["x-a"]);
    assert_eq!(shown(&full.headers.request.set), ["x-b=b ${x}"]);
    assert_eq!(shown(&full.headers.request.add), ["x-c=c"]);
    assert_eq!(shown(&full.headers.response.add), ["x-d=1", "x-d=2"]);
    assert!(matches!(&route("prefix").path, PathRule::Prefix(path) if path.as_str() == "/p"));
    let redirect = |https, host: Option<&str>, status| {
        Action::Redirect(Redirect {
            https,
            host: host.map(Into::into),
            port: None,
            path: None,
            keep_query: true,
            status,
        })
    };
    assert_eq!(route("prefix").action, redirect(true, None, 308));
    assert_eq!(route("moved").action, redirect(false, Some("f.x"), 307));
    assert_eq!(route("gone").action, redirect(true, None, 301));
    let Action::Respond(fixed) = &route("fixed").action else { panic!() };
    assert_eq!(
        (fixed.status, fixed.content_type.as_deref(), &*fixed.body),
        (503, Some("text/html"), "é")
    );
}

#[test]
fn numbers_at_their_limits() {
    let file =
        |key: &str| format!("version: 1\nlisteners: {{ a: {{ bind: ['127.0.0.1:0'], {key} }} }}\n");
    for (good, bad) in [
        ("limits: { head_bytes: 64KiB }", "limits: { head_bytes: 65537 }"),
        ("limits: { head_bytes: 1KiB }", "limits: { head_bytes: 1023 }"),
        ("limits: { head_fields: 100 }", "limits: { head_fields: 101 }"),
        ("limits: { head_fields: 1 }", "limits: { head_fields: 0 }"),
        ("limits: { target_bytes: 32KiB }", "limits: { target_bytes: 32769 }"),
        ("limits: { connections: 1000000 }", "limits: { connections: 1000001 }"),
        ("public_port: 65535", "public_port: 65536"),
        ("public_port: 1", "public_port: 0"),
        ("http2: { max_streams: 1000 }", "http2: { max_streams: 1001 }"),
        ("timeouts: { head: 10ms }", "timeouts: { head: 9ms }"),
        ("timeouts: { head: 30d }", "timeouts: { head: 721h }"),
        ("allow_underscores: true", "allow_underscores: on"),
        ("http2: { max_streams: 10 }", "http2: { max_streams: 010 }"),
        ("tls: { min_version: 1.2 }", "tls: { min_version: 1.20 }"),
    ] {
        assert!(parse("edge.yaml", &file(good), &NoEnvironment).is_ok(), "{good}");
        assert!(parse("edge.yaml", &file(bad), &NoEnvironment).is_err(), "{bad}");
    }
}

#[test]
fn one_bad_entry_among_500() {
    let file = |bad: &str| {
        let mut text =
            String::from("version: 1\nupstreams: { u: { endpoints: ['127.0.0.1:1'] } }\nroutes:\n");
        for n in 0..500 {
            let extra = if n == 250 { bad } else { "" };
            text.push_str(&format!("  r{n}: {{ hosts: [h{n}.x], upstream: u{extra} }}\n"));
        }
        parse("edge.yaml", &text, &NoEnvironment).unwrap()
    };
    let before = merge(None, file(""));
    let after = merge(Some(&before), file(", mirror: []"));
    assert_eq!(after.routes, before.routes);
    assert_eq!(after.quarantined.len(), 1);
    let entry = &after.quarantined[0];
    assert_eq!((entry.name.as_str(), entry.line, entry.former_serves), ("r250", 254, true));
    assert_eq!(entry.reasons[0].message, "`mirror` is not available in this version");
}
