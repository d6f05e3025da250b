//! The golden table of `merge`.

mod properties;

use std::fmt::Write as _;

use super::*;
use crate::environment::NoEnvironment;
use crate::model::Action;
use crate::parse;

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
        title: "a split serves from all its upstreams, those without weight included",
        before: "a: { hosts: [a.x], upstream: u }",
        after: "a: { hosts: [a.x], split: { u: 95, v: 0 } }",
        then: "a.x / -> a new u+v",
    },
    Case {
        title: "a split with one unknown upstream is bad as a whole",
        before: "a: { hosts: [a.x], split: { u: 95, v: 5 } }",
        after: "a: { hosts: [a.x], split: { u: 95, w: 5 } }\nb: { hosts: [b.x], split: { w: 1, u: 1 } }",
        then: "a.x / -> a kept u+v\nb.x / blocked by b",
    },
    Case {
        title: "a bad upstream without a former version takes splits with it",
        before: "",
        after: "a: { hosts: [a.x], split: { u: 95, n: 0 } }\n=n: { endpoints: ['x'] }",
        then: "a.x / blocked by a\nupstream n not serving",
    },
    Case {
        title: "a former split keeps the upstreams that were removed",
        before: "a: { hosts: [a.x], split: { u: 1, n: 1, m: 1 } }\n=n: { endpoints: ['127.0.0.1:9'] }\n=m: { endpoints: ['127.0.0.1:8'] }",
        after: "a: { hosts: [a.x], split: { u: 1 } }",
        then: "a.x / -> a kept u+n+m",
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
            "a: { hosts: [a.x], upstream: uu }\nb: { hosts: [b.x], upstream: u }\nc: { hosts: [b.x], upstream: u }\nd: { hosts: [d.x], upstream: n }\ne: { hosts: [e.x], split: { u: 9, u-canray: 1 } }\nf: { hosts: [f.x], split: { u: 9, n: 1 } }\n=n: {}\n=u-canary: { endpoints: ['a:1'] }",
        ),
    );
    let reason = |name: &str| {
        let entry = merged.quarantined.iter().find(|entry| entry.name.as_str() == name).unwrap();
        entry.reasons[0].to_string()
    };
    assert_eq!(reason("a"), "8: unknown upstream `uu` (routes.a.upstream); did you mean `u`?");
    assert_eq!(
        reason("c"),
        "10: routes `c` (line 10) and `b` (line 9) both claim `/` of `b.x` (routes.c); \
         `b` has it; give them different hosts, paths or methods"
    );
    assert_eq!(reason("d"), "11: its upstream `n` is quarantined (routes.d.upstream); see line 5");
    assert_eq!(
        reason("e"),
        "12: unknown upstream `u-canray` (routes.e.split.u-canray); did you mean `u-canary`?"
    );
    assert_eq!(reason("f"), "13: its upstream `n` is quarantined (routes.f.split.n); see line 5");
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
        assert!(matches!(route.action, Action::Upstream(_) | Action::Split(_)), "{route:?}");
        let upstreams: Vec<&str> = route.upstreams().iter().map(|name| name.as_str()).collect();
        let upstreams = upstreams.join("+");
        let age = if kept(Kind::Route, name) { "kept" } else { "new" };
        let methods: String = route.methods.iter().map(|method| format!("{method} ")).collect();
        for host in &route.hosts {
            lines
                .push(format!("{host} {} {methods}-> {name} {age} {upstreams}", path(&route.path)));
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
