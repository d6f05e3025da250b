//! One HTTP/2 client connection: crate `h2` speaks the protocol, we keep the time. Every stream
//! runs under a watchdog, the connection under deadlines for each of its phases.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::Request;

use super::h2_begin;
use super::h2_io::{IoState, WatchedIo};
use super::h2_streams::{Streams, Watched};
use crate::io::Stream;
use crate::local::Local;
use crate::request::client::Client;
use crate::route::table::ListenerPolicy;
use crate::timer::Timer;

/// Windows and buffers of design.md #3.
const STREAM_WINDOW: u32 = 256 * 1024;
pub const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER: usize = 64 * 1024;
/// h2's own cap; ours (`head_bytes`) is lower and answers with a cause.
const HEADER_LIST: u32 = 64 * 1024;
/// A client that has sent nothing for this long is pinged.
const PING_INTERVAL_MS: u64 = 20_000;
const PING_TIMEOUT_MS: u64 = 20_000;
/// Streams reset because of the client's own errors before GOAWAY (MadeYouReset).
const LOCAL_ERROR_RESETS: usize = 256;
const PENDING_ACCEPT_RESETS: usize = 20;
/// After GOAWAY a connection without streams has this long to go; one that never had any, less.
/// Streams that are opened later than that are refused.
const GOAWAY_GRACE_MS: u64 = 5_000;
const UNUSED_GRACE_MS: u64 = 1_000;
/// After our end of the connection, so long for the client to end its own.
const LINGER_MS: u64 = 1_000;

/// Serves the connection until it ends.
pub async fn serve<S: Stream + 'static>(local: Rc<Local>, client: Client, stream: S) {
    let snapshot = local.snapshot();
    let Some(policy) = snapshot.listeners.get(client.listener).cloned() else { return };
    drop(snapshot);
    let io = Rc::new(IoState::default());
    let watched = WatchedIo::new(&local, stream, io.clone());
    let mut driver = Driver {
        protocol: Protocol::Opening(builder(&policy).handshake(watched)),
        streams: Rc::new(Streams::new(&local)),
        client: Rc::new(client),
        timer: local.timers.timer(),
        leaving: None,
        pinged: None,
        local,
        policy,
        io,
    };
    let end = poll_fn(|cx| driver.poll(cx)).await;
    driver.count(end);
}

fn builder(policy: &ListenerPolicy) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(policy.http2.max_streams)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS))
        .max_pending_accept_reset_streams(PENDING_ACCEPT_RESETS)
        .enable_connect_protocol();
    builder
}

/// Where the protocol stands.
enum Protocol<S> {
    Opening(Handshake<WatchedIo<S>, Bytes>),
    Open(Connection<WatchedIo<S>, Bytes>, Option<PingPong>),
}

/// Why a connection is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Both sides have said good-bye, or the client went without.
    Closed,
    /// The client broke the rules; GOAWAY says which.
    Error,
    Late(Wait),
}

/// What a connection may wait for too long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Head,
    Blocked,
    Idle,
    Leaving,
    Pong,
    /// Not an end: time for a ping.
    Quiet,
}

struct Driver<S> {
    local: Rc<Local>,
    policy: Arc<ListenerPolicy>,
    client: Rc<Client>,
    io: Rc<IoState>,
    streams: Rc<Streams>,
    protocol: Protocol<S>,
    timer: Timer,
    /// When GOAWAY was sent.
    leaving: Option<u64>,
    /// When a ping was sent that is not answered.
    pinged: Option<u64>,
}

