//! The edge before a few backends, with clients that can reach it: what `restart`, `idle-close`,
//! `outage`, `faults` and `endpoints` begin with.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use benches::edge::{self, Identity};
use benches::{HOST, Result, net};
use rustls::ClientConfig;
use tempfile::TempDir;

use crate::client::tls_config;
use crate::outcome::Outcome;
use crate::process::Edge;
use crate::service::{Service, executions};
use crate::steady::{Plan, Window};

pub struct Stand {
    pub edge: Edge,
    pub plain: u16,
    pub tls: u16,
    pub trusted: Arc<ClientConfig>,
}

impl Stand {
    /// `entries`: `upstreams` and `routes`. `prefix`: before the edge's own command line.
    pub fn start(binary: &Path, dir: &TempDir, entries: &str, prefix: &[&str]) -> Result<Self> {
        let [plain, tls, admin] = net::free_ports()?;
        let own = dir.path().join("edge");
        fs::create_dir(&own)?;
        let identity = Identity::make(&own)?;
        let config = own.join("edge.yaml");
        fs::write(
            &config,
            format!(
                "version: 1\nworkers: 2\nstate_dir: {own}/state\n\
                 admin: {{ listen: \"127.0.0.1:{admin}\", socket: {own}/admin.sock }}\n\
                 listeners:\n  plain: {{ bind: [\"127.0.0.1:{plain}\"] }}\n  \
                 tls: {{ bind: [\"127.0.0.1:{tls}\"], tls: {{}} }}\n\
                 certificates:\n  own: {{ chain: {chain}, key: {key} }}\n{entries}",
                own = own.display(),
                chain = identity.chain.display(),
                key = identity.key.display(),
            ),
        )?;
        let argv = prefix.iter().map(|&word| word.to_owned());
        let argv: Vec<String> = argv.chain(edge::argv(binary, &config)).collect();
        let mut edge = Edge::spawn(&argv, admin, &own.join("edge.log"))?;
        edge.wait_ready(READY)?;
        Ok(Self { edge, plain, tls, trusted: tls_config(&identity.chain)? })
    }

    /// GET and POST in turn at `/`, a request every few milliseconds and client.
    pub fn plan(&self, clients: usize) -> Plan {
        Plan {
            plain: self.plain,
            tls: self.tls,
            trusted: self.trusted.clone(),
            clients,
            paths: vec!["/"],
            posts_only: false,
            pause: |_| Duration::from_millis(4),
        }
    }

    /// How often a request was sent again, and why: without any, nothing has been tested.
    pub fn measure_retries(&self, outcome: &mut Outcome) -> Result<()> {
        let reasons = ["stale_connection", "connect_failed", "refused_stream", "closed"];
        for reason in reasons {
            let label = format!("reason=\"{reason}\"");
            let count = self.edge.metric("edge_upstream_retries_total", &label)?;
            if count > 0 {
                outcome.measured(format!("sent again: {reason}"), count);
            }
        }
        Ok(())
    }

    /// Whether it still ends as it should.
    pub fn finish(self, outcome: &mut Outcome) {
        if !outcome.met() {
            outcome.note(self.edge.log_tail());
        }
        let stopped = self.edge.stop();
        let text = stopped.as_ref().map_or_else(ToString::to_string, |t| format!("{t:.1?}"));
        outcome.require("SIGTERM at the end", text, "exit code 0", stopped.is_ok());
    }
}

/// One upstream `app` with these endpoints and further keys, one route to it.
pub fn one_upstream(endpoints: &[String], keys: &str) -> String {
    let list: Vec<String> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    format!(
        "upstreams:\n  app: {{ endpoints: [{}]{keys} }}\n\
         routes:\n  app: {{ hosts: [{HOST}], upstream: app }}\n",
        list.join(", ")
    )
}

/// No error at the client, and what was answered was executed exactly once.
pub fn require_clean(outcome: &mut Outcome, services: &[Service], all: &mut Window, at_least: u64) {
    let sent = all.sent();
    outcome.require("requests", sent, format!("≥ {at_least}"), sent >= at_least);
    outcome.require_none("errors at the client", all.errors());
    if all.errors() > 0 {
        outcome.note(all.told());
    }
    let (p50, p99, most) = (all.latency(0.5), all.latency(0.99), all.latency(1.0));
    outcome.measured("p50, p99, slowest, ms", format!("{p50:.1}, {p99:.1}, {most:.0}"));
    let executed = executions(services);
    let posts = executed.iter().filter(|(id, _)| id.starts_with("POST"));
    let twice = posts.filter(|(_, n)| **n > 1).count();
    outcome.require_none("POSTs executed more than once", twice as u64);
    let lost = all.answered.iter().filter(|id| !executed.contains_key(*id)).count();
    outcome.require_none("requests answered but not executed", lost as u64);
}

const READY: Duration = Duration::from_secs(20);
