//! HTTP/2 to endpoints: one stream of a shared connection, shown as an HTTP/1.1 connection.
//!
//! Connections belong to one worker and are shared by its requests. A request that finds none with
//! room waits for the one that is being made, or makes one.

mod link;
mod request;
mod response;
mod sending;
mod staged;
pub mod stream;
mod task;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::sync::Notify;

use self::link::{DEFAULT_STREAMS, Link, LinkIo, Place, Seen};
use self::stream::H2Stream;
use self::task::Task;
use super::dial::{Speak, dial_for, within};
use super::endpoint::Endpoint;
use super::io::UpstreamIo;
use super::proxy_protocol::ProxySource;
use super::transport::Transport;
use crate::local::Local;
use crate::request::cause::{Cause, Rejection};
use crate::timer::Timer;

/// Windows and buffers of design.md #3, but for the connection's window: other clients share it,
/// and those that do not read must not stop the others. Beyond [`link::MOST_UNREAD`] requests go
/// elsewhere.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
const SEND_BUFFER: usize = 64 * 1024;
const HEADER_LIST: u32 = 64 * 1024;
/// What unread frames smaller than 256 bytes may lack of that, all together, before h2 ends the
/// connection: 65,000 events that clients do not read.
const SMALL_FRAMES: usize = 16 * 1024 * 1024;
/// Streams that we have reset and whose last frames are still on their way.
const RESET_STREAMS: usize = 1000;

/// The HTTP/2 connections of one worker.
#[derive(Default)]
pub struct Links {
    open: RefCell<HashMap<u32, Vec<Rc<Link>>>>,
    dialling: RefCell<HashMap<u32, Rc<Dialling>>>,
}

/// What a request needs.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub local: &'a Rc<Local>,
    pub endpoint: &'a Endpoint,
    pub transport: &'a Arc<Transport>,
    /// Sent where the transport wants a PROXY header; such a connection serves this one exchange.
    pub source: Option<&'a ProxySource>,
    pub websocket: bool,
}

/// What it gets.
pub enum Acquired {
    Stream {
        io: UpstreamIo,
        /// Its connection has been there before.
        reused: bool,
    },
    /// A WebSocket, and the endpoint does not take those by HTTP/2 (RFC 8441): an HTTP/1.1
    /// connection must be dialled.
    Http1,
}

/// A stream of an existing connection, without waiting.
pub fn open(wanted: &Wanted<'_>) -> Option<Acquired> {
    if wanted.transport.proxy_protocol.is_some() {
        return None;
    }
    let open = wanted.local.h2.open.borrow();
    let mut links = open.get(&wanted.endpoint.id)?.iter();
    links.find_map(|link| {
        if !Arc::ptr_eq(&link.transport, wanted.transport) {
            return None;
        }
        if wanted.websocket && !link.extended_connect() {
            return Some(Acquired::Http1);
        }
        link.place().map(|place| Acquired::Stream { io: stream(place, false), reused: true })
    })
}

/// A stream of an existing connection or a new one. The wait ends with the timer, which the caller
/// has set. `books` is called when a connection is made, and lives as long as that.
pub async fn acquire(
    wanted: &Wanted<'_>,
    timer: &Timer,
    books: impl FnOnce() -> Result<Box<dyn Any>, Rejection>,
) -> Result<Acquired, Rejection> {
    let shared = wanted.transport.proxy_protocol.is_none();
    if shared && let Some(found) = wait(wanted, timer).await? {
        return Ok(found);
    }
    let dialling = shared.then(|| wanted.local.h2.begin(wanted.endpoint.id));
    let mut guard = dialling.map(|dialling| Guard { wanted: *wanted, dialling });
    let link = match connect(wanted, timer, books).await {
        Ok(link) => link,
        Err(rejection) => {
            // Our own time being over says nothing to the others: one of them goes on.
            let own = matches!(rejection.cause, Cause::ConnectTimeout | Cause::Draining);
            if let Some(guard) = guard.as_mut().filter(|_| !own) {
                guard.dialling.failed.set(Some(rejection));
            }
            return Err(rejection);
        }
    };
    if wanted.websocket && !link.extended_connect() {
        return Ok(Acquired::Http1);
    }
    let none = Rejection { cause: Cause::OverCapacity, detail: "endpoint_streams" };
    let place = link.place().ok_or(none)?;
    if !shared {
        link.leave();
    }
    Ok(Acquired::Stream { io: stream(place, !shared), reused: false })
}

/// A stream of an existing connection, or of one that is being made. `None`: one must be made.
async fn wait(wanted: &Wanted<'_>, timer: &Timer) -> Result<Option<Acquired>, Rejection> {
    loop {
        if let Some(found) = open(wanted) {
            return Ok(Some(found));
        }
        let Some(dialling) = wanted.local.h2.dialling_with_room(wanted.endpoint.id) else {
            return Ok(None);
        };
        let _waiting = Waiting::count(&dialling);
        within(timer, async {
            dialling.done.notified().await;
            Ok(())
        })
        .await?;
        if let Some(rejection) = dialling.failed.get() {
            return Err(rejection);
        }
        if timer.fired().is_some() {
            return within(timer, std::future::pending()).await;
        }
    }
}

