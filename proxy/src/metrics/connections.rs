//! Client connections and TLS.

use super::family::Def;

pub(super) const CONNECTIONS: Def = Def {
    name: "edge_connections",
    help: "Open client connections.",
    detail: "",
    labels: &["listener", "protocol"],
};
pub(super) const CONNECTIONS_ACCEPTED: Def = Def {
    name: "edge_connections_accepted_total",
    help: "Accepted client connections.",
    detail: "",
    labels: &["listener"],
};
pub(super) const CONNECTIONS_REJECTED: Def = Def {
    name: "edge_connections_rejected_total",
    help: "Client connections closed before TLS and HTTP, by reason.",
    detail: "The limit that was reached (`connections`, `connections_per_ip`, \
        `connection_rate`), `accept_error`, or on a listener with `proxy_protocol` \
        `proxy_protocol_untrusted` (not one of its peers), `proxy_protocol_malformed`, \
        `proxy_protocol_timeout`.",
    labels: &["listener", "reason"],
};
pub(super) const LISTENER_CONNECTION_LIMIT: Def = Def {
    name: "edge_listener_connection_limit",
    help: "Client connections that the listener may have.",
    detail: "Its `limits.connections`, or the default. Beyond it they are closed at once.",
    labels: &["listener"],
};
pub(super) const TLS_HANDSHAKES: Def = Def {
    name: "edge_tls_handshakes_total",
    help: "Finished TLS handshakes.",
    detail: "",
    labels: &["listener", "version", "resumed"],
};
pub(super) const TLS_HANDSHAKE_FAILURES: Def = Def {
    name: "edge_tls_handshake_failures_total",
    help: "Failed TLS handshakes.",
    detail: "",
    labels: &["listener", "reason"],
};
pub(super) const TLS_HANDSHAKE_DURATION: Def = Def {
    name: "edge_tls_handshake_duration_seconds",
    help: "Accept to finished TLS handshake.",
    detail: "",
    labels: &["listener"],
};
