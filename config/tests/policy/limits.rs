//! `rate_limits`, `pacing`, new connections of a listener.

use super::*;

#[test]
fn a_limit_with_its_defaults_and_without() {
    let plain = RateLimit {
        name: name("client_ip"),
        key: LimitKey(vec![vec![KeyPart::ClientIp]]),
        rate: "50/s".parse().ok(),
        burst: 50.try_into().unwrap(),
        concurrent: None,
        missing: Missing::ClientIp,
        prefix: AddressPrefix { v4: 32, v6: 64, v6_aggregate: Some(48) },
        exempt: Vec::new(),
        dry_run: false,
        status: 429,
        legacy_fields: false,
        announce: false,
    };
    assert_eq!(limit("key: client_ip, rate: 50/s"), plain);
    let full = limit(
        "name: credential, key: ['header:X-Api-Key+client_ip', 'cookie:Sid', 'host+route'], \
         rate: 600/m, burst: 20, concurrent: 8, prefix: { ipv4: 24, ipv6: 56, ipv6_aggregate: 32 }, \
         exempt: [10.0.0.0/8, '2001:db8::1'], dry_run: true, status: 503, legacy_headers: true, \
         announce: true",
    );
    let header = KeyPart::Header("x-api-key".into());
    let expected = RateLimit {
        name: name("credential"),
        key: LimitKey(vec![
            vec![header, KeyPart::ClientIp],
            vec![KeyPart::Cookie("Sid".into())],
            vec![KeyPart::Host, KeyPart::Route],
        ]),
        rate: "600/m".parse().ok(),
        burst: 20.try_into().unwrap(),
        concurrent: 8.try_into().ok(),
        missing: Missing::ClientIp,
        prefix: AddressPrefix { v4: 24, v6: 56, v6_aggregate: Some(32) },
        exempt: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::1/128".parse().unwrap()],
        dry_run: true,
        status: 503,
        legacy_fields: true,
        announce: true,
    };
    assert_eq!(full, expected);
    assert_eq!(limit("key: 'header:a', rate: 1/s, missing: refuse").missing, Missing::Refuse);
    let streams = limit("key: route, concurrent: 3");
    assert_eq!((streams.rate, streams.concurrent.map(u32::from)), (None, Some(3)));
}

#[test]
fn limits_are_called_after_their_keys() {
    for (key, called) in [
        ("'header:Authorization'", "header-Authorization"),
        ("client_ip + host", "client_ip-host"),
        ("['cookie:sid', client_ip]", "cookie-sid-client_ip"),
    ] {
        assert_eq!(limit(&format!("key: {key}, rate: 1/s")).name, name(called), "{key}");
    }
    let long = limit(&format!("key: 'header:{}', rate: 1/s", "x".repeat(128)));
    assert_eq!(long.name.as_str().len(), 63);
}

#[test]
fn the_aggregate_is_wider_than_a_client() {
    let aggregate = |prefix: &str| {
        limit(&format!("key: client_ip, rate: 1/s, prefix: {{ {prefix} }}")).prefix.v6_aggregate
    };
    assert_eq!(aggregate("ipv6_aggregate: off"), None);
    assert_eq!(aggregate("ipv6: 49"), Some(48));
    assert_eq!(aggregate("ipv6: 48"), None);
    assert_eq!(aggregate("ipv6: 48, ipv6_aggregate: 47"), Some(47));
    let at = "rate_limits[0].prefix.ipv6_aggregate";
    assert_eq!(
        reasons("rate_limits: [{ key: client_ip, rate: 1/s, prefix: { ipv6_aggregate: 64 } }]"),
        [format!("{at}: `ipv6_aggregate` is not wider than `ipv6`, which is 64")]
    );
}

