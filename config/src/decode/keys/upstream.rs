//! Keys of `upstreams` and `defaults.upstream`.

use super::Keys;

pub(crate) const DEFAULTS_UPSTREAM: Keys = Keys {
    path: "defaults.upstream",
    known: &[
        "balance",
        "slow_start",
        "health",
        "ejection",
        "retries",
        "queue",
        "limits",
        "timeouts",
    ],
    foreign: &[
        ("endpoints", OWN),
        ("sticky", OWN),
        ("protocol", OWN),
        ("tls", OWN),
        ("proxy_protocol", OWN),
        ("timeout", TIMEOUT),
        ("retry", "write `retries`"),
        ("health_check", HEALTH),
        ("healthcheck", HEALTH),
        ("outlier_detection", EJECTION),
        ("circuit_breaker", EJECTION),
    ],
    later: &[],
};

pub(crate) const UPSTREAM: Keys = Keys {
    path: "upstreams.NAME",
    known: &[
        "endpoints",
        "balance",
        "sticky",
        "slow_start",
        "health",
        "ejection",
        "retries",
        "queue",
        "limits",
        "protocol",
        "tls",
        "proxy_protocol",
        "timeouts",
    ],
    foreign: &[
        ("backends", ENDPOINTS),
        ("servers", ENDPOINTS),
        ("targets", ENDPOINTS),
        ("hosts", ENDPOINTS),
        ("addresses", ENDPOINTS),
        ("url", ADDRESS),
        ("address", ADDRESS),
        ("host", ADDRESS),
        ("port", ADDRESS),
        ("service", ADDRESS),
        ("resolver", "names are resolved again and again by the system's resolvers: remove it"),
        ("weight", WEIGHT),
        ("weights", WEIGHT),
        ("lb", BALANCE),
        ("lb_policy", BALANCE),
        ("load_balancing", BALANCE),
        ("load_balancer", BALANCE),
        ("loadBalancer", BALANCE),
        ("strategy", BALANCE),
        ("algorithm", BALANCE),
        ("policy", BALANCE),
        ("hash", "write `balance: { hash: client_ip }`"),
        ("ip_hash", "write `balance: { hash: client_ip }`"),
        ("affinity", STICKY),
        ("session_affinity", STICKY),
        ("sticky_session", STICKY),
        ("cookie", STICKY),
        ("slowstart", "write `slow_start: 10s`"),
        ("healthcheck", HEALTH),
        ("healthCheck", HEALTH),
        ("health_check", HEALTH),
        ("health_checks", HEALTH),
        ("active_health", HEALTH),
        ("passive_health", EJECTION),
        ("outlier_detection", EJECTION),
        ("circuit_breaker", EJECTION),
        ("breaker", EJECTION),
        ("max_fails", EJECTION),
        ("fail_timeout", EJECTION),
        ("retry", "write `retries: { attempts, budget }` here, `retry: { when }` in a route"),
        ("max_retries", "write `retries: { attempts }`"),
        ("max_conns", "write `limits: { endpoint_connections }`"),
        ("maxconn", "write `limits: { endpoint_connections }`"),
        ("max_connections", "write `limits: { connections }`"),
        ("max_requests", "write `limits: { requests }`"),
        ("ssl", TLS),
        ("https", TLS),
        ("scheme", "write `tls: {}` for https, `protocol: http2` for HTTP/2"),
        ("insecure_skip_verify", "write `tls: { insecure: true }`, better `tls: { ca }`"),
        ("tls_insecure_skip_verify", "write `tls: { insecure: true }`, better `tls: { ca }`"),
        ("sni", "write `tls: { server_name }`"),
        ("server_name", "write `tls: { server_name }`"),
        ("http2", HTTP2),
        ("h2", HTTP2),
        ("h2c", HTTP2),
        ("grpc", HTTP2),
        ("send_proxy", "write `proxy_protocol: v1`"),
        ("send-proxy", "write `proxy_protocol: v1`"),
        ("send-proxy-v2", "write `proxy_protocol: v2`"),
        ("canary", "write `split` in a route"),
        ("split", "write `split` in a route"),
        ("websocket", "WebSocket needs no switch: remove it"),
        ("timeout", TIMEOUT),
        ("keepalive", "write `timeouts: { keep_alive }`"),
        ("keep_alive", "write `timeouts: { keep_alive }`"),
    ],
    later: &["subset", "locality"],
};

