//! Configuration to certificates: files, the internal issuer and what the ACME keeper has, into
//! the [`CertTable`]. A thread of its own reads, checks and issues; it publishes what it has as it
//! goes, and is the only one that does. A certificate that cannot be had now never takes away the
//! former one.

mod acme_part;
mod build;
mod wanted;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use acme::Certificate;
use acme::challenge::Challenges;
use acme::keeper::{self, Hears, Keeper, Settings};
use config::value::HostPattern;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::CertifiedKey;
use tokio::sync::mpsc;

use super::watch::read_file;
use crate::clock;
use crate::downstream::cert_table::{CertEntry, CertTable};

pub use wanted::{Orders, Wanted, files, needs_more, wanted};

/// The control thread's end of the certificate thread.
pub struct CertKeeper {
    jobs: Sender<Job>,
    reports: mpsc::UnboundedReceiver<Report>,
    last: u64,
    acme: Arc<Keeper>,
}

enum Job {
    /// The configuration asks for this.
    Want { number: u64, wanted: Box<Wanted> },
    /// The ACME keeper has something new.
    Changed,
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

/// A `certificates:` entry of two PEM files.
#[derive(Clone, Debug, PartialEq)]
pub struct FileCertificate {
    pub name: String,
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl CertKeeper {
    /// Starts this thread and the ACME keeper's; they end with this handle.
    ///
    /// # Errors
    /// No thread could be had.
    pub fn start(
        state_dir: &Path,
        table: Arc<CertTable>,
        challenges: Arc<Challenges>,
        asked: Hears,
    ) -> std::io::Result<CertKeeper> {
        let (jobs, queue) = channel();
        let (tell, reports) = mpsc::unbounded_channel();
        let news = jobs.clone();
        let started = Instant::now();
        let settings = Settings {
            state_dir: state_dir.to_owned(),
            challenges,
            // Nobody listens any more on the way out.
            changed: Box::new(move || drop(news.send(Job::Changed))),
            asked,
            clock: Box::new(clock::unix_seconds),
            uptime: Arc::new(move || started.elapsed()),
            poll: keeper::POLL,
        };
        let acme = Arc::new(Keeper::start(settings)?);
        let keeper = acme.clone();
        std::thread::Builder::new()
            .name("certificates".into())
            .spawn(move || build::work(&queue, &tell, &table, &keeper))?;
        Ok(CertKeeper { jobs, reports, last: 0, acme })
    }

    /// Orders, renewals and their state, for the admin server.
    pub fn acme(&self) -> &Arc<Keeper> {
        &self.acme
    }

    /// Brings the table to what is wanted. Of several requests the last counts.
    pub fn submit(&mut self, wanted: Wanted) {
        self.last += 1;
        // The thread ends only with this sender.
        let _ = self.jobs.send(Job::Want { number: self.last, wanted: Box::new(wanted) });
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
    entry(&files.name, "file", parsed)
}

pub(super) fn entry(
    name: &str,
    source: &'static str,
    certificate: Certificate,
) -> Result<CertEntry, String> {
    let Certificate { chain, key, names, not_before, not_after, .. } = certificate;
    let key = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|e| e.to_string())?;
    let names: Vec<HostPattern> = names.iter().map(|name| pattern(name)).collect();
    let (name, key, hosts) = (name.to_owned(), Arc::new(key), names.clone());
    let placeholder = false;
    Ok(CertEntry { name, names, hosts, source, key, not_before, not_after, placeholder })
}

fn pattern(name: &str) -> HostPattern {
    let name = name.to_ascii_lowercase();
    match name.strip_prefix("*.") {
        Some(suffix) => HostPattern::Wildcard(suffix.into()),
        None => HostPattern::Exact(name.into()),
    }
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
        let mut keeper =
            CertKeeper::start(dir.path(), table.clone(), Arc::default(), Arc::new(|_, _| ()))
                .unwrap();
        keeper.submit(Wanted::default());
        keeper.submit(Wanted { files: vec![files], ..Wanted::default() });
        let report = keeper.settled(Duration::from_secs(10)).await.unwrap();
        assert_eq!(report.problems, []);
        assert!(table.shown(Some("own.openclaw.example"), None).is_some());
    }
}
