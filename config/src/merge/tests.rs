//! The golden table of `merge`, and what holds for every pair of files.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::environment::NoEnvironment;
use crate::model::Action;
use crate::{last_good, parse};

/// What served, what is read, what serves then. `r` stands for the bad part of an entry.
struct Case {
    title: &'static str,
    before: &'static str,
    after: &'static str,
    then: &'static str,
}

const TABLE: &[Case] = &[
    Case {
        title: "a good file serves",
        before: "",
        after: "a: { hosts: [a.x], upstream: u }",
        then: "a.x / -> a new u",
    },
    Case {
        title: "a removed entry is gone",
        before: "a: { hosts: [a.x], upstream: u }\nb: { hosts: [b.x], upstream: u }",
        after: "b: { hosts: [b.x], upstream: u }",
        then: "b.x / -> b new u",
    },
    Case {
        title: "a changed entry is the new one",
        before: "a: { hosts: [a.x], upstream: u }",
        after: "a: { hosts: [a2.x], upstream: v }",
        then: "a2.x / -> a new v",
    },
    Case {
        title: "a bad entry without a former version is blocked",
        before: "",
        after: "a: { hosts: [a.x], path: /p, upstream: u, bad: 1 }",
        then: "a.x /p blocked by a",
    },
    Case {
        title: "a bad entry keeps its former version, the rest applies",
        before: "a: { hosts: [a.x], upstream: u }\nb: { hosts: [b.x], upstream: u }",
        after: "a: { hosts: [a.x], upstream: v, bad: 1 }\nb: { hosts: [b.x], upstream: v }",
        then: "a.x / -> a kept u\nb.x / -> b new v",
    },
    Case {
        title: "what only the bad version claims is blocked, whatever else would match",
        before: "a: { hosts: [a.x], upstream: u }\np: { hosts: [a.x], path: /p, upstream: u }",
        after: "a: { hosts: [a.x], upstream: u }\np: { hosts: [a.x, b.x], path: /q, upstream: u, bad: 1 }",
        then: "a.x / -> a new u\na.x /p -> p kept u\na.x /q blocked by p\nb.x /q blocked by p",
    },
    Case {
        title: "a bad entry whose claims cannot be read keeps its former ones",
        before: "a: { hosts: [a.x], upstream: u }",
        after: "a: { hosts: ['*'], upstream: u }",
        then: "a.x / -> a kept u",
    },
    Case {
        title: "a good new route wins over a former version",
        before: "a: { hosts: [a.x, b.x], upstream: u }",
        after: "a: { hosts: [a.x, b.x], upstream: u, bad: 1 }\nc: { hosts: [b.x], upstream: v }",
        then: "a.x / -> a kept u\nb.x / -> c new v",
    },
    Case {
        title: "a former version that lost every claim is not serving",
        before: "a: { hosts: [a.x], upstream: u }",
        after: "a: { hosts: [a.x], upstream: u, bad: 1 }\nc: { hosts: [a.x], upstream: v }",
        then: "a.x / -> c new v\na not serving",
    },
    Case {
        title: "other methods are no rival",
        before: "a: { hosts: [a.x], methods: [GET], upstream: u }",
        after: "a: { hosts: [a.x], bad: 1, upstream: u }\nc: { hosts: [a.x], methods: [POST], upstream: v }",
        then: "a.x / GET -> a kept u\na.x / POST -> c new v",
    },
    Case {
        title: "of two new routes with one claim the first of the file gets it",
        before: "",
        after: "b: { hosts: [a.x], upstream: u }\na: { hosts: [a.x, c.x], upstream: v }",
        then: "a.x / -> b new u\nc.x / blocked by a",
    },
    Case {
        title: "the route that served before keeps its claim",
        before: "b: { hosts: [a.x], upstream: u }",
        after: "a: { hosts: [a.x], upstream: v }\nb: { hosts: [a.x], upstream: v }",
        then: "a.x / -> b new v\na not serving",
    },
    Case {
        title: "the loser of a clash keeps its former version",
        before: "a: { hosts: [a.x], upstream: u }\nb: { hosts: [b.x], upstream: u }",
        after: "a: { hosts: [a.x, b.x], upstream: v }\nb: { hosts: [b.x], upstream: v }",
        then: "a.x / -> a kept u\nb.x / -> b new v",
    },
    Case {
        title: "exact and prefix of one path are two claims",
        before: "",
        after: "a: { hosts: [a.x], path: /p, upstream: u }\nb: { hosts: [a.x], path: { exact: /p }, upstream: v }",
        then: "a.x /p -> a new u\na.x =/p -> b new v",
    },
    Case {
        title: "a wildcard and a name in it are two claims",
        before: "",
        after: "a: { hosts: ['*.x.y'], upstream: u }\nb: { hosts: [b.x.y], upstream: v }",
        then: "*.x.y / -> a new u\nb.x.y / -> b new v",
    },
    Case {
        title: "a route to an unknown upstream is bad",
        before: "a: { hosts: [a.x], upstream: u }",
        after: "a: { hosts: [a.x], upstream: w }\nb: { hosts: [b.x], upstream: w }",
        then: "a.x / -> a kept u\nb.x / blocked by b",
    },
    Case {
        title: "a bad upstream keeps its former version for every route",
        before: "a: { hosts: [a.x], upstream: u }",
        after: "a: { hosts: [a2.x], upstream: u }\n=u: { endpoints: ['x'] }",
        then: "a2.x / -> a new u\nupstream u kept",
    },
    Case {
        title: "a bad upstream without a former version takes its routes with it",
        before: "a: { hosts: [a.x], upstream: u }",
        after: "a: { hosts: [a.x], upstream: n }\nb: { hosts: [b.x], upstream: n }\n=n: { endpoints: ['x'] }",
        then: "a.x / -> a kept u\nb.x / blocked by b\nupstream n not serving",
    },
    Case {
        title: "a former version keeps the upstream that was removed",
        before: "a: { hosts: [a.x], upstream: n }\n=n: { endpoints: ['127.0.0.1:9'] }",
        after: "a: { hosts: [a.x], upstream: u, bad: 1 }",
        then: "a.x / -> a kept n",
    },
    Case {
        title: "two entries of one name: neither, the former one serves",
        before: "a: { hosts: [a.x], upstream: u }",
        after: "a: { hosts: [b.x], upstream: u }\na: { hosts: [c.x], upstream: u }",
        then: "a.x / -> a kept u\nb.x / blocked by a\nc.x / blocked by a",
    },
];

