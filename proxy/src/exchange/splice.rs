//! Long bodies between two plain sockets move inside the kernel: socket -> pipe -> socket.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::buffers::Charge;
use crate::request::cause::{Cause, Rejection};
use crate::state::Shared;

/// Shorter rests are copied: the pipe would cost more than it saves.
const LEAST_BYTES: u64 = 64 * 1024;
/// One splice moves at most this much; the kernel may give the pipe less.
const PIPE_BYTES: usize = 1024 * 1024;

/// Idle pipes kept per worker: making one and filling its pages anew costs as much as copying.
const MAX_KEPT: usize = 16;

/// Pipes of the whole process; beyond, bodies are copied. Two descriptors each, out of those that
/// the connection limits leave alone.
const MAX_PIPES: usize = 40;

/// The idle, empty pipes of one worker.
#[derive(Default)]
pub struct Pipes(RefCell<Vec<Pipe>>);

/// The pipe of one response, taken when its body proves long.
#[derive(Default)]
pub struct Splice {
    pipe: Option<Pipe>,
    /// The kernel gave no pipe: copy.
    refused: bool,
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes inside.
    held: usize,
    size: usize,
    charge: Charge,
    shared: Arc<Shared>,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.shared.gauges.pipes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Splice {
    pub fn applies(&mut self, shared: &Arc<Shared>, pipes: &Pipes, left: u64) -> bool {
        if self.pipe.is_some() {
            return true;
        }
        if self.refused || left < LEAST_BYTES {
            return false;
        }
        self.pipe = pipes.0.borrow_mut().pop().or_else(|| Pipe::new(shared));
        self.refused = self.pipe.is_none();
        self.pipe.is_some()
    }

    pub fn holds_bytes(&self) -> bool {
        self.pipe.as_ref().is_some_and(|pipe| pipe.held > 0)
    }

    /// Moves `left` bytes; ready when all have reached the client's socket.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        pipes: &Pipes,
        upstream: &TcpStream,
        client: &TcpStream,
        left: &mut u64,
    ) -> Poll<Result<(), Rejection>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Err(Cause::Internal.into())) };
        loop {
            while pipe.held > 0 {
                // A full pipe means that more is at hand; otherwise the client waits for these.
                let out = pipe.poll_out(cx, client, pipe.held >= pipe.size);
                if out.is_pending() {
                    pipe.charge.set(pipe.held);
                }
                let n = ready!(out).map_err(|_| Cause::ClientGone)?;
                pipe.held -= n;
                *left -= n as u64;
            }
            pipe.charge.set(0);
            if *left == 0 {
                // Only an empty pipe may serve another response.
                let mut kept = pipes.0.borrow_mut();
                if kept.len() < MAX_KEPT {
                    kept.extend(self.pipe.take());
                }
                self.pipe = None;
                return Poll::Ready(Ok(()));
            }
            match ready!(pipe.poll_in(cx, upstream, *left)) {
                Ok(n) if n > 0 => pipe.held = n,
                _ => return Poll::Ready(Err(Cause::UpstreamClosed.into())),
            }
        }
    }
}

impl Pipe {
    /// Unprivileged processes get few large pipes (pipe-user-pages-soft); a small one works too.
    fn new(shared: &Arc<Shared>) -> Option<Pipe> {
        let count = &shared.gauges.pipes;
        let made = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok();
        if made.is_none() || count.fetch_add(1, Ordering::Relaxed) >= MAX_PIPES {
            if made.is_some() {
                count.fetch_sub(1, Ordering::Relaxed);
            }
            return None;
        }
        let (read, write) = made?;
        let size = fcntl_setpipe_size(&write, PIPE_BYTES).unwrap_or(64 * 1024);
        let (charge, shared) = (Charge::new(shared), shared.clone());
        Some(Pipe { read, write, held: 0, size, charge, shared })
    }

    fn poll_in(
        &self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        left: u64,
    ) -> Poll<io::Result<usize>> {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.size);
        loop {
            ready!(from.poll_read_ready(cx))?;
            let moved = from.try_io(Interest::READABLE, || {
                let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
                Ok(splice(from, None, &self.write, None, want, flags)?)
            });
            match moved {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn poll_out(
        &self,
        cx: &mut Context<'_>,
        to: &TcpStream,
        more: bool,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            let moved = to.try_io(Interest::WRITABLE, || {
                let mut flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
                if more {
                    flags |= SpliceFlags::MORE;
                }
                Ok(splice(&self.read, None, to, None, self.held, flags)?)
            });
            match moved {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}
