//! Rate limits of a route: what a request counts on, and what the client is told of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use config::model::{KeyPart, Missing, RateLimit};

use super::affinity::cookie;
use super::cause::{Cause, Rejection};
use super::plan::{AnswerKind, Refusal, Terms};
use super::policy::refuse;
use super::view::{FieldSource, HeadView};
use crate::limit::{Asked, Client, Key, Left, Limit, Verdict, Why};
use crate::route::table::{Edits, Route};

/// None of a limit's keys is in the request, and the route insists on one.
const NO_KEY: Rejection = Rejection { cause: Cause::Denied, detail: "limit_key" };
/// One of a limit's keys is there twice.
const TWO_KEYS: Rejection = Rejection::bad("limit_key");

/// When a limit is asked: what depends on claims of the client comes after its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Address,
    Identity,
}

/// A limit and what a request counts on there.
pub struct Charge {
    limit: Arc<Limit>,
    /// What the limit refuses it for, if it counts on nothing.
    asked: Result<Asked, Rejection>,
}

/// What the request counts on in this phase.
pub fn charges<F: FieldSource>(
    route: &Route,
    view: &HeadView<'_, F>,
    origin: IpAddr,
    phase: Phase,
) -> Vec<Charge> {
    let mut charges = Vec::new();
    for limit in &route.limits {
        let spec = &limit.spec;
        if spec.key.is_identity() != (phase == Phase::Identity) || limit.exempts(origin) {
            continue;
        }
        let client = limit.client(origin);
        let asked = match (asked(limit, view, client), spec.missing) {
            (Ok(Some(asked)), _) => Ok(asked),
            (Ok(None), Missing::ClientIp) => Ok(limit.key().client(&client).asked(client)),
            (Ok(None), Missing::Refuse) => Err(NO_KEY),
            (Err(TwoKeys), _) => Err(TWO_KEYS),
        };
        charges.push(Charge { limit: limit.clone(), asked });
    }
    charges
}

/// A field is there twice that can count once.
struct TwoKeys;

/// The first alternative that is there whole.
fn asked<F: FieldSource>(
    limit: &Limit,
    view: &HeadView<'_, F>,
    client: Client,
) -> Result<Option<Asked>, TwoKeys> {
    for parts in &limit.spec.key.0 {
        if let Some(key) = combined(limit, view, &client, parts)? {
            return Ok(Some(key.asked(client)));
        }
    }
    Ok(None)
}

/// `None`: a part is missing.
fn combined<'l, F: FieldSource>(
    limit: &'l Limit,
    view: &HeadView<'_, F>,
    client: &Client,
    parts: &[KeyPart],
) -> Result<Option<Key<'l>>, TwoKeys> {
    let mut key = limit.key();
    for part in parts {
        let more = match part {
            KeyPart::ClientIp => Some(key.client(client)),
            KeyPart::Header(name) => header(&view.fields, key, name)?,
            KeyPart::Cookie(name) => {
                cookie(&view.fields, name.as_bytes(), |value| key.cookie(name, value))
            }
            KeyPart::Host => Some(key.host(&view.host)),
            KeyPart::Route => Some(key.route()),
        };
        let Some(more) = more else { return Ok(None) };
        key = more;
    }
    Ok(Some(key))
}

/// The endpoint may believe either of two: one would be made up for each request, and the other
/// never count.
fn header<'l>(
    fields: &impl FieldSource,
    key: Key<'l>,
    name: &str,
) -> Result<Option<Key<'l>>, TwoKeys> {
    let (mut found, mut twice) = (None, false);
    fields.each(|_, field, value| {
        if field.eq_ignore_ascii_case(name.as_bytes()) {
            twice |= found.replace(key.header(name, value)).is_some();
        }
    });
    if twice { Err(TwoKeys) } else { Ok(found) }
}

/// Counts the request on each limit; the first that is exceeded answers.
pub fn charge(charges: Vec<Charge>, terms: &mut Terms) -> Result<(), AnswerKind> {
    for Charge { limit, asked } in charges {
        let spec = &limit.spec;
        let asked = match asked {
            Ok(asked) => asked,
            Err(_) if limit.passes_uncounted() => {
                terms.dry_run.get_or_insert_with(|| spec.name.clone());
                continue;
            }
            Err(rejection) => return Err(refuse(Refusal::new(rejection))),
        };
        match limit.check(&asked) {
            Verdict::Pass(pass) => {
                terms.streams.extend(pass.stream);
                if pass.would_refuse.is_some() {
                    terms.dry_run.get_or_insert_with(|| spec.name.clone());
                }
                if let Some(left) = pass.left.filter(|_| spec.announce) {
                    terms.add_edits(fields(spec, left));
                }
            }
            Verdict::Refuse(refused) => {
                if let Some(left) = refused.left {
                    terms.add_edits(fields(spec, left));
                }
                let cause = match refused.why {
                    Why::Rate => Cause::RateLimited,
                    Why::Streams => Cause::TooManyStreams,
                };
                return Err(refuse(Refusal {
                    status: spec.status,
                    retry_after: Some(seconds(refused.retry_after).max(1)),
                    limit: Some(spec.name.clone()),
                    ..Refusal::new(cause)
                }));
            }
        }
    }
    Ok(())
}

/// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10): the burst is the
/// quota, the time that it takes to be whole again the window.
fn fields(spec: &RateLimit, left: Left) -> Edits {
    let mut edits = Edits::default();
    let Some(rate) = spec.rate else { return edits };
    let name = spec.name.as_str();
    let burst = spec.burst.get();
    let window = seconds(rate.per.saturating_mul(burst) / rate.count.get()).max(1);
    let (remaining, reset) = (left.remaining, seconds(left.reset));
    edits.add("ratelimit-policy", &format!("\"{name}\";q={burst};w={window}"));
    edits.add("ratelimit", &format!("\"{name}\";r={remaining};t={reset}"));
    if spec.legacy_fields {
        edits.add("x-ratelimit-limit", &burst.to_string());
        edits.add("x-ratelimit-remaining", &remaining.to_string());
        edits.add("x-ratelimit-reset", &reset.to_string());
    }
    edits
}

/// Rounded up: a client that comes back then is not refused again.
pub fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
