//! `rate_limits:` of a route, and the rate of new connections of a listener.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use super::super::read::is_off;
use super::super::{At, Cx, Fields, keys};
use super::networks::nets;
use crate::model::{AddressPrefix, KeyPart, LimitKey, ListenerLimits, Missing, Rate, RateLimit};
use crate::node::{Kind, Node, Pos};
use crate::value::{Name, ValueError, is_token, quote};

/// A limit and where it stands.
pub(super) struct Placed {
    pub limit: RateLimit,
    pub pos: Pos,
}

impl Cx<'_> {
    pub(crate) fn rate_limits(&mut self, node: &Node, at: &At<'_>) -> Option<Vec<RateLimit>> {
        if let Kind::Map(_) | Kind::Scalar(_) = node.kind {
            let message = "expected a list of limits";
            self.error(node.pos, at, message, Some(format!("write `[{EXAMPLE}]`")));
            return None;
        }
        let errors = self.errors.len();
        let mut names: BTreeMap<Name, Pos> = BTreeMap::new();
        let limits = self.list(node, at, 1..=MAX_LIMITS, |cx, node, at| {
            let limit = cx.rate_limit(node, at)?;
            if let Some(first) = names.insert(limit.name.clone(), node.pos) {
                let message = format!(
                    "two limits have one name: the first at {}:{}",
                    first.line, first.column
                );
                let help = "give one of them a `name` of its own";
                cx.error(node.pos, at, message, Some(help.into()));
            }
            Some(Placed { limit, pos: node.pos })
        })?;
        if self.errors.len() == errors {
            self.warn_about_limits(&limits, at);
        }
        Some(limits.into_iter().map(|placed| placed.limit).collect())
    }

    fn rate_limit(&mut self, node: &Node, at: &At<'_>) -> Option<RateLimit> {
        self.mapping(node, at, &format!("write `{EXAMPLE}`"))?;
        let fields = self.fields(node, at, &keys::RATE_LIMIT)?;
        let name = self.field(&fields, "name", |cx, node, at| cx.value(node, at, Name::new));
        let key = self.required(&fields, "key", Self::limit_key);
        let rate = self.field(&fields, "rate", Self::rate);
        let burst = self.field(&fields, "burst", Self::at_once);
        let concurrent = self.field(&fields, "concurrent", Self::at_once);
        if !fields.has("rate") && !fields.has("concurrent") {
            let help = "write `rate: 10/s`, `concurrent: 8`, or both";
            self.error(node.pos, at, "the limit limits nothing", Some(help.into()));
        }
        if fields.has("burst") && !fields.has("rate") {
            let help = "write `rate: 10/s`, or remove `burst`";
            let message = "`burst` without `rate`";
            self.error(fields.pos_of("burst"), &at.key("burst"), message, Some(help.into()));
        }
        let missing = self.field(&fields, "missing", |cx, node, at| {
            let words = [("client_ip", Missing::ClientIp), ("refuse", Missing::Refuse)];
            cx.word_or(node, at, &words, |text| match text {
                "deny" | "reject" | "block" => Some("write `refuse`"),
                "ip" | "address" => Some("write `client_ip`"),
                "pass" | "allow" | "skip" | "ignore" => {
                    Some("a limit that a missing field switches off is none: see `exempt`")
                }
                _ => None,
            })
        });
        let prefix = self.field(&fields, "prefix", Self::limit_prefix);
        let exempt = self.field(&fields, "exempt", Self::networks);
        self.warn_about_exempt(exempt.as_deref().unwrap_or_default(), &at.key("exempt"));
        let dry_run = self.field(&fields, "dry_run", Self::boolean);
        let status = self.field(&fields, "status", |cx, node, at| {
            cx.word(node, at, &[("429", 429), ("503", 503)])
        });
        let legacy_fields = self.field(&fields, "legacy_headers", Self::boolean);
        let announce = self.field(&fields, "announce", Self::boolean);
        let key = key?;
        if missing.is_some() || !fields.has("missing") {
            self.warn_about_key(&key, &fields);
        }
        Some(RateLimit {
            name: name.unwrap_or_else(|| called_after(fields.get("key"))),
            key,
            burst: burst.or(rate.map(|rate| rate.count)).unwrap_or(NonZeroU32::MIN),
            rate,
            concurrent,
            missing: missing.unwrap_or_default(),
            prefix: prefix.unwrap_or_default(),
            exempt: nets(exempt),
            dry_run: dry_run.unwrap_or(false),
            status: status.unwrap_or(429),
            legacy_fields: legacy_fields.unwrap_or(false),
            announce: announce.unwrap_or(false),
        })
    }

    fn rate(&mut self, node: &Node, at: &At<'_>) -> Option<Rate> {
        self.value(node, at, |text| text.parse::<Rate>())
    }

    fn at_once(&mut self, node: &Node, at: &At<'_>) -> Option<NonZeroU32> {
        let number = self.number(node, at, AT_ONCE)?;
        u32::try_from(number).ok().and_then(NonZeroU32::new)
    }

    /// One key, or a list of alternatives.
    fn limit_key(&mut self, node: &Node, at: &At<'_>) -> Option<LimitKey> {
        if let Kind::Scalar(_) = node.kind {
            return self.value(node, at, combination).map(|parts| LimitKey(vec![parts]));
        }
        let mut seen: Vec<Vec<KeyPart>> = Vec::new();
        let alternatives = self.list(node, at, 1..=MAX_ALTERNATIVES, |cx, node, at| {
            let parts = cx.value(node, at, combination)?;
            if seen.contains(&parts) {
                cx.error(node.pos, at, "the key is written twice", None);
            }
            seen.push(parts.clone());
            Some(parts)
        })?;
        // What could not be read was reported; a key of the rest would be another one.
        let Kind::List(items) = &node.kind else { return None };
        (alternatives.len() == items.len()).then_some(LimitKey(alternatives))
    }

    fn limit_prefix(&mut self, node: &Node, at: &At<'_>) -> Option<AddressPrefix> {
        self.mapping(node, at, "write `{ ipv4: 32, ipv6: 64 }`")?;
        let fields = self.fields(node, at, &keys::LIMIT_PREFIX)?;
        let mut prefix = AddressPrefix::default();
        if let Some(bits) = self.field(&fields, "ipv4", |cx, node, at| cx.bits(node, at, 8..=32)) {
            prefix.v4 = bits;
        }
        if let Some(bits) = self.field(&fields, "ipv6", |cx, node, at| cx.bits(node, at, 16..=128))
        {
            prefix.v6 = bits;
        }
        let aggregate = self.field(&fields, "ipv6_aggregate", |cx, node, at| match is_off(node) {
            true => Some(None),
            false => cx.bits(node, at, 16..=127).map(Some),
        });
        if let Some(Some(bits)) = aggregate
            && bits >= prefix.v6
        {
            let message =
                format!("`ipv6_aggregate` is not wider than `ipv6`, which is {}", prefix.v6);
            let help = "write fewer bits, or `off`";
            let pos = fields.pos_of("ipv6_aggregate");
            self.error(pos, &at.key("ipv6_aggregate"), message, Some(help.into()));
        }
        prefix.v6_aggregate = match aggregate {
            Some(written) => written,
            // The default is for narrower prefixes.
            None => prefix.v6_aggregate.filter(|bits| *bits < prefix.v6),
        };
        Some(prefix)
    }

    fn bits(&mut self, node: &Node, at: &At<'_>, range: RangeInclusive<u64>) -> Option<u8> {
        self.number(node, at, range).and_then(|bits| u8::try_from(bits).ok())
    }

    /// `connection_rate` and `connection_burst` of a listener.
    pub(crate) fn connection_rate(&mut self, fields: &Fields<'_, '_>, limits: &mut ListenerLimits) {
        let rate = self.field(fields, "connection_rate", |cx, node, at| match is_off(node) {
            true => Some(None),
            false => cx.rate(node, at).map(Some),
        });
        if let Some(rate) = rate {
            limits.connection_rate = rate;
            limits.connection_burst = ListenerLimits::burst_of(rate);
        }
        if let Some(burst) = self.field(fields, "connection_burst", Self::at_once) {
            limits.connection_burst = burst;
        }
        if rate == Some(None) && fields.has("connection_burst") {
            let message = "`connection_burst` without `connection_rate`, which is `off`";
            let at = fields.at.key("connection_burst");
            let pos = fields.pos_of("connection_burst");
            self.error(pos, &at, message, Some("remove one of the two".into()));
        }
    }
}

