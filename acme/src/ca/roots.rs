//! Which authorities may vouch for the CA's own API.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// A TLS client that trusts the roots in `file` and no others; without a file those of the
/// system, and where it has none those of Mozilla as of this build. Reads files: may block.
pub(super) fn tls_client(file: Option<&Path>) -> Result<ClientConfig, String> {
    let roots = match file {
        Some(file) => from_file(file)?,
        None => of_the_system(),
    };
    // Named, not the process-wide default: that panics when two providers are compiled in.
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|e| format!("no TLS client: {e}"))
}

fn from_file(file: &Path) -> Result<RootCertStore, String> {
    let unusable = |why: &dyn std::fmt::Display| format!("roots {}: {why}", file.display());
    // To open a FIFO would be to wait for its writer.
    if !std::fs::metadata(file).map_err(|e| unusable(&e))?.is_file() {
        return Err(unusable(&"not a file"));
    }
    let pem = std::fs::read(file).map_err(|e| unusable(&e))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| unusable(&e))?;
        roots.add(certificate).map_err(|e| unusable(&e))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"no certificate in it"));
    }
    Ok(roots)
}

fn of_the_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a root certificate of the system cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn without_a_file_there_are_always_roots() {
        assert!(tls_client(None).is_ok());
        assert!(!of_the_system().is_empty());
    }

    #[test]
    fn a_file_is_read_whole_or_refused_by_name() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let missing = tls_client(Some(Path::new("/nowhere/roots.pem"))).unwrap_err();
        assert!(missing.contains("/nowhere/roots.pem"), "{missing}");
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let pipe = tls_client(Some(&pipe)).unwrap_err();
        assert!(pipe.contains("not a file"), "{pipe}");
        let empty = tls_client(Some(file.path())).unwrap_err();
        assert!(empty.contains("no certificate"), "{empty}");
        for _ in 0..2 {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            file.write_all(params.self_signed(&key).unwrap().pem().as_bytes()).unwrap();
        }
        assert_eq!(from_file(file.path()).unwrap().len(), 2);
        file.write_all(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(from_file(file.path()).is_err());
    }
}
