//! A refusal in the words of its client: a program's, a browser's, a terminal's, a gRPC call's,
//! and a script's from another origin.

use http::Request;
use serde_json::Value;
use tonic::Code;

use super::{HOST, get};
use crate::harness::grpc::{Grpc, Text};
use crate::harness::h2c::H2;
use crate::harness::{Backend, Conf, Edge};

/// An edge that has nothing left.
fn spent(route: &str) -> Edge {
    let limits = "rate_limits: [{ name: slow, key: route, rate: 1/h, burst: 1 }]";
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app_with(&[backend.addr], "", &format!("{limits}{route}")));
    edge.client().get(HOST, "/").assert_ok("ok");
    edge
}

fn check_problem(kind: &str, body: &str, wait: &str, id: &str) {
    assert_eq!(kind, "application/problem+json");
    let problem: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
    assert_eq!((&problem["status"], &problem["title"]), (&429.into(), &"Too Many Requests".into()));
    assert_eq!((&problem["cause"], &problem["limit"]), (&"rate_limited".into(), &"slow".into()));
    assert_eq!(problem["retry_after"].to_string(), wait);
    assert_eq!(problem["request_id"], id);
    let error = &problem["error"];
    assert_eq!(error["type"], "rate_limit_exceeded");
    assert_eq!(error["code"], "rate_limit_exceeded");
    assert!(error["param"].is_null() && error.as_object().unwrap().contains_key("param"));
    assert!(error["message"].as_str().unwrap().contains(id), "{problem}");
}

#[test]
fn programs_get_a_problem_that_openai_clients_read() {
    let edge = spent("");
    let mut client = edge.client();
    let posted = "Content-Type: application/json\r\nContent-Length: 0\r\n";
    for fields in ["Accept: application/json\r\n", posted] {
        let response = get(&mut client, "/", fields);
        response.assert_cause(429, "rate_limited (slow)");
        let of = |name| response.header(name).unwrap();
        check_problem(of("content-type"), &response.text(), of("retry-after"), of("x-request-id"));
    }
    let h2 = H2::connect(&edge.tls(), HOST);
    let request = Request::get(format!("https://{HOST}/")).header("accept", "application/json");
    let response = h2.exchange(request.body(()).unwrap(), b"").unwrap();
    response.assert_cause(429, "rate_limited (slow)");
    let of = |name| response.header(name);
    check_problem(of("content-type"), &response.text(), of("retry-after"), of("x-request-id"));
}

#[test]
fn browsers_get_a_page_and_terminals_text() {
    let edge = spent("");
    let mut client = edge.client();
    let page = get(&mut client, "/", "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n");
    page.assert_cause(429, "rate_limited (slow)");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let html = page.text();
    assert!(html.contains("<html") && html.contains("429"), "{html}");
    assert!(html.contains(page.header("x-request-id").unwrap()), "{html}");
    let text = get(&mut client, "/", "Accept: */*\r\n");
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    let (wait, text) = (text.header("retry-after").unwrap().to_owned(), text.text());
    for line in ["429 Too Many Requests\n", "cause: rate_limited\n", "limit: slow\n"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains(&format!("retry after: {wait} s\n")), "{text}");
}

#[test]
fn the_routes_own_page_speaks_for_it() {
    let pages = ", error_pages: [{ status: [429], html: \"<p>slow down</p>\", \
        problem_type: \"https://docs.openclaw.example/limits\" }]";
    let edge = spent(pages);
    let mut client = edge.client();
    assert_eq!(get(&mut client, "/", "Accept: text/html\r\n").text(), "<p>slow down</p>");
    let problem: Value =
        serde_json::from_str(&get(&mut client, "/", "Accept: application/json\r\n").text())
            .unwrap();
    assert_eq!(problem["type"], "https://docs.openclaw.example/limits");
}

#[test]
fn calls_get_a_status() {
    let edge = spent("");
    let grpc = Grpc::connect(edge.https, &edge.ca(), HOST);
    let status = grpc.unary("Unary", tonic::Request::new(Text::new("x", 1))).unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("cause: rate_limited"), "{status}");
    let told = status.metadata();
    assert!(told.get("ratelimit").is_some() && told.get("retry-after").is_some(), "{told:?}");
    let line = edge.wait_log("path", "/test.Echo/Unary");
    assert_eq!(
        (&line["limit"], &line["cause"]),
        (&"slow".into(), &"rate_limited".into()),
        "{line}"
    );

    let h2 = H2::connect(&edge.tls(), HOST);
    let request = Request::post(format!("https://{HOST}/test.Echo/Unary"));
    let request = request.header("content-type", "application/grpc+proto").header("te", "trailers");
    let response = h2.exchange(request.body(()).unwrap(), b"").unwrap();
    response.assert_cause(200, "rate_limited (slow)");
    assert_eq!(response.header("grpc-status"), "8");
    assert!(response.body.is_empty() && response.trailers.is_none());
}

#[test]
fn scripts_of_other_origins_may_read_it() {
    let edge = spent(", cors: { origins: [\"https://web.openclaw.example\"] }");
    let mut client = edge.client();
    let response = get(&mut client, "/", "Origin: https://web.openclaw.example\r\n");
    response.assert_cause(429, "rate_limited (slow)");
    let allowed = response.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://web.openclaw.example"));
    let exposed = response.header("access-control-expose-headers").unwrap();
    let exposed: Vec<&str> = exposed.split(", ").collect();
    for name in ["Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-Id"] {
        assert!(exposed.contains(&name), "{exposed:?}");
    }
    assert_eq!(response.header("vary"), Some("Origin"));
    assert!(response.head.has("ratelimit") && response.head.has("retry-after"));

    let response = get(&mut client, "/", "Origin: https://evil.openclaw.example\r\n");
    response.assert_cause(429, "rate_limited (slow)");
    assert!(!response.head.has("access-control-allow-origin"), "{response:?}");

    let h2 = H2::connect(&edge.tls(), HOST);
    let request = Request::get(format!("https://{HOST}/"));
    let request = request.header("origin", "https://web.openclaw.example").body(()).unwrap();
    let response = h2.exchange(request, b"").unwrap();
    response.assert_cause(429, "rate_limited (slow)");
    let allowed = response.header("access-control-allow-origin");
    assert_eq!(allowed, "https://web.openclaw.example");
}

/// Browsers ask without credentials: a question must not use up what a credential has.
#[test]
fn a_browsers_question_counts_on_its_address_alone() {
    let backend = Backend::ok();
    let limits = "{ key: \"header:authorization\", rate: 1/h, burst: 1, missing: refuse }";
    let route =
        format!("rate_limits: [{limits}], cors: {{ origins: [\"https://web.openclaw.example\"] }}");
    let edge = Edge::start(&Conf::app_with(&[backend.addr], "", &route));
    let mut client = edge.client();
    for _ in 0..3 {
        client.send(format!(
            "OPTIONS / HTTP/1.1\r\nHost: {HOST}\r\nOrigin: https://web.openclaw.example\r\n\
             Access-Control-Request-Method: GET\r\n\r\n"
        ));
        assert_eq!(client.response().status, 204);
    }
    let fields = "Origin: https://web.openclaw.example\r\nAuthorization: Bearer a\r\n";
    get(&mut client, "/", fields).assert_ok("ok");
    get(&mut client, "/", fields).assert_cause(429, "rate_limited");
    assert_eq!(backend.requests().len(), 1);
}
