//! gRPC calls that the edge answers by itself.

use http::Request;

use crate::harness::backend::refusing;
use crate::harness::h2c::{H2, H2Response, get};
use crate::harness::{Backend, Client, Conf, Edge, Response};

const HOST: &str = "app.openclaw.example";

/// An endpoint that refuses, and what routes say by themselves.
fn edge() -> Edge {
    let refusing = refusing();
    Edge::start(&Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{refusing}\"] }}\n\
         routes:\n  app: {{ hosts: [{HOST}], upstream: app, body_limit: 1KiB }}\n  \
         fixed: {{ hosts: [{HOST}], path: /fixed, respond: {{ status: 403, body: no }} }}\n  \
         moved: {{ hosts: [{HOST}], path: /moved, redirect: {{ host: new.openclaw.example }} }}\n"
    )))
}

fn call(path: &str, kind: &str) -> Request<()> {
    let request = Request::post(format!("https://{HOST}{path}")).header("content-type", kind);
    request.header("te", "trailers").body(()).unwrap()
}

/// One head and the end of the stream.
#[track_caller]
fn assert_told(response: &H2Response, status: &str, cause: &str) {
    response.assert_cause(200, cause);
    assert_eq!(response.header("content-type"), "application/grpc");
    assert_eq!(response.header("grpc-status"), status);
    let message = response.header("grpc-message");
    assert!(message.contains(&format!("cause: {cause}")), "{message}");
    assert!(message.contains(response.header("x-request-id")), "{message}");
    assert!(response.body.is_empty() && response.trailers.is_none() && response.error.is_none());
    for absent in ["content-length", "retry-after", "allow"] {
        assert_eq!(response.header(absent), "", "{absent}");
    }
}

#[test]
fn over_http2() {
    let edge = edge();
    let h2 = H2::connect(&edge.tls(), HOST);
    let kind = "application/grpc+proto";
    let response = h2.exchange(call("/service/method", kind), b"\0\0\0\0\0").unwrap();
    assert_told(&response, "14", "connect_failed");
    let line = edge.wait_log("path", "/service/method");
    assert_eq!(
        (line["status"].as_u64(), line["cause"].as_str()),
        (Some(200), Some("connect_failed"))
    );
    let mut large = call("/large", kind);
    large.headers_mut().insert("content-length", 1025.into());
    let response = h2.exchange(large, &[0; 1025]).unwrap();
    assert_told(&response, "8", "body_too_large");
    let elsewhere = Request::post("https://other.openclaw.example/").header("content-type", kind);
    let response = h2.exchange(elsewhere.body(()).unwrap(), b"").unwrap();
    assert_told(&response, "12", "misdirected");
    let mut heavy = call("/heavy", kind);
    let value = "a".repeat(33 * 1024).parse().unwrap();
    heavy.headers_mut().insert("x-heavy", value);
    assert_told(&h2.exchange(heavy, b"").unwrap(), "8", "head_too_large");
    let counted = "edge_http_local_responses_total{reason=\"connect_failed\"}";
    assert_eq!(edge.metric(counted), 1.0);
}

#[test]
fn everybody_else_is_told_in_http() {
    let edge = edge();
    let h2 = H2::connect(&edge.tls(), HOST);
    for (kind, starts) in [
        ("application/grpc-web+proto", "502 Bad Gateway\n"),
        ("application/json", "{\"type\":\"about:blank\",\"title\":\"Bad Gateway\""),
    ] {
        let response = h2.exchange(call("/", kind), b"").unwrap();
        response.assert_cause(502, "connect_failed");
        assert_eq!(response.header("grpc-status"), "");
        assert!(response.text().starts_with(starts), "{}", response.text());
    }
    h2.exchange(get(&format!("https://{HOST}/")), b"").unwrap().assert_cause(502, "connect_failed");
    // What a route says is what its owner wrote.
    let fixed = h2.exchange(call("/fixed", "application/grpc"), b"").unwrap();
    assert_eq!((fixed.status, fixed.text().as_str()), (403, "no"));
    let moved = h2.exchange(call("/moved", "application/grpc"), b"").unwrap();
    assert_eq!(moved.status / 100, 3);
}

fn post(client: &mut Client, path: &str, body: &str) -> Response {
    let length = body.len();
    client.send(format!(
        "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/grpc\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    ));
    client.response()
}

#[test]
fn over_http1() {
    let edge = edge();
    let mut client = edge.client();
    for _ in 0..2 {
        let response = post(&mut client, "/", "call");
        response.assert_cause(200, "connect_failed");
        assert_eq!(response.header("grpc-status"), Some("14"));
        assert_eq!(response.header("content-type"), Some("application/grpc"));
        assert_eq!(response.header("content-length"), Some("0"));
    }
    let response = post(&mut client, "/", &"a".repeat(1025));
    assert_eq!(response.header("grpc-status"), Some("8"));
    // The body came with its head: the connection can go on.
    assert_eq!(post(&mut client, "/", "call").header("grpc-status"), Some("14"));
}

#[test]
fn trailers_are_wanted_to_the_end() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let h2 = H2::connect(&edge.tls(), HOST);
    for kind in ["application/grpc", "application/json"] {
        assert_eq!(h2.exchange(call("/", kind), b"x").unwrap().status, 200);
    }
    let requests = backend.requests();
    assert_eq!(requests[0].head.all("te"), ["trailers"]);
    assert!(!requests[1].head.has("te"));
}
