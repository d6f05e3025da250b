//! Certificates, versions, names and tickets as TLS clients see them.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;

use crate::harness::{Backend, Client, Conf, Edge, Lab, Tls, wait_until};

/// A CA of the test, and files that it signs.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Ca {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test CA");
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// Chain and key in PEM for these names.
    fn issue(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    fn trusted(&self, edge: &Edge) -> Tls {
        Tls::trusting(edge.https, [self.root()], rustls::ALL_VERSIONS)
    }
}

fn with_files(dir: &Path, backend: &Backend) -> Conf {
    let dir = dir.display();
    Conf::new(format!(
        "certificates:\n  own: {{ chain: {dir}/own.pem, key: {dir}/own.key }}\n\
         upstreams:\n  app: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  app: {{ hosts: [app.openclaw.example, \"*.wild.openclaw.example\"], upstream: app }}\n",
        backend.addr
    ))
}

/// The serial number of the certificate shown.
fn shown(client: &Client) -> Vec<u8> {
    client.tls().peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn certificates_from_files() {
    let (lab, ca, backend) = (Lab::new(), Ca::new(), Backend::ok());
    let (chain, key) = ca.issue(&["app.openclaw.example", "*.wild.openclaw.example"]);
    lab.write("own.pem", chain);
    lab.write("own.key", key);
    let edge = Edge::start_in(&lab, &with_files(lab.path(), &backend));
    let tls = ca.trusted(&edge);
    tls.connect("app.openclaw.example").get("app.openclaw.example", "/").assert_ok("ok");
    tls.connect("APP.Openclaw.Example").get("app.openclaw.example", "/").assert_ok("ok");
    tls.connect("x.wild.openclaw.example").get("x.wild.openclaw.example", "/").assert_ok("ok");
    assert!(tls.try_connect("a.b.wild.openclaw.example").is_err(), "one label only");
}

#[test]
fn changed_files_are_shown_without_a_restart() {
    let (lab, ca, backend) = (Lab::new(), Ca::new(), Backend::ok());
    let names = ["app.openclaw.example", "*.wild.openclaw.example"];
    let (chain, key) = ca.issue(&names);
    lab.write("own.pem", chain);
    lab.write("own.key", key);
    let edge = Edge::start_in(&lab, &with_files(lab.path(), &backend));
    let tls = ca.trusted(&edge);
    let mut open = tls.connect("app.openclaw.example");
    let first = shown(&open);

    // A key that does not match its chain changes nothing.
    let (chain, key) = ca.issue(&names);
    lab.write("own.pem", &chain);
    edge.signal("HUP");
    assert_eq!(shown(&tls.connect("app.openclaw.example")), first);

    lab.write("own.key", key);
    edge.signal("HUP");
    wait_until("the new certificate", || shown(&tls.connect("app.openclaw.example")) != first);
    open.get("app.openclaw.example", "/").assert_ok("ok");
}

#[test]
fn broken_files_take_only_their_hosts_down() {
    let (lab, backend) = (Lab::new(), Backend::ok());
    lab.write("own.pem", "not a certificate");
    lab.write("own.key", "not a key");
    let mut conf = with_files(lab.path(), &backend);
    conf = conf.global("");
    let edge = Edge::start_in(&lab, &conf);
    edge.client().get("app.openclaw.example", "/").assert_ok("ok");
    let config = edge.config().to_string();
    assert!(config.contains("own"), "{config}");
}

#[test]
fn the_internal_ca() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let client = edge.tls_client("app.openclaw.example");
    assert_eq!(client.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
    let private = std::fs::metadata(edge.ca().parent().unwrap()).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(private.permissions().mode() & 0o077, 0, "the CA's directory is private");
}

#[test]
fn the_internal_ca_outlives_a_restart() {
    let (lab, backend) = (Lab::new(), Backend::ok());
    let conf = Conf::app(&[backend.addr]);
    let mut edge = Edge::start_in(&lab, &conf);
    let ca = std::fs::read(edge.ca()).unwrap();
    let leaf = shown(&edge.tls_client("app.openclaw.example"));
    edge.kill();
    drop(edge);
    let edge = Edge::start_in(&lab, &conf);
    assert_eq!(std::fs::read(edge.ca()).unwrap(), ca);
    assert_eq!(shown(&edge.tls_client("app.openclaw.example")), leaf, "issued once, kept");
}

#[test]
fn unknown_and_missing_names_are_refused_in_the_handshake() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let alert = |result: Result<Client, std::io::Error>| match result {
        Ok(_) => panic!("the handshake was finished"),
        Err(e) => e.to_string(),
    };
    let told = alert(edge.tls().try_connect("other.openclaw.example"));
    assert!(told.contains("alert"), "refused by an alert: {told}");
    let told = alert(edge.tls().without_sni().try_connect("app.openclaw.example"));
    assert!(told.contains("alert"), "refused by an alert: {told}");
    edge.tls_client("app.openclaw.example").get("app.openclaw.example", "/").assert_ok("ok");
}

