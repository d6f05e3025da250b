//! Every key that a file may hold. One table per mapping: the decoder refuses the rest, and a test
//! compares the tables with the reference in README.md.

mod filter;
mod issuance;
mod limits;
mod route;
mod tenants;
mod upstream;

pub(crate) use filter::{CORS, ERROR_PAGE, MAINTENANCE, REWRITE};
pub(crate) use issuance::{CERTIFICATE, EAB, INTERNAL, ISSUER, ORDER_LIMITS};
pub(crate) use limits::{ACCESS, BASIC_AUTH, LIMIT_PREFIX, PACING, RATE_LIMIT};
pub(crate) use route::{
    HEADER_EDITS, HEADERS, HSTS, PATH, REDIRECT, RESPOND, ROUTE, ROUTE_RETRY, ROUTE_TIMEOUTS,
};
pub(crate) use tenants::{
    TENANT_CERTIFICATES, TENANT_METRICS, TENANT_REMOVED, TENANT_ROUTE, TENANT_UPSTREAM, TENANTS,
    TENANTS_KEPT,
};
pub(crate) use upstream::{
    BALANCE_HASH, CLIENT_CERTIFICATE, DEFAULTS_UPSTREAM, EJECTION_POLICY, ENDPOINT, HEALTH_GRPC,
    HEALTH_HTTP, HEALTH_TCP, QUEUE, RETRIES, STICKY_COOKIE, UPSTREAM, UPSTREAM_LIMITS,
    UPSTREAM_TIMEOUTS, UPSTREAM_TLS,
};

/// The keys of one kind of mapping.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Where such a mapping stands; `NAME` is the name of an entry.
    pub path: &'static str,
    pub known: &'static [&'static str],
    /// Keys of other programs, and what to write instead.
    pub foreign: &'static [(&'static str, &'static str)],
    /// Keys of this program's design that this version cannot do yet.
    pub later: &'static [&'static str],
}

pub(crate) const TOP: Keys = Keys {
    path: "",
    known: &[
        "version",
        "workers",
        "state_dir",
        "admin",
        "listeners",
        "issuers",
        "default_issuer",
        "certificates",
        "trusted_proxies",
        "limits",
        "metrics",
        "log",
        "drain",
        "defaults",
        "upstreams",
        "routes",
        "tenants",
        "tests",
    ],
    foreign: &[
        ("services", "write `upstreams`"),
        ("backends", "write `upstreams`"),
        ("clusters", "write `upstreams`"),
        ("servers", "write `listeners` for addresses, `routes` for hosts"),
        ("entrypoints", "write `listeners`"),
        ("entryPoints", "write `listeners`"),
        ("http", "write `listeners`, `routes` and `upstreams` at the top level"),
        ("routers", "write `routes`"),
        ("rules", "write `routes`"),
        ("tls", "write `tls` in a listener, `certificates` for files, `issuers` for a CA"),
        ("acme", "write `issuers`"),
        ("timeouts", "write `timeouts` in a listener or an upstream"),
        ("global", "its keys stand at the top level"),
        ("middlewares", "write `rate_limits`, `access`, `headers` in a route"),
        ("rate_limits", "write `rate_limits` in a route"),
        ("access", "write `access` in a route"),
    ],
    later: &[],
};

pub(crate) const ADMIN: Keys = Keys {
    path: "admin",
    known: &["listen", "socket", "allowed_hosts"],
    foreign: &[
        ("bind", "write `listen`"),
        ("address", "write `listen`"),
        ("port", "write `listen`"),
    ],
    later: &["tls", "basic_auth"],
};

