//! Requests and tunnels.

use super::family::Def;

pub(super) const HTTP_REQUESTS: Def = Def {
    name: "edge_http_requests_total",
    help: "Requests that were answered, by the endpoint or by the edge.",
    detail: "`code` 499: the client was gone first; one that is not registered counts as its class, `5xx`.",
    labels: &["listener", "route", "upstream", "method", "code", "tenant"],
};
pub(super) const HTTP_REQUEST_DURATION: Def = Def {
    name: "edge_http_request_duration_seconds",
    help: "First byte of the request head to last byte of the response.",
    detail: "",
    labels: &["route", "upstream", "code_class"],
};
pub(super) const HTTP_FIRST_BYTE: Def = Def {
    name: "edge_http_response_first_byte_seconds",
    help: "First byte of the request head to first byte of the response head.",
    detail: "",
    labels: &["route", "upstream"],
};
pub(super) const HTTP_RECEIVED_BYTES: Def = Def {
    name: "edge_http_received_bytes_total",
    help: "Request body bytes from clients.",
    detail: "",
    labels: &["listener", "route"],
};
pub(super) const HTTP_SENT_BYTES: Def = Def {
    name: "edge_http_sent_bytes_total",
    help: "Response body bytes to clients.",
    detail: "",
    labels: &["listener", "route"],
};
pub(super) const HTTP_IN_FLIGHT: Def = Def {
    name: "edge_http_requests_in_flight",
    help: "Requests under way, tunnels included.",
    detail: "",
    labels: &["route"],
};
pub(super) const HTTP_LOCAL_RESPONSES: Def = Def {
    name: "edge_http_local_responses_total",
    help: "Answers the edge itself made, by cause.",
    detail: "`reason` is the cause as in `Proxy-Status` and the access log.",
    labels: &["route", "reason"],
};
pub(super) const HTTP_PROTOCOL_ERRORS: Def = Def {
    name: "edge_http_protocol_errors_total",
    help: "Requests refused for what their bytes are.",
    detail: "Framing, fields, frames.",
    labels: &["listener", "protocol", "reason"],
};
pub(super) const AUTH_DECISIONS: Def = Def {
    name: "edge_auth_decisions_total",
    help: "Requests on routes with `access`, by what it said.",
    detail: "`granted`, `denied` (403, the address), `wrong` (401: wrong credentials or none), \
        `limited` (429: too many wrong guesses from the client's prefix), `busy` (503: no \
        verdict in time).",
    labels: &["route", "result"],
};
pub(super) const AUTH_QUEUE_LENGTH: Def = Def {
    name: "edge_auth_queue_length",
    help: "Passwords queued for verification or being verified.",
    detail: "At most 64.",
    labels: &[],
};
pub(super) const WEBSOCKET_CONNECTIONS: Def = Def {
    name: "edge_websocket_connections",
    help: "Open WebSocket tunnels.",
    detail: "",
    labels: &["route"],
};
pub(super) const HTTP_UPGRADES: Def = Def {
    name: "edge_http_upgrades_total",
    help: "Requests that became a tunnel.",
    detail: "",
    labels: &["route"],
};
