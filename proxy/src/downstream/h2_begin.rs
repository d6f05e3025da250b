//! From an HTTP/2 request to something to do: limits, pseudo-header fields, admit, decide. The
//! rules are those of HTTP/1.1; what crate h2 lets through is closed here.

use std::borrow::Cow;
use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{FlowControl, RecvStream};
use http::request::Parts;
use http::{HeaderMap, Method, Request, header};

use super::begin::{Arrival, Settled};
use super::h2_streams::{MODEST_STREAMS, Watch};
use crate::exchange::gate::pass;
use crate::exchange::h2_h1::{self, Job, Step, TOO_MANY_STREAMS};
use crate::exchange::h2_send::OwnAnswer;
use crate::exchange::h2_upload::Source;
use crate::exchange::upload::Upload;
use crate::filter::pages::ErrorForm;
use crate::http1::field::{FieldId, classify};
use crate::http1::framing::{BodyLength, FramingFields, request_length};
use crate::local::Local;
use crate::request::admit::admit_h2;
use crate::request::cause::{Cause, OVER_BUFFERED, Rejection};
use crate::request::client::Client;
use crate::request::plan::Answer;
use crate::request::record::{Record, RequestText};
use crate::request::respond::{Reply, to_http};
use crate::request::view::{FieldSource, split_target};
use crate::route::table::ListenerPolicy;

/// How long a stream that was answered before its body had ended stays open.
const EARLY_ANSWER_LINGER: Duration = Duration::from_millis(250);

