//! What is to be done with an admitted request: data that the exchange executes.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::cause::Rejection;
use crate::exchange::paced::Pacers;
use crate::http1::framing::BodyLength;
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
    /// A gRPC call: answers of our own take its form.
    pub grpc: bool,
    /// From now to the complete answer; `None`: no limit.
    pub deadline: Option<Duration>,
    pub affinity: Affinity,
    /// The client is on TLS.
    pub secure: bool,
    /// What endpoints are told in a PROXY header, where they get one.
    pub source: Option<ProxySource>,
    /// What the client may send and be sent per time on this route; `None`: nothing is paced.
    pub pacers: Option<Rc<Pacers>>,
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
}

pub enum AnswerKind {
    Reject(Rejection),
    Redirect {
        status: u16,
        location: Vec<u8>,
    },
    /// The route's own fixed response.
    Respond,
    /// The key authorization for a CA's HTTP-01 token.
    Challenge(String),
}

impl Answer {
    pub fn reject(route: Option<Arc<Route>>, rejection: impl Into<Rejection>) -> Answer {
        Answer { route, kind: AnswerKind::Reject(rejection.into()) }
    }
}

impl Answer {
    /// Response lines that the route adds to its own answers (fixed responses and redirects).
    pub fn own_lines(&self, hsts: bool) -> Vec<u8> {
        let Some(route) = &self.route else { return Vec::new() };
        if matches!(self.kind, AnswerKind::Reject(_)) {
            return Vec::new();
        }
        let hsts = route.hsts.as_ref().filter(|_| hsts);
        [&*route.response_edits.lines, hsts.map_or(&[][..], |hsts| &*hsts.line)].concat()
    }
}

impl Answer {
    /// The same for HTTP/2.
    pub fn own_pairs(&self, hsts: bool) -> Vec<(http::HeaderName, http::HeaderValue)> {
        let Some(route) = &self.route else { return Vec::new() };
        if matches!(self.kind, AnswerKind::Reject(_)) {
            return Vec::new();
        }
        let mut pairs = route.response_edits.pairs.clone();
        if let Some(hsts) = route.hsts.as_ref().filter(|_| hsts) {
            pairs.push((http::header::STRICT_TRANSPORT_SECURITY, hsts.value.clone()));
        }
        pairs
    }
}
