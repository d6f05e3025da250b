//! One question to one endpoint.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use config::model::{HealthCheck, Probe, UpstreamProtocol};
use config::value::Name;
use http::{HeaderValue, Method, header};
use tokio::time::{Instant, timeout_at};

use super::connect::{Speak, connect};
use super::failure::{Failure, Reason};
use super::request::Asked;
use super::{grpc, http1, http2};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::transport::Transport;

/// How the endpoints of one upstream are asked.
pub struct Plan {
    pub upstream: Name,
    /// What it is counted under.
    pub series: Name,
    pub check: HealthCheck,
    pub transport: Arc<Transport>,
}

/// What an answer must be.
pub struct Expected<'a> {
    /// Inclusive.
    pub status: (u16, u16),
    /// In the first [`MAX_BODY`] bytes.
    pub body: Option<&'a str>,
}

/// Asks once, within the check's timeout.
pub async fn ask(plan: &Plan, endpoint: &Endpoint) -> Result<(), Failure> {
    let check = &plan.check;
    let deadline = Deadline::after(check.timeout);
    let http2 = plan.transport.protocol == UpstreamProtocol::Http2;
    let speak = match &check.probe {
        Probe::Grpc { .. } => Speak::Http2,
        Probe::Http { .. } | Probe::Tcp if http2 => Speak::Http2,
        Probe::Http { .. } | Probe::Tcp => Speak::Http1,
    };
    let connecting = connect(endpoint, check.port, &plan.transport, speak);
    let connection = deadline.within(connecting).await?;
    match &check.probe {
        Probe::Tcp => Ok(()),
        Probe::Http { path, host, status, body } => {
            let expected = Expected { status: *status, body: body.as_deref() };
            let target = Asked { plan, endpoint, host: host.as_deref() };
            match speak {
                Speak::Http1 => {
                    let request = target.http1(path)?;
                    http1::ask(connection, request, &expected, deadline).await.map(drop)
                }
                Speak::Http2 => {
                    let request = target.http2(Method::GET, path)?;
                    http2::ask(connection, request, &expected, deadline).await
                }
            }
        }
        Probe::Grpc { service } => {
            let target = Asked { plan, endpoint, host: None };
            let mut request = target.http2(Method::POST, GRPC_PATH)?;
            let fields = request.headers_mut();
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            fields.insert(header::TE, HeaderValue::from_static("trailers"));
            let message = Bytes::from(grpc::request(service));
            http2::call(connection, request, message, deadline).await
        }
    }
}

/// When an answer comes too late.
#[derive(Clone, Copy)]
pub struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    pub fn after(timeout: Duration) -> Deadline {
        Deadline { at: Instant::now() + timeout, timeout }
    }

    pub async fn within<T>(
        self,
        step: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let late = || format!("no answer within {} s", self.timeout.as_secs_f32());
        let done = timeout_at(self.at, Box::pin(step)).await;
        done.unwrap_or_else(|_| Err(Failure::new(Reason::Timeout, late())))
    }

    /// Something that changes no verdict any more: at most this long, and not past the deadline.
    pub async fn linger<T>(self, time: Duration, step: impl Future<Output = T>) {
        let _ = timeout_at(self.at.min(Instant::now() + time), step).await;
    }
}

impl Expected<'_> {
    pub fn judge(&self, status: u16) -> Result<(), Failure> {
        let (least, most) = self.status;
        if (least..=most).contains(&status) {
            return Ok(());
        }
        Err(Failure::new(Reason::Status, format!("status {status}")))
    }

    /// Looks for the text in what has come of the body so far; `None`: more may bring it.
    pub fn look_at(&self, body: &[u8], complete: bool) -> Option<Result<(), Failure>> {
        let Some(text) = self.body else { return Some(Ok(())) };
        let seen = &body[..body.len().min(MAX_BODY)];
        if memchr::memmem::find(seen, text.as_bytes()).is_some() {
            return Some(Ok(()));
        }
        let all = complete || body.len() >= MAX_BODY;
        all.then(|| Err(Failure::new(Reason::Body, "the body has not the expected text")))
    }
}

/// Bytes of a body that are looked at.
pub const MAX_BODY: usize = 64 * 1024;
/// After the verdict, for the rest of the answer: closing earlier looks like an error to the
/// endpoint's own log.
pub const LINGER: Duration = Duration::from_millis(250);
const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";
