//! What the keeper is asked to keep: issuers, and the certificates that they are to issue.

use std::collections::BTreeMap;

use crate::ca::{CaConfig, ChallengeKind, Eab};
use crate::ledger::{Limits, Priority};

/// Everything that is wanted now. Replaces what was wanted before.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// By the name that the configuration gives them.
    pub issuers: BTreeMap<String, Issuer>,
    pub certificates: Vec<WantedCertificate>,
}

/// An ACME directory and how it is used.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// What the configuration calls it.
    pub name: String,
    pub ca: CaConfig,
    /// An address for the account, without `mailto:`.
    pub contact: Option<String>,
    pub eab: Option<Eab>,
    pub challenge: ChallengeKind,
    /// The issuer to turn to when this one fails.
    pub fallback: Option<String>,
    /// Directory on which a failed validation is tried again before this one is asked.
    pub staging: Option<String>,
    pub limits: Limits,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedCertificate {
    /// What the configuration calls it: an entry's name, or the host.
    pub label: String,
    /// Canonical, sorted, unique, no wildcards; not empty.
    pub names: Vec<String>,
    /// A key of [`Wanted::issuers`].
    pub issuer: String,
    pub profile: Option<String>,
    pub key: KeyKind,
    pub priority: Priority,
}

/// Of a certificate's key. A new key is made for every order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    P256,
    /// About 0.2 s of one core to make.
    Rsa2048,
}

impl WantedCertificate {
    /// Kind of key and profile, as the file of a certificate says it.
    pub fn kind(&self) -> String {
        ordered_as(self.key, self.profile.as_deref())
    }
}

/// Kind of key and profile as they were asked for, one line: a certificate that was ordered as
/// something else than is wanted now is replaced. What a CA made of the profile does not matter.
pub fn ordered_as(key: KeyKind, profile: Option<&str>) -> String {
    let key = match key {
        KeyKind::P256 => "p256",
        KeyKind::Rsa2048 => "rsa2048",
    };
    profile.map_or_else(|| key.to_owned(), |profile| format!("{key} {profile}"))
}

impl Wanted {
    /// Directory URLs of the issuers of which `next` says something else about the account.
    pub(super) fn corrected_by(&self, next: &Wanted) -> Vec<String> {
        let corrected = |now: &&Issuer| {
            let former = self.issuers.values().find(|f| f.ca.directory == now.ca.directory);
            former.is_some_and(|former| former.contact != now.contact || former.eab != now.eab)
        };
        next.issuers.values().filter(corrected).map(|i| i.ca.directory.clone()).collect()
    }

    /// The issuers to ask for a certificate, in order, each once.
    pub fn chain<'a>(&'a self, first: &'a str) -> Vec<(&'a str, &'a Issuer)> {
        let mut chain: Vec<(&str, &Issuer)> = Vec::new();
        let mut next = Some(first);
        while let Some((name, issuer)) = next.and_then(|name| self.issuers.get_key_value(name)) {
            if chain.iter().any(|(seen, _)| seen == name) {
                break;
            }
            chain.push((name, issuer));
            next = issuer.fallback.as_deref();
        }
        chain
    }
}
