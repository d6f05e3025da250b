//! From an admitted head and the snapshot to a decision: pure, synchronous, one screen.
//!
//! The order of steps is fixed (design.md #16): frame and Host admitted (before this), find the
//! route, limits, forward.

use std::borrow::Cow;
use std::sync::Arc;

use super::cause::{Cause, Rejection};
use super::client::Client;
use super::plan::{Answer, AnswerKind, Decision, Plan};
use super::view::{FieldSource, HeadView, split_target};
use crate::http1::framing::BodyLength;
use crate::http1::head::Expect;
use crate::route::table::{Action, Redirect, Route, Snapshot};

/// Decides; normalises `view.target` where the host has path rules (design.md #15).
pub fn decide<F: FieldSource>(
    view: &mut HeadView<'_, F>,
    client: &Client,
    snapshot: &Snapshot,
) -> Decision {
    match find(view, client, snapshot) {
        Ok(found) => act(view, found),
        Err((route, rejection)) => Decision::Answer(Answer::reject(route, rejection)),
    }
}

type Refused = (Option<Arc<Route>>, Rejection);

/// What was found for a request.
enum Found<'s> {
    Route(&'s Arc<Route>),
    /// The listener sends everything to https.
    ToHttps(u16),
}

fn find<'s, F: FieldSource>(
    view: &mut HeadView<'_, F>,
    client: &Client,
    snapshot: &'s Snapshot,
) -> Result<Found<'s>, Refused> {
    let early = |cause: Cause| (None, Rejection::new(cause));
    if view.expect == Expect::Other {
        return Err(early(Cause::ExpectationFailed));
    }
    if !client.certificate_covers(&view.host) {
        return Err(early(Cause::Misdirected));
    }
    let host = snapshot.hosts.find(&view.host).ok_or(early(Cause::UnknownHost))?;
    if host.path_rules {
        normalise(view).map_err(|rejection| (None, rejection))?;
    }
    if let Some(listener) = snapshot.listeners.get(client.listener)
        && let Some(port) = listener.redirect_https_port
    {
        return Ok(Found::ToHttps(port));
    }
    let rule = host
        .find(view.path(), view.method, client.tls.is_some())
        .ok_or(early(Cause::NoRoute))?;
    if let BodyLength::Sized(n) = view.body
        && n > rule.route.body_limit
    {
        return Err((Some(rule.route.clone()), Cause::BodyTooLarge.into()));
    }
    Ok(Found::Route(&rule.route))
}

fn act<F: FieldSource>(view: &HeadView<'_, F>, found: Found<'_>) -> Decision {
    let route = match found {
        Found::Route(route) => route,
        Found::ToHttps(port) => {
            let to = Redirect { https_port: Some(port), host: None, status: 308 };
            return Decision::Answer(redirect(None, &to, view));
        }
    };
    match &route.action {
        Action::Forward(_) => Decision::Forward(plan(route.clone(), view)),
        Action::Redirect(to) => {
            Decision::Answer(redirect(Some(route.clone()), to, view))
        }
        Action::Respond(_) => {
            Decision::Answer(Answer { route: Some(route.clone()), kind: AnswerKind::Respond })
        }
        Action::Quarantined => {
            Decision::Answer(Answer::reject(Some(route.clone()), Cause::Quarantined))
        }
    }
}

fn plan<F>(route: Arc<Route>, view: &HeadView<'_, F>) -> Plan {
    Plan {
        route,
        body: view.body,
        head_request: view.method == "HEAD",
        expect_continue: view.expect == Expect::Continue && !view.http10,
        websocket: view.websocket,
        idempotent: matches!(view.method, "GET" | "HEAD" | "OPTIONS"),
        http10: view.http10,
    }
}

/// `Location` from configured names and the request's own path, never from other client text. A
/// redirect that keeps the scheme is scheme-relative (`//host/path`, RFC 3986 §4.2).
fn redirect<F>(route: Option<Arc<Route>>, to: &Redirect, view: &HeadView<'_, F>) -> Answer {
    let host = to.host.as_deref().unwrap_or(&view.host);
    let mut location = Vec::with_capacity(16 + host.len() + view.target.len());
    match to.https_port {
        Some(port) => {
            location.extend_from_slice(b"https://");
            location.extend_from_slice(host.as_bytes());
            if port != 443 {
                location.extend_from_slice(format!(":{port}").as_bytes());
            }
        }
        None => {
            location.extend_from_slice(b"//");
            location.extend_from_slice(host.as_bytes());
        }
    }
    location.extend_from_slice(if view.target.starts_with(b"/") { &view.target } else { b"/" });
    Answer { route, kind: AnswerKind::Redirect { status: to.status, location } }
}

fn normalise<F>(view: &mut HeadView<'_, F>) -> Result<(), Rejection> {
    let (path, query) = split_target(&view.target);
    if path == b"*" {
        return Ok(());
    }
    match config::value::normalise(path) {
        Ok(Cow::Borrowed(_)) => {}
        Ok(Cow::Owned(mut normal)) => {
            normal.extend_from_slice(query);
            view.target = Cow::Owned(normal);
        }
        Err(_) => return Err(Rejection::bad("ambiguous_path")),
    }
    Ok(())
}
