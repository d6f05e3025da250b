//! A pile of PEM blocks put into the order that clients are sent: leaf, then each one's issuer.

use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::certificate::{self, Certificate};
use crate::error::Error;

/// Certificates in one chain, at most.
const MAX_CHAIN: usize = 16;

/// The certificate that `key` belongs to with its issuers behind it, and what was wrong with it.
pub(super) fn assemble(chain: &[u8], key: &[u8]) -> Result<(Certificate, Vec<String>), Error> {
    let (chain, key) = (tidy(chain), tidy(key));
    let pile = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Error::corrupt(WHAT, format_args!("certificate: {e}")))?;
    if pile.is_empty() {
        return Err(Error::corrupt(WHAT, "no certificate in it"));
    }
    if pile.len() > MAX_CHAIN {
        return Err(Error::corrupt(WHAT, format_args!("more than {MAX_CHAIN} certificates")));
    }
    let key = certificate::read_key(WHAT, &key)?;
    let pair = KeyPair::try_from(&key).map_err(|_| {
        Error::corrupt(WHAT, "private key: neither RSA (2048 to 8192 bits) nor ECDSA nor Ed25519")
    })?;
    let (order, mut problems) = order(&pile, &pair.subject_public_key_info())?;
    if order.first() != Some(&0) || order.windows(2).any(|two| two[0] > two[1]) {
        problems.push("the chain was not in order, leaf first; now it is".to_owned());
    }
    let chain = order.iter().filter_map(|&index| pile.get(index).cloned()).collect();
    Ok((Certificate::from_der(WHAT, chain, key)?.with_pkcs8_key()?, problems))
}

/// Indices of the leaf and of its issuers, in the order of sending.
fn order(
    pile: &[CertificateDer<'_>],
    public_key: &[u8],
) -> Result<(Vec<usize>, Vec<String>), Error> {
    let parsed =
        pile.iter().map(|der| certificate::parse(WHAT, der)).collect::<Result<Vec<_>, _>>()?;
    let leaf = parsed
        .iter()
        .position(|one| one.public_key().raw == public_key)
        .ok_or(Error::KeyMismatch)?;
    let mut order = vec![leaf];
    let mut last = leaf;
    while !is_self_issued(&parsed[last]) {
        let issuer = parsed.iter().enumerate().position(|(index, one)| {
            !order.contains(&index) && one.subject() == parsed[last].issuer()
        });
        let Some(index) = issuer else { break };
        order.push(index);
        last = index;
    }
    let mut problems = Vec::new();
    if order.len() < pile.len() {
        let spare = pile.len() - order.len();
        problems.push(format!("{spare} more in it that are not of its chain; left out"));
    }
    if order.len() == 1 && !is_self_issued(&parsed[leaf]) {
        problems.push("it comes without its intermediate: many clients will refuse it".to_owned());
    }
    Ok((order, problems))
}

fn is_self_issued(one: &x509_parser::certificate::X509Certificate<'_>) -> bool {
    one.subject() == one.issuer()
}

/// Without byte order mark, and without blanks around lines, as pasted texts have them.
fn tidy(text: &[u8]) -> Vec<u8> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut tidied = Vec::with_capacity(text.len());
    for line in text.split(|&byte| byte == b'\n') {
        tidied.extend_from_slice(line.trim_ascii());
        tidied.push(b'\n');
    }
    tidied
}

/// The origin stands beside the message.
const WHAT: &str = "certificate";
