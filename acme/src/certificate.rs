//! A certificate chain with its private key, parsed and checked to belong together.

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::error::Error;

/// Chain and key that match, with what the leaf says of itself.
pub struct Certificate {
    /// Leaf first, as sent in the handshake. Never empty.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// Subject alternative names of the leaf, as written there: DNS names and IP addresses.
    pub names: Vec<String>,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
}

impl Certificate {
    /// From two PEM texts. PKCS#8, PKCS#1 and SEC 1 keys; `what` names the source in errors.
    pub fn from_pem(what: &str, chain: &[u8], key: &[u8]) -> Result<Certificate, Error> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Error::corrupt(what, format_args!("certificate: {e}")))?;
        if chain.is_empty() {
            return Err(Error::corrupt(what, "no certificate in it"));
        }
        Certificate::from_der(what, chain, read_key(what, key)?)
    }

    /// From parsed parts, leaf first.
    pub fn from_der(
        what: &str,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Certificate, Error> {
        let Some(leaf) = chain.first() else {
            return Err(Error::corrupt(what, "no certificate in it"));
        };
        let facts = Leaf::read(what, leaf)?;
        facts.check_key(what, &key)?;
        let Leaf { names, not_before, not_after, .. } = facts;
        Ok(Certificate { chain, key, names, not_before, not_after })
    }

    /// From one PEM text that holds both, in any order.
    pub fn from_bundle(what: &str, bundle: &[u8]) -> Result<Certificate, Error> {
        Certificate::from_pem(what, bundle, bundle)
    }

    /// The same with its key as PKCS#8, the one form that is kept and written: cert-manager's
    /// Secrets hold PKCS#1, OpenSSL's old tools wrote SEC 1.
    pub fn with_pkcs8_key(mut self) -> Result<Certificate, Error> {
        if !matches!(self.key, PrivateKeyDer::Pkcs8(_)) {
            self.key = PrivateKeyDer::Pkcs8(to_pkcs8(&self.key)?);
        }
        Ok(self)
    }

    /// Leaf first, as PEM with `\n` at the ends of lines.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    /// The key as PKCS#8 PEM. Secret.
    pub fn key_pem(&self) -> Result<String, Error> {
        let der = match &self.key {
            PrivateKeyDer::Pkcs8(der) => der.clone_key(),
            other => to_pkcs8(other)?,
        };
        Ok(pem("PRIVATE KEY", der.secret_pkcs8_der()))
    }

    /// The leaf carries the signature of `authority`, itself a DER certificate.
    pub fn is_signed_by(&self, authority: &CertificateDer<'_>) -> bool {
        let (Some(leaf), Ok(authority)) = (self.chain.first(), parse("authority", authority))
        else {
            return false;
        };
        parse("leaf", leaf)
            .is_ok_and(|leaf| leaf.verify_signature(Some(authority.public_key())).is_ok())
    }

    /// Each certificate of the chain carries the signature of the next one (RFC 8446 §4.4.2).
    pub fn in_order(&self) -> bool {
        self.chain.windows(2).all(|pair| {
            let (Ok(signed), Ok(signer)) = (parse("chain", &pair[0]), parse("chain", &pair[1]))
            else {
                return false;
            };
            signed.verify_signature(Some(signer.public_key())).is_ok()
        })
    }

    /// The leaf may sign other certificates.
    pub fn is_authority(&self) -> bool {
        self.chain.first().is_some_and(|leaf| parse("leaf", leaf).is_ok_and(|leaf| leaf.is_ca()))
    }

    /// Of the leaf: hexadecimal, upper case, as `openssl x509 -serial` shows it.
    pub fn serial(&self) -> Option<String> {
        serial(&self.chain)
    }

    /// A copy, key and all: said out loud because keys are not to lie about.
    pub fn clone_all(&self) -> Certificate {
        Certificate {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            names: self.names.clone(),
            not_before: self.not_before,
            not_after: self.not_after,
        }
    }

    /// Part of the lifetime still ahead at `now` (Unix seconds): 0 when over, 1 before it starts.
    pub fn remaining(&self, now: i64) -> f64 {
        let life = self.not_after.saturating_sub(self.not_before).max(1);
        (self.not_after.saturating_sub(now) as f64 / life as f64).clamp(0.0, 1.0)
    }

    pub fn is_valid_at(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// The serial number of a chain's leaf: hexadecimal, upper case.
pub fn serial(chain: &[CertificateDer<'_>]) -> Option<String> {
    let leaf = parse("leaf", chain.first()?).ok()?;
    Some(leaf.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect())
}

/// Never shows the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("names", &self.names)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What is read off the first certificate of a chain.
struct Leaf {
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
    /// DER of the SubjectPublicKeyInfo.
    public_key: Vec<u8>,
}

impl Leaf {
    fn read(what: &str, der: &CertificateDer<'_>) -> Result<Leaf, Error> {
        let cert = parse(what, der)?;
        let alternative = cert
            .subject_alternative_name()
            .map_err(|e| Error::corrupt(what, format_args!("alternative names: {e}")))?;
        let names = alternative
            .map(|found| found.value.general_names.iter().filter_map(name_text).collect())
            .unwrap_or_default();
        Ok(Leaf {
            names,
            not_before: cert.validity().not_before.timestamp(),
            not_after: cert.validity().not_after.timestamp(),
            public_key: cert.public_key().raw.to_vec(),
        })
    }

    fn check_key(&self, what: &str, key: &PrivateKeyDer<'_>) -> Result<(), Error> {
        let pair = KeyPair::try_from(key)
            .map_err(|e| Error::corrupt(what, format_args!("private key: {e}")))?;
        if pair.subject_public_key_info() == self.public_key {
            Ok(())
        } else {
            Err(Error::KeyMismatch)
        }
    }
}

/// The first private key of a PEM text: PKCS#8, PKCS#1 or SEC 1, unencrypted.
pub(crate) fn read_key(what: &str, text: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(text).map_err(|e| {
        // RFC 7468 §11, and the "Proc-Type: 4,ENCRYPTED" of OpenSSL's old format.
        if text.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) {
            let why = "the private key is encrypted: decrypt it first, as with `openssl pkey`";
            return Error::corrupt(what, why);
        }
        match e {
            pem::Error::NoItemsFound => Error::corrupt(what, "no private key in it"),
            e => Error::corrupt(what, format_args!("private key: {e}")),
        }
    })
}

fn to_pkcs8(key: &PrivateKeyDer<'_>) -> Result<PrivatePkcs8KeyDer<'static>, Error> {
    let unusable = |_| Error::corrupt("private key", "of an unknown kind or size");
    let der = key.secret_der();
    if let PrivateKeyDer::Pkcs1(_) = key {
        let pair = RsaKeyPair::from_der(der).map_err(|_| unusable(Unspecified))?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(unusable)?;
        return Ok(PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec()));
    }
    let curves = [
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &ECDSA_P384_SHA384_ASN1_SIGNING,
        &ECDSA_P521_SHA512_ASN1_SIGNING,
    ];
    let pair = curves
        .into_iter()
        .find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, der).ok())
        .ok_or(Unspecified)
        .map_err(unusable)?;
    let document = pair.to_pkcs8v1().map_err(unusable)?;
    Ok(PrivatePkcs8KeyDer::from(document.as_ref().to_vec()))
}

