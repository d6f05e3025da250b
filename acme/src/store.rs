//! The records of certificates in the state directory: accounts, chains with their keys, orders
//! under way, the ledger.
//!
//! Whatever is damaged is set aside, reported and treated as absent: a broken file is never a
//! reason not to start, and never a reason to order again what can be had from another file.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ca::{CertId, StoredAccount};
use crate::certificate::Certificate;
use crate::error::Error;
use crate::ledger::Ledger;
use crate::name;
use crate::schedule::{AriWindow, Retry};
use crate::storage::{FileStorage, Lock, Storage};

/// The folder of ACME certificates in a state directory.
pub const FOLDER: &str = "acme";

/// The directory `acme/` of a state directory. Reading needs no lock; writing does
/// ([`Store::try_own`]).
pub struct Store {
    files: FileStorage,
    /// Damaged files stay where they are.
    untouched: bool,
}

/// What is known of one wanted certificate besides the certificate itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Canonical names of the wanted set.
    pub names: Vec<String>,
    pub ari: Option<AriWindow>,
    /// Back-off per CA (directory URL): failures that are about no single name.
    pub retry: BTreeMap<String, Retry>,
    /// Back-off per name whose validation failed.
    pub failing: BTreeMap<String, Retry>,
    /// Serial number of a certificate that was revoked: to be replaced whatever its age.
    pub revoked: Option<String>,
}

/// An order that was placed and not yet brought home. Written before the order is finalized, so
/// that no crash loses the key of a certificate that the CA has issued.
#[derive(Clone, Serialize, Deserialize)]
pub struct PendingOrder {
    pub url: String,
    /// Of the CA.
    pub directory: String,
    /// Canonical names of the order: the wanted set, or the part of it that can be validated.
    pub names: Vec<String>,
    /// PKCS#8 PEM.
    pub key_pem: String,
    /// DER, base64url.
    pub csr: String,
    /// Unix seconds.
    pub placed_at: i64,
    pub renewal: bool,
    /// Kind of key and profile. Empty: not known.
    #[serde(default)]
    pub ordered_as: String,
}

/// See [`Store::listing`].
pub type Listing = Vec<(String, SystemTime)>;

/// A chain with its key as stored.
pub struct Stored {
    pub certificate: Certificate,
    /// The file's text: who issued it, chain, key.
    pub bundle: String,
    /// RFC 9773 §4.1; `None` where the leaf has no authority key identifier.
    pub id: Option<CertId>,
    /// Directory URL of the CA; `None`: imported.
    pub issuer: Option<String>,
    /// Unix seconds; `None`: imported.
    pub issued_at: Option<i64>,
    /// Kind of key and profile as they were asked for; `None`: imported.
    pub ordered_as: Option<String>,
    /// Canonical names of the leaf.
    pub names: Vec<String>,
    /// The file's stem.
    pub stem: String,
}

impl Store {
    /// Opens or makes the directory.
    pub fn open(state_dir: &Path) -> Result<Store, Error> {
        let files = FileStorage::open(&state_dir.join(FOLDER))?;
        Ok(Store { files, untouched: false })
    }

    /// For looking only: nothing is made, tidied or set aside. `None`: there is no such directory.
    pub fn look(state_dir: &Path) -> Option<Store> {
        let dir = state_dir.join(FOLDER);
        let files = dir.is_dir().then(|| FileStorage::existing(&dir))?;
        Some(Store { files, untouched: true })
    }

    /// Things that work but should be put right.
    pub fn warnings(&self) -> &[String] {
        self.files.warnings()
    }

    /// The right to order and write; `None`: another process has it. A dead process has nothing.
    pub fn try_own(&self) -> Result<Option<Lock>, Error> {
        self.files.try_lock()
    }

    /// The same, waiting up to [`crate::storage::LOCK_WAIT`].
    pub fn own(&self) -> Result<Lock, Error> {
        self.files.lock()
    }

    /// Whether a certificate could be stored now. To be asked before one is ordered.
    pub fn probe(&self) -> Result<(), Error> {
        // As large as a chain with its key, so that an almost full disk is found out too.
        self.files.store(PROBE, &[b'.'; 16 * 1024])?;
        self.files.remove(PROBE)
    }

    /// # Errors
    /// The file is there and cannot be read just now: no reason to register again.
    pub fn account(&self, directory: &str) -> Result<Option<StoredAccount>, Error> {
        self.try_read(&account_key(directory))
    }

    pub fn put_account(&self, account: &StoredAccount) -> Result<(), Error> {
        self.write(&account_key(&account.directory), account)
    }

    /// The CA does not know it any more. Kept under another name.
    pub fn set_account_aside(&self, directory: &str) -> Result<(), Error> {
        self.files.set_aside(&account_key(directory)).map(drop)
    }

    pub fn record(&self, set: &[String]) -> Record {
        let found: Option<Record> = self.read(&record_key(&name::file_stem(set)));
        found
            .filter(|record| record.names == set)
            .unwrap_or_else(|| Record { names: set.to_vec(), ..Record::default() })
    }

