//! `find`: host and path to a rule. Most specific wins: exact host over wildcard, exact path over
//! prefix, longer prefix over shorter, a method list over none.

use std::cmp::Reverse;
use std::sync::Arc;

use config::model::PathRule;

use super::table::{Action, HostEntry, HostTable, Route, Rule};
use crate::access::Access;

impl HostTable {
    /// The entry for a normalised host (lower-case, without port and trailing dot).
    pub fn find(&self, host: &str) -> Option<&Arc<HostEntry>> {
        if let Some(entry) = self.exact.get(host) {
            return Some(entry);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        let (_, suffix) = host.split_once('.')?;
        self.wildcard.get(suffix)
    }
}

impl HostEntry {
    /// Puts the rules into the order that `find` relies on.
    pub fn new(mut rules: Vec<Rule>) -> HostEntry {
        rules.sort_by_key(|rule| Reverse(specificity(rule)));
        let path_rules = rules.iter().any(reads_path);
        HostEntry { rules, path_rules }
    }

    /// The first, that is the most specific, rule that matches. A redirect to https is no rule for
    /// a request that is there already (`secure`): it would lead to itself.
    pub fn find(&self, path: &[u8], method: &str, secure: bool) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            path_matches(&rule.path, path)
                && (rule.methods.is_empty() || rule.methods.iter().any(|m| m.as_ref() == method))
                && !(secure && only_upgrades(&rule.route))
        })
    }
}

/// What a rewrite makes of a path, and what it lets through, must hold for every spelling of it.
fn reads_path(rule: &Rule) -> bool {
    let Route { rewrite, access, .. } = &*rule.route;
    let exceptions = access.as_ref().is_some_and(Access::has_exceptions);
    !catches_all(&rule.path) || rewrite.is_some() || exceptions
}

fn only_upgrades(route: &Route) -> bool {
    let Action::Redirect(to) = &route.action else { return false };
    to.https && to.host.is_none() && to.path.is_none() && route.rewrite.is_none()
}

fn catches_all(rule: &PathRule) -> bool {
    matches!(rule, PathRule::Prefix(prefix) if prefix.as_str() == "/")
}

fn specificity(rule: &Rule) -> (bool, usize, bool) {
    let (exact, len) = match &rule.path {
        PathRule::Exact(path) => (true, path.as_str().len()),
        PathRule::Prefix(prefix) => (false, prefix.as_str().trim_end_matches('/').len()),
    };
    (exact, len, !rule.methods.is_empty())
}

/// Whole segments: `/api` and `/api/` match `/api` and `/api/x`, not `/apix`.
pub fn path_matches(rule: &PathRule, path: &[u8]) -> bool {
    match rule {
        PathRule::Exact(exact) => exact.as_str().as_bytes() == path,
        PathRule::Prefix(prefix) => {
            let prefix = prefix.as_str().trim_end_matches('/').as_bytes();
            match path.strip_prefix(prefix) {
                Some(rest) => rest.is_empty() || rest.starts_with(b"/") || prefix.is_empty(),
                None => false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::route::table::{Respond, Route};

    fn rule(path: &str, exact: bool, methods: &[&str], name: &str) -> Rule {
        let norm = config::value::NormPath::parse(path).unwrap();
        let path = if exact { PathRule::Exact(norm) } else { PathRule::Prefix(norm) };
        let body = name.to_owned().into();
        let action = Action::Respond(Respond { status: 200, content_type: None, body });
        let route = Route::bare(config::value::Name::new(name).unwrap(), action);
        let methods = methods.iter().map(|m| Box::from(*m)).collect();
        Rule { path, methods, route: Arc::new(route) }
    }

    fn found<'e>(entry: &'e HostEntry, path: &str, method: &str) -> Option<&'e str> {
        entry.find(path.as_bytes(), method, false).map(|rule| rule.route.name.as_str())
    }

    #[test]
    fn the_most_specific_rule_wins_whatever_the_order() {
        let entry = HostEntry::new(vec![
            rule("/", false, &[], "all"),
            rule("/api", false, &[], "api"),
            rule("/api", false, &["POST"], "post"),
            rule("/api/v1", true, &[], "exact"),
        ]);
        assert!(entry.path_rules);
        for (path, method, name) in [
            ("/", "GET", "all"),
            ("/apix", "GET", "all"),
            ("/api", "GET", "api"),
            ("/api/", "POST", "post"),
            ("/api/v1", "POST", "exact"),
            ("/api/v1/", "GET", "api"),
        ] {
            assert_eq!(found(&entry, path, method), Some(name), "{method} {path}");
        }
        assert!(!HostEntry::new(vec![rule("/", false, &[], "all")]).path_rules);
    }

    /// Every matching rule, judged one by one, the slow way.
    fn oracle<'e>(entry: &'e HostEntry, path: &str, method: &str) -> Option<&'e str> {
        let segments = |p: &str| -> Vec<String> {
            p.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect()
        };
        let matches = |rule: &&Rule| {
            let by_path = match &rule.path {
                PathRule::Exact(exact) => exact.as_str() == path,
                PathRule::Prefix(prefix) => segments(path).starts_with(&segments(prefix.as_str())),
            };
            by_path && (rule.methods.is_empty() || rule.methods.iter().any(|m| &**m == method))
        };
        let best = entry.rules.iter().filter(matches).max_by_key(|rule| {
            let (exact, path) = match &rule.path {
                PathRule::Exact(path) => (true, path.as_str()),
                PathRule::Prefix(path) => (false, path.as_str()),
            };
            (exact, segments(path).len(), !rule.methods.is_empty())
        });
        best.map(|rule| rule.route.name.as_str())
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_way(
            rules in prop::collection::btree_set(("(/[ab]{1,2}){1,3}", any::<bool>(), any::<bool>()), 0..8),
            path in "(/[ab]{1,2}){1,4}",
            post in any::<bool>(),
        ) {
            let rules = rules.iter().enumerate().map(|(i, (path, exact, only_post))| {
                rule(path, *exact, if *only_post { &["POST"] } else { &[] }, &format!("r{i}"))
            });
            let entry = HostEntry::new(rules.collect());
            let method = if post { "POST" } else { "GET" };
            prop_assert_eq!(found(&entry, &path, method), oracle(&entry, &path, method));
        }
    }
}