pub(crate) const ENDPOINT: Keys = Keys {
    path: "upstreams.NAME.endpoints[]",
    known: &["address", "weight"],
    foreign: &[
        ("host", "write `address: \"host:port\"`"),
        ("port", "write `address: \"host:port\"`"),
        ("url", "write `address: \"host:port\"`"),
        ("max_conns", "write `limits: { endpoint_connections }` in the upstream"),
        ("tls", "write `tls` in the upstream; it holds for all its endpoints"),
    ],
    later: &["backup", "priority"],
};

pub(crate) const BALANCE_HASH: Keys = Keys {
    path: "upstreams.NAME.balance",
    known: &["hash"],
    foreign: &[
        ("header", "write `hash: \"header:NAME\"`"),
        ("cookie", "write `hash: \"cookie:NAME\"`"),
        ("key", "write `hash`"),
        ("policy", "write `balance: least_request`, or `balance: { hash: client_ip }`"),
        ("type", "write `balance: least_request`, or `balance: { hash: client_ip }`"),
    ],
    later: &[],
};

pub(crate) const STICKY_COOKIE: Keys = Keys {
    path: "upstreams.NAME.sticky",
    known: &["cookie", "max_age"],
    foreign: &[
        ("name", "write `cookie`"),
        ("cookie_name", "write `cookie`"),
        ("ttl", "write `max_age`"),
        ("expires", "write `max_age`"),
    ],
    later: &[],
};

pub(crate) const HEALTH_HTTP: Keys = Keys {
    path: "upstreams.NAME.health",
    known: &[
        "type",
        "path",
        "host",
        "status",
        "body",
        "interval",
        "timeout",
        "rise",
        "fall",
        "start_period",
        "port",
    ],
    foreign: &[
        ("service", "it belongs to `type: grpc`"),
        ("uri", "write `path`"),
        ("url", "write `path`"),
        ("expected_status", "write `status: \"200-399\"`"),
        ("codes", "write `status: \"200-399\"`"),
        ("match", "write `status` and `body`"),
        ("expect", "write `status` and `body`"),
        ("protocol", "write `type`"),
        ("period", "write `interval`"),
        ("passes", "write `rise`"),
        ("healthy_threshold", "write `rise`"),
        ("successThreshold", "write `rise`"),
        ("fails", "write `fall`"),
        ("retries", "write `fall`"),
        ("unhealthy_threshold", "write `fall`"),
        ("failureThreshold", "write `fall`"),
        ("initial_delay", "write `start_period`"),
        ("initialDelaySeconds", "write `start_period`"),
    ],
    later: &["method", "headers", "lazy"],
};

pub(crate) const HEALTH_TCP: Keys = Keys {
    path: "upstreams.NAME.health",
    known: &["type", "interval", "timeout", "rise", "fall", "start_period", "port"],
    foreign: &[
        ("path", "it belongs to `type: http`"),
        ("host", "it belongs to `type: http`"),
        ("status", "it belongs to `type: http`"),
        ("body", "it belongs to `type: http`"),
        ("service", "it belongs to `type: grpc`"),
    ],
    later: &[],
};

pub(crate) const HEALTH_GRPC: Keys = Keys {
    path: "upstreams.NAME.health",
    known: &["type", "service", "interval", "timeout", "rise", "fall", "start_period", "port"],
    foreign: &[
        ("path", "it belongs to `type: http`"),
        ("host", "it belongs to `type: http`"),
        ("status", "it belongs to `type: http`"),
        ("body", "it belongs to `type: http`"),
    ],
    later: &[],
};

pub(crate) const EJECTION_POLICY: Keys = Keys {
    path: "upstreams.NAME.ejection",
    known: &["failures", "time", "max_time", "max_share"],
    foreign: &[
        ("max_fails", "write `failures`"),
        ("consecutive_5xx", "write `failures`"),
        ("consecutive_errors", "write `failures`"),
        ("threshold", "write `failures`"),
        ("fail_timeout", "write `time`"),
        ("base_ejection_time", "write `time`"),
        ("max_ejection_time", "write `max_time`"),
        ("max_ejection_percent", "write `max_share: 50%`"),
        ("enabled", "write `ejection: off`"),
    ],
    later: &[],
};

