//! The byte stream below hyper's HTTP/2, watched: hyper has no timeouts of its own, so what it
//! waits for is read off the frames that pass (facts/security.md §3, §5).

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::h2_frames::FrameScanner;
use crate::io::Stream;
use crate::local::Local;

/// What the connection's driver must know of its I/O. Times are worker milliseconds.
#[derive(Default)]
pub struct IoState {
    /// Since when a frame head, a header block or the preface is incomplete.
    pub head_since: Cell<Option<u64>>,
    /// Since when the client takes no bytes.
    pub blocked_since: Cell<Option<u64>>,
    /// Control frames beyond any honest rate.
    pub flooded: Cell<bool>,
}

/// A client stream with a frame scanner.
pub struct WatchedIo<S> {
    local: Rc<Local>,
    stream: S,
    scanner: FrameScanner,
    state: Rc<IoState>,
}

impl<S> WatchedIo<S> {
    pub fn new(local: &Rc<Local>, stream: S, state: Rc<IoState>) -> WatchedIo<S> {
        state.head_since.set(Some(local.timers.now_ms()));
        WatchedIo { local: local.clone(), stream, scanner: FrameScanner::default(), state }
    }
}

impl<S: Stream> Read for WatchedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
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
            buf.put_slice(bytes);
            Poll::Ready(Ok(()))
        })
    }
}

impl<S: Stream> WatchedIo<S> {
    fn note<T>(&self, outcome: &Poll<T>) {
        let since = &self.state.blocked_since;
        match outcome {
            Poll::Pending if since.get().is_none() => since.set(Some(self.local.timers.now_ms())),
            Poll::Pending => {}
            Poll::Ready(_) => since.set(None),
        }
    }
}

impl<S: Stream> Write for WatchedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = self.stream.poll_write(cx, buf);
        self.note(&outcome);
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.stream.poll_flush(cx);
        self.note(&outcome);
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}
