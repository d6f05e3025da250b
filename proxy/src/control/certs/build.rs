//! The certificate thread: reads, checks and issues what is wanted, and publishes as it goes.
//! Explicit entries win a name over the default issuer's certificates.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use acme::keeper::Keeper;
use acme::{Certificate, InternalCa};
use config::value::HostPattern;
use tokio::sync::mpsc;

use super::{Job, Problem, Report, Wanted, entry, load_files};
use crate::clock;
use crate::downstream::cert_table::{CertEntry, CertTable, Certs};

/// Does one job after the other; of several that wait only the last.
pub(super) fn work(
    queue: &Receiver<Job>,
    tell: &mpsc::UnboundedSender<Report>,
    table: &CertTable,
    keeper: &Keeper,
) {
    let mut authority = None;
    let mut number = 0;
    let mut wanted = None;
    while let Ok(first) = queue.recv() {
        let mut news = false;
        for job in std::iter::once(first).chain(queue.try_iter()) {
            match job {
                Job::Want { number: newer, wanted: now } => {
                    number = newer;
                    wanted = Some(now);
                    news = true;
                }
                Job::Changed => {}
            }
        }
        let Some(wanted) = &wanted else { continue };
        let mut build = Build::new(wanted, table, &mut authority);
        build.entries();
        // Before the internal issuer makes what may be many.
        build.acme(keeper, news);
        build.hosts();
        let Build { mut problems, .. } = build;
        problems.sort();
        if tell.send(Report { number, problems }).is_err() {
            return;
        }
    }
}

/// The internal authority, opened when first needed, with the directory it came from.
type Authority = Option<(PathBuf, InternalCa)>;

/// One job under way.
pub(super) struct Build<'a> {
    pub wanted: &'a Wanted,
    table: &'a CertTable,
    authority: &'a mut Authority,
    pub former: Arc<Certs>,
    /// Of `certificates:` entries.
    pub explicit: BTreeMap<String, Arc<CertEntry>>,
    /// Of the default issuer.
    pub by_host: BTreeMap<String, Arc<CertEntry>>,
    pub problems: Vec<Problem>,
}

impl<'a> Build<'a> {
    fn new(wanted: &'a Wanted, table: &'a CertTable, authority: &'a mut Authority) -> Build<'a> {
        Build {
            wanted,
            table,
            authority,
            former: table.load(),
            explicit: BTreeMap::new(),
            by_host: BTreeMap::new(),
            problems: wanted.problems.clone(),
        }
    }

    /// `certificates:` entries: few, and first.
    fn entries(&mut self) {
        let wanted = self.wanted;
        for files in &wanted.files {
            let loaded = load_files(files).map(Arc::new);
            if let Ok(entry) = &loaded {
                self.look_at(entry);
            }
            self.keep(&files.name, loaded, true);
        }
        for (name, names) in &wanted.issued {
            let made = match self.fresh(name, names) {
                Some(entry) => Ok(entry),
                None => self.issue(name, names),
            };
            self.keep(name, made, true);
        }
    }

    /// One certificate per host that no entry covers: those at hand are published first, those that
    /// have to be loaded or made as they come.
    fn hosts(&mut self) {
        let mut missing = Vec::new();
        let open = if self.wanted.orders_hosts() { Vec::new() } else { self.open_hosts() };
        for host in open {
            let name = host.to_string();
            match self.fresh(&name, std::slice::from_ref(host)) {
                Some(entry) => drop(self.by_host.insert(name, entry)),
                None => missing.push((name, host)),
            }
        }
        self.publish();
        let mut published = Instant::now();
        for (name, host) in missing {
            let made = self.issue(&name, std::slice::from_ref(host));
            self.keep(&name, made, false);
            if published.elapsed() > PUBLISH_EVERY {
                self.publish();
                published = Instant::now();
            }
        }
        self.publish();
    }

    /// Hosts of routes that no entry covers.
    pub fn open_hosts(&self) -> Vec<&'a HostPattern> {
        let explicit = Certs::new(self.explicit.values().cloned());
        // For `*.x` this looks for a wildcard of just that suffix.
        let open = |host: &&HostPattern| explicit.find(&host.to_string()).is_none();
        self.wanted.hosts.iter().filter(open).collect()
    }

