//! `METRICS.md`: what the families say of themselves, with what holds for all of them.

use super::certificates::CERTIFICATE_NOT_BEFORE;
use super::connections::CONNECTIONS;
use super::family::{Def, Family};
use super::process::{BUFFERED_BYTES, CONFIG_RELOADS};
use super::requests::HTTP_REQUESTS;
use super::upstreams::UPSTREAM_REQUESTS;
use super::{DURATIONS, HANDSHAKES, Metrics};

/// Each begins with the family that stands here; families follow one another as registered.
const SECTIONS: [(&str, Def); 6] = [
    ("Requests", HTTP_REQUESTS),
    ("Connections and TLS", CONNECTIONS),
    ("Upstreams", UPSTREAM_REQUESTS),
    ("Certificates", CERTIFICATE_NOT_BEFORE),
    ("Configuration", CONFIG_RELOADS),
    ("Process", BUFFERED_BYTES),
];

const INTRODUCTION: &str = "\
# Metrics

<!-- Printed by `openclaw-edge metrics` from proxy/src/metrics/; a test compares. -->

`GET /metrics` on the admin server, Prometheus text 0.0.4. Base units, prefix `edge_`. Label values \
come from the configuration or from closed lists, never from a client (no Host, path, SNI or \
address); a method other than GET, POST, PUT, DELETE, HEAD, OPTIONS, PATCH and CONNECT is `other`; \
`none` stands for a request that no route matched, or that has no upstream; `route` is \
`acme-challenge` for a CA's HTTP-01 question that was answered. When a route, an upstream or a \
certificate is removed from the configuration, its series are removed too, once more after \
`removed_route_grace` for streams that ended meanwhile.

What the templates of `tenants:` make is counted under the template: its name is the value of \
`route`, `upstream` and, for certificates beyond those of the tenants with a label, `other` that of \
`certificate`. Three families tell tenants apart by the label `tenant`, which nothing else has: the \
first `tenants.metrics.tenants` have one of their own for as long as they are in the registry, the \
others share `other`. Ten thousand tenants are no more series than a hundred.

`metrics.max_series` bounds the names of routes, upstreams and tenants that have series of their own, \
by an estimate: each counts with what it makes in ordinary use, about 110 series for a route, as many \
for an upstream, 25 for a tenant and template. Names beyond the bound are `other` as `route` and \
`upstream`, in alphabetical order, a route before what it leads to. Who has series keeps them, and \
who has none gets them after a restart. Alerts see those beyond as one. In the access log and the \
admin API they are called by their own names.
";

const PROCESS: &str = "
Besides these the usual `process_*` families: CPU seconds, open and maximal file descriptors, \
virtual and resident memory, start time, threads.
";

/// The whole document, Markdown.
pub fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    let all: Vec<String> = DURATIONS.iter().map(f64::to_string).collect();
    let least = HANDSHAKES.last().copied().unwrap_or_default();
    text += &format!(
        "\nHistograms of requests, also of those to CAs, have the buckets {} (seconds); those of \
         handshakes and connects end at {least}.\n",
        all.join(" ")
    );
    for family in Metrics::new().families() {
        if let Some((title, _)) = SECTIONS.iter().find(|(_, first)| first.name == family.def.name) {
            text += &format!(
                "\n## {title}\n\n| family | type | labels | meaning |\n|---|---|---|---|\n"
            );
        }
        text += &row(family);
    }
    text + PROCESS
}

fn row(Family { def, kind, .. }: &Family) -> String {
    let labels: Vec<String> = def.labels.iter().map(|label| format!("`{label}`")).collect();
    let labels = labels.join(", ");
    let meaning = format!("{} {}", def.help, def.detail);
    format!("| `{}` | {kind} | {labels} | {} |\n", def.name, meaning.trim_end())
        .replace("|  |", "| |")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_in_the_repository_is_this_one() {
        let same = include_str!("../../METRICS.md") == document();
        assert!(
            same,
            "proxy/METRICS.md is not what the code says: \
             run `cargo run -p proxy -- metrics >proxy/METRICS.md`"
        );
    }

    #[test]
    fn every_family_has_its_row_in_one_section() {
        let text = document();
        let metrics = Metrics::new();
        assert_eq!(text.matches("\n| `edge_").count(), metrics.families().len());
        assert_eq!(text.matches("\n## ").count(), SECTIONS.len());
        for Family { def, buckets, .. } in metrics.families() {
            assert!(text.contains(&format!("\n| `{}` |", def.name)), "{}", def.name);
            assert!(def.help.ends_with('.') && !def.help.contains('|'), "{}", def.name);
            assert!(!def.detail.contains('|'), "{}", def.name);
            // What the introduction says of buckets.
            let known = [&[], DURATIONS, HANDSHAKES].contains(buckets);
            assert!(known && DURATIONS.starts_with(HANDSHAKES), "{}", def.name);
        }
    }
}
