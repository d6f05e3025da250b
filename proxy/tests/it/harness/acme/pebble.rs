//! Pebble, Let's Encrypt's strict test CA, with its DNS server. Both are Debian's package
//! `pebble`. It validates for real, at the ports that it is told.

use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::port::Port;
use super::process::Process;
use crate::harness::{Client, Lab, Tls, wait_until};

pub struct Options {
    /// Where HTTP-01 and TLS-ALPN-01 are validated: the edge's ports.
    pub http_port: u16,
    pub tls_port: u16,
    /// Seconds from notBefore to notAfter.
    pub lifetime: u64,
    /// Per cent of nonces refused at random.
    pub nonce_reject: u8,
    /// Per cent of orders that reuse a valid authorization.
    pub authorization_reuse: u8,
    /// Wait up to some seconds before each validation, as real CAs do.
    pub sleep: bool,
    /// Demands External Account Binding: key id and base64url of the HMAC key (32 bytes or more).
    pub eab: Option<(String, String)>,
    /// Names that are refused with `rejectedIdentifier`.
    pub blocklist: Vec<String>,
}

impl Options {
    /// Validates at these ports, issues for a day, refuses no nonce.
    pub fn at(http_port: u16, tls_port: u16) -> Options {
        Options {
            http_port,
            tls_port,
            lifetime: 86_400,
            nonce_reject: 0,
            authorization_reuse: 0,
            sleep: false,
            eab: None,
            blocklist: Vec::new(),
        }
    }
}

pub struct Pebble {
    lab: Arc<Lab>,
    options: Options,
    server: Process,
    dns: Dns,
    api: Port,
    management: Port,
}

impl Pebble {
    /// Validates at these ports; every name resolves to 127.0.0.1 and has no AAAA.
    pub fn start(http_port: u16, tls_port: u16) -> Pebble {
        Pebble::with(Options::at(http_port, tls_port))
    }

    pub fn with(options: Options) -> Pebble {
        let lab = Lab::new();
        write_api_certificate(&lab);
        let (api, management) = (Port::reserve(), Port::reserve());
        let dns = Dns::start();
        lab.write("pebble.json", config(&lab, &options, &api, &management).to_string());
        let server = serve(&lab, &options, &dns);
        let mut pebble = Pebble { lab, options, server, dns, api, management };
        pebble.wait_ready();
        pebble
    }

    fn wait_ready(&mut self) {
        let tls = Tls::new(self.api.addr, &self.roots());
        // It says of each that it listens before it does.
        let management = Tls::new(self.management.addr, &self.roots());
        self.server.wait_ready(|| {
            management.try_connect("localhost").is_ok()
                && tls
                    .try_connect("localhost")
                    .is_ok_and(|mut client| client.get("localhost", "/dir").status == 200)
        });
    }

    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.api.number())
    }

    /// PEM of the root of the CA's API, for the issuer's key `roots`.
    pub fn roots(&self) -> PathBuf {
        self.lab.path().join("api-root.pem")
    }

    /// The root of what is issued; another one after every start.
    pub fn issuing_root(&self) -> CertificateDer<'static> {
        let answer = self.management("/roots/0");
        CertificateDer::from_pem_slice(answer.as_bytes()).unwrap()
    }

    /// For a client of the edge at `https` that trusts what is issued.
    pub fn trusted(&self, https: SocketAddr) -> Tls {
        Tls::trusting(https, [self.issuing_root()], rustls::ALL_VERSIONS)
    }

    fn management(&self, path: &str) -> String {
        let response = Tls::new(self.management.addr, &self.roots())
            .connect("localhost")
            .get("localhost", path);
        assert_eq!(response.status, 200, "{response:?}");
        response.text()
    }

    // === the CA as an obstacle ===

    /// Nobody listens at the directory any more.
    pub fn stop(&mut self) {
        self.server.kill();
    }

    /// Takes connections and answers nothing, until [`Pebble::go_on`].
    pub fn freeze(&self) {
        self.server.signal("STOP");
    }

    pub fn go_on(&self) {
        self.server.signal("CONT");
    }

    /// Comes back at the same directory, with another root and without a memory: accounts and
    /// orders are gone.
    pub fn restart(&mut self) {
        self.server.kill();
        self.server = serve(&self.lab, &self.options, &self.dns);
        self.wait_ready();
    }

    /// Everything that it said since its start.
    pub fn output(&self) -> String {
        self.server.output()
    }

    /// Requests that it took since its start, answered or not.
    pub fn requests(&self) -> usize {
        self.output().matches("calling handler()").count()
    }

    /// Orders made since its start.
    pub fn orders(&self) -> usize {
        self.output().matches("orders in the db").count()
    }

    /// Certificates issued since its start.
    pub fn issued(&self) -> usize {
        self.output().matches("Issued certificate serial").count()
    }

    // === DNS faults ===

    /// The DNS server that it asks.
    pub fn dns_server(&self) -> SocketAddr {
        self.dns.port.addr
    }

    pub fn dns_a(&self, host: &str, addresses: &[&str]) {
        self.dns.tell("/add-a", &json!({ "host": fqdn(host), "addresses": addresses }));
    }

    pub fn dns_aaaa(&self, host: &str, addresses: &[&str]) {
        self.dns.tell("/add-aaaa", &json!({ "host": fqdn(host), "addresses": addresses }));
    }

    /// Back to the default address.
    pub fn dns_clear(&self, host: &str) {
        for path in ["/clear-a", "/clear-aaaa", "/clear-servfail"] {
            self.dns.tell(path, &json!({ "host": fqdn(host) }));
        }
    }

    pub fn dns_servfail(&self, host: &str) {
        self.dns.tell("/set-servfail", &json!({ "host": fqdn(host) }));
    }
}

