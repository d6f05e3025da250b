//! Configuration, tenants and the process.

use super::family::Def;

pub(super) const CONFIG_RELOADS: Def = Def {
    name: "edge_config_reloads_total",
    help: "Readings of the config file, the first included, by result.",
    detail: "`applied`, `partial` (some entries quarantined), `unchanged`, `rejected`.",
    labels: &["result"],
};
pub(super) const CONFIG_LAST_RELOAD_SUCCESSFUL: Def = Def {
    name: "edge_config_last_reload_successful",
    help: "1 unless the last reading was rejected.",
    detail: "",
    labels: &[],
};
pub(super) const CONFIG_LAST_RELOAD_SUCCESS: Def = Def {
    name: "edge_config_last_reload_success_timestamp_seconds",
    help: "When the last reading was accepted, Unix time.",
    detail: "",
    labels: &[],
};
pub(super) const CONFIG_INFO: Def = Def {
    name: "edge_config_info",
    help: "1; the label names the content that serves.",
    detail: "`hash` begins the SHA-256 of the file that serves.",
    labels: &["hash"],
};
pub(super) const CONFIG_GENERATION: Def = Def {
    name: "edge_config_generation",
    help: "Number of the table that serves, from 1.",
    detail: "",
    labels: &[],
};
pub(super) const CONFIG_OBJECTS: Def = Def {
    name: "edge_config_objects",
    help: "Configured entries by kind and state.",
    detail: "`kind`: `route`, `upstream`, `certificate`. `state`: `serving` as written, `former` \
        version serving, `quarantined` without one; certificates also `failed`, not loadable \
        now.",
    labels: &["kind", "state"],
};
pub(super) const TENANTS: Def = Def {
    name: "edge_tenants",
    help: "Entries of the tenant registry by state.",
    detail: "`good`, `refused` (nothing of them serves), `former` (refused; their former version \
        serves).",
    labels: &["state"],
};
pub(super) const SERIES_DROPPED: Def = Def {
    name: "edge_metrics_series_dropped_total",
    help: "Series that were not made: `metrics.max_series` is reached.",
    detail: "As estimated. Their routes, upstreams and tenants share the label `other`; the log says how many.",
    labels: &[],
};
pub(super) const BUFFERED_BYTES: Def = Def {
    name: "edge_buffered_bytes",
    help: "Bytes held for peers that do not take them.",
    detail: "The ceiling is `limits.buffered_bytes`.",
    labels: &[],
};
pub(super) const LOG_DROPPED: Def = Def {
    name: "edge_log_dropped_total",
    help: "Access-log lines dropped because the queue was full or stdout broken.",
    detail: "",
    labels: &[],
};
pub(super) const REQUEST_PANICS: Def = Def {
    name: "edge_request_panics_total",
    help: "Requests ended by a panic of ours: a bug each.",
    detail: "",
    labels: &[],
};
pub(super) const BUILD_INFO: Def = Def {
    name: "edge_build_info",
    help: "1; the label names the version of the binary.",
    detail: "",
    labels: &["version"],
};
