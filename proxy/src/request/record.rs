//! The books of one request: opened with its head, closed exactly once at its end, on error, or on
//! drop, so that a cancelled request is counted too. Closing writes the access-log line and the
//! metrics.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use config::model::AccessLog;
use config::value::Name;

use super::cause::{Cause, Rejection};
use super::client::Client;
use super::log_text::{MAX_TEXT, escape, json_ms, json_number, json_text, milliseconds};
use super::plan::{Answer, AnswerKind, Terms};
use crate::access;
use crate::clock;
use crate::limit::{Moment, StreamGuard};
use crate::local::Local;
use crate::meters::{self, Counted, OpenTunnel, Outcome, RouteMeters};
use crate::route::table::{Action, Route, RouteTarget, Targets};

/// A worker hands its lines over when it has this many bytes, or at its tick.
const BATCH_BYTES: usize = 32 * 1024;

/// Lines of one worker that wait to be handed to the log thread.
#[derive(Default)]
pub struct LogBuffer {
    lines: RefCell<(Vec<u8>, u64)>,
}

impl LogBuffer {
    fn append(&self, local: &Local, write: impl FnOnce(&mut Vec<u8>)) {
        let (lines, count) = &mut *self.lines.borrow_mut();
        write(lines);
        *count += 1;
        if lines.len() >= BATCH_BYTES {
            submit(local, lines, count);
        }
    }

    pub fn flush(&self, local: &Local) {
        let (lines, count) = &mut *self.lines.borrow_mut();
        if !lines.is_empty() {
            submit(local, lines, count);
        }
    }
}

fn submit(local: &Local, lines: &mut Vec<u8>, count: &mut u64) {
    let batch = std::mem::replace(lines, Vec::with_capacity(BATCH_BYTES + MAX_TEXT));
    local.shared.access_log.submit(batch, std::mem::take(count));
}

/// An id kept from a trusted proxy or drawn by us; at most 64 bytes.
#[derive(Clone, Copy)]
pub struct RequestId {
    bytes: [u8; 64],
    len: u8,
}

impl RequestId {
    pub fn new(local: &Local, given: Option<&[u8]>) -> RequestId {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let mut id = RequestId { bytes: [0; 64], len: 32 };
        match given.filter(|text| (1..=64).contains(&text.len()) && text.iter().all(plain)) {
            Some(text) => {
                id.bytes[..text.len()].copy_from_slice(text);
                id.len = text.len() as u8;
            }
            None => id.bytes[..32].copy_from_slice(&local.ids.next()),
        }
        id
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What a request said, as far as it could be read.
#[derive(Default)]
pub struct RequestText<'a> {
    pub method: &'a str,
    pub host: &'a [u8],
    /// Without the query.
    pub path: &'a [u8],
    pub user_agent: &'a [u8],
}

/// What a limit did to a request.
#[derive(Clone, Copy)]
enum LimitEffect {
    Refused,
    DryRun,
}

impl LimitEffect {
    /// The field of the access log that names the limit.
    fn field(self) -> &'static str {
        match self {
            LimitEffect::Refused => "limit",
            LimitEffect::DryRun => "limit_dry_run",
        }
    }
}

pub struct Record {
    local: Rc<Local>,
    listener: usize,
    protocol: &'static str,
    tls: Option<&'static str>,
    started_us: u64,
    first_byte_us: Option<u64>,
    /// Escaped client, host, path and user agent, one after the other.
    text: Vec<u8>,
    ends: [u16; 4],
    method: u8,
    pub request_id: RequestId,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub status: u16,
    rejection: Option<Rejection>,
    /// The limit that refused it, or would have.
    limit: Option<(Name, LimitEffect)>,
    /// Places under limits of requests at once.
    streams: Vec<StreamGuard>,
    route: Option<Arc<Route>>,
    /// Where its requests go, once that is known.
    target: Option<Arc<RouteTarget>>,
    /// A validating CA was answered.
    challenge: bool,
    endpoint: Option<Arc<str>>,
    meters: Option<Rc<RouteMeters>>,
    open: bool,
}

impl Record {
    pub fn begin(
        local: &Rc<Local>,
        client: &Client,
        protocol: &'static str,
        request_id: RequestId,
        origin: std::net::IpAddr,
        said: &RequestText<'_>,
    ) -> Record {
        let mut record = Record {
            local: local.clone(),
            listener: client.listener,
            protocol,
            tls: client.tls.as_ref().map(|tls| tls.version),
            started_us: clock::process_us(),
            first_byte_us: None,
            text: local.buffers.take_text(),
            ends: [0; 4],
            method: meters::method_index(said.method),
            request_id,
            bytes_in: 0,
            bytes_out: 0,
            status: 0,
            rejection: None,
            limit: None,
            streams: Vec::new(),
            route: None,
            target: None,
            challenge: false,
            endpoint: None,
            meters: None,
            open: true,
        };
        record.note(0, |out| {
            if origin == client.peer {
                out.extend_from_slice(client.peer_text.as_bytes());
            } else {
                out.extend_from_slice(origin.to_string().as_bytes());
            }
        });
        record.note(1, |out| escape(out, said.host));
        record.note(2, |out| escape(out, said.path));
        record.note(3, |out| escape(out, said.user_agent));
        record
    }