    pub fn put_record(&self, record: &Record) -> Result<(), Error> {
        self.write(&record_key(&name::file_stem(&record.names)), record)
    }

    pub fn order(&self, set: &[String]) -> Option<PendingOrder> {
        self.read(&order_key(set))
    }

    pub fn put_order(&self, set: &[String], order: &PendingOrder) -> Result<(), Error> {
        self.write(&order_key(set), order)
    }

    pub fn drop_order(&self, set: &[String]) -> Result<(), Error> {
        self.files.remove(&order_key(set))
    }

    /// # Errors
    /// The file is there and cannot be read just now: what it says still counts.
    pub fn ledger(&self) -> Result<Ledger, Error> {
        self.try_read(LEDGER).map(Option::unwrap_or_default)
    }

    pub fn put_ledger(&self, ledger: &Ledger) -> Result<(), Error> {
        // Many lines: not for people.
        let bytes = serde_json::to_vec(ledger).map_err(|e| Error::corrupt(LEDGER, e))?;
        self.files.store(LEDGER, &bytes)
    }

    /// Replaces the certificate of a wanted set; the former one is kept beside it.
    pub fn put_certificate(&self, set: &[String], bundle: &str) -> Result<(), Error> {
        let stem = name::file_stem(set);
        let key = certificate_key(&stem);
        match self.files.load(&key) {
            Ok(Some(current)) if current == bundle.as_bytes() => return Ok(()),
            // Never a damaged one over a former one that works.
            Ok(Some(current)) if Stored::parse(&key, current.clone(), &stem).is_err() => {
                drop(self.files.set_aside(&key)?);
            }
            Ok(Some(current)) => self.files.store(&former_key(&stem), &current)?,
            Ok(None) => {}
            Err(e) if e.is_corrupt() => drop(self.files.set_aside(&key)?),
            Err(e) => return Err(e),
        }
        self.files.store(&key, bundle.as_bytes())
    }

    /// Every certificate that can be read, both generations, in no order. Damaged files are left
    /// where they are and reported in `problems`.
    pub fn certificates(&self, problems: &mut Vec<String>) -> Vec<Arc<Stored>> {
        let keys = match self.files.list(CERTIFICATES) {
            Ok(listed) => listed,
            Err(e) => {
                problems.push(e.to_string());
                return Vec::new();
            }
        };
        let pem = keys.iter().filter(|(key, _)| key.ends_with(".pem"));
        pem.filter_map(|(key, _)| match self.stored(key) {
            Ok(found) => found.map(Arc::new),
            Err(e) => {
                problems.push(format!("skipped: {e}"));
                None
            }
        })
        .collect()
    }

    /// The files of certificates with the times of their last change; `None`: not to be had.
    pub fn listing(&self) -> Option<Listing> {
        let mut listed = self.files.list(CERTIFICATES).ok()?;
        listed.sort();
        Some(listed)
    }

    /// Removes files of sets that nobody wants and whose certificates ended, or whose orders were
    /// placed, before `before`.
    pub fn prune(&self, wanted: &HashSet<String>, before: i64) -> Result<(), Error> {
        let mut ends: BTreeMap<String, i64> = BTreeMap::new();
        let mut problems = Vec::new();
        let found = self.certificates(&mut problems);
        if !problems.is_empty() {
            // What cannot be read now may be the better generation.
            return Ok(());
        }
        for stored in found {
            let end = ends.entry(stored.stem.clone()).or_insert(i64::MIN);
            // Of two generations the one that lives longer.
            *end = stored.certificate.not_after.max(*end);
        }
        for (key, _) in self.files.list(ORDERS)? {
            let stem = key.trim_start_matches(ORDERS).trim_start_matches('/');
            let stem = stem.strip_suffix(".json").unwrap_or(stem);
            let order: Option<PendingOrder> = self.read(&key);
            // With a key that nobody will use any more.
            if !wanted.contains(stem) && order.is_some_and(|order| order.placed_at < before) {
                self.files.remove(&key)?;
            }
        }
        for (stem, end) in ends {
            if end < before && !wanted.contains(&stem) {
                for key in [certificate_key(&stem), former_key(&stem), record_key(&stem)] {
                    self.files.remove(&key)?;
                }
            }
        }
        Ok(())
    }

    fn stored(&self, key: &str) -> Result<Option<Stored>, Error> {
        let Some(bytes) = self.files.load(key)? else { return Ok(None) };
        let file = key.trim_start_matches(CERTIFICATES).trim_start_matches('/');
        let stem = file.strip_suffix(FORMER).or(file.strip_suffix(".pem")).unwrap_or(file);
        Stored::parse(key, bytes, stem).map(Some)
    }

