//! Certificates and orders as metrics: brought up to date whenever the certificate thread reports,
//! and when a certificate begins or ends to be valid.

use std::collections::{BTreeMap, HashMap};

use acme::keeper::{Row, View};
use rustls::SignatureAlgorithm;

use crate::clock;
use crate::downstream::cert_table::{CertEntry, Certs};
use crate::metrics::Metrics;

/// The series that exist, by certificate.
#[derive(Default)]
pub struct CertificateMetrics {
    shown: BTreeMap<String, Info>,
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
            let info = info(entry, rows.get(entry.name.as_str()).copied());
            now.insert(entry.name.clone(), info.clone());
            self.show(metrics, entry, info);
        }
        for name in self.shown.keys().filter(|name| !now.contains_key(*name)) {
            metrics.forget_certificate(name);
        }
        self.shown = now;
        for row in &view.rows {
            let label = [row.label.as_str()];
            metrics.acme_next_attempt.with_label_values(&label).set(row.next_at);
            if let Some(at) = row.renews_at {
                metrics.certificate_renewal.with_label_values(&label).set(at);
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
    let leaf = row.and_then(|row| row.leaf());
    let serial = acme::certificate::serial(&entry.key.cert).unwrap_or_default();
    let issuer = match (row, leaf) {
        (Some(row), Some(leaf)) if leaf.issuer.is_some() => row.issuer.clone(),
        (Some(_), _) => "imported".to_owned(),
        (None, _) => entry.source.to_owned(),
    };
    Info { issuer, key_type, serial }
}