    /// Hosts first: entries win a name over them.
    fn publish(&self) {
        let all = self.by_host.values().chain(self.explicit.values());
        self.table.publish(Certs::new(all.cloned()));
    }

    /// Takes what could be had, else what was there before.
    fn keep(&mut self, name: &str, made: Result<Arc<CertEntry>, String>, explicit: bool) {
        let entry = match made {
            Ok(entry) => Some(entry),
            Err(message) => {
                let certificate = name.to_owned();
                self.problems.push(Problem { certificate, message });
                self.former.named(name).cloned()
            }
        };
        if let Some(entry) = entry {
            let map = if explicit { &mut self.explicit } else { &mut self.by_host };
            map.insert(name.to_owned(), entry);
        }
    }

    /// The former certificate of the internal issuer, while it has a third of its life left.
    fn fresh(&self, name: &str, names: &[HostPattern]) -> Option<Arc<CertEntry>> {
        let entry = self.former.named(name)?;
        let same = names.len() == entry.names.len()
            && names.iter().all(|wanted| entry.names.contains(wanted));
        let life = entry.not_after - entry.not_before;
        (same && clock::unix_seconds() < entry.not_after - life / 3).then(|| entry.clone())
    }

    fn issue(&mut self, name: &str, names: &[HostPattern]) -> Result<Arc<CertEntry>, String> {
        let names: Vec<String> = names.iter().map(HostPattern::to_string).collect();
        let authority = open(self.authority, &self.wanted.ca_dir)?;
        let issued = authority.load_or_issue(&names).map_err(|e| e.to_string())?;
        if let Some(warning) = &issued.warning {
            tracing::warn!("certificate {name}: {warning}");
        }
        let (chain, key) = (issued.chain_pem.as_bytes(), issued.key_pem.as_bytes());
        let parsed = Certificate::from_pem(name, chain, key).map_err(|e| e.to_string())?;
        entry(name, "internal", parsed).map(Arc::new)
    }

    /// What is odd about a loaded file certificate, and serves all the same.
    fn look_at(&mut self, entry: &CertEntry) {
        let message = if entry.not_after <= clock::unix_seconds() {
            "it has expired and is served all the same"
        } else if entry.not_before > clock::unix_seconds() {
            "it is not valid yet and is served all the same"
        } else if entry.names.is_empty() {
            "it names no host; it is only shown to clients without SNI"
        } else {
            return;
        };
        let certificate = entry.name.clone();
        self.problems.push(Problem { certificate, message: message.to_owned() });
    }
}

fn open<'a>(authority: &'a mut Authority, dir: &Path) -> Result<&'a InternalCa, String> {
    if authority.as_ref().is_none_or(|(opened, _)| opened != dir) {
        let opened = InternalCa::open(dir).map_err(|e| format!("internal issuer: {e}"))?;
        for warning in opened.warnings() {
            tracing::warn!("internal issuer: {warning}");
        }
        *authority = Some((dir.to_path_buf(), opened));
    }
    match authority {
        Some((_, authority)) => Ok(authority),
        None => Err("internal issuer: not open".to_owned()),
    }
}

