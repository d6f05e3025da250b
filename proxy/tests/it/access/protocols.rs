//! Passwords in front of WebSockets, gRPC and browsers' questions.

use bytes::Bytes;
use tonic::{Code, Request as Call};

use super::*;
use crate::harness::grpc::{Grpc, Text};
use crate::harness::site::Site;
use crate::harness::ws;

#[test]
fn a_websocket_opens_with_a_password() {
    let backend = Backend::script(ws::serve_echo);
    // A password that is known at once, and one that is not.
    for (user, users) in [("ann", ANN), ("bob", BOB)] {
        let edge = Edge::start(&conf(&backend, &format!("basic_auth: \"{users}\"")));
        let before = backend.connections();
        for lines in [String::new(), line(user, "wrong")] {
            let mut client = edge.client();
            client.send(ws::opening(HOST, "/chat", &lines));
            client.response().assert_cause(401, "auth_required");
        }
        assert_eq!(backend.connections(), before);
        for mut client in [edge.client(), edge.tls_client(HOST)] {
            client.send(ws::opening(HOST, "/chat", &line(user, "right")));
            assert_eq!(client.response().status, 101);
            client.ws_echo("hello");
        }
        for bytes in &backend.bytes()[before..] {
            let head = String::from_utf8_lossy(bytes).to_lowercase();
            assert!(head.starts_with("get /chat ") && !head.contains("authorization"), "{head}");
        }
    }
}

#[test]
fn a_websocket_over_http2_opens_with_a_password() {
    let backend = Backend::script(ws::serve_echo);
    let edge = Edge::start(&conf(&backend, &format!("basic_auth: \"{BOB}\"")));
    let h2 = H2::connect(&edge.tls(), HOST);
    let open = |password: &str| {
        let request = Request::connect(format!("https://{HOST}/chat"))
            .extension(h2::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .header("authorization", basic("bob", password));
        h2.open(request.body(()).unwrap(), false)
    };
    // SETTINGS of the edge have to be here first.
    assert_eq!(ask_h2(&h2, "GET", "/", "").status, 401);
    let (response, _stream) = open("wrong");
    let response = h2.block(response).unwrap();
    assert_eq!(response.status(), 401);
    assert!(response.headers().contains_key("www-authenticate"));
    let (response, mut stream) = open("right");
    let (parts, mut body) = h2.block(response).unwrap().into_parts();
    assert_eq!(parts.status, 200);
    stream.send_data(Bytes::from(ws::encode(ws::TEXT, b"over h2", true)), false).unwrap();
    let wanted = ws::encode(ws::TEXT, b"over h2", false);
    let mut got = Vec::new();
    while got.len() < wanted.len() {
        got.extend(h2.block(body.data()).expect("the tunnel ended").unwrap());
    }
    assert_eq!(got, wanted);
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_grpc_call_brings_its_password_as_metadata() {
    let site = Site::plain();
    let edge = Edge::start(&Conf::app_with(
        &[site.addr],
        "protocol: http2",
        &format!("access: {{ basic_auth: \"{ANN}\\n{BOB}\" }}"),
    ));
    let grpc = Grpc::connect(edge.https, &edge.ca(), HOST);
    let call = |user: &str, password: &str| {
        let mut call = Call::new(Text::new("hello", 1));
        if !user.is_empty() {
            let value = basic(user, password).parse().unwrap();
            call.metadata_mut().insert("authorization", value);
        }
        grpc.unary("Unary", call)
    };
    for (user, password) in [("", ""), ("ann", "wrong"), ("bob", "wrong")] {
        let status = call(user, password).unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        assert!(status.message().contains("auth_required"), "{status:?}");
    }
    for user in ["ann", "bob"] {
        assert_eq!(call(user, "right").unwrap().into_inner(), Text::new("hello", 1));
    }
    let seen = site.seen.requests.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|request| !request.headers.contains_key("authorization")));
}

#[test]
fn a_browser_asks_without_its_password() {
    let backend = Backend::ok();
    let keys = format!(
        "access: {{ basic_auth: \"{ANN}\" }}, \
         cors: {{ origins: [\"https://app.openclaw.example\"], credentials: true }}"
    );
    let edge = Edge::start(&route(&backend, &keys));
    let (mut h1, h2) = (edge.client(), H2::connect(&edge.tls(), HOST));
    let origin = "Origin: https://app.openclaw.example\r\n";
    let question = format!(
        "{origin}Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: authorization\r\n"
    );
    let response = ask(&mut h1, "OPTIONS", "/", &question);
    assert_eq!(response.status, 204, "{response:?}");
    assert_eq!(response.header("access-control-allow-headers"), Some("authorization"));
    assert!(response.header("www-authenticate").is_none());
    assert_eq!(ask_h2(&h2, "OPTIONS", "/", &question).status, 204);
    // Any other OPTIONS is a request like all.
    ask(&mut h1, "OPTIONS", "/", "").assert_cause(401, "auth_required");
    ask(&mut h1, "OPTIONS", "/", origin).assert_cause(401, "auth_required");
    // A script may read that a password is needed.
    for password in ["wrong", "wrong"] {
        let lines = format!("{origin}{}", line("ann", password));
        let response = ask(&mut h1, "GET", "/", &lines);
        response.assert_cause(401, "auth_required");
        let allowed = response.header("access-control-allow-origin");
        assert_eq!(allowed, Some("https://app.openclaw.example"));
        let response = ask_h2(&h2, "GET", "/", &lines);
        assert_eq!(response.header("access-control-allow-credentials"), "true");
    }
    assert!(backend.requests().is_empty());
    // Without the address there is no answer either.
    let keys = "access: { deny: [192.0.2.0/24] }, cors: \"*\"";
    let edge = Edge::start(&route(&backend, keys));
    let lines = format!("{question}{}", from("192.0.2.1"));
    ask(&mut edge.client(), "OPTIONS", "/", &lines).assert_cause(403, "denied");
}
