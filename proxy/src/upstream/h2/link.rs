//! One HTTP/2 connection to an endpoint as its streams see it, and the bytes below it.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::FlowControl;
use h2::client::SendRequest;
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::Stream;
use crate::local::Local;
use crate::state::Shared;
use crate::upstream::io::UpstreamIo;
use crate::upstream::transport::Transport;

/// Streams at once where the endpoint sets no limit, and before it has.
pub const DEFAULT_STREAMS: usize = 100;
/// At most, whatever the endpoint allows.
const MOST_STREAMS: usize = 1000;

/// Bytes that clients do not read; with more of them the connection gets no further streams. Half
/// of its window.
pub const MOST_UNREAD: usize = 4 * 1024 * 1024;

/// A connection that its streams share.
pub struct Link {
    pub shared: Arc<Shared>,
    pub transport: Arc<Transport>,
    /// `None`: no new streams; the connection ends with its last one.
    send: RefCell<Option<SendRequest<Bytes>>>,
    /// Streams that are open or about to be, with what is known of the bytes that wait in them.
    streams: RefCell<Slab<Option<FlowControl>>>,
    /// What waits in them, as of the last tick.
    pub held: Cell<usize>,
    pub seen: Rc<Seen>,
    /// The connection's task.
    pub task: RefCell<Option<Waker>>,
}

impl Link {
    pub fn new(
        shared: &Arc<Shared>,
        transport: &Arc<Transport>,
        send: SendRequest<Bytes>,
        seen: Rc<Seen>,
    ) -> Link {
        Link {
            shared: shared.clone(),
            transport: transport.clone(),
            send: RefCell::new(Some(send)),
            streams: RefCell::default(),
            held: Cell::new(0),
            seen,
            task: RefCell::default(),
        }
    }

    /// A place for one stream, and what its request is sent by. `None`: it has as many as it may
    /// have, or holds too much that nobody reads, or is leaving.
    pub fn place(self: &Rc<Self>) -> Option<(Place, SendRequest<Bytes>)> {
        let sender = self.send.borrow().clone()?;
        let limit = match sender.current_max_send_streams() {
            usize::MAX => DEFAULT_STREAMS,
            limit => limit.min(MOST_STREAMS),
        };
        let mut streams = self.streams.borrow_mut();
        (streams.len() < limit && self.held.get() < MOST_UNREAD)
            .then(|| (Place { link: self.clone(), key: streams.insert(None) }, sender))
    }

    /// Whether the endpoint takes WebSocket requests (RFC 8441).
    pub fn extended_connect(&self) -> bool {
        let send = self.send.borrow();
        send.as_ref().is_some_and(SendRequest::is_extended_connect_protocol_enabled)
    }

    /// Whether the connection takes new streams.
    pub fn open(&self) -> bool {
        self.send.borrow().is_some()
    }

    /// Whether the endpoint has said good-bye, or the connection is broken.
    pub fn refused(&self, cx: &mut Context<'_>) -> bool {
        let mut send = self.send.borrow_mut();
        matches!(send.as_mut().map(|send| send.poll_ready(cx)), Some(Poll::Ready(Err(_))))
    }

    /// No new streams from now on.
    pub fn leave(&self) {
        // Dropped outside the borrow: it may wake the connection's task.
        let send = self.send.borrow_mut().take();
        drop(send);
    }

    /// The same from outside of the connection's task, which is woken.
    pub fn end(&self) {
        self.leave();
        let task = self.task.borrow_mut().take();
        if let Some(task) = task {
            task.wake();
        }
    }

    pub fn is_idle(&self) -> bool {
        self.streams.borrow().is_empty()
    }

    /// Received bytes that nobody has read.
    pub fn unread(&self) -> usize {
        let streams = self.streams.borrow();
        streams.iter().filter_map(|(_, flow)| flow.as_ref()).map(FlowControl::used_capacity).sum()
    }
}

/// The place of one stream in its connection; free again when dropped.
pub struct Place {
    pub link: Rc<Link>,
    key: usize,
}

impl Place {
    /// From here on the bytes that wait in the stream are counted.
    pub fn watch(&self, flow: FlowControl) {
        if let Some(slot) = self.link.streams.borrow_mut().get_mut(self.key) {
            *slot = Some(flow);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let flow = self.link.streams.borrow_mut().try_remove(self.key);
        drop(flow);
        let task = self.link.task.borrow_mut().take();
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// What the connection's task must know of the bytes below it.
#[derive(Default)]
pub struct Seen {
    /// Worker milliseconds of the last bytes.
    pub read_at: Cell<u64>,
    /// Bytes have come since this was last cleared.
    pub fresh: Cell<bool>,
    /// The endpoint's SETTINGS are here: its first frame (RFC 9113 §3.4).
    pub settings: Cell<bool>,
}

/// The bytes below HTTP/2, watched.
pub struct LinkIo {
    local: Rc<Local>,
    io: UpstreamIo,
    seen: Rc<Seen>,
    /// Of the first frame.
    read: usize,
    length: [u8; 3],
}

impl LinkIo {
    pub fn new(local: &Rc<Local>, io: UpstreamIo, seen: Rc<Seen>) -> LinkIo {
        LinkIo { local: local.clone(), io, seen, read: 0, length: [0; 3] }
    }

    fn note(&mut self, bytes: &[u8]) {
        self.seen.read_at.set(self.local.timers.now_ms());
        self.seen.fresh.set(true);
        if self.seen.settings.get() {
            return;
        }
        for (at, byte) in (self.read..self.length.len()).zip(bytes) {
            self.length[at] = *byte;
        }
        self.read = self.read.saturating_add(bytes.len());
        let [a, b, c] = self.length.map(usize::from);
        const HEAD: usize = 9;
        self.seen.settings.set(self.read >= HEAD + ((a << 16) | (b << 8) | c));
    }
}

impl AsyncRead for LinkIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let local = this.local.clone();
        local.buffers.with_scratch(|scratch| {
            let room = buf.remaining().min(scratch.len());
            let n = ready!(this.io.poll_read(cx, &mut scratch[..room]))?;
            this.note(&scratch[..n]);
            buf.put_slice(&scratch[..n]);
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for LinkIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.poll_write_vectored(cx, pieces)
    }

    /// Else h2 writes frame heads of nine bytes by themselves.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_shutdown(cx)
    }
}