    /// `None`: absent, unusable and set aside, or not readable now.
    fn read<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.try_read(key).unwrap_or_else(|why| {
            tracing::warn!("{why}");
            None
        })
    }

    /// `None`: absent, or unusable and set aside.
    fn try_read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let parsed = match self.files.load(key) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(|e| e.to_string()),
            Err(e) if e.is_corrupt() => Err(e.to_string()),
            Err(e) => return Err(e),
        };
        let why = match parsed {
            Ok(value) => return Ok(Some(value)),
            Err(why) => why,
        };
        if self.untouched {
            tracing::warn!("{key} is damaged: {why}");
            return Ok(None);
        }
        match self.files.set_aside(key) {
            Ok(aside) => tracing::warn!("{key} is damaged and kept as {aside}: {why}"),
            Err(e) => tracing::warn!("{key} is damaged ({why}): {e}"),
        }
        Ok(None)
    }

    fn write<T: Serialize>(&self, key: &str, value: &T) -> Result<(), Error> {
        let bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::corrupt(key, e))?;
        self.files.store(key, &bytes)
    }
}

impl Stored {
    /// From a file's text; `what` names the source in errors.
    pub fn parse(what: &str, bundle: Vec<u8>, stem: &str) -> Result<Stored, Error> {
        let bundle = String::from_utf8(bundle).map_err(|e| Error::corrupt(what, e))?;
        let certificate = Certificate::from_bundle(what, bundle.as_bytes())?;
        let said = |start: &str| bundle.lines().take(3).find_map(|line| line.strip_prefix(start));
        Ok(Stored {
            issuer: said(ISSUED_BY).map(str::to_owned),
            ordered_as: said(ORDERED_AS).filter(|kind| !kind.is_empty()).map(str::to_owned),
            issued_at: said(ISSUED_AT).and_then(|at| at.parse().ok()),
            id: certificate.chain.first().and_then(|leaf| CertId::of(leaf)),
            names: name::canonical_set(&certificate.names)?,
            certificate,
            bundle,
            stem: stem.to_owned(),
        })
    }

    /// Whether a certificate is of one of these CAs (directory URLs), or imported.
    pub fn is_of(&self, issuers: &[&str]) -> bool {
        self.issuer.as_deref().is_none_or(|issuer| issuers.contains(&issuer))
    }

    /// The greater the better: valid before expired, of a wanted CA before others, the newest
    /// first: after a forced renewal the former certificate may have more life left, and was
    /// replaced for a reason.
    pub fn rank(&self, issuers: &[&str], now: i64) -> (bool, bool, i64, i64) {
        let Certificate { not_before, not_after, .. } = self.certificate;
        (self.certificate.is_valid_at(now), self.is_of(issuers), not_before, not_after)
    }

    /// Whether the leaf is for this canonical host name.
    pub fn covers(&self, host: &str) -> bool {
        let wildcard = host.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        self.names.iter().any(|name| name == host || Some(name) == wildcard.as_ref())
    }
}

/// Never shows keys.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl fmt::Debug for PendingOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingOrder").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Where a certificate came from.
pub struct Issuance<'a> {
    /// Directory URL.
    pub by: &'a str,
    /// Unix seconds.
    pub at: i64,
    /// Kind of key and profile. Empty: not known.
    pub ordered_as: &'a str,
}

/// The text of a certificate's file. Who issued it (directory URL) and when (Unix seconds) is
/// in the same file, because two files could disagree after a crash. PEM readers skip text before the first block (RFC 7468 §2).
pub fn bundle(issuance: Option<&Issuance<'_>>, chain_pem: &str, key_pem: &str) -> String {
    let issued = issuance.map(|Issuance { by, at, ordered_as }| {
        format!("{ISSUED_BY}{by}\n{ISSUED_AT}{at}\n{ORDERED_AS}{ordered_as}\n")
    });
    let issued = issued.unwrap_or_default();
    format!("{issued}{}\n{}\n", chain_pem.trim(), key_pem.trim())
}

fn account_key(directory: &str) -> String {
    let host = directory.split("://").nth(1).unwrap_or(directory);
    let host = host.split(['/', ':']).next().unwrap_or(host);
    let stem = name::file_stem(&[host.to_owned(), directory.to_owned()]);
    format!("accounts/{stem}.json")
}

fn certificate_key(stem: &str) -> String {
    format!("{CERTIFICATES}/{stem}.pem")
}

fn former_key(stem: &str) -> String {
    format!("{CERTIFICATES}/{stem}{FORMER}")
}

fn record_key(stem: &str) -> String {
    format!("{CERTIFICATES}/{stem}.json")
}

fn order_key(set: &[String]) -> String {
    format!("{ORDERS}/{}.json", name::file_stem(set))
}

const ISSUED_AT: &str = "Issued at: ";
const ISSUED_BY: &str = "Issued by: ";
const ORDERED_AS: &str = "Ordered as: ";
const CERTIFICATES: &str = "certs";
const ORDERS: &str = "orders";
const FORMER: &str = ".former.pem";
const LEDGER: &str = "ledger.json";
const PROBE: &str = "write-probe";

#[cfg(test)]
mod tests;
