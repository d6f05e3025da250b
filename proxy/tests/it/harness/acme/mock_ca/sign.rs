//! The CA's keys: a root, an intermediate, and leaves for certificate requests.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::OffsetDateTime;

use super::answer::Problem;

pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

/// A request that is well formed and signed with its own key.
pub struct Request {
    params: CertificateSigningRequestParams,
    /// Lower case.
    pub names: Vec<String>,
}

impl Request {
    pub fn parse(der: &[u8]) -> Result<Request, Problem> {
        let bad = |why: String| Problem::new(400, "badCSR", why);
        let params =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
                .map_err(|e| bad(e.to_string()))?;
        let mut names = Vec::new();
        for name in &params.params.subject_alt_names {
            match name {
                SanType::DnsName(name) => names.push(name.as_str().to_ascii_lowercase()),
                other => return Err(bad(format!("not a DNS name: {other:?}"))),
            }
        }
        Ok(Request { params, names })
    }

    /// The public key as it is in a certificate, without the algorithm.
    pub fn key(&self) -> &[u8] {
        self.params.public_key.der_bytes()
    }
}

/// Chain in PEM, leaf first, and the leaf.
pub struct Signed {
    pub chain: String,
    pub leaf: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Authority {
        let params = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(params("mock CA root"), key()).unwrap();
        let intermediate = CertifiedIssuer::signed_by(params("mock CA 1"), key(), &root).unwrap();
        Authority { root, intermediate }
    }

    pub fn root(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    /// Takes names and key from the request and nothing else. Times in Unix seconds.
    pub fn sign(&self, request: &Request, not_before: i64, not_after: i64) -> Signed {
        let time = |at| OffsetDateTime::from_unix_timestamp(at).unwrap();
        let mut params = CertificateParams::new(request.names.clone()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.not_before = time(not_before);
        params.not_after = time(not_after);
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut serial = [0; 16];
        aws_lc_rs::rand::fill(&mut serial).unwrap();
        // Positive, and never shorter for a leading zero.
        serial[0] = serial[0] & 0x3f | 0x40;
        params.serial_number = Some(SerialNumber::from(serial.to_vec()));
        let leaf = params.signed_by(&request.params.public_key, &self.intermediate).unwrap();
        let chain = format!("{}{}", leaf.pem(), self.intermediate.pem());
        Signed { chain, leaf: leaf.der().clone() }
    }
}
