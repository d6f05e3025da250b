//! How many names get series of their own: `metrics.max_series` bounds the series of routes,
//! upstreams and tenants together. A name is counted with what it makes in ordinary use; all labels
//! beside the names have closed lists, so a bound on names is one on everything.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use config::merge::Accepted;
use config::model::{Action, Route};
use config::value::Name;

use super::Metrics;
use super::family::Family;
use super::requests::AUTH_DECISIONS;

/// Who has series of its own. A name keeps what it has as long as it is there, as tenants do.
#[derive(Default)]
pub struct Budget {
    max: usize,
    own: HashSet<Name>,
    /// Routes and upstreams that are counted together. A route and an upstream of one name have one
    /// fate.
    beyond: HashSet<Name>,
    /// Most tenants with a label.
    tenants: usize,
    /// Tenants that have none although `tenants.metrics.tenants` has room for them.
    tenants_beyond: usize,
    dropped: Dropped,
}

/// What has lost its series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Series that are not made, as estimated.
    pub series: usize,
    /// Names of routes and upstreams, all that are beyond the bound.
    pub names: usize,
    /// The same of tenants.
    pub tenants: usize,
}

impl Budget {
    /// Gives the names of this configuration what there is.
    pub fn follow(&mut self, accepted: &Accepted) {
        let max = accepted.global.metrics.max_series;
        if self.max != max {
            *self = Budget { max, dropped: self.dropped, ..Budget::default() };
        }
        let asked = Asked::of(accepted);
        let tenant = WEIGHTS.tenant * asked.templates.max(1);
        let most = accepted.global.tenants.as_ref().map_or(0, |tenants| tenants.metric_tenants);
        // Routes are more worth than tenants, but not everything.
        self.tenants = most.min(max / 2 / tenant);
        let beyond = most.min(accepted.tenants.len()).saturating_sub(self.tenants);
        let lost = beyond.saturating_sub(self.tenants_beyond) * tenant;
        self.tenants_beyond = beyond;
        let templates = asked.templates * WEIGHTS.template();
        let room = max.saturating_sub(templates + self.tenants * tenant);
        let lost = lost + self.share(&asked, room);
        if lost > 0 {
            let series = self.dropped.series + lost;
            self.dropped = Dropped { series, names: self.beyond.len(), tenants: beyond };
        }
    }

    /// Names in the order they are asked for, who was there first; the series of who gets nothing.
    fn share(&mut self, asked: &Asked<'_>, room: usize) -> usize {
        self.own.retain(|name| asked.costs.contains_key(name));
        self.beyond.retain(|name| asked.costs.contains_key(name));
        let kept = self.own.iter().filter_map(|name| asked.costs.get(name)).sum();
        let mut room = room.saturating_sub(kept);
        let mut lost = 0;
        for name in &asked.names {
            if self.own.contains(*name) || self.beyond.contains(*name) {
                continue;
            }
            let cost = asked.costs.get(name).copied().unwrap_or_default();
            if cost <= room {
                room -= cost;
                self.own.insert((*name).clone());
            } else {
                lost += cost;
                self.beyond.insert((*name).clone());
            }
        }
        lost
    }

    /// Whether this route or upstream shares its series.
    pub fn is_beyond(&self, name: &Name) -> bool {
        self.beyond.contains(name)
    }

    /// Most tenants with a label.
    pub fn tenants(&self) -> usize {
        self.tenants
    }

    /// What was lost since this was asked last; `None`: nothing.
    pub fn dropped(&mut self) -> Option<Dropped> {
        Some(std::mem::take(&mut self.dropped)).filter(|dropped| dropped.series > 0)
    }
}

/// What a configuration would make.
struct Asked<'a> {
    /// Each route with what it leads to, then other upstreams.
    names: Vec<&'a Name>,
    costs: HashMap<&'a Name, usize>,
    templates: usize,
}

impl<'a> Asked<'a> {
    fn of(accepted: &'a Accepted) -> Asked<'a> {
        let mut asked = Asked { names: Vec::new(), costs: HashMap::new(), templates: 0 };
        let mut templates = BTreeSet::new();
        for route in accepted.routes.values().map(|entry| &entry.value) {
            if let Some(of) = &route.tenant {
                templates.insert(&of.template);
                continue;
            }
            let targets: Vec<&Name> = match &route.action {
                Action::Upstream(name) => vec![name],
                Action::Split(parts) => parts.iter().map(|part| &part.upstream).collect(),
                Action::Redirect(_) | Action::Respond(_) => Vec::new(),
            };
            asked.add(&route.name, WEIGHTS.route(route, targets.len()));
            targets.into_iter().for_each(|target| asked.add(target, 0));
        }
        for upstream in accepted.upstreams.values().map(|entry| &entry.value) {
            if upstream.tenant.is_none() {
                asked.add(&upstream.name, WEIGHTS.upstream);
            }
        }
        asked.templates = templates.len();
        asked
    }

    fn add(&mut self, name: &'a Name, cost: usize) {
        match self.costs.entry(name) {
            Entry::Occupied(mut known) => *known.get_mut() += cost,
            Entry::Vacant(new) => {
                new.insert(cost);
                self.names.push(name);
            }
        }
    }
}

static WEIGHTS: LazyLock<Weights> = LazyLock::new(|| Weights::of(Metrics::new().families()));

/// Series in ordinary use.
#[derive(Debug, Default)]
struct Weights {
    route: usize,
    /// Of a route, for each upstream that it leads to.
    target: usize,
    access: usize,
    /// Of a route, for each of its limits.
    limit: usize,
    upstream: usize,
    /// Of a tenant, for each template.
    tenant: usize,
}

impl Weights {
    fn of(families: &[Family]) -> Weights {
        let mut weights = Weights::default();
        for family in families {
            let of = |label| family.def.labels.contains(&label);
            let series = series(family);
            if of("tenant") {
                weights.tenant += series;
            }
            let slot = match (of("route"), of("upstream"), of("limit")) {
                (true, _, true) => &mut weights.limit,
                (true, true, false) => &mut weights.target,
                (true, false, false) if family.def.name == AUTH_DECISIONS.name => {
                    &mut weights.access
                }
                (true, false, false) => &mut weights.route,
                (false, true, _) => &mut weights.upstream,
                (false, false, _) => continue,
            };
            *slot += series;
        }
        weights
    }

