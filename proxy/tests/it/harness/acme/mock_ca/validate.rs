//! Fetching HTTP-01 as a CA does (RFC 8555 §8.3), without redirects.

use std::net::TcpStream;

use super::answer::Problem;
use super::orders::{Fetch, fail};
use super::state::Shared;
use crate::harness::wire::{PATIENCE, Stream, Wire};
use crate::harness::{Client, Response};

/// Fetches, then settles the authorization.
pub fn run(shared: &Shared, fetch: &Fetch) {
    let outcome = check(fetch);
    let mut state = shared.state();
    let one = &mut state.authorizations[fetch.authorization];
    // Deactivated meanwhile: stays so.
    if one.status == "pending" {
        match outcome {
            Ok(()) => one.status = "valid",
            Err(problem) => fail(one, problem),
        }
    }
}

fn check(fetch: &Fetch) -> Result<(), Problem> {
    let Fetch { name, token, .. } = fetch;
    let path = format!("/.well-known/acme-challenge/{token}");
    let response = get(fetch, &path).map_err(|why| {
        let detail = format!("Fetching http://{name}{path}: {why}");
        Problem::new(400, "connection", detail)
    })?;
    let (status, body) = (response.status, response.text());
    if status == 200 && body.trim_end() == fetch.key_authorization {
        return Ok(());
    }
    let detail = format!("Invalid response from http://{name}{path}: {status} {body:?}");
    Err(Problem::new(403, "unauthorized", detail))
}

fn get(fetch: &Fetch, path: &str) -> Result<Response, String> {
    let tcp = TcpStream::connect_timeout(&fetch.at, PATIENCE).map_err(|e| e.to_string())?;
    let mut client = Client { wire: Wire::new(Stream::Plain(tcp)) };
    let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", fetch.name);
    client.wire.try_send(head).map_err(|e| e.to_string())?;
    client.response_to("GET").map_err(|end| format!("{end:?}"))
}
