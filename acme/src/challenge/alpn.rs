//! The certificate that proves control of a name by TLS (TLS-ALPN-01, RFC 8737).

use std::net::IpAddr;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::error::Error;
use crate::name::canonical;

/// The protocol that a validating CA offers, and nothing else (RFC 8737 §3).
pub const ALPN_PROTOCOL: &[u8] = b"acme-tls/1";

/// A self-signed certificate for exactly `host` with the critical acmeIdentifier extension, which
/// holds `digest`, the SHA-256 of the key authorization. Its key is made for it and never stored.
/// Nobody looks at its validity (RFC 8737 §3).
///
/// # Errors
/// A name that no certificate can carry, a wildcard (RFC 8737 §3 has none), a failing key
/// generator.
pub fn alpn_certificate(host: &str, digest: [u8; 32]) -> Result<CertifiedKey, Error> {
    let host = canonical(host)?;
    if host.starts_with("*.") {
        return Err(Error::Name { name: host, why: "a wildcard cannot be validated by TLS" });
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![host])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "ACME challenge");
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = any_supported_type(&key).map_err(|why| Error::corrupt("challenge key", why))?;
    // Not `from_der`, whose check of the pair knows no critical acmeIdentifier.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// The server name that asks for a host (canonical): the name itself, or an address's name for
/// reverse look-ups (RFC 8738 §6).
pub fn server_name(host: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V4(v4)) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Ok(IpAddr::V6(v6)) => {
            let octets = v6.octets();
            let nibbles = octets.iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
        Err(_) => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    /// 1.3.6.1.5.5.7.1.31
    const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";

    #[test]
    fn the_certificate_is_as_the_rfc_has_it() {
        let digest: [u8; 32] = std::array::from_fn(|i| i as u8);
        let made = alpn_certificate("App.openclaw.example.", digest).unwrap();
        assert_eq!(made.cert.len(), 1);
        let (rest, cert) = X509Certificate::from_der(&made.cert[0]).unwrap();
        assert!(rest.is_empty());
        let names = &cert.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(*names, [GeneralName::DNSName("app.openclaw.example")]);
        let found: Vec<_> =
            cert.extensions().iter().filter(|e| e.oid.to_id_string() == ACME_IDENTIFIER).collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].critical);
        // DER: OCTET STRING of 32 bytes.
        assert_eq!(found[0].value[..2], [4, 32]);
        assert_eq!(found[0].value[2..], digest);
        // Self-signed, which CAs check.
        assert_eq!(cert.issuer(), cert.subject());
        cert.verify_signature(None).unwrap();
    }

    #[test]
    fn an_address_is_named_as_an_address() {
        let made = alpn_certificate("[2001:DB8::1]", [7; 32]).unwrap();
        let (_, cert) = X509Certificate::from_der(&made.cert[0]).unwrap();
        let names = &cert.subject_alternative_name().unwrap().unwrap().value.general_names;
        let octets: [u8; 16] = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert_eq!(*names, [GeneralName::IPAddress(&octets)]);
    }

    #[test]
    fn names_that_cannot_be_validated_are_refused() {
        for name in ["*.openclaw.example", "", "a b"] {
            assert!(alpn_certificate(name, [0; 32]).is_err(), "{name:?}");
        }
    }

    /// RFC 8738 §6 for the form; the example of RFC 3596 §2.5.
    #[test]
    fn an_address_is_asked_for_by_its_reverse_name() {
        assert_eq!(server_name("192.0.2.17"), "17.2.0.192.in-addr.arpa");
        let reverse = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa";
        assert_eq!(server_name("4321:0:1:2:3:4:567:89ab"), reverse);
        assert_eq!(server_name("app.openclaw.example"), "app.openclaw.example");
    }
}
