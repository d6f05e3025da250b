//! Certificate files: any bytes give a certificate or an error, and what is accepted is whole.

use acme::Certificate;

pub fn check(bytes: &[u8]) {
    let Ok(cert) = Certificate::from_bundle("fuzz", bytes) else { return };
    assert!(!cert.chain.is_empty());
    for now in [i64::MIN, 0, cert.not_before, cert.not_after, i64::MAX] {
        assert!((0.0..=1.0).contains(&cert.remaining(now)));
    }
    let _ = cert.is_signed_by(&cert.chain[0]);
    let _ = cert.is_authority();
}
