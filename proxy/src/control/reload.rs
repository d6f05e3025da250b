//! A config file to a decision: what would serve, or why it is refused. Reads files and nothing
//! else; applying the decision is [`Control`](super::Control)'s.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::defaults::REGISTRY_BYTES;
use config::diff::{Changes, diff, static_changes};
use config::error::{Diagnostic, Errors};
use config::merge::{Accepted, Kind, merge};
use config::model::{Candidate, Global, Good};
use config::value::Name;
use config::{Environment, SystemEnvironment};

use super::watch::{Digest, digest_of, read_file};

/// What a reading of the config file led to.
#[derive(Clone, Debug, PartialEq)]
pub enum ReloadOutcome {
    /// Everything in the file serves.
    Applied,
    /// Some entries are quarantined, the rest serves.
    Partial { quarantined: usize },
    /// What the file says serves already.
    Unchanged,
    /// Nothing changed.
    Rejected { errors: Vec<Diagnostic> },
}

impl ReloadOutcome {
    /// For the metric and the admin API.
    pub fn label(&self) -> &'static str {
        match self {
            ReloadOutcome::Applied => "applied",
            ReloadOutcome::Partial { .. } => "partial",
            ReloadOutcome::Unchanged => "unchanged",
            ReloadOutcome::Rejected { .. } => "rejected",
        }
    }
}

/// One reading of the config file.
pub struct Reading {
    /// As read; empty where it could not be.
    pub text: String,
    /// Names the content: see [`Digest::short`].
    pub hash: String,
    /// The files that its references name, as they were just before they were read.
    pub files: BTreeMap<PathBuf, Option<Digest>>,
    pub result: Result<Candidate, Errors>,
    /// There is no such file.
    pub absent: bool,
}

/// What to do about a reading, given what serves.
pub enum Decision {
    /// The configuration serves already; its line numbers may be other ones.
    Unchanged(Accepted),
    Apply(Accepted, Changes),
    Reject(Vec<Diagnostic>),
}

/// Reads and parses the file.
pub fn read(file: &Path) -> Reading {
    let bytes = read_file(file);
    let absent = matches!(&bytes, Err(why) if why.kind() == io::ErrorKind::NotFound);
    let hash = bytes.as_ref().map(|bytes| Digest::of(bytes).short()).unwrap_or_default();
    let text = bytes.and_then(|bytes| {
        String::from_utf8(bytes).map_err(|_| io::Error::other("the file is not UTF-8"))
    });
    let environment = Recording::default();
    let (text, result) = match text {
        Ok(text) => {
            let parsed = config::parse(&file.display().to_string(), &text, &environment);
            (text, parsed)
        }
        Err(why) => (String::new(), Err(Errors(vec![unreadable(&why)]))),
    };
    Reading { text, hash, files: environment.files.into_inner(), result, absent }
}

/// Compares a reading with what serves.
pub fn decide(serving: &Accepted, read: Result<Candidate, Errors>) -> Decision {
    let candidate = match read {
        Ok(candidate) => candidate,
        Err(Errors(errors)) => return Decision::Reject(errors),
    };
    let fixed = static_changes(&serving.global, &candidate.global);
    if !fixed.is_empty() {
        let refusal = |change: config::diff::StaticChange| Diagnostic {
            message: format!("{} -> {}: needs a restart", change.old, change.new),
            help: Some("restart the process, or take the change back".to_owned()),
            at: change.field,
            line: 0,
            column: 0,
            file: None,
        };
        return Decision::Reject(fixed.into_iter().map(refusal).collect());
    }
    let mut new = merge(Some(serving), candidate);
    take_over(serving, &mut new);
    let changes = diff(serving, &new);
    let same = changes.is_empty()
        && same_global(&serving.global, &new.global)
        && serving.blocked == new.blocked
        && quarantined(serving) == quarantined(&new);
    if same { Decision::Unchanged(new) } else { Decision::Apply(new, changes) }
}

/// What is as it was becomes what it was: nobody compares it again, and it is in memory once.
fn take_over(serving: &Accepted, new: &mut Accepted) {
    same_entries(&serving.certificates, &mut new.certificates);
    same_entries(&serving.upstreams, &mut new.upstreams);
    same_entries(&serving.routes, &mut new.routes);
}

fn same_entries<T: PartialEq>(old: &BTreeMap<Name, Good<T>>, new: &mut BTreeMap<Name, Good<T>>) {
    let mut old = old.iter().peekable();
    for (name, entry) in new {
        while old.next_if(|(former, _)| *former < name).is_some() {}
        if let Some((_, former)) = old.next_if(|(former, _)| *former == name) {
            if !Arc::ptr_eq(&entry.value, &former.value) && entry.value == former.value {
                entry.value = former.value.clone();
            }
            if entry.text == former.text {
                entry.text = former.text.clone();
            }
        }
    }
}

