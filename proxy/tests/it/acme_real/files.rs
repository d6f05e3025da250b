//! Certificates that nobody needs to order.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;
use crate::harness::edge::replace;

/// A CA that has nothing to do with ACME.
struct Other(CertifiedIssuer<'static, KeyPair>);

impl Other {
    fn new() -> Other {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "another CA");
        Other(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Chain and key in PEM.
    fn issue(&self, host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn trusted(&self, edge: &Edge) -> Tls {
        Tls::trusting(edge.https, [self.0.der().clone()], rustls::ALL_VERSIONS)
    }
}

#[test]
fn files_are_watched_and_their_hosts_not_ordered() {
    let stage = Stage::new();
    let (pebble, other) = (stage.pebble(), Other::new());
    let write = || {
        let (chain, key) = other.issue(API);
        replace(&stage.lab.path().join("own.key"), &key);
        replace(&stage.lab.path().join("own.pem"), &chain);
    };
    write();
    let dir = stage.lab.path().display();
    let files = format!("certificates:\n  own: {{ chain: {dir}/own.pem, key: {dir}/own.key }}\n");
    let conf = ordering(stage.entries(&[APP, API], &files), &pebble, "");
    let edge = stage.start(&conf);
    let of_file = other.trusted(&edge);
    let before = of_file.connect(API).leaf();
    wait_trusted(&edge, &pebble.trusted(edge.https), &[APP]);
    write();
    in_time("the new file", &edge, || {
        of_file.try_connect(API).ok().filter(|client| client.leaf() != before)
    });
    wait_at_rest(&edge, &[APP]);
    assert_eq!(pebble.orders(), 1);
}

#[test]
fn an_imported_certificate_needs_no_order() {
    let stage = Stage::new();
    let (pebble, other) = (stage.pebble(), Other::new());
    let edge = stage.start(&ordering(stage.hosts(&[APP]), &pebble, ""));
    wait_trusted(&edge, &pebble.trusted(edge.https), &[APP]);
    let (chain, key) = other.issue(API);
    let answer = edge.post("/api/v1/certificates/import", &json!({ "chain": chain, "key": key }));
    assert_eq!((answer.status, answer.json()), (200, json!({ "names": [API] })));
    edge.reload(&ordering(stage.hosts(&[APP, API]), &pebble, ""));
    wait_trusted(&edge, &other.trusted(&edge), &[API]);
    wait_at_rest(&edge, &[APP, API]);
    assert_eq!(told(&edge, API).unwrap()["issued_by"], "imported");
    assert_eq!(pebble.orders(), 1);

    // Pairs that do not match are refused, and the key is in no answer and no log.
    let (_, another) = other.issue(API);
    let answer =
        edge.post("/api/v1/certificates/import", &json!({ "chain": chain, "key": another }));
    assert_eq!(answer.status, 409, "{answer:?}");
    let secret = key.lines().nth(1).unwrap();
    assert!(!edge.stderr().contains(secret) && !answer.body.contains(secret));
}
