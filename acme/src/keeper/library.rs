//! Every certificate at hand, found by name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::store::{PendingOrder, Stored};

/// Certificates of the state directory, and those that could not be written to it yet.
#[derive(Default)]
pub struct Library {
    by_name: HashMap<String, Vec<Arc<Stored>>>,
}

impl Library {
    pub fn new(all: impl IntoIterator<Item = Arc<Stored>>) -> Library {
        let mut library = Library::default();
        all.into_iter().for_each(|stored| library.add(stored));
        library
    }

    pub fn add(&mut self, stored: Arc<Stored>) {
        for name in &stored.names {
            self.by_name.entry(name.clone()).or_default().push(stored.clone());
        }
    }

    /// Whether just this certificate is in it.
    pub fn has(&self, stored: &Stored) -> bool {
        let of_first = stored.names.first().and_then(|name| self.by_name.get(name));
        let leaf = stored.certificate.chain.first();
        of_first.into_iter().flatten().any(|other| other.certificate.chain.first() == leaf)
    }

    /// Whether the certificate of this order is in it.
    pub fn has_key(&self, order: &PendingOrder) -> bool {
        let of_first = order.names.first().and_then(|name| self.by_name.get(name));
        of_first.into_iter().flatten().any(|stored| stored.bundle.contains(order.key_pem.trim()))
    }

    /// The best certificate for all of these names. `issuers`: directory URLs of the CAs that are
    /// wanted; an imported certificate is as good as theirs.
    pub fn best(&self, names: &[&str], issuers: &[&str], now: i64) -> Option<&Arc<Stored>> {
        let first = names.first()?;
        let wildcard = first.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let exact = self.by_name.get(*first).into_iter().flatten();
        let wild = wildcard.and_then(|name| self.by_name.get(&name)).into_iter().flatten();
        exact
            .chain(wild)
            .filter(|stored| names.iter().all(|name| stored.covers(name)))
            .max_by_key(|stored| stored.rank(issuers, now))
    }

    /// Whether a CA has issued a certificate for just these names before.
    pub fn has_issued(&self, names: &[String]) -> bool {
        let of_first = names.first().and_then(|name| self.by_name.get(name));
        of_first
            .into_iter()
            .flatten()
            .any(|stored| stored.issuer.is_some() && stored.names == names)
    }
}
