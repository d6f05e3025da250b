//! What routes make of requests and answers: every key of a filter reaches the model, its bounds
//! hold, and a reload sees a change.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io;
use std::path::Path;
use std::time::Duration;

use config::diff::diff;
use config::merge::Kind;
use config::model::*;
use config::value::{Name, NormPath, Regex};
use config::{Accepted, Diagnostic, Environment, last_good, merge, parse};

/// A page of 64 KiB, and one variable.
struct Files;

impl Environment for Files {
    fn var(&self, name: &str) -> Option<String> {
        (name == "BASE").then(|| "base".to_owned())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("/page.html") => Ok("x".repeat(64 * 1024)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn file(keys: &str) -> String {
    format!(
        "version: 1\nissuers: {{ local: {{ internal: {{}} }} }}\nupstreams: {{ u: {{ endpoints: ['192.0.2.1:1'] }} }}\n\
         routes: {{ r: {{ hosts: [a.x], {keys} }} }}\n"
    )
}

/// The route `r` with these keys.
fn read(keys: &str) -> Result<Route, Vec<String>> {
    match &parse("edge.yaml", &file(keys), &Files).unwrap().routes["r"] {
        Entry::Good(good) => Ok(Route::clone(&good.value)),
        Entry::Bad(bad) => Err(bad.reasons.iter().map(shown).collect()),
    }
}

/// ... that forwards.
fn route(keys: &str) -> Result<Route, Vec<String>> {
    read(&format!("upstream: u, {keys}"))
}

fn shown(reason: &Diagnostic) -> String {
    assert!(reason.line > 0 && reason.column > 0, "{reason:?}");
    format!("{}: {}", reason.at, reason.message)
}

fn accepted(keys: &str) -> Accepted {
    let accepted = merge(None, parse("edge.yaml", &file(keys), &Files).unwrap());
    assert_eq!(accepted.quarantined, [], "{keys}");
    accepted
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn texts(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn norm(path: &str) -> NormPath {
    NormPath::parse(path).unwrap()
}

/// `count` different items, as a list.
fn many(count: usize, item: impl Fn(usize) -> String) -> String {
    format!("[{}]", (0..count).map(item).collect::<Vec<_>>().join(", "))
}

#[test]
fn a_route_without_filters_has_none() {
    let plain = read("upstream: u").unwrap();
    assert_eq!((plain.cors, plain.rewrite, plain.maintenance), (None, None, None));
    assert_eq!((plain.error_pages, plain.security_headers), (vec![], None));
}

#[test]
fn cors() {
    let cors = |value: &str| route(&format!("cors: {value}")).map(|route| route.cors.unwrap());
    let usual = Cors {
        origins: Origins::Any,
        methods: texts(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        headers: None,
        expose: vec![],
        credentials: false,
        max_age: secs(3600),
    };
    for every in ["'*'", "{ origins: '*' }", "{ origins: '*', headers: '*' }"] {
        assert_eq!(cors(every), Ok(usual.clone()), "{every}");
    }
    let origin = |text| OriginPattern::parse(text).unwrap();
    let all = Cors {
        origins: Origins::List(vec![origin("https://app.x"), origin("http://*.b.x:3000")]),
        methods: texts(&["PURGE"]),
        headers: Some(texts(&["x-a"])),
        expose: texts(&["x-b"]),
        credentials: true,
        max_age: secs(60),
    };
    let written = "{ origins: ['https://App.x', 'http://*.b.x:3000'], methods: [PURGE], \
                   headers: [X-A], expose: [X-B], credentials: true, max_age: 1m }";
    assert_eq!(cors(written), Ok(all));
    let none = cors("{ origins: '*', headers: [], expose: ['*'] }").unwrap();
    assert_eq!((none.headers, none.expose), (Some(vec![]), texts(&["*"])));
}

#[test]
fn bounds_of_cors() {
    let with = |key: &str, value: &str| {
        let origins = if key == "origins" { "" } else { "origins: '*', " };
        route(&format!("cors: {{ {origins}{key}: {value} }}"))
    };
    for (key, item) in [
        ("origins", (|n| format!("'https://a{n}.x'")) as fn(usize) -> String),
        ("methods", |n| format!("M{n}")),
        ("headers", |n| format!("x-{n}")),
        ("expose", |n| format!("x-{n}")),
    ] {
        assert!(with(key, &many(64, item)).is_ok(), "{key}");
        let reasons = with(key, &many(65, item)).unwrap_err();
        assert_eq!(reasons, [format!("routes.r.cors.{key}: the list has more than 64 items")]);
    }
    for (key, good, bad) in [
        ("max_age", "24h", "86401s"),
        ("max_age", "0s", "1500ms"),
        ("origins", "['https://a.x']", "[]"),
        ("methods", "[GET]", "[]"),
        ("methods", "[GET]", "[CONNECT]"),
        ("headers", "[x-a]", "['x a']"),
        ("credentials", "false", "true"),
    ] {
        assert!(with(key, good).is_ok(), "{key}: {good}");
        assert_eq!(with(key, bad).unwrap_err().len(), 1, "{key}: {bad}");
    }
    let reasons = route("cors: { credentials: true }").unwrap_err();
    assert_eq!(reasons, ["routes.r.cors: `origins` is missing"]);
    let starred = "cors: { origins: ['https://a.x'], credentials: true, expose: [x-a, '*'] }";
    let reasons = route(starred).unwrap_err();
    assert!(reasons[0].contains("take `*` in `expose` literally"), "{reasons:?}");
}

#[test]
fn what_is_in_the_way_of_cors() {
    let warnings = |keys: &str| -> Vec<String> {
        accepted(&format!("upstream: u, {keys}")).warnings.iter().map(shown).collect()
    };
    let expected = "routes.r.cors: browsers ask with OPTIONS first, which this route does not take";
    assert_eq!(warnings("methods: [GET], cors: '*'"), [expected]);
    let edits = "headers: { response: { set: { Access-Control-Allow-Origin: a }, add: { access-control-max-age: 1 } } }";
    let doubled = |name| format!("routes.r.headers: `{name}` is set by `cors` as well");
    let expected = ["access-control-allow-origin", "access-control-max-age"].map(doubled);
    assert_eq!(warnings(&format!("cors: '*', {edits}")), expected);
    assert_eq!(warnings(edits), [""; 0]);
    for fine in ["cors: '*'", "methods: [GET, OPTIONS], cors: '*'", "methods: [GET]"] {
        assert_eq!(warnings(fine), [""; 0], "{fine}");
    }
}

#[test]
fn rewrites() {
    let rewrite =
        |value: &str| route(&format!("rewrite: {{ {value} }}")).map(|route| route.rewrite.unwrap());
    assert_eq!(rewrite("strip_prefix: /a/b"), Ok(Rewrite::StripPrefix(norm("/a/b"))));
    for (from, to) in [("/a", "/b/c"), ("/", "/b"), ("/a", "/")] {
        let expected = Rewrite::ReplacePrefix { from: norm(from), to: norm(to) };
        assert_eq!(rewrite(&format!("prefix: {from}, to: {to}")), Ok(expected));
    }
    let regex = |to: &str| {
        let regex = Regex::parse("^/(?<id>[0-9]+)/(.*)$").unwrap();
        Ok(Rewrite::Regex { regex, to: to.to_owned() })
    };
    for (written, to) in [
        ("/u/$1", "/u/$1"),
        ("/u/${id}x/$2", "/u/${id}x/$2"),
        ("/u/$${id}x", "/u/${id}x"),
        ("/${env:BASE}/${1}", "/base/${1}"),
        ("/u", "/u"),
    ] {
        let value = format!("regex: '^/(?<id>[0-9]+)/(.*)$', to: '{written}'");
        assert_eq!(rewrite(&value), regex(to), "{written}");
    }
    for (value, at) in [
        ("regex: '^/a$', to: '/$1'", "to"),
        ("regex: '^/(a)$', to: '/${env:NONE}'", "to"),
        ("regex: '^/(a)$', to: '/${file}'", "to"),
        ("regex: '^/(a)$', to: '$1'", "to"),
        ("regex: '('  , to: '/$1'", "regex"),
        ("prefix: /a, to: b", "to"),
        ("prefix: /a, to: /b/", "to"),
        ("prefix: /a/../b, to: /b", "prefix"),
        ("strip_prefix: /", "strip_prefix"),
    ] {
        let [reason] = rewrite(value).unwrap_err().try_into().unwrap();
        assert!(reason.starts_with(&format!("routes.r.rewrite.{at}: ")), "{value}: {reason}");
    }
    for value in ["", "to: /b", "prefix: /a", "regex: a", "strip_prefix: /a, regex: a, to: /b"] {
        let [reason] = rewrite(value).unwrap_err().try_into().unwrap();
        assert!(reason.starts_with("routes.r.rewrite: "), "{value}: {reason}");
    }
}

#[test]
fn a_rewrite_can_do_something() {
    let both =
        |path: &str, rewrite: &str| route(&format!("path: {path}, rewrite: {{ {rewrite} }}"));
    for (path, rewrite) in [
        ("/", "strip_prefix: /a"),
        ("/a", "strip_prefix: /a"),
        ("/a", "strip_prefix: /a/b"),
        ("/a/b", "strip_prefix: /a"),
        ("/a/", "strip_prefix: /a"),
        ("/a", "prefix: /, to: /b"),
        ("{ exact: /a/b }", "strip_prefix: /a"),
        ("{ exact: /a/b }", "regex: '/b$', to: /c"),
        ("/a", "regex: '^/b$', to: /c"),
    ] {
        assert!(both(path, rewrite).is_ok(), "{path} {rewrite}");
    }
    for (path, rewrite) in [
        ("/a", "strip_prefix: /ab"),
        ("/ab", "strip_prefix: /a"),
        ("/a", "prefix: /b, to: /c"),
        ("{ exact: /a }", "strip_prefix: /a/b"),
        ("{ exact: /a }", "regex: '^/b', to: /c"),
    ] {
        let [reason] = both(path, rewrite).unwrap_err().try_into().unwrap();
        assert!(reason.ends_with(": nothing changes"), "{path} {rewrite}: {reason}");
    }
    // What the route's path is nobody knows.
    assert_eq!(both("a", "strip_prefix: /b").unwrap_err().len(), 1);
    let answer = read("respond: { status: 404 }, rewrite: { strip_prefix: /a }").unwrap_err();
    assert!(answer[0].starts_with("routes.r.rewrite: a route with `respond`"), "{answer:?}");
}

#[test]
fn maintenance() {
    let maintenance =
        |value: &str| route(&format!("maintenance: {value}")).map(|route| route.maintenance);
    let usual = Maintenance { retry_after: secs(300), allow: vec![] };
    assert_eq!(maintenance("on"), Ok(Some(usual.clone())));
    assert_eq!(maintenance("{}"), Ok(Some(usual)));
    assert_eq!(maintenance("off"), Ok(None));
    let allow = ["192.0.2.1/32", "2001:db8::/32"].map(|net| net.parse().unwrap()).to_vec();
    let written = "{ retry_after: 1h, allow: [192.0.2.1, '2001:db8::/32'] }";
    let expected = Maintenance { retry_after: secs(3600), allow };
    assert_eq!(maintenance(written), Ok(Some(expected)));
    for (good, bad) in [
        ("{ retry_after: 1s }", "{ retry_after: 999ms }"),
        ("{ retry_after: 30d }", "{ retry_after: 721h }"),
        ("{ retry_after: 2000ms }", "{ retry_after: 1500ms }"),
        ("on", "yes"),
        ("on", "[on]"),
        ("{ allow: [] }", "{ allow: [a.x] }"),
    ] {
        assert!(maintenance(good).is_ok(), "{good}");
        assert_eq!(maintenance(bad).unwrap_err().len(), 1, "{bad}");
    }
    let list = |count| format!("{{ allow: {} }}", many(count, |_| "192.0.2.1".into()));
    assert!(maintenance(&list(1000)).is_ok() && maintenance(&list(1001)).is_err());
}

#[test]
fn error_pages() {
    let pages =
        |value: &str| route(&format!("error_pages: {value}")).map(|route| route.error_pages);
    let written = "[{ status: [502, 599], html: '<h1>{status}</h1>', problem_type: 'urn:x:y' }, \
                   { status: [400], problem_type: 'https://a.x/e' }]";
    let page = |statuses: &[u16], html: Option<&str>, problem_type: &str| ErrorPage {
        statuses: statuses.to_vec(),
        html: html.map(str::to_owned),
        problem_type: Some(problem_type.to_owned()),
    };
    let expected = vec![
        page(&[502, 599], Some("<h1>{status}</h1>"), "urn:x:y"),
        page(&[400], None, "https://a.x/e"),
    ];
    assert_eq!(pages(written), Ok(expected));
    let largest = pages("[{ status: [502], html: '${file:/page.html}' }]").unwrap();
    assert_eq!(largest[0].html.as_ref().unwrap().len(), 64 * 1024);
    for bad in [
        "[]",
        "[{ status: [502], html: '${file:/page.html}x' }]",
        "[{ status: [502], html: ' ' }]",
        "[{ status: [502] }]",
        "[{ status: [399], html: x }]",
        "[{ status: [600], html: x }]",
        "[{ status: [], html: x }]",
        "[{ status: [502, 502], html: x }]",
        "[{ status: [502], html: x }, { status: [502], html: y }]",
        "[{ html: x }]",
        "[{ status: [502], problem_type: /e }]",
        "{ status: [502], html: x }",
    ] {
        assert_eq!(pages(bad).unwrap_err().len(), 1, "{bad}");
    }
    let list = |count| many(count, |n| format!("{{ status: [{}], html: x }}", 400 + n));
    assert_eq!(pages(&list(16)).unwrap().len(), 16);
    assert!(pages(&list(17)).is_err());
}

#[test]
fn security_headers() {
    let preset = |value: &str| {
        route(&format!("security_headers: {value}")).map(|route| route.security_headers)
    };
    assert_eq!(preset("basic"), Ok(Some(SecurityHeaders::Basic)));
    assert_eq!(preset("strict"), Ok(Some(SecurityHeaders::Strict)));
    for bad in ["on", "off", "Basic", "{}", "[basic]", ""] {
        assert_eq!(preset(bad).unwrap_err().len(), 1, "{bad}");
    }
}

#[test]
fn redirects_by_part() {
    let redirect = |value: &str, keys: &str| {
        let route = read(&format!("redirect: {{ {value} }} {keys}"))?;
        let Action::Redirect(redirect) = route.action else { panic!("{value}") };
        Ok::<Redirect, Vec<String>>(redirect)
    };
    let all = Redirect {
        https: true,
        host: Some("b.x".into()),
        port: Some(8443),
        path: Some("/new?a=%20".into()),
        keep_query: false,
        status: 302,
    };
    let written =
        "https: true, host: B.x, port: 8443, path: '/new?a=%20', keep_query: false, status: 302";
    assert_eq!(redirect(written, ""), Ok(all));
    let kept = redirect("host: b.x", "").unwrap();
    assert_eq!((kept.port, kept.path, kept.keep_query), (None, None, true));
    for (good, bad) in [
        ("port: 1", "port: 0"),
        ("port: 65535", "port: 65536"),
        ("https: true, path: /b", "https: true, path: b"),
        ("https: true, path: '/b#c', keep_query: false", "https: true, path: '/b#c'"),
        ("https: true, path: '/b?', keep_query: false", "https: true, path: '/b?'"),
        ("https: true, path: /a%20b", "https: true, path: '/a b'"),
        ("https: true, path: /", "https: true, path: 'https://b.x/'"),
    ] {
        assert!(redirect(good, "").is_ok(), "{good}");
        assert_eq!(redirect(bad, "").unwrap_err().len(), 1, "{bad}");
    }
    let rewritten = redirect("https: true, path: /b", ", rewrite: { strip_prefix: /a }");
    assert!(rewritten.unwrap_err()[0].contains("makes the `rewrite` of the route useless"));
}

#[test]
fn redirects_to_themselves() {
    let leads_back =
        |redirect: &str, keys: &str| match read(&format!("redirect: {{ {redirect} }}, {keys}")) {
            Ok(_) => false,
            Err(reasons) => {
                let expected = "routes.r.redirect: the redirect leads to where it came from";
                assert_eq!(reasons, [expected], "{redirect} {keys}");
                true
            }
        };
    for (redirect, keys) in [
        ("", "path: /a"),
        ("keep_query: false", "path: /a"),
        ("path: /b", "path: /"),
        ("path: /a", "path: /a"),
        ("path: /a/b", "path: /a"),
        ("path: '/x/../a?b', keep_query: false", "path: /a"),
        ("path: /a", "path: { exact: /a }"),
        ("", "path: /, rewrite: { strip_prefix: /a }"),
        ("", "path: /a, rewrite: { strip_prefix: /a/b }"),
        ("", "path: /a, rewrite: { prefix: /a, to: /a/b }"),
        ("", "path: /a, rewrite: { prefix: /, to: /b }"),
    ] {
        assert!(leads_back(redirect, keys), "{redirect} {keys}");
    }
    for (redirect, keys) in [
        ("path: /b", "path: /a"),
        ("path: /ab", "path: /a"),
        ("path: /a/b", "path: { exact: /a }"),
        ("port: 8443", "path: /a"),
        ("port: 8443, path: /a", "path: /a"),
        ("host: b.x, path: /a", "path: /a"),
        ("https: true, path: /a", "path: /a"),
        ("", "path: /a, rewrite: { strip_prefix: /a }"),
        ("", "path: /a/b, rewrite: { strip_prefix: /a }"),
        ("", "path: /a, rewrite: { prefix: /a, to: /b }"),
        ("", "path: /a, rewrite: { regex: '^/a/(.*)$', to: '/b/$1' }"),
    ] {
        assert!(!leads_back(redirect, keys), "{redirect} {keys}");
    }
}

#[test]
fn filters_go_with_every_action() {
    let filters = "cors: '*', maintenance: on, error_pages: [{ status: [404], html: x }], \
                   security_headers: basic";
    for action in ["upstream: u", "redirect: https", "respond: { status: 204 }"] {
        let route = read(&format!("{action}, {filters}")).unwrap();
        assert!(route.cors.is_some() && route.maintenance.is_some(), "{action}");
        assert!(route.error_pages.len() == 1 && route.security_headers.is_some(), "{action}");
    }
}

#[test]
fn a_reload_sees_every_change() {
    for (old, new) in [
        ("cors: '*'", "cors: { origins: '*', max_age: 2h }"),
        ("rewrite: { strip_prefix: /a }", "rewrite: { strip_prefix: /b }"),
        ("rewrite: { regex: '^/a', to: /c }", "rewrite: { regex: '^/b', to: /c }"),
        ("maintenance: off", "maintenance: on"),
        ("error_pages: [{ status: [502], html: x }]", "error_pages: [{ status: [502], html: y }]"),
        ("security_headers: basic", "security_headers: strict"),
        ("redirect: { port: 1 }", "redirect: { port: 1, keep_query: false }"),
    ] {
        let action = if old.starts_with("redirect") { "" } else { "upstream: u, " };
        let [old, new] = [old, new].map(|keys| accepted(&format!("{action}{keys}")));
        assert_eq!(diff(&old, &new).changed, [(Kind::Route, Name::new("r").unwrap())]);
        assert!(diff(&old, &old).is_empty());
    }
    let [short, long] = ["'*'", "{ origins: '*', max_age: 1h }"]
        .map(|cors| accepted(&format!("upstream: u, cors: {cors}")));
    assert!(diff(&short, &long).is_empty());
}

#[test]
fn the_state_directory_keeps_it_all() {
    let before = accepted(
        "upstream: u, path: /a, cors: { origins: ['https://*.a.x'], credentials: true }, \
         rewrite: { regex: '^/a/(?<id>.*)$', to: '/${env:BASE}/${id}' }, maintenance: on, \
         error_pages: [{ status: [502], html: '${file:/page.html}' }], security_headers: strict",
    );
    let document = last_good::document(&before);
    assert!(document.contains("${file:/page.html}") && !document.contains("xxxx"));
    let after = last_good::restore(&document, &Files).unwrap();
    assert_eq!(after.routes["r"].value, before.routes["r"].value);
    assert_eq!(last_good::document(&after), document);
}
