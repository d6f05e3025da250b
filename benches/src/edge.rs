//! openclaw-edge as a peer: its configuration and its command line.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{HOST, Result};

pub struct Ports {
    pub plain: u16,
    pub tls: u16,
    pub admin: u16,
}

/// The certificate of every peer: self-signed ECDSA P-256 for `HOST`, no chain.
pub struct Identity {
    pub chain: PathBuf,
    pub key: PathBuf,
    /// Both in one file, as HAProxy wants it.
    pub both: PathBuf,
}

impl Identity {
    pub fn make(dir: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let files = Self {
            chain: dir.join("chain.pem"),
            key: dir.join("key.pem"),
            both: dir.join("both.pem"),
        };
        fs::write(&files.chain, &chain)?;
        fs::write(&files.key, &key)?;
        fs::write(&files.both, chain + &key)?;
        Ok(files)
    }
}

/// The host of the route with every policy on.
pub const ALL_HOST: &str = "all.openclaw.example";

/// Everything that is on by default stays on: access log, metrics, request id, limits, timeouts.
/// Clients without SNI (wrk on an address) get the default certificate.
pub fn config(
    ports: &Ports,
    identity: &Identity,
    backend: u16,
    workers: usize,
    dir: &Path,
) -> String {
    let mut text = head(ports, workers, dir);
    let _ = write!(
        text,
        "  tls: {{ bind: [\"127.0.0.1:{tls}\"], tls: {{ default_certificate: bench }} }}\n\
         certificates:\n  bench: {{ chain: {chain}, key: {key} }}\n\
         upstreams:\n  backend: {{ endpoints: [\"127.0.0.1:{backend}\"] }}\n\
         routes:\n  app: {{ hosts: [{HOST}], upstream: backend }}\n",
        tls = ports.tls,
        chain = identity.chain.display(),
        key = identity.key.display(),
    );
    text
}

/// The route of `ALL_HOST` to the same backend: two rate limits that nobody reaches, address lists,
/// CORS, security headers, and a header rule each way.
pub fn all_route() -> String {
    format!(
        "  all:\n    hosts: [{ALL_HOST}]\n    upstream: backend\n    rate_limits:\n      \
         - {{ key: client_ip, rate: 1000000/s, burst: 1000000 }}\n      \
         - {{ key: \"header:authorization\", rate: 1000000/s, burst: 1000000 }}\n    \
         access: {{ allow: [127.0.0.0/8, 192.0.2.0/24], deny: [192.0.2.66/32] }}\n    \
         cors: {{ origins: [\"https://app.openclaw.example\"], credentials: true }}\n    \
         security_headers: basic\n    \
         headers: {{ request: {{ set: {{ X-Edge: measured }} }}, \
         response: {{ set: {{ X-Edge: measured }} }} }}\n"
    )
}

/// One plain listener, `hosts` routes with one host each, and the answering route of `HOST`,
/// which says `marker` so that a client can see which table is live.
pub fn many_hosts(ports: &Ports, hosts: usize, marker: &str, workers: usize, dir: &Path) -> String {
    let mut text = head(ports, workers, dir);
    text.push_str("upstreams:\n");
    for upstream in 0..UPSTREAMS {
        let _ = writeln!(text, "  u{upstream}: {{ endpoints: [\"127.0.0.1:9\"] }}");
    }
    let _ = write!(
        text,
        "routes:\n  app: {{ hosts: [{HOST}], respond: {{ status: 200, body: {marker} }} }}\n"
    );
    for host in 0..hosts {
        let upstream = host % UPSTREAMS;
        let _ = writeln!(text, "  r{host}: {{ hosts: [h{host}.{HOST}], upstream: u{upstream} }}");
    }
    text
}

const UPSTREAMS: usize = 10;

fn head(ports: &Ports, workers: usize, dir: &Path) -> String {
    format!(
        "version: 1\nworkers: {workers}\nstate_dir: {dir}/state\n\
         admin: {{ listen: \"127.0.0.1:{admin}\", socket: {dir}/admin.sock }}\n\
         log: {{ access: json }}\n\
         listeners:\n  plain: {{ bind: [\"127.0.0.1:{plain}\"] }}\n",
        dir = dir.display(),
        admin = ports.admin,
        plain = ports.plain,
    )
}

pub fn argv(binary: &Path, config: &Path) -> Vec<String> {
    let path = |p: &Path| p.display().to_string();
    vec![path(binary), "run".into(), "--config".into(), path(config)]
}
