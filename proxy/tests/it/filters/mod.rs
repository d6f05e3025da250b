//! What a route changes or says by itself: CORS, rewrites, redirects, error pages, maintenance,
//! security fields.

mod cors;
mod maintenance;
mod pages;
mod redirects;
mod rewrite;
mod security;

use http::Request;

use crate::harness::edge::command;
use crate::harness::h2c::{H2, H2Response};
use crate::harness::{Backend, Client, Conf, Edge, Lab, Response};

const HOST: &str = "app.openclaw.example";

/// One route with these keys, to a backend; addresses by X-Forwarded-For.
fn route(backend: &Backend, keys: &str) -> Conf {
    Conf::app_with(&[backend.addr], "", keys).global("trusted_proxies: [\"127.0.0.0/8\"]")
}

/// Both protocols to one edge.
struct Both {
    h1: Client,
    h2: H2,
}

impl Both {
    fn to(edge: &Edge) -> Both {
        Both { h1: edge.client(), h2: H2::connect(&edge.tls(), HOST) }
    }

    /// The same request over both, with these further field lines.
    fn ask(&mut self, method: &str, target: &str, lines: &str) -> [Told; 2] {
        let mut request = Request::builder().method(method).uri(format!("https://{HOST}{target}"));
        for field in lines.split_terminator("\r\n") {
            let (name, value) = field.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let request = request.body(()).unwrap();
        let h2 = self.h2.exchange(request, b"");
        let h1 = ask(&mut self.h1, method, target, lines);
        [h1.into(), h2.unwrap_or_else(|e| panic!("{method} {target}: {e}")).into()]
    }

    /// What both say, which must be the same but for Date, the request id and what is of the
    /// protocol.
    #[track_caller]
    fn alike(&mut self, method: &str, target: &str, lines: &str) -> Told {
        let [h1, h2] = self.ask(method, target, lines);
        let essence = |told: &Told| {
            let of_one = ["date", "x-request-id", "connection", "content-length", "location"];
            let mut fields = told.fields.clone();
            fields.retain(|(name, _)| !of_one.contains(&name.as_str()));
            fields.sort();
            (told.status, fields)
        };
        assert_eq!(essence(&h1), essence(&h2), "{method} {target}");
        h1
    }
}

/// An answer of whichever protocol. Names in lower case.
#[derive(Debug)]
struct Told {
    status: u16,
    fields: Vec<(String, String)>,
    body: String,
}

impl Told {
    /// Of a field that is there once; empty: it is not there.
    #[track_caller]
    fn field(&self, name: &str) -> &str {
        let mut values = self.fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let value = values.next().unwrap_or_default();
        assert_eq!(values.next(), None, "{name} twice: {self:?}");
        value
    }

    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(n, _)| n == name)
    }

    #[track_caller]
    fn assert_cause(&self, status: u16, cause: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.field("proxy-status").contains(cause), "{self:?} does not name {cause}");
    }
}

impl From<Response> for Told {
    fn from(response: Response) -> Told {
        let fields = &response.head.fields;
        let fields = fields.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.clone())).collect();
        Told { status: response.status, body: response.text(), fields }
    }
}

impl From<H2Response> for Told {
    fn from(response: H2Response) -> Told {
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let fields = response.headers.iter().map(|(n, v)| (n.as_str().to_owned(), text(v)));
        Told { status: response.status, fields: fields.collect(), body: response.text() }
    }
}

fn ask(client: &mut Client, method: &str, target: &str, lines: &str) -> Response {
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n"));
    client.response_to(method).unwrap_or_else(|end| panic!("{method} {target}: {end:?}"))
}

/// The field line of a client's address.
fn from(address: &str) -> String {
    format!("X-Forwarded-For: {address}\r\n")
}

/// What `check` says to a file with these routes and tests; its exit code.
fn check(entries: &str) -> (i32, String) {
    let lab = Lab::new();
    let path =
        lab.write("edge.yaml", Conf::new(entries).https("public_port: 443").render(lab.path()));
    let output = command(&["check", "--config", path.to_str().unwrap()]);
    let text = [&*output.stdout, &*output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn tests_in_the_file_know_who_asks_and_what_is_told() {
    let entries = |tests: &str| {
        format!(
            "upstreams: {{ app: {{ endpoints: [\"127.0.0.1:1\"] }} }}\n\
             routes:\n  \
             listed: {{ hosts: [{HOST}], upstream: app, access: {{ allow: [192.0.2.0/24] }} }}\n  \
             locked: {{ hosts: [{HOST}], path: /locked, upstream: app, \
             access: {{ basic_auth: \"ann:{{SHA}}0nofEXcSAJSXFLGvmfBIpBb11vQ=\", except: [/locked/open] }} }}\n  \
             closed: {{ hosts: [{HOST}], path: /closed, upstream: app, maintenance: {{ allow: [192.0.2.7] }} }}\n  \
             limited: {{ hosts: [{HOST}], path: /limited, upstream: app, rate_limits: [ {{ key: client_ip, rate: 1/h }} ] }}\n  \
             cors: {{ hosts: [{HOST}], path: /cors, upstream: app, cors: \"*\" }}\n  \
             moved: {{ hosts: [{HOST}], path: /moved, redirect: {{ path: /new, port: 8443, https: true, keep_query: false }} }}\n  \
             old: {{ hosts: [{HOST}], path: /old, rewrite: {{ prefix: /old, to: /new }}, redirect: {{ https: true }} }}\n\
             tests:\n{tests}"
        )
    };
    let good = "  - { request: 'GET https://app.openclaw.example/', client: 192.0.2.1, route: listed }\n  \
        - { request: 'GET https://app.openclaw.example/', status: 403 }\n  \
        - { request: 'GET https://app.openclaw.example/', client: 203.0.113.1, status: 403 }\n  \
        - { request: 'GET https://app.openclaw.example/locked', status: 401 }\n  \
        - { request: 'GET https://app.openclaw.example/locked/./open', route: locked }\n  \
        - { request: 'GET https://app.openclaw.example/locked%2fopen', status: 400 }\n  \
        - { request: 'GET https://app.openclaw.example/closed', status: 503 }\n  \
        - { request: 'GET https://app.openclaw.example/closed', client: 192.0.2.7, route: closed }\n  \
        - { request: 'GET https://app.openclaw.example/moved?x', redirect: 'https://app.openclaw.example:8443/new' }\n  \
        - { request: 'GET https://app.openclaw.example/old/a?x', redirect: 'https://app.openclaw.example/new/a?x' }\n";
    // As often as it takes: tests use up no limit.
    let limited = "  - { request: 'GET https://app.openclaw.example/limited', route: limited }\n";
    let (code, told) = check(&entries(&format!("{good}{}", limited.repeat(3))));
    assert_eq!(code, 0, "{told}");
    for (bad, got) in [
        ("{ request: 'GET https://app.openclaw.example/', route: listed }", "403 denied"),
        (
            "{ request: 'GET https://app.openclaw.example/locked', route: locked }",
            "401 auth_required",
        ),
        (
            "{ request: 'GET https://app.openclaw.example/closed', route: closed }",
            "503 maintenance",
        ),
        (
            "{ request: 'GET https://app.openclaw.example/', client: 192.0.2.1, status: 403 }",
            "route listed",
        ),
    ] {
        let (code, told) = check(&entries(&format!("  - {bad}\n")));
        assert_eq!(code, 1, "{told}");
        assert!(told.contains(&format!("got {got}")), "{bad}: {told}");
    }
}
