//! `find`: host and path to a rule. Most specific wins: exact host over wildcard, exact path over
//! prefix, longer prefix over shorter, a method list over none.

use std::cmp::Reverse;
use std::sync::Arc;

use config::model::PathRule;

use super::table::{Action, HostEntry, HostTable, Rule};

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
        let path_rules = rules.iter().any(|rule| !catches_all(&rule.path));
        HostEntry { rules, path_rules }
    }

    /// The first, that is the most specific, rule that matches. A redirect to https is no rule for
    /// a request that is there already (`secure`): it would lead to itself.
    pub fn find(&self, path: &[u8], method: &str, secure: bool) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            path_matches(&rule.path, path)
                && (rule.methods.is_empty() || rule.methods.iter().any(|m| m.as_ref() == method))
                && !(secure && only_upgrades(&rule.route.action))
        })
    }
}

fn only_upgrades(action: &Action) -> bool {
    matches!(action, Action::Redirect(to) if to.https_port.is_some() && to.host.is_none())
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