/// Answers one request. What can be said at once is settled before the future is made: thousands
/// of them may wait for clients that take nothing.
pub fn answer(
    local: &Rc<Local>,
    client: &Rc<Client>,
    watch: Rc<Watch>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> impl Future<Output = ()> + use<> {
    let (parts, mut body) = request.into_parts();
    let upgrade = parts.extensions.get::<Protocol>().is_some();
    let hold = Hold::of(&mut body);
    let source = (hold.is_some() || upgrade).then(|| {
        let ended = hold.as_ref().map(|hold| hold.ended.clone()).unwrap_or_default();
        Source::new(local, body, ended)
    });
    let snapshot = local.snapshot();
    let policy = snapshot.listeners.get(client.listener).cloned();
    let own = Own {
        local: local.clone(),
        hsts: client.hsts_allowed(),
        head_request: parts.method == Method::HEAD,
        form: ErrorForm::of(&H2Fields::new(&parts.headers)),
    };
    let begun = policy.as_deref().map(|policy| {
        match begin(local, client, policy, &watch, &parts, source) {
            // What need not wait takes its final, small form at once.
            Begun::Answer(told) if told.0.terms.gate.is_none() => {
                Next::Told(own.answer(&told.0, told.1))
            }
            Begun::Answer(told) => Next::Wait(told),
            Begun::Forward(job) => Next::Forward(job),
        }
    });
    async move {
        let Some((policy, begun)) = policy.zip(begun) else { return };
        let answer = match begun {
            Next::Told(answer) => answer,
            Next::Wait(told) => Box::pin(own.wait(*told, &watch)).await,
            Next::Forward(job) => {
                match Box::pin(forward(job, &mut respond, &watch, &policy, own)).await {
                    Ok(Step::Relay(relay)) => {
                        relay.run(respond).await;
                        return Hold::linger(hold, &watch).await;
                    }
                    Ok(Step::Tunnel(tunnel)) => {
                        return Box::pin(tunnel.run(respond, &watch)).await;
                    }
                    Err(answer) => answer,
                }
            }
        };
        answer.send(respond, &watch, policy.timeouts.write_progress).await;
        Hold::linger(hold, &watch).await;
    }
}

/// What a stream does first.
enum Next {
    Forward(Box<Job>),
    /// An answer behind a gate.
    Wait(Box<(Answer, Record)>),
    Told(Box<OwnAnswer>),
}

/// Keeps a stream from being reset in the same breath as it is answered: a client that still sends
/// its body (curl 7.88, for one) takes the reset for a failure and never shows the answer.
struct Hold {
    /// Any handle keeps the stream; what still arrives is dropped by h2.
    _stream: FlowControl,
    /// The body was received whole: there is nothing to reset.
    ended: Rc<Cell<bool>>,
}

impl Hold {
    fn of(body: &mut RecvStream) -> Option<Hold> {
        if body.is_end_stream() {
            return None;
        }
        Some(Hold { _stream: body.flow_control().clone(), ended: Rc::default() })
    }

    /// Ends with the stream's deadline, which drops its future.
    async fn linger(hold: Option<Hold>, watch: &Watch) {
        let Some(_held) = hold.filter(|hold| !hold.ended.get()) else { return };
        watch.timer.follow(None);
        watch.timer.set(EARLY_ANSWER_LINGER);
        std::future::pending::<()>().await;
    }
}

async fn forward(
    job: Box<Job>,
    respond: &mut SendResponse<Bytes>,
    watch: &Rc<Watch>,
    policy: &ListenerPolicy,
    own: Own,
) -> Result<Step, Box<OwnAnswer>> {
    let mut job = job;
    let route = job.plan.route.clone();
    if let Err(kind) = pass(&mut job.plan.terms, &mut job.record, &watch.timer).await {
        return Err(own.answer(&job.plan.refuse(kind), job.record));
    }
    // The plan goes on with the answer; of it a refusal needs these.
    let edits = job.plan.terms.edits.clone();
    h2_h1::run(job, respond, watch, policy).await.map_err(|failed| {
        let (rejection, record) = *failed;
        let mut answer = Answer::reject(Some(route), rejection);
        answer.terms.edits = edits;
        own.answer(&answer, record)
    })
}

/// What to do with a request.
enum Begun {
    Forward(Box<Job>),
    Answer(Box<(Answer, Record)>),
}

impl Begun {
    fn refuse(rejection: Rejection, record: Record) -> Begun {
        Begun::Answer(Box::new((Answer::reject(None, rejection), record)))
    }
}

fn begin(
    local: &Rc<Local>,
    client: &Rc<Client>,
    policy: &ListenerPolicy,
    watch: &Watch,
    parts: &Parts,
    source: Option<Source>,
) -> Begun {
    let snapshot = local.snapshot();
    let fields = H2Fields::new(&parts.headers);
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let authority = authority(parts);
    let text = RequestText {
        method: parts.method.as_str(),
        host: authority.unwrap_or(b""),
        path: split_target(target.as_bytes()).0,
        user_agent: fields.get(FieldId::UserAgent).unwrap_or(b""),
    };
    let arrival = Arrival::new(local, client, (&snapshot, policy), "HTTP/2", &fields, &text);
    let head = match examine(policy, parts, source.is_none(), authority) {
        Ok(head) => head,
        Err(rejection) => return Begun::refuse(rejection, arrival.record),
    };
    let view =
        admit_h2(head.method, head.authority, target.as_bytes(), head.body, head.websocket, fields);
    let mut view = match view {
        Ok(view) => view,
        Err(rejection) => return Begun::refuse(rejection, arrival.record),
    };
    let (plan, record, mut first) = match arrival.settle(&mut view, || has_room(local, watch)) {
        Settled::Forward { plan, record, first } => (plan, record, first),
        Settled::Answer(answer, record) => return Begun::Answer(Box::new((answer, record))),
    };
    if head.websocket && !parts.headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        add_websocket_key(local, &mut first);
    }
    let upload = Upload::new(local, first, &plan);
    let bodyless = plan.body == BodyLength::Sized(0) && !plan.websocket;
    let source = source.filter(|_| !bodyless);
    let hsts = client.hsts_allowed();
    Begun::Forward(Box::new(Job { local: local.clone(), plan, record, upload, source, hsts }))
}

