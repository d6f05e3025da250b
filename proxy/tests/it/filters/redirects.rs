//! Redirects: where to, and that none leads to itself.

use super::*;

/// One route with this redirect (and further keys).
fn edge(redirect: &str, keys: &str) -> Edge {
    let comma = if keys.is_empty() { "" } else { ", " };
    let conf = Conf::new(format!(
        "routes:\n  app: {{ hosts: [{HOST}], redirect: {redirect}{comma}{keys} }}\n"
    ));
    Edge::start(&conf.https("public_port: 443"))
}

/// Status and Location over HTTP/1.1 and HTTP/2.
fn moved(edge: &Edge, target: &str) -> [(u16, String); 2] {
    let told = Both::to(edge).ask("GET", target, "");
    told.map(|told| (told.status, told.field("location").to_owned()))
}

#[test]
fn what_is_not_given_is_kept() {
    for (redirect, status, location) in [
        ("{ host: new.openclaw.example }", 308, "//new.openclaw.example/a/b?c=d"),
        ("{ host: new.openclaw.example, permanent: false }", 307, "//new.openclaw.example/a/b?c=d"),
        ("{ host: new.openclaw.example, status: 301 }", 301, "//new.openclaw.example/a/b?c=d"),
        ("{ host: new.openclaw.example, status: 302 }", 302, "//new.openclaw.example/a/b?c=d"),
        (
            "{ https: true, host: new.openclaw.example }",
            308,
            "https://new.openclaw.example/a/b?c=d",
        ),
        (
            "{ https: true, host: new.openclaw.example, port: 443 }",
            308,
            "https://new.openclaw.example/a/b?c=d",
        ),
        ("{ host: new.openclaw.example, port: 8443 }", 308, "//new.openclaw.example:8443/a/b?c=d"),
        ("{ host: new.openclaw.example, path: /new }", 308, "//new.openclaw.example/new?c=d"),
        ("{ host: new.openclaw.example, keep_query: false }", 308, "//new.openclaw.example/a/b"),
        (
            "{ host: new.openclaw.example, path: \"/new?x=1\", keep_query: false }",
            308,
            "//new.openclaw.example/new?x=1",
        ),
        (
            "{ https: true, host: new.openclaw.example, port: 8443, path: /n, keep_query: false, status: 302 }",
            302,
            "https://new.openclaw.example:8443/n",
        ),
    ] {
        let edge = edge(redirect, "");
        for told in moved(&edge, "/a/b?c=d") {
            assert_eq!(told, (status, location.to_owned()), "{redirect}");
        }
    }
}

#[test]
fn nothing_but_the_path_is_the_clients() {
    let edge = edge("{ https: true, host: new.openclaw.example }", "");
    let lines = "X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: http\r\nReferer: x\r\n";
    for (target, location) in [
        ("//evil.example/x", "https://new.openclaw.example//evil.example/x"),
        ("/%0d%0aSet-Cookie:x", "https://new.openclaw.example/%0d%0aSet-Cookie:x"),
        ("/?//evil.example", "https://new.openclaw.example/?//evil.example"),
    ] {
        let response = ask(&mut edge.client(), "GET", target, lines);
        assert_eq!((response.status, response.header("location")), (308, Some(location)));
    }
    let response = ask(&mut edge.client(), "OPTIONS", "*", "");
    assert_eq!(response.header("location"), Some("https://new.openclaw.example/"));
}

/// Scheme-relative without a host, `//x` would lead to another site.
#[test]
fn a_path_that_looks_like_a_host_stays_a_path() {
    let edge = edge("{ port: 9443 }", "");
    for target in ["//evil.example/x", "/", "/x//y"] {
        for told in moved(&edge, target) {
            assert_eq!(told, (308, format!("//{HOST}:9443{target}")));
        }
    }
}

#[test]
fn a_rewrite_says_where_to() {
    let edge = edge(
        "{ https: true, host: new.openclaw.example }",
        "rewrite: { regex: \"^/blog/([0-9]+)/(.*)$\", to: \"/posts/$2-$1\" }",
    );
    for (target, location) in [
        ("/blog/7/hello?x=1", "https://new.openclaw.example/posts/hello-7?x=1"),
        ("/blog//7/./hello", "https://new.openclaw.example/posts/hello-7"),
        ("/other", "https://new.openclaw.example/other"),
    ] {
        for told in moved(&edge, target) {
            assert_eq!(told, (308, location.to_owned()), "{target}");
        }
    }
}

#[test]
fn a_redirect_to_itself_is_no_answer() {
    let looped = "no_route (redirect_loop)";
    let edge = edge("{ host: app.openclaw.example }", "");
    for told in Both::to(&edge).ask("GET", "/", "") {
        told.assert_cause(404, looped);
        assert!(!told.has("location"));
    }
    // A path of the same host that the route has itself.
    let edge = self::edge("{ host: app.openclaw.example, path: /new }", "");
    let mut both = Both::to(&edge);
    for (target, status) in [("/old?x", 308), ("/new", 404), ("/new?x", 404), ("/new/", 308)] {
        assert!(both.ask("GET", target, "").iter().all(|told| told.status == status), "{target}");
    }
    both.ask("GET", "/new", "").iter().for_each(|told| told.assert_cause(404, looped));
    let edge =
        self::edge("{ host: app.openclaw.example, path: \"/new?v=2\", keep_query: false }", "");
    let mut both = Both::to(&edge);
    for (target, status) in [("/new", 308), ("/new?v=1", 308), ("/new?v=2", 404)] {
        assert!(both.ask("GET", target, "").iter().all(|told| told.status == status), "{target}");
    }
    // A port that is the listener's own for one protocol only.
    let edge = self::edge("{ port: 443 }", "");
    let [plain, tls] = Both::to(&edge).ask("GET", "/", "");
    assert_eq!((plain.status, plain.field("location")), (308, "//app.openclaw.example:443/"));
    tls.assert_cause(404, looped);
    let edge = self::edge("{ https: true }", "rewrite: { strip_prefix: /old }");
    let mut tls = edge.tls_client(HOST);
    assert_eq!(ask(&mut tls, "GET", "/old/x", "").status, 308);
    ask(&mut tls, "GET", "/x", "").assert_cause(404, looped);
    // By http it leads somewhere else.
    assert_eq!(ask(&mut edge.client(), "GET", "/x", "").status, 308);
}

#[test]
fn security_fields_and_head() {
    let edge = edge("{ path: /new }", "path: /old, security_headers: basic");
    let told = Both::to(&edge).alike("HEAD", "/old", "");
    assert_eq!((told.status, told.body.as_str()), (308, ""));
    assert_eq!(told.field("x-content-type-options"), "nosniff");
}
