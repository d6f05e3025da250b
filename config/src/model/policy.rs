//! What a route demands of requests before it serves them, and what it makes of them: limits,
//! access, pacing, filters. Every default already applied.

use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use super::PathRule;
use crate::value::{Name, NormPath, Regex, Secret};

/// One entry of `rate_limits`: requests per time, requests at once, or both, for each key.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// Unique in its route. Default: the key as written, with other characters than those of a
    /// name replaced by `-`.
    pub name: Name,
    pub key: LimitKey,
    /// `None`: only `concurrent` holds.
    pub rate: Option<Rate>,
    /// Requests that may come at once. Default: the number of `rate`.
    pub burst: NonZeroU32,
    /// Requests under way at once, streams and tunnels included; `None`: no limit.
    pub concurrent: Option<NonZeroU32>,
    /// Requests that none of the alternatives of `key` can be read from.
    pub missing: Missing,
    pub prefix: AddressPrefix,
    /// Client addresses that are not counted.
    pub exempt: Vec<IpNet>,
    /// Counts and logs what it would refuse, and refuses nothing.
    pub dry_run: bool,
    /// Of a refusal: 429 (default) or 503 (what ingress-nginx answers).
    pub status: u16,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset` beside the standard fields.
    pub legacy_fields: bool,
    /// The fields stand in every response of the route, not only in refusals.
    pub announce: bool,
}

/// A sustained rate: `count` per `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// 1 to 1,000,000.
    pub count: NonZeroU32,
    /// A second, a minute or an hour.
    pub per: Duration,
}

/// Alternatives in order: the first that is there whole counts. Each is a combination of parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitKey(pub Vec<Vec<KeyPart>>);

impl LimitKey {
    /// Reads what the client claims to be, which is checked after authentication and may be drawn
    /// at will by an attacker.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        let claimed = |part: &KeyPart| matches!(part, KeyPart::Header(_) | KeyPart::Cookie(_));
        self.0.iter().flatten().any(claimed)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The client's address, cut to [`RateLimit::prefix`].
    ClientIp,
    /// A request field, by its lower-case name.
    Header(String),
    Cookie(String),
    /// The normalised host.
    Host,
    /// The route: one count for all its requests.
    Route,
    /// The tenant. Part of every key in a template, whose limits are one limit with a count for
    /// each tenant; nowhere else.
    Tenant,
}

/// What happens to a request without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Missing {
    /// It counts on its client address (default).
    #[default]
    ClientIp,
    /// 403 `denied`.
    Refuse,
}

/// How many leading bits of an address make a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPrefix {
    /// 8 to 32, default 32.
    pub v4: u8,
    /// 16 to 128, default 64.
    pub v6: u8,
    /// A wider IPv6 prefix that is counted as well and may have 16 times as much; `None` (written
    /// `off`): none. Default 48.
    pub v6_aggregate: Option<u8>,
}

impl Default for AddressPrefix {
    fn default() -> Self {
        AddressPrefix { v4: 32, v6: 64, v6_aggregate: Some(48) }
    }
}

/// Who may use the route.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// Empty: every address that is not denied.
    pub allow: Vec<IpNet>,
    /// The longest matching prefix of both lists decides; equal ones deny.
    pub deny: Vec<IpNet>,
    pub basic_auth: Option<BasicAuth>,
    /// Whether addresses and password must both be right, or one of them.
    pub satisfy: Satisfy,
    /// Paths that nothing of this is asked for.
    pub except: Vec<PathRule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Satisfy {
    #[default]
    All,
    Any,
}

