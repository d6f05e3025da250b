//! How an endpoint is chosen: `balance`, `sticky`, `slow_start`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::{At, Cx, keys};
use crate::model::{Balance, HashKey, StickyCookie};
use crate::node::{Kind, Node};
use crate::value::{ValueError, is_token, quote};

impl Cx<'_> {
    /// A word, or `{ hash: KEY }`.
    pub(super) fn balance(&mut self, node: &Node, at: &At<'_>) -> Option<Balance> {
        if let Kind::Map(_) = node.kind {
            let fields = self.fields(node, at, &keys::BALANCE_HASH)?;
            let key = self.required(&fields, "hash", |cx, node, at| cx.value(node, at, hash_key));
            return key.map(Balance::Hash);
        }
        let words = [
            ("round_robin", Balance::RoundRobin),
            ("least_request", Balance::LeastRequest),
            ("peak_ewma", Balance::PeakEwma),
        ];
        self.word_or(node, at, &words, instead_of)
    }

    pub(super) fn sticky(&mut self, node: &Node, at: &At<'_>) -> Option<StickyCookie> {
        self.mapping(node, at, "write `{ cookie: NAME }`")?;
        let fields = self.fields(node, at, &keys::STICKY_COOKIE)?;
        let name = self.required(&fields, "cookie", |cx, node, at| {
            cx.value(node, at, |text| token(text, "cookie").map(str::to_owned))
        });
        let max_age = self.field(&fields, "max_age", |cx, node, at| cx.duration(node, at, MAX_AGE));
        if max_age.is_some_and(|age| age.subsec_nanos() > 0) {
            let at = at.key("max_age");
            self.error(fields.pos_of("max_age"), &at, "a cookie's age is in whole seconds", None);
        }
        Some(StickyCookie { name: name?, max_age })
    }

    pub(super) fn slow_start(&mut self, node: &Node, at: &At<'_>) -> Option<Duration> {
        self.duration(node, at, SLOW_START)
    }
}

/// What to write for the words of other programs.
fn instead_of(text: &str) -> Option<&'static str> {
    Some(match text.to_ascii_lowercase().replace('-', "_").as_str() {
        "roundrobin"
        | "round_robin"
        | "rr"
        | "wrr"
        | "weighted"
        | "static_rr"
        | "weighted_round_robin" => "write `round_robin`; it goes by weight",
        "least_conn" | "leastconn" | "least_connections" | "least_requests"
        | "least_outstanding" | "random" | "p2c" | "power_of_two" => "write `least_request`",
        "ewma" | "least_time" | "latency" => "write `peak_ewma`",
        "ip_hash" | "source" | "client_ip" | "source_ip" => "write `{ hash: client_ip }`",
        "hash" | "consistent_hash" | "ring_hash" | "maglev" | "uri" | "header" | "cookie" => {
            "write `{ hash: client_ip }`, or `path`, `\"header:NAME\"`, `\"cookie:NAME\"` there"
        }
        "sticky" => "write `sticky: { cookie: NAME }`",
        _ => return None,
    })
}

fn hash_key(text: &str) -> Result<HashKey, ValueError> {
    match text.split_once(':') {
        None if text == "client_ip" => return Ok(HashKey::ClientIp),
        None if text == "path" => return Ok(HashKey::Path),
        Some(("header", name)) => {
            return token(name, "header").map(|name| HashKey::Header(name.to_ascii_lowercase()));
        }
        Some(("cookie", name)) => {
            return token(name, "cookie").map(|name| HashKey::Cookie(name.to_owned()));
        }
        _ => {}
    }
    let help = match text {
        "ip" | "source" | "address" | "client" => "write `client_ip`",
        "uri" | "url" => "write `path`",
        _ => "write `client_ip`, `path`, `\"header:NAME\"` or `\"cookie:NAME\"`",
    };
    let message = format!("{} is not known here", quote(text));
    Err(ValueError::new("what requests are told apart by", message).help(help))
}

/// Names of header fields (RFC 9110 §5.1) and cookies (RFC 6265 §4.1.1) are tokens.
fn token<'t>(text: &'t str, kind: &str) -> Result<&'t str, ValueError> {
    if is_token(text) && text.len() <= MAX_NAME {
        return Ok(text);
    }
    let message = format!("{} is no name of a {kind}", quote(text));
    let error = ValueError::new("a name", message);
    Err(error.help("use letters, digits, `-` and `_`, at most 128"))
}

const MAX_NAME: usize = 128;
const SLOW_START: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
/// Browsers keep no cookie for longer (RFC 6265bis §5.5).
const MAX_AGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(400 * 24 * 3600);
