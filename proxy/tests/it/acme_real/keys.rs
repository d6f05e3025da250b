//! What is in a certificate.

use x509_parser::public_key::PublicKey;

use super::*;

#[test]
fn kinds_of_keys_and_names_in_groups() {
    let stage = Stage::new();
    let pebble = stage.pebble();
    let more = format!(
        "certificates:\n  pair: {{ names: [{APP}, {API}] }}\n  \
         curve: {{ names: [{PROXY}], key: p256 }}\n"
    );
    let conf = ordering(stage.entries(&HOSTS, &more), &pebble, "key: rsa2048");
    let edge = stage.start(&conf);
    let trusted = pebble.trusted(edge.https);
    let shown = wait_trusted(&edge, &trusted, &HOSTS);
    assert_eq!(shown[0], shown[1], "one certificate for the pair");
    assert_eq!(names(&shown[0]), [API, APP]);
    assert_eq!((names(&shown[2]), names(&shown[3])), (vec![PROXY.into()], vec![NANGO.into()]));
    let bits: Vec<Option<usize>> = shown.iter().map(rsa_bits).collect();
    assert_eq!(bits, [Some(2048), Some(2048), None, Some(2048)]);
    trusted.connect(APP).get(APP, "/").assert_ok("ok");
    wait_at_rest(&edge, &["pair", "curve", NANGO]);
    assert_eq!((pebble.orders(), pebble.issued()), (3, 3));
}

/// None: an elliptic curve.
fn rsa_bits(leaf: &CertificateDer<'static>) -> Option<usize> {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
    match leaf.public_key().parsed().unwrap() {
        PublicKey::RSA(key) => Some(key.key_size()),
        PublicKey::EC(_) => None,
        other => panic!("{other:?}"),
    }
}
