//! From head bytes to something to do: parse, admit, decide, write the endpoint's head. One
//! synchronous step, because it borrows the worker's scratch buffer.

use std::rc::Rc;
use std::sync::Arc;

use super::begin::{Arrival, Settled};
use crate::exchange::upload::Upload;
use crate::filter::pages::ErrorForm;
use crate::http1::field::FieldId;
use crate::http1::framing::BodyLength;
use crate::http1::head::{FieldSlots, HeadError, HeadLimits, RequestHead, parse_request};
use crate::local::{Local, PinnedSnapshot};
use crate::request::admit::{admit_h1, path_and_query};
use crate::request::cause::{Cause, OVER_BUFFERED, Rejection};
use crate::request::client::Client;
use crate::request::plan::{Answer, AnswerKind, Plan};
use crate::request::record::{Record, RequestId, RequestText};
use crate::request::view::{split_target, wants_keep_alive};
use crate::route::table::ListenerPolicy;

/// What to do with a head.
pub enum Begun {
    Forward(Box<Forward>),
    Answer(Box<OwnAnswer>),
    /// The client has left, or nothing more is expected of it.
    Closed,
}

/// An answer of our own to a request.
pub struct OwnAnswer {
    pub answer: Answer,
    pub record: Record,
    pub head_request: bool,
    pub form: ErrorForm,
    pub keep_alive: bool,
    /// The request has no body, or it was read.
    pub body_read: bool,
}

/// A request to forward, with its head for the endpoint already written.
pub struct Forward {
    pub plan: Plan,
    pub record: Record,
    pub upload: Upload,
    pub keep_alive: bool,
    /// The listener's policy as of the head; the snapshot itself is not held by long streams.
    pub policy: Arc<ListenerPolicy>,
}

impl OwnAnswer {
    /// To a request that was to be forwarded.
    pub fn to(
        plan: &Plan,
        answer: Answer,
        record: Record,
        keep_alive: bool,
        body_read: bool,
    ) -> OwnAnswer {
        let (head_request, form) = (plan.head_request, plan.form);
        OwnAnswer { answer, record, head_request, form, keep_alive, body_read }
    }
}

impl Begun {
    /// An answer to a request that never became one.
    pub fn failed(local: &Rc<Local>, client: &Client, rejection: Rejection) -> Begun {
        let id = RequestId::new(local, None);
        let text = RequestText::default();
        let record = Record::begin(local, client, "HTTP/1.1", id, client.peer, &text);
        Begun::Answer(Box::new(OwnAnswer {
            answer: Answer::reject(None, rejection),
            record,
            head_request: false,
            form: ErrorForm::Text,
            keep_alive: false,
            body_read: false,
        }))
    }
}

/// Begins a request. `None`: the head is incomplete. The number: bytes used.
pub fn begin(local: &Rc<Local>, client: &Client, bytes: &[u8]) -> Option<(Begun, usize)> {
    let snapshot = local.snapshot();
    let Some(policy) = snapshot.listeners.get(client.listener).cloned() else {
        return Some((Begun::Closed, bytes.len()));
    };
    let limits = HeadLimits {
        head_bytes: policy.limits.head_bytes,
        fields: policy.limits.head_fields,
        target_bytes: policy.limits.target_bytes,
    };
    let mut slots = FieldSlots::new();
    let head = match parse_request(bytes, limits, &mut slots) {
        Ok(head) => head?,
        Err(error) => {
            protocol_error(local, &policy, error);
            return Some((Begun::failed(local, client, error.into()), bytes.len()));
        }
    };
    Some(begin_head(local, client, &snapshot, &policy, &head, bytes))
}

fn begin_head(
    local: &Rc<Local>,
    client: &Client,
    snapshot: &Rc<PinnedSnapshot>,
    policy: &Arc<ListenerPolicy>,
    head: &RequestHead<'_, '_>,
    bytes: &[u8],
) -> (Begun, usize) {
    let protocol = if head.http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let text = RequestText {
        method: std::str::from_utf8(head.method).unwrap_or(""),
        host: head.host.unwrap_or(b""),
        path: split_target(path_and_query(head.target)).0,
        user_agent: head.fields.get(FieldId::UserAgent).unwrap_or(b""),
    };
    let arrival = Arrival::new(local, client, (snapshot, policy), protocol, &head.fields, &text);
    let mut view = match admit_h1(head) {
        Ok(view) => view,
        Err(rejection) => {
            let answer = Answer::reject(None, rejection);
            return (answered(answer, arrival.record, head, false, false), bytes.len());
        }
    };
    let room = || if local.over_buffered() { Err(OVER_BUFFERED) } else { Ok(()) };
    match arrival.settle(&mut view, room) {
        Settled::Forward { plan, record, first } => {
            let upload = Upload::new(local, first, &plan);
            forward(record, plan, upload, head, policy, bytes)
        }
        Settled::Answer(answer, record) => {
            let keep_alive = wants_keep_alive(head) && !head.http10;
            let (body, whole) = body_at_hand(head, bytes);
            (answered(answer, record, head, keep_alive, whole), head.len + body)
        }
    }
}

fn answered(
    answer: Answer,
    record: Record,
    head: &RequestHead<'_, '_>,
    keep_alive: bool,
    body_read: bool,
) -> Begun {
    Begun::Answer(Box::new(OwnAnswer {
        answer,
        record,
        head_request: head.method == b"HEAD",
        form: ErrorForm::of(&head.fields),
        keep_alive,
        body_read,
    }))
}

fn forward(
    record: Record,
    mut plan: Plan,
    mut upload: Upload,
    head: &RequestHead<'_, '_>,
    policy: &Arc<ListenerPolicy>,
    bytes: &[u8],
) -> (Begun, usize) {
    let body = bytes.get(head.len..).unwrap_or(&[]);
    let keep_alive = wants_keep_alive(head);
    match upload.take_first(body) {
        Ok(used) => {
            let policy = policy.clone();
            let forward = Forward { plan, record, upload, keep_alive, policy };
            (Begun::Forward(Box::new(forward)), head.len + used)
        }
        Err(rejection) => {
            plan.terms.gate = None;
            let answer = plan.refuse(AnswerKind::Reject(rejection));
            (answered(answer, record, head, false, false), bytes.len())
        }
    }
}

/// Bytes of a request body that came with its head and are not needed, and whether that is all of
/// it: a refused client may go on then.
fn body_at_hand(head: &RequestHead<'_, '_>, bytes: &[u8]) -> (usize, bool) {
    let here = bytes.len().saturating_sub(head.len);
    match head.body {
        BodyLength::Sized(n) => match usize::try_from(n) {
            Ok(n) if n <= here => (n, true),
            _ => (0, false),
        },
        _ => (0, false),
    }
}

fn protocol_error(local: &Local, policy: &ListenerPolicy, error: HeadError) {
    let reason = match error {
        HeadError::TooLarge => "head_too_large",
        HeadError::TargetTooLong => "target_too_long",
        HeadError::Version => "version",
        HeadError::Bad(reason) => reason,
    };
    policy.counts.protocol_error(&local.shared.metrics, "h1", reason);
}

impl From<HeadError> for Rejection {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::TooLarge => Cause::HeadTooLarge.into(),
            HeadError::TargetTooLong => Cause::TargetTooLong.into(),
            HeadError::Version => Rejection { cause: Cause::VersionUnsupported, detail: "version" },
            HeadError::Bad(reason) => Rejection::bad(reason),
        }
    }
}
