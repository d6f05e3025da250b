//! Whatever a registry holds: no panic, and no entry changes what is made of another.

use config::merge::merge;
use config::{Accepted, last_good, parse};
use proptest::prelude::*;
use proptest::sample::Index;

use super::{FILE, PRODUCTION, Registry};

fn of_bytes(previous: Option<&Accepted>, registry: &[u8]) -> Accepted {
    merge(previous, parse("edge.yaml", FILE, &Registry(registry)).unwrap())
}

/// What one tenant gets; nothing where it is refused.
fn made(accepted: &Accepted, tenant: &str) -> String {
    let tenant = accepted.tenants.get(tenant);
    let parts = tenant.iter().flat_map(|tenant| &tenant.value.parts);
    parts.map(|part| format!("{:?} {:?}\n", part.route, part.upstream)).collect()
}

/// One entry of its own: id, host, ports.
fn entry(n: usize) -> String {
    format!(
        "{{\"tenant\": \"t{n}\", \"host\": \"192.0.2.{n}\", \"gateway_port\": {}, \"bridge_port\": {}}}",
        1000 + n,
        2000 + n
    )
}

fn registry(entries: &[String]) -> String {
    format!("{{\"servers\": [{}]}}", entries.join(",\n"))
}

/// Values that may stand in an entry, right and wrong.
fn value() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "null",
        "true",
        "17",
        "-1",
        "1e3",
        "0",
        "65535",
        "65536",
        "[]",
        "{}",
        "[{\"tenant\": \"t1\"}]",
        "\"\"",
        "\"t1\"",
        "\"t-9\"",
        "\"192.0.2.1\"",
        "\"100.64.0.9\"",
        "\"::1\"",
        "\"*\"",
        "\"a.b\"",
        "\"{tenant}\"",
        "\"${env:X}\"",
        "\"x:1\"",
        "\"/x\"",
        "\"unix:/x\"",
    ]);
    let any = any::<String>().prop_map(|text| {
        let escaped: Vec<String> =
            text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{}\"", escaped.concat())
    });
    prop_oneof![known.prop_map(str::to_owned), any]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let before = of_bytes(None, PRODUCTION.as_bytes());
        let after = of_bytes(Some(&before), &bytes);
        // None of them is a registry.
        prop_assert_eq!(made(&after, "acme-corp"), made(&before, "acme-corp"));
    }

    #[test]
    fn a_registry_cut_or_edited_anywhere_is_survived(
        cut in any::<Index>(),
        piece in prop::sample::select(vec!["", "{", "}", "[", "]", "\"", ",", ":", "\\", "\u{0}", "é", "0", "-"]),
        skip in 0..8usize,
    ) {
        let chars: Vec<char> = PRODUCTION.chars().collect();
        let at = cut.index(chars.len());
        let rest = chars.iter().skip(at + skip);
        let text: String = chars[..at].iter().copied().chain(piece.chars()).chain(rest.copied()).collect();
        let before = of_bytes(None, PRODUCTION.as_bytes());
        let after = of_bytes(Some(&before), text.as_bytes());
        let document = last_good::document(&after);
        let restored = last_good::restore(&document, &Registry(b"")).unwrap();
        prop_assert_eq!(last_good::document(&restored), document);
        for bad in &after.quarantined {
            prop_assert!(bad.reasons.iter().all(|reason| !reason.message.is_empty()));
        }
    }

    /// One entry mutated: the others are what they were, and serve, unless it took what they have.
    #[test]
    fn one_entry_never_changes_another(
        count in 2..8usize,
        which in any::<Index>(),
        fields in prop::collection::vec(
            (prop::sample::select(vec!["tenant", "host", "gateway_port", "bridge_port", "x"]), value()),
            0..6,
        ),
    ) {
        let mut entries: Vec<String> = (1..=count).map(entry).collect();
        let before = of_bytes(None, registry(&entries).as_bytes());
        prop_assert_eq!(before.tenants.len(), count);
        let which = which.index(count);
        let written: Vec<String> =
            fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        entries[which] = format!("{{{}}}", written.join(", "));
        let after = of_bytes(Some(&before), registry(&entries).as_bytes());
        for n in (1..=count).filter(|n| *n != which + 1) {
            let tenant = format!("t{n}");
            prop_assert_eq!(made(&after, &tenant), made(&before, &tenant));
            let refused: Vec<_> = after
                .quarantined
                .iter()
                .filter(|bad| bad.name.as_str() == tenant && bad.line != which as u64 + 1)
                .collect();
            // Only where the mutated one, earlier in the list, calls itself the same.
            let same_name = written.iter().any(|field| field.contains(&format!("\"{tenant}\"")));
            prop_assert!(refused.is_empty() || same_name, "{:?}", refused);
        }
    }
}
