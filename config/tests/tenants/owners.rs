//! What belongs to whom: no edit of one tenant takes anything of another, or closes it.

use config::merge::Kind;
use config::{Accepted, last_good};

use super::merging::{refused, serving};
use super::{FILE, Registry, read};

/// Entries of `h` and `p` beside a domain of their own: `(id, domain, host, port)`.
fn domains(entries: &[(&str, &str, &str, u16)]) -> String {
    let entry = |(id, domain, host, port): &(&str, &str, &str, u16)| {
        format!(
            "{{\"tenant\": \"{id}\", \"domain\": \"{domain}\", \"host\": \"{host}\", \"port\": {port}}}"
        )
    };
    let entries: Vec<String> = entries.iter().map(entry).collect();
    format!("{{\"servers\": [{}]}}", entries.join(",\n"))
}

fn templates(routes: &str) -> String {
    FILE.split("  routes:").next().unwrap().to_owned() + &format!("  routes: {{ {routes} }}\n")
}

const BY_DOMAIN: &str = "t: { hosts: ['{domain}'], endpoint: '{host}:{port}' }";

#[test]
fn who_had_a_host_keeps_it_whatever_else_changes() {
    let other = "u: { hosts: ['{tenant}.u.example'], endpoint: '{tenant}.u.example:1' }";
    let file = templates(&format!("{BY_DOMAIN}, {other}"));
    let a = ("a", "a.example", "192.0.2.1", 1);
    let b = ("b", "b.example", "192.0.2.2", 1);
    let before = read(None, &file, &domains(&[a, b]));
    let limited = file.replace("{port}'", "{port}', body_limit: 1KiB");
    let bad_other = file.replace(".u.example:1", ".u.example:{prot}");
    let bad_own = file.replace("{port}'", "{prot}'");
    // `a` takes the host of `b`, or its endpoint.
    for a in [("a", "b.example", "192.0.2.1", 1), ("a", "a.example", "192.0.2.2", 1)] {
        let mistyped = domains(&[a, b]);
        let refused_once = read(Some(&before), &file, &mistyped);
        let document = last_good::document(&refused_once);
        let restored = last_good::restore(&document, &Registry(b"")).unwrap();
        let others_field = ("b", "b.example", "192.0.2.2", 2);
        let renamed = ("b", "other.example", "192.0.2.2", 1);
        for former in [&before, &refused_once, &restored] {
            for (file, b) in [(&file, b), (&limited, b), (&bad_other, b), (&bad_own, b)] {
                let after = read(Some(former), file, &domains(&[a, b]));
                let lost: Vec<&str> = refused(&after)
                    .iter()
                    .filter(|bad| bad.0 == Kind::Tenant)
                    .map(|bad| bad.1)
                    .collect();
                assert!(lost == ["a"] || (file == &bad_own && lost.is_empty()), "{lost:?} {file}");
                assert_eq!(serving(&after), serving(&before), "{file}");
            }
            // What else `b` changes is applied.
            let changed = if a.1 == "b.example" { others_field } else { renamed };
            let after = read(Some(former), &file, &domains(&[a, changed]));
            let names: Vec<&str> = refused(&after).iter().map(|bad| bad.1).collect();
            assert_eq!(names, ["a"]);
            let b = format!("b.t: {} {}:{}", changed.1, changed.2, changed.3);
            assert!(serving(&after).contains(&b), "{:?}", serving(&after));
        }
    }
}

#[test]
fn tenants_can_swap_hosts_and_endpoints_in_one_edit() {
    let file = templates(BY_DOMAIN);
    let before = read(
        None,
        &file,
        &domains(&[("a", "a.example", "192.0.2.1", 1), ("b", "b.example", "192.0.2.2", 1)]),
    );
    for swapped in [
        [("a", "b.example", "192.0.2.1", 1), ("b", "a.example", "192.0.2.2", 1)],
        [("a", "a.example", "192.0.2.2", 1), ("b", "b.example", "192.0.2.1", 1)],
        [("b", "a.example", "192.0.2.1", 1), ("a", "b.example", "192.0.2.2", 1)],
    ] {
        let fresh = read(None, &file, &domains(&swapped));
        let after = read(Some(&before), &file, &domains(&swapped));
        assert_eq!(refused(&after), []);
        assert_eq!(serving(&after), serving(&fresh));
    }
}

