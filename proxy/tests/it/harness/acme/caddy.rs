//! Caddy's `acme_server` (smallstep's code base) as a second CA. It always validates at port 80
//! with the system's resolver, but by way of `HTTP_PROXY`: so it sends the edge requests in
//! absolute-form, and needs neither port 80 nor DNS. A failed challenge stays pending there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use super::port::Port;
use super::process::Process;
use crate::harness::{Lab, Tls};

/// As `.ci/setup` installs it.
const VERSION: &str = "2.11.7";

pub struct Caddy {
    lab: Arc<Lab>,
    process: Process,
    port: Port,
}

impl Caddy {
    /// Validates at the edge's plaintext listener `http`. `lifetime` as Caddy writes it: `24h`, at
    /// most `167h`.
    pub fn start(http: SocketAddr, lifetime: &str) -> Caddy {
        let (lab, port) = (Lab::new(), Port::reserve());
        let file = lab.write("Caddyfile", caddyfile(&lab, &port, lifetime));
        let mut command = Command::new(program());
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
        for name in ["http_proxy", "NO_PROXY", "no_proxy", "HTTPS_PROXY", "https_proxy"] {
            command.env_remove(name);
        }
        command
            .env("HTTP_PROXY", format!("http://{http}"))
            .env("XDG_DATA_HOME", lab.path().join("data"))
            .env("XDG_CONFIG_HOME", lab.path().join("config"));
        let process = Process::start("caddy", &mut command);
        let mut caddy = Caddy { lab, process, port };
        caddy.wait_ready();
        caddy
    }

    fn wait_ready(&mut self) {
        let (addr, roots) = (self.port.addr, self.roots());
        self.process.wait_ready(|| {
            roots.exists()
                && Tls::new(addr, &roots)
                    .try_connect("localhost")
                    .is_ok_and(|mut caddy| caddy.get("localhost", DIRECTORY).status == 200)
        });
    }

    pub fn directory(&self) -> String {
        format!("https://localhost:{}{DIRECTORY}", self.port.number())
    }

    /// PEM of the root of both its API and of what it issues.
    pub fn roots(&self) -> PathBuf {
        self.lab.path().join("store/pki/authorities/local/root.crt")
    }

    /// For a client of the edge at `https` that trusts what is issued.
    pub fn trusted(&self, https: SocketAddr) -> Tls {
        Tls::new(https, &self.roots())
    }
}

const DIRECTORY: &str = "/acme/local/directory";

fn caddyfile(lab: &Lab, port: &Port, lifetime: &str) -> String {
    let (store, port) = (lab.path().join("store"), port.number());
    format!(
        "{{
            admin off
            storage file_system {}
            auto_https disable_redirects
            https_port {port}
            skip_install_trust
            pki {{
                ca local {{
                    name \"second test CA\"
                }}
            }}
        }}
        https://localhost:{port} {{
            bind 127.0.0.1
            tls internal
            acme_server {{
                challenges http-01 tls-alpn-01
                lifetime {lifetime}
            }}
        }}",
        store.display()
    )
}

/// `.ci/setup test` puts it there.
fn program() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
        PathBuf::from,
    );
    cache.join(format!("openclaw-edge-tests/caddy-{VERSION}/bin/caddy"))
}