pub(crate) const LISTENER: Keys = Keys {
    path: "listeners.NAME",
    known: &[
        "bind",
        "tls",
        "redirect_to",
        "public_port",
        "limits",
        "timeouts",
        "http2",
        "allow_underscores",
        "proxy_protocol",
    ],
    foreign: &[
        ("listen", "write `bind`"),
        ("address", "write `bind`"),
        ("addresses", "write `bind`"),
        ("port", "write `bind: [\"[::]:PORT\"]`"),
        ("ssl", "write `tls`"),
        ("redirect", "write `redirect_to: https`"),
        ("ssl_redirect", "write `redirect_to: https`"),
        ("websocket", "WebSocket needs no switch: remove it"),
        ("accept_proxy", "write `proxy_protocol: [192.0.2.0/24]`, the networks it comes from"),
        ("accept-proxy", "write `proxy_protocol: [192.0.2.0/24]`, the networks it comes from"),
    ],
    later: &["http3"],
};

pub(crate) const LISTENER_TLS: Keys = Keys {
    path: "listeners.NAME.tls",
    known: &["min_version", "default_certificate"],
    foreign: &[
        ("cert", "write `certificates: { NAME: { chain, key } }` at the top level"),
        ("certificate", "write `certificates: { NAME: { chain, key } }` at the top level"),
        ("key", "write `certificates: { NAME: { chain, key } }` at the top level"),
        ("protocols", "write `min_version`"),
        ("ciphers", "the cipher suites are fixed to safe ones: remove it"),
    ],
    later: &["client_auth", "max_version"],
};

pub(crate) const LISTENER_LIMITS: Keys = Keys {
    path: "listeners.NAME.limits",
    known: &[
        "connections",
        "connections_per_ip",
        "head_bytes",
        "head_fields",
        "target_bytes",
        "handshakes",
        "connection_rate",
        "connection_burst",
    ],
    foreign: &[
        ("rate", "write `connection_rate`"),
        ("new_connections", "write `connection_rate`"),
        ("burst", "write `connection_burst`"),
        ("limit_conn", "write `connections_per_ip`"),
        ("body_limit", "write `body_limit` in a route or under `defaults.route`"),
        ("max_connections", "write `connections`"),
        ("header_bytes", "write `head_bytes`"),
    ],
    later: &[],
};

pub(crate) const LISTENER_TIMEOUTS: Keys = Keys {
    path: "listeners.NAME.timeouts",
    known: &[
        "handshake",
        "head",
        "keep_alive",
        "body_progress",
        "body_min_rate",
        "write_progress",
        "http2_idle",
    ],
    foreign: &[
        ("idle", "write `keep_alive`"),
        ("read", "write `body_progress`"),
        ("write", "write `write_progress`"),
        ("header", "write `head`"),
    ],
    later: &[],
};

pub(crate) const HTTP2: Keys = Keys {
    path: "listeners.NAME.http2",
    known: &["enabled", "max_streams"],
    foreign: &[("max_concurrent_streams", "write `max_streams`")],
    later: &[],
};

pub(crate) const LIMITS: Keys = Keys {
    path: "limits",
    known: &["buffered_bytes", "upstream_connections", "limiter_keys"],
    foreign: &[
        ("connections", "write it under `listeners.NAME.limits`"),
        ("body_limit", "write `body_limit` in a route or under `defaults.route`"),
        ("rate_limits", "write `rate_limits` in a route"),
        ("rate_limit_keys", "write `limiter_keys`"),
    ],
    later: &[],
};

pub(crate) const METRICS: Keys = Keys {
    path: "metrics",
    known: &["max_series"],
    foreign: &[
        ("tenants", "write it under `tenants.metrics`"),
        ("enabled", "`/metrics` needs no switch: remove it"),
        ("listen", "write `admin.listen`"),
        ("address", "write `admin.listen`"),
        ("port", "write `admin.listen`"),
        ("series", "write `max_series`"),
        ("limit", "write `max_series`"),
    ],
    later: &[],
};

pub(crate) const LOG: Keys = Keys {
    path: "log",
    known: &["access", "queue_bytes"],
    foreign: &[("level", "set OPENCLAW_EDGE_LOG in the environment")],
    later: &["fields"],
};

pub(crate) const DRAIN: Keys = Keys {
    path: "drain",
    known: &["deadline", "removed_route_grace"],
    foreign: &[("timeout", "write `deadline`")],
    later: &[],
};