fn blocked(accepted: &Accepted) -> Vec<String> {
    let line = |one: &config::merge::Blocked| format!("{} {}", one.route, one.host);
    accepted.blocked.iter().map(line).collect()
}

#[test]
fn a_refused_tenant_closes_nothing_of_another() {
    let file = templates(
        "gw: { hosts: ['{tenant}.gw.example'], endpoint: '{host}:{port}' }, \
         api: { hosts: ['{domain}'], path: /api, endpoint: '{tenant}.internal:1' }",
    ) + "routes: { own: { hosts: [own.example], respond: { status: 200 } } }\n";
    let a = ("a", "a.example", "192.0.2.1", 1);
    let before = read(None, &file, &domains(&[a]));
    for (b, left) in [
        // A host of `a`, under another path; one of the config file, as well.
        (("b", "a.gw.example", "192.0.2.2", 1), vec!["b b.gw.example"]),
        (("b", "own.example", "192.0.2.1", 1), vec!["b b.gw.example"]),
        (("b", "b.example", "192.0.2.1", 1), vec!["b b.example", "b b.gw.example"]),
    ] {
        for previous in [None, Some(&before)] {
            let after = read(previous, &file, &domains(&[a, b]));
            let names: Vec<&str> = refused(&after).iter().map(|bad| bad.1).collect();
            assert_eq!((names, serving(&after)), (vec!["b"], serving(&before)), "{b:?}");
            let mut found = blocked(&after);
            found.sort();
            assert_eq!(found, left, "{b:?}");
        }
    }
}

#[test]
fn an_entry_without_a_name_is_only_who_it_must_be() {
    let shared = templates(
        "area: { hosts: ['{tenant}.{domain}.example'], endpoint: '{tenant}.internal:1' }, \
         gw: { hosts: ['{tenant}.gw.example'], endpoint: '{host}:{port}' }",
    );
    let a = ("a", "eu", "192.0.2.1", 1);
    let b = ("b", "eu", "192.0.2.2", 1);
    let c = ("c", "eu", "192.0.2.3", 1);
    let before = read(None, &shared, &domains(&[a, b, c]));
    let nameless = |host| ("no name", "eu", host, 1);
    let kept = |accepted: &Accepted| -> Vec<String> {
        accepted.tenants.keys().map(ToString::to_string).collect()
    };
    // Every value is that of `b`.
    let after = read(Some(&before), &shared, &domains(&[c, nameless("192.0.2.2")]));
    assert_eq!(kept(&after), ["b", "c"]);
    // One of them only: `a` and `b` are removed.
    let after = read(Some(&before), &shared, &domains(&[c, nameless("192.0.2.9")]));
    assert_eq!(kept(&after), ["c"]);
    assert_eq!(refused(&after)[0].1, "servers.1");
    // What is shared names nobody where two are gone, and the only one where one is.
    let area = templates(
        "area: { hosts: ['{tenant}.{domain}.example'], endpoint: '{tenant}.internal:1' }",
    );
    let before = read(None, &area, &domains(&[a, b, c]));
    let after = read(Some(&before), &area, &domains(&[c, nameless("192.0.2.2")]));
    assert_eq!(kept(&after), ["c"]);
    let after = read(Some(&before), &area, &domains(&[a, c, nameless("192.0.2.2")]));
    assert_eq!(kept(&after), ["a", "b", "c"]);
}

