//! Byte streams as the drivers use them: plain slices, polled. Implemented for TCP, TLS over TCP,
//! and HTTP/2 tunnels.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::buffers::Charge;
use crate::state::Shared;

/// A client connection or tunnel end.
pub trait Stream: Unpin {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;
    /// Several pieces at once; they share TLS records and system calls.
    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write(cx, pieces.iter().find(|piece| !piece.is_empty()).map_or(&[], |p| p))
    }
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ends the sending half.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// The socket itself, where its bytes are the stream's bytes: then they may be spliced.
    fn plain(&self) -> Option<&TcpStream>;
    /// Whether the peer has ended its sending half, unread bytes before it or not.
    fn read_closed(&self) -> bool;
    /// The next close sends RST instead of FIN: the peer must not take what it has for complete.
    fn abort_on_close(&self);
}

pub fn read_some<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buf: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buf = ReadBuf::new(buf);
    ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().len()))
}

/// Finds dead peers of silent connections: first probe after 60 s, then every 15 s, four times.
pub fn keep_alive(socket: &socket2::Socket) -> io::Result<()> {
    let probes = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_keepalive(&probes)
}

/// RDHUP as far as the event loop has seen it.
pub fn saw_end(socket: &TcpStream) -> bool {
    read_ended(socket.ready(Interest::READABLE))
}

/// The same of a unix socket.
pub fn saw_end_unix(socket: &UnixStream) -> bool {
    read_ended(socket.ready(Interest::READABLE))
}

fn read_ended(ready: impl Future<Output = io::Result<Ready>>) -> bool {
    let ready = std::pin::pin!(ready);
    match ready.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(ready)) => ready.is_read_closed(),
        Poll::Ready(Err(_)) => true,
        Poll::Pending => false,
    }
}

/// The next close sends RST.
pub fn reset_on_close(socket: &TcpStream) {
    // Nothing is lost where it fails: the close is then an ordinary one.
    let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

impl Stream for TcpStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        read_some(self, cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(self), cx, buf)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(self), cx)
    }

    fn plain(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn read_closed(&self) -> bool {
        saw_end(self)
    }

    fn abort_on_close(&self) {
        reset_on_close(self);
    }
}

/// A stream on the heap: its state (1 KiB for TLS) is not copied into every future it passes through.
impl<S: Stream> Stream for Box<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        (**self).poll_read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        (**self).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        (**self).poll_write_vectored(cx, pieces)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_shutdown(cx)
    }

    fn plain(&self) -> Option<&TcpStream> {
        (**self).plain()
    }

    fn read_closed(&self) -> bool {
        (**self).read_closed()
    }

    fn abort_on_close(&self) {
        (**self).abort_on_close();
    }
}

/// TLS to a client. What it holds while the client does not take it counts as buffered
/// (design.md #17); at most as much as rustls is allowed to hold.
pub struct TlsIo {
    stream: TlsStream<TcpStream>,
    most: usize,
    charge: Charge,
}

impl TlsIo {
    /// `most`: the buffer limit that was set on the session.
    pub fn new(shared: &Arc<Shared>, stream: TlsStream<TcpStream>, most: usize) -> TlsIo {
        TlsIo { stream, most, charge: Charge::new(shared) }
    }

    /// After a write of `taken` bytes, or a flush.
    fn count(&mut self, taken: usize) {
        let waiting = self.stream.get_ref().1.wants_write();
        let held = if waiting { self.most.min(self.charge.bytes() + taken) } else { 0 };
        self.charge.set(held);
    }

    fn counted(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.count(match &written {
            Poll::Ready(Ok(n)) => *n,
            _ => 0,
        });
        written
    }
}

impl Stream for TlsIo {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        read_some(&mut self.stream, cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.counted(written)
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.counted(written)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.count(0);
        flushed
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    fn read_closed(&self) -> bool {
        saw_end(self.stream.get_ref().0)
    }

    fn abort_on_close(&self) {
        reset_on_close(self.stream.get_ref().0);
    }
}
