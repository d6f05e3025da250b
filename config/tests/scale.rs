//! Work stays in proportion to the file. Run by hand with time: `cargo test -p config --release`.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;

use config::{NoEnvironment, merge, parse};

const ROUTES: usize = 10_000;

#[test]
fn ten_thousand_routes_are_read_and_merged() {
    let mut text = String::from(
        "version: 1\nissuers: { local: { internal: {} } }\nupstreams:\n  u: { endpoints: ['127.0.0.1:1'] }\nroutes:\n",
    );
    for n in 0..ROUTES {
        let _ =
            writeln!(text, "  r{n}: {{ hosts: [h{n}.openclaw.example], path: /a, upstream: u }}");
    }
    let candidate = parse("edge.yaml", &text, &NoEnvironment).unwrap();
    let accepted = merge(None, candidate.clone());
    assert_eq!(accepted.routes.len(), ROUTES);
    assert_eq!(merge(Some(&accepted), candidate), accepted);
}

/// A generator that writes the same upstreams again every second.
#[test]
fn ten_thousand_endpoints_are_read_merged_and_compared() {
    let text = |first: usize| {
        let mut text = String::from("version: 1\nupstreams:\n  u:\n    endpoints:\n");
        for n in first..first + 10_000 {
            let _ =
                writeln!(text, "      - {{ address: \"e{n}.openclaw.example:80\", weight: 2 }}");
        }
        text.push_str("routes: { r: { hosts: [a.openclaw.example], upstream: u } }\n");
        text
    };
    let before = merge(None, parse("edge.yaml", &text(0), &NoEnvironment).unwrap());
    assert_eq!(before.upstreams["u"].value.endpoints.len(), 10_000);
    let after = merge(Some(&before), parse("edge.yaml", &text(1), &NoEnvironment).unwrap());
    let changes = config::diff::diff(&before, &after);
    assert_eq!((changes.changed.len(), changes.added.len(), changes.removed.len()), (1, 0, 0));
    let document = config::last_good::document(&after);
    let restored = config::last_good::restore(&document, &NoEnvironment).unwrap();
    assert_eq!(restored.upstreams["u"].value, after.upstreams["u"].value);
}

/// A generator gone wrong: one claim, written by every route.
#[test]
fn ten_thousand_routes_with_one_claim_do_not_take_quadratic_time() {
    let mut text = String::from("version: 1\nroutes:\n");
    for n in 0..ROUTES {
        let _ =
            writeln!(text, "  r{n}: {{ hosts: [a.openclaw.example], respond: {{ status: 404 }} }}");
    }
    let accepted = merge(None, parse("edge.yaml", &text, &NoEnvironment).unwrap());
    assert_eq!(accepted.routes.len(), 1);
    assert_eq!(accepted.quarantined.len(), ROUTES - 1);
}
