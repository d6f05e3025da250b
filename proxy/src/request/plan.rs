//! What is to be done with an admitted request: data that the exchange executes.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::value::Name;

use super::cause::Rejection;
use super::limit::Charge;
use crate::access::passwords::Waiting;
use crate::exchange::paced::Pacers;
use crate::filter::pages::ErrorForm;
use crate::http1::framing::BodyLength;
use crate::limit::StreamGuard;
use crate::route::edits::Edits;
use crate::route::table::{Route, RouteTarget};
use crate::upstream::balance::sticky::StickyId;
use crate::upstream::proxy_protocol::ProxySource;

/// The outcome of `decide`.
pub enum Decision {
    Forward(Plan),
    Answer(Answer),
}

/// A request to forward.
pub struct Plan {
    pub route: Arc<Route>,
    /// The upstream that it goes to.
    pub target: Arc<RouteTarget>,
    pub body: BodyLength,
    pub head_request: bool,
    /// The client waits for `100 Continue` before it sends its body.
    pub expect_continue: bool,
    /// A WebSocket handshake: 101 turns the connection into a tunnel.
    pub websocket: bool,
    /// Sending it twice does no harm (RFC 9110 §9.2.2).
    pub idempotent: bool,
    pub http10: bool,
    /// The form of answers of our own.
    pub form: ErrorForm,
    /// From now to the complete answer; `None`: no limit.
    pub deadline: Option<Duration>,
    pub affinity: Affinity,
    /// The client is on TLS.
    pub secure: bool,
    /// What endpoints are told in a PROXY header, where they get one.
    pub source: Option<ProxySource>,
    pub terms: Terms,
    /// What the client may send and be sent per time on this route; `None`: nothing is paced.
    pub pacers: Option<Rc<Pacers>>,
}

impl Plan {
    /// An answer in the place of what was planned, with what is due to every response.
    pub fn refuse(&mut self, kind: AnswerKind) -> Answer {
        Answer { route: Some(self.route.clone()), kind, terms: std::mem::take(&mut self.terms) }
    }
}

/// What a request was granted on its way, and what it still has to wait for.
#[derive(Default)]
pub struct Terms {
    /// To be passed before anything is forwarded or answered.
    pub gate: Option<Box<Gate>>,
    /// Response fields of this one request.
    pub edits: Option<Arc<Edits>>,
    /// Its places under limits of requests at once; the record holds them to the end.
    pub streams: Vec<StreamGuard>,
    /// The password was checked here and is nothing for the endpoint.
    pub credentials_used: bool,
    /// The path is another one than the client's.
    pub rewritten: bool,
    /// A limit that only counts would have refused it.
    pub dry_run: Option<Name>,
}

impl Terms {
    pub fn add_edits(&mut self, more: Arc<Edits>) {
        match &mut self.edits {
            Some(edits) => Arc::make_mut(edits).append(&more),
            none => *none = Some(more),
        }
    }
}

/// Closed until a password is known to be right.
pub struct Gate {
    pub verdict: Waiting,
    pub route: Arc<Route>,
    /// Limits by identity, with what this request counts on.
    pub charges: Vec<Charge>,
}

/// What binds a request to one endpoint among many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// Hash of what `balance: { hash: .. }` names.
    pub key: Option<u64>,
    /// The endpoint's id in the client's cookie.
    pub sticky: Option<StickyId>,
}

/// An answer that the edge gives by itself.
pub struct Answer {
    pub route: Option<Arc<Route>>,
    pub kind: AnswerKind,
    pub terms: Terms,
}

pub enum AnswerKind {
    Reject(Rejection),
    /// A rejection with more to say than its cause.
    Refuse(Box<Refusal>),
    Redirect {
        status: u16,
        location: Vec<u8>,
    },
    /// The route's own fixed response.
    Respond,
    /// To a browser's question before a cross-origin request; the fields are in the terms.
    Preflight,
    /// The key authorization for a CA's HTTP-01 token.
    Challenge(String),
}

/// What a step between route and forward says no with.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub rejection: Rejection,
    /// The cause's own, or the one that the limit is configured with.
    pub status: u16,
    /// Seconds.
    pub retry_after: Option<u64>,
    /// The limit that refused.
    pub limit: Option<Name>,
    /// `realm` of `WWW-Authenticate` (RFC 7617 §2).
    pub realm: Option<Arc<str>>,
}

impl Refusal {
    pub fn new(rejection: impl Into<Rejection>) -> Refusal {
        let rejection = rejection.into();
        let status = rejection.status();
        Refusal { rejection, status, retry_after: None, limit: None, realm: None }
    }
}

impl Answer {
    pub fn new(route: Option<Arc<Route>>, kind: AnswerKind) -> Answer {
        Answer { route, kind, terms: Terms::default() }
    }

    pub fn reject(route: Option<Arc<Route>>, rejection: impl Into<Rejection>) -> Answer {
        Answer::new(route, AnswerKind::Reject(rejection.into()))
    }

    fn is_refusal(&self) -> bool {
        matches!(self.kind, AnswerKind::Reject(_) | AnswerKind::Refuse(_))
    }

    /// Response lines besides those of its kind: what the route adds to its own answers (fixed
    /// responses and redirects), and what is due to this request.
    pub fn own_lines(&self, hsts: bool) -> Vec<u8> {
        let mut lines = Vec::new();
        if let Some(route) = self.route.as_ref().filter(|_| !self.is_refusal()) {
            let Edits { lines: own, absent, .. } = &route.response_edits;
            lines.extend_from_slice(own);
            absent.iter().for_each(|absent| lines.extend_from_slice(&absent.line));
            if let Some(hsts) = route.hsts.as_ref().filter(|_| hsts) {
                lines.extend_from_slice(&hsts.line);
            }
        }
        if let Some(edits) = &self.terms.edits {
            lines.extend_from_slice(&edits.lines);
        }
        lines
    }

    /// The same for HTTP/2.
    pub fn own_pairs(&self, hsts: bool) -> Vec<(http::HeaderName, http::HeaderValue)> {
        let mut pairs = Vec::new();
        if let Some(route) = self.route.as_ref().filter(|_| !self.is_refusal()) {
            let Edits { pairs: own, absent, .. } = &route.response_edits;
            pairs.extend_from_slice(own);
            pairs.extend(absent.iter().map(|absent| absent.pair.clone()));
            if let Some(hsts) = route.hsts.as_ref().filter(|_| hsts) {
                pairs.push((http::header::STRICT_TRANSPORT_SECURITY, hsts.value.clone()));
            }
        }
        if let Some(edits) = &self.terms.edits {
            pairs.extend_from_slice(&edits.pairs);
        }
        pairs
    }
}