#[test]
fn one_gateway_is_one_however_it_is_written() {
    let file = templates("t: { hosts: ['{domain}'], endpoint: '{host}:{port}' }");
    for (one, other) in [
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("::ffff:192.0.2.1", "::ffff:c000:201"),
        ("gateway.internal", "Gateway.internal."),
    ] {
        for (one, other) in [(one, other), (other, one)] {
            let entries = [("a", "a.example", one, 1), ("b", "b.example", other, 1)];
            let after = read(None, &file, &domains(&entries));
            let [(Kind::Tenant, "b", false, why)] = &refused(&after)[..] else {
                panic!("{one} {other} {:?}", refused(&after))
            };
            assert!(why.contains("belongs to tenant `a` (line 1)"), "{why}");
            // Nor does a former version lead there.
            let before = read(None, &file, &domains(&[("b", "b.example", other, 1)]));
            let b = ("b", "b.example", "192.0.2.7", 0);
            let taken = read(Some(&before), &file, &domains(&[("a", "a.example", one, 1), b]));
            assert_eq!(refused(&taken)[0].1, "a");
        }
    }
}

#[test]
fn of_two_entries_the_one_that_is_as_before_counts() {
    let file = templates(BY_DOMAIN);
    let a = ("a", "a.example", "192.0.2.1", 1);
    let before = read(None, &file, &domains(&[a]));
    // Copied, the name not yet changed.
    let copy = |port| ("a", "copy.example", "192.0.2.2", port);
    let limited = file.replace("{port}'", "{port}', body_limit: 1KiB");
    for (entries, line) in [
        (vec![copy(1), a], 1),
        (vec![a, copy(1)], 2),
        (vec![copy(0), a], 2),
        (vec![copy(1), copy(2), a], 1),
    ] {
        for file in [&file, &limited] {
            let after = read(Some(&before), file, &domains(&entries));
            assert_eq!(serving(&after), serving(&before), "{entries:?}");
            let lines: Vec<u64> = after.quarantined.iter().map(|bad| bad.line).collect();
            assert_eq!(lines.len(), entries.len() - 1 + usize::from(entries[0].3 == 0));
            assert!(lines.contains(&line), "{lines:?}");
            assert!(after.quarantined.iter().all(|bad| bad.former_serves));
        }
    }
    let after = read(Some(&before), &file, &domains(&[copy(1), a]));
    let why = &refused(&after)[0].3;
    assert!(why.contains(":1:") && why.contains("another entry, at line 2"), "{why}");
    // Neither is: the first counts.
    let after = read(Some(&before), &file, &domains(&[copy(2), copy(1)]));
    assert_eq!(serving(&after), ["a.t: copy.example 192.0.2.2:2"]);
}

/// A wildcard of an area, and a domain of its own.
fn wide_and_own() -> String {
    let any = "any: { hosts: ['*.{area}.example'], endpoint: '{host}:{port}' }";
    let one = "one: { hosts: ['{domain}'], endpoint: '{host}:1{port}' }";
    templates(&format!("{any}, {one}"))
}

/// Its new version is refused, and what it no longer wants is another's by now.
#[test]
fn a_former_version_leaves_what_is_under_the_wildcard_that_another_got() {
    let both = wide_and_own();
    let registry = |area: &str, domain: &str| {
        format!(
            r#"{{"servers": [
            {{"tenant": "a", "area": "{area}", "domain": "a.test", "host": "192.0.2.1", "port": 1}},
            {{"tenant": "b", "area": "b", "domain": "{domain}", "host": "192.0.2.2", "port": 1}}]}}"#
        )
    };
    let before = read(None, &both, &registry("a", "exact.new.example"));
    assert_eq!(refused(&before), []);
    // `b` wants what `a` has, and no longer `exact.new.example`.
    let after = read(Some(&before), &both, &registry("new", "a.test"));
    let [(Kind::Tenant, "b", true, why)] = &refused(&after)[..] else {
        panic!("{:?}", refused(&after))
    };
    assert!(why.contains("host `a.test` belongs to tenant `a`"), "{why}");
    assert_eq!(
        serving(&after),
        [
            "a.any: *.new.example 192.0.2.1:1",
            "a.one: a.test 192.0.2.1:11",
            "b.any: *.b.example 192.0.2.2:1",
        ]
    );
}

