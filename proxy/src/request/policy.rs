//! The steps between route and forward, in their fixed order (design.md #16): addresses,
//! maintenance, limits by address, a browser's question, password, limits by identity, size of the
//! body, rewriting.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use config::model::AddressPrefix;

use super::cause::{Cause, Rejection};
use super::decide::Tables;
use super::limit::{charge, charge_now, charges, seconds};
use super::plan::{Answer, AnswerKind, Gate, Refusal, Terms};
use super::view::{FieldSource, HeadView, split_target};
use crate::access::passwords::{self, Waiting};
use crate::access::{Access, ByAddress, Decision, Judgement};
use crate::filter::maintenance::closed;
use crate::http1::field::FieldId;
use crate::http1::framing::BodyLength;
use crate::limit::Origin;
use crate::route::table::{Action, Route};

/// Lets a request pass on these terms, or answers it. Rewrites `view.target` where the route does.
pub fn admit<F: FieldSource>(
    route: &Arc<Route>,
    view: &mut HeadView<'_, F>,
    origin: IpAddr,
    tables: &Tables<'_>,
) -> Result<Terms, Box<Answer>> {
    let mut terms = Terms::default();
    // Nothing is asked for what is not served anyway.
    if matches!(route.action, Action::Quarantined) {
        return Ok(terms);
    }
    match steps(route, view, origin, tables, &mut terms) {
        Ok(()) => Ok(terms),
        Err(kind) => Err(Box::new(Answer { route: Some(route.clone()), kind, terms })),
    }
}

fn steps<F: FieldSource>(
    route: &Arc<Route>,
    view: &mut HeadView<'_, F>,
    origin: IpAddr,
    tables: &Tables<'_>,
    terms: &mut Terms,
) -> Result<(), AnswerKind> {
    if let Some(cors) = &route.cors {
        terms.add_edits(cors.edits(view));
    }
    let needs_password = addresses(route, view, origin, tables)?;
    if let Some(wait) = route.maintenance.as_ref().and_then(|rule| closed(rule, origin)) {
        let retry_after = Some(wait.as_secs().max(1));
        return Err(refuse(Refusal { retry_after, ..Refusal::new(Cause::Maintenance) }));
    }
    charge_now(&route.limits.by_address, view, &origin, tables, terms)?;
    // Browsers ask without credentials, and the answer reveals none.
    if let Some(preflight) = route.cors.as_ref().and_then(|cors| cors.preflight(view)) {
        terms.edits = Some(Arc::new(preflight.fields));
        return Err(AnswerKind::Preflight);
    }
    match needs_password {
        None => charge_now(&route.limits.by_identity, view, &origin, tables, terms)?,
        Some(access) => {
            // What was for the edge is nothing for the endpoint.
            terms.credentials_used = true;
            let charges = charges(&route.limits.by_identity, view, &origin);
            match password(route, access, view, origin, tables)? {
                None if tables.counts() => charge(charges, tables.now, terms)?,
                None => {}
                Some(verdict) => {
                    terms.gate = Some(Box::new(Gate { verdict, route: route.clone(), charges }));
                }
            }
        }
    }
    if let BodyLength::Sized(n) = view.body
        && n > route.body_limit
    {
        return Err(AnswerKind::Reject(Cause::BodyTooLarge.into()));
    }
    rewrite(route, view, terms)
}

/// Whether the address may come in, and whether a password is to be looked at.
fn addresses<'r, F>(
    route: &'r Route,
    view: &HeadView<'_, F>,
    origin: IpAddr,
    tables: &Tables<'_>,
) -> Result<Option<&'r Access>, AnswerKind> {
    let Some(access) = &route.access else { return Ok(None) };
    let decision = match access.by_address(origin, view.path()) {
        ByAddress::NeedsPassword => return Ok(Some(access)),
        ByAddress::Granted => Decision::Granted,
        ByAddress::Denied => Decision::Denied,
    };
    tables.count_auth(route, decision);
    match decision {
        Decision::Granted => Ok(None),
        _ => Err(AnswerKind::Reject(Cause::Denied.into())),
    }
}

/// `Some`: the verdict is still to come.
fn password<F: FieldSource>(
    route: &Route,
    access: &Access,
    view: &HeadView<'_, F>,
    origin: IpAddr,
    tables: &Tables<'_>,
) -> Result<Option<Waiting>, AnswerKind> {
    let client = tables.hasher.client(&Origin::of(&origin), &AddressPrefix::default()).narrow;
    let authorization = view.fields.only(FieldId::Authorization, "authorization");
    let authorization = authorization.map_err(AnswerKind::Reject)?;
    let asked = match access.by_password(authorization) {
        Judgement::NeedsPassword(question) => tables.passwords.ask(question, client),
        Judgement::Granted => passwords::Answer::Known(true),
        Judgement::Denied | Judgement::Unauthorized(_) => passwords::Answer::Known(false),
    };
    let (decision, answer) = match asked {
        passwords::Answer::Wait(verdict) => return Ok(Some(verdict)),
        passwords::Answer::Known(true) => (Decision::Granted, Ok(None)),
        passwords::Answer::Known(false) => (Decision::Wrong, Err(unauthorized(route))),
        passwords::Answer::Busy => (Decision::Busy, Err(busy())),
        passwords::Answer::Limited { retry_after } => {
            (Decision::Limited, Err(guessing(retry_after)))
        }
    };
    tables.count_auth(route, decision);
    answer
}

fn rewrite<F>(
    route: &Route,
    view: &mut HeadView<'_, F>,
    terms: &mut Terms,
) -> Result<(), AnswerKind> {
    let Some(rule) = &route.rewrite else { return Ok(()) };
    let (path, query) = split_target(&view.target);
    let Some(mut target) = rule.apply(path).map_err(AnswerKind::Reject)? else { return Ok(()) };
    target.extend_from_slice(query);
    terms.rewritten = true;
    view.target = Cow::Owned(target);
    Ok(())
}

/// A refusal as an answer.
pub fn refuse(refusal: Refusal) -> AnswerKind {
    AnswerKind::Refuse(Box::new(refusal))
}

/// What a client without a valid password is told.
pub fn unauthorized(route: &Route) -> AnswerKind {
    let realm = route.access.as_ref().and_then(|access| access.realm().cloned());
    refuse(Refusal { realm, ..Refusal::new(Cause::AuthRequired) })
}

/// No verdict on a password in time.
pub fn busy() -> AnswerKind {
    AnswerKind::Reject(Rejection { cause: Cause::OverCapacity, detail: "passwords" })
}

/// Too many wrong passwords.
fn guessing(retry_after: Duration) -> AnswerKind {
    let rejection = Rejection { cause: Cause::RateLimited, detail: "passwords" };
    let retry_after = Some(seconds(retry_after).max(1));
    refuse(Refusal { retry_after, ..Refusal::new(rejection) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_as_told_may_guess_again() {
        for (ms, seconds) in [(1, 1), (1000, 1), (1001, 2), (59_999, 60), (60_000, 60)] {
            let AnswerKind::Refuse(refusal) = guessing(Duration::from_millis(ms)) else {
                panic!("no refusal")
            };
            assert_eq!(refusal.retry_after, Some(seconds), "{ms} ms");
        }
    }
}