/// `+route a, -upstream b, ~certificate c; tenants: 1 added (d)`: at most 20 of the first, and
/// five names of each kind of change of tenants.
pub fn summary(changes: &Changes) -> String {
    let (entries, tenants) = (of_entries(changes), of_tenants(changes));
    match (entries.is_empty(), tenants.is_empty()) {
        (true, true) => "global settings".to_owned(),
        (false, true) => entries,
        (true, false) => tenants,
        (false, false) => format!("{entries}; {tenants}"),
    }
}

fn of_entries(changes: &Changes) -> String {
    let marked = |mark: char, found: &[(Kind, Name)]| -> Vec<String> {
        let own = found.iter().filter(|(kind, _)| *kind != Kind::Tenant);
        own.map(|(kind, name)| format!("{mark}{} {name}", word(*kind))).collect()
    };
    let mut all = marked('+', &changes.added);
    all.extend(marked('-', &changes.removed));
    all.extend(marked('~', &changes.changed));
    let more = all.len().saturating_sub(20);
    all.truncate(20);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    all.join(", ") + &tail
}

fn of_tenants(changes: &Changes) -> String {
    let kinds =
        [("added", &changes.added), ("removed", &changes.removed), ("changed", &changes.changed)];
    let told: Vec<String> = kinds
        .into_iter()
        .filter_map(|(what, found)| {
            let names: Vec<&str> = found
                .iter()
                .filter(|(kind, _)| *kind == Kind::Tenant)
                .map(|(_, name)| name.as_str())
                .collect();
            let shown = names.get(..SHOWN_TENANTS).unwrap_or(&names).join(", ");
            let more = if names.len() > SHOWN_TENANTS { ", .." } else { "" };
            (!names.is_empty()).then(|| format!("{} {what} ({shown}{more})", names.len()))
        })
        .collect();
    if told.is_empty() { String::new() } else { format!("tenants: {}", told.join(", ")) }
}

const SHOWN_TENANTS: usize = 5;

/// `route`, as in metrics and the admin API.
pub fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Certificate => "certificate",
        Kind::Upstream => "upstream",
        Kind::Route => "route",
        Kind::Template => "template",
        Kind::Tenants => "tenants",
        Kind::Tenant => "tenant",
    }
}

fn quarantined(accepted: &Accepted) -> Vec<(Kind, &Name, bool)> {
    accepted.quarantined.iter().map(|bad| (bad.kind, &bad.name, bad.former_serves)).collect()
}

/// The text of the global part is not compared: it changes with every quote.
fn same_global(old: &Global, new: &Global) -> bool {
    *old == Global { text: old.text.clone(), ..new.clone() }
}

fn unreadable(why: &io::Error) -> Diagnostic {
    Diagnostic {
        at: String::new(),
        line: 0,
        column: 0,
        message: format!("the file cannot be read: {why}"),
        help: None,
        file: None,
    }
}

/// The process's environment, remembering which files were read.
#[derive(Default)]
struct Recording {
    files: RefCell<BTreeMap<PathBuf, Option<Digest>>>,
}

impl Environment for Recording {
    fn var(&self, name: &str) -> Option<String> {
        SystemEnvironment.var(name)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        // Before reading: a change in between is then seen by the watch.
        self.files.borrow_mut().insert(path.to_path_buf(), digest_of(path));
        SystemEnvironment.read(path)
    }

