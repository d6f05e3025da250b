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
use crate::limit::{Asked, Client, Key, Left, Limit, Moment, Part, Verdict, Why};
use crate::route::edits::Edits;
use crate::route::table::Route;

/// None of a limit's keys is in the request, and the route insists on one.
const NO_KEY: Rejection = Rejection { cause: Cause::Denied, detail: "limit_key" };

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

/// What the request counts on in this phase, for when it is known who it is.
pub fn charges<F: FieldSource>(
    route: &Route,
    view: &HeadView<'_, F>,
    origin: IpAddr,
    phase: Phase,
) -> Vec<Charge> {
    let charge =
        |limit: &Arc<Limit>| Charge { limit: limit.clone(), asked: question(limit, view, origin) };
    of_phase(route, origin, phase).map(charge).collect()
}

/// Counts the request on each limit of this phase; the first that is exceeded answers.
pub fn charge_now<F: FieldSource>(
    route: &Route,
    view: &HeadView<'_, F>,
    origin: IpAddr,
    phase: Phase,
    tables: &Tables<'_>,
    terms: &mut Terms,
) -> Result<(), AnswerKind> {
    of_phase(route, origin, phase).try_for_each(|limit| {
        let asked = question(limit, view, origin);
        if tables.counts() || asked.is_err() {
            count(limit, asked, tables.now, terms)
        } else {
            Ok(())
        }
    })
}

fn of_phase(route: &Route, origin: IpAddr, phase: Phase) -> impl Iterator<Item = &Arc<Limit>> {
    let asked = move |limit: &&Arc<Limit>| {
        limit.identity == (phase == Phase::Identity) && !limit.exempts(origin)
    };
    route.limits.iter().filter(asked)
}

#[inline(always)]
fn question<F: FieldSource>(
    limit: &Limit,
    view: &HeadView<'_, F>,
    origin: IpAddr,
) -> Result<Asked, Rejection> {
    let client = limit.client(origin);
    match (asked(limit, view, client)?, limit.spec.missing) {
        (Some(asked), _) => Ok(asked),
        (None, Missing::ClientIp) => Ok(limit.key().client(&client).asked(client)),
        (None, Missing::Refuse) => Err(NO_KEY),
    }
}

/// The first alternative that is there whole.
#[inline(always)]
fn asked<F: FieldSource>(
    limit: &Limit,
    view: &HeadView<'_, F>,
    client: Client,
) -> Result<Option<Asked>, Rejection> {
    'alternatives: for parts in &limit.alternatives {
        let mut key = limit.key();
        for part in parts {
            match with_part(key, part, view, &client)? {
                Some(more) => key = more,
                None => continue 'alternatives,
            }
        }
        return Ok(Some(key.asked(client)));
    }
    Ok(None)
}

#[inline(always)]
fn with_part<'k, F: FieldSource>(
    key: Key<'k>,
    part: &Part,
    view: &HeadView<'_, F>,
    client: &Client,
) -> Result<Option<Key<'k>>, Rejection> {
    Ok(match part {
        Part::ClientIp => Some(key.client(client)),
        Part::Header(name, id, values) => {
            view.fields.only(*id, name)?.map(|value| key.value(values, value))
        }
        Part::Cookie(name, values) => {
            cookie(&view.fields, name.as_bytes(), |value| key.value(values, value))
        }
        Part::Host => Some(key.host(&view.host)),
        Part::Route => Some(key.route()),
        // Every key of a limit that tenants share begins with the tenant.
        Part::Tenant => Some(key),
    })
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
        Verdict::Pass(pass) => {
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
        Verdict::Refuse(refused) => {
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
