//! What a configuration would order, and how much of it the state directory has already.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use acme::keeper::{self, WantedCertificate};
use acme::ledger::{Ledger, Request, estimate};
use acme::store::{Store, Stored};
use config::merge::Accepted;
use config::value::HostPattern;

use super::table::span;
use crate::clock;
use crate::control::certs::{self, Orders};
use crate::downstream::cert_table::CertEntry;

/// What the keeper would be asked for: files that are here are read to see what they cover.
pub fn orders(accepted: &Accepted) -> Orders {
    let wanted = certs::wanted(accepted);
    let files: Vec<CertEntry> =
        wanted.files.iter().filter_map(|pair| certs::load_files(pair).ok()).collect();
    let internal = |host: &str| {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        wanted.issued.iter().flat_map(|(_, names)| names).any(|name| match name {
            HostPattern::Exact(name) => **name == *host,
            HostPattern::Wildcard(suffix) => Some(&**suffix) == parent,
        })
    };
    let open = wanted.hosts.iter().filter(|host| {
        let host = host.to_string();
        !files.iter().any(|entry| entry.covers(&host)) && !internal(&host)
    });
    wanted.orders(open)
}

/// What a state directory holds, looked at without changing it.
#[derive(Default)]
pub struct Held {
    pub certificates: Vec<Arc<Stored>>,
    pub ledger: Ledger,
    /// Why nothing is known of it.
    pub unknown: Option<String>,
}

impl Held {
    pub fn of(state_dir: &Path) -> Held {
        let Some(store) = Store::look(state_dir) else {
            let folder = state_dir.join(acme::store::FOLDER);
            return Held { unknown: unreadable(&folder), ..Held::default() };
        };
        let mut problems = Vec::new();
        let certificates = store.certificates(&mut problems);
        let unknown = problems.first().filter(|_| certificates.is_empty()).cloned();
        match store.ledger() {
            Ok(ledger) => Held { certificates, ledger, unknown },
            Err(why) => {
                let unknown = unknown.or_else(|| Some(why.to_string()));
                Held { certificates, ledger: Ledger::default(), unknown }
            }
        }
    }

    /// The best one for all of these names.
    pub fn best(&self, names: &[String], wanted: &keeper::Wanted) -> Option<&Arc<Stored>> {
        let issuers: Vec<&str> = wanted.issuers.values().map(|i| &*i.ca.directory).collect();
        let now = clock::unix_seconds();
        let fitting = |stored: &&Arc<Stored>| names.iter().all(|name| stored.covers(name));
        self.certificates.iter().filter(fitting).max_by_key(|stored| stored.rank(&issuers, now))
    }
}

/// `None`: it is just not there yet.
fn unreadable(folder: &PathBuf) -> Option<String> {
    match std::fs::read_dir(folder) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
            Some(format!("{}: {why}", folder.display()))
        }
        _ => None,
    }
}

/// How long a first issuance takes, one line per issuer; empty where nothing is ordered.
pub fn first_issuance(accepted: &Accepted) -> Vec<String> {
    let wanted = orders(accepted).wanted;
    if wanted.certificates.is_empty() {
        return Vec::new();
    }
    let state_dir = &accepted.global.state_dir;
    told(&wanted, &Held::of(state_dir), &state_dir.display().to_string())
}