    fn read_registry(&self, path: &Path) -> io::Result<Vec<u8>> {
        let read = SystemEnvironment.read_registry(path);
        // Of what was read: it is large, and a change since then is seen by the watch.
        let whole = read.as_ref().ok().filter(|bytes| bytes.len() <= REGISTRY_BYTES);
        let digest = whole.map(|bytes| Digest::of(bytes));
        self.files.borrow_mut().insert(path.to_path_buf(), digest);
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "version: 1\nlisteners: { web: { bind: ['127.0.0.1:1'] } }\n\
        upstreams: { u: { endpoints: ['127.0.0.1:2'] } }\n\
        routes:\n  a: { hosts: [a.openclaw.example], upstream: u }\n";

    fn parsed(text: &str) -> Result<Candidate, Errors> {
        config::parse("edge.yaml", text, &SystemEnvironment)
    }

    fn serving() -> Accepted {
        merge(None, parsed(FILE).unwrap())
    }

    #[test]
    fn comments_and_quotes_are_no_change() {
        let moved = FILE.replace("version: 1\n", "# moved down\nversion: \"1\"\n\n");
        let Decision::Unchanged(now) = decide(&serving(), parsed(&moved)) else { panic!() };
        assert_ne!(now.routes["a"].line, serving().routes["a"].line);
    }

    #[test]
    fn a_changed_bind_address_is_refused_by_name() {
        let other = FILE.replace("127.0.0.1:1'", "127.0.0.1:9'");
        let Decision::Reject(errors) = decide(&serving(), parsed(&other)) else { panic!() };
        assert_eq!(errors[0].at, "listeners.web.bind");
        assert!(errors[0].message.contains("127.0.0.1:9"), "{}", errors[0]);
    }

    #[test]
    fn a_bad_entry_is_applied_around() {
        let text = format!("{FILE}  b: {{ hosts: [b.openclaw.example], upstraem: u }}\n");
        let Decision::Apply(new, changes) = decide(&serving(), parsed(&text)) else { panic!() };
        assert_eq!(new.quarantined.len(), 1);
        assert!(changes.is_empty());
        // The same bad file again is no news.
        assert!(matches!(decide(&new, parsed(&text)), Decision::Unchanged(_)));
        let Decision::Apply(mended, _) = decide(&new, parsed(FILE)) else { panic!() };
        assert!(mended.quarantined.is_empty());
    }

    #[test]
    fn changes_are_listed_and_the_list_is_short() {
        let mut text = FILE.to_owned();
        for n in 0..30 {
            text.push_str(&format!("  r{n}: {{ hosts: [r{n}.openclaw.example], upstream: u }}\n"));
        }
        let Decision::Apply(_, changes) = decide(&serving(), parsed(&text)) else { panic!() };
        let line = summary(&changes);
        assert!(line.starts_with("+route r0, +route r1, "), "{line}");
        assert!(line.ends_with(" and 10 more"), "{line}");
    }

    #[test]
    fn tenants_are_summed_up() {
        let entries = |found: &[(Kind, String)]| -> Vec<(Kind, Name)> {
            found.iter().map(|(kind, name)| (*kind, Name::new(name).unwrap())).collect()
        };
        let many: Vec<_> = (0..900).map(|n| (Kind::Tenant, format!("t{n}"))).collect();
        let changes = Changes {
            added: entries(&many),
            removed: entries(&[(Kind::Tenant, "old".into()), (Kind::Route, "r".into())]),
            changed: entries(&[]),
        };
        assert_eq!(
            summary(&changes),
            "-route r; tenants: 900 added (t0, t1, t2, t3, t4, ..), 1 removed (old)"
        );
        let changed = entries(&[(Kind::Tenant, "acme".into())]);
        let changes = Changes { changed, ..Changes::default() };
        assert_eq!(summary(&changes), "tenants: 1 changed (acme)");
    }

    #[test]
    fn a_registry_is_watched_and_changes_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let registry = dir.path().join("production.json");
        let file = dir.path().join("edge.yaml");
        let text = format!(
            "{FILE}tenants: {{ file: {}, routes: {{ gw: {{ hosts: ['{{tenant}}.gw.openclaw.example'], \
             endpoint: '{{host}}:{{port}}' }} }} }}\n",
            registry.display()
        );
        std::fs::write(&file, &text).unwrap();
        let entries = |ports: [u16; 2]| {
            format!(
                "{{\"servers\": [{{\"tenant\": \"a\", \"host\": \"192.0.2.1\", \"port\": {}}}, \
                 {{\"tenant\": \"b\", \"host\": \"192.0.2.1\", \"port\": {}}}]}}",
                ports[0], ports[1]
            )
        };
        std::fs::write(&registry, entries([1, 2])).unwrap();
        let reading = read(&file);
        let digest = Digest::of(entries([1, 2]).as_bytes());
        assert_eq!(reading.files, BTreeMap::from([(registry.clone(), Some(digest))]));
        let serving = merge(None, reading.result.unwrap());
        std::fs::write(&registry, entries([1, 3])).unwrap();
        let Decision::Apply(new, changes) = decide(&serving, read(&file).result) else { panic!() };
        assert_eq!(summary(&changes), "tenants: 1 changed (b)");
        // Cut off in the middle of writing: nothing changes but the report.
        std::fs::write(&registry, &entries([1, 4])[..40]).unwrap();
        let Decision::Apply(cut, changes) = decide(&new, read(&file).result) else { panic!() };
        assert!(changes.is_empty() && cut.routes == new.routes);
        assert_eq!(cut.quarantined[0].kind, Kind::Tenants);
        assert!(matches!(decide(&cut, read(&file).result), Decision::Unchanged(_)));
    }

    #[test]
    fn a_reading_knows_the_files_it_depends_on() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("token");
        let absent = dir.path().join("absent");
        std::fs::write(&secret, "t0ken\n").unwrap();
        let file = dir.path().join("edge.yaml");
        let header =
            |path: &Path| format!("{{ set: {{ x-t: \"${{file:{}}}\" }} }}", path.display());
        let text = format!(
            "{FILE}  b: {{ hosts: [b.openclaw.example], upstream: u, headers: {{ request: {} }} }}\n  \
             c: {{ hosts: [c.openclaw.example], upstream: u, headers: {{ request: {} }} }}\n",
            header(&secret),
            header(&absent)
        );
        std::fs::write(&file, &text).unwrap();
        let reading = read(&file);
        assert!(reading.result.is_ok());
        let expected = [(absent, None), (secret, Some(Digest::of(b"t0ken\n")))];
        assert_eq!(reading.files, BTreeMap::from(expected));
        assert_eq!(reading.hash, Digest::of(text.as_bytes()).short());
    }

    #[test]
    fn an_absent_file_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let reading = read(&dir.path().join("none.yaml"));
        assert!(reading.absent && reading.result.is_err());
        assert!(!read(dir.path()).absent);
    }
}