/// Refuses what would be too much: at the process-wide cap of buffered bytes, and a little before
/// for clients that have more streams under way than a modest one would. They make room for others.
fn has_room(local: &Local, watch: &Watch) -> Result<(), Rejection> {
    if local.over_buffered() {
        return Err(OVER_BUFFERED);
    }
    let nearly = |used: &AtomicUsize, limit: usize| used.load(Ordering::Relaxed) >= limit / 4 * 3;
    let (gauges, snapshot) = (&local.shared.gauges, local.snapshot());
    let limits = &snapshot.limits;
    let scarce = nearly(&gauges.buffered, limits.buffered_bytes)
        || nearly(&gauges.upstream_connections, limits.upstream_connections);
    if scarce && watch.open_streams() > MODEST_STREAMS {
        return Err(TOO_MANY_STREAMS);
    }
    Ok(())
}

/// The parts of a head that HTTP/2 carries elsewhere than HTTP/1.1.
struct Head<'a> {
    method: &'a str,
    authority: &'a [u8],
    body: BodyLength,
    websocket: bool,
}

fn authority(parts: &Parts) -> Option<&[u8]> {
    let pseudo = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    pseudo.or_else(|| parts.headers.get(header::HOST).map(header::HeaderValue::as_bytes))
}

fn examine<'a>(
    policy: &ListenerPolicy,
    parts: &'a Parts,
    bodyless: bool,
    authority: Option<&'a [u8]>,
) -> Result<Head<'a>, Rejection> {
    check_limits(policy, parts)?;
    let authority = authority.ok_or(Rejection::bad("missing_host"))?;
    check_host(&parts.headers, authority)?;
    let protocol = parts.extensions.get::<Protocol>();
    let websocket = protocol.is_some_and(|p| p.as_str().eq_ignore_ascii_case("websocket"));
    if parts.method == Method::CONNECT && !websocket {
        return Err(Cause::MethodRefused.into());
    }
    // An extended CONNECT is a GET for everybody behind us (RFC 8441 §5.1); its stream is the
    // tunnel, not a body.
    let (method, body) = match protocol {
        Some(_) => ("GET", BodyLength::Sized(0)),
        None => (parts.method.as_str(), body_length(&parts.headers, bodyless)?),
    };
    Ok(Head { method, authority, body, websocket })
}

/// Bytes as RFC 9113 §10.5.1 counts them, every cookie crumb for itself (P47774 class); all crumbs
/// are one field.
fn check_limits(policy: &ListenerPolicy, parts: &Parts) -> Result<(), Rejection> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > policy.limits.target_bytes {
        return Err(Cause::TargetTooLong.into());
    }
    let bytes = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
        name.as_str().len() + value.len() + 32
    };
    let list: usize = parts.headers.iter().map(bytes).sum();
    let many = parts.headers.len() > policy.limits.head_fields
        && parts.headers.len() - further_crumbs(&parts.headers) > policy.limits.head_fields;
    if many || list + target > policy.limits.head_bytes {
        return Err(Cause::HeadTooLarge.into());
    }
    Ok(())
}

/// Cookie fields beyond the first: a client may send each pair in one of its own (RFC 9113 §8.2.3).
fn further_crumbs(headers: &HeaderMap) -> usize {
    headers.get_all(header::COOKIE).iter().count().saturating_sub(1)
}

/// At most one Host field, and the same as `:authority` (RFC 9113 §8.3.1).
fn check_host(headers: &HeaderMap, authority: &[u8]) -> Result<(), Rejection> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(Rejection::bad("duplicate_host")),
        (Some(host), None) if !host.as_bytes().eq_ignore_ascii_case(authority) => {
            Err(Rejection::bad("host_differs"))
        }
        _ => Ok(()),
    }
}

fn body_length(headers: &HeaderMap, bodyless: bool) -> Result<BodyLength, Rejection> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Rejection::bad("transfer_encoding"));
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = lengths.next().map(header::HeaderValue::as_bytes);
    let fields = FramingFields {
        content_length: first,
        content_lengths: usize::from(first.is_some()) + lengths.count(),
        ..FramingFields::default()
    };
    let announced = request_length(&fields, false).map_err(|e| Rejection::bad(e.reason()))?;
    Ok(match (bodyless, first) {
        (true, _) => BodyLength::Sized(0),
        (false, Some(_)) => announced,
        (false, None) => BodyLength::Chunked,
    })
}