/// `client_ip`, `header:NAME`, `cookie:NAME`, `host`, `route`, joined by `+`.
fn combination(text: &str) -> Result<Vec<KeyPart>, ValueError> {
    let error = |message: String| ValueError::new(EXPECTED, message);
    let mut parts = Vec::new();
    for word in text.split('+') {
        let part = key_part(word.trim())?;
        if parts.contains(&part) {
            return Err(error(format!("{} is twice in the key", quote(word.trim()))));
        }
        parts.push(part);
    }
    if parts.len() > MAX_PARTS {
        return Err(error(format!("a key has at most {MAX_PARTS} parts")));
    }
    Ok(parts)
}

fn key_part(word: &str) -> Result<KeyPart, ValueError> {
    let error = |what: &str| ValueError::new(EXPECTED, format!("{} {what}", quote(word)));
    match word.split_once(':') {
        None if word == "client_ip" => return Ok(KeyPart::ClientIp),
        None if word == "host" => return Ok(KeyPart::Host),
        None if word == "route" => return Ok(KeyPart::Route),
        Some(("header", name)) => return header(name.trim(), word),
        Some(("cookie", name)) if is_token(name) && name.len() <= MAX_NAME => {
            return Ok(KeyPart::Cookie(name.to_owned()));
        }
        Some(("cookie", _)) => return Err(error("names no cookie").help("write `\"cookie:NAME\"`")),
        _ => {}
    }
    let lower = word.to_ascii_lowercase();
    Err(error("is not known here").help(match lower.as_str() {
        "ip"
        | "source"
        | "address"
        | "client"
        | "remote_addr"
        | "remote_address"
        | "remoteaddr"
        | "$binary_remote_addr"
        | "$remote_addr"
        | "requesthost" => "write `client_ip`",
        "server_name" | "$server_name" | "$host" | "domain" => "write `host`",
        "tenant" | "customer" => {
            "write `route`: the limits of `tenants.routes` count each tenant by itself"
        }
        "global" | "all" | "service" | "path" | "$uri" => {
            "write `route`; paths are told apart by routes"
        }
        "authorization" | "credential" | "token" | "user" | "api_key" => {
            "write `\"header:authorization\"`"
        }
        _ => "write `client_ip`, `\"header:NAME\"`, `\"cookie:NAME\"`, `host` or `route`",
    }))
}