/// RFC 7468: 64 characters a line.
fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

pub(crate) fn parse<'a>(
    what: &str,
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(der.as_ref()) {
        Ok(([], cert)) => Ok(cert),
        Ok(_) => Err(Error::corrupt(what, "bytes after the certificate")),
        Err(e) => Err(Error::corrupt(what, format_args!("certificate: {e}"))),
    }
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(dns) => Some(dns.to_ascii_lowercase()),
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets).ok().map(|o| IpAddr::from(o).to_string()),
            16 => <[u8; 16]>::try_from(*octets).ok().map(|o| IpAddr::from(o).to_string()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_matching_pair_is_read_with_its_names() {
        let (chain, key) = self_signed(&["App.openclaw.example", "127.0.0.1", "::1"]);
        let cert = Certificate::from_pem("test", chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(cert.names, ["app.openclaw.example", "127.0.0.1", "::1"]);
        assert_eq!(cert.chain.len(), 1);
        assert!(cert.not_before < cert.not_after);
        assert!(!format!("{cert:?}").contains("key"));
    }

    #[test]
    fn a_bundle_may_have_the_key_first() {
        let (chain, key) = self_signed(&["a.example"]);
        let bundle = format!("{key}{chain}");
        assert!(Certificate::from_bundle("test", bundle.as_bytes()).is_ok());
    }

    #[test]
    fn the_key_of_another_certificate_is_refused() {
        let (chain, _) = self_signed(&["a.example"]);
        let (_, key) = self_signed(&["a.example"]);
        let refused = Certificate::from_pem("test", chain.as_bytes(), key.as_bytes());
        assert!(matches!(refused, Err(Error::KeyMismatch)));
    }

    #[test]
    fn no_certificate_or_no_key_is_an_error() {
        let (chain, key) = self_signed(&["a.example"]);
        for (chain, key) in [("", key.as_str()), (&chain, ""), (&key, &key), (&chain, &chain)] {
            let refused = Certificate::from_pem("test", chain.as_bytes(), key.as_bytes());
            assert!(refused.is_err_and(|e| e.is_corrupt()));
        }
    }

    /// RSA and the curves in every form that keys are found in.
    #[test]
    fn every_form_of_a_key_is_read_and_becomes_pkcs8() {
        let p256 = |key: &KeyPair| {
            let pair = EcdsaKeyPair::from_private_key_der(
                &ECDSA_P256_SHA256_ASN1_SIGNING,
                &key.serialize_der(),
            );
            let der: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_> =
                pair.unwrap().private_key().as_der().unwrap();
            pem("EC PRIVATE KEY", der.as_ref())
        };
        // RFC 5208: the octets of RFC 8017 follow 26 bytes of wrapping.
        let rsa = |key: &KeyPair| pem("RSA PRIVATE KEY", &key.serialize_der()[26..]);
        let plain = |key: &KeyPair| key.serialize_pem();
        type Write = fn(&KeyPair) -> String;
        let forms = [
            (&rcgen::PKCS_ECDSA_P256_SHA256, plain as Write),
            (&rcgen::PKCS_ECDSA_P256_SHA256, p256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, plain),
            (&rcgen::PKCS_ED25519, plain),
            (&rcgen::PKCS_RSA_SHA256, plain),
            (&rcgen::PKCS_RSA_SHA256, rsa),
        ];
        for (kind, written) in forms {
            let key = KeyPair::generate_for(kind).unwrap();
            let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            let chain = params.self_signed(&key).unwrap().pem();
            let cert = Certificate::from_pem("t", chain.as_bytes(), written(&key).as_bytes());
            let cert = cert.unwrap().with_pkcs8_key().unwrap();
            assert!(matches!(cert.key, PrivateKeyDer::Pkcs8(_)));
            let again = format!("{}{}", cert.key_pem().unwrap(), cert.chain_pem());
            let again = Certificate::from_bundle("t", again.as_bytes()).unwrap();
            assert_eq!(again.chain, cert.chain);
            assert!(rustls::crypto::aws_lc_rs::sign::any_supported_type(&again.key).is_ok());
        }
    }

    #[test]
    fn an_encrypted_key_is_named_as_such() {
        let (chain, _) = self_signed(&["a.example"]);
        let key = pem("ENCRYPTED PRIVATE KEY", b"x");
        let refused = Certificate::from_pem("t", chain.as_bytes(), key.as_bytes());
        assert!(refused.unwrap_err().to_string().contains("is encrypted"));
    }

    #[test]
    fn remaining_life_is_a_fraction() {
        let (chain, key) = self_signed(&["a.example"]);
        let mut cert = Certificate::from_pem("test", chain.as_bytes(), key.as_bytes()).unwrap();
        (cert.not_before, cert.not_after) = (100, 200);
        assert_eq!(cert.remaining(50), 1.0);
        assert_eq!(cert.remaining(150), 0.5);
        assert_eq!(cert.remaining(201), 0.0);
        assert!(cert.is_valid_at(100) && cert.is_valid_at(200));
        assert!(!cert.is_valid_at(99) && !cert.is_valid_at(201));
    }
}
