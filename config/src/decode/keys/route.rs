//! Keys of `routes`.

use super::Keys;
use super::limits::{ALLOW, CONCURRENT, DENY, LIMIT, PACE, PASSWORD};

pub(crate) const ROUTE: Keys = Keys {
    path: "routes.NAME",
    known: &[
        "hosts",
        "path",
        "methods",
        "upstream",
        "split",
        "redirect",
        "respond",
        "body_limit",
        "headers",
        "hsts",
        "timeouts",
        "retry",
        "access_log",
        "maintenance",
        "cors",
        "rewrite",
        "error_pages",
        "security_headers",
        "rate_limits",
        "access",
        "pacing",
    ],
    foreign: &[
        ("backend", "write `upstream`; addresses stand in `upstreams.NAME.endpoints`"),
        ("backends", "write `upstream`; addresses stand in `upstreams.NAME.endpoints`"),
        ("service", "write `upstream`"),
        ("proxy_pass", "write `upstream`; addresses stand in `upstreams.NAME.endpoints`"),
        ("endpoints", "write `upstream` here; `endpoints` stands in `upstreams.NAME`"),
        ("cluster", "write `upstream`"),
        ("host", "write `hosts: [..]`"),
        ("domains", "write `hosts`"),
        ("server_name", "write `hosts`"),
        ("rule", "write `hosts` and `path`"),
        ("match", "write `hosts` and `path`"),
        ("paths", "write `path`, and a route per path"),
        ("prefix", "write `path`"),
        ("method", "write `methods: [..]`"),
        ("websocket", "WebSocket needs no switch: remove it"),
        ("websockets", "WebSocket needs no switch: remove it"),
        ("sse", "event streams need no switch: remove it"),
        ("buffering", "nothing is buffered: remove it"),
        ("max_body_size", "write `body_limit`"),
        ("client_max_body_size", "write `body_limit`"),
        ("timeout", "write `timeouts: { first_byte, idle }`"),
        ("canary", SPLIT),
        ("upstreams", SPLIT),
        ("weights", SPLIT),
        ("weighted_clusters", SPLIT),
        ("traffic_split", SPLIT),
        (
            "retries",
            "write `retry: { when }` here, `retries: { attempts, budget }` in the upstream",
        ),
        ("retry_on", "write `retry: { when: [5xx, timeout] }`"),
        ("balance", "write `balance` in the upstream"),
        ("sticky", "write `sticky` in the upstream"),
        ("health", "write `health` in the upstream"),
        ("grpc", "gRPC needs `protocol: http2` in the upstream"),
        ("tls", "every host gets TLS by its certificate: remove it"),
        ("return", "write `respond: { status: 404 }` or `redirect`"),
        ("status", "write `respond: { status: 404 }`"),
        ("priority", "the most specific route wins: remove it"),
        ("strip_prefix", STRIP),
        ("strip_path", STRIP),
        ("stripPrefix", STRIP),
        ("stripPrefixRegex", REGEX),
        ("rewrite-target", REGEX),
        ("regex_rewrite", REGEX),
        ("replacePath", REGEX),
        ("replacePathRegex", REGEX),
        ("prefix_rewrite", "write `rewrite: { prefix: /a, to: /b }`"),
        ("addPrefix", "write `rewrite: { prefix: /, to: /a }`"),
        (
            "app-root",
            "write a route with `path: { exact: / }` and `redirect: { path: /app, status: 302 }`",
        ),
        ("permanent-redirect", REDIRECT_TO),
        ("temporal-redirect", REDIRECT_TO),
        ("redirectRegex", REDIRECT_TO),
        ("from-to-www-redirect", "write a route for the other host with `redirect: { host }`"),
        ("redirectScheme", TO_HTTPS),
        ("ssl-redirect", TO_HTTPS),
        ("force-ssl-redirect", TO_HTTPS),
        ("enable-cors", CORS_LIKE),
        ("cors-allow-origin", CORS_LIKE),
        ("cors_policy", CORS_LIKE),
        ("allow_origins", CORS_LIKE),
        ("add_header", "write `headers: { response: { add: { x-a: b } } }`"),
        ("more_set_headers", "write `headers: { response: { set: { x-a: b } } }`"),
        ("customResponseHeaders", "write `headers: { response: { set: { x-a: b } } }`"),
        ("response_headers", "write `headers: { response: { set: { x-a: b } } }`"),
        ("proxy_set_header", "write `headers: { request: { set: { x-a: b } } }`"),
        ("customRequestHeaders", "write `headers: { request: { set: { x-a: b } } }`"),
        ("request_headers", "write `headers: { request: { set: { x-a: b } } }`"),
        ("error_page", PAGES),
        ("errors", PAGES),
        ("custom-http-errors", PAGES),
        ("local_reply_config", PAGES),
        ("default-backend", PAGES),
        ("frameDeny", SECURITY),
        ("contentTypeNosniff", SECURITY),
        ("x_frame_options", SECURITY),
        ("stsSeconds", "write `hsts: { max_age: 365d }`"),
        ("disabled", "write `maintenance: on`"),
        ("enabled", "write `maintenance: on` to close the route"),
        ("middlewares", "write `rate_limits`, `access`, `headers` here"),
        ("rate_limit", LIMIT),
        ("rateLimit", LIMIT),
        ("ratelimit", LIMIT),
        ("limits", LIMIT),
        ("limit_req", LIMIT),
        ("limit_req_zone", LIMIT),
        ("limit-rps", LIMIT),
        ("limit-rpm", "write `rate_limits: [{ key: client_ip, rate: 600/m }]`"),
        ("local_ratelimit", LIMIT),
        ("inFlightReq", CONCURRENT),
        ("limit_conn", CONCURRENT),
        ("limit-connections", CONCURRENT),
        ("concurrency", CONCURRENT),
        ("allow", ALLOW),
        ("allowlist", ALLOW),
        ("whitelist", ALLOW),
        ("whitelist-source-range", ALLOW),
        ("allowlist-source-range", ALLOW),
        ("ipAllowList", ALLOW),
        ("ipWhiteList", ALLOW),
        ("deny", DENY),
        ("denylist", DENY),
        ("blacklist", DENY),
        ("denylist-source-range", DENY),
        ("basic_auth", PASSWORD),
        ("basicAuth", PASSWORD),
        ("auth_basic", PASSWORD),
        ("auth_basic_user_file", PASSWORD),
        ("auth-type", PASSWORD),
        ("auth-secret", PASSWORD),
        ("htpasswd", PASSWORD),
        ("satisfy", "write it in `access`"),
        ("limit_rate", PACE),
        ("limit-rate", PACE),
        ("bandwidth", PACE),
        ("bandwidth_limit", PACE),
    ],
    later: &["compression", "mirror"],
};

