//! A certificate that nobody trusts, for a host that has none yet: with it no handshake fails
//! without a word, and a client that insists can talk to the host before the CA has answered.

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivateKeyDer;
use time::{Duration, OffsetDateTime};

use crate::certificate::Certificate;
use crate::error::Error;

/// Self-signed, for one host, for a year from `now` (Unix seconds). Kept in memory only.
pub fn self_signed(host: &str, now: i64) -> Result<Certificate, Error> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "openclaw-edge placeholder");
    let now = OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = now - Duration::DAY;
    params.not_after = now + Duration::days(365);
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let chain = vec![params.self_signed(&pair)?.der().clone()];
    Ok(Certificate {
        chain,
        key: PrivateKeyDer::Pkcs8(pair.serialize_der().into()),
        names: vec![host.to_owned()],
        not_before: params.not_before.unix_timestamp(),
        not_after: params.not_after.unix_timestamp(),
    })
}
