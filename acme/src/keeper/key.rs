//! A new key with its certificate signing request.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
    RsaKeySize,
};

use super::wanted::KeyKind;
use crate::error::Error;

/// What is sent to the CA, and what is kept.
pub struct NewKey {
    /// PKCS#8.
    pub pem: String,
    /// DER, base64url.
    pub csr: String,
}

impl NewKey {
    /// A key for these names. The request has no subject: the names are what counts, and CAs
    /// ignore the rest.
    pub fn make(kind: KeyKind, names: &[String]) -> Result<NewKey, Error> {
        let key = match kind {
            KeyKind::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
        };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key)?;
        let pem = key.serialize_pem().replace("\r\n", "\n");
        Ok(NewKey { pem, csr: URL_SAFE_NO_PAD.encode(csr.der()) })
    }
}

/// The DER that [`NewKey::csr`] stands for.
pub fn csr_der(csr: &str) -> Result<Vec<u8>, Error> {
    URL_SAFE_NO_PAD.decode(csr).map_err(|e| Error::corrupt("stored signing request", e))
}
