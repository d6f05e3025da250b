//! What a CA has sent, looked at before anybody is shown it.

use crate::name;
use crate::store::{Issuance, Stored, bundle};

/// Why a certificate is not taken, in a sentence.
pub enum Unusable {
    /// It will never be of use.
    Spent(String),
    /// It may be when a clock has been put right, ours or the CA's.
    Now(&'static str),
}

/// The chain as it may be stored and served.
///
/// # Errors
/// Not a chain, not for our key, not for these names, not valid now, or not in the
/// order in which clients need it.
pub fn verified(
    issuance: &Issuance<'_>,
    chain_pem: &str,
    key_pem: &str,
    names: &[String],
) -> Result<Stored, Unusable> {
    let now = issuance.at;
    let text = bundle(Some(issuance), chain_pem, key_pem);
    let stem = name::file_stem(names);
    let stored = Stored::parse("the CA's answer", text.into_bytes(), &stem)
        .map_err(|why| Unusable::Spent(why.to_string()))?;
    if let Some(missing) = names.iter().find(|name| !stored.covers(name)) {
        return Err(Unusable::Spent(format!("the certificate does not name {missing}")));
    }
    let certificate = &stored.certificate;
    let life = certificate.not_after - certificate.not_before;
    if certificate.not_after <= now + LEAST_LEFT.min(life / 4) {
        return Err(Unusable::Now("the certificate ends too soon (is the clock right?)"));
    }
    if certificate.not_before > now + CLOCK_SLACK {
        return Err(Unusable::Now("the certificate is not valid yet (is the clock right?)"));
    }
    if !certificate.in_order() {
        let why = "the chain is not in order: each certificate signs the one before";
        return Err(Unusable::Spent(why.to_owned()));
    }
    Ok(stored)
}

const LEAST_LEFT: i64 = 3600;
/// Clocks differ; CAs date back by up to an hour anyway.
const CLOCK_SLACK: i64 = 600;
