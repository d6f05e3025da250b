//! Keys of `tenants`.

use super::Keys;

pub(crate) const TENANTS: Keys = Keys {
    path: "tenants",
    known: &["file", "id", "routes", "certificates", "removed", "metrics"],
    foreign: &[
        ("registry", "write `file`"),
        ("path", "write `file`"),
        ("source", "write `file`"),
        ("servers", "the list stands in the file that `file` names"),
        ("name", "write `id`"),
        ("key", "write `id`"),
        ("templates", "write `routes`"),
        ("upstreams", "write `endpoint` and `upstream` in `routes.NAME`"),
        ("rate_limits", "write `rate_limits` in `routes.NAME`"),
        ("issuer", "write `certificates: { issuer }`"),
        ("drain", "write `removed: { drain: 60s }`"),
    ],
    later: &[],
};

/// What the state directory keeps beside them.
pub(crate) const TENANTS_KEPT: Keys = Keys {
    path: "tenants",
    known: &["file", "id", "routes", "certificates", "removed", "metrics", "served"],
    foreign: &[],
    later: &[],
};

/// A template: the keys of a route, but for what a tenant has of its own.
pub(crate) const TENANT_ROUTE: Keys = Keys {
    path: "tenants.routes.NAME",
    known: &[
        "hosts",
        "endpoint",
        "upstream",
        "path",
        "methods",
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
        ("host", "write `hosts: [\"{tenant}.gw.example\"]`"),
        ("endpoints", "write `endpoint: \"{host}:{port}\"`"),
        ("address", "write `endpoint: \"{host}:{port}\"`"),
        ("backend", "write `endpoint: \"{host}:{port}\"`"),
        ("health", "write `upstream: { health }`"),
        ("balance", "a tenant has one endpoint: remove it"),
        ("split", "a tenant has one endpoint: remove it"),
        ("redirect", "a tenant's route leads to its endpoint: write a route of its own"),
        ("respond", "a tenant's route leads to its endpoint: write a route of its own"),
        ("rate_limit", "write `rate_limits: [{ key: route, rate: 10/s }]`"),
        ("limits", "write `rate_limits: [{ key: route, rate: 10/s }]`"),
        ("tls", "write `upstream: { tls: {} }`"),
        ("protocol", "write `upstream: { protocol }`"),
    ],
    later: &[],
};

/// The keys of an upstream but `endpoints`.
pub(crate) const TENANT_UPSTREAM: Keys = Keys {
    path: "tenants.routes.NAME.upstream",
    known: &[
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
        ("endpoints", "write `endpoint` beside `upstream`"),
        ("timeout", "write `timeouts: { first_byte, idle }`"),
        ("health_check", "write `health: { path: /health }`"),
    ],
    later: &[],
};

pub(crate) const TENANT_CERTIFICATES: Keys = Keys {
    path: "tenants.certificates",
    known: &["issuer", "per"],
    foreign: &[("names", "the names are the hosts of the templates: remove it")],
    later: &["profile", "key"],
};

pub(crate) const TENANT_REMOVED: Keys = Keys {
    path: "tenants.removed",
    known: &["drain"],
    foreign: &[("grace", "write `drain`"), ("timeout", "write `drain`")],
    later: &[],
};

pub(crate) const TENANT_METRICS: Keys = Keys {
    path: "tenants.metrics",
    known: &["tenants"],
    foreign: &[("labels", "write `tenants`"), ("limit", "write `tenants`")],
    later: &[],
};

#[cfg(test)]
mod tests {
    use super::super::{ROUTE, UPSTREAM};
    use super::*;

    /// A key that routes get has to be there as well.
    #[test]
    fn templates_have_the_keys_of_routes_and_upstreams() {
        let sorted = |keys: &[&'static str], without: &[&str], with: &[&'static str]| {
            let mut keys: Vec<&str> =
                keys.iter().copied().filter(|key| !without.contains(key)).collect();
            keys.extend(with);
            keys.sort_unstable();
            keys
        };
        assert_eq!(
            sorted(TENANT_ROUTE.known, &[], &[]),
            sorted(ROUTE.known, &["split", "redirect", "respond"], &["endpoint"])
        );
        assert_eq!(
            sorted(TENANT_UPSTREAM.known, &[], &[]),
            sorted(UPSTREAM.known, &["endpoints"], &[])
        );
        assert_eq!(sorted(TENANTS_KEPT.known, &[], &[]), sorted(TENANTS.known, &[], &["served"]));
    }
}