pub(crate) const RETRIES: Keys = Keys {
    path: "upstreams.NAME.retries",
    known: &["attempts", "budget"],
    foreign: &[
        ("count", "write `attempts`"),
        ("max", "write `attempts`"),
        ("num_retries", "write `attempts`"),
        ("when", "write `retry: { when }` in a route"),
        ("on", "write `retry: { when }` in a route"),
        ("retry_on", "write `retry: { when }` in a route"),
        ("timeout", "write `timeouts: { first_byte }`"),
    ],
    later: &["backoff"],
};

pub(crate) const QUEUE: Keys = Keys {
    path: "upstreams.NAME.queue",
    known: &["size", "timeout"],
    foreign: &[("length", "write `size`"), ("max", "write `size`")],
    later: &[],
};

pub(crate) const UPSTREAM_LIMITS: Keys = Keys {
    path: "upstreams.NAME.limits",
    known: &["connections", "requests", "endpoint_connections", "endpoint_requests"],
    foreign: &[
        ("max_connections", "write `connections`"),
        ("max_requests", "write `requests`"),
        ("max_conns", "write `endpoint_connections`"),
        ("pending", "write `queue: { size }`"),
        ("max_pending_requests", "write `queue: { size }`"),
    ],
    later: &[],
};

pub(crate) const UPSTREAM_TLS: Keys = Keys {
    path: "upstreams.NAME.tls",
    known: &["ca", "certificate", "server_name", "insecure"],
    foreign: &[
        ("roots", "write `ca`"),
        ("ca_file", "write `ca`"),
        ("cert", "write `certificate: { chain, key }`"),
        ("chain", "write `certificate: { chain, key }`"),
        ("key", "write `certificate: { chain, key }`"),
        ("client_certificate", "write `certificate: { chain, key }`"),
        ("sni", "write `server_name`"),
        ("verify", "certificates are verified; see `insecure`"),
        ("skip_verify", "write `insecure: true`, better `ca`"),
        ("insecure_skip_verify", "write `insecure: true`, better `ca`"),
        ("enabled", "write `tls: {}`, or leave `tls` out"),
        ("ciphers", "the cipher suites are fixed to safe ones: remove it"),
    ],
    later: &["min_version", "max_version"],
};

pub(crate) const CLIENT_CERTIFICATE: Keys = Keys {
    path: "upstreams.NAME.tls.certificate",
    known: &["chain", "key"],
    foreign: &[("cert", "write `chain`"), ("certificate", "write `chain`")],
    later: &[],
};

pub(crate) const UPSTREAM_TIMEOUTS: Keys = Keys {
    path: "upstreams.NAME.timeouts",
    known: &["connect", "first_byte", "idle", "stream_idle", "keep_alive", "total"],
    foreign: &[
        ("read", "write `first_byte` and `idle`"),
        ("response", "write `first_byte`"),
        ("request", "write `total`"),
        ("send", "the progress of a request is limited by the listener: remove it"),
        ("websocket", "write `stream_idle`"),
        ("keepalive", "write `keep_alive`"),
    ],
    later: &[],
};

const OWN: &str = "it belongs to one upstream: write it in `upstreams.NAME`";
const ENDPOINTS: &str = "write `endpoints`";
const ADDRESS: &str = "write `endpoints: [\"host:port\"]`";
const WEIGHT: &str = "write `endpoints: [{ address: \"host:port\", weight: 2 }]`";
const BALANCE: &str = "write `balance`";
const STICKY: &str = "write `sticky: { cookie: NAME }`";
const HEALTH: &str = "write `health: { path: /health }`";
const EJECTION: &str = "write `ejection: { failures, time }`";
const TLS: &str = "write `tls: {}`";
const HTTP2: &str = "write `protocol: http2`";
const TIMEOUT: &str = "write `timeouts: { first_byte, idle }`";