#[test]
fn the_table_holds() {
    for case in TABLE {
        let before = (!case.before.is_empty()).then(|| merge(None, candidate(case.before)));
        let after = merge(before.as_ref(), candidate(case.after));
        assert_eq!(summary(&after), case.then, "{}", case.title);
        let again = merge(Some(&after), candidate(case.after));
        assert_eq!(again, after, "twice: {}", case.title);
    }
}

#[test]
fn certificates_of_unknown_issuers_are_quarantined() {
    let file = |issuer: &str| {
        let text = format!(
            "version: 1\nissuers: {{ local: {{ internal: {{}} }} }}\ncertificates:\n  site: {{ names: [a.x], issuer: {issuer} }}\n"
        );
        parse("edge.yaml", &text, &NoEnvironment).unwrap()
    };
    let good = merge(None, file("local"));
    assert_eq!(good.quarantined, []);
    assert!(good.warnings.iter().all(|warning| !warning.message.contains("no certificate")));
    let bad = merge(Some(&good), file("lokal"));
    assert_eq!(bad.certificates, good.certificates);
    assert!(bad.quarantined[0].former_serves);
    assert_eq!(bad.quarantined[0].reasons[0].help.as_deref(), Some("did you mean `local`?"));
    assert!(merge(None, file("lokal")).certificates.is_empty());
}

#[test]
fn reasons_name_what_to_do() {
    let merged = merge(
        None,
        candidate(
            "a: { hosts: [a.x], upstream: uu }\nb: { hosts: [b.x], upstream: u }\nc: { hosts: [b.x], upstream: u }\nd: { hosts: [d.x], upstream: n }\n=n: {}",
        ),
    );
    let reason = |name: &str| {
        let entry = merged.quarantined.iter().find(|entry| entry.name.as_str() == name).unwrap();
        entry.reasons[0].to_string()
    };
    assert_eq!(reason("a"), "7: unknown upstream `uu` (routes.a.upstream); did you mean `u`?");
    assert_eq!(
        reason("c"),
        "9: routes `c` (line 9) and `b` (line 8) both claim `/` of `b.x` (routes.c); \
         `b` has it; give them different hosts, paths or methods"
    );
    assert_eq!(reason("d"), "10: its upstream `n` is quarantined (routes.d.upstream); see line 5");
}

