//! Keys of a route's filters: `cors`, `rewrite`, `maintenance`, `error_pages`.

use super::Keys;

pub(crate) const CORS: Keys = Keys {
    path: "routes.NAME.cors",
    known: &["origins", "methods", "headers", "expose", "credentials", "max_age"],
    foreign: &[
        ("origin", ORIGINS),
        ("allow_origin", ORIGINS),
        ("allow_origins", ORIGINS),
        ("allowed_origins", ORIGINS),
        ("cors-allow-origin", ORIGINS),
        ("accessControlAllowOriginList", ORIGINS),
        ("accessControlAllowOriginListRegex", NO_REGEX),
        ("allow_origin_regex", NO_REGEX),
        ("allow_origin_string_match", NO_REGEX),
        ("allow_methods", "write `methods`"),
        ("allowed_methods", "write `methods`"),
        ("cors-allow-methods", "write `methods`"),
        ("accessControlAllowMethods", "write `methods`"),
        ("allow_headers", "write `headers`"),
        ("allowed_headers", "write `headers`"),
        ("cors-allow-headers", "write `headers`"),
        ("accessControlAllowHeaders", "write `headers`"),
        ("expose_headers", "write `expose`"),
        ("exposed_headers", "write `expose`"),
        ("cors-expose-headers", "write `expose`"),
        ("accessControlExposeHeaders", "write `expose`"),
        ("allow_credentials", "write `credentials`"),
        ("cors-allow-credentials", "write `credentials`"),
        ("accessControlAllowCredentials", "write `credentials`"),
        ("cors-max-age", "write `max_age: 1h`"),
        ("accessControlMaxAge", "write `max_age: 1h`"),
        ("addVaryHeader", "`Vary: Origin` is always sent: remove it"),
        ("enabled", "write `cors`, or leave it out: remove `enabled`"),
    ],
    later: &[],
};

pub(crate) const REWRITE: Keys = Keys {
    path: "routes.NAME.rewrite",
    known: &["strip_prefix", "prefix", "regex", "to"],
    foreign: &[
        ("stripPrefix", "write `strip_prefix: /a`"),
        ("prefixes", "write `strip_prefix: /a`, and a route per prefix"),
        ("add_prefix", "write `prefix: /, to: /a`"),
        ("addPrefix", "write `prefix: /, to: /a`"),
        ("replace_prefix", "write `prefix: /a, to: /b`"),
        ("replacePrefixMatch", "write `prefix: /a, to: /b`"),
        ("prefix_rewrite", "write `prefix: /a, to: /b`"),
        ("replacePath", "write `regex: \"^.*$\", to: /a`"),
        ("replaceFullPath", "write `regex: \"^.*$\", to: /a`"),
        ("path", "write `prefix: /a, to: /b`"),
        ("from", "write `prefix` or `regex`"),
        ("pattern", "write `regex`"),
        ("match", "write `regex`"),
        ("replacement", "write `to`"),
        ("substitution", "write `to`"),
        ("target", "write `to`"),
        ("host", "the endpoint gets the `Host` of the request: remove it"),
    ],
    later: &[],
};

pub(crate) const MAINTENANCE: Keys = Keys {
    path: "routes.NAME.maintenance",
    known: &["retry_after", "allow"],
    foreign: &[
        ("enabled", "write `maintenance: on` or `maintenance: off`"),
        ("status", "the answer is 503: remove it"),
        ("except", "write `allow`, a list of addresses and networks"),
        ("page", "write `error_pages: [{ status: [503], html: \"${file:/path}\" }]`"),
        ("html", "write `error_pages: [{ status: [503], html: \"${file:/path}\" }]`"),
    ],
    later: &[],
};

pub(crate) const ERROR_PAGE: Keys = Keys {
    path: "routes.NAME.error_pages[]",
    known: &["status", "html", "problem_type"],
    foreign: &[
        ("statuses", "write `status`"),
        ("code", "write `status`"),
        ("codes", "write `status`"),
        ("file", "write `html: \"${file:/path}\"`"),
        ("path", "write `html: \"${file:/path}\"`"),
        ("body", "write `html`"),
        ("type", "write `problem_type`"),
        ("query", "pages come from `html`, not from a service"),
        ("service", "pages come from `html`, not from a service"),
        ("upstream", "pages come from `html`, not from a service"),
    ],
    later: &[],
};

const ORIGINS: &str = "write `origins: [\"https://app.example.com\"]`";
const NO_REGEX: &str = "write `origins: [\"https://*.example.com\"]`: one further label";