/// A CA and a certificate for the CA's own API, which Debian's package lacks.
fn write_api_certificate(lab: &Lab) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "root of Pebble's API");
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &root).unwrap();
    lab.write("api-root.pem", root.pem());
    lab.write("api.pem", leaf.pem());
    lab.write("api.key", key.serialize_pem());
}

fn config(lab: &Lab, options: &Options, api: &Port, management: &Port) -> Value {
    let mut config = json!({
        "listenAddress": api.bind(),
        "managementListenAddress": management.bind(),
        "certificate": lab.path().join("api.pem"),
        "privateKey": lab.path().join("api.key"),
        "httpPort": options.http_port,
        "tlsPort": options.tls_port,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": options.eab.is_some(),
        "domainBlocklist": options.blocklist,
        "certificateValidityPeriod": options.lifetime,
    });
    if let Some((id, key)) = &options.eab {
        config["externalAccountMACKeys"] = json!({ id: key });
    }
    json!({ "pebble": config })
}

fn serve(lab: &Lab, options: &Options, dns: &Dns) -> Process {
    let mut command = Command::new("pebble");
    command
        .arg("-config")
        .arg(lab.path().join("pebble.json"))
        .args(["-strict", "-dnsserver", &dns.port.bind()])
        .env("PEBBLE_WFE_NONCEREJECT", options.nonce_reject.to_string())
        .env("PEBBLE_AUTHZREUSE", options.authorization_reuse.to_string());
    if !options.sleep {
        command.env("PEBBLE_VA_NOSLEEP", "1");
    }
    Process::start("pebble", &mut command)
}

fn fqdn(host: &str) -> String {
    format!("{}.", host.trim_end_matches('.'))
}

/// pebble-challtestsrv, as a DNS server only.
struct Dns {
    process: Process,
    port: Port,
    management: Port,
}

impl Dns {
    /// Its UDP port cannot be held for it: another may take it, then there is a second try.
    fn start() -> Dns {
        let mut said = String::new();
        for _ in 0..5 {
            let (port, management) = (Port::reserve_with_udp(), Port::reserve());
            let mut command = Command::new("pebble-challtestsrv");
            command.args(["-management", &management.bind(), "-dns01", &port.bind()]);
            command.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
            command.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
            let process = Process::start("pebble-challtestsrv", &mut command);
            let mut dns = Dns { process, port, management };
            wait_until("pebble-challtestsrv", || dns.process.has_ended() || dns.answers());
            if !dns.process.has_ended() {
                return dns;
            }
            let _ = writeln!(said, "{}", dns.process.output());
        }
        panic!("pebble-challtestsrv does not start: {said}");
    }

    /// It resolves a name, and its management listens.
    fn answers(&self) -> bool {
        let query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01";
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let asked = socket.connect(self.port.addr).and_then(|()| socket.send(query));
        let resolved = asked.and_then(|_| socket.recv(&mut [0; 512])).is_ok();
        resolved && std::net::TcpStream::connect(self.management.addr).is_ok()
    }

    fn tell(&self, path: &str, what: &Value) {
        let body = what.to_string();
        let mut client = Client::plain(self.management.addr);
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let response = client.response();
        assert_eq!(response.status, 200, "{path} {body}: {response:?}");
    }
}
