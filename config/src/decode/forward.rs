//! What a route says of forwarding: `split`, `timeouts`, `retry`.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::listener::TIMEOUT;
use super::{At, Cx, Fields, keys};
use crate::model::{RouteRetry, RouteTimeouts, SplitTarget};
use crate::node::{Key, Node};
use crate::value::{Name, ValueError, is_decimal, quote};

impl Cx<'_> {
    /// Upstreams and their weights, in the order of the file. Whether the upstreams exist is for
    /// `merge` to say.
    pub(super) fn split(&mut self, node: &Node, at: &At<'_>) -> Option<Vec<SplitTarget>> {
        let pairs = self.mapping(node, at, "write `{ stable: 95, canary: 5 }`")?;
        self.doubled_keys(pairs, at);
        if !(2..=MAX_PARTS).contains(&pairs.len()) {
            let message = format!("a split has 2 to {MAX_PARTS} upstreams");
            let help = (pairs.len() == 1).then(|| "write `upstream`".to_owned());
            self.error(node.pos, at, message, help);
            return None;
        }
        let mut parts = Vec::with_capacity(pairs.len());
        for (key, weight) in pairs {
            parts.push(self.part(key, weight, at));
        }
        // With an error in it, what the weights come to is not known.
        let parts: Vec<SplitTarget> = parts.into_iter().collect::<Option<_>>()?;
        if parts.iter().all(|part| part.weight == 0) {
            let help = "give one of them a weight from 1 to 1000";
            self.error(node.pos, at, "every weight is 0", Some(help.into()));
        }
        Some(parts)
    }

    fn part(&mut self, key: &Key, weight: &Node, at: &At<'_>) -> Option<SplitTarget> {
        let at = at.key(&key.text);
        let upstream = match Name::new(&key.text) {
            Ok(name) => Some(name),
            Err(why) => {
                self.error(key.pos, &at, why.message, why.help);
                None
            }
        };
        let weight = self.value(weight, &at, |text| {
            let error = |message: String| ValueError::new("a weight from 0 to 1000", message);
            if let Some(number) = text.strip_suffix('%').filter(|number| is_decimal(number)) {
                let error = error(format!("{} is no weight", quote(text)));
                return Err(error.help(format!("weights are numbers: write `{number:.20}`")));
            }
            let number = text.parse().ok().filter(|_| is_decimal(text));
            number.filter(|number| WEIGHT.contains(number)).ok_or_else(|| {
                error(format!("{} is no weight", quote(text))).help("write a number from 0 to 1000")
            })
        });
        Some(SplitTarget { upstream: upstream?, weight: weight? })
    }

    pub(super) fn route_timeouts(&mut self, node: &Node, at: &At<'_>) -> Option<RouteTimeouts> {
        let fields = self.fields(node, at, &keys::ROUTE_TIMEOUTS)?;
        let mut timeouts = RouteTimeouts::default();
        for (name, slot) in [
            ("connect", &mut timeouts.connect),
            ("first_byte", &mut timeouts.first_byte),
            ("idle", &mut timeouts.idle),
            ("stream_idle", &mut timeouts.stream_idle),
            ("total", &mut timeouts.total),
        ] {
            *slot = self.field(&fields, name, |cx, node, at| cx.duration(node, at, TIMEOUT));
        }
        Some(timeouts)
    }

    pub(super) fn route_retry(&mut self, node: &Node, at: &At<'_>) -> Option<RouteRetry> {
        self.mapping(node, at, "write `{ when: [5xx, timeout] }`")?;
        let fields = self.fields(node, at, &keys::ROUTE_RETRY)?;
        let mut retry = RouteRetry::default();
        let when = self.field(&fields, "when", |cx, node, at| {
            cx.list(node, at, 1..=MAX_REASONS, Self::reason)
        });
        let mut statuses = BTreeSet::new();
        for reason in when.unwrap_or_default() {
            match reason {
                Reason::Statuses(range) => statuses.extend(range),
                Reason::Timeout => retry.timeout = true,
            }
        }
        retry.statuses = statuses.into_iter().collect();
        if let Some(allowed) = self.field(&fields, "non_idempotent", Self::boolean) {
            retry.non_idempotent = allowed;
        }
        Some(retry)
    }

    fn reason(&mut self, node: &Node, at: &At<'_>) -> Option<Reason> {
        self.value(node, at, |text| {
            match text {
                "timeout" => return Ok(Reason::Timeout),
                "5xx" => return Ok(Reason::Statuses(SERVER_ERRORS)),
                _ => {}
            }
            match text.parse().ok().filter(|_| is_decimal(text)) {
                Some(status) if SERVER_ERRORS.contains(&status) => {
                    Ok(Reason::Statuses(status..=status))
                }
                _ => {
                    let message = format!("{} is no reason to try again", quote(text));
                    let expected = "`5xx`, a status from 500 to 599, or `timeout`";
                    Err(ValueError::new(expected, message).help(instead_of(text)))
                }
            }
        })
    }

    /// Keys that mean nothing where nothing is forwarded.
    pub(super) fn only_when_forwarding(&mut self, fields: &Fields<'_, '_>) {
        let Some(action) = ["redirect", "respond"].into_iter().find(|key| fields.has(key)) else {
            return;
        };
        for key in ["timeouts", "retry", "pacing"].into_iter().filter(|key| fields.has(key)) {
            let message = format!("a route with `{action}` has no `{key}`: it forwards nothing");
            let at = fields.at.key(key);
            self.error(fields.pos_of(key), &at, message, Some("remove it".into()));
        }
    }
}

enum Reason {
    Statuses(RangeInclusive<u16>),
    Timeout,
}

/// What to write for the words of other programs.
fn instead_of(text: &str) -> &'static str {
    match text.to_ascii_lowercase().replace('_', "-").as_str() {
        "connect" | "connect-failure" | "connect-error" | "connection-error" | "error"
        | "refused" | "refused-stream" => {
            "what reached no endpoint is always tried again: remove it"
        }
        "gateway-error" => "write `502`, `503`, `504`",
        "server-error" | "http-5xx" => "write `5xx`",
        "reset" | "connect-timeout" | "first-byte" => "write `timeout`, or statuses",
        _ => "write `5xx`, a status from 500 to 599, or `timeout`",
    }
}

const MAX_PARTS: usize = 32;
const MAX_REASONS: usize = 32;
const WEIGHT: RangeInclusive<u16> = 0..=1000;
const SERVER_ERRORS: RangeInclusive<u16> = 500..=599;