#[test]
fn a_default_certificate_for_clients_without_a_name() {
    let backend = Backend::ok();
    let edge = Edge::start(
        &Conf::new(format!(
            "certificates:\n  main: {{ names: [app.openclaw.example], issuer: local }}\n\
             upstreams:\n  app: {{ endpoints: [\"{}\"] }}\n\
             routes:\n  app: {{ hosts: [app.openclaw.example], upstream: app }}\n",
            backend.addr
        ))
        .tls("default_certificate: main"),
    );
    let mut client = edge.tls().without_sni().connect("app.openclaw.example");
    client.get("app.openclaw.example", "/").assert_ok("ok");
    assert!(
        edge.tls().try_connect("other.openclaw.example").is_err(),
        "an unknown name is still refused"
    );
}

#[test]
fn versions() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let only = |edge: &Edge, version| {
        use rustls::pki_types::pem::PemObject as _;
        let root = CertificateDer::from_pem_file(edge.ca()).unwrap();
        Tls::trusting(edge.https, [root], &[version]).try_connect("app.openclaw.example")
    };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = only(&edge, version).unwrap();
        assert_eq!(client.tls().protocol_version(), Some(version.version));
        client.get("app.openclaw.example", "/").assert_ok("ok");
    }
    let strict = Edge::start(&Conf::app(&[backend.addr]).tls("min_version: \"1.3\""));
    assert!(only(&strict, &rustls::version::TLS12).is_err());
    only(&strict, &rustls::version::TLS13)
        .unwrap()
        .get("app.openclaw.example", "/")
        .assert_ok("ok");
}

#[test]
fn sessions_are_resumed_also_after_a_reload() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]).workers(2));
    let kind = |tls: &Tls| {
        let mut client = tls.connect("app.openclaw.example");
        // The ticket comes with the first data.
        client.get("app.openclaw.example", "/").assert_ok("ok");
        client.tls().handshake_kind().unwrap()
    };
    let tls = edge.tls();
    assert_ne!(kind(&tls), HandshakeKind::Resumed);
    assert_eq!(kind(&tls), HandshakeKind::Resumed);
    edge.reload(&Conf::app_with(&[backend.addr], "", "body_limit: 1MiB").workers(2));
    assert_eq!(kind(&tls), HandshakeKind::Resumed);
}

#[test]
fn alpn_without_a_common_protocol_is_refused() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    assert!(edge.tls().alpn(&["acme-tls/1"]).try_connect("app.openclaw.example").is_err());
    assert!(edge.tls().alpn(&["foo"]).try_connect("app.openclaw.example").is_err());
}

#[test]
fn plaintext_on_the_tls_port_ends() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let mut client = Client::plain(edge.https);
    client.send("GET / HTTP/1.1\r\nHost: app.openclaw.example\r\n\r\n");
    let (_, end) = client.wire.rest();
    assert_ne!(end, crate::harness::End::Timeout);
    assert!(backend.requests().is_empty());
}

#[test]
fn hosts_added_by_a_reload_get_certificates() {
    let backend = Backend::ok();
    let edge = Edge::start(&Conf::app(&[backend.addr]));
    let app = Conf::new(format!(
        "upstreams:\n  app: {{ endpoints: [\"{}\"] }}\n\
         routes:\n  app: {{ hosts: [app.openclaw.example, new.openclaw.example], upstream: app }}\n",
        backend.addr
    ));
    edge.reload(&app);
    let tls = edge.tls();
    wait_until("a certificate for the new host", || {
        tls.try_connect("new.openclaw.example").is_ok()
    });
    tls.connect("new.openclaw.example").get("new.openclaw.example", "/").assert_ok("ok");
}
