//! Routes to the table of hosts. Where few routes are other ones than before, only their hosts are
//! looked at: a table of twenty thousand is copied faster than it is made.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use config::merge::Blocked;
use config::model::PathRule;
use config::value::{HostPattern, Name};

use super::reuse::InOrder;
use super::table::{Action, HostEntry, HostTable, Route, Rule, Snapshot};

type Rules<'a> = HashMap<&'a HostPattern, Vec<Rule>>;

/// `routes` in name order.
pub fn hosts(routes: &[Arc<Route>], blocked: &[Blocked], previous: &Snapshot) -> HostTable {
    if let Some(table) = patched(routes, blocked, previous) {
        return table;
    }
    let mut rules = Rules::new();
    for (host, route) in routes.iter().flat_map(claims) {
        rules.entry(host).or_default().extend(rule(route));
    }
    for claim in blocked {
        rules.entry(&claim.host).or_default().push(blocked_rule(&claim.route, &claim.path));
    }
    let mut table = HostTable { blocked: !blocked.is_empty(), ..HostTable::default() };
    insert(&mut table, rules);
    table
}

/// The former table with other hosts for the routes that changed; `None`: they are many, or some
/// hosts are blocked.
fn patched(routes: &[Arc<Route>], blocked: &[Blocked], previous: &Snapshot) -> Option<HostTable> {
    let former = &previous.hosts;
    if former.blocked || !blocked.is_empty() {
        return None;
    }
    let mut affected = HashSet::new();
    for (those, others) in [(routes, &previous.routes[..]), (&previous.routes[..], routes)] {
        let mut others = InOrder::new(others, |route: &Route| &route.name);
        let changed = those.iter().filter(|route| {
            others.find(&route.name).is_none_or(|other| !Arc::ptr_eq(other, route))
        });
        affected.extend(changed.flat_map(claims).map(|(host, _)| host));
    }
    if affected.len() > routes.len() / 8 {
        return None;
    }
    let (exact, wildcard) = (former.exact.clone(), former.wildcard.clone());
    let mut table = HostTable { exact, wildcard, blocked: false };
    for host in &affected {
        match host {
            HostPattern::Exact(name) => table.exact.remove(name),
            HostPattern::Wildcard(suffix) => table.wildcard.remove(suffix),
        };
    }
    let mut rules = Rules::new();
    for (host, route) in routes.iter().flat_map(claims).filter(|(host, _)| affected.contains(host))
    {
        rules.entry(host).or_default().extend(rule(route));
    }
    insert(&mut table, rules);
    Some(table)
}

fn insert(table: &mut HostTable, rules: Rules<'_>) {
    for (host, rules) in rules {
        let entry = Arc::new(HostEntry::new(rules));
        match host {
            HostPattern::Exact(name) => table.exact.insert(name.clone(), entry),
            HostPattern::Wildcard(suffix) => table.wildcard.insert(suffix.clone(), entry),
        };
    }
}

fn claims(route: &Arc<Route>) -> impl Iterator<Item = (&HostPattern, &Arc<Route>)> {
    let hosts = route.spec.iter().flat_map(|spec| &spec.hosts);
    hosts.map(move |host| (host, route))
}

fn rule(route: &Arc<Route>) -> Option<Rule> {
    let spec = route.spec.as_ref()?;
    let methods = spec.methods.iter().map(|method| method.as_str().into()).collect();
    Some(Rule { path: spec.path.clone(), methods, route: route.clone() })
}

fn blocked_rule(name: &Name, path: &PathRule) -> Rule {
    let route = Route::bare(name.clone(), Action::Quarantined);
    Rule { path: path.clone(), methods: Box::default(), route: Arc::new(route) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::compile::empty;
    use super::super::compile::lab::Registries;
    use super::*;

    /// Routes by number: a host of each number, a path, and what they answer.
    type Routes = BTreeMap<u8, (u8, u8, u8)>;

    fn compiled(routes: &Routes, previous: &Snapshot) -> Snapshot {
        let mut text = "version: 1\nlisteners: { web: { bind: ['127.0.0.1:1'] } }\nroutes:\n  \
            last: { hosts: [last.openclaw.example], respond: { status: 200 } }\n"
            .to_owned();
        for (number, (host, path, status)) in routes {
            let (wildcard, status) = (if host % 3 == 0 { "*." } else { "" }, 200 + status);
            text += &format!(
                "  r{number}: {{ hosts: ['{wildcard}h{host}.openclaw.example', \
                 own{number}.openclaw.example], path: /{path}/{number}, respond: {{ status: {status} }} }}\n"
            );
        }
        let read = config::parse("edge.yaml", &text, &config::NoEnvironment).unwrap();
        Registries::default().compile(&config::merge(None, read), previous)
    }

    /// Every host and its rules, in their order.
    fn shown(snapshot: &Snapshot) -> BTreeMap<String, Vec<String>> {
        let HostTable { exact, wildcard, .. } = &snapshot.hosts;
        let rule = |rule: &Rule| {
            let Action::Respond(respond) = &rule.route.action else { panic!() };
            assert!(snapshot.routes.iter().any(|route| Arc::ptr_eq(route, &rule.route)));
            format!("{} {:?} {}", rule.route.name, rule.path, respond.status)
        };
        let rules = |entry: &Arc<HostEntry>| entry.rules.iter().map(rule).collect();
        let exact = exact.iter().map(|(host, entry)| (host.to_string(), rules(entry)));
        let wildcard = wildcard.iter().map(|(host, entry)| (format!("*.{host}"), rules(entry)));
        exact.chain(wildcard).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_patched_table_is_the_table(
            before in prop::collection::btree_map(0..60_u8, (0..12_u8, 0..60_u8, 0..3_u8), 40..60),
            changes in prop::collection::vec((0..60_u8, prop::option::of((0..12_u8, 0..60_u8, 0..3_u8))), 0..3),
        ) {
            let first = compiled(&before, &empty());
            let mut after = before;
            for (number, to) in changes {
                match to {
                    Some(to) => drop(after.insert(number, to)),
                    None => drop(after.remove(&number)),
                }
            }
            let next = compiled(&after, &first);
            prop_assert_eq!(shown(&next), shown(&compiled(&after, &empty())));
        }
    }
}