/// HTTP/1.1 needs a handshake key, which RFC 8441 has done away with.
fn add_websocket_key(local: &Local, first: &mut Vec<u8>) {
    use base64::Engine;
    let id = local.ids.next();
    let key = base64::engine::general_purpose::STANDARD.encode(&id[..16]);
    first.truncate(first.len().saturating_sub(2));
    crate::http1::write::field(first, b"Sec-WebSocket-Key", key.as_bytes());
    first.extend_from_slice(b"\r\n");
}

/// What an answer of our own depends on besides its cause.
struct Own {
    local: Rc<Local>,
    hsts: bool,
    head_request: bool,
    form: ErrorForm,
}

impl Own {
    /// An answer that waits for its gate first.
    async fn wait(
        &self,
        (mut answer, mut record): (Answer, Record),
        watch: &Watch,
    ) -> Box<OwnAnswer> {
        if let Err(kind) = pass(&mut answer.terms, &mut record, &watch.timer).await {
            answer.kind = kind;
        }
        self.answer(&answer, record)
    }

    fn answer(&self, answer: &Answer, mut record: Record) -> Box<OwnAnswer> {
        record.answered(answer);
        let reply = Reply::of(answer, record.request_id.as_bytes(), self.form);
        record.status = reply.status;
        if let Some(rejection) = reply.cause {
            record.reject(rejection);
        }
        let mut response = to_http(&reply, &self.local.wall.http_date());
        for (name, value) in answer.own_pairs(self.hsts) {
            response.headers_mut().append(name, value);
        }
        let bodyless = self.head_request || reply.status == 204 || reply.status == 304;
        let body = if bodyless { Bytes::new() } else { reply.body.clone() };
        record.bytes_out += body.len() as u64;
        record.close();
        Box::new(OwnAnswer { response, body })
    }
}

/// Fields of an HTTP/2 head, with cookie crumbs joined (RFC 9113 §8.2.3).
struct H2Fields<'a> {
    map: &'a HeaderMap,
    cookie: Cow<'a, [u8]>,
}

impl<'a> H2Fields<'a> {
    fn new(map: &'a HeaderMap) -> H2Fields<'a> {
        let mut crumbs = map.get_all(header::COOKIE).iter().map(header::HeaderValue::as_bytes);
        let first = crumbs.next().unwrap_or(b"");
        let mut cookie = Cow::Borrowed(first);
        for crumb in crumbs {
            let joined = cookie.to_mut();
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(crumb);
        }
        H2Fields { map, cookie }
    }
}

impl FieldSource for H2Fields<'_> {
    fn each(&self, mut each: impl FnMut(FieldId, &[u8], &[u8])) {
        let mut cookie_done = false;
        for (name, value) in self.map {
            let name = name.as_str().as_bytes();
            match classify(name) {
                FieldId::Cookie if std::mem::replace(&mut cookie_done, true) => {}
                FieldId::Cookie => each(FieldId::Cookie, name, &self.cookie),
                id => each(id, name, value.as_bytes()),
            }
        }
    }

    fn get(&self, id: FieldId) -> Option<&[u8]> {
        let name = match id {
            FieldId::XRequestId => "x-request-id",
            FieldId::XForwardedFor => "x-forwarded-for",
            FieldId::UserAgent => "user-agent",
            FieldId::ContentLength => "content-length",
            FieldId::Expect => "expect",
            FieldId::ContentType => "content-type",
            // h2 has refused connection-specific fields.
            _ => return None,
        };
        self.find(name)
    }

    fn find(&self, name: &str) -> Option<&[u8]> {
        self.map.get(name).map(header::HeaderValue::as_bytes)
    }

    fn nominated(&self, _: &[u8]) -> bool {
        false
    }
}
