//! The internal issuer: a certificate authority of our own, for development, tests and the demo.
//!
//! Its directory holds `ca-and-key.pem` (the authority), `ca.pem` (its certificate alone, for
//! clients to trust) and `issued/` (one file per set of names: chain, then key).

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use time::OffsetDateTime;

use crate::certificate::Certificate;
use crate::error::Error;
use crate::name;
use crate::storage::{FileStorage, Storage};

/// The folder of the internal authority in a state directory.
pub const FOLDER: &str = "internal";

/// The authority and what it has issued.
pub struct InternalCa {
    storage: FileStorage,
    authority: Authority,
    ca_path: PathBuf,
    warnings: Vec<String>,
}

/// A leaf certificate with its key.
pub struct Issued {
    /// The leaf alone: clients have the authority already.
    pub chain_pem: String,
    pub key_pem: String,
    /// Canonical, sorted.
    pub names: Vec<String>,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
    /// For the log: what was wrong with the stored one, or why this one could not be stored (it
    /// serves all the same).
    pub warning: Option<String>,
}

impl InternalCa {
    /// Loads the authority kept in `dir`, or makes one. A damaged or expired one is moved aside,
    /// never overwritten, and [`warnings`](Self::warnings) says so: clients must be given the new
    /// `ca.pem`.
    pub fn open(dir: &Path) -> Result<InternalCa, Error> {
        InternalCa::open_at(dir, OffsetDateTime::now_utc())
    }

    /// The certificate that clients must trust, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.authority.cert_pem
    }

    /// The file with [`ca_pem`](Self::ca_pem).
    pub fn ca_path(&self) -> &Path {
        &self.ca_path
    }

    /// What was found wrong while opening, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The stored certificate for exactly these names (any order and spelling) while it has a
    /// third of its life left, else a new one.
    pub fn load_or_issue(&self, names: &[String]) -> Result<Issued, Error> {
        self.load_or_issue_at(names, OffsetDateTime::now_utc())
    }

    /// A new certificate for these names, replacing a stored one.
    pub fn issue(&self, names: &[String]) -> Result<Issued, Error> {
        let names = name::canonical_set(names)?;
        self.issue_and_store(&names, OffsetDateTime::now_utc(), None)
    }

    fn open_at(dir: &Path, now: OffsetDateTime) -> Result<InternalCa, Error> {
        let storage = FileStorage::open(dir)?;
        let mut warnings = storage.warnings().to_vec();
        let authority = match Authority::load(&storage, now) {
            Ok(Some(authority)) => authority,
            _ => Authority::load_or_make(&storage, now, &mut warnings)?,
        };
        if authority.cert.not_before > now.unix_timestamp() {
            warnings.push("the internal authority is not valid yet: is the clock right?".into());
        }
        let ca_path = storage.path(CA_CERT)?;
        if !matches!(storage.load(CA_CERT), Ok(Some(pem)) if pem == authority.cert_pem.as_bytes())
            && let Err(e) = storage.store(CA_CERT, authority.cert_pem.as_bytes())
        {
            warnings.push(format!("clients cannot be given the authority: {e}"));
        }
        if let Err(e) = prune(&storage, now) {
            warnings.push(format!("old certificates are not cleared away: {e}"));
        }
        Ok(InternalCa { storage, authority, ca_path, warnings })
    }

    fn load_or_issue_at(&self, names: &[String], now: OffsetDateTime) -> Result<Issued, Error> {
        let names = name::canonical_set(names)?;
        if let Ok(Some(issued)) = self.stored(&names, now) {
            return Ok(issued);
        }
        // Several processes may find the same gap: one fills it, the others read what it wrote.
        let lock = self.storage.lock();
        let warning = match self.stored(&names, now) {
            Ok(Some(issued)) => return Ok(issued),
            Ok(None) => None,
            Err(e) => Some(format!("replaced: {e}")),
        };
        let issued = self.issue_and_store(&names, now, warning);
        drop(lock);
        issued
    }

    /// What is stored for these names, if it can serve: whole, ours, not near its end.
    fn stored(&self, names: &[String], now: OffsetDateTime) -> Result<Option<Issued>, Error> {
        let key = storage_key(names);
        let Some(bytes) = self.storage.load(&key)? else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|e| Error::corrupt(&key, e))?;
        let split = text.find(KEY_START).ok_or_else(|| Error::corrupt(&key, "no private key"))?;
        let (chain_pem, key_pem) = text.split_at(split);
        let cert = Certificate::from_pem(&key, chain_pem.as_bytes(), key_pem.as_bytes())?;
        if cert.chain.len() != 1 {
            return Err(Error::corrupt(&key, "not one certificate"));
        }
        if !cert.is_signed_by(&self.authority.cert.chain[0]) {
            return Err(Error::corrupt(&key, "damaged, or of a former authority"));
        }
        let now = now.unix_timestamp();
        let same_names = name::canonical_set(&cert.names).is_ok_and(|found| found == names);
        if !same_names || !cert.is_valid_at(now) || cert.remaining(now) < RENEW_BELOW {
            return Ok(None);
        }
        Ok(Some(Issued {
            names: names.to_vec(),
            not_before: cert.not_before,
            not_after: cert.not_after,
            chain_pem: chain_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            warning: None,
        }))
    }

    /// A certificate that cannot be stored still serves until the next start.
    fn issue_and_store(
        &self,
        names: &[String],
        now: OffsetDateTime,
        warning: Option<String>,
    ) -> Result<Issued, Error> {
        let mut issued = self.authority.sign(names, now)?;
        issued.warning = warning;
        let bundle = format!("{}{}", issued.chain_pem, issued.key_pem);
        if let Err(e) = self.storage.store(&storage_key(names), bundle.as_bytes()) {
            issued.warning = Some(format!("not kept for the next start: {e}"));
        }
        Ok(issued)
    }
}

