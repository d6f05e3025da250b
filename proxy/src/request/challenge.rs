//! HTTP-01: what a CA asks that validates a name (RFC 8555 §8.3), on any listener and protocol.
//!
//! Asked before everything else (design.md #9, #16), so no route, redirect or policy is in its way.
//! Only what is answered is taken out of the stream: every other request for a path below
//! `/.well-known/acme-challenge/` goes the way of all requests, with every policy.

use acme::challenge::{Challenges, PATH_PREFIX};

use super::client::Client;
use super::plan::{Answer, AnswerKind};
use super::view::{HeadView, split_target};

/// The answer to a token that is under way for this very host, counted there as a hit.
pub fn answer<F>(
    view: &HeadView<'_, F>,
    client: &Client,
    challenges: &Challenges,
) -> Option<Answer> {
    let rest = view.target.strip_prefix(PATH_PREFIX.as_bytes())?;
    // A 2xx to an extended CONNECT, which looks like a GET here, would open a tunnel (RFC 8441 §5).
    if !matches!(view.method, "GET" | "HEAD") || view.websocket {
        return None;
    }
    let token = std::str::from_utf8(split_target(rest).0).ok()?;
    let key_authorization = challenges.answer_to(&view.host, token, Some(client.peer))?;
    Some(Answer::new(None, AnswerKind::Challenge(key_authorization)))
}
