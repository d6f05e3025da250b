//! What the ACME keeper has, as entries of the table; a placeholder where it has nothing yet.

use std::collections::HashSet;
use std::sync::Arc;

use acme::keeper::{Keeper, Row};
use acme::store::Stored;
use config::value::HostPattern;

use super::build::Build;
use super::{Problem, pattern};
use crate::clock;
use crate::downstream::cert_table::CertEntry;

impl Build<'_> {
    /// Asks the keeper for what is wanted now (`news`), and takes over what it has.
    pub(super) fn acme(&mut self, keeper: &Keeper, news: bool) {
        let view = match news {
            true => {
                let orders = self.wanted.orders(self.open_hosts());
                self.problems.extend(orders.problems);
                keeper.want(orders.wanted)
            }
            false => Some(keeper.view()),
        };
        let view = view.unwrap_or_else(|| keeper.view());
        let labels: HashSet<&str> =
            self.wanted.ordered.iter().map(|wanted| wanted.label.as_str()).collect();
        for row in &view.rows {
            let explicit = labels.contains(row.label.as_str());
            for entry in self.row(row) {
                let map = if explicit { &mut self.explicit } else { &mut self.by_host };
                map.insert(entry.name.clone(), entry);
            }
        }
    }

    fn row(&mut self, row: &Row) -> Vec<Arc<CertEntry>> {
        let mut entries = Vec::new();
        for (number, stored) in row.serving.iter().enumerate() {
            let name = match number {
                0 => row.label.clone(),
                _ => format!("{} ({})", row.label, number + 1),
            };
            match self.stored(&name, stored, row) {
                Ok(entry) => entries.push(entry),
                Err(message) => {
                    entries.extend(self.former.named(&name).cloned());
                    self.problems.push(Problem { certificate: name, message });
                }
            }
        }
        for host in &row.missing {
            let name = if row.serving.is_empty() && row.names.len() == 1 {
                row.label.clone()
            } else {
                format!("{} ({host})", row.label)
            };
            match self.placeholder(&name, host) {
                Ok(entry) => entries.push(entry),
                Err(message) => self.problems.push(Problem { certificate: name, message }),
            }
        }
        entries
    }

    /// Shown for the row's names only: another row may have a newer certificate for the others.
    fn stored(&self, name: &str, stored: &Stored, row: &Row) -> Result<Arc<CertEntry>, String> {
        let certificate = &stored.certificate;
        let hosts: Vec<HostPattern> =
            row.names.iter().filter(|name| stored.covers(name)).map(|name| pattern(name)).collect();
        if let Some(former) = self.former.named(name)
            && former.key.cert == certificate.chain
            && former.hosts == hosts
        {
            return Ok(former.clone());
        }
        let parsed = certificate.clone_all();
        let entry = super::entry(name, "acme", parsed)?;
        Ok(Arc::new(CertEntry { hosts, ..entry }))
    }

    /// Nobody trusts it; with it a client that insists can talk to the host before the CA has
    /// answered, and no handshake fails without a word.
    fn placeholder(&self, name: &str, host: &str) -> Result<Arc<CertEntry>, String> {
        let now = clock::unix_seconds();
        if let Some(former) = self.former.named(name)
            && former.placeholder
            && former.not_after > now
            && former.covers(host)
        {
            return Ok(former.clone());
        }
        let made = acme::placeholder::self_signed(host, now).map_err(|why| why.to_string())?;
        Ok(Arc::new(CertEntry { placeholder: true, ..super::entry(name, "acme", made)? }))
    }
}
