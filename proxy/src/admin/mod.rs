//! The admin server: health, readiness, metrics, what is configured, upstreams, certificates, and
//! over the unix socket what an operator may ask for. On its own TCP address (loopback by default, read-only) and a unix socket (0600), never on a data listener.
//!
//! Small and cold, so a tower stack on hyper: shed load, limit concurrency, time out. It runs on
//! the control thread and shares nothing with workers but what they publish.

mod actions;
mod certificates;
mod guard;
mod limits;
mod listen;
pub mod operate;
pub(crate) mod pages;
pub mod query;
pub(crate) mod tenants;
mod upstreams;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use config::model;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt};

use crate::control::status::Status;
use crate::state::Shared;

type Body = Full<Bytes>;
type Stack = BoxCloneSyncService<(Request<Incoming>, Entrance), Response<Body>, BoxError>;

/// The way a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entrance {
    Tcp,
    /// Only a user who may open the socket, never a browser.
    Unix,
}

/// What every connection needs.
#[derive(Clone)]
struct Admin {
    stack: Stack,
    connections: Arc<Semaphore>,
}

/// What pages are made of.
struct Sources {
    shared: Arc<Shared>,
    status: Arc<Status>,
    allowed_hosts: Vec<String>,
}

/// Starts the servers as tasks of the current runtime. An address that cannot be bound is tried
/// again every second; nothing waits for it.
pub fn start(config: &model::Admin, shared: Arc<Shared>, status: Arc<Status>) {
    let allowed_hosts = config.allowed_hosts.clone();
    let sources = Arc::new(Sources { shared, status: status.clone(), allowed_hosts });
    let admin = Admin { stack: stack(sources), connections: Arc::new(Semaphore::new(CONNECTIONS)) };
    if let Some(address) = config.listen {
        tokio::spawn(listen::tcp(address, admin.clone(), status.clone()));
    }
    if let Some(path) = config.socket.clone() {
        tokio::spawn(listen::unix(path, admin, status));
    }
}

fn stack(sources: Arc<Sources>) -> Stack {
    let answer = tower::service_fn(move |(request, entrance): (Request<Incoming>, Entrance)| {
        let sources = sources.clone();
        async move { Ok::<_, Infallible>(sources.answer(request, entrance).await) }
    });
    let stack = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(REQUESTS)
        .timeout(REQUEST_TIMEOUT)
        .service(answer);
    BoxCloneSyncService::new(stack)
}

impl Sources {
    async fn answer(&self, request: Request<Incoming>, entrance: Entrance) -> Response<Body> {
        if entrance == Entrance::Tcp
            && let Err(why) = guard::admit(request.headers(), request.uri(), &self.allowed_hosts)
        {
            return pages::error(StatusCode::FORBIDDEN, why);
        }
        if actions::is_action(request.method(), request.uri().path()) {
            if entrance == Entrance::Tcp {
                let why = "what changes state is asked for over the unix socket";
                return pages::error(StatusCode::FORBIDDEN, why);
            }
            return actions::act(self, request).await;
        }
        pages::answer(request.method(), request.uri().path(), &self.shared, &self.status)
    }
}

impl Admin {
    /// Serves one connection to its end, at most [`CONNECTION_LIFE`].
    async fn serve<I>(self, io: I, entrance: Entrance)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Too many: closed without an answer.
        let Ok(_permit) = self.connections.clone().try_acquire_owned() else { return };
        let stack = self.stack;
        let service = service_fn(move |request| {
            let stack = stack.clone();
            async move {
                let answer = stack.oneshot((request, entrance)).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|why| overload(&why)))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(io), service);
        // A client that does not read its answer ends here too.
        let _ = tokio::time::timeout(CONNECTION_LIFE, connection).await;
    }
}

fn overload(why: &BoxError) -> Response<Body> {
    if why.is::<tower::timeout::error::Elapsed>() {
        return pages::error(StatusCode::GATEWAY_TIMEOUT, "not answered within 100 s");
    }
    pages::error(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once")
}

/// Open connections, both entrances together.
const CONNECTIONS: usize = 128;
const REQUESTS: usize = 64;
/// A revocation asks the CA up to three times, 30 s each; everything else is answered at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(100);
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTION_LIFE: Duration = Duration::from_secs(120);
const MAX_HEAD: usize = 16 * 1024;
