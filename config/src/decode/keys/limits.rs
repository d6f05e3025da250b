//! Keys of what a route demands of requests: `rate_limits`, `access`, `pacing`. And what to write
//! for words of nginx, ingress-nginx, Traefik and Envoy.

use super::Keys;

pub(crate) const RATE_LIMIT: Keys = Keys {
    path: "routes.NAME.rate_limits[]",
    known: &[
        "name",
        "key",
        "rate",
        "burst",
        "concurrent",
        "missing",
        "prefix",
        "exempt",
        "dry_run",
        "status",
        "legacy_headers",
        "announce",
    ],
    foreign: &[
        ("zone", "write `key: client_ip`; the size is `limits.limiter_keys`"),
        ("sourceCriterion", "write `key: client_ip`, `\"header:NAME\"` or `host`"),
        ("source", "write `key`"),
        ("by", "write `key`"),
        ("descriptors", "write `key`, and one entry for each limit"),
        ("average", "write `rate: 10/s`"),
        ("limit", "write `rate: 10/s`"),
        ("requests", "write `rate: 10/s`"),
        ("requests_per_unit", "write `rate: 10/s`"),
        ("unit", "write it in the rate: `10/s`, `600/m`, `36000/h`"),
        ("period", "write it in the rate: `10/s`, `600/m`, `36000/h`"),
        ("window", "write it in the rate: `10/s`, `600/m`, `36000/h`"),
        ("rps", "write `rate: 10/s`"),
        ("rpm", "write `rate: 600/m`"),
        ("tokens_per_fill", "write `rate: 10/s`"),
        ("fill_interval", "write it in the rate: `10/s`, `600/m`, `36000/h`"),
        ("max_tokens", "write `burst`"),
        ("nodelay", "nothing is delayed: remove it"),
        ("delay", "nothing is delayed: what is over `burst` is refused"),
        ("connections", "write `concurrent`"),
        ("streams", "write `concurrent`"),
        ("amount", "write `concurrent`"),
        ("max_concurrent", "write `concurrent`"),
        ("ipv4", "write `prefix: { ipv4: 32 }`"),
        ("ipv6", "write `prefix: { ipv6: 64 }`"),
        ("allow", "write `exempt`"),
        ("allowlist", "write `exempt`"),
        ("whitelist", "write `exempt`"),
        ("excludedIPs", "write `exempt`"),
        ("except", "write `exempt: [192.0.2.0/24]`; for paths make a route of their own"),
        ("dryRun", "write `dry_run`"),
        ("limit_req_dry_run", "write `dry_run: true`"),
        ("limit_req_status", "write `status: 503`"),
        ("status_code", "write `status`"),
        ("headers", "write `legacy_headers: true` (X-RateLimit-*), `announce: true` (always)"),
        ("enable_x_ratelimit_headers", "write `legacy_headers: true`"),
    ],
    later: &[],
};

pub(crate) const LIMIT_PREFIX: Keys = Keys {
    path: "routes.NAME.rate_limits[].prefix",
    known: &["ipv4", "ipv6", "ipv6_aggregate"],
    foreign: &[
        ("v4", "write `ipv4`"),
        ("v6", "write `ipv6`"),
        ("aggregate", "write `ipv6_aggregate`"),
    ],
    later: &[],
};

pub(crate) const ACCESS: Keys = Keys {
    path: "routes.NAME.access",
    known: &["allow", "deny", "satisfy", "basic_auth", "except"],
    foreign: &[
        ("allowlist", "write `allow`"),
        ("whitelist", "write `allow`"),
        ("sourceRange", "write `allow`"),
        ("ipAllowList", "write `allow`"),
        ("ips", "write `allow`"),
        ("denylist", "write `deny`"),
        ("blacklist", "write `deny`"),
        ("block", "write `deny`"),
        ("basicAuth", BASIC),
        ("basic", BASIC),
        ("auth", BASIC),
        ("auth_basic", BASIC),
        ("auth_basic_user_file", BASIC),
        ("users", BASIC),
        ("htpasswd", BASIC),
        ("realm", "write `basic_auth: { users, realm }`"),
        ("exceptions", "write `except`"),
        ("exclude", "write `except`"),
        ("paths", "write `except` for the paths that nothing is asked for"),
        ("default", "an `allow` list refuses the rest: remove it"),
    ],
    later: &[],
};

pub(crate) const BASIC_AUTH: Keys = Keys {
    path: "routes.NAME.access.basic_auth",
    known: &["users", "realm"],
    foreign: &[
        ("usersFile", "write `users: \"${file:/path}\"`"),
        ("user_file", "write `users: \"${file:/path}\"`"),
        ("file", "write `users: \"${file:/path}\"`"),
        ("htpasswd", "write `users`"),
        ("user", "write `users`, the lines of an htpasswd file"),
        ("username", "write `users`, the lines of an htpasswd file"),
        ("password", "write `users`, the lines of an htpasswd file (`htpasswd -nB NAME`)"),
        ("removeHeader", "write `headers: { request: { remove: [authorization] } }` in the route"),
    ],
    later: &[],
};

pub(crate) const PACING: Keys = Keys {
    path: "routes.NAME.pacing",
    known: &["download", "upload", "after"],
    foreign: &[
        ("rate", "write `download: 1MiB/s`"),
        ("limit_rate", "write `download: 1MiB/s`"),
        ("response", "write `download`"),
        ("request", "write `upload`"),
        ("bandwidth", "write `download` and `upload`"),
        ("limit_rate_after", "write `after`"),
        ("burst", "write `after`"),
    ],
    later: &[],
};

/// Of a route: what stands in other places there.
pub(crate) const LIMIT: &str = "write `rate_limits: [{ key: client_ip, rate: 10/s }]`";
pub(crate) const CONCURRENT: &str = "write `rate_limits: [{ key: client_ip, concurrent: 8 }]`";
pub(crate) const ALLOW: &str = "write `access: { allow: [192.0.2.0/24] }`";
pub(crate) const DENY: &str = "write `access: { deny: [192.0.2.0/24] }`";
pub(crate) const PASSWORD: &str = "write `access: { basic_auth: \"${file:/path}\" }`";
pub(crate) const PACE: &str = "write `pacing: { download: 1MiB/s }`";
const BASIC: &str = "write `basic_auth: \"${file:/path}\"`, the lines of an htpasswd file";
