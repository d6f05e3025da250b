//! Upstreams and their endpoints.

use super::family::Def;

pub(super) const UPSTREAM_REQUESTS: Def = Def {
    name: "edge_upstream_requests_total",
    help: "Attempts to have a request answered by an endpoint, by result.",
    detail: "`ok`, `replaced` (the answer was dropped for another endpoint's), or the cause that \
        ended it.",
    labels: &["upstream", "result"],
};
pub(super) const UPSTREAM_REQUEST_DURATION: Def = Def {
    name: "edge_upstream_request_duration_seconds",
    help: "Attempts to have a request answered: connection had to answer complete, or failed.",
    detail: "Tunnels do not count. `result` as above.",
    labels: &["upstream", "result"],
};
pub(super) const UPSTREAM_CONNECT_DURATION: Def = Def {
    name: "edge_upstream_connect_duration_seconds",
    help: "Connect to an endpoint.",
    detail: "",
    labels: &["upstream"],
};
pub(super) const UPSTREAM_CONNECTIONS: Def = Def {
    name: "edge_upstream_connections",
    help: "Open connections to endpoints, by state.",
    detail: "`active` or `idle`.",
    labels: &["upstream", "state"],
};
pub(super) const UPSTREAM_CONNECTION_ERRORS: Def = Def {
    name: "edge_upstream_connection_errors_total",
    help: "Connections to endpoints that could not be made or broke.",
    detail: "",
    labels: &["upstream", "reason"],
};
pub(super) const UPSTREAM_RETRIES: Def = Def {
    name: "edge_upstream_retries_total",
    help: "Further attempts after a failed one, by cause.",
    detail: "Nothing had been sent (`connect_failed`, `connect_timeout`, `upstream_tls_failed`), \
        the endpoint refused the stream (`refused_stream`), a kept connection was dead \
        (`stale_connection`), a new one died (`closed`), or the route asks for it (`timeout`, \
        `status`).",
    labels: &["upstream", "reason"],
};
pub(super) const UPSTREAM_CANCELLED: Def = Def {
    name: "edge_upstream_cancelled_total",
    help: "Attempts ended because the client was gone.",
    detail: "",
    labels: &["upstream"],
};
pub(super) const UPSTREAM_EJECTIONS: Def = Def {
    name: "edge_upstream_ejections_total",
    help: "Times that an endpoint was left alone after failures in a row.",
    detail: "",
    labels: &["upstream"],
};
pub(super) const UPSTREAM_QUEUE_LENGTH: Def = Def {
    name: "edge_upstream_queue_length",
    help: "Requests that wait for an endpoint.",
    detail: "None can be reached, or all are at their limits.",
    labels: &["upstream"],
};
pub(super) const UPSTREAM_ENDPOINTS: Def = Def {
    name: "edge_upstream_endpoints",
    help: "Endpoints by state.",
    detail: "Each in one, looked at every second: `draining` (taken out by the operator), else \
        `unhealthy` (health check), else `ejected` (failed requests; on trial included), else \
        `starting` (no verdict yet), `healthy` or `unchecked` (no health check). `unresolved`: \
        names without an address so far.",
    labels: &["upstream", "state", "tenant"],
};
pub(super) const UPSTREAM_PANIC: Def = Def {
    name: "edge_upstream_panic",
    help: "1: the upstream has endpoints and none of them can be used.",
    detail: "All are unhealthy, ejected or draining. Of tenants, and as `other`: how many of them. Requests are \
        tried all the same where nobody has taken the endpoint out.",
    labels: &["upstream", "tenant"],
};
pub(super) const UPSTREAM_HEALTH_CHECKS: Def = Def {
    name: "edge_upstream_health_checks_total",
    help: "Health checks by result.",
    detail: "`ok`, or why they failed: `connect_failed`, `timeout`, `tls_failed`, `broken` \
        (closed early, or no proper answer), `status`, `body` (without the expected text), \
        `not_serving` (gRPC), `local` (our own lack of descriptors or ports: changes no \
        verdict).",
    labels: &["upstream", "result"],
};
pub(super) const UPSTREAM_SPLIT_WEIGHT: Def = Def {
    name: "edge_upstream_split_weight",
    help: "Share of a route's requests that an upstream of its split gets now, 0 to 1.",
    detail: "As configured, or as shifted by `openclaw-edge shift`.",
    labels: &["route", "upstream"],
};
