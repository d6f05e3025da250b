//! The socket below an endpoint's connection, TCP or unix.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::io::{reset_on_close, saw_end, saw_end_unix};

/// A connected socket.
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Where a read that must not wait looks for bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As far as the event loop has seen: no system call while no event has come.
    Events,
    /// The kernel itself.
    Kernel,
}

impl Socket {
    /// Reads without waiting; `WouldBlock` where nothing is there.
    pub fn read_now(&self, look: Look, buf: &mut [u8]) -> io::Result<usize> {
        match (look, self) {
            (Look::Events, Socket::Tcp(io)) => io.try_read(buf),
            (Look::Events, Socket::Unix(io)) => io.try_read(buf),
            (Look::Kernel, _) => Ok(rustix::net::recv(self.as_fd(), buf, RecvFlags::DONTWAIT)?.0),
        }
    }

    /// Writes without waiting.
    pub fn write_now(&self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(io) => io.try_write(buf),
            Socket::Unix(io) => io.try_write(buf),
        }
    }

    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Socket::Tcp(io) => Some(io),
            Socket::Unix(_) => None,
        }
    }

    /// Whether the peer has ended its sending half.
    pub fn read_closed(&self) -> bool {
        match self {
            Socket::Tcp(io) => saw_end(io),
            Socket::Unix(io) => saw_end_unix(io),
        }
    }

    /// The next close sends RST, where the socket knows such a thing.
    pub fn abort_on_close(&self) {
        if let Socket::Tcp(io) = self {
            reset_on_close(io);
        }
    }
}

/// Whether nothing can be read from a socket whose bytes mean nothing to us any more.
pub fn silent(socket: BorrowedFd<'_>) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let peek = rustix::net::recv(socket, &mut [0u8; 1][..], flags);
    matches!(peek, Err(rustix::io::Errno::AGAIN))
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(io) => io.as_fd(),
            Socket::Unix(io) => io.as_fd(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Socket::Tcp(io) => Pin::new(io).poll_read(cx, buf),
            Socket::Unix(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Socket::Tcp(io) => Pin::new(io).poll_write(cx, buf),
            Socket::Unix(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Socket::Tcp(io) => Pin::new(io).poll_write_vectored(cx, pieces),
            Socket::Unix(io) => Pin::new(io).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Socket::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            Socket::Unix(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