    fn note(&mut self, slot: usize, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.text);
        self.ends[slot] = u16::try_from(self.text.len()).unwrap_or(u16::MAX);
    }

    /// The route was found: the request counts as in flight on it.
    pub fn routed(&mut self, route: &Arc<Route>, target: Option<&Arc<RouteTarget>>) {
        self.route = Some(route.clone());
        self.target = target.cloned();
        let meters = self.meters();
        meters.in_flight.inc();
        self.meters = Some(meters);
    }

    /// The edge answers by itself.
    pub fn answered(&mut self, answer: &Answer) {
        if let Some(route) = answer.route.as_ref().filter(|_| self.route.is_none()) {
            self.routed(route, None);
        }
        if let AnswerKind::Refuse(refusal) = &answer.kind
            && let Some(limit) = &refusal.limit
        {
            self.limit = Some((limit.clone(), LimitEffect::Refused));
        }
        if matches!(answer.kind, AnswerKind::Challenge(_)) {
            self.challenge = true;
            self.local.shared.metrics.acme_challenges.http_01.inc();
        }
    }

    /// Keeps what was granted until the request is over.
    pub fn hold(&mut self, terms: &mut Terms) {
        self.streams.append(&mut terms.streams);
        if let Some(limit) = terms.dry_run.take() {
            self.limit.get_or_insert((limit, LimitEffect::DryRun));
        }
    }

    /// The answer is whole, and its last bytes go out next: a client that has them may ask again at
    /// once, on a connection of another worker.
    pub fn give_back(&mut self) {
        self.streams.clear();
    }

    /// Counts what `access` said.
    pub fn auth(&self, route: &Route, decision: access::Decision) {
        if let Some(access) = &route.access {
            access.count(&self.local.shared.metrics, route.series.name.as_str(), decision);
        }
    }

    /// It became a tunnel: counts it, and as open for as long as what is returned lives.
    pub fn tunnel(&self) -> OpenTunnel {
        let meters = self.meters.clone().unwrap_or_else(|| self.meters());
        meters.tunnel(&self.local.shared.metrics)
    }

    pub fn endpoint(&mut self, text: &Arc<str>) {
        self.endpoint = Some(text.clone());
    }

    /// The first byte of the endpoint's answer is here.
    pub fn first_byte(&mut self) {
        if self.first_byte_us.is_none() {
            self.first_byte_us = Some(clock::process_us() - self.started_us);
        }
    }

    /// The endpoint's answer is complete.
    pub fn upstream_ok(&self) {
        if let Some(meters) = &self.meters {
            meters.upstream_ok();
        }
    }

    /// Why the edge answered, cut the stream, or gave up. The first word stands.
    pub fn reject(&mut self, rejection: Rejection) {
        self.rejection.get_or_insert(rejection);
    }

    /// When the request came.
    pub fn began(&self) -> Moment {
        Moment::from_us(self.started_us)
    }

    pub fn elapsed_us(&self) -> u64 {
        clock::process_us() - self.started_us
    }

    /// The request is over, well or not.
    pub fn close(mut self) {
        self.write();
    }

    /// The same for a record inside something that lives on.
    pub fn end(&mut self) {
        self.write();
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// What the request counts on, and is logged with.
    fn counted(&self) -> Counted<'_> {
        match &self.route {
            Some(route) => Counted::Route(route, self.target.as_deref()),
            None if self.challenge => Counted::Challenge,
            None => Counted::NoRoute,
        }
    }

    /// The same as a log field: absent where no route matched.
    fn route_text(&self) -> Option<&str> {
        let counted = self.counted();
        (!matches!(counted, Counted::NoRoute)).then(|| counted.name())
    }

    fn meters(&self) -> Rc<RouteMeters> {
        let local = &self.local;
        let snapshot = local.snapshot();
        let name = snapshot.listeners.get(self.listener).map_or("", |l| l.name.as_str());
        local.meters.route(&local.shared.metrics, (self.listener, name), self.counted())
    }

    fn write(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        self.streams.clear();
        if self.status == 0 {
            self.status = self.rejection.map_or(Cause::ClientGone.status(), Rejection::status);
        }
        let duration_us = self.elapsed_us();
        let metrics = &self.local.shared.metrics;
        let meters = match self.meters.take() {
            Some(meters) => {
                meters.in_flight.dec();
                meters
            }
            None => self.meters(),
        };
        meters.add(metrics, &self.outcome(duration_us));
        if let Some(rejection) = self.rejection {
            meters.local_response(metrics, rejection.cause.code());
        }
        self.log(duration_us);
        self.local.buffers.give_text(std::mem::take(&mut self.text));
    }

    fn outcome(&self, duration_us: u64) -> Outcome {
        Outcome {
            method: self.method,
            status: self.status,
            duration_us,
            first_byte_us: self.first_byte_us,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        }
    }

    fn log(&self, duration_us: u64) {
        if self.route.as_ref().is_some_and(|route| !route.access_log) {
            return;
        }
        let local = &self.local;
        match local.snapshot().access_log {
            AccessLog::Off => {}
            AccessLog::Json => local.log.append(local, |out| self.json(out, duration_us)),
            AccessLog::Text => local.log.append(local, |out| self.line(out, duration_us)),
        }
    }

    /// Keeps no more memory than needed: the request will wait for a client that takes nothing.
    pub fn compact(&mut self) {
        if self.text.capacity() > 2 * self.text.len() {
            let exact = self.text.as_slice().to_vec();
            self.local.buffers.give_text(std::mem::replace(&mut self.text, exact));
        }
    }

    fn part(&self, slot: usize) -> &[u8] {
        let start = if slot == 0 { 0 } else { usize::from(self.ends[slot - 1]) };
        self.text.get(start..usize::from(self.ends[slot])).unwrap_or(&[])
    }

    fn upstream(&self) -> Option<&str> {
        let target = match (&self.target, self.route.as_ref().map(|route| &route.action)) {
            (Some(target), _) | (None, Some(Action::Forward(Targets::One(target)))) => target,
            _ => return None,
        };
        Some(target.upstream.name.as_str())
    }

    fn json(&self, out: &mut Vec<u8>, duration_us: u64) {
        out.extend_from_slice(b"{\"time\":\"");
        self.local.wall.write_time(self.started_us, out);
        out.push(b'"');
        json_text(out, "client", self.part(0));
        json_text(out, "method", meters::method_label(self.method).as_bytes());
        json_text(out, "host", self.part(1));
        json_text(out, "path", self.part(2));
        json_text(out, "protocol", self.protocol.as_bytes());
        if let Some(version) = self.tls {
            json_text(out, "tls", version.as_bytes());
        }
        json_number(out, "status", u64::from(self.status));
        if let Some(rejection) = self.rejection {
            json_text(out, "cause", rejection.cause.code().as_bytes());
            if !rejection.detail.is_empty() {
                json_text(out, "detail", rejection.detail.as_bytes());
            }
        }
        if let Some((limit, effect)) = &self.limit {
            json_text(out, effect.field(), limit.as_str().as_bytes());
        }
        if let Some(route) = self.route_text() {
            json_text(out, "route", route.as_bytes());
        }
        if let Some(upstream) = self.upstream() {
            json_text(out, "upstream", upstream.as_bytes());
        }
        if let Some(endpoint) = &self.endpoint {
            json_text(out, "endpoint", endpoint.as_bytes());
        }
        json_number(out, "bytes_in", self.bytes_in);
        json_number(out, "bytes_out", self.bytes_out);
        json_ms(out, "duration_ms", duration_us);
        if let Some(us) = self.first_byte_us {
            json_ms(out, "first_byte_ms", us);
        }
        json_text(out, "request_id", self.request_id.as_bytes());
        json_text(out, "user_agent", self.part(3));
        out.extend_from_slice(b"}\n");
    }

    /// `time client "METHOD host path PROTOCOL" status cause route endpoint in out ms id "agent"`
    fn line(&self, out: &mut Vec<u8>, duration_us: u64) {
        let or_dash = |text: Option<&str>| text.unwrap_or("-").as_bytes().to_vec();
        self.local.wall.write_time(self.started_us, out);
        for part in [b" ", self.part(0), b" \"", meters::method_label(self.method).as_bytes(), b" "]
        {
            out.extend_from_slice(part);
        }
        for part in [self.part(1), b" ", self.part(2), b" ", self.protocol.as_bytes(), b"\" "] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(itoa::Buffer::new().format(self.status).as_bytes());
        for part in [
            or_dash(self.rejection.map(|r| r.cause.code())),
            or_dash(self.route_text()),
            or_dash(self.endpoint.as_deref()),
            self.bytes_in.to_string().into_bytes(),
            self.bytes_out.to_string().into_bytes(),
        ] {
            out.push(b' ');
            out.extend_from_slice(&part);
        }
        out.push(b' ');
        milliseconds(out, duration_us);
        out.push(b' ');
        out.extend_from_slice(self.request_id.as_bytes());
        out.extend_from_slice(b" \"");
        out.extend_from_slice(self.part(3));
        out.extend_from_slice(b"\"\n");
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.open {
            let cause = if std::thread::panicking() { Cause::Internal } else { Cause::ClientGone };
            self.reject(cause.into());
            self.write();
        }
    }
}
