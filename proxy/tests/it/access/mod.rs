//! Who may use a route: by address, by password, and what nothing is asked for.

mod addresses;
mod flood;
mod passwords;
mod paths;
mod protocols;
mod tables;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Request;

use crate::harness::backend::Request as Arrived;
use crate::harness::h2c::{H2, H2Response};
use crate::harness::{Backend, Client, Conf, Edge, Response};

const HOST: &str = "app.openclaw.example";

/// `ann`, whose password is `right`; hashed at once.
const ANN: &str = "ann:{SHA}0nofEXcSAJSXFLGvmfBIpBb11vQ=";
/// `ann`, whose password is `other`.
const ANN_OTHER: &str = "ann:{SHA}0JQeaNqPOBUf+Gph/Fn3xc+fyqI=";
/// `bob`, whose password is `right`; `htpasswd -B -C 12`: a quarter of a second each.
const BOB: &str = "bob:$2y$12$pNUVMgtQ20W6rrcCDQ0KmOKbMYFGkGFptZGXR2AX3/7N2QIGjOxYa";

/// One route with this `access` (flow style), to a backend; addresses by X-Forwarded-For.
fn conf(backend: &Backend, access: &str) -> Conf {
    route(backend, &format!("access: {{ {access} }}"))
}

/// The same, with these keys of the route.
fn route(backend: &Backend, keys: &str) -> Conf {
    Conf::app_with(&[backend.addr], "", keys).global("trusted_proxies: [\"127.0.0.0/8\"]")
}

/// A value of Authorization.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// The field line.
fn line(user: &str, password: &str) -> String {
    format!("Authorization: {}\r\n", basic(user, password))
}

/// The field line of a client's address.
fn from(address: &str) -> String {
    format!("X-Forwarded-For: {address}\r\n")
}

/// An HTTP/1.1 request with these further lines.
fn ask(client: &mut Client, method: &str, target: &str, lines: &str) -> Response {
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n"));
    client.response_to(method).unwrap_or_else(|end| panic!("{method} {target}: {end:?}"))
}

/// The same over HTTP/2.
fn ask_h2(h2: &H2, method: &str, target: &str, lines: &str) -> H2Response {
    let mut request = Request::builder().method(method).uri(format!("https://{HOST}{target}"));
    for field in lines.split_terminator("\r\n") {
        let (name, value) = field.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let request = request.body(()).unwrap();
    h2.exchange(request, b"").unwrap_or_else(|e| panic!("{method} {target}: {e}"))
}

/// Both protocols to one edge; what each request came to, told alike.
struct Both {
    h1: Client,
    h2: H2,
}

impl Both {
    fn to(edge: &Edge) -> Both {
        Both { h1: edge.client(), h2: H2::connect(&edge.tls(), HOST) }
    }

    /// Status and cause (empty: not the edge's) of a GET, the same over both.
    #[track_caller]
    fn get(&mut self, target: &str, lines: &str) -> (u16, String) {
        let cause = |told: Option<&str>| {
            let details = told.and_then(|told| told.split_once("details=\"")).map(|(_, rest)| rest);
            let end = |c: char| c == '"' || c == ' ';
            details.and_then(|text| text.split(end).next()).unwrap_or_default().to_owned()
        };
        let h1 = ask(&mut self.h1, "GET", target, lines);
        let h2 = ask_h2(&self.h2, "GET", target, lines);
        let first = (h1.status, cause(h1.header("proxy-status")));
        let second = (h2.status, cause(Some(h2.header("proxy-status"))));
        assert_eq!(first, second, "{target} {lines}");
        first
    }

    #[track_caller]
    fn assert(&mut self, target: &str, lines: &str, status: u16, cause: &str) {
        assert_eq!(self.get(target, lines), (status, cause.to_owned()), "{target} {lines}");
    }
}

/// The fields of this name that reached the backend, request by request.
fn fields(requests: &[Arrived], name: &str) -> Vec<Vec<String>> {
    let values = |request: &Arrived| request.head.all(name).iter().map(|v| (*v).into()).collect();
    requests.iter().map(values).collect()
}