#[test]
fn the_rate_of_new_connections() {
    let limits = |keys: &str| {
        let text = format!(
            "version: 1\nlisteners: {{ web: {{ bind: ['127.0.0.1:0'], limits: {{ {keys} }} }} }}\n"
        );
        let global = parse("edge.yaml", &text, &NoEnvironment).map(|candidate| candidate.global);
        global.map(|global| {
            let limits = &global.listeners["web"].limits;
            (limits.connection_rate, limits.connection_burst.get())
        })
    };
    assert_eq!(limits("").unwrap(), ("200/s".parse().ok(), 400));
    assert_eq!(limits("connection_rate: 60/m").unwrap(), ("60/m".parse().ok(), 120));
    assert_eq!(limits("connection_burst: 5").unwrap(), ("200/s".parse().ok(), 5));
    assert_eq!(limits("connection_rate: off").unwrap().0, None);
    assert!(limits("connection_rate: off, connection_burst: 5").is_err());
    assert!(limits("connection_rate: 0/s").is_err());
}

#[test]
fn limits_that_mean_nothing() {
    for (keys, reason) in [
        ("key: client_ip", "rate_limits[0]: the limit limits nothing"),
        ("rate: 1/s", "rate_limits[0]: `key` is missing"),
        ("key: route, concurrent: 1, burst: 2", "rate_limits[0].burst: `burst` without `rate`"),
        ("key: route, concurrent: 0", "rate_limits[0].concurrent: 0 is out of range: 1 to 1000000"),
        (
            "key: route, rate: 1/s, burst: 0",
            "rate_limits[0].burst: 0 is out of range: 1 to 1000000",
        ),
        ("key: route, rate: 10r/s", "rate_limits[0].rate: `10r/s` is no rate"),
        ("key: path, rate: 1/s", "rate_limits[0].key: `path` is not known here"),
        ("key: 'header:', rate: 1/s", "rate_limits[0].key: `header:` names no header"),
        ("key: 'header:a b', rate: 1/s", "rate_limits[0].key: `header:a b` names no header"),
        ("key: 'cookie:', rate: 1/s", "rate_limits[0].key: `cookie:` names no cookie"),
        (
            "key: 'header:X-Forwarded-For', rate: 1/s",
            "rate_limits[0].key: `header:X-Forwarded-For` can be made up by clients",
        ),
        ("key: host+host, rate: 1/s", "rate_limits[0].key: `host` is twice in the key"),
        ("key: [host, host], rate: 1/s", "rate_limits[0].key[1]: the key is written twice"),
        ("key: [], rate: 1/s", "rate_limits[0].key: the list is empty"),
        ("key: host, rate: 1/s, status: 500", "rate_limits[0].status: `500` is not known here"),
        (
            "key: 'header:a', rate: 1/s, missing: allow",
            "rate_limits[0].missing: `allow` is not known here",
        ),
        (
            "key: host, rate: 1/s, prefix: { ipv4: 33 }",
            "rate_limits[0].prefix.ipv4: 33 is out of range: 8 to 32",
        ),
        (
            "key: host, rate: 1/s, exempt: [10.1.2.3/8]",
            "rate_limits[0].exempt[0]: `10.1.2.3/8` has bits outside its network",
        ),
        ("key: host, rate: 1/s, name: a b", "rate_limits[0].name: `a b` is no name"),
    ] {
        assert_eq!(reasons(&format!("rate_limits: [{{ {keys} }}]")), [reason], "{keys}");
    }
    assert_eq!(reasons("rate_limits: []"), ["rate_limits: the list is empty"]);
    for one in ["{ key: host, rate: 1/s }", "10/s"] {
        let found = reasons(&format!("rate_limits: {one}"));
        assert_eq!(found, ["rate_limits: expected a list of limits"], "{one}");
    }
    let twice = reasons("rate_limits: [{ key: host, rate: 1/s }, { key: host, rate: 9/h }]");
    assert_eq!(twice, ["rate_limits[1]: two limits have one name: the first at 4:57"]);
}

#[test]
fn a_route_has_at_most_16_limits() {
    let many = |count: u32| {
        let limits: Vec<String> =
            (0..count).map(|n| format!("{{ key: 'header:h{n}', rate: 1/s }}")).collect();
        reasons(&format!("rate_limits: [{}]", limits.join(", ")))
    };
    assert_eq!(many(16), [""; 0]);
    assert_eq!(many(17), ["rate_limits: the list has more than 16 items"]);
}

