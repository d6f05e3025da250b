//! From a head to something to do, as far as both protocols go the same way: whom to believe, where
//! the request comes from, its id and record, what is decided, the head for the endpoint.

use std::net::IpAddr;
use std::rc::Rc;

use crate::filter::rewrite::Rewrite;
use crate::http1::field::FieldId;
use crate::local::{Local, PinnedSnapshot};
use crate::request::cause::Rejection;
use crate::request::client::Client;
use crate::request::decide::decide;
use crate::request::headers::{RequestContext, write_request};
use crate::request::plan::{Answer, AnswerKind, Decision, Plan};
use crate::request::record::{Record, RequestId, RequestText};
use crate::request::view::{FieldSource, HeadView};
use crate::route::table::ListenerPolicy;

/// A request that has arrived on a connection.
pub struct Arrival<'a> {
    local: &'a Rc<Local>,
    client: &'a Client,
    snapshot: &'a PinnedSnapshot,
    policy: &'a ListenerPolicy,
    /// The peer's own forwarding fields are believed.
    trusted: bool,
    origin: IpAddr,
    pub record: Record,
}

/// What to do with it.
pub enum Settled {
    /// `first` is the head for the endpoint.
    Forward {
        plan: Plan,
        record: Record,
        first: Vec<u8>,
    },
    Answer(Answer, Record),
}

impl<'a> Arrival<'a> {
    /// Opens the record of a request.
    pub fn new(
        local: &'a Rc<Local>,
        client: &'a Client,
        (snapshot, policy): (&'a PinnedSnapshot, &'a ListenerPolicy),
        protocol: &'static str,
        fields: &impl FieldSource,
        text: &RequestText<'_>,
    ) -> Arrival<'a> {
        let proxies = &snapshot.trusted_proxies;
        let trusted = !proxies.is_empty() && client.trusted(proxies);
        let given = if trusted { fields.get(FieldId::XRequestId) } else { None };
        let id = RequestId::new(local, given);
        let origin = if trusted { client.origin(fields, proxies) } else { client.peer };
        let record = Record::begin(local, client, protocol, id, origin, text);
        Arrival { local, client, snapshot, policy, trusted, origin, record }
    }

    /// Decides. What is to be forwarded, and for which there is `room`, gets its head written.
    pub fn settle<F: FieldSource>(
        self,
        view: &mut HeadView<'_, F>,
        room: impl FnOnce() -> Result<(), Rejection>,
    ) -> Settled {
        let Arrival { local, client, snapshot, policy, trusted, origin, mut record } = self;
        let mut plan = match decide(view, client, origin, &local.tables(snapshot, record.began())) {
            Decision::Forward(plan) => plan,
            Decision::Answer(mut answer) => {
                record.hold(&mut answer.terms);
                return Settled::Answer(answer, record);
            }
        };
        record.routed(&plan.route, Some(&plan.target));
        record.hold(&mut plan.terms);
        if let Err(rejection) = room() {
            // It is refused whoever asks.
            plan.terms.gate = None;
            return Settled::Answer(plan.refuse(AnswerKind::Reject(rejection)), record);
        }
        if let Some(pacing) = &plan.route.pacing {
            let now_ms = local.timers.now_ms();
            plan.pacers = Some(client.pacers.pacers(&plan.route.life, pacing, now_ms));
        }
        let rewrite = plan.route.rewrite.as_ref().filter(|_| plan.terms.rewritten);
        let cx = RequestContext {
            client,
            trusted,
            origin,
            request_id: record.request_id.as_bytes(),
            public_port: policy.public_port,
            allow_underscores: policy.allow_underscores,
            edits: &plan.route.request_edits,
            drop_authorization: plan.terms.credentials_used,
            prefix: rewrite.and_then(Rewrite::stripped_prefix),
        };
        let mut first = local.buffers.take();
        write_request(&mut first, view, &cx);
        Settled::Forward { plan, record, first }
    }
}
