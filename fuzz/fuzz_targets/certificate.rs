//! Certificate files: any bytes give a certificate or an error, and what is accepted is whole.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(cert) = acme::Certificate::from_bundle("fuzz", bytes) {
        assert!(!cert.chain.is_empty());
        assert!((0.0..=1.0).contains(&cert.remaining(0)));
        let _ = cert.is_signed_by(&cert.chain[0]);
    }
});