/// Never shows keys.
impl fmt::Debug for InternalCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InternalCa").field("ca_path", &self.ca_path).finish_non_exhaustive()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("names", &self.names)
            .field("not_after", &self.not_after)
            .field("warning", &self.warning)
            .finish_non_exhaustive()
    }
}

/// The key that signs, with its self-signed certificate.
struct Authority {
    cert: Certificate,
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn load(storage: &FileStorage, now: OffsetDateTime) -> Result<Option<Authority>, Error> {
        match storage.load(CA_AND_KEY)? {
            Some(bundle) => Authority::parse(bundle, now).map(Some),
            None => Ok(None),
        }
    }

    /// Under the lock, so that of several processes one makes it and the others find it.
    fn load_or_make(
        storage: &FileStorage,
        now: OffsetDateTime,
        warnings: &mut Vec<String>,
    ) -> Result<Authority, Error> {
        let _lock = storage.lock()?;
        match Authority::load(storage, now) {
            Ok(Some(authority)) => return Ok(authority),
            Ok(None) => {}
            Err(e) if e.is_corrupt() => {
                let aside = storage.set_aside(CA_AND_KEY)?;
                warnings.push(format!(
                    "the internal authority was unusable ({e}); it is kept as {aside}, and \
                     clients must trust the new {CA_CERT}"
                ));
            }
            Err(e) => return Err(e),
        }
        let bundle = new_authority(now)?;
        storage.store(CA_AND_KEY, bundle.as_bytes())?;
        Authority::parse(bundle.into_bytes(), now)
    }

    fn parse(bundle: Vec<u8>, now: OffsetDateTime) -> Result<Authority, Error> {
        let text = String::from_utf8(bundle).map_err(|e| Error::corrupt(CA_AND_KEY, e))?;
        let cert = Certificate::from_bundle(CA_AND_KEY, text.as_bytes())?;
        let [root] = cert.chain.as_slice() else {
            return Err(Error::corrupt(CA_AND_KEY, "not one certificate"));
        };
        if !cert.is_authority() || !cert.is_signed_by(root) {
            return Err(Error::corrupt(CA_AND_KEY, "not a certificate signed by its own key"));
        }
        // One that is not valid yet stays: the clock may be wrong, as it often is at boot.
        if cert.not_after < now.unix_timestamp() {
            return Err(Error::corrupt(CA_AND_KEY, "expired"));
        }
        let key = KeyPair::try_from(&cert.key)?;
        let issuer = Issuer::from_ca_cert_der(root, key)?;
        let split = text.find(KEY_START).unwrap_or(text.len());
        Ok(Authority { cert_pem: text[..split].to_owned(), cert, issuer })
    }

    fn sign(&self, names: &[String], now: OffsetDateTime) -> Result<Issued, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = common_name(names.first().map_or("", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let authority_end = OffsetDateTime::from_unix_timestamp(self.cert.not_after);
        params.not_before = now - CLOCK_SKEW;
        params.not_after = authority_end.map_or(now + LEAF_LIFE, |end| end.min(now + LEAF_LIFE));
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            chain_pem: unix_lines(&cert.pem()),
            key_pem: unix_lines(&key.serialize_pem()),
            names: names.to_vec(),
            not_before: params.not_before.unix_timestamp(),
            not_after: params.not_after.unix_timestamp(),
            warning: None,
        })
    }
}

/// PEM of a new authority: certificate, then key.
fn new_authority(now: OffsetDateTime) -> Result<String, Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = common_name(CA_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + CA_LIFE;
    let cert = params.self_signed(&key)?;
    Ok(unix_lines(&format!("{}{}", cert.pem(), key.serialize_pem())))
}

/// Files of names that are no longer configured stay until they have certainly expired.
fn prune(storage: &FileStorage, now: OffsetDateTime) -> Result<(), Error> {
    let oldest = SystemTime::from(now) - LEAF_LIFE - PRUNE_GRACE;
    let stale: Vec<String> = storage
        .list(ISSUED)?
        .into_iter()
        .filter(|(_, modified)| *modified < oldest)
        .map(|(key, _)| key)
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    let _lock = storage.lock()?;
    stale.iter().try_for_each(|key| storage.remove(key))
}

fn storage_key(names: &[String]) -> String {
    format!("{ISSUED}/{}.pem", name::file_stem(names))
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // RFC 5280 appendix A: at most 64 characters. The names that count are the alternative ones.
    if !text.is_empty() && text.len() <= 64 {
        name.push(DnType::CommonName, text);
    }
    name
}

fn unix_lines(pem: &str) -> String {
    pem.replace("\r\n", "\n")
}

const CA_NAME: &str = "openclaw-edge internal CA";
const CA_AND_KEY: &str = "ca-and-key.pem";
const CA_CERT: &str = "ca.pem";
const ISSUED: &str = "issued";
const KEY_START: &str = "-----BEGIN PRIVATE KEY-----";

const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());
const LEAF_LIFE: Duration = Duration::from_secs(90 * DAY.as_secs());
const PRUNE_GRACE: Duration = Duration::from_secs(10 * DAY.as_secs());
/// Clients whose clock is behind accept a new certificate too.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
/// Part of the life left below which a new one is issued.
const RENEW_BELOW: f64 = 1.0 / 3.0;

#[cfg(test)]
mod tests;