/// The wildcard is no new one: its owner wanted to give it up, and was refused.
#[test]
fn a_host_under_the_wildcard_of_a_former_version_stays_where_it_is() {
    let both = wide_and_own();
    let b = |domain: &str, last: &str| {
        format!(
            r#"{{"tenant": "b", "area": "b", "domain": "{domain}", "host": "192.0.2.2", "port": {last}}}"#
        )
    };
    let a = |area: &str| {
        format!(
            r#"{{"tenant": "a", "area": "{area}", "domain": "a.test", "host": "192.0.2.1", "port": 1}}"#
        )
    };
    let registry = |entries: [String; 2]| format!("{{\"servers\": [{}]}}", entries.join(",\n"));
    let before = read(None, &both, &registry([b("b.test", "1"), a("old")]));
    assert_eq!(refused(&before), []);
    // `a` wants what `b` has, and no longer `*.old.example`.
    let given_up = read(Some(&before), &both, &registry([b("x.old.example", "1"), a("b")]));
    let both_serve = [
        "a.any: *.old.example 192.0.2.1:1",
        "a.one: a.test 192.0.2.1:11",
        "b.any: *.b.example 192.0.2.2:1",
        "b.one: x.old.example 192.0.2.2:11",
    ];
    assert_eq!(serving(&given_up), both_serve);
    for broken in ["{", &registry([b("x.old.example", "\"one\""), a("old")])] {
        assert_eq!(serving(&read(Some(&given_up), &both, broken)), both_serve);
    }
}

/// Exact hosts go before wildcards: a tenant that gets one under another's wildcard takes its
/// requests.
#[test]
fn nobody_gets_a_host_under_the_wildcard_of_another() {
    let one = "one: { hosts: ['{domain}'], endpoint: '{host}:1{port}' }";
    let apart = "apart: { hosts: ['{tenant}.apart.example'], endpoint: '{tenant}.internal:1' }";
    let any = "any: { hosts: ['*.{area}.example'], endpoint: '{host}:{port}' }";
    let (exact, both) = (format!("{one}, {apart}"), format!("{any}, {one}, {apart}"));
    let (exact, both) = (templates(&exact), templates(&both));
    let registry = |entries: &[(&str, &str, &str, u8)]| {
        let entry = |(id, area, domain, last): &(&str, &str, &str, u8)| {
            format!(
                "{{\"tenant\": \"{id}\", \"area\": \"{area}\", \"domain\": \"{domain}\", \
                 \"host\": \"192.0.2.{last}\", \"port\": 1}}"
            )
        };
        let entries: Vec<String> = entries.iter().map(entry).collect();
        format!("{{\"servers\": [{}]}}", entries.join(",\n"))
    };
    // Its own hosts are under its own wildcard.
    let a = ("a", "a", "own.a.example", 1);
    let b = ("b", "b", "taken.a.example", 2);
    let before = read(None, &both, &registry(&[a]));
    assert_eq!(refused(&before), []);
    for previous in [None, Some(&before)] {
        let after = read(previous, &both, &registry(&[a, b]));
        let [(Kind::Tenant, "b", false, why)] = &refused(&after)[..] else {
            panic!("{:?}", refused(&after))
        };
        assert!(why.contains("`taken.a.example` is under a wildcard of tenant `a` (line 1)"));
        assert_eq!(serving(&after), serving(&before));
        // What is under the wildcard of `a` goes on to it.
        let mut closed = blocked(&after);
        closed.sort();
        assert_eq!(closed, ["b *.b.example", "b b.apart.example"]);
    }
    // Nor a wildcard over the host of another.
    let before = read(None, &both, &registry(&[b]));
    for (previous, order) in [(Some(&before), [a, b]), (None, [b, a])] {
        let after = read(previous, &both, &registry(&order));
        let [(Kind::Tenant, "a", false, why)] = &refused(&after)[..] else {
            panic!("{:?}", refused(&after))
        };
        assert!(why.contains("`*.a.example` covers a host of tenant `b`"), "{why}");
        assert_eq!(serving(&after), serving(&before));
    }
    // Who had it keeps it, and may change whatever else.
    let before = read(None, &exact, &registry(&[a, b]));
    let after = read(Some(&before), &both, &registry(&[a, b]));
    let moved = ("b", "b", "taken.a.example", 3);
    let after = read(Some(&after), &both, &registry(&[a, moved]));
    let [(Kind::Tenant, "a", true, _)] = &refused(&after)[..] else {
        panic!("{:?}", refused(&after))
    };
    let [.., b] = &serving(&after)[..] else { panic!() };
    assert_eq!(b, "b.one: taken.a.example 192.0.2.3:11");
}