pub(crate) const DEFAULTS: Keys =
    Keys { path: "defaults", known: &["upstream", "route"], foreign: &[], later: &["listener"] };

pub(crate) const DEFAULTS_ROUTE: Keys = Keys {
    path: "defaults.route",
    known: &["body_limit", "access_log"],
    foreign: &[
        ("timeouts", "write it under `defaults.upstream`, or in a route"),
        ("retry", "write it in a route; a request that runs twice is for its owner to allow"),
    ],
    later: &["rate_limits", "access", "headers", "hsts"],
};

pub(crate) const TEST: Keys = Keys {
    path: "tests[]",
    known: &["request", "client", "route", "redirect", "status"],
    foreign: &[
        ("url", "write `request: \"GET https://..\"`"),
        ("expect", "write `route`, `redirect` or `status`"),
        ("from", "write `client`"),
        ("ip", "write `client`"),
        ("source", "write `client`"),
        ("remote_addr", "write `client`"),
    ],
    later: &["headers", "body"],
};

#[cfg(test)]
pub(crate) const ALL: &[&Keys] = &[
    &TOP,
    &ADMIN,
    &LISTENER,
    &LISTENER_TLS,
    &LISTENER_LIMITS,
    &LISTENER_TIMEOUTS,
    &HTTP2,
    &ISSUER,
    &INTERNAL,
    &EAB,
    &ORDER_LIMITS,
    &CERTIFICATE,
    &LIMITS,
    &METRICS,
    &LOG,
    &DRAIN,
    &DEFAULTS,
    &DEFAULTS_UPSTREAM,
    &DEFAULTS_ROUTE,
    &UPSTREAM,
    &ENDPOINT,
    &BALANCE_HASH,
    &STICKY_COOKIE,
    &HEALTH_HTTP,
    &HEALTH_TCP,
    &HEALTH_GRPC,
    &EJECTION_POLICY,
    &RETRIES,
    &QUEUE,
    &UPSTREAM_LIMITS,
    &UPSTREAM_TLS,
    &CLIENT_CERTIFICATE,
    &UPSTREAM_TIMEOUTS,
    &ROUTE,
    &ROUTE_TIMEOUTS,
    &ROUTE_RETRY,
    &PATH,
    &REDIRECT,
    &RESPOND,
    &HEADERS,
    &HEADER_EDITS,
    &HSTS,
    &CORS,
    &REWRITE,
    &MAINTENANCE,
    &ERROR_PAGE,
    &RATE_LIMIT,
    &LIMIT_PREFIX,
    &ACCESS,
    &BASIC_AUTH,
    &PACING,
    &TENANTS,
    &TENANT_CERTIFICATES,
    &TENANT_REMOVED,
    &TENANT_METRICS,
    &TEST,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_either_known_or_not() {
        for keys in ALL {
            let mut all: Vec<&str> = keys.known.to_vec();
            all.extend(keys.foreign.iter().map(|(key, _)| *key));
            all.extend(keys.later);
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count, "{}", keys.path);
        }
    }

    #[test]
    fn the_reference_names_every_key() {
        let readme = include_str!("../../../README.md");
        for keys in ALL {
            for key in keys.known {
                let path = if keys.path.is_empty() {
                    (*key).to_owned()
                } else {
                    format!("{}.{key}", keys.path)
                };
                assert!(
                    readme.contains(&format!("| `{path}` |")),
                    "config/README.md lacks `{path}`"
                );
            }
            for key in keys.later {
                assert!(readme.contains(&format!("`{key}`")), "config/README.md lacks `{key}`");
            }
        }
    }

    #[test]
    fn an_example_shows_every_key() {
        let example = include_str!("../../../examples/everything.yaml");
        for keys in ALL {
            for key in keys.known {
                assert!(example.contains(&format!("{key}:")), "everything.yaml lacks `{key}`");
            }
        }
    }
}
