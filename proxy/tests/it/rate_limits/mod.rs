//! Rate limits at the real binary: answers, keys, streams, reloads, exact counts and the client
//! that they are for. Rates of one request an hour make what passes a matter of counting, however
//! slow the machine.

mod answers;
mod exact;
mod forms;
mod keys;
mod openai;
mod reload;
mod steps;
mod storm;
mod streams;

use crate::harness::{Backend, Client, Conf, Edge, Response};

const HOST: &str = "app.openclaw.example";

/// The route `app` with these limits (flow style).
fn limited(backend: &Backend, limits: &str) -> Conf {
    Conf::app_with(&[backend.addr], "", &format!("rate_limits: [{limits}]"))
}

/// The same, believing what this machine says in X-Forwarded-For.
fn behind(backend: &Backend, limits: &str) -> Conf {
    limited(backend, limits).global("trusted_proxies: [127.0.0.0/8]")
}

/// `GET path` with these field lines on a kept connection.
fn get(client: &mut Client, path: &str, fields: &str) -> Response {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n"));
    client.response()
}

/// How many of `tries` requests with these field lines pass until the first is refused.
fn passed(edge: &Edge, fields: &str, tries: usize) -> usize {
    let mut client = edge.client();
    let refused = |_: &usize| get(&mut client, "/", fields).status != 200;
    (0..tries).find(refused).unwrap_or(tries)
}

/// The limit that a refusal names in Proxy-Status.
fn named(response: &Response) -> String {
    let told = response.header("proxy-status").unwrap_or_default();
    let inside = told.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    inside.map(|(name, _)| name.to_owned()).unwrap_or_default()
}

/// `r` and `t` of a member of `RateLimit` that has this name.
fn left(field: &str, name: &str) -> (u64, u64) {
    let rest = field.strip_prefix(&format!("\"{name}\";r=")).unwrap_or_else(|| panic!("{field}"));
    let (r, t) = rest.split_once(";t=").unwrap_or_else(|| panic!("{field}"));
    (r.parse().unwrap(), t.parse().unwrap())
}

/// Milliseconds into the day of a line of the access log: `2026-01-31T12:34:56.789Z`.
fn millis(line: &serde_json::Value) -> u64 {
    let text = line["time"].as_str().unwrap();
    let (_, time) = text.trim_end_matches('Z').split_once('T').unwrap();
    let parts: Vec<u64> = time.split([':', '.']).map(|part| part.parse().unwrap()).collect();
    let [hours, minutes, seconds, thousandths] = parts[..] else { panic!("{text}") };
    ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths
}