const PUBLISH_EVERY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::super::testing::write_pair;
    use super::*;

    fn exact(host: &str) -> HostPattern {
        HostPattern::Exact(host.into())
    }

    fn run(wanted: &Wanted, table: &CertTable) -> Vec<Problem> {
        let mut authority = None;
        let mut build = Build::new(wanted, table, &mut authority);
        build.entries();
        build.hosts();
        build.problems
    }

    #[test]
    fn files_give_their_names_and_keep_serving_when_they_break() {
        let dir = tempfile::tempdir().unwrap();
        let files =
            write_pair(dir.path(), "legacy", &["A.openclaw.example", "*.b.openclaw.example"]);
        let wanted = Wanted { files: vec![files.clone()], ..Wanted::default() };
        let table = CertTable::new();
        assert_eq!(run(&wanted, &table), []);
        let shown = table.shown(Some("a.openclaw.example"), None).unwrap();
        assert!(table.shown(Some("x.b.openclaw.example"), None).is_some());
        assert!(table.shown(Some("b.openclaw.example"), None).is_none());

        // A renewal writes two files, one after the other: in between they do not match.
        let other = write_pair(dir.path(), "other", &["a.openclaw.example"]);
        fs::copy(&other.key, &files.key).unwrap();
        let problems = run(&wanted, &table);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let still = table.shown(Some("a.openclaw.example"), None).unwrap();
        assert!(Arc::ptr_eq(&shown.key, &still.key));

        fs::copy(&other.chain, &files.chain).unwrap();
        assert_eq!(run(&wanted, &table), []);
        let now = table.shown(Some("a.openclaw.example"), None).unwrap();
        assert!(!Arc::ptr_eq(&shown.key, &now.key));
        assert!(table.shown(Some("x.b.openclaw.example"), None).is_none());

        fs::remove_file(&files.chain).unwrap();
        assert_eq!(run(&wanted, &table).len(), 1);
        assert!(table.shown(Some("a.openclaw.example"), None).is_some());
        assert_eq!(run(&Wanted::default(), &table), []);
        assert!(table.shown(Some("a.openclaw.example"), None).is_none());
    }

    #[test]
    fn hosts_without_an_entry_get_one_each_and_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = write_pair(dir.path(), "own", &["own.openclaw.example"]);
        let suffix = HostPattern::Wildcard("gw.openclaw.example".into());
        let hosts = [exact("app.openclaw.example"), exact("own.openclaw.example"), suffix];
        let wanted = Wanted {
            files: vec![files],
            hosts: BTreeSet::from(hosts),
            ca_dir: dir.path().join("ca"),
            ..Wanted::default()
        };
        let table = CertTable::new();
        assert_eq!(run(&wanted, &table), []);
        let name = |host| table.shown(Some(host), None).map(|entry| entry.name.clone());
        assert_eq!(name("app.openclaw.example").unwrap(), "app.openclaw.example");
        assert_eq!(name("own.openclaw.example").unwrap(), "own");
        assert_eq!(name("t1.gw.openclaw.example").unwrap(), "*.gw.openclaw.example");
        assert_eq!(name("other.openclaw.example"), None);

        let first = table.shown(Some("app.openclaw.example"), None).unwrap();
        // The reload after next to nothing makes no key again, nor does the next start.
        assert_eq!(run(&wanted, &table), []);
        assert!(Arc::ptr_eq(&first, &table.shown(Some("app.openclaw.example"), None).unwrap()));
        let restarted = CertTable::new();
        assert_eq!(run(&wanted, &restarted), []);
        let again = restarted.shown(Some("app.openclaw.example"), None).unwrap();
        assert_eq!(first.key.cert, again.key.cert);
    }

    #[test]
    fn an_authority_that_cannot_be_kept_leaves_the_files_serving() {
        let dir = tempfile::tempdir().unwrap();
        let files = write_pair(dir.path(), "own", &["own.openclaw.example"]);
        fs::write(dir.path().join("ca"), "a file in the way").unwrap();
        let wanted = Wanted {
            files: vec![files],
            hosts: BTreeSet::from([exact("app.openclaw.example")]),
            ca_dir: dir.path().join("ca"),
            ..Wanted::default()
        };
        let table = CertTable::new();
        let problems = run(&wanted, &table);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].certificate, "app.openclaw.example");
        assert!(table.shown(Some("own.openclaw.example"), None).is_some());
    }
}
