//! A connection to an endpoint as the drivers use it, whatever carries it.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::net::{TcpStream, UnixStream};

use super::h2::stream::H2Stream;
use super::socket::{Look, Socket, silent};
use super::tls::TlsEnd;
use crate::io::Stream;

/// What carries requests to an endpoint.
pub struct UpstreamIo {
    carrier: Carrier,
    /// It began with a PROXY header: it belongs to one client.
    proxied: bool,
}

enum Carrier {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsEnd>),
    H2(Box<H2Stream>),
}

impl UpstreamIo {
    /// `proxied`: a PROXY header was sent on it.
    pub fn plaintext(socket: Socket, proxied: bool) -> UpstreamIo {
        let carrier = match socket {
            Socket::Tcp(io) => Carrier::Tcp(io),
            Socket::Unix(io) => Carrier::Unix(io),
        };
        UpstreamIo { carrier, proxied }
    }

    pub fn tls(end: TlsEnd, proxied: bool) -> UpstreamIo {
        UpstreamIo { carrier: Carrier::Tls(Box::new(end)), proxied }
    }

    /// One stream of a shared connection.
    pub fn h2(stream: H2Stream, proxied: bool) -> UpstreamIo {
        UpstreamIo { carrier: Carrier::H2(Box::new(stream)), proxied }
    }

    /// Ready when a read would not wait: bytes, the end or an error are at hand.
    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Tcp(io) => io.poll_read_ready(cx),
            Carrier::Unix(io) => io.poll_read_ready(cx),
            Carrier::Tls(io) => io.poll_read_ready(cx),
            Carrier::H2(io) => io.poll_read_ready(cx),
        }
    }

    /// Whether the endpoint has neither closed nor sent anything. Costs no system call while no
    /// event has come.
    pub fn quiet(&self) -> bool {
        let waits = |read: io::Result<usize>| matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock);
        match &self.carrier {
            Carrier::Tcp(io) => waits(io.try_read(&mut [0])),
            Carrier::Unix(io) => waits(io.try_read(&mut [0])),
            Carrier::Tls(io) => io.quiet(Look::Events),
            Carrier::H2(io) => io.usable(),
        }
    }

    /// The same, asking the kernel: for requests that must not be sent in vain.
    pub fn surely_quiet(&self) -> bool {
        match &self.carrier {
            Carrier::Tcp(io) => silent(io.as_fd()),
            Carrier::Unix(io) => silent(io.as_fd()),
            Carrier::Tls(io) => io.quiet(Look::Kernel),
            Carrier::H2(io) => io.usable(),
        }
    }

    /// Whether a write that fails has sent nothing. TLS makes records of the bytes first, and some
    /// of those may be on their way.
    pub fn sends_what_it_takes(&self) -> bool {
        !matches!(self.carrier, Carrier::Tls(_))
    }

    /// Whether another request, of any client, may be sent on it after this one.
    pub fn poolable(&self) -> bool {
        !self.proxied && !matches!(self.carrier, Carrier::H2(_))
    }

    /// Whether the endpoint has said that it did not process the request: it may be sent to
    /// another one, whatever its method. HTTP/1.1 has no such word.
    pub fn unprocessed(&self) -> bool {
        matches!(&self.carrier, Carrier::H2(io) if io.unprocessed())
    }

    /// The TCP socket below, for TCP_INFO. Not for reading or writing.
    pub fn socket(&mut self) -> Option<BorrowedFd<'_>> {
        match &mut self.carrier {
            Carrier::Tcp(io) => Some(TcpStream::as_fd(io)),
            Carrier::Tls(io) => io.socket(),
            Carrier::Unix(_) | Carrier::H2(_) => None,
        }
    }
}

impl Stream for UpstreamIo {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.carrier {
            Carrier::Tcp(io) => Stream::poll_read(io, cx, buf),
            Carrier::Unix(io) => crate::io::read_some(io, cx, buf),
            Carrier::Tls(io) => io.poll_read(cx, buf),
            Carrier::H2(io) => io.poll_read(cx, buf),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.carrier {
            Carrier::Tcp(io) => Stream::poll_write(io, cx, buf),
            Carrier::Unix(io) => AsyncWrite::poll_write(std::pin::Pin::new(io), cx, buf),
            Carrier::Tls(io) => io.poll_write(cx, buf),
            Carrier::H2(io) => io.poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.carrier {
            Carrier::Tcp(io) => AsyncWrite::poll_write_vectored(std::pin::Pin::new(io), cx, pieces),
            Carrier::Unix(io) => {
                AsyncWrite::poll_write_vectored(std::pin::Pin::new(io), cx, pieces)
            }
            Carrier::Tls(io) => io.poll_write_vectored(cx, pieces),
            Carrier::H2(io) => {
                let first = pieces.iter().find(|piece| !piece.is_empty());
                io.poll_write(cx, first.map_or(&[], |piece| piece))
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            // HTTP/2 connections have a task that writes.
            Carrier::Tcp(_) | Carrier::Unix(_) | Carrier::H2(_) => Poll::Ready(Ok(())),
            Carrier::Tls(io) => io.poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Tcp(io) => Stream::poll_shutdown(io, cx),
            Carrier::Unix(io) => AsyncWrite::poll_shutdown(std::pin::Pin::new(io), cx),
            Carrier::Tls(io) => io.poll_shutdown(cx),
            Carrier::H2(io) => io.poll_shutdown(),
        }
    }

    /// Only TCP without TLS: its bytes may be spliced.
    fn plain(&self) -> Option<&TcpStream> {
        match &self.carrier {
            Carrier::Tcp(io) => Some(io),
            Carrier::Unix(_) | Carrier::Tls(_) | Carrier::H2(_) => None,
        }
    }

    fn read_closed(&self) -> bool {
        match &self.carrier {
            Carrier::Tcp(io) => io.read_closed(),
            Carrier::Unix(io) => crate::io::saw_end_unix(io),
            Carrier::Tls(io) => io.read_closed(),
            Carrier::H2(_) => false,
        }
    }

    fn abort_on_close(&self) {
        match &self.carrier {
            Carrier::Tcp(io) => io.abort_on_close(),
            // A stream that is dropped unfinished is reset anyway.
            Carrier::Unix(_) | Carrier::H2(_) => {}
            Carrier::Tls(io) => io.abort_on_close(),
        }
    }
}
