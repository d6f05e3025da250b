//! Certificates and orders as metrics: brought up to date whenever the certificate thread reports,
//! and when a certificate begins or ends to be valid.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use acme::keeper::{Row, View};
use config::merge::Accepted;
use config::model::Route;
use config::value::{HostPattern, Name};
use prometheus::IntGaugeVec;
use rustls::SignatureAlgorithm;

use crate::clock;
use crate::downstream::cert_table::{CertEntry, Certs};
use crate::metrics::{Metrics, OTHER, TenantLabels};

/// The series that exist, by certificate.
#[derive(Default)]
pub struct CertificateMetrics {
    shown: BTreeMap<String, Info>,
    /// What is wanted may have no certificate under its own name: a group of which each name has
    /// another one, or none.
    wanted: BTreeSet<String>,
    /// Names of certificates that are counted together as `other`, and what they were taken from.
    others: HashSet<String>,
    followed: Option<Arc<Accepted>>,
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

/// Certificates of tenants without a label of their own, as the worst of them.
#[derive(Default)]
struct Others {
    ready: Option<bool>,
    not_after: Option<i64>,
    renewal: Option<i64>,
    next: Option<i64>,
}

impl CertificateMetrics {
    /// Whether the series are out of date by the mere passing of time.
    pub fn are_stale(&self) -> bool {
        self.changes_at.is_some_and(|at| at <= clock::unix_seconds())
    }

    /// Learns which certificates are of tenants that share a label.
    pub fn follow(&mut self, accepted: &Arc<Accepted>, tenants: &TenantLabels) {
        if self.followed.as_ref().is_some_and(|known| Arc::ptr_eq(known, accepted)) {
            return;
        }
        self.followed = Some(accepted.clone());
        let other = |tenant: Option<&Name>| tenant.is_some_and(|tenant| tenants.is_other(tenant));
        let certificates = accepted.certificates.iter();
        let entries = certificates.filter(|(_, entry)| other(entry.value.tenant.as_ref()));
        self.others = entries.map(|(name, _)| name.to_string()).collect();
        let tls = accepted.global.listeners.values().any(|listener| listener.tls.is_some());
        let own = accepted.global.tenants.as_ref().is_some_and(|all| all.certificates.is_some());
        if tls && !own {
            // Those of the default issuer are called by their hosts.
            let of = |route: &Route| other(route.tenant.as_ref().map(|of| &of.tenant));
            let routes = accepted.routes.values().filter(|entry| of(&entry.value));
            let hosts = routes.flat_map(|entry| &entry.value.hosts);
            self.others.extend(hosts.map(HostPattern::to_string));
        }
    }

    pub fn update(&mut self, metrics: &Metrics, certs: &Certs, view: &View) {
        let seconds = clock::unix_seconds();
        let limits = certs.entries().flat_map(|entry| [entry.not_before, entry.not_after + 1]);
        self.changes_at = limits.filter(|at| *at > seconds).min();
        let mut now = BTreeMap::new();
        let mut others = Others::default();
        let rows: HashMap<&str, &Row> =
            view.rows.iter().map(|row| (row.label.as_str(), row)).collect();
        for entry in certs.entries() {
            // Its own name, or that with a host or number in parentheses.
            let label = entry.name.split(" (").next().unwrap_or(&entry.name);
            if self.others.contains(label) {
                others.add(entry, seconds);
                continue;
            }
            let info = info(entry, rows.get(label).copied());
            now.insert(entry.name.clone(), info.clone());
            self.show(metrics, entry, info);
        }
        let mut wanted = BTreeSet::new();
        for row in &view.rows {
            if self.others.contains(&row.label) {
                others.plan(row);
                continue;
            }
            wanted.insert(row.label.clone());
            show_plan(metrics, &row.label, Some(row.next_at), row.renews_at);
        }
        if others.show(metrics) {
            wanted.insert(OTHER.to_owned());
        }
        let gone = |name: &&str| !now.contains_key(*name) && !wanted.contains(*name);
        let former = self.shown.keys().chain(&self.wanted).map(String::as_str);
        let gone: HashSet<&str> = former.filter(gone).collect();
        if !gone.is_empty() {
            metrics.forget_certificates(&gone);
        }
        (self.shown, self.wanted) = (now, wanted);
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

impl Others {
    fn add(&mut self, entry: &CertEntry, seconds: i64) {
        let ready = !entry.placeholder && (entry.not_before..=entry.not_after).contains(&seconds);
        self.ready = Some(self.ready.unwrap_or(true) && ready);
        if !entry.placeholder {
            self.not_after = first(self.not_after, Some(entry.not_after));
        }
    }

    fn plan(&mut self, row: &Row) {
        self.next = first(self.next, Some(row.next_at));
        self.renewal = first(self.renewal, row.renews_at);
    }

    /// Whether there are any.
    fn show(&self, metrics: &Metrics) -> bool {
        let any = self.ready.is_some() || self.next.is_some();
        if any {
            let set =
                |family: &IntGaugeVec, value: Option<i64>| show_or_remove(family, OTHER, value);
            set(&metrics.certificate_ready, self.ready.map(i64::from));
            set(&metrics.certificate_not_after, self.not_after);
            show_plan(metrics, OTHER, self.next, self.renewal);
        }
        any
    }
}

fn first(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}

fn show_plan(metrics: &Metrics, label: &str, next: Option<i64>, renewal: Option<i64>) {
    show_or_remove(&metrics.acme_next_attempt, label, next);
    show_or_remove(&metrics.certificate_renewal, label, renewal);
}

fn show_or_remove(family: &IntGaugeVec, label: &str, value: Option<i64>) {
    match value {
        Some(value) => family.with_label_values(&[label]).set(value),
        // Not there is as good as removed.
        None => drop(family.remove_label_values(&[label])),
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
