//! What the loop tells others: a new [`View`] whenever something has changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::run::Run;
use super::slot::{Known, Slot};
use super::view::{FORMER, IMPORTED, Role, Row, View};
use crate::ledger::{Kind, Request, Usage};
use crate::store::Stored;

impl Run {
    /// Whether a new view is due. Of many certificates it takes long to make, and each order
    /// changes it.
    pub(super) fn must_tell(&self) -> bool {
        let lately = || self.published.is_some_and(|at| at.elapsed() < TELL_MANY_EVERY);
        self.stale && (self.slots.len() <= MANY || !lately())
    }

    pub(super) fn publish(&mut self) {
        self.stale = false;
        let now = self.now();
        self.published = Some(Instant::now());
        let known = self.known(now);
        let mut issued: HashMap<&[String], usize> = HashMap::new();
        for event in self.ledger.entries().iter().filter(|event| event.kind == Kind::Issued) {
            *issued.entry(&event.set).or_default() += 1;
        }
        let usage = Usage::of(&self.ledger, now);
        let row = |(stem, slot): (&String, &Slot)| {
            let week = issued.get(slot.wanted.names.as_slice()).copied().unwrap_or(0);
            Row { issued_this_week: week, ..self.row(stem, slot, &known, &usage) }
        };
        let rows = self.slots.iter().map(row).collect();
        let view = View {
            role: self.role.clone(),
            rows,
            problems: self.problems.clone(),
            clock_skew: self.skew,
            tasks: self.tasks.len(),
            orders: self.orders.clone(),
        };
        self.view.store(Arc::new(view));
        (self.settings.changed)();
    }

    fn row(&self, stem: &str, slot: &Slot, known: &Known<'_>, usage: &Usage<'_>) -> Row {
        let names: Vec<&str> = slot.wanted.names.iter().map(String::as_str).collect();
        let mut serving: Vec<Arc<Stored>> = Vec::new();
        let mut missing = Vec::new();
        match slot.leaf(&names, known) {
            Some(whole) => serving.push(whole.clone()),
            None => {
                for name in &names {
                    match slot.leaf(&[*name], known) {
                        Some(part) if serving.iter().any(|s| Arc::ptr_eq(s, part)) => {}
                        Some(part) => serving.push(part.clone()),
                        None => missing.push((*name).to_owned()),
                    }
                }
            }
        }
        let issuer = self.wanted.issuers.get(&slot.wanted.issuer);
        let renewal = serving.first().is_some_and(|leaf| leaf.names == slot.wanted.names);
        let budget = issuer.map(|issuer| {
            let (account, set) = (issuer.ca.directory.as_str(), slot.wanted.names.as_slice());
            usage.left(&issuer.limits, &Request { account, set, renewal, forced: false })
        });
        let (owns, renews_at) = (self.role == Role::Owner, slot.renews_at(known));
        Row {
            label: slot.wanted.label.clone(),
            names: slot.wanted.names.clone(),
            issuer: slot.wanted.issuer.clone(),
            made_by: serving.iter().map(|leaf| self.maker(leaf, slot)).collect(),
            serving,
            missing,
            ordering: slot.running || slot.pending.is_some(),
            unsaved: self.unsaved.contains_key(stem),
            renews_at,
            next_at: if owns { slot.due_at } else { renews_at.unwrap_or(0) },
            next_why: if owns { slot.next_why(known.now) } else { ELSEWHERE.to_owned() },
            failures: slot.failures(),
            last_failure: slot.last_failure.clone(),
            issued_this_week: 0,
            per_week: issuer.map(|issuer| issuer.limits.per_set_week),
            budget: budget.unwrap_or_default(),
        }
    }

    /// Two issuers may have one directory: the slot's own come first.
    fn maker(&self, leaf: &Stored, slot: &Slot) -> String {
        let Some(directory) = &leaf.issuer else { return IMPORTED.to_owned() };
        let own = self.wanted.chain(&slot.wanted.issuer).into_iter();
        let all = self.wanted.issuers.iter().map(|(name, issuer)| (name.as_str(), issuer));
        let made = own.chain(all).find(|(_, issuer)| issuer.ca.directory == *directory);
        made.map_or(FORMER, |(name, _)| name).to_owned()
    }
}

/// Certificates whose view is made without a second thought.
const MANY: usize = 200;
/// Between two views of more than that.
pub(super) const TELL_MANY_EVERY: Duration = Duration::from_secs(1);
/// For people: what a certificate of another process' waits for.
const ELSEWHERE: &str = "this process does not order";