    fn route(&self, route: &Route, targets: usize) -> usize {
        // A route that answers by itself has requests and durations, too.
        let access = if route.access.is_some() { self.access } else { 0 };
        self.route + self.target * targets.max(1) + self.limit * route.rate_limits.len() + access
    }

    /// Of a template.
    fn template(&self) -> usize {
        self.route + self.target + self.upstream
    }
}

/// Of one name.
fn series(family: &Family) -> usize {
    let labels = family.def.labels.iter().map(|label| usual(label)).product::<usize>();
    match family.buckets.len() {
        0 => labels,
        // With `+Inf`, the sum and the count.
        buckets => labels * (buckets + 3),
    }
}

/// Values of a label that one name sees.
fn usual(label: &str) -> usize {
    match label {
        "method" | "code_class" | "reason" | "result" => 3,
        "decision" => 4,
        "code" => 5,
        // Of endpoints, all of which are shown.
        "state" => 7,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn accepted(max: usize, routes: &str) -> Accepted {
        let mut text =
            "version: 1\nlisteners: { web: { bind: ['127.0.0.1:1'] } }\nupstreams:\n".to_owned();
        for name in routes.chars() {
            text += &format!("  up-{name}: {{ endpoints: ['127.0.0.1:2'] }}\n");
        }
        text += "routes:\n";
        for name in routes.chars() {
            text +=
                &format!("  {name}: {{ hosts: [{name}.openclaw.example], upstream: up-{name} }}\n");
        }
        let read = config::parse("edge.yaml", &text, &config::NoEnvironment).unwrap();
        let mut accepted = config::merge(None, read);
        // Less than a file may ask for.
        Arc::make_mut(&mut accepted.global).metrics.max_series = max;
        accepted
    }

    /// Who has series of its own.
    fn own(budget: &mut Budget, max: usize, routes: &str) -> String {
        let accepted = accepted(max, routes);
        budget.follow(&accepted);
        let names = accepted.routes.keys().chain(accepted.upstreams.keys());
        let own = names.filter(|name| !budget.is_beyond(name));
        own.map(Name::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn weights_are_what_the_reference_says() {
        let near = |value: usize, expected: usize| value.abs_diff(expected) * 5 <= expected;
        assert!(near(WEIGHTS.route + WEIGHTS.target, 110), "{:?}", *WEIGHTS);
        assert!(near(WEIGHTS.upstream, 110) && near(WEIGHTS.tenant, 25), "{:?}", *WEIGHTS);
        assert!(near(WEIGHTS.limit, 8) && near(WEIGHTS.access, 3), "{:?}", *WEIGHTS);
    }

    #[test]
    fn tenants_get_half_at_most() {
        let mut accepted = accepted(1000, "a");
        let global = Arc::make_mut(&mut accepted.global);
        global.tenants = Some(config::model::Tenants {
            file: "/registry.json".into(),
            id: "tenant".to_owned(),
            certificates: None,
            removed_drain: std::time::Duration::ZERO,
            metric_tenants: 100,
        });
        let mut budget = Budget::default();
        budget.follow(&accepted);
        assert_eq!(budget.tenants(), 500 / WEIGHTS.tenant);
        Arc::make_mut(&mut accepted.global).metrics.max_series = 50_000;
        budget.follow(&accepted);
        assert_eq!(budget.tenants(), 100);
    }

    #[test]
    fn the_first_have_series_and_keep_them() {
        let mut budget = Budget::default();
        // Four routes with their upstreams, and one without.
        let max = WEIGHTS.template() * 5 - WEIGHTS.upstream;
        assert_eq!(own(&mut budget, max, "bcd"), "b c d up-b up-c up-d");
        assert_eq!(budget.dropped(), None);
        // New ones get what is left.
        assert_eq!(own(&mut budget, max, "abcde"), "a b c d e up-a up-b up-c up-d");
        let lost = Dropped { series: WEIGHTS.upstream, names: 1, tenants: 0 };
        assert_eq!((budget.dropped(), budget.dropped()), (Some(lost), None));
        // Who shares goes on to, and is not lost twice.
        assert_eq!(own(&mut budget, max, "acde"), "a c d e up-a up-c up-d");
        assert_eq!(budget.dropped(), None);
        assert_eq!(own(&mut budget, max, "acdef"), "a c d e f up-a up-c up-d up-f");
        // Another bound: everybody begins anew.
        assert_eq!(own(&mut budget, max * 10, "acdef"), "a c d e f up-a up-c up-d up-e up-f");
        assert_eq!(own(&mut budget, WEIGHTS.template(), "cd"), "c up-c");
        assert_eq!(budget.dropped().map(|dropped| dropped.names), Some(2));
    }
}