impl<S: Stream + 'static> Driver<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if let Poll::Ready(end) = self.poll_protocol(cx) {
                return Poll::Ready(end);
            }
            if self.leaving.is_none() && self.local.draining() {
                self.leave();
                continue;
            }
            let (at_ms, wait) = self.next_deadline();
            self.timer.set_at(at_ms);
            if self.timer.check(cx).is_none() {
                return Poll::Pending;
            }
            match wait {
                _ if self.local.shared.drain.forced() => {
                    return Poll::Ready(End::Late(Wait::Leaving));
                }
                Wait::Idle => self.leave(),
                Wait::Quiet => self.ping(),
                late => return Poll::Ready(End::Late(late)),
            }
        }
    }

    fn poll_protocol(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            match &mut self.protocol {
                Protocol::Opening(handshake) => match ready!(Pin::new(handshake).poll(cx)) {
                    Err(_) => return Poll::Ready(End::Error),
                    Ok(mut connection) => {
                        let ping = connection.ping_pong();
                        if self.leaving.is_some() {
                            connection.graceful_shutdown();
                        }
                        self.protocol = Protocol::Open(connection, ping);
                    }
                },
                Protocol::Open(connection, ping) => {
                    if let Some(ping) = ping
                        && let Poll::Ready(Ok(_)) = ping.poll_pong(cx)
                    {
                        self.pinged = None;
                    }
                    match ready!(connection.poll_accept(cx)) {
                        None => return Poll::Ready(End::Closed),
                        Some(Err(error)) if error.is_io() => return Poll::Ready(End::Closed),
                        Some(Err(_)) => return Poll::Ready(End::Error),
                        Some(Ok((request, respond))) => self.accept(request, respond),
                    }
                }
            }
        }
    }

    fn accept(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let late = |left: u64| self.timer.now_ms() >= left.saturating_add(GOAWAY_GRACE_MS);
        if self.leaving.is_some_and(late) {
            // It has had its time to hear of GOAWAY; h2 itself waits for its word that it has.
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        let watch = self.streams.open();
        let inner = h2_begin::answer(&self.local, &self.client, watch.clone(), request, respond);
        let inner = Box::pin(inner);
        tokio::task::spawn_local(Watched { inner, watch });
    }

    /// Sends GOAWAY; the connection ends with its last stream.
    fn leave(&mut self) {
        self.leaving = Some(self.timer.now_ms());
        if let Protocol::Open(connection, _) = &mut self.protocol {
            connection.graceful_shutdown();
        }
    }

    fn ping(&mut self) {
        self.pinged = Some(self.timer.now_ms());
        if let Protocol::Open(_, Some(ping)) = &mut self.protocol {
            // It fails only where one is under way already.
            let _ = ping.send_ping(Ping::opaque());
        }
    }

    /// The next moment at which this connection has waited too long, and for what.
    fn next_deadline(&self) -> (u64, Wait) {
        let after = |since: u64, limit: Duration| {
            since.saturating_add(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
        };
        if let Some(ended) = self.io.ended_at.get() {
            return (ended.saturating_add(LINGER_MS), Wait::Leaving);
        }
        let timeouts = &self.policy.timeouts;
        let head = self.io.head_since.get().map(|since| (after(since, timeouts.head), Wait::Head));
        let blocked = self.io.blocked_since.get();
        let blocked = blocked.map(|since| (after(since, timeouts.write_progress), Wait::Blocked));
        let alive = self.io.read_at.get();
        let ping = match self.pinged {
            Some(sent) => (sent.max(alive).saturating_add(PING_TIMEOUT_MS), Wait::Pong),
            None => (alive.saturating_add(PING_INTERVAL_MS), Wait::Quiet),
        };
        let idle = self.streams.idle_since().map(|(idle, served)| match (self.leaving, served) {
            (Some(left), true) => (left.max(idle).saturating_add(GOAWAY_GRACE_MS), Wait::Leaving),
            (Some(left), false) => (left.saturating_add(UNUSED_GRACE_MS), Wait::Leaving),
            (None, true) => (after(idle, timeouts.http2_idle), Wait::Idle),
            (None, false) => (after(idle, timeouts.head), Wait::Idle),
        });
        let waits = [head, blocked, idle, Some(ping)].into_iter().flatten();
        waits.min_by_key(|(at, _)| *at).unwrap_or(ping)
    }

    fn count(&self, end: End) {
        let label = match end {
            _ if self.io.flooded.get() => "control_frame_flood",
            End::Error => "protocol_error",
            End::Late(Wait::Head) => "head_timeout",
            End::Late(Wait::Blocked) => "write_timeout",
            End::Late(Wait::Pong) => "ping_timeout",
            _ => return,
        };
        self.policy.counts.protocol_error(&self.local.shared.metrics, "h2", label);
    }
}
