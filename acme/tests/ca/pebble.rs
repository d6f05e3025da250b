//! Pebble and its DNS server, started on free ports of this machine and ended with the test.
//! Without them (`apt-get install pebble`) the tests fail: a skipped one proves nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use acme::ca::{Ca, CaConfig};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::responder::Responder;

/// A customer that Pebble knows when it demands one.
pub const EAB_KEY_ID: &str = "kid-1";
pub const EAB_KEY: &[u8] = b"forty-eight bytes of a key for nothing but tests";
pub const BLOCKED: &str = "blocked.openclaw.example";

/// Long enough for a loaded machine; what is waited for is a condition.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Setup {
    pub eab_required: bool,
    /// Percent of the nonces that are refused.
    pub nonce_reject: u8,
}

pub struct Pebble {
    pub responder: Responder,
    dir: TempDir,
    setup: Setup,
    ports: Ports,
    dns: Process,
    pebble: Option<Process>,
}

struct Ports {
    api: u16,
    management: u16,
    dns: u16,
    dns_management: u16,
}

impl Pebble {
    pub async fn start(setup: Setup) -> Pebble {
        let responder = Responder::start().await;
        let dir = TempDir::new().unwrap();
        write_api_certificate(dir.path());
        let ports = Ports::find();
        let dns = ports.start_dns(dir.path());
        let mut pebble = Pebble { responder, dir, setup, ports, dns, pebble: None };
        pebble.run();
        // A port found free may be taken by the time the child binds it: then others.
        for _ in 0..2 {
            if pebble.is_up().await {
                return pebble;
            }
            pebble.ports = Ports::find();
            pebble.dns = pebble.ports.start_dns(pebble.dir.path());
            pebble.run();
        }
        assert!(pebble.is_up().await, "{}", pebble.logs());
        pebble
    }

    /// The same address, a CA that has never heard of anybody.
    pub async fn restart(&mut self) {
        self.pebble = None;
        self.run();
        assert!(self.is_up().await, "{}", self.logs());
    }

    pub fn config(&self) -> CaConfig {
        let mut config = CaConfig::new(format!("https://localhost:{}/dir", self.ports.api));
        config.roots = Some(self.dir.path().join("ca.pem"));
        config.limits.poll = Duration::from_millis(50);
        config
    }

    pub async fn connect(&self) -> Ca {
        Ca::connect(&self.config()).await.unwrap()
    }

    /// From now on the DNS fails for this name.
    pub fn break_dns(&self, host: &str) {
        let body = json!({ "host": host }).to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports.dns_management)).unwrap();
        let length = body.len();
        write!(stream, "POST /set-servfail HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.contains(" 200 "), "{reply}");
    }

    fn run(&mut self) {
        let dir = self.dir.path();
        let file = dir.join("pebble.json");
        std::fs::write(&file, self.pebble_config().to_string()).unwrap();
        let mut command = Command::new("/usr/bin/pebble");
        command.arg("-config").arg(&file).arg("-strict");
        command.args(["-dnsserver", &format!("127.0.0.1:{}", self.ports.dns)]);
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        command.env("PEBBLE_WFE_NONCEREJECT", self.setup.nonce_reject.to_string());
        self.pebble = Some(Process::spawn(command, &dir.join("pebble.log")));
    }

    fn pebble_config(&self) -> Value {
        let file = |name: &str| self.dir.path().join(name);
        let mut config = json!({
            "listenAddress": format!("127.0.0.1:{}", self.ports.api),
            "managementListenAddress": format!("127.0.0.1:{}", self.ports.management),
            "certificate": file("api.pem"),
            "privateKey": file("api.key"),
            "httpPort": self.responder.port,
            "tlsPort": self.responder.port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": self.setup.eab_required,
            "domainBlocklist": [BLOCKED],
            "certificateValidityPeriod": 3600,
        });
        if self.setup.eab_required {
            let key = BASE64_URL_SAFE_NO_PAD.encode(EAB_KEY);
            config["externalAccountMACKeys"] = json!({ EAB_KEY_ID: key });
        }
        json!({ "pebble": config })
    }

    async fn is_up(&mut self) -> bool {
        let config = self.config();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let children = [Some(&mut self.dns), self.pebble.as_mut()];
            if children.into_iter().flatten().any(|child| child.has_ended()) {
                return false;
            }
            let dns = TcpStream::connect(("127.0.0.1", self.ports.dns_management)).is_ok();
            if dns && Ca::connect(&config).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    fn logs(&self) -> String {
        let read = |name| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        format!("Pebble did not start.\n{}\n{}", read("dns.log"), read("pebble.log"))
    }
}

impl Ports {
    fn find() -> Ports {
        // All are held until all are found, so that they differ.
        let held: Vec<TcpListener> =
            (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |at: usize| held[at].local_addr().unwrap().port();
        Ports { api: port(0), management: port(1), dns: port(2), dns_management: port(3) }
    }

    fn start_dns(&self, dir: &Path) -> Process {
        let mut command = Command::new("/usr/bin/pebble-challtestsrv");
        command.args(["-management", &format!("127.0.0.1:{}", self.dns_management)]);
        command.args(["-dns01", &format!("127.0.0.1:{}", self.dns)]);
        command.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        command.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        Process::spawn(command, &dir.join("dns.log"))
    }
}

/// A child that ends with its owner.
struct Process(Child);

impl Process {
    fn spawn(mut command: Command, log: &PathBuf) -> Process {
        let log = File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let name = command.get_program().to_owned();
        match command.spawn() {
            Ok(child) => Process(child),
            Err(e) => panic!("{name:?} is needed for this test (apt-get install pebble): {e}"),
        }
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `ca.pem`, and a certificate of it for Pebble's own API.
fn write_api_certificate(dir: &Path) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca_params = CertificateParams::new(Vec::new()).unwrap();
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = ca_params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca_params, ca_key);
    let key = KeyPair::generate().unwrap();
    let api = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let api = api.signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    std::fs::write(dir.join("api.pem"), api.pem()).unwrap();
    std::fs::write(dir.join("api.key"), key.serialize_pem()).unwrap();
}