fn stream((place, sender): (Place, SendRequest<Bytes>), proxied: bool) -> UpstreamIo {
    UpstreamIo::h2(H2Stream::new(place, sender), proxied)
}

/// Dials, shakes hands and starts the connection's task.
async fn connect(
    wanted: &Wanted<'_>,
    timer: &Timer,
    books: impl FnOnce() -> Result<Box<dyn Any>, Rejection>,
) -> Result<Rc<Link>, Rejection> {
    let Wanted { local, endpoint, transport, source, .. } = *wanted;
    let books = books()?;
    let io = dial_for(Speak::Http2, &local.shared, endpoint, transport, source, timer).await?;
    let seen = Rc::new(Seen::default());
    seen.read_at.set(local.timers.now_ms());
    let io = LinkIo::new(local, io, seen.clone());
    let task = within(timer, async {
        let (send, connection) = builder().handshake::<_, Bytes>(io).await.map_err(not_http2)?;
        let link = Rc::new(Link::new(&local.shared, transport, send, seen));
        let mut task = Task::new(local, link, endpoint.id, connection, books);
        poll_fn(|cx| task.poll_settings(cx)).await.map_err(not_http2)?;
        Ok(Box::new(task))
    })
    .await?;
    let link = task.link.clone();
    if transport.proxy_protocol.is_none() {
        local.h2.insert(endpoint.id, &link);
    }
    tokio::task::spawn_local(task);
    Ok(link)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(DEFAULT_STREAMS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .data_frame_budget(SMALL_FRAMES)
        .max_concurrent_reset_streams(RESET_STREAMS);
    builder
}

/// The handshake failed.
fn not_http2(error: h2::Error) -> Rejection {
    match error.is_io() {
        true => Rejection { cause: Cause::ConnectFailed, detail: "closed" },
        false => Rejection { cause: Cause::UpstreamProtocol, detail: "not_http2" },
    }
}

impl Links {
    /// Connections that take new streams.
    pub fn len(&self) -> usize {
        self.open.borrow().values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the connections that have no stream, to make room under a limit: each closes its books
    /// as soon as its task runs. `false`: there was none.
    pub fn close_idle(&self) -> bool {
        let mut idle = Vec::new();
        self.open.borrow_mut().retain(|_, links| {
            links.retain(|link| {
                if link.is_idle() {
                    idle.push(link.clone());
                }
                !link.is_idle()
            });
            !links.is_empty()
        });
        idle.iter().for_each(|link| link.end());
        !idle.is_empty()
    }

    fn insert(&self, endpoint: u32, link: &Rc<Link>) {
        self.open.borrow_mut().entry(endpoint).or_default().push(link.clone());
    }

    fn remove(&self, endpoint: u32, link: &Rc<Link>) {
        let mut open = self.open.borrow_mut();
        if let Some(links) = open.get_mut(&endpoint) {
            links.retain(|one| !Rc::ptr_eq(one, link));
            if links.is_empty() {
                open.remove(&endpoint);
            }
        }
    }

    /// A connection under way that can take another request.
    fn dialling_with_room(&self, endpoint: u32) -> Option<Rc<Dialling>> {
        let dialling = self.dialling.borrow().get(&endpoint)?.clone();
        (dialling.waiting.get() < DEFAULT_STREAMS).then_some(dialling)
    }

    fn begin(&self, endpoint: u32) -> Rc<Dialling> {
        let dialling = Rc::<Dialling>::default();
        self.dialling.borrow_mut().insert(endpoint, dialling.clone());
        dialling
    }
}

/// A connection that is being made, and who waits for it.
#[derive(Default)]
struct Dialling {
    done: Notify,
    waiting: Cell<usize>,
    failed: Cell<Option<Rejection>>,
}

/// One that waits.
struct Waiting<'d>(&'d Dialling);

impl Waiting<'_> {
    fn count(dialling: &Dialling) -> Waiting<'_> {
        dialling.waiting.set(dialling.waiting.get() + 1);
        Waiting(dialling)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
    }
}

/// Wakes those that wait, however the making ends.
struct Guard<'a> {
    wanted: Wanted<'a>,
    dialling: Rc<Dialling>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut all = self.wanted.local.h2.dialling.borrow_mut();
        let id = self.wanted.endpoint.id;
        if all.get(&id).is_some_and(|one| Rc::ptr_eq(one, &self.dialling)) {
            all.remove(&id);
        }
        drop(all);
        self.dialling.done.notify_waiters();
    }
}
