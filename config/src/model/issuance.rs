//! Who makes certificates, and which.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::value::{HostPattern, Name, Secret};

#[derive(Clone, Debug, PartialEq)]
pub enum Issuer {
    /// Embedded CA in the state directory: development, tests, the demo.
    Internal,
    /// A CA that speaks ACME (RFC 8555).
    Acme(Box<AcmeIssuer>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct AcmeIssuer {
    /// URL of the directory: `https://`, or `http://` to a loopback address.
    pub directory: String,
    /// Contact of the account, without `mailto:`.
    pub email: Option<Secret>,
    /// Profile of certificates that name none themselves; `None`: the CA's default.
    pub profile: Option<String>,
    /// External account binding (RFC 8555 §7.3.4), used once, at registration.
    pub eab: Option<Eab>,
    /// PEM file of the roots that are trusted for the API of `directory` and `staging`, instead
    /// of the system's.
    pub roots: Option<PathBuf>,
    pub challenge: Challenge,
    /// Kind of key of certificates that name none themselves.
    pub key: KeyType,
    /// Issuer that is asked when this one cannot; never leads back here.
    pub fallback: Option<Name>,
    /// Directory for dry runs after a failed try. Default: Let's Encrypt's where `directory` is
    /// its production, else none.
    pub staging: Option<String>,
    pub limits: OrderLimits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eab {
    pub key_id: String,
    /// base64url, valid: it was decoded when it was read.
    pub hmac_key: Secret,
}

impl Eab {
    /// The MAC key itself. Never for a log, an error or an API.
    pub fn mac_key(&self) -> Vec<u8> {
        decode_mac_key(self.hmac_key.expose()).unwrap_or_default()
    }
}

/// base64url (RFC 4648 §5), with or without padding: CAs show it in both ways.
pub(crate) fn decode_mac_key(text: &str) -> Option<Vec<u8>> {
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::URL_SAFE, lenient);
    engine.decode(text).ok()
}

/// How the CA checks that a host is ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Challenge {
    /// RFC 8555 §8.3: the CA asks on port 80.
    #[default]
    Http01,
    /// RFC 8737: the CA asks on port 443, for where port 80 is closed.
    TlsAlpn01,
}

/// Kind of a certificate's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// ECDSA.
    #[default]
    P256,
    Rsa2048,
}

/// What an issuer is asked for, at most. The defaults stay below Let's Encrypt's rate limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderLimits {
    /// Certificates for one exact set of names in 7 days. Default 4.
    pub certificates_per_week: u32,
    /// Certificates for one exact set of names in an hour. Default 1.
    pub certificates_per_hour: u32,
    /// Certificates for names of one registered domain in 7 days, renewals not counted.
    /// Default 50.
    pub domain_per_week: u32,
    /// Orders of the account in 3 hours. Default 300.
    pub orders_per_3h: u32,
    /// Failed validations of one host in an hour. Default 4.
    pub failures_per_hour: u32,
}

/// What a certificate entry asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    pub name: Name,
    pub source: CertificateSource,
    /// The tenant whose hosts it names; `None`: a certificate of the config file.
    pub tenant: Option<Name>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum CertificateSource {
    /// PEM files, watched. The names come from the certificate itself.
    Files { chain: PathBuf, key: PathBuf },
    Issued {
        names: Vec<HostPattern>,
        issuer: Name,
        /// `None`: the issuer's.
        profile: Option<String>,
        /// `None`: the issuer's.
        key: Option<KeyType>,
    },
}