/// RFC 7617.
#[derive(Clone, Debug, PartialEq)]
pub struct BasicAuth {
    /// The lines of an htpasswd file, checked.
    pub users: Vec<PasswordEntry>,
    /// Default `restricted`.
    pub realm: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PasswordEntry {
    pub user: String,
    /// In one of the known schemes.
    pub hash: PasswordHash,
}

/// How a password is kept; the text is the whole hash with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum PasswordHash {
    /// `$2a$`, `$2b$`, `$2y$`; cost 4 to 14.
    Bcrypt(Secret),
    /// `$argon2id$`, `$argon2i$`, `$argon2d$` (PHC string); at most 64 MiB.
    Argon2(Secret),
    /// `$5$`, at most 100,000 rounds.
    Sha256Crypt(Secret),
    /// `$6$`, at most 100,000 rounds.
    Sha512Crypt(Secret),
    /// `{SHA}`: unsalted SHA-1.
    Sha1(Secret),
}

/// Most bytes per second of one client connection, in each direction, on this route.
#[derive(Clone, Debug, PartialEq)]
pub struct Pacing {
    /// Response bytes per second, at least 1 KiB.
    pub download: Option<u64>,
    /// Request bytes per second, at least 1 KiB.
    pub upload: Option<u64>,
    /// Bytes of each request or response that go unpaced first. Default 0.
    pub after: u64,
}

/// What the endpoint gets instead of the request's path. The query stays.
#[derive(Clone, Debug, PartialEq)]
pub enum Rewrite {
    /// The prefix is taken off (`/` remains of nothing); the endpoint is told it in
    /// `X-Forwarded-Prefix`. Other paths stay.
    StripPrefix(NormPath),
    /// Whole segments `from` at the start become `to`. Other paths stay.
    ReplacePrefix { from: NormPath, to: NormPath },
    /// Where the expression is found in the path, the path becomes `to` with `$1` and `${name}`
    /// filled in. Other paths stay.
    Regex { regex: Regex, to: String },
}

/// Cross-origin requests of browsers (Fetch standard, CORS protocol).
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    pub origins: Origins,
    /// Default GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS.
    pub methods: Vec<String>,
    /// `None` (default, written `*`): what the preflight asks for.
    pub headers: Option<Vec<String>>,
    /// Response fields that scripts may read, besides those of limits and the request id.
    pub expose: Vec<String>,
    /// Default false.
    pub credentials: bool,
    /// How long a preflight's answer may be kept. Default 1 h, at most 24 h.
    pub max_age: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Origins {
    /// `*`.
    Any,
    List(Vec<OriginPattern>),
}

/// `https://app.example`, or `https://*.app.example` for exactly one further label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    /// `http` or `https`.
    pub scheme: String,
    /// The host, or what follows `*.`.
    pub host: String,
    pub wildcard: bool,
    /// As written; `None`: the scheme's own.
    pub port: Option<u16>,
}

/// The route is closed for a while: 503 `maintenance`.
#[derive(Clone, Debug, PartialEq)]
pub struct Maintenance {
    /// Default 5 min.
    pub retry_after: Duration,
    /// Addresses that are served as usual.
    pub allow: Vec<IpNet>,
}

/// An answer of the edge itself in the site's own words. Endpoints' answers are left alone.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorPage {
    /// 400 to 599; not empty.
    pub statuses: Vec<u16>,
    /// For clients that take HTML. `{status}`, `{reason}`, `{cause}`, `{request_id}` are filled
    /// in, escaped. At most 64 KiB.
    pub html: Option<String>,
    /// `type` of the problem+json that others get (RFC 9457 §3.1.1); `None`: `about:blank`.
    pub problem_type: Option<String>,
}

/// Response fields for browsers, each set only where the endpoint does not set it itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityHeaders {
    /// `X-Content-Type-Options: nosniff`, `X-Frame-Options: SAMEORIGIN`,
    /// `Referrer-Policy: strict-origin-when-cross-origin`.
    Basic,
    /// The same with `X-Frame-Options: DENY`, and `Content-Security-Policy: frame-ancestors
    /// 'none'`, `Cross-Origin-Opener-Policy: same-origin`, `Permissions-Policy: camera=(),
    /// microphone=(), geolocation=()`.
    Strict,
}