#[test]
fn reasons_do_not_show_what_a_reference_gave() {
    struct Secretive;
    impl crate::Environment for Secretive {
        fn var(&self, _name: &str) -> Option<String> {
            Some("hunter2".into())
        }
        fn read(&self, _path: &std::path::Path) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }
    let text = "version: 1
issuers: { a: { internal: {} }, b: { internal: {} } }
certificates:
  c: { names: [x.y], issuer: '${env:X}' }
upstreams: { u: { endpoints: ['127.0.0.1:1'] } }
routes:
  a: { hosts: [a.x], upstream: '${env:X}' }
  b: { hosts: ['${env:X}', Lit.x.], path: '/${env:X}', upstream: u }
  c: { hosts: ['${env:X}', lit.x], path: '/${env:X}', upstream: u }
  d: { hosts: ['${env:X}', '${env:Y}'], upstream: u }
  e: { hosts: ['${env:X}'], upstream: u }
  f: { hosts: [e.x], methods: [GET, GET], upstream: u }
";
    let merged = merge(None, parse("edge.yaml", text, &Secretive).unwrap());
    assert_eq!(merged.quarantined.len(), 5);
    let mut reports: String = merged
        .quarantined
        .iter()
        .flat_map(|one| &one.reasons)
        .map(|one| format!("{one}\n"))
        .collect();
    reports.extend(merged.warnings.iter().map(|one| format!("{one}\n")));
    assert!(!reports.contains("hunter2"), "{reports}");
    assert!(reports.contains("both claim [a reference] of [a reference], `lit.x`"), "{reports}");
    assert!(reports.contains("`${env:Y}` is written twice"), "{reports}");
}

/// Lines of routes; lines that begin with `=` are upstreams besides `u` and `v`.
fn candidate(lines: &str) -> Candidate {
    let mut text = String::from("version: 1\nupstreams:\n");
    text.push_str("  u: { endpoints: ['127.0.0.1:1'] }\n  v: { endpoints: ['127.0.0.1:2'] }\n");
    // A bad `u` replaces the good one.
    let replaced = |line: &str| lines.contains(&format!("={line}"));
    if replaced("u:") {
        text = text.replace("  u: { endpoints: ['127.0.0.1:1'] }\n", "");
    }
    let (upstreams, routes): (Vec<&str>, Vec<&str>) =
        lines.lines().partition(|line| line.starts_with('='));
    for line in upstreams {
        let _ = writeln!(text, "  {}", &line[1..]);
    }
    text.push_str("routes:\n");
    for line in routes {
        let _ = writeln!(text, "  {line}");
    }
    parse("edge.yaml", &text, &NoEnvironment)
        .unwrap_or_else(|errors| panic!("{}", errors.render("edge.yaml", &text)))
}

fn summary(accepted: &Accepted) -> String {
    let kept = |kind, name: &Name| {
        accepted.quarantined.iter().any(|entry| entry.kind == kind && entry.name == *name)
    };
    let path = |path: &PathRule| match path {
        PathRule::Exact(path) => format!("={path}"),
        PathRule::Prefix(path) => path.to_string(),
    };
    let mut lines = Vec::new();
    for (name, route) in &accepted.routes {
        let route = &route.value;
        let Action::Upstream(upstream) = &route.action else { panic!("{route:?}") };
        let age = if kept(Kind::Route, name) { "kept" } else { "new" };
        let methods: String = route.methods.iter().map(|method| format!("{method} ")).collect();
        for host in &route.hosts {
            lines.push(format!("{host} {} {methods}-> {name} {age} {upstream}", path(&route.path)));
        }
    }
    for one in &accepted.blocked {
        lines.push(format!("{} {} blocked by {}", one.host, path(&one.path), one.route));
    }
    lines.sort();
    let blocked = |name: &Name| accepted.blocked.iter().any(|one| one.route == *name);
    for entry in &accepted.quarantined {
        let serves = if entry.former_serves { "kept" } else { "not serving" };
        match entry.kind {
            Kind::Route if entry.former_serves || blocked(&entry.name) => {}
            Kind::Route => lines.push(format!("{} {serves}", entry.name)),
            _ => lines.push(format!("upstream {} {serves}", entry.name)),
        }
    }
    lines.join("\n")
}

// === what holds for every pair of files ===

/// A file of a few routes over few hosts, paths and methods, so that they meet often.
fn any_file() -> impl Strategy<Value = String> {
    let hosts = proptest::sample::subsequence(vec!["a.x", "b.x", "c.x"], 1..=3);
    let path = prop_oneof![Just("/"), Just("/p"), Just("{ exact: /p }")];
    let methods = prop_oneof![3 => Just(""), 1 => Just("GET"), 1 => Just("POST")];
    let upstream = prop_oneof![6 => Just("u"), 2 => Just("n"), 1 => Just("m")];
    let route = (0..6usize, hosts, path, methods, upstream, proptest::bool::weighted(0.25));
    let route = route.prop_map(|(name, hosts, path, methods, upstream, bad)| {
        let bad = if bad { ", bad: 1" } else { "" };
        let methods =
            if methods.is_empty() { String::new() } else { format!(", methods: [{methods}]") };
        let hosts = hosts.join(", ");
        (
            name,
            format!(
                "r{name}: {{ hosts: [{hosts}], path: {path}{methods}, upstream: {upstream}{bad} }}"
            ),
        )
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
