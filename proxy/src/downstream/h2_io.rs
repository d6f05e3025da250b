//! The byte stream below HTTP/2, watched: crate `h2` has no timeouts, so what it waits for is read
//! off the bytes that pass (facts/security.md §3, §5).

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::h2_frames::FrameScanner;
use crate::io::Stream;
use crate::local::Local;

/// A client that took this much has made progress; less is a drip.
const PROGRESS_BYTES: usize = 16 * 1024;

/// What may still be on its way when we end the connection: its window.
const MAX_LATE_BYTES: usize = 1024 * 1024;

/// What the connection's driver must know of its I/O. Times are worker milliseconds.
#[derive(Default)]
pub struct IoState {
    /// Since when a frame head, a header block or the preface is incomplete.
    pub head_since: Cell<Option<u64>>,
    /// Since when the client takes no bytes, or hardly any.
    pub blocked_since: Cell<Option<u64>>,
    /// The last time that bytes came.
    pub read_at: Cell<u64>,
    /// When our half was ended.
    pub ended_at: Cell<Option<u64>>,
    /// Control frames beyond any honest rate.
    pub flooded: Cell<bool>,
}

/// A client stream with a frame scanner.
pub struct WatchedIo<S> {
    local: Rc<Local>,
    stream: S,
    scanner: FrameScanner,
    state: Rc<IoState>,
    /// Bytes taken since the client was first seen blocked.
    drip: usize,
    /// Bytes read after our half was ended.
    late: usize,
}

impl<S> WatchedIo<S> {
    pub fn new(local: &Rc<Local>, stream: S, state: Rc<IoState>) -> WatchedIo<S> {
        let now_ms = local.timers.now_ms();
        state.head_since.set(Some(now_ms));
        state.read_at.set(now_ms);
        let scanner = FrameScanner::default();
        WatchedIo { local: local.clone(), stream, scanner, state, drip: 0, late: 0 }
    }
}

impl<S: Stream> AsyncRead for WatchedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let now_ms = this.local.timers.now_ms();
        this.local.buffers.with_scratch(|scratch| {
            let room = buf.remaining().min(scratch.len());
            let n = ready!(this.stream.poll_read(cx, &mut scratch[..room]))?;
            let bytes = &scratch[..n];
            if this.scanner.feed(bytes, now_ms).is_err() {
                this.state.flooded.set(true);
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            let since = this.state.head_since.get();
            let open = this.scanner.head_open();
            this.state.head_since.set(open.then_some(since.unwrap_or(now_ms)));
            this.state.read_at.set(now_ms);
            buf.put_slice(bytes);
            Poll::Ready(Ok(()))
        })
    }
}

impl<S: Stream> WatchedIo<S> {
    fn blocked(&mut self) {
        let since = &self.state.blocked_since;
        if since.get().is_none() {
            since.set(Some(self.local.timers.now_ms()));
            self.drip = 0;
        }
    }

    fn wrote(&mut self, outcome: &Poll<io::Result<usize>>) {
        match outcome {
            Poll::Pending => self.blocked(),
            Poll::Ready(Ok(n)) => {
                self.scanner.sent(*n);
                self.drip += n;
                if self.drip >= PROGRESS_BYTES {
                    self.unblocked();
                }
            }
            Poll::Ready(Err(_)) => {}
        }
    }

    fn unblocked(&mut self) {
        self.state.blocked_since.set(None);
        self.drip = 0;
    }
}

impl<S: Stream> AsyncWrite for WatchedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = self.stream.poll_write(cx, buf);
        self.wrote(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = self.stream.poll_write_vectored(cx, pieces);
        self.wrote(&outcome);
        outcome
    }

    /// Else h2 writes frame heads of nine bytes by themselves.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.stream.poll_flush(cx);
        match outcome {
            Poll::Pending => self.blocked(),
            Poll::Ready(_) => self.unblocked(),
        }
        outcome
    }

    /// Ends our half, then reads what still comes: closing with unread bytes would send RST, and the
    /// client would lose the end of what we have sent. The driver ends a client that lingers.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.state.ended_at.get().is_none() {
            ready!(this.stream.poll_shutdown(cx))?;
            this.state.ended_at.set(Some(this.local.timers.now_ms()));
        }
        this.local.buffers.with_scratch(|scratch| {
            loop {
                match ready!(this.stream.poll_read(cx, scratch)) {
                    Ok(n) if n > 0 && this.late < MAX_LATE_BYTES => this.late += n,
                    _ => return Poll::Ready(Ok(())),
                }
            }
        })
    }
}