#[test]
fn every_entry_of_a_name_says_where_the_others_are() {
    let file = templates(BY_DOMAIN);
    let entry = |last: u8| {
        let domain = ["a.example", "b.example", "c.example", "d.example"][usize::from(last) - 1];
        (
            "a",
            domain,
            ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"][usize::from(last) - 1],
            1,
        )
    };
    let why = |entries: &[_]| -> Vec<String> {
        refused(&read(None, &file, &domains(entries))).into_iter().map(|bad| bad.3).collect()
    };
    let [second] = &why(&[entry(1), entry(2)])[..] else { panic!() };
    assert!(second.contains("tenant `a` has an entry already, at line 1 (servers"), "{second}");
    let [second, third] = &why(&[entry(1), entry(2), entry(3)])[..] else { panic!() };
    assert!(second.contains("has other entries already, at lines 1 and 3 (servers"), "{second}");
    assert!(third.contains("has other entries already, at lines 1 and 2 (servers"), "{third}");
    let [.., fourth] = &why(&[entry(1), entry(2), entry(3), entry(4)])[..] else { panic!() };
    assert!(fourth.contains("at lines 1, 2 and 3 (servers"), "{fourth}");
    let many: Vec<_> = (0..20).map(|_| entry(1)).collect();
    let told = why(&many);
    assert!(
        told[18].contains("at lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 9 more (servers"),
        "{}",
        told[18]
    );
}

/// What nobody reads is no mistake; what two readers may read differently is.
#[test]
fn a_field_twice_matters_where_somebody_asks_for_it() {
    let file = templates(BY_DOMAIN);
    let registry = |more: &str| {
        format!(
            "{{\"servers\": [{{\"tenant\": \"a\", \"domain\": \"a.example\", \"host\": \"192.0.2.1\", \
             \"port\": 1, {more}}}]}}"
        )
    };
    assert_eq!(refused(&read(None, &file, &registry("\"note\": 1, \"note\": {}"))), []);
    for field in ["tenant", "domain", "host", "port"] {
        let after = read(None, &file, &registry(&format!("\"{field}\": \"a\"")));
        let why = &refused(&after)[0].3;
        assert!(why.contains(&format!("`{field}` is written twice")), "{why}");
    }
}

#[test]
fn an_entry_without_a_name_is_called_like_no_tenant() {
    let file = templates(BY_DOMAIN);
    let named = |id| (id, "a.example", "192.0.2.1", 1);
    let after =
        read(None, &file, &domains(&[named("servers-1"), ("?", "b.example", "192.0.2.2", 1)]));
    let [(Kind::Tenant, "servers.1", false, why)] = &refused(&after)[..] else {
        panic!("{:?}", refused(&after))
    };
    assert!(why.contains("is no name of a tenant"), "{why}");
}
