//! What holds for every pair of files.

use proptest::prelude::*;

use super::*;
use crate::last_good;

/// A file of a few routes over few hosts, paths and methods, so that they meet often.
fn any_file() -> impl Strategy<Value = String> {
    let hosts = proptest::sample::subsequence(vec!["a.x", "b.x", "c.x"], 1..=3);
    let path = prop_oneof![Just("/"), Just("/p"), Just("{ exact: /p }")];
    let methods = prop_oneof![3 => Just(""), 1 => Just("GET"), 1 => Just("POST")];
    let upstream = prop_oneof![
        6 => Just("upstream: u"),
        2 => Just("upstream: n"),
        1 => Just("upstream: m"),
        2 => Just("split: { u: 95, n: 5 }"),
    ];
    let route = (0..6usize, hosts, path, methods, upstream, proptest::bool::weighted(0.25));
    let route = route.prop_map(|(name, hosts, path, methods, upstream, bad)| {
        let bad = if bad { ", bad: 1" } else { "" };
        let methods =
            if methods.is_empty() { String::new() } else { format!(", methods: [{methods}]") };
        let hosts = hosts.join(", ");
        (name, format!("r{name}: {{ hosts: [{hosts}], path: {path}{methods}, {upstream}{bad} }}"))
    });
    let upstream = prop_oneof![
        Just(""),
        Just("=n: { endpoints: ['127.0.0.1:3'] }"),
        Just("=n: { endpoints: ['127.0.0.1:4'] }"),
        Just("=n: { endpoints: [bad] }"),
    ];
    (proptest::collection::vec(route, 0..6), upstream).prop_map(|(routes, upstream)| {
        let mut seen = std::collections::BTreeSet::new();
        let mut lines: Vec<String> = routes
            .into_iter()
            .filter(|(name, _)| seen.insert(*name))
            .map(|(_, line)| line)
            .collect();
        lines.push(upstream.to_owned());
        lines.join("\n")
    })
}

fn overlapping(a: &Route, b: &Route) -> bool {
    a.path == b.path
        && a.hosts.iter().any(|host| b.hosts.contains(host))
        && ((a.methods.is_empty() && b.methods.is_empty())
            || a.methods.iter().any(|method| b.methods.contains(method)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_serves_is_consistent(files in proptest::collection::vec(any_file(), 1..4)) {
        let mut previous: Option<Accepted> = None;
        for file in &files {
            let new = candidate(file);
            let merged = merge(previous.as_ref(), new.clone());
            let routes: Vec<&Route> = merged.routes.values().map(|route| &*route.value).collect();
            for (n, a) in routes.iter().enumerate() {
                for b in routes.iter().skip(n + 1) {
                    prop_assert!(!overlapping(a, b), "{} and {}", a.name, b.name);
                }
                for upstream in a.upstreams() {
                    prop_assert!(merged.upstreams.contains_key(upstream));
                }
            }
            for (name, entry) in &new.routes {
                let quarantined = merged.quarantined.iter().find(|one| one.kind == Kind::Route && one.name == *name);
                match (entry, quarantined) {
                    (Entry::Good(good), None) => prop_assert_eq!(&merged.routes[name], good),
                    (Entry::Bad(_), None) => prop_assert!(false, "{} vanished", name),
                    (_, Some(one)) => {
                        prop_assert!(!one.reasons.is_empty());
                        prop_assert_eq!(one.former_serves, merged.routes.contains_key(name));
                    }
                }
                // A good route that nobody disputes serves.
                if let Entry::Good(good) = entry {
                    let disputed = new.routes.iter().any(|(other, entry)| {
                        other != name && matches!(entry, Entry::Good(other) if overlapping(&other.value, &good.value))
                    });
                    let upstreams = good.value.upstreams();
                    let usable = upstreams
                        .iter()
                        .all(|name| matches!(new.upstreams.get(*name), Some(Entry::Good(_))));
                    prop_assert!(disputed || !usable || quarantined.is_none());
                }
            }
            for blocked in &merged.blocked {
                prop_assert!(merged.quarantined.iter().any(|one| one.name == blocked.route));
                prop_assert!(!routes.iter().any(|route| route.path == blocked.path && route.hosts.contains(&blocked.host)));
            }
            previous = Some(merged);
        }
    }

    #[test]
    fn former_versions_lose_only_what_good_routes_claim(before in any_file(), after in any_file()) {
        let previous = merge(None, candidate(&before));
        let merged = merge(Some(&previous), candidate(&after));
        let kept: Vec<&Name> = merged.quarantined.iter().filter(|one| one.kind == Kind::Route && one.former_serves).map(|one| &one.name).collect();
        for name in &kept {
            let (former, now) = (&previous.routes[*name], &merged.routes[*name]);
            let rivals = merged.routes.iter().filter(|(other, _)| !kept.contains(other)).filter(|(_, rival)| overlapping(&rival.value, &former.value)).count();
            if rivals == 0 {
                prop_assert_eq!(former, now);
            } else {
                prop_assert!(now.value.hosts.len() < former.value.hosts.len());
                let restored = Route { hosts: former.value.hosts.clone(), ..Route::clone(&now.value) };
                prop_assert_eq!(&restored, &*former.value);
            }
        }
    }

    #[test]
    fn merging_the_same_file_again_changes_nothing(files in proptest::collection::vec(any_file(), 1..4)) {
        let mut previous: Option<Accepted> = None;
        for file in &files {
            let merged = merge(previous.as_ref(), candidate(file));
            prop_assert_eq!(&merge(Some(&merged), candidate(file)), &merged);
            previous = Some(merged);
        }
    }

    #[test]
    fn a_bad_entry_changes_no_other_entry(before in any_file(), after in any_file(), bad in 0..6usize) {
        let previous = merge(None, candidate(&before));
        let name = format!("r{bad}:");
        let without: Vec<&str> = after.lines().filter(|line| !line.starts_with(&name)).collect();
        let with_bad = format!("{}\n{name} {{ hosts: [a.x, b.x], path: /p, upstream: u, bad: 1 }}", without.join("\n"));
        let with = merge(Some(&previous), candidate(&with_bad));
        let without = merge(Some(&previous), candidate(&without.join("\n")));
        let others = |accepted: &Accepted| -> BTreeMap<Name, Arc<Route>> {
            let routes = accepted.routes.iter().filter(|(route, _)| !name.starts_with(route.as_str()));
            routes.map(|(name, route)| (name.clone(), route.value.clone())).collect()
        };
        prop_assert_eq!(others(&with), others(&without));
    }

    #[test]
    fn the_state_directory_brings_back_what_served(files in proptest::collection::vec(any_file(), 1..4)) {
        let mut previous: Option<Accepted> = None;
        for file in &files {
            previous = Some(merge(previous.as_ref(), candidate(file)));
        }
        let merged = previous.unwrap();
        let restored = last_good::restore(&last_good::document(&merged), &NoEnvironment).unwrap();
        let values = |accepted: &Accepted| -> Vec<Arc<Route>> {
            accepted.routes.values().map(|route| route.value.clone()).collect()
        };
        prop_assert_eq!(values(&restored), values(&merged));
        let claims = |accepted: &Accepted| -> std::collections::BTreeSet<(HostPattern, PathRule)> {
            accepted.blocked.iter().map(|one| (one.host.clone(), one.path.clone())).collect()
        };
        prop_assert_eq!(claims(&restored), claims(&merged));
    }
}
