//! The edge's own errors in the form that the client takes, and the site's own pages.

use super::*;
use crate::harness::behave::own_address;

const HTML: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";
const JSON: &str = "Accept: application/json\r\n";

/// An endpoint that refuses.
fn edge(keys: &str) -> Edge {
    Edge::start(
        &Conf::app_with(&[own_address()], "", keys).global("trusted_proxies: [\"127.0.0.0/8\"]"),
    )
}

#[test]
fn by_accept() {
    let edge = edge("");
    let mut both = Both::to(&edge);
    for (lines, kind) in [
        ("", "text/plain; charset=utf-8"),
        ("Accept: */*\r\n", "text/plain; charset=utf-8"),
        ("Accept: image/png\r\n", "text/plain; charset=utf-8"),
        (HTML, "text/html; charset=utf-8"),
        (JSON, "application/problem+json"),
        ("Accept: application/problem+json, text/html;q=0.5\r\n", "application/problem+json"),
        ("Accept: text/html;q=0.2, application/json;q=0.9\r\n", "application/problem+json"),
        ("Content-Type: application/json\r\n", "application/problem+json"),
    ] {
        let told = both.alike("GET", "/", lines);
        told.assert_cause(502, "connect_failed");
        assert_eq!(told.field("content-type"), kind, "{lines}");
        let sniff = if kind.starts_with("text/html") { "nosniff" } else { "" };
        assert_eq!(told.field("x-content-type-options"), sniff, "{lines}");
        assert_eq!(told.field("cache-control"), "no-store");
        assert!(told.body.contains(told.field("x-request-id")), "{told:?}");
        assert!(told.body.contains("connect_failed"), "{told:?}");
        let head = both.alike("HEAD", "/", lines);
        assert_eq!((head.status, head.body.as_str(), head.field("content-type")), (502, "", kind));
        assert_ne!(head.field("content-length"), "0");
    }
}

#[test]
fn programs_read_what_they_know() {
    let edge = edge("rate_limits: [ { name: each, key: client_ip, rate: 1/h } ]");
    let mut client = edge.client();
    ask(&mut client, "GET", "/", JSON).assert_cause(502, "connect_failed");
    let told: Told = ask(&mut client, "GET", "/", JSON).into();
    told.assert_cause(429, "rate_limited (each)");
    let problem: serde_json::Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(problem["status"], 429);
    assert_eq!(problem["type"], "about:blank");
    assert_eq!(problem["limit"], "each");
    assert_eq!(problem["retry_after"].to_string(), told.field("retry-after"));
    assert_eq!(problem["error"]["type"], "rate_limit_exceeded");
    assert_eq!(problem["request_id"], told.field("x-request-id"));
}

#[test]
fn a_page_of_ones_own_is_filled_in() {
    let page = "<h1>{status} {reason}</h1><i data-id={request_id}>{cause}</i>{sentence}{{x}";
    let lab = Lab::new();
    let file = lab.write("error.html", page);
    let keys = format!(
        "error_pages: [ {{ status: [502, 504], html: \"${{file:{}}}\", problem_type: \"https://docs.openclaw.example/down\" }}, \
         {{ status: [503], html: closed }} ]",
        file.display()
    );
    let edge = edge(&keys);
    let mut both = Both::to(&edge);
    for told in both.ask("GET", "/", &format!("{HTML}X-Request-Id: from-a-proxy-1234567\r\n")) {
        told.assert_cause(502, "connect_failed");
        let expected = "<h1>502 Bad Gateway</h1>\
            <i data-id=from-a-proxy-1234567>connect_failed</i>{sentence}{{x}";
        assert_eq!(told.body, expected);
        assert_eq!(told.field("x-content-type-options"), "nosniff");
    }
    let told = both.alike("GET", "/", JSON);
    let problem: serde_json::Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(problem["type"], "https://docs.openclaw.example/down");
    // A status without a page has the plain one; a request without a route has no page at all.
    let told = both.ask("GET", "/%2f", HTML);
    assert!(told.iter().all(|told| told.status == 502 && told.body.contains("connect_failed")));
    let mut client = edge.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: other.openclaw.example\r\n{HTML}\r\n"));
    let response = client.response();
    response.assert_cause(404, "unknown_host");
    assert!(response.text().contains("<h1>404 Not Found</h1>"), "{response:?}");
    // The page changes with its file.
    edge.expect_reload(|| crate::harness::edge::replace(&file, "new {status}"));
    assert!(both.ask("GET", "/", HTML).iter().all(|told| told.body == "new 502"));
}

#[test]
fn what_is_filled_in_is_no_markup() {
    let edge = edge(
        "error_pages: [ { status: [502], html: \"<p title={request_id}>{request_id}</p>\" } ]",
    );
    let mut client = edge.client();
    for id in ["<script>alert(1)</script>", "\"><img src=x>", "{cause}{status}", "a b"] {
        let response = ask(&mut client, "GET", "/", &format!("{HTML}X-Request-Id: {id}\r\n"));
        response.assert_cause(502, "connect_failed");
        let body = response.text();
        // Such an id is not taken over in the first place.
        assert!(!body.contains("<script") && !body.contains("<img"), "{body}");
        let shown = response.header("x-request-id").unwrap();
        assert_eq!(body, format!("<p title={shown}>{shown}</p>"));
    }
    for (lines, mark) in [(HTML, "<html"), (JSON, "{")] {
        // A path in an error is in no form of it.
        let response = ask(&mut client, "GET", "/<script>?<script>", lines);
        assert!(!response.text().contains("<script>"), "{}", response.text());
        let _ = mark;
    }
}

#[test]
fn an_endpoints_own_errors_are_left_alone() {
    let answer =
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n<own>";
    let backend = Backend::canned(answer);
    let keys = "error_pages: [ { status: [502], html: ours } ]";
    let edge = Edge::start(&route(&backend, keys));
    let told = Both::to(&edge).alike("GET", "/", HTML);
    assert_eq!((told.status, told.body.as_str()), (502, "<own>"));
    assert!(!told.has("proxy-status") && !told.has("x-content-type-options"));
}

#[test]
fn passwords_and_limits_have_pages_too() {
    let keys = "access: { basic_auth: \"ann:{SHA}0nofEXcSAJSXFLGvmfBIpBb11vQ=\" }, \
        error_pages: [ { status: [401], html: \"who? {cause}\" } ]";
    let edge = edge(keys);
    for lines in [HTML.to_owned(), format!("{HTML}Authorization: Basic YW5uOndyb25n\r\n")] {
        let told = Both::to(&edge).alike("GET", "/", &lines);
        told.assert_cause(401, "auth_required");
        // An underscore is harmless and stays.
        assert_eq!(told.body, "who? auth_required");
        assert!(told.has("www-authenticate"));
    }
}
