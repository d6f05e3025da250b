//! Changed endpoints as log lines: counts and the first few, one line per upstream in
//! [`QUIET_MS`]. What changes meanwhile is summed up in the next line.

use std::collections::{BTreeMap, HashSet};

use config::value::Name;

use crate::upstream::endpoint::{EndpointSet, Member};
use crate::wording::counted;

#[derive(Default)]
pub struct ChangeLog {
    upstreams: BTreeMap<Name, Recent>,
}

#[derive(Default)]
struct Recent {
    /// Process milliseconds of the last line.
    told_ms: u64,
    changes: usize,
    added: usize,
    removed: usize,
    /// How many there are now, and the first of them.
    now: (usize, String),
}

impl ChangeLog {
    pub fn changed(&mut self, name: &Name, old: &EndpointSet, new: &EndpointSet, now_ms: u64) {
        let fresh = !self.upstreams.contains_key(name);
        let recent = self.upstreams.entry(name.clone()).or_default();
        recent.changes += 1;
        let kept = in_both(old, new);
        recent.added += new.members.len() - kept;
        recent.removed += old.members.len() - kept;
        recent.now = (new.members.len(), first(&new.members));
        if fresh {
            recent.tell(name, now_ms);
        }
    }

    /// Says what is due; once a second is enough.
    pub fn flush(&mut self, now_ms: u64) {
        self.upstreams.retain(|name, recent| {
            if now_ms < recent.told_ms + QUIET_MS {
                return true;
            }
            let news = recent.changes > 0;
            if news {
                recent.tell(name, now_ms);
            }
            news
        });
    }
}

impl Recent {
    fn tell(&mut self, name: &Name, now_ms: u64) {
        let (count, first) = &self.now;
        let changes = match self.changes {
            1 => String::new(),
            some => format!(" in {some} changes"),
        };
        let count = counted(*count, "endpoint", "endpoints");
        let (added, removed) = (self.added, self.removed);
        tracing::info!(
            "upstream {name}: {count}, {added} came and {removed} went{changes}: {first}"
        );
        *self = Recent { told_ms: now_ms, ..Recent::default() };
    }
}

fn in_both(old: &EndpointSet, new: &EndpointSet) -> usize {
    let old: HashSet<u32> = old.members.iter().map(|member| member.endpoint.id).collect();
    new.members.iter().filter(|member| old.contains(&member.endpoint.id)).count()
}

fn first(members: &[Member]) -> String {
    let shown: Vec<&str> = members.iter().take(SHOWN).map(|one| &*one.endpoint.text).collect();
    let more = if members.len() > SHOWN { ", ..." } else { "" };
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") + more }
}

const QUIET_MS: u64 = 10_000;
const SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use config::model::EndpointSpec;

    use super::*;
    use crate::upstream::endpoint::EndpointRegistry;

    fn set(registry: &mut EndpointRegistry, ends: std::ops::Range<u8>) -> EndpointSet {
        let spec: Vec<EndpointSpec> = ends
            .map(|end| EndpointSpec {
                address: config::model::EndpointAddress::Ip(([192, 0, 2, end], 80).into()),
                weight: 1,
            })
            .collect();
        let upstream = config::model::Upstream::new(Name::new("web").unwrap(), spec);
        EndpointSet::resolve(&upstream, &|_| None, registry)
    }

    #[test]
    fn one_line_at_once_and_the_rest_summed_up() {
        let (mut log, mut registry) = (ChangeLog::default(), EndpointRegistry::default());
        let name = Name::new("web").unwrap();
        let sets: Vec<EndpointSet> =
            [0..1, 0..3, 2..4, 2..30].map(|ends| set(&mut registry, ends)).into();
        log.changed(&name, &sets[0], &sets[1], 100);
        // Told: nothing is held back.
        assert_eq!(log.upstreams[&name].changes, 0);
        log.changed(&name, &sets[1], &sets[2], 200);
        log.changed(&name, &sets[2], &sets[3], 5_000);
        log.flush(10_099);
        let held = &log.upstreams[&name];
        assert_eq!((held.changes, held.added, held.removed), (2, 1 + 26, 2));
        assert_eq!(held.now.0, 28);
        assert!(held.now.1.starts_with("192.0.2.2:80, ") && held.now.1.ends_with(", ..."));
        assert_eq!(held.now.1.matches(":80").count(), SHOWN);
        log.flush(10_100);
        assert_eq!(log.upstreams[&name].changes, 0);
        // Quiet since: forgotten.
        log.flush(20_100);
        assert!(log.upstreams.is_empty());
    }
}
