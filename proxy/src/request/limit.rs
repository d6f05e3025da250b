//! Rate limits of a route: what a request counts on, and what the client is told of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use config::model::{Missing, RateLimit};

use super::affinity::cookie;
use super::cause::{Cause, Rejection};
use super::decide::Tables;
use super::plan::{AnswerKind, Refusal, Terms};
use super::policy::refuse;
use super::view::{FieldSource, HeadView};
use crate::limit::{Asked, Key, Left, Limit, Moment, Origin, Part, Verdict, Why};
use crate::route::edits::Edits;

/// None of a limit's keys is in the request, and the route insists on one.
const NO_KEY: Rejection = Rejection { cause: Cause::Denied, detail: "limit_key" };

/// A limit and what a request counts on there.
pub struct Charge {
    limit: Arc<Limit>,
    /// What the limit refuses it for, if it counts on nothing.
    asked: Result<Asked, Rejection>,
}

/// What the request counts on, for when it is known who it is.
pub fn charges<F: FieldSource>(
    limits: &[Arc<Limit>],
    view: &HeadView<'_, F>,
    address: &IpAddr,
) -> Vec<Charge> {
    let origin = Origin::of(address);
    let charge =
        |limit: &Arc<Limit>| Charge { limit: limit.clone(), asked: question(limit, view, origin) };
    limits.iter().filter(|limit| !limit.exempts(address)).map(charge).collect()
}

/// Counts the request on each of these limits; the first that is exceeded answers.
#[inline(always)]
pub fn charge_now<F: FieldSource>(
    limits: &[Arc<Limit>],
    view: &HeadView<'_, F>,
    address: &IpAddr,
    tables: &Tables<'_>,
    terms: &mut Terms,
) -> Result<(), AnswerKind> {
    if limits.is_empty() { Ok(()) } else { charge_each(limits, view, address, tables, terms) }
}

#[inline(never)]
fn charge_each<F: FieldSource>(
    limits: &[Arc<Limit>],
    view: &HeadView<'_, F>,
    address: &IpAddr,
    tables: &Tables<'_>,
    terms: &mut Terms,
) -> Result<(), AnswerKind> {
    let origin = Origin::of(address);
    for limit in limits {
        if limit.exempts(address) {
            continue;
        }
        let asked = question(limit, view, origin);
        if tables.counts() || asked.is_err() {
            count(limit, asked, tables.now, terms)?;
        }
    }
    Ok(())
}

#[inline(always)]
fn question<F: FieldSource>(
    limit: &Limit,
    view: &HeadView<'_, F>,
    origin: Origin,
) -> Result<Asked, Rejection> {
    // The first alternative that is there whole.
    'alternatives: for parts in &limit.alternatives {
        let mut key = limit.key();
        for part in parts {
            if !add(&mut key, part, limit, view, &origin)? {
                continue 'alternatives;
            }
        }
        return Ok(key.asked(origin));
    }
    match limit.spec.missing {
        Missing::ClientIp => Ok(limit.key().client(&limit.client(&origin)).asked(origin)),
        Missing::Refuse => Err(NO_KEY),
    }
}

/// Whether the request has this part.
#[inline(always)]
fn add<F: FieldSource>(
    key: &mut Key<'_>,
    part: &Part,
    limit: &Limit,
    view: &HeadView<'_, F>,
    origin: &Origin,
) -> Result<bool, Rejection> {
    match part {
        Part::ClientIp => key.client(&limit.client(origin)),
        Part::Header(name, id, values) => match view.fields.only(*id, name)? {
            Some(value) => key.value(values, value),
            None => return Ok(false),
        },
        Part::Cookie(name, values) => {
            let with = |value: &[u8]| *Key::clone(key).value(values, value);
            return Ok(cookie(&view.fields, name.as_bytes(), with)
                .map(|more| *key = more)
                .is_some());
        }
        Part::Host => key.host(&view.host),
        Part::Route => key.route(),
        // Every key of a limit that tenants share begins with the tenant.
        Part::Tenant => key,
    };
    Ok(true)
}

/// Counts the request on what was collected; the first limit that is exceeded answers.
pub fn charge(charges: Vec<Charge>, now: Moment, terms: &mut Terms) -> Result<(), AnswerKind> {
    charges.into_iter().try_for_each(|charge| count(&charge.limit, charge.asked, now, terms))
}

#[inline(always)]
fn count(
    limit: &Limit,
    asked: Result<Asked, Rejection>,
    now: Moment,
    terms: &mut Terms,
) -> Result<(), AnswerKind> {
    let spec = &limit.spec;
    let asked = match asked {
        Ok(asked) => asked,
        Err(_) if limit.passes_uncounted() => {
            terms.dry_run.get_or_insert_with(|| spec.name.clone());
            return Ok(());
        }
        Err(rejection) => return Err(refuse(Refusal::new(rejection))),
    };
    match limit.check(&asked, now) {
        None => Ok(()),
        Some(Verdict::Pass(pass)) => {
            if let Some(stream) = pass.stream {
                terms.streams.push(stream);
            }
            if pass.would_refuse.is_some() {
                terms.dry_run.get_or_insert_with(|| spec.name.clone());
            }
            if let Some(left) = pass.left {
                terms.add_edits(fields(spec, left).into());
            }
            Ok(())
        }
        Some(Verdict::Refuse(refused)) => {
            if let Some(left) = refused.left {
                terms.add_edits(fields(spec, left).into());
            }
            let cause = match refused.why {
                Why::Rate => Cause::RateLimited,
                Why::Streams => Cause::TooManyStreams,
            };
            Err(refuse(Refusal {
                status: spec.status,
                retry_after: Some(seconds(refused.retry_after).max(1)),
                limit: Some(spec.name.clone()),
                ..Refusal::new(cause)
            }))
        }
    }
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
