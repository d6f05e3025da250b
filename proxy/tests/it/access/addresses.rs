//! By address.

use super::*;

const LISTS: &str = "allow: [192.0.2.0/24, 192.0.2.66/32, \"2001:db8::/32\"], \
    deny: [192.0.2.64/26, 198.51.100.0/24, \"2001:db8:bad::/48\"]";

#[test]
fn the_longest_prefix_decides_by_the_last_hop_that_is_not_ours() {
    let backend = Backend::ok();
    let edge = Edge::start(&conf(&backend, LISTS));
    let mut both = Both::to(&edge);
    for (hops, allowed) in [
        ("192.0.2.1", true),
        ("192.0.2.63", true),
        ("192.0.2.64", false),
        ("192.0.2.66", true),
        ("192.0.2.127", false),
        ("192.0.2.128", true),
        ("203.0.113.1", false),
        ("2001:db8::1", true),
        ("2001:db8:bad::1", false),
        ("::ffff:192.0.2.1", true),
        // What a client adds before its own address is nobody's word.
        ("192.0.2.1, 203.0.113.1", false),
        ("203.0.113.1, 192.0.2.1", true),
        ("192.0.2.1, 127.0.0.9", true),
        ("203.0.113.1, 127.0.0.9", false),
    ] {
        let expected = if allowed { (200, "") } else { (403, "denied") };
        both.assert("/", &from(hops), expected.0, expected.1);
    }
    // The proxy itself.
    both.assert("/", "", 403, "denied");
    assert_eq!(edge.metric("edge_auth_decisions_total{result=\"denied\"}"), 14.0);
    assert_eq!(edge.metric("edge_auth_decisions_total{result=\"granted\"}"), 16.0);
    assert_eq!(backend.requests().len(), 16);
}

#[test]
fn nobody_elses_word_counts_without_trusted_proxies() {
    let backend = Backend::ok();
    let closed =
        Edge::start(&Conf::app_with(&[backend.addr], "", "access: { allow: [192.0.2.0/24] }"));
    let lines =
        "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n";
    Both::to(&closed).assert("/", lines, 403, "denied");
    let open = Edge::start(&Conf::app_with(
        &[backend.addr],
        "",
        "access: { allow: [127.0.0.1/32], deny: [192.0.2.0/24] }",
    ));
    Both::to(&open).assert("/", lines, 200, "");
    // By the connection's address.
    ask(&mut Client::from([127, 0, 0, 2].into(), open.http), "GET", "/", "")
        .assert_cause(403, "denied");
    assert_eq!(backend.requests().len(), 2);
}

#[test]
fn a_denial_is_told_before_a_password_is_looked_at() {
    let backend = Backend::ok();
    let access = format!("deny: [203.0.113.0/24], basic_auth: \"{ANN}\"");
    let edge = Edge::start(&conf(&backend, &access));
    let mut both = Both::to(&edge);
    let denied = from("203.0.113.1");
    both.assert("/", &denied, 403, "denied");
    both.assert("/", &(denied + &line("ann", "right")), 403, "denied");
    both.assert("/", &from("192.0.2.1"), 401, "auth_required");
    both.assert("/", &(from("192.0.2.1") + &line("ann", "right")), 200, "");
}

#[test]
fn any_is_an_address_or_a_password() {
    let backend = Backend::ok();
    let lists = "allow: [192.0.2.0/24], deny: [192.0.2.66/32]";
    let all = Edge::start(&conf(&backend, &format!("{lists}, basic_auth: \"{ANN}\"")));
    let any =
        Edge::start(&conf(&backend, &format!("{lists}, satisfy: any, basic_auth: \"{ANN}\"")));
    let (right, wrong) = (line("ann", "right"), line("ann", "wrong"));
    for (hop, lines, by_all, by_any) in [
        ("192.0.2.1", "", 401, 200),
        ("192.0.2.1", &*wrong, 401, 200),
        ("192.0.2.1", &right, 200, 200),
        ("192.0.2.66", "", 403, 401),
        ("192.0.2.66", &right, 403, 200),
        ("203.0.113.1", "", 403, 401),
        ("203.0.113.1", &wrong, 403, 401),
        ("203.0.113.1", &right, 403, 200),
    ] {
        let lines = from(hop) + lines;
        for (edge, status) in [(&all, by_all), (&any, by_any)] {
            let (got, _) = Both::to(edge).get("/", &lines);
            assert_eq!(got, status, "{lines}");
        }
    }
}

#[test]
fn credentials_that_were_not_asked_for_are_the_backends() {
    let backend = Backend::ok();
    let access = format!("satisfy: any, allow: [192.0.2.0/24], basic_auth: \"{ANN}\"");
    let edge = Edge::start(&conf(&backend, &access));
    let mut both = Both::to(&edge);
    both.assert("/", &(from("192.0.2.1") + &line("eve", "own")), 200, "");
    both.assert("/", &(from("203.0.113.1") + &line("ann", "right")), 200, "");
    let passed = fields(&backend.requests(), "authorization");
    assert_eq!(passed.iter().filter(|values| values.is_empty()).count(), 2);
    assert_eq!(passed.iter().filter(|values| **values == [basic("eve", "own")]).count(), 2);
}