pub(crate) const PATH: Keys = Keys {
    path: "routes.NAME.path",
    known: &["exact", "prefix"],
    foreign: &[("regex", "regular expressions are not supported: use `exact` or `prefix`")],
    later: &[],
};

pub(crate) const REDIRECT: Keys = Keys {
    path: "routes.NAME.redirect",
    known: &["https", "host", "port", "path", "keep_query", "status", "permanent"],
    foreign: &[
        ("to", PARTS),
        ("url", PARTS),
        ("location", PARTS),
        ("replacement", PARTS),
        (
            "regex",
            "write `rewrite: { regex, to }` in the route: the redirect leads to the new path",
        ),
        ("prefix_rewrite", "write `rewrite: { prefix, to }` in the route"),
        ("host_redirect", "write `host`"),
        ("path_redirect", "write `path`"),
        ("port_redirect", "write `port`"),
        ("https_redirect", "write `https: true`"),
        ("strip_query", "write `keep_query: false`"),
        ("query", "write `keep_query: false`, and the query in `path`"),
        ("code", "write `status`"),
        ("scheme", "write `https: true`"),
    ],
    later: &[],
};

pub(crate) const RESPOND: Keys = Keys {
    path: "routes.NAME.respond",
    known: &["status", "content_type", "body"],
    foreign: &[("code", "write `status`"), ("headers", "write `headers` in the route")],
    later: &["file"],
};

pub(crate) const HEADERS: Keys = Keys {
    path: "routes.NAME.headers",
    known: &["request", "response"],
    foreign: &[
        ("set", "write it under `request` or `response`"),
        ("add", "write it under `request` or `response`"),
        ("remove", "write it under `request` or `response`"),
    ],
    later: &[],
};

pub(crate) const HEADER_EDITS: Keys = Keys {
    path: "routes.NAME.headers.request",
    known: &["remove", "set", "add"],
    foreign: &[("delete", "write `remove`"), ("append", "write `add`"), ("replace", "write `set`")],
    later: &[],
};

pub(crate) const HSTS: Keys = Keys {
    path: "routes.NAME.hsts",
    known: &["max_age", "include_subdomains", "preload"],
    foreign: &[("includeSubDomains", "write `include_subdomains`"), ("max-age", "write `max_age`")],
    later: &[],
};

pub(crate) const ROUTE_TIMEOUTS: Keys = Keys {
    path: "routes.NAME.timeouts",
    known: &["connect", "first_byte", "idle", "stream_idle", "total"],
    foreign: &[
        ("keep_alive", "write `timeouts: { keep_alive }` in the upstream"),
        ("read", "write `first_byte` and `idle`"),
        ("response", "write `first_byte`"),
        ("request", "write `total`"),
        ("websocket", "write `stream_idle`"),
    ],
    later: &[],
};

pub(crate) const ROUTE_RETRY: Keys = Keys {
    path: "routes.NAME.retry",
    known: &["when", "non_idempotent"],
    foreign: &[
        ("on", "write `when: [5xx, timeout]`"),
        ("retry_on", "write `when: [5xx, timeout]`"),
        ("statuses", "write `when: [502, 503]`"),
        ("attempts", "write `retries: { attempts }` in the upstream"),
        ("budget", "write `retries: { budget }` in the upstream"),
        ("methods", "idempotent methods; see `non_idempotent`"),
    ],
    later: &[],
};

const SPLIT: &str = "write `split: { stable: 95, canary: 5 }`";
const STRIP: &str = "write `rewrite: { strip_prefix: /a }`";
const REGEX: &str = "write `rewrite: { regex: \"^/a/(.*)$\", to: \"/$1\" }`";
const REDIRECT_TO: &str = "write `redirect: { host, path, status: 301 }`";
const TO_HTTPS: &str = "write `redirect_to: https` in the plaintext listener";
const CORS_LIKE: &str =
    "write `cors: { origins: [\"https://app.example.com\"] }`, or `cors: \"*\"`";
const PAGES: &str = "write `error_pages: [{ status: [502, 503], html: \"${file:/path}\" }]`";
const SECURITY: &str = "write `security_headers: basic` or `strict`";
const PARTS: &str =
    "write its parts: `https: true`, `host`, `port`, `path`; what is left out is kept";
