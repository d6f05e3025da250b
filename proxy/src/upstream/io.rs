//! A connection to an endpoint as the drivers use it, whatever carries it.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll};

use tokio::net::TcpStream;

use crate::io::Stream;

/// What carries requests to an endpoint.
pub enum UpstreamIo {
    Tcp(TcpStream),
}

impl UpstreamIo {
    /// Ready when a read would not wait: bytes, the end or an error are at hand.
    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            UpstreamIo::Tcp(io) => io.poll_read_ready(cx),
        }
    }

    /// Whether the endpoint has neither closed nor sent anything. Costs no system call while no
    /// event has come.
    pub fn quiet(&self) -> bool {
        match self {
            UpstreamIo::Tcp(io) => {
                matches!(io.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
            }
        }
    }

    /// The same, asking the kernel: for requests that must not be sent in vain.
    pub fn surely_quiet(&self) -> bool {
        match self {
            UpstreamIo::Tcp(io) => {
                let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
                let peek = rustix::net::recv(io, &mut [0u8; 1][..], flags);
                matches!(peek, Err(rustix::io::Errno::AGAIN))
            }
        }
    }
}

impl Stream for UpstreamIo {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            UpstreamIo::Tcp(io) => Stream::poll_read(io, cx, buf),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            UpstreamIo::Tcp(io) => Stream::poll_write(io, cx, buf),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            UpstreamIo::Tcp(io) => Stream::poll_flush(io, cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            UpstreamIo::Tcp(io) => Stream::poll_shutdown(io, cx),
        }
    }

    fn plain(&self) -> Option<&TcpStream> {
        match self {
            UpstreamIo::Tcp(io) => Some(io),
        }
    }

    fn read_closed(&self) -> bool {
        match self {
            UpstreamIo::Tcp(io) => io.read_closed(),
        }
    }

    fn abort_on_close(&self) {
        match self {
            UpstreamIo::Tcp(io) => io.abort_on_close(),
        }
    }
}
