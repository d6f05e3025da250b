//! Files of other programs (PEM, Secrets as YAML or JSON, `acme.json`): any bytes give
//! certificates or a sentence, and what is taken is whole.

use std::fs;

use acme::import::read;

pub fn check(bytes: &[u8]) {
    let path = std::env::temp_dir().join(format!("openclaw-edge-fuzz-{}", name()));
    if fs::write(&path, bytes).is_err() {
        return;
    }
    let read = read(&path, None, 1_800_000_000);
    let _ = fs::remove_file(&path);
    for found in read.into_iter().flat_map(|imported| imported.found) {
        assert!(!found.certificate.chain.is_empty());
        let key = found.certificate.key_pem().unwrap_or_default();
        let again = acme::Certificate::from_pem(
            "again",
            found.certificate.chain_pem().as_bytes(),
            key.as_bytes(),
        );
        assert_eq!(again.unwrap_or_else(|why| panic!("{why}")).names, found.certificate.names);
    }
}

/// One file per thread: tests and fuzzers run side by side.
fn name() -> String {
    format!("{}-{:?}", std::process::id(), std::thread::current().id()).replace(['(', ')'], "")
}
