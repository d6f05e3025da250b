//! Configuration to certificates: files and the internal issuer into the
//! [`CertTable`]. A thread of its own reads, checks and
//! issues; it publishes what it has as it goes. A certificate that cannot be had now never takes
//! away the former one.

mod build;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use acme::Certificate;
use config::merge::Accepted;
use config::model::{CertificateSource, Issuer};
use config::value::HostPattern;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::CertifiedKey;
use tokio::sync::mpsc;

use super::watch::read_file;
use crate::downstream::cert_table::{CertEntry, CertTable};

/// The control thread's end of the certificate thread.
pub struct CertKeeper {
    jobs: Sender<Job>,
    reports: mpsc::UnboundedReceiver<Report>,
    last: u64,
}

struct Job {
    number: u64,
    wanted: Wanted,
}

/// What the table holds after a job, and what it lacks.
pub struct Report {
    number: u64,
    pub problems: Vec<Problem>,
}

/// A certificate that is not as configured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// As in [`CertEntry::name`].
    pub certificate: String,
    pub message: String,
}

/// The certificates that a configuration asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub files: Vec<FileCertificate>,
    /// `certificates:` entries of an internal issuer.
    issued: Vec<(String, Vec<HostPattern>)>,
    /// Hosts of routes, when the default issuer is internal and any listener speaks TLS. Those
    /// that an entry covers are left out later: what a file covers is known when it is read.
    hosts: BTreeSet<HostPattern>,
    /// Known beforehand.
    problems: Vec<Problem>,
    /// Where the internal authority is kept.
    ca_dir: PathBuf,
}

/// A `certificates:` entry of two PEM files.
#[derive(Clone, Debug, PartialEq)]
pub struct FileCertificate {
    pub name: String,
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl CertKeeper {
    /// Starts the thread; it ends with this handle.
    pub fn start(table: Arc<CertTable>) -> CertKeeper {
        let (jobs, queue) = channel();
        let (tell, reports) = mpsc::unbounded_channel();
        std::thread::spawn(move || build::work(&queue, &tell, &table));
        CertKeeper { jobs, reports, last: 0 }
    }

    /// Brings the table to what is wanted. Of several requests the last counts.
    pub fn submit(&mut self, wanted: Wanted) {
        self.last += 1;
        // The thread ends only with this sender.
        let _ = self.jobs.send(Job { number: self.last, wanted });
    }

    /// The next report.
    pub async fn report(&mut self) -> Option<Report> {
        self.reports.recv().await
    }

    /// The report on the last request, unless it takes longer than `limit`; it then comes by
    /// [`report`](Self::report).
    pub async fn settled(&mut self, limit: Duration) -> Option<Report> {
        let last = self.last;
        let wait = async {
            while let Some(report) = self.reports.recv().await {
                if report.number == last {
                    return Some(report);
                }
            }
            None
        };
        tokio::time::timeout(limit, wait).await.ok().flatten()
    }
}

/// Where the internal issuer keeps its authority; `ca.pem` in it is what clients must trust.
pub fn ca_dir(state_dir: &Path) -> PathBuf {
    state_dir.join(acme::internal::FOLDER)
}

/// What this configuration asks for.
pub fn wanted(accepted: &Accepted) -> Wanted {
    let global = &accepted.global;
    let mut wanted = Wanted { ca_dir: ca_dir(&global.state_dir), ..Wanted::default() };
    for (name, entry) in &accepted.certificates {
        let name = name.to_string();
        match &entry.value.source {
            CertificateSource::Files { chain, key } => {
                let (chain, key) = (chain.clone(), key.clone());
                wanted.files.push(FileCertificate { name, chain, key });
            }
            CertificateSource::Issued { names, issuer } => match global.issuers.get(issuer) {
                Some(Issuer::Internal) => wanted.issued.push((name, names.clone())),
                Some(Issuer::Acme { .. }) => wanted.problems.push(not_ordered(name, issuer)),
                None => {}
            },
        }
    }
    let tls = global.listeners.values().any(|listener| listener.tls.is_some());
    let Some(default) = global.default_issuer.as_ref().filter(|_| tls) else { return wanted };
    match global.issuers.get(default) {
        Some(Issuer::Internal) => {
            let routed = accepted.routes.values().flat_map(|route| &route.value.hosts);
            let blocked = accepted.blocked.iter().map(|blocked| &blocked.host);
            wanted.hosts = routed.chain(blocked).cloned().collect();
        }
        Some(Issuer::Acme { .. }) => {
            let hosts = "hosts without a certificates: entry".to_owned();
            wanted.problems.push(not_ordered(hosts, default));
        }
        None => {}
    }
    wanted
}

/// Reads and checks a pair of files.
///
/// # Errors
/// A sentence: not readable, not PEM, or not belonging together.
pub fn load_files(files: &FileCertificate) -> Result<CertEntry, String> {
    let read = |path: &PathBuf| read_file(path).map_err(|e| format!("{}: {e}", path.display()));
    let chain = read(&files.chain)?;
    let key = read(&files.key)?;
    let what = files.chain.display().to_string();
    let parsed = Certificate::from_pem(&what, &chain, &key).map_err(|e| e.to_string())?;
    entry(&files.name, parsed)
}

fn entry(name: &str, certificate: Certificate) -> Result<CertEntry, String> {
    let Certificate { chain, key, names, not_before, not_after, .. } = certificate;
    let key = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|e| e.to_string())?;
    let names = names.iter().map(|name| pattern(name)).collect();
    let (name, key) = (name.to_owned(), Arc::new(key));
    Ok(CertEntry { name, names, key, not_before, not_after, placeholder: false })
}

fn pattern(name: &str) -> HostPattern {
    let name = name.to_ascii_lowercase();
    match name.strip_prefix("*.") {
        Some(suffix) => HostPattern::Wildcard(suffix.into()),
        None => HostPattern::Exact(name.into()),
    }
}

fn not_ordered(certificate: String, issuer: &config::value::Name) -> Problem {
    let message = format!("issuer {issuer} is an ACME directory; this version places no orders");
    Problem { certificate, message }
}

/// Pairs of files for the tests of this module and the next.
#[cfg(test)]
mod testing {
    use std::fs;

    use super::*;

    pub fn write_pair(dir: &Path, stem: &str, names: &[&str]) -> FileCertificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let files = FileCertificate {
            name: stem.to_owned(),
            chain: dir.join(format!("{stem}.pem")),
            key: dir.join(format!("{stem}.key")),
        };
        fs::write(&files.chain, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }
}

#[cfg(test)]
mod tests {
    use super::testing::write_pair;
    use super::*;

    #[tokio::test]
    async fn the_thread_reports_on_the_last_request() {
        let dir = tempfile::tempdir().unwrap();
        let files = write_pair(dir.path(), "own", &["own.openclaw.example"]);
        let table = Arc::new(CertTable::new());
        let mut keeper = CertKeeper::start(table.clone());
        keeper.submit(Wanted::default());
        keeper.submit(Wanted { files: vec![files], ..Wanted::default() });
        let report = keeper.settled(Duration::from_secs(10)).await.unwrap();
        assert_eq!(report.problems, []);
        assert!(table.shown(Some("own.openclaw.example"), None).is_some());
    }
}
