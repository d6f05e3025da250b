//! The configuration asks for something else than what serves.

use super::*;
use acme::keeper::{KeyKind, WantedCertificate};

/// From one CA to another and back: the old certificate serves until the new one is there, and
/// what is stored of the first is used again.
#[test]
fn another_issuer_and_back() {
    let (a, b) = (MockCa::start(), MockCa::start());
    let mut sim = Sim::start(&a, &[APP]).with_issuer("b", &b);
    sim.settle();
    let of_a = sim.serial(APP);
    b.down(&crate::harness::acme::mock_ca::Fault::html_502());
    sim.wanted.certificates[0].issuer = "b".to_owned();
    sim.want();
    sim.settle();
    assert_eq!((sim.serial(APP), b.issued().len()), (of_a.clone(), 0), "A's serves");
    b.heal();
    sim.pass(10 * MINUTE);
    assert_eq!((a.orders().len(), b.issued().len()), (1, 1));
    assert_ne!(sim.serial(APP), of_a);
    assert_eq!(b.orders()[0].replaces, None);

    sim.wanted.certificates[0].issuer = "main".to_owned();
    sim.want();
    sim.settle();
    assert_eq!(sim.serial(APP), of_a, "it is still good");
    sim.restart();
    sim.pass(DAY);
    assert_eq!((sim.serial(APP), a.orders().len(), b.orders().len()), (of_a, 1, 1));
}

/// The directory of the same issuer changes.
#[test]
fn another_directory_under_the_same_name() {
    let (a, b) = (MockCa::start(), MockCa::start());
    let mut sim = Sim::start(&a, &[APP, API]);
    sim.settle();
    sim = sim.with_issuer("main", &b);
    sim.want();
    sim.settle();
    assert_eq!((a.orders().len(), b.issued().len()), (2, 2));
}

#[test]
fn another_profile_or_kind_of_key() {
    let ca = MockCa::with(|knobs| {
        knobs.profiles.insert("shortlived".into(), 6 * DAY);
    });
    let mut sim = Sim::start(&ca, &[APP]);
    sim.settle();
    let change = |sim: &mut Sim, change: &dyn Fn(&mut WantedCertificate)| {
        change(&mut sim.wanted.certificates[0]);
        sim.want();
        sim.settle();
        // At most one certificate for these names in an hour.
        sim.pass(HOUR + 1);
    };
    change(&mut sim, &|wanted| wanted.profile = Some("shortlived".to_owned()));
    assert_eq!(ca.issued().len(), 2);
    assert_eq!(ca.issued()[1].profile.as_deref(), Some("shortlived"));
    change(&mut sim, &|wanted| wanted.key = KeyKind::Rsa2048);
    assert_eq!(ca.issued().len(), 3);
    let leaf = ca.issued()[2].leaf.clone();
    assert_eq!(leaf, sim.row(APP).leaf().unwrap().certificate.chain[0]);
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let key = parsed.public_key().parsed().unwrap();
    assert!(matches!(key, x509_parser::public_key::PublicKey::RSA(_)));
    // Nothing changes, nothing is ordered; neither after a restart.
    change(&mut sim, &|_| ());
    sim.restart();
    sim.pass(HOUR);
    assert_eq!(ca.issued().len(), 3);
}

/// An imported certificate has the key that it has.
#[test]
fn an_imported_certificate_is_left_as_it_is() {
    let ca = MockCa::start();
    let mut sim = Sim::idle(&ca);
    sim.wanted.certificates.push(WantedCertificate {
        key: KeyKind::Rsa2048,
        profile: Some("shortlived".to_owned()),
        ..sim::certificate(APP)
    });
    let made = rcgen::generate_simple_self_signed([APP.to_owned()]).unwrap();
    let folder = sim.state_file("certs");
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
    std::fs::write(folder.join("imported.pem"), text).unwrap();
    sim.run();
    sim.settle();
    assert_eq!((ca.orders().len(), sim.row(APP).serving.len()), (0, 1));
}