#[test]
fn limits_that_are_probably_not_meant() {
    for (keys, warning) in [
        ("key: client_ip, rate: 1/s, exempt: ['::/0']", "exempt[0]: every IPv6 address is exempt"),
        (
            "key: [client_ip, 'header:a'], rate: 1/s",
            "key: the last alternatives are never used: one before them is always there",
        ),
        (
            "key: host, rate: 1/s, missing: refuse",
            "missing: `missing` has no effect: the key is always there",
        ),
    ] {
        let found = warnings(&format!("rate_limits: [{{ {keys} }}]"));
        assert_eq!(found, [format!("rate_limits[0].{warning}")]);
    }
}

#[test]
fn a_limit_behind_a_stricter_one() {
    let found = |a: &str, b: &str| {
        warnings(&format!(
            "rate_limits: [{{ name: a, key: client_ip, {a} }}, {{ name: b, key: client_ip, {b} }}]"
        ))
    };
    let never = |index: u32, column: u32| {
        [format!(
            "rate_limits[{index}]: the limit never refuses: that at 4:{column} has the same key and \
             is stricter"
        )]
    };
    for (a, b) in [
        ("rate: 10/s", "rate: 10/s"),
        ("rate: 10/s", "rate: 601/m, burst: 10"),
        ("rate: 10/s, concurrent: 2", "concurrent: 3"),
        ("rate: 10/s", "rate: 20/s, exempt: [10.0.0.0/8]"),
        ("rate: 10/s, exempt: [10.1.0.0/16]", "rate: 20/s, exempt: [10.0.0.0/8]"),
    ] {
        assert_eq!(found(a, b), never(1, 57), "{a} | {b}");
    }
    assert_eq!(found("rate: 20/s", "rate: 10/s"), never(0, 98));
    for (a, b) in [
        // A burst in a second, a mean over an hour.
        ("rate: 10/s", "rate: 1000/h"),
        ("rate: 10/s, burst: 20", "rate: 10/s, burst: 10, concurrent: 1, dry_run: true"),
        ("rate: 10/s, dry_run: true", "rate: 20/s"),
        ("rate: 10/s", "concurrent: 3"),
        ("rate: 10/s, exempt: [10.0.0.0/8]", "rate: 20/s"),
        ("rate: 10/s, prefix: { ipv4: 24 }", "rate: 20/s"),
    ] {
        assert_eq!(found(a, b), [""; 0], "{a} | {b}");
    }
    let other_key = "rate_limits: [{ key: client_ip, rate: 1/s }, { key: 'header:a', rate: 10/s, missing: refuse }]";
    assert_eq!(warnings(other_key), [""; 0]);
}

#[test]
fn pacing_in_both_directions() {
    let pacing = |keys: &str| route(&format!("pacing: {{ {keys} }}")).pacing;
    let down = Pacing { download: Some(1 << 20), upload: None, after: 0 };
    assert_eq!(pacing("download: 1MiB/s"), Some(down));
    let both = Pacing { download: Some(2000), upload: Some(1024), after: 10 << 20 };
    assert_eq!(pacing("download: 2kB/s, upload: 1KiB/s, after: 10MiB"), Some(both));
    for (keys, reason) in [
        ("after: 1MiB", "pacing: nothing is paced"),
        ("upload: 1023/s", "pacing.upload: `1023/s` is out of range: 1KiB/s to 1024GiB/s"),
        ("upload: 1MiB", "pacing.upload: `1MiB` is no speed"),
    ] {
        assert_eq!(reasons(&format!("pacing: {{ {keys} }}")), [reason], "{keys}");
    }
}

#[test]
fn a_route_that_forwards_nothing_has_no_pacing() {
    let text = file("").replace("upstream: u,", "redirect: https, pacing: { upload: 1MiB/s },");
    let candidate = parse("edge.yaml", &text, &NoEnvironment).unwrap();
    let Entry::Bad(bad) = &candidate.routes["r"] else { panic!() };
    assert_eq!(bad.reasons.len(), 1);
    assert!(bad.reasons[0].message.contains("`pacing`"), "{:?}", bad.reasons);
}