/// Fields that say who the client is are believed from trusted proxies only, and then they are the
/// client's address already.
fn header(name: &str, word: &str) -> Result<KeyPart, ValueError> {
    let error = |what: &str| ValueError::new(EXPECTED, format!("{} {what}", quote(word)));
    if !is_token(name) || name.len() > MAX_NAME {
        return Err(error("names no header").help("write `\"header:NAME\"`"));
    }
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "host" => Err(error("has a word of its own").help("write `host`")),
        "x-forwarded-for" | "x-real-ip" | "forwarded" | "cf-connecting-ip" | "true-client-ip" => {
            let help = "write `client_ip`, and the proxy's address in `trusted_proxies`";
            Err(error("can be made up by clients").help(help))
        }
        _ => Ok(KeyPart::Header(name)),
    }
}

/// The name of a limit that has none: its key as it is written (not what references give: names
/// are shown).
fn called_after(key: Option<&Node>) -> Name {
    let text = match key.map(|key| &key.kind) {
        Some(Kind::Scalar(scalar)) => scalar.text.clone(),
        Some(Kind::List(items)) => {
            let texts = items.iter().filter_map(|item| match &item.kind {
                Kind::Scalar(scalar) => Some(scalar.text.as_str()),
                _ => None,
            });
            texts.collect::<Vec<_>>().join("-")
        }
        _ => String::new(),
    };
    let name: String = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .take(63)
        .collect();
    Name::new(&name).unwrap_or_else(|_| Name::resembling(&name))
}

const EXAMPLE: &str = "{ key: client_ip, rate: 10/s }";
const EXPECTED: &str = "a key such as `client_ip`";
const MAX_LIMITS: usize = 16;
const MAX_ALTERNATIVES: usize = 8;
const MAX_PARTS: usize = 8;
const MAX_NAME: usize = 128;
const AT_ONCE: RangeInclusive<u64> = 1..=1_000_000;