fn told(wanted: &keeper::Wanted, held: &Held, dir: &str) -> Vec<String> {
    let now = clock::unix_seconds();
    let is_there = |certificate: &&WantedCertificate| {
        let best = held.best(&certificate.names, wanted);
        best.is_some_and(|stored| stored.certificate.is_valid_at(now))
    };
    let (there, missing): (Vec<_>, Vec<_>) = wanted.certificates.iter().partition(is_there);
    let assumed = match (&held.unknown, there.len()) {
        (Some(why), _) => format!("; as if none were there, for {why}"),
        (None, 0) => String::new(),
        (None, count) => format!("; {count} in {dir} already"),
    };
    if missing.is_empty() {
        return vec![format!("certificates: none to order{assumed}")];
    }
    let mut lines = Vec::new();
    for (name, issuer) in &wanted.issuers {
        let account = issuer.ca.directory.as_str();
        let of = missing.iter().filter(|certificate| certificate.issuer == *name);
        let requests: Vec<Request<'_>> = of
            .map(|of| Request { account, set: &of.names, renewal: false, forced: false })
            .collect();
        if requests.is_empty() {
            continue;
        }
        let plan = estimate(now, &held.ledger, &issuer.limits, &requests);
        let when = match plan.seconds {
            0 => "at once".to_owned(),
            seconds => format!("after {} if none fails", span(seconds)),
        };
        let why = plan.why.map(|why| format!(" ({why})")).unwrap_or_default();
        let count = requests.len();
        lines.push(format!(
            "certificates: {count} to order from {name}, the last one {when}{why}{assumed}"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use config::NoEnvironment;
    use config::merge::merge;

    use super::*;

    fn accepted(hosts: usize, state_dir: &Path, more: &str) -> Accepted {
        let list: Vec<String> = (0..hosts).map(|n| format!("h{n}.openclaw.example")).collect();
        let text = format!(
            "version: 1\nstate_dir: {}\nlisteners: {{ web: {{ bind: ['127.0.0.1:0'] }}, \
             https: {{ bind: ['127.0.0.1:0'], tls: {{}} }} }}\nissuers: {{ ca: {{ directory: \
             'https://ca.openclaw.example/dir' }}, local: {{ internal: {{}} }} }}\n\
             default_issuer: ca\n{more}routes:\n  a: {{ hosts: [{}], respond: {{ status: 204 }} }}\n",
            state_dir.display(),
            list.join(", ")
        );
        let accepted = merge(None, config::parse("edge.yaml", &text, &NoEnvironment).unwrap());
        assert!(accepted.quarantined.is_empty(), "{:?}", accepted.quarantined);
        accepted
    }

    #[test]
    fn few_at_once_and_many_under_the_limit_of_their_domain() {
        let dir = tempfile::tempdir().unwrap();
        let lines = |hosts| first_issuance(&accepted(hosts, dir.path(), ""));
        assert_eq!(lines(4), ["certificates: 4 to order from ca, the last one at once"]);
        assert_eq!(
            lines(51),
            ["certificates: 51 to order from ca, the last one after 7 days if none fails \
              (50 new certificates under openclaw.example in 7 days)"]
        );
        assert!(!dir.path().join("acme").exists(), "looking makes nothing");
    }

    #[test]
    fn what_is_there_is_not_ordered() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["h0.openclaw.example".to_owned()];
        let made = acme::placeholder::self_signed(&names[0], clock::unix_seconds()).unwrap();
        let bundle = acme::store::bundle(None, &made.chain_pem(), &made.key_pem().unwrap());
        Store::open(dir.path()).unwrap().put_certificate(&names, &bundle).unwrap();
        let place = dir.path().display();
        let lines = |hosts| first_issuance(&accepted(hosts, dir.path(), ""));
        assert_eq!(lines(1), [format!("certificates: none to order; 1 in {place} already")]);
        let two =
            format!("certificates: 1 to order from ca, the last one at once; 1 in {place} already");
        assert_eq!(lines(2), [two]);
    }

    #[test]
    fn entries_take_their_hosts_out() {
        let dir = tempfile::tempdir().unwrap();
        let more = "certificates:\n  two: { names: [h0.openclaw.example, h1.openclaw.example] }\n  \
                    own: { names: ['*.openclaw.example'], issuer: local }\n";
        let lines = first_issuance(&accepted(3, dir.path(), more));
        assert_eq!(lines, ["certificates: 1 to order from ca, the last one at once"]);
    }
}
