//! Certificates by themselves: the real binary orders from real CAs and serves what it gets.

mod challenges;
mod files;
mod issue;
mod keys;
mod killed;
mod obstacles;
mod pair;
mod renew;
mod restart;
mod second_ca;
mod wrong_dns;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::harness::acme::{Pebble, Port};
use crate::harness::{Backend, Conf, Edge, Lab, Tls};

const APP: &str = "app.openclaw.example";
const API: &str = "api.openclaw.example";
const PROXY: &str = "proxy.openclaw.example";
const NANGO: &str = "nango.openclaw.example";
/// The hosts of config/examples/platform.yaml.
const HOSTS: [&str; 4] = [APP, API, PROXY, NANGO];

/// What one scenario stands on: ports that a CA knows before the edge has them.
struct Stage {
    lab: Arc<Lab>,
    http: Port,
    https: Port,
    backend: Backend,
}

impl Stage {
    fn new() -> Stage {
        let (http, https) = (Port::reserve(), Port::reserve());
        Stage { lab: Lab::new(), http, https, backend: Backend::ok() }
    }

    fn pebble(&self) -> Pebble {
        Pebble::start(self.http.number(), self.https.number())
    }

    /// A route for each host; what the edge needs besides an issuer.
    fn hosts(&self, hosts: &[&str]) -> Conf {
        self.entries(hosts, "")
    }

    /// The same with further top-level entries.
    fn entries(&self, hosts: &[&str], more: &str) -> Conf {
        let upstream = format!("upstreams:\n  all: {{ endpoints: [\"{}\"] }}\n", self.backend.addr);
        let route = |host: &&str| {
            format!("  {}: {{ hosts: [{host}], upstream: all }}\n", host.split('.').next().unwrap())
        };
        let routes: String = hosts.iter().map(route).collect();
        self.here(Conf::new(format!("{upstream}routes:\n{routes}{more}")))
    }

    /// On the stage's ports.
    fn here(&self, conf: Conf) -> Conf {
        conf.bind(&self.http.bind(), &self.https.bind())
    }

    fn start(&self, conf: &Conf) -> Edge {
        Edge::start_in(&self.lab, conf)
    }
}

/// With Pebble as the default issuer; `keys` are further ones of the issuer.
fn ordering(conf: Conf, pebble: &Pebble, keys: &str) -> Conf {
    conf.acme(&pebble.directory(), Some(&pebble.roots()), keys)
}

/// Waits as long as a busy machine may need for an order, or for a back-off after one.
#[track_caller]
fn in_time<T>(what: &str, edge: &Edge, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        let known = || edge.admin("/api/v1/certificates").body;
        assert!(start.elapsed() < ORDER, "waited {ORDER:?} in vain: {what}\n{}", known());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until these hosts show certificates that `tls` trusts; returns them.
#[track_caller]
fn wait_trusted(edge: &Edge, tls: &Tls, hosts: &[&str]) -> Vec<CertificateDer<'static>> {
    let one = |host: &&str| {
        let what = format!("a trusted certificate for {host}");
        in_time(&what, edge, || tls.try_connect(host).ok().map(|client| client.leaf()))
    };
    hosts.iter().map(one).collect()
}

/// What `GET /api/v1/certificates` says of this certificate.
fn told(edge: &Edge, name: &str) -> Option<Value> {
    let all = edge.admin("/api/v1/certificates").json();
    all["certificates"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned()
}

/// Waits until it holds what it says of this certificate.
#[track_caller]
fn wait_told(edge: &Edge, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    in_time(&format!("{name} to be as expected"), edge, || told(edge, name).filter(&holds))
}

/// Everything is valid, stored and at rest: no order comes by itself for the next hour.
fn wait_at_rest(edge: &Edge, names: &[&str]) {
    for name in names {
        wait_told(edge, name, |one| {
            one["state"] == "valid"
                && one["ordering"] == false
                && one["stored"] == true
                && seconds_to_next(one) > 3600
        });
    }
}

fn seconds_to_next(told: &Value) -> i64 {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    let at = OffsetDateTime::parse(told["next_at"].as_str().unwrap(), &Rfc3339).unwrap();
    (at - OffsetDateTime::now_utc()).whole_seconds()
}

fn wait_role(edge: &Edge, role: &str) {
    in_time(&format!("the role {role}"), edge, || {
        (edge.admin("/api/v1/certificates").json()["role"] == role).then_some(())
    });
}

fn ask_to_renew(edge: &Edge, name: &str) {
    let answer = edge.post("/api/v1/certificates/renew", &json!({ "name": name }));
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// DNS names of a certificate, sorted.
fn names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    let mut names: Vec<String> = names
        .value
        .general_names
        .iter()
        .map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(name) => (*name).to_owned(),
            other => panic!("{other}"),
        })
        .collect();
    names.sort();
    names
}

const ORDER: Duration = Duration::from_secs(150);
