//! Certificates and orders as metrics: brought up to date whenever the certificate thread reports,
//! and when a certificate begins or ends to be valid.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use acme::keeper::{Row, View};
use rustls::SignatureAlgorithm;

use crate::clock;
use crate::downstream::cert_table::{CertEntry, Certs};
use crate::metrics::Metrics;

/// The series that exist, by certificate.
#[derive(Default)]
pub struct CertificateMetrics {
    shown: BTreeMap<String, Info>,
    /// What is wanted may have no certificate under its own name: a group of which each name has
    /// another one, or none.
    wanted: BTreeSet<String>,
    /// Unix seconds: the next start or end of a validity.
    changes_at: Option<i64>,
}

/// The labels of `edge_certificate_info` after the first.
#[derive(Clone, PartialEq, Eq)]
struct Info {
    issuer: String,
    key_type: &'static str,
    serial: String,
}

impl CertificateMetrics {
    /// Whether the series are out of date by the mere passing of time.
    pub fn are_stale(&self) -> bool {
        self.changes_at.is_some_and(|at| at <= clock::unix_seconds())
    }

    pub fn update(&mut self, metrics: &Metrics, certs: &Certs, view: &View) {
        let seconds = clock::unix_seconds();
        let limits = certs.entries().flat_map(|entry| [entry.not_before, entry.not_after + 1]);
        self.changes_at = limits.filter(|at| *at > seconds).min();
        let mut now = BTreeMap::new();
        let rows: HashMap<&str, &Row> =
            view.rows.iter().map(|row| (row.label.as_str(), row)).collect();
        for entry in certs.entries() {
            // Its own name, or that with a host or number in parentheses.
            let label = entry.name.split(" (").next().unwrap_or(&entry.name);
            let info = info(entry, rows.get(label).copied());
            now.insert(entry.name.clone(), info.clone());
            self.show(metrics, entry, info);
        }
        let wanted: BTreeSet<String> = rows.keys().map(|label| (*label).to_owned()).collect();
        let gone = |name: &&str| !now.contains_key(*name) && !wanted.contains(*name);
        let former = self.shown.keys().chain(&self.wanted).map(String::as_str);
        let gone: HashSet<&str> = former.filter(gone).collect();
        if !gone.is_empty() {
            metrics.forget_certificates(&gone);
        }
        (self.shown, self.wanted) = (now, wanted);
        for row in &view.rows {
            let label = [row.label.as_str()];
            metrics.acme_next_attempt.with_label_values(&label).set(row.next_at);
            match row.renews_at {
                Some(at) => metrics.certificate_renewal.with_label_values(&label).set(at),
                // Not there is as good as removed.
                None => drop(metrics.certificate_renewal.remove_label_values(&label)),
            }
        }
        for ((issuer, result), count) in &view.orders {
            let counter = metrics.acme_orders.with_label_values(&[issuer, result.word()]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    fn show(&self, metrics: &Metrics, entry: &CertEntry, info: Info) {
        let name = [entry.name.as_str()];
        let valid = (entry.not_before..=entry.not_after).contains(&clock::unix_seconds());
        let ready = i64::from(valid && !entry.placeholder);
        metrics.certificate_ready.with_label_values(&name).set(ready);
        if entry.placeholder {
            // Its times are nobody's concern.
            return;
        }
        metrics.certificate_not_before.with_label_values(&name).set(entry.not_before);
        metrics.certificate_not_after.with_label_values(&name).set(entry.not_after);
        let labels = |info: &Info| -> [String; 4] {
            let Info { issuer, key_type, serial } = info.clone();
            [entry.name.clone(), issuer, key_type.to_owned(), serial]
        };
        if let Some(former) = self.shown.get(&entry.name).filter(|former| **former != info) {
            // Not there is as good as removed.
            let _ = metrics.certificate_info.remove_label_values(&labels(former));
        }
        metrics.certificate_info.with_label_values(&labels(&info)).set(1);
    }
}

fn info(entry: &CertEntry, row: Option<&Row>) -> Info {
    let key_type = match entry.key.key.algorithm() {
        SignatureAlgorithm::ECDSA => "ecdsa",
        SignatureAlgorithm::RSA => "rsa",
        _ => "other",
    };
    let serial = acme::certificate::serial(&entry.key.cert).unwrap_or_default();
    let shows = |row: &&Row| row.serving.iter().position(|s| s.certificate.chain == entry.key.cert);
    let maker = row.and_then(|row| row.made_by.get(shows(&row)?).cloned());
    let asked = || row.map(|row| row.issuer.clone());
    let issuer = maker.or_else(asked).unwrap_or_else(|| entry.source.to_owned());
    Info { issuer, key_type, serial }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use acme::store::{Stored, bundle};

    use super::*;

    const HOST: &str = "a.openclaw.example";

    /// A row called `web`, and what serves it under `name`.
    fn served(name: &str, made_by: &str, renews_at: Option<i64>) -> (Row, Certs) {
        let made = acme::placeholder::self_signed(HOST, clock::unix_seconds()).unwrap();
        let text = bundle(None, &made.chain_pem(), &made.key_pem().unwrap()).into_bytes();
        let stored = Arc::new(Stored::parse("test", text, "stem").unwrap());
        let entry = crate::control::certs::entry(name, "acme", made).unwrap();
        let row = Row {
            label: "web".to_owned(),
            names: vec![HOST.to_owned()],
            issuer: "main".to_owned(),
            serving: vec![stored],
            made_by: vec![made_by.to_owned()],
            missing: Vec::new(),
            ordering: false,
            unsaved: false,
            renews_at,
            next_at: 4_000_000_000,
            next_why: String::new(),
            failures: 0,
            last_failure: None,
            issued_this_week: 1,
            per_week: Some(4),
            budget: Vec::new(),
        };
        (row, Certs::new([Arc::new(entry)]))
    }

    fn view(rows: Vec<Row>) -> View {
        View { rows, ..View::default() }
    }

    /// The series of one family.
    fn series(metrics: &Metrics, family: &str) -> Vec<String> {
        let text = String::from_utf8(metrics.render()).unwrap();
        text.lines().filter(|line| line.starts_with(family)).map(str::to_owned).collect()
    }

    #[test]
    fn the_issuer_is_the_one_that_issued() {
        for (name, made_by) in [("web", "spare"), ("web (2)", "imported"), ("web", "former")] {
            let (metrics, mut shown) = (Metrics::new(), CertificateMetrics::default());
            let (row, certs) = served(name, made_by, Some(3_000_000_000));
            shown.update(&metrics, &certs, &view(vec![row]));
            let info = series(&metrics, "edge_certificate_info");
            assert_eq!(info.len(), 1, "{info:?}");
            assert!(info[0].contains(&format!("certificate=\"{name}\"")), "{info:?}");
            assert!(info[0].contains(&format!("issuer=\"{made_by}\"")), "{info:?}");
        }
    }

    #[test]
    fn series_go_with_what_they_are_about() {
        let (metrics, mut shown) = (Metrics::new(), CertificateMetrics::default());
        let (row, certs) = served("web (2)", "main", Some(3_000_000_000));
        shown.update(&metrics, &certs, &view(vec![row]));
        let renewal = "edge_certificate_renewal_timestamp_seconds{certificate=\"web\"}";
        assert_eq!(series(&metrics, renewal), [format!("{renewal} 3000000000")]);
        // Its certificate is lost: no date of the former one is left.
        let (row, certs) = served("web (2)", "main", None);
        shown.update(&metrics, &certs, &view(vec![row]));
        assert!(series(&metrics, renewal).is_empty());
        assert_eq!(series(&metrics, "edge_acme_next_attempt").len(), 1);
        // Not wanted any more: nothing is left, though no certificate ever had the row's name.
        shown.update(&metrics, &Certs::new([]), &view(Vec::new()));
        assert!(series(&metrics, "edge_acme_next_attempt").is_empty());
        assert!(series(&metrics, "edge_certificate_").is_empty());
    }
}
