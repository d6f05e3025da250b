//! One HTTP/2 client connection: hyper speaks the protocol, we keep the time. Every stream runs
//! under a watchdog, the connection under deadlines for each of its phases.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;

use super::h2_begin;
use super::h2_io::{IoState, WatchedIo};
use crate::exchange::h2_body::H2Body;
use crate::io::Stream;
use crate::local::Local;
use crate::request::client::Client;
use crate::route::table::ListenerPolicy;
use crate::timer::Timer;

/// Windows and buffers of design.md #3.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER: usize = 64 * 1024;
/// hyper's own cap; ours (`head_bytes`) is lower and answers with a cause.
const HEADER_LIST: u32 = 64 * 1024;
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams reset because of the client's own errors before GOAWAY (MadeYouReset).
const LOCAL_ERROR_RESETS: usize = 256;
const PENDING_ACCEPT_RESETS: usize = 20;
/// After GOAWAY an idle connection has this long to go.
const GOAWAY_GRACE: Duration = Duration::from_secs(5);

/// Serves the connection until it ends.
pub async fn serve<S: Stream + 'static>(local: Rc<Local>, client: Client, stream: S) {
    let snapshot = local.snapshot();
    let Some(policy) = snapshot.listeners.get(client.listener).cloned() else { return };
    drop(snapshot);
    let io_state = Rc::new(IoState::default());
    let streams = Rc::new(Streams::new(&local));
    let io = WatchedIo::new(&local, stream, io_state.clone());
    let executor = StreamExecutor(streams.clone());
    let client = Rc::new(client);
    let service = {
        let (local, streams) = (local.clone(), streams.clone());
        service_fn(move |request: Request<Incoming>| {
            let watch = streams.open();
            let answer = h2_begin::answer(local.clone(), client.clone(), watch, request);
            async move { Ok::<Response<H2Body>, Infallible>(answer.await) }
        })
    };
    let connection = builder(executor, &policy).serve_connection(io, service);
    drive(&local, &policy, &io_state, &streams, std::pin::pin!(connection)).await;
}

fn builder(executor: StreamExecutor, policy: &ListenerPolicy) -> http2::Builder<StreamExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(policy.http2.max_streams)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS)
        .max_pending_accept_reset_streams(PENDING_ACCEPT_RESETS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .enable_connect_protocol();
    builder
}

/// A hyper connection as far as the driver needs it.
trait Served: Future {
    fn go_away(self: Pin<&mut Self>);
}

impl<I, B, S> Served for http2::Connection<I, S, StreamExecutor>
where
    http2::Connection<I, S, StreamExecutor>: Future,
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    StreamExecutor: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn go_away(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn drive<C: Served>(
    local: &Rc<Local>,
    policy: &ListenerPolicy,
    io: &IoState,
    streams: &Streams,
    mut connection: Pin<&mut C>,
) {
    let timer = local.timers.timer();
    let mut leaving: Option<u64> = None;
    let reason = poll_fn(|cx| {
        loop {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            if leaving.is_none() && local.draining() {
                leaving = Some(u64::MAX);
                connection.as_mut().go_away();
                continue;
            }
            let (at_ms, reason) = next_deadline(policy, io, streams, leaving);
            timer.set_at(at_ms);
            match timer.check(cx) {
                None => return Poll::Pending,
                Some(_) if reason == Reason::Idle && leaving.is_none() => {
                    leaving = Some(timer.now_ms());
                    connection.as_mut().go_away();
                }
                Some(_) => return Poll::Ready(Some(reason)),
            }
        }
    })
    .await;
    let label = match reason {
        _ if io.flooded.get() => "control_frame_flood",
        Some(Reason::Head) => "head_timeout",
        Some(Reason::Blocked) => "write_timeout",
        _ => return,
    };
    let labels = [policy.name.as_str(), "h2", label];
    local.shared.metrics.http_protocol_errors.with_label_values(&labels).inc();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Head,
    Blocked,
    Idle,
    Leaving,
}

/// The next moment at which this connection has waited too long, and for what.
fn next_deadline(
    policy: &ListenerPolicy,
    io: &IoState,
    streams: &Streams,
    leaving: Option<u64>,
) -> (u64, Reason) {
    let after = |since: u64, limit: Duration| {
        since.saturating_add(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
    };
    let timeouts = &policy.timeouts;
    let head = io.head_since.get().map(|since| (after(since, timeouts.head), Reason::Head));
    let blocked =
        io.blocked_since.get().map(|since| (after(since, timeouts.write_progress), Reason::Blocked));
    let idle = match leaving {
        Some(since) => Some((after(since, GOAWAY_GRACE), Reason::Leaving)),
        None => streams.idle_since().map(|(since, served)| {
            let limit = if served { timeouts.http2_idle } else { timeouts.head };
            (after(since, limit), Reason::Idle)
        }),
    };
    let next = [head, blocked, idle].into_iter().flatten().min_by_key(|(at, _)| *at);
    next.unwrap_or((u64::MAX, Reason::Idle))
}

/// The streams of one connection.
pub struct Streams {
    local: Rc<Local>,
    open: Cell<usize>,
    served: Cell<bool>,
    idle_since: Cell<u64>,
    /// The watch of the stream that hyper is about to hand to the executor.
    next: RefCell<Option<Rc<Watch>>>,
}

impl Streams {
    fn new(local: &Rc<Local>) -> Streams {
        Streams {
            local: local.clone(),
            open: Cell::new(0),
            served: Cell::new(false),
            idle_since: Cell::new(local.timers.now_ms()),
            next: RefCell::default(),
        }
    }

    /// A request has come: hyper calls the service, then the executor, in one go.
    fn open(&self) -> Rc<Watch> {
        self.served.set(true);
        let watch = Rc::new(Watch { timer: self.local.timers.timer(), stalled: Cell::new(false) });
        *self.next.borrow_mut() = Some(watch.clone());
        watch
    }

    /// Since when no stream is open, and whether one ever was.
    fn idle_since(&self) -> Option<(u64, bool)> {
        (self.open.get() == 0).then(|| (self.idle_since.get(), self.served.get()))
    }

    fn leave(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        self.idle_since.set(self.local.timers.now_ms());
    }
}

/// The deadline of one stream. Whoever the stream waits for sets it; when it has passed and nobody
/// has taken note, the stream is reset.
pub struct Watch {
    pub timer: Timer,
    /// The client is what the stream waits for.
    pub stalled: Cell<bool>,
}

impl Watch {
    /// From now on the stream waits for the client to take what it was given.
    pub fn wait_for_client(&self, limit: Duration) {
        self.stalled.set(true);
        self.timer.set(limit);
    }
}

/// Runs hyper's stream futures as local tasks, each under its watch.
#[derive(Clone)]
struct StreamExecutor(Rc<Streams>);

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        let watch = self.0.next.borrow_mut().take();
        let Some(watch) = watch else {
            tokio::task::spawn_local(async move {
                future.await;
            });
            return;
        };
        self.0.open.set(self.0.open.get() + 1);
        let guard = OpenStream(self.0.clone());
        tokio::task::spawn_local(Watched { inner: Box::pin(future), watch, _guard: guard });
    }
}

struct OpenStream(Rc<Streams>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A stream future that is dropped (the stream is reset) when its deadline passes.
struct Watched<F> {
    inner: Pin<Box<F>>,
    watch: Rc<Watch>,
    _guard: OpenStream,
}

impl<F: Future> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.inner.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match self.watch.timer.check(cx) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    }
}
