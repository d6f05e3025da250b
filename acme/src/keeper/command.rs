//! What operators ask of a running keeper.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::run::Run;
use super::slot::Task;
use super::view::{Role, View};
use super::wanted::Wanted;
use crate::ca::{Class, Revocation};
use crate::name;
use crate::store::{Stored, bundle};

pub(super) enum Command {
    Want(Wanted, std::sync::mpsc::Sender<Arc<View>>),
    Renew { which: String, force: bool, reply: Reply<Renewal> },
    Revoke { which: String, reason: Revocation, reply: Reply<Revoked> },
    Import { chain: String, key: String, reply: Reply<Vec<String>> },
    Release,
}

type Reply<T> = oneshot::Sender<Result<T, String>>;

/// A renewal that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    pub label: String,
    /// Unix seconds, and why not before. `None`: it begins at once, or is under way.
    pub waits: Option<(i64, String)>,
}

/// A revoked certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    pub label: String,
    /// Directory URL of the CA that has revoked it.
    pub issuer: String,
}

impl Run {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Want(wanted, reply) => {
                let corrected = self.wanted.corrected_by(&wanted);
                self.want(wanted);
                self.hurry_at(&corrected);
                self.publish();
                // Whoever asked may have stopped waiting.
                let _ = reply.send(self.view.load_full());
            }
            Command::Renew { which, force, reply } => {
                let _ = reply.send(self.renew(&which, force));
            }
            Command::Revoke { which, reason, reply } => self.revoke(&which, reason, reply),
            Command::Import { chain, key, reply } => {
                let _ = reply.send(self.import(&chain, &key));
            }
            Command::Release => self.release(),
        }
    }

    /// What these CAs have refused may be taken now: it does not wait for tomorrow. The ledger
    /// bounds a file that changes all the time.
    fn hurry_at(&mut self, directories: &[String]) {
        for slot in self.slots.values_mut() {
            let refused = |directory: &String| {
                let retry = slot.record.retry.get(directory);
                let last = retry.and_then(|retry| retry.last.as_ref());
                last.is_some_and(|last| last.class == Class::Refused)
            };
            slot.hurry |= directories.iter().any(refused);
        }
    }

    fn renew(&mut self, which: &str, force: bool) -> Result<Renewal, String> {
        self.must_own()?;
        let stem = self.find(which)?;
        let Some(slot) = self.slots.get_mut(&stem) else { return Err(unknown(which)) };
        let label = slot.wanted.label.clone();
        if slot.running {
            return Ok(Renewal { label, waits: None });
        }
        slot.renew = true;
        slot.hurry = true;
        slot.forced |= force;
        slot.due_at = 0;
        let now = self.now();
        let plan = self.slots.get(&stem).map(|slot| slot.plan(&self.known(now)));
        let waits = match plan {
            Some(Task::Nothing { until, why }) => Some((until, why.to_string())),
            _ => None,
        };
        Ok(Renewal { label, waits })
    }

    fn import(&mut self, chain: &str, key: &str) -> Result<Vec<String>, String> {
        self.must_own()?;
        let stored = Stored::parse("the import", bundle(None, chain, key).into_bytes(), "")
            .map_err(|why| why.to_string())?;
        let names = stored.names.clone();
        let stem = name::file_stem(&names);
        let stored = Stored { stem: stem.clone(), ..stored };
        let store = self.store.clone().ok_or("the state directory is not open")?;
        let issuers = self.wanted.issuers.values();
        let issuers: Vec<&str> = issuers.map(|issuer| issuer.ca.directory.as_str()).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let now = self.now();
        if let Some(kept) = self.library.best(&all, &issuers, now)
            && kept.rank(&issuers, now) > stored.rank(&issuers, now)
        {
            return Err("a newer certificate for these names is stored already".to_owned());
        }
        store.put_certificate(&names, &stored.bundle).map_err(|why| why.to_string())?;
        self.library.add(Arc::new(stored));
        self.slots.values_mut().for_each(|slot| slot.due_at = 0);
        self.publish();
        Ok(names)
    }

    fn revoke(&mut self, which: &str, reason: Revocation, reply: Reply<Revoked>) {
        let found = self.must_own().and_then(|()| self.revocable(which));
        let (stem, stored, issuer) = match found {
            Ok(found) => found,
            Err(why) => {
                let _ = reply.send(Err(why));
                return;
            }
        };
        self.start_revocation(stem, stored, issuer, reason, reply);
    }

    /// Only the process with the lock writes.
    fn must_own(&self) -> Result<(), String> {
        match &self.role {
            Role::Owner => Ok(()),
            Role::Idle => Err("no certificate is ordered: no ACME issuer is used".to_owned()),
            Role::Reader => Err("another process orders certificates: ask that one".to_owned()),
            Role::Released => Err("this process is on its way out".to_owned()),
            Role::Broken(why) => Err(why.clone()),
        }
    }

    /// The slot of a label, else of a name.
    pub(super) fn find(&self, which: &str) -> Result<String, String> {
        // Names of entries keep their case.
        let exact = self.slots.iter().find(|(_, slot)| slot.wanted.label == which);
        let which = name::canonical(which).unwrap_or_else(|_| which.to_owned());
        let labelled = || self.slots.iter().find(|(_, slot)| slot.wanted.label == which);
        let named = || self.slots.iter().find(|(_, slot)| slot.wanted.names.contains(&which));
        let found = exact.or_else(labelled).or_else(named).map(|(stem, _)| stem.clone());
        found.ok_or_else(|| unknown(&which))
    }
}

fn unknown(which: &str) -> String {
    format!("no certificate is ordered for {which:?}")
}
